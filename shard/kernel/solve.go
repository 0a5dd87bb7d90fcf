package kernel

import "fmt"

// solveRows is the most rows of a variant's solve.
const solveRows = 6

// Solve sets W = L⁻¹W for n rows of cols columns, row i at w[i*cols:], and the lower triangular
// L, row i at l[i*n:] with positive l[i*n+i]; above the diagonal it is not read. cols is a
// multiple of 16. In each column by itself
//
//	w_i = fma(−l_ik, w_k, w_i) for k < i in order, then w_i = w_i / l_ii
func (v *Variant) Solve(w, l []float64, n, cols int) {
	if len(l) != n*n {
		panic(fmt.Sprintf("kernel: solve of %d×%d with %d numbers", n, cols, len(l)))
	}
	v.SolveIn(w, l, n, n, cols)
}

// SolveIn is Solve with row i of L at l[i*ld:].
func (v *Variant) SolveIn(w, l []float64, ld, n, cols int) {
	checkSolve(w, l, ld, n, cols)
	for i := 0; i < n; i += solveRows {
		v.solve(&w[0], cols, &l[0], ld, i, min(solveRows, n-i), cols)
	}
}

func checkSolve(w, l []float64, ld, n, cols int) {
	if n < 1 || ld < n || cols < 16 || cols%16 != 0 || len(w) != n*cols || len(l) < (n-1)*ld+n {
		panic(fmt.Sprintf("kernel: solve of %d×%d with %d and %d numbers", n, cols, len(l), len(w)))
	}
}

// Squares sets y_j = fma(w_ij, w_ij, y_j) for the rows i in order, from +0: the squared norms of
// W's columns. W has rows of len(y) columns, a multiple of 16.
func (v *Variant) Squares(y, w []float64) {
	n := len(y)
	if n < 16 || n%16 != 0 || len(w) < n || len(w)%n != 0 {
		panic(fmt.Sprintf("kernel: squares of %d numbers in %d columns", len(w), n))
	}
	v.squares(&y[0], &w[0], n, len(w)/n, n)
}
