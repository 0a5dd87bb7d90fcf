package shard_test

import (
	"math/rand/v2"
	"testing"

	"mfac/shard"
	"mfac/shard/pool"
)

// A step, and a query of one vector, allocate nothing once as many have been there before.
func TestNoAllocations(t *testing.T) {
	const slots, cols = 24, 40_000
	rng := rand.New(rand.NewPCG(1, 2))
	workers := pool.Start(2)
	defer workers.Stop()
	for _, c := range []struct {
		name string
		cfg  shard.Config
	}{
		{"pool", shard.Config{Pool: workers, Run: "digits"}},
		{"caller", shard.Config{Threads: 1}},
	} {
		for _, dtype := range []shard.DType{shard.F32, shard.BF16, shard.F16} {
			w := newWindow(t, rng, dtype, slots, cols)
			s := w.like(t, c.cfg)
			step := s.For(pool.Step, new(pool.Cancel))
			chunk, _ := shard.Append(nil, w.rows[0], shard.F32)
			chunk = chunk[:4*30*shard.TileCols] // whole tiles, as clients cut them
			y, coef := make([]float64, slots), make([]float64, slots)
			for i := range coef {
				coef[i] = rng.NormFloat64()
			}
			v, _ := vector(rng, 0, cols)
			x := []shard.Vector{v}
			out := make([]byte, 4*30_000)
			for _, op := range []struct {
				name string
				f    func() error
			}{
				{"Write", func() error { return s.Write(1, 0, chunk, shard.F32) }},
				{"Products", func() error { return step.Products(y, 0, w.mask) }},
				{"Dots", func() error { return s.Dots(y, x, w.mask) }},
				{"Norm2", func() error { _, err := s.Norm2(v); return err }},
				{"CombineBytes", func() error { _, err := step.CombineBytes(out, shard.F32, coef, w.mask, 100, 30_100); return err }},
				{"SolveBytes", func() error { _, err := s.SolveBytes(out, shard.F32, v, coef, w.mask, 0.5, 100, 30_100); return err }},
			} {
				must(t, op.f())
				if n := testing.AllocsPerRun(20, func() { must(t, op.f()) }); n != 0 {
					t.Errorf("%s, %s, %v rows: %v allocations", op.name, c.name, dtype, n)
				}
			}
		}
	}
}

// What a call that was cancelled or came to a panic leaves is no trouble to the next.
func TestCancelled(t *testing.T) {
	workers := pool.Start(2)
	defer workers.Stop()
	w := newWindow(t, rand.New(rand.NewPCG(1, 2)), shard.F32, 9, 50_000)
	s := w.like(t, shard.Config{Pool: workers})
	want, got := make([]float64, 9), make([]float64, 9)
	must(t, s.Products(want, 0, w.mask))
	for range 50 {
		abort := new(pool.Cancel)
		done := make(chan error)
		go func() { done <- s.For(pool.Step, abort).Products(make([]float64, 9), 0, w.mask) }()
		abort.Cancel()
		if err := <-done; err != nil && err != pool.ErrCancelled {
			t.Fatal(err)
		}
		must(t, s.Products(got, 0, w.mask))
		same(t, "products after one that was cancelled", got, want)
	}
}
