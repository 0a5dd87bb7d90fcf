package window

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Erase is Drop of each row, bit by bit, and then nothing of the rows is left.
func TestErase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 9).Draw(t, "capacity")
		divisor := rapid.SampledFrom([]Divisor{Capacity, Count}).Draw(t, "divisor")
		w, err := New(capacity, 0.5, divisor)
		must(t, err)
		m := model{capacity: capacity, damping: 0.5, divisor: divisor}
		n := rapid.IntRange(1, capacity).Draw(t, "n")
		for i := range n {
			g := rapid.SliceOfN(rapid.Float64Range(-2, 2), 4, 4).Draw(t, "g")
			g[0] += 3 + float64(i) // no row is like another, and none is zero
			must(t, w.Append(row(m.g, g)))
			m.g = append(m.g, g)
			if rapid.Bool().Draw(t, "ask") {
				_, err := w.Factor(rapid.SampledFrom([]float64{0.5, 2}).Draw(t, "damping"), Capacity)
				must(t, err)
			}
		}
		gone := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 1, n, rapid.ID).Draw(t, "gone")
		other := w.Clone()
		must(t, w.Erase(gone))
		slices.Sort(gone)
		for _, r := range slices.Backward(gone) {
			must(t, other.Drop(r))
			m.g = slices.Delete(m.g, r, r+1)
		}
		m.compare(t, w)
		f, err := w.Factor(0.5, divisor)
		must(t, err)
		h, err := other.Factor(0.5, divisor)
		must(t, err)
		k := len(m.g)
		a, b := make([]float64, k*(k+1)/2), make([]float64, k*(k+1)/2)
		must(t, f.PackedTo(a))
		must(t, h.PackedTo(b))
		for i := range a {
			if math.Float64bits(a[i]) != math.Float64bits(b[i]) {
				t.Fatalf("L is %v, of drops one by one %v", a, b)
			}
		}
		m.compareSolve(t, w, f, 1)
		// Of the rows that are gone neither A nor a factor holds a number.
		for i := range capacity {
			for j := range capacity {
				free := slices.Contains(w.slot[k:], i) || slices.Contains(w.slot[k:], j)
				if v := w.a[i*capacity+j]; free && v != 0 {
					t.Fatalf("A still has %v in slots %d and %d", v, i, j)
				}
				if v := w.own.l[i*capacity+j]; (i >= k || j > i) && v != 0 {
					t.Fatalf("L still has %v in row %d of %d", v, i, k)
				}
			}
		}
		if w.other != nil && divisor == Capacity {
			t.Fatal("factors of before are kept")
		}
	})
}

// What was just appended and is erased leaves A, and the answers within rounding, as they were.
func TestAppendEraseIsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(2, 9).Draw(t, "capacity")
		w, err := New(capacity, 0.5, Capacity)
		must(t, err)
		var g [][]float64
		for range rapid.IntRange(1, capacity-1).Draw(t, "n") {
			x := rapid.SliceOfN(rapid.Float64Range(-2, 2), 4, 4).Draw(t, "g")
			must(t, w.Append(row(g, x)))
			g = append(g, x)
		}
		before := w.Clone()
		x := rapid.SliceOfN(rapid.Float64Range(-2, 2), 4, 4).Draw(t, "g")
		must(t, w.Append(row(g, x)))
		must(t, w.Erase([]int{w.Len() - 1}))
		n := w.Len()
		for i := range n {
			for j := range n {
				if w.At(i, j) != before.At(i, j) {
					t.Fatalf("A[%d][%d] is %v, was %v", i, j, w.At(i, j), before.At(i, j))
				}
			}
		}
		y := slices.Repeat([]float64{1}, n)
		a, b := make([]float64, n), make([]float64, n)
		must(t, w.SolveTo(a, y))
		must(t, before.SolveTo(b, y))
		if d := distance(a, b); !(d <= solveTolerance) {
			t.Fatalf("answers differ by %g", d)
		}
	})
}

func TestEraseRefuses(t *testing.T) {
	w, err := New(3, 1, Capacity)
	must(t, err)
	must(t, w.Append([]float64{1}))
	must(t, w.Append([]float64{0, 1}))
	for _, rows := range [][]int{{2}, {-1}, {0, 5}, {1, 1}} {
		var invalid *InvalidError
		if err := w.Erase(rows); !errors.As(err, &invalid) || w.Len() != 2 {
			t.Errorf("erase %v: %v, %d rows", rows, err, w.Len())
		}
	}
	must(t, w.Erase(nil))
	must(t, w.Erase([]int{0, 1}))
	if w.Len() != 0 {
		t.Errorf("%d rows are left", w.Len())
	}
	must(t, w.Append([]float64{4}))
}

// Where many rows leave the factor is made anew: the same as that of a window that never had them.
func TestEraseMany(t *testing.T) {
	const n, d = 60, 70
	w, err := New(n, 0.5, Capacity)
	must(t, err)
	r := rand.New(rand.NewPCG(4, 2))
	m := model{capacity: n, damping: 0.5, divisor: Capacity}
	for range n {
		g := make([]float64, d)
		for i := range g {
			g[i] = float64(r.IntN(9) - 4) // so that A is exact, whatever the order
		}
		must(t, w.Append(row(m.g, g)))
		m.g = append(m.g, g)
	}
	var gone []int
	for i := 0; i < n; i += 2 {
		gone = append(gone, i)
	}
	must(t, w.Erase(gone))
	for _, i := range slices.Backward(gone) {
		m.g = slices.Delete(m.g, i, i+1)
	}
	m.compare(t, w)
	f, err := w.Factor(0.5, Capacity)
	must(t, err)
	m.compareSolve(t, w, f, 3)
	g := make([]float64, d)
	g[0] = 1
	must(t, w.Append(row(m.g, g)))
	m.g = append(m.g, g)
	f, err = w.Factor(0.5, Capacity)
	must(t, err)
	m.compareSolve(t, w, f, 5)
}
