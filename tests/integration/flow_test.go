package integration

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mfac/client"
	"mfac/wire"
)

// TestFlowChangesNoBit: a client that chooses the size of its chunks, and tries others, leaves the
// same window and gets the same answers as clients of one size, in the steps of a training job and in
// a pipeline.
func TestFlowChangesNoBit(t *testing.T) {
	t.Parallel()
	const (
		dim   = 300_007 // 1.2 MB: enough for a choice
		steps = 60      // of which three are on trial, as fetches and queries
		many  = 20
	)
	c := start(t, shape{workers: 2})
	ctx := within(t, 3*time.Minute) // 10 s on two cores of their own
	var want [][]uint32
	for i, cl := range []*client.Client{c.client(client.WithChunkBytes(100_000)), c.client()} {
		run := c.attach(cl, client.RunConfig{Name: []string{"one", "chosen"}[i], Dim: dim, Window: 4, Damping: 1e-2, Shards: 3})
		r := rand.New(rand.NewPCG(31, 32))
		g, x := normal(r, dim), make([]float32, dim)
		var got [][]uint32
		for step := range wire.Step(steps) {
			g[r.IntN(dim)]++
			if _, err := run.Precondition(ctx, step, x, g); err != nil {
				t.Fatal(err)
			}
			if step%20 == 0 || step >= steps-4 {
				got = append(got, bits32(x))
			}
			if _, err := run.IHVP(ctx, x, g); err != nil {
				t.Fatal(err)
			}
		}
		rows := make([][]float32, many)
		for i := range rows {
			rows[i] = normal(r, dim)
		}
		if _, err := run.PublishMany(ctx, steps, rows); err != nil {
			t.Fatal(err)
		}
		if _, err := run.IHVP(ctx, x, g); err != nil {
			t.Fatal(err)
		}
		if got = append(got, bits32(x)); want == nil {
			want = got
		}
		if !cmp.Equal(got, want) {
			t.Error("answers differ in their bits")
		}
	}
}
