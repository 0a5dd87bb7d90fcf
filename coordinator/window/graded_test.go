package window

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// GradedTo is A with rows and columns permuted alike, by growing diagonal, after rows have come and gone.
func TestGraded(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	w, err := New(5, 1e-3, Capacity)
	must(t, err)
	var rows [][]float64
	for range 8 {
		g := normal(rng, 12, math.Pow(10, 4*rng.Float64()))
		rows = append(rows, g)
		rows = rows[max(0, len(rows)-5):]
		var a []float64
		for _, h := range rows {
			a = append(a, dot(g, h))
		}
		if w.Len() < w.Cap() {
			must(t, w.Append(a))
		} else {
			must(t, w.Replace(a))
		}
		dst := slices.Repeat([]float64{math.NaN()}, len(rows)*len(rows)+1)
		n, err := w.GradedTo(dst)
		must(t, err)
		sorted := slices.Clone(rows)
		slices.SortFunc(sorted, func(x, y []float64) int { return compare(dot(x, x), dot(y, y)) })
		if n != len(rows) || !math.IsNaN(dst[n*n]) {
			t.Fatalf("n is %d, %v", n, dst)
		}
		for i := range n {
			for j := range n {
				if got := dst[i*n+j]; j <= i && got != dot(sorted[i], sorted[j]) || j > i && !math.IsNaN(got) {
					t.Errorf("%d rows: [%d][%d] is %g", n, i, j, got)
				}
			}
		}
	}
	if _, err := w.GradedTo(make([]float64, 24)); err == nil {
		t.Error("24 numbers for 5 rows")
	}
}
