package shard_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// lower is a lower triangular matrix with a positive diagonal, and NaN above it.
func lower(rng *rand.Rand, n int) []float64 {
	l := make([]float64, n*n)
	for i := range n {
		for k := range n {
			switch {
			case k < i:
				l[i*n+k] = rng.NormFloat64()
			case k == i:
				l[i*n+k] = 1 + 1e6*rng.Float64()
			default:
				l[i*n+k] = math.NaN()
			}
		}
	}
	return l
}

// orderedDiag is a column of the diagonal as DiagBytes says it.
func orderedDiag(l []float64, g []float64, lambda float64) float64 {
	n := len(g)
	w := make([]float64, n)
	sum := 0.0
	for i, x := range g {
		for k := range i {
			x = math.FMA(-l[i*n+k], w[k], x)
		}
		w[i] = x / l[i*n+i]
		sum = math.FMA(w[i], w[i], sum)
	}
	return (1 - sum) / lambda
}

// DiagBytes has the bits of the formula, and Columns are the rows' numbers, whatever the kernel, the
// threads and the columns asked for.
func TestDiagonalOrder(t *testing.T) {
	p := pool.Start(2)
	t.Cleanup(p.Stop)
	rapid.Check(t, func(rt *rapid.T) {
		slots, cols := shape(rt)
		rng := rngOf(rt)
		w := newWindow(t, rng, dtypeOf(rt), slots, cols)
		var age []int
		for _, s := range rng.Perm(slots) {
			if w.mask.Has(s) {
				age = append(age, s)
			}
		}
		l, lambda := lower(rng, len(age)), math.Exp2(float64(rng.IntN(40)-30))
		lo := rng.IntN(cols + 1)
		hi := lo + rng.IntN(cols-lo+1)
		var want []float64
		for j := lo; j < hi; j++ {
			g := make([]float64, len(age))
			for i, s := range age {
				g[i] = w.rows[s][j]
			}
			want = append(want, orderedDiag(l, g, lambda))
		}
		picked, columns := make([]int64, rng.IntN(5)), []float64{}
		for i := range picked {
			picked[i] = int64(rng.IntN(cols))
			for s := range slots {
				x := 0.0
				if w.mask.Has(s) {
					x = w.rows[s][picked[i]]
				}
				columns = append(columns, x)
			}
		}
		for _, v := range kernel.Variants() {
			for _, cfg := range []shard.Config{{Threads: 1, Kernel: v}, {Threads: 3, Kernel: v}, {Pool: p, Kernel: v}} {
				s := w.like(t, cfg)
				for _, d := range []shard.DType{shard.F64, shard.F32, shard.BF16} {
					got := make([]byte, (hi-lo)*d.Size())
					bad, err := s.DiagBytes(got, d, l, age, lambda, int64(lo), int64(hi))
					must(t, err)
					rounded, first := shard.Append(nil, want, d)
					if first >= 0 {
						first += lo
					}
					if string(got) != string(rounded) || bad != int64(first) {
						t.Fatalf("kernel %s, %d threads, %v: not the formula's bits, or bad is %d, not %d", v.Name(), cfg.Threads, d, bad, first)
					}
				}
				got := make([]float64, len(columns))
				must(t, s.Columns(got, picked, w.mask))
				same(t, fmt.Sprintf("columns %v", picked), got, columns)
			}
		}
	})
}

func TestDiagonalArguments(t *testing.T) {
	s := newStore(t, shard.Config{Slots: 4, Cols: 100, Threads: 1})
	l := []float64{1, 0, 0, 1}
	diag := func(bytes int, l []float64, slots []int, lambda float64, lo, hi int64) error {
		_, err := s.DiagBytes(make([]byte, bytes), shard.F32, l, slots, lambda, lo, hi)
		return err
	}
	for _, c := range []struct {
		want string
		err  error
	}{
		{"", diag(400, l, []int{3, 0}, 1, 0, 100)},
		{"", diag(0, l, []int{3, 0}, 1, 100, 100)},
		{"", diag(400, nil, nil, 1, 0, 100)},
		{"slot is 4, must be 0 to 3", diag(400, l, []int{4, 0}, 1, 0, 100)},
		{"length of l is 4, must be 9", diag(400, l, []int{3, 0, 1}, 1, 0, 100)},
		{"diagonal of l is 0, must be > 0 and finite", diag(400, []float64{1, 0, 0, 0}, []int{3, 0}, 1, 0, 100)},
		{"diagonal of l is NaN, must be > 0 and finite", diag(400, []float64{math.NaN(), 0, 0, 1}, []int{3, 0}, 1, 0, 100)},
		{"lambda is 0, must be > 0 and finite", diag(400, l, []int{3, 0}, 0, 0, 100)},
		{"first column is 7, must be ≤ 3, the end", diag(400, l, []int{3, 0}, 1, 7, 3)},
		{"number of columns is 101, must be ≤ 100 from column 0", diag(404, l, []int{3, 0}, 1, 0, 101)},
		{"length of dst is 399, must be 400", diag(399, l, []int{3, 0}, 1, 0, 100)},
		{"number of columns is 1, must be ≤ 0 from column 100", s.Columns(make([]float64, 4), []int64{100}, shard.FullMask(4))},
		{"first column is -1, must be 0 to 100", s.Columns(make([]float64, 4), []int64{-1}, shard.FullMask(4))},
		{"length of dst is 3, must be 4", s.Columns(make([]float64, 3), []int64{0}, shard.FullMask(4))},
	} {
		if got := text(c.err); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// A cancelled diagonal ends within a block of columns.
func TestDiagonalCancelled(t *testing.T) {
	p := pool.Start(2)
	t.Cleanup(p.Stop)
	s := newStore(t, shard.Config{Slots: 4, Cols: 5000, Pool: p})
	abort := new(pool.Cancel)
	abort.Cancel()
	_, err := s.For(pool.Query, abort).DiagBytes(make([]byte, 20000), shard.F32, []float64{1}, []int{0}, 1, 0, 5000)
	if err != pool.ErrCancelled {
		t.Errorf("got %v", err)
	}
}

// Unit is the vector of its numbers.
func TestUnit(t *testing.T) {
	const slots, cols = 3, 2500
	rng := rand.New(rand.NewPCG(5, 6))
	w := newWindow(t, rng, shard.F32, slots, cols)
	c := []float64{0.5, -1, 2}
	for _, j := range []int64{0, 17, 1023, 1024, 2499} {
		e := make([]float64, cols)
		e[j] = 1
		got, want := make([]float64, cols), make([]float64, cols)
		must(t, w.Solve(got, []shard.Vector{shard.Unit(cols, j)}, c, w.mask, 0.25, 0, cols))
		must(t, w.Solve(want, []shard.Vector{shard.Float64s(e)}, c, w.mask, 0.25, 0, cols))
		same(t, fmt.Sprintf("column %d", j), got, want)
	}
	if n, err := w.Norm2(shard.Unit(cols, cols)); n != 0 || err != nil {
		t.Errorf("a column that isn't there: %v, %v", n, err)
	}
}
