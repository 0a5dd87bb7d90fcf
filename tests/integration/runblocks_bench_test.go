package integration

import (
	"math/rand/v2"
	"testing"
	"time"

	"mfac/client"
	"mfac/wire"
)

// BenchmarkStepBlocks is a gradient published and preconditioned, with a full window: by the whole of H, and in runs of blocks.
//
//	go test ./tests/integration -run '^$' -bench StepBlocks
func BenchmarkStepBlocks(b *testing.B) {
	const d, m = 1_000_000, 32
	layout := make([]wire.Tensor, 10)
	for i := range layout {
		layout[i] = wire.Tensor{Name: string(rune('a' + i)), Shape: []int64{d / 10}, Offset: int64(i) * d / 10}
	}
	g, x := normal(rand.New(rand.NewPCG(1, 2)), d), make([]float32, d)
	for _, s := range []struct {
		name   string
		blocks wire.Blocking
	}{{"whole", ""}, {"tensor", wire.BlockingTensor}, {"1000", "1000"}, {"10", "10"}} {
		b.Run("blocks="+s.name+"/d=1e6/m=32", func(b *testing.B) {
			c := start(b, shape{workers: 2})
			run := c.attach(c.client(), client.RunConfig{Name: "bench", Dim: d, Window: m, Damping: 1e-3, Layout: layout, Blocks: s.blocks})
			ctx := within(b, 2*time.Minute)
			step := wire.Step(0)
			for range m {
				step++
				g[int(step)*1000%d]++
				if _, err := run.Publish(ctx, step, g); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				step++
				g[int(step)*1000%d]++
				if _, err := run.Precondition(ctx, step, x, g); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
