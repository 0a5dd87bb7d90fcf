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
	rows := slices.Clone(w.slot[:n])
	root := func(p int) float64 { return 1 }
	if w.weight != nil {
		root = func(p int) float64 { return math.Sqrt(w.weight[p]) }
	}
	length := func(p int) float64 { return w.a[p*(w.capacity+1)] * (root(p) * root(p)) }
	slices.SortStableFunc(rows, func(p, q int) int { return cmp.Compare(length(p), length(q)) })
	for i, p := range rows {
		to, from := dst[i*n:], w.a[p*w.capacity:][:w.capacity]
		for j, q := range rows[:i+1] {
			to[j] = from[q] * (root(p) * root(q))
		}
	}
	return n, nil
}
