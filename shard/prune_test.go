package shard_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
)

// GramWithout is, bit by bit, Gram of a store whose rows are 0 in the columns that are left out, and
// leaves the rows alone.
func TestGramWithout(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots, cols := shape(rt)
		rng := rngOf(rt)
		dtype := dtypeOf(rt)
		w := newWindow(t, rng, dtype, slots, cols)
		out := make([]byte, cols)
		for j := range out {
			out[j] = byte(rng.IntN(3))
		}
		var list []int
		for _, s := range rng.Perm(slots) {
			if w.mask.Has(s) {
				list = append(list, s)
			}
		}
		n := len(list)
		i0 := rng.IntN(n + 1)
		s := w.like(t, shard.Config{Threads: 1 + rng.IntN(2)})
		zeroed := newStore(t, shard.Config{Slots: slots, Cols: int64(cols), DType: dtype})
		for _, slot := range list {
			row := slices.Clone(w.rows[slot])
			for j := range row {
				if out[j] != 0 {
					row[j] = 0
				}
			}
			p, _ := shard.Append(nil, row, shard.F32)
			must(t, zeroed.Write(slot, 0, p, shard.F32))
		}
		size := (n*(n+1) - i0*(i0+1)) / 2
		got, want, after, full := make([]float64, size), make([]float64, size), make([]float64, size), make([]float64, size)
		for _, err := range []error{
			s.Gram(full, list, i0, n), s.GramWithout(got, list, i0, n, out), zeroed.Gram(want, list, i0, n),
			s.GramWithout(after, list, i0, n, make([]byte, cols)),
		} {
			if err != nil {
				rt.Fatal(err)
			}
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("%d slots × %d columns of %v: %v, want %v", slots, cols, dtype, got, want)
		}
		if !slices.Equal(full, after) {
			rt.Fatal("the rows have changed")
		}
	})
	s, err := shard.New(shard.Config{Slots: 2, Cols: 8})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.GramWithout(make([]float64, 1), []int{0}, 0, 1, make([]byte, 7)); err == nil {
		t.Error("a mask of 7 columns of 8 is taken")
	}
}
