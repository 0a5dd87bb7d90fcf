package shard

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// Rows that are taken over are the same numbers, bit by bit, in whatever slots and however many there are;
// slots that nothing is put into stay as they were. What is said to be done with is not read again.
func TestTake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dtype := rapid.SampledFrom([]DType{F32, BF16, F16}).Draw(t, "dtype")
		cols := rapid.Int64Range(1, 3*TileCols+70).Draw(t, "cols")
		was, now := rapid.IntRange(1, 20).Draw(t, "slots"), rapid.IntRange(1, 20).Draw(t, "new slots")
		old, err := New(Config{Slots: was, Cols: cols, DType: dtype})
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Slots: now, Cols: cols, DType: dtype})
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		rows := make([][]byte, was)
		for i := range rows {
			g := make([]float32, cols)
			for j := range g {
				g[j] = float32(r.NormFloat64() * 1e3)
			}
			if err := old.Begin(i); err != nil {
				t.Fatal(err)
			}
			v := sliceOf(g, F32)
			if err := old.Write(i, 0, v.p, F32); err != nil {
				t.Fatal(err)
			}
			rows[i] = make([]byte, 4*cols)
			if err := old.ReadRow(rows[i], i, 0); err != nil {
				t.Fatal(err)
			}
		}
		n := rapid.IntRange(0, min(was, now)).Draw(t, "rows")
		from := rapid.SliceOfNDistinct(rapid.IntRange(0, was-1), n, n, rapid.ID).Draw(t, "from")
		to := rapid.SliceOfNDistinct(rapid.IntRange(0, now-1), n, n, rapid.ID).Draw(t, "to")
		var done int64
		err = s.Take(old, from, to, func(bytes int64) {
			if bytes <= done || bytes > int64(len(old.g)) {
				t.Fatalf("%d bytes of %d are done with, after %d", bytes, len(old.g), done)
			}
			for i := done; i < bytes; i++ {
				old.g[i] = 0xff
			}
			done = bytes
		})
		if err != nil {
			t.Fatal(err)
		}
		put := map[int]int{}
		for i := range to {
			put[to[i]] = from[i]
		}
		for slot := range now {
			got := make([]byte, 4*cols)
			if err := s.ReadRow(got, slot, 0); err != nil {
				t.Fatal(err)
			}
			want := make([]byte, 4*cols)
			if k, ok := put[slot]; ok {
				want = rows[k]
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("slot %d is not row %v", slot, put[slot])
			}
		}
	})
}

func TestTakeRefuses(t *testing.T) {
	store := func(slots int, cols int64, dtype DType) *Store {
		s, err := New(Config{Slots: slots, Cols: cols, DType: dtype})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, other, same, half := store(3, 5, F32), store(4, 6, F32), store(4, 5, F32), store(4, 5, BF16)
	for what, err := range map[string]error{
		"columns": s.Take(other, []int{0}, []int{0}, nil), "dtype": s.Take(half, []int{0}, []int{0}, nil), "from": s.Take(same, []int{4}, []int{0}, nil),
		"to": s.Take(same, []int{3}, []int{3}, nil), "length": s.Take(same, []int{0, 1}, []int{0}, nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
