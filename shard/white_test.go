package shard_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// W that is kept has the formula's bits, in whatever pieces it was made; the diagonal from it is
// DiagBytes' and its columns are SolveLower's, byte for byte.
func TestWhite(t *testing.T) {
	p := pool.Start(2)
	t.Cleanup(p.Stop)
	rapid.Check(t, func(rt *rapid.T) {
		slots, cols := shape(rt)
		rng := rngOf(rt)
		dtype := dtypeOf(rt)
		w := newWindow(t, rng, dtype, slots, cols)
		var age []int
		for _, s := range rng.Perm(slots) {
			if w.mask.Has(s) {
				age = append(age, s)
			}
		}
		n := len(age)
		l, lambda := lower(rng, n), math.Exp2(float64(rng.IntN(40)-30))
		lo := rng.IntN(cols + 1)
		hi := lo + rng.IntN(cols-lo+1)
		picked := make([]int64, rng.IntN(5))
		for i := range picked {
			picked[i] = int64(rng.IntN(cols))
		}
		for _, v := range kernel.Variants() {
			for _, cfg := range []shard.Config{{Threads: 1, Kernel: v}, {Pool: p, Kernel: v}} {
				s := w.like(t, cfg)
				white := make([]float64, shard.WhiteLen(int64(cols), dtype, n))
				for i := range white {
					white[i] = math.NaN()
				}
				for a := 0; a < cols; {
					b := min(cols, a+64*(1+rng.IntN(1+cols/64)))
					must(t, s.Whiten(white, l, age, int64(a), int64(b)))
					a = b
				}
				for _, d := range []shard.DType{shard.F64, shard.F32} {
					want, got := make([]byte, (hi-lo)*d.Size()), make([]byte, (hi-lo)*d.Size())
					bad, err := s.DiagBytes(want, d, l, age, lambda, int64(lo), int64(hi))
					must(t, err)
					bad2, err := s.WhiteDiagBytes(got, d, white, n, lambda, int64(lo), int64(hi))
					must(t, err)
					if string(got) != string(want) || bad != bad2 {
						t.Fatalf("kernel %s: the diagonal from W has other bytes, or bad is %d, not %d", v.Name(), bad2, bad)
					}
				}
				got, g := make([]float64, len(picked)*slots), make([]float64, len(picked)*slots)
				must(t, s.WhiteColumns(got, picked, white, age))
				must(t, s.Columns(g, picked, w.mask))
				const wide = 2 * shard.SolveCols
				byRow := make([]float64, n*wide)
				ld := n + rng.IntN(3)
				strided := make([]float64, n*ld)
				for i, slot := range age {
					copy(strided[i*ld:], l[i*n:(i+1)*n])
					for k := range picked {
						byRow[i*wide+k] = g[k*slots+slot]
					}
				}
				shard.SolveLower(byRow, strided, ld, n, wide)
				for k := range picked {
					want := make([]float64, slots)
					for i, slot := range age {
						want[slot] = byRow[i*wide+k]
					}
					same(t, "a column of W", got[k*slots:(k+1)*slots], want)
				}
			}
		}
	})
}

func TestWhiteArguments(t *testing.T) {
	s := newStore(t, shard.Config{Slots: 4, Cols: 1100, Threads: 1})
	if got := shard.WhiteLen(1100, shard.F32, 2); got != 2*(1024+80) {
		t.Fatalf("WhiteLen is %d", got)
	}
	if got := shard.WhiteLen(1025, shard.F16, 3); got != 3*(1024+32) {
		t.Fatalf("WhiteLen is %d", got)
	}
	w, l := make([]float64, 2*(1024+80)), []float64{1, 0, 0, 1}
	white := func(w, l []float64, lo, hi int64) error { return s.Whiten(w, l, []int{3, 0}, lo, hi) }
	diag := func(bytes int, w []float64, lambda float64, lo, hi int64) error {
		_, err := s.WhiteDiagBytes(make([]byte, bytes), shard.F32, w, 2, lambda, lo, hi)
		return err
	}
	columns := func(n int, w []float64, slot int, cols ...int64) error {
		return s.WhiteColumns(make([]float64, n), cols, w, []int{slot, 0})
	}
	for _, c := range []struct {
		want string
		err  error
	}{
		{"", white(w, l, 0, 1100)},
		{"", white(w, l, 64, 128)},
		{"", white(w, l, 1088, 1100)},
		{"", s.Whiten(nil, nil, nil, 0, 1100)},
		{"length of w is 3, must be 2208", white(w[:3], l, 0, 1100)},
		{"length of l is 3, must be 4", white(w, l[:3], 0, 1100)},
		{"columns is 1, must be from a multiple of 64 to one or the end, not 64", white(w, l, 1, 64)},
		{"columns is 0, must be from a multiple of 64 to one or the end, not 65", white(w, l, 0, 65)},
		{"number of columns is 1101, must be ≤ 1100 from column 0", white(w, l, 0, 1101)},
		{"", diag(4400, w, 1, 0, 1100)},
		{"length of w is 0, must be 2208", diag(4400, nil, 1, 0, 1100)},
		{"lambda is 0, must be > 0 and finite", diag(4400, w, 0, 0, 1100)},
		{"length of dst is 4, must be 8", diag(4, w, 1, 0, 2)},
		{"", columns(8, w, 3, 5, 1099)},
		{"length of w is 1, must be 2208", columns(8, w[:1], 3, 5, 1099)},
		{"length of dst is 7, must be 8", columns(7, w, 3, 5, 1099)},
		{"slot is 4, must be 0 to 3", columns(8, w, 4, 5, 1099)},
		{"number of columns is 1, must be ≤ 0 from column 1100", columns(4, w, 3, 1100)},
	} {
		if got := text(c.err); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	abort := new(pool.Cancel)
	abort.Cancel()
	if err := s.For(pool.Query, abort).Whiten(w, l, []int{3, 0}, 0, 1100); err != pool.ErrCancelled {
		t.Errorf("got %v", err)
	}
}
