//go:build invariants

package window

import (
	"fmt"
	"math"
)

// check panics where W1 or W2 is broken. W2 is probed by one vector, O(n²): LLᵀu = Ku to the
// rounding errors of a factor that has seen m updates.
func (w *Window) check() {
	seen := make([]bool, w.capacity)
	for _, s := range w.slot {
		if seen[s] {
			panic(fmt.Sprintf("window: slot %d is taken twice", s))
		}
		seen[s] = true
	}
	if !w.current() {
		return
	}
	n, z := w.n, &w.own
	if z.n != n {
		panic(fmt.Sprintf("window: the factor has %d rows of %d", z.n, n))
	}
	s := make([]float64, n)
	w.diagonalTo(s, z.shift)
	u, v, r := make([]float64, n), make([]float64, n), make([]float64, n)
	size := 0.0
	for i := range s {
		s[i] = math.Sqrt(s[i])
		u[i] = math.Cos(float64(3*i*i+1)) / s[i] // of size 1 in S⁻¹KS⁻¹
		size += math.Abs(u[i]) * s[i]
	}
	for i := range n {
		for j := range n {
			r[i] += w.At(i, j) * u[j]
		}
		r[i] += w.shiftAt(i, z.shift) * u[i]
		for k, t := range z.l[i*z.ld:][:i+1] {
			v[k] += t * u[i]
		}
	}
	tol := 100 * epsilon * float64(w.capacity+10) * size
	for i := range n {
		d := math.Abs(dot(z.l[i*z.ld:][:i+1], v[:i+1])-r[i]) / s[i]
		if !(d <= tol) && !math.IsInf(size, 0) {
			panic(fmt.Sprintf("window: LLᵀ ≠ K in row %d of %d: off by %g, at most %g", i, n, d, tol))
		}
	}
}
