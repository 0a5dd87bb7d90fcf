package window

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// GradedTo sets dst, of at least n² numbers, to the lower triangle of A, row by row of stride n, with the
// rows in the order of their lengths, the shortest first, and returns n. Its eigenvalues are those of A.
// With weights it is that of W^½AW^½. The upper triangle of dst is left alone. O(n²). An InvalidError for a wrong length.
func (w *Window) GradedTo(dst []float64) (int, error) {
	n := w.n
	if len(dst) < n*n {
		return 0, &InvalidError{"len(dst)", strconv.Itoa(len(dst)), "at least " + strconv.Itoa(n*n)}
	}
	rows := w.GradedOrder()
	for i, r := range rows {
		root := math.Sqrt(w.Weight(r))
		to, from := dst[i*n:], w.a[w.slot[r]*w.capacity:][:w.capacity]
		for j, q := range rows[:i+1] {
			to[j] = from[w.slot[q]] * (root * math.Sqrt(w.Weight(q)))
		}
	}
	return n, nil
}

// GradedOrder returns GradedTo's order: the rows, by age, the shortest first, the older first where they are as
// long. With weights √w g is a row.
func (w *Window) GradedOrder() []int {
	rows := make([]int, w.n)
	for i := range rows {
		rows[i] = i
	}
	length := func(i int) float64 { // as GradedTo rounds it
		root := math.Sqrt(w.Weight(i))
		return w.At(i, i) * (root * root)
	}
	slices.SortStableFunc(rows, func(i, j int) int { return cmp.Compare(length(i), length(j)) })
	return rows
}
