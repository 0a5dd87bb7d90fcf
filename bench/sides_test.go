package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mfac/shard"
	"mfac/shard/kernel"
)

func nanos(n int) time.Duration { return time.Duration(n) }

func smallEnv(t *testing.T) *env {
	t.Helper()
	e := newEnv(context.Background(), options{runs: 1}, io.Discard)
	t.Cleanup(e.close)
	return e
}

// A bed has the rows that row says, in every dtype as near as it can.
func TestRows(t *testing.T) {
	const m, cols = 11, 3000
	for _, dtype := range []shard.DType{shard.F32, shard.BF16, shard.F16} {
		b, err := newRows(dtype, m, cols)
		if err != nil {
			t.Fatal(err)
		}
		s, err := b.store(kernel.Best(), 2)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4*cols)
		for i := range m {
			if err := s.ReadRow(got, i, 0); err != nil {
				t.Fatal(err)
			}
			for j := 0; j < len(got); j += 4 {
				x, want := math.Float32frombits(binary.LittleEndian.Uint32(got[j:])), math.Float32frombits(binary.LittleEndian.Uint32(b.row(i)[j:]))
				if math.Abs(float64(x-want)) > 1e-2 || dtype == shard.F32 && x != want {
					t.Fatalf("%s: row %d column %d is %v, not %v", dtype, i, j/4, x, want)
				}
			}
		}
		if err := b.dots(s)(); err != nil {
			t.Error(err)
		}
		if err := b.combine(s)(); err != nil {
			t.Error(err)
		}
		b.close()
	}
}

// The coordinator's core commits and preconditions for the players.
func TestPlay(t *testing.T) {
	for _, shards := range []int{1, 4} {
		p, err := newPlay(8, shards)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := p.train(); err != nil {
				t.Fatal(err)
			}
		}
		if info := p.core.Inspect(); len(p.rows) != 8 {
			t.Errorf("%d rows at the workers: %+v", len(p.rows), info)
		}
	}
}

func TestBus(t *testing.T) {
	e := smallEnv(t)
	b, err := newBed(e, busWorkers)
	if err != nil {
		t.Fatal(err)
	}
	s, err := busSampler(b, 30_000)
	if err != nil {
		b.close()
		t.Fatal(err)
	}
	defer s.close()
	for range warmups + 1 {
		v, err := s.run()
		if err != nil || len(v) != 4 || !(slices.Min(v) > 0) {
			t.Fatalf("%v, %v", v, err)
		}
	}
	if n := s.notes(); len(n) != 4 {
		t.Errorf("notes %q", n)
	}
}

// A generator's numbers are of eight bits, so that all dtypes keep them, and look random.
func TestGenerator(t *testing.T) {
	const n = 10_000
	x := make([]float32, n)
	for _, g := range []generator{{1}, {2}} {
		if err := g.ReadColumns(x, 5_000_000_000); err != nil {
			t.Fatal(err)
		}
		var sum, squares float64
		for i, v := range x {
			if kernel.FromBF16(kernel.ToBF16(v)) != v || kernel.FromF16(kernel.ToF16(v)) != v {
				t.Fatalf("%v is rounded", v)
			}
			if v != g.at(5_000_000_000+int64(i)) {
				t.Fatalf("column %d differs in pieces", i)
			}
			sum, squares = sum+float64(v), squares+float64(v)*float64(v)
		}
		if mean, variance := sum/n, squares/n; math.Abs(mean) > 0.03 || math.Abs(variance-1.0/3) > 0.03 {
			t.Errorf("mean %v, variance %v", mean, variance)
		}
	}
}

// The residual of an exact solution is nothing, of a wrong one it is seen.
func TestChecker(t *testing.T) {
	const d, lambda = 1000, 10.0
	g := generator{1}
	var gg float64
	for j := range int64(d) {
		gg += float64(g.at(j)) * float64(g.at(j))
	}
	for wrong, small := range map[float64]bool{0: true, 1e-2: false} {
		c := checker{rows: []generator{g}, y: make([]float64, 1), every: 10, sample: map[int64]float32{}}
		x := make([]float32, d)
		for j := range x { // one row: H⁻¹g = g/(λ + gᵀg)
			x[j] = g.at(int64(j)) / float32(lambda+gg) * float32(1+wrong)
		}
		for lo := 0; lo < d; lo += 300 {
			if err := c.WriteColumns(x[lo:min(lo+300, d)], int64(lo)); err != nil {
				t.Fatal(err)
			}
		}
		if r := c.residual(lambda, 1, g); len(c.sample) != 100 || (r <= worstResidual) != small {
			t.Errorf("wrong by %v: residual %v of %d columns", wrong, r, len(c.sample))
		}
	}
}

// The pages and plots are made of whatever results there are.
func TestPages(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir(docsDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writePages(); err != nil {
		t.Fatal(err)
	}
	g := grown{Machine: "m", Inputs: plain, Curves: axes(1)}
	for _, c := range g.Curves {
		for i := range c.Points {
			p := &c.Points[i]
			p.Model = predict(plain, p.Load).total()
			p.Low, p.Measured, p.High, p.Runs = p.Model, 1.5*p.Model, 2*p.Model, 5
		}
	}
	g.Curves[0].Points[6].Reason = "no memory"
	for name, v := range map[string]any{
		"table": measured{Machine: "m", BLAS: "b", Kernels: []string{"k"}, Results: someResults}, "grow": g,
		"billion": billionResult{Dim: 1e9, Steps: []stepTaken{{"publish", 2, 4e9}}, Processes: []residents{{"worker-0", 1 << 32}}},
	} {
		if err := save(name, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := writePages(); err != nil {
		t.Fatal(err)
	}
	for file, wants := range map[string][]string{
		"benchmarks.md":     {"| dots/f32/avx2/m=16/threads=2 | 0.8 | 0.6–0.9 | ≥ 0.7 |", "0.5 **short**", notHere, "d = 1e9", "| worker-0 | 4.00 |", "bench-shards.svg"},
		"scaling.md":        {"no memory", "| m | d = 1e5, 2 shards, 2 workers, 1 client | × 1.50 | × 1.50 |", "| 1e12 | 64 | 4096 |"},
		"bench-d.svg":       {"<svg"},
		"bench-clients.svg": {"<svg"},
		"bench-passes.svg":  {"<svg"},
	} {
		p, err := os.ReadFile(filepath.Join(docsDir, file))
		if err != nil {
			t.Error(err)
		}
		for _, want := range wants {
			if !bytes.Contains(p, []byte(want)) {
				t.Errorf("%s lacks %q", file, want)
			}
		}
	}
}
