package window

import (
	"math"

	"gonum.org/v1/gonum/floats"
	lapack "gonum.org/v1/gonum/lapack/gonum"
)

// epsilon is the ε of maths.md, 2⁻⁵².
const epsilon = 0x1p-52

// Cond returns an upper bound, in practice, of κ, the 2-norm condition number of
// S⁻¹KS⁻¹ with S = diag(√K_ii): the gauge of how wrong an answer can be, which unlike cond K
// does not mind rows of very different size (maths.md, "How wrong an answer can be"). O(n²),
// as much as about five solves, once in the factor's life. It is the smaller of
//
//   - ‖S⁻¹KS⁻¹‖₁ max s²/(Nλ), certain, since K − NλI is positive semidefinite
//   - ‖S⁻¹KS⁻¹‖₁ times three times the estimate of its inverse's 1-norm by Higham's method
//     (LAPACK's dlacn2), a lower bound that is hardly ever short by more than that; a 1-norm
//     is not less than the 2-norm. L is the factor of a K that is off by some nε in these
//     units, so the estimate is raised for that, and near 1/(nε) it is not used.
//
// 1 when n = 0. A StaleError is the only error.
func (f *Factor) Cond() (float64, error) {
	if err := f.check(); err != nil {
		return math.Inf(1), err
	}
	f.measure()
	return f.z.cond, nil
}

// measure finds cond and inverse, upper bounds of κ and of ‖SK⁻¹S‖₂, unless they are known.
func (f *Factor) measure() {
	w, z := f.w, f.z
	switch {
	case z.cond > 0:
		return
	case z.n == 0:
		z.cond, z.inverse = 1, 1
		return
	}
	s := w.vec[0][:z.n]
	w.diagonalTo(s, z.shift)
	z.inverse = floats.Max(s) / z.shift
	for i := range s {
		s[i] = math.Sqrt(s[i])
	}
	estimate := 3 * w.inverseNorm1(z, s)
	if off := estimate * float64(z.n+8) * epsilon; off < 0.5 {
		z.inverse = min(z.inverse, estimate/(1-off))
	}
	// The diagonal of S⁻¹KS⁻¹ is all ones, so neither is below 1.
	z.inverse = max(z.inverse, 1)
	z.cond = max(z.inverse*w.scaledNorm1(s, z.shift), 1)
}

// scaledNorm1 returns ‖S⁻¹KS⁻¹‖₁.
func (w *Window) scaledNorm1(s []float64, shift float64) float64 {
	hi := w.bySlot(w.vec[1], s)
	r := w.vec[1][:hi] // 1/s by slot, 0 in free slots
	for p, v := range r {
		if v != 0 {
			r[p] = 1 / v
		}
	}
	norm := 0.0
	for i, p := range w.slot[:len(s)] {
		sum := absDot(w.a[p*w.capacity:][:hi], r)/s[i] + shift/s[i]/s[i]
		norm = max(norm, sum)
	}
	return norm
}

// inverseNorm1 estimates ‖SK⁻¹S‖₁ from below.
func (w *Window) inverseNorm1(z *factorization, s []float64) float64 {
	n := len(s)
	v, x, sign := w.vec[1][:n], w.vec[2][:n], w.sign[:n]
	var est float64
	var what int
	var save [3]int
	for {
		est, what = lapack.Implementation{}.Dlacn2(n, v, x, sign, est, what, &save)
		if what == 0 {
			return est
		}
		floats.Mul(x, s) // symmetric: the product and the transposed one are the same
		forward(z.l, z.ld, x)
		backward(z.l, z.ld, x)
		floats.Mul(x, s)
		if !finite(floats.Sum(x)) {
			return math.Inf(1)
		}
	}
}

// bySlot sets dst, of length m, to the elements of x, which are in age order, by slot, and
// zeros; it returns where only zeros follow.
func (w *Window) bySlot(dst, x []float64) (hi int) {
	clear(dst)
	for i, v := range x {
		p := w.slot[i]
		dst[p] = v
		hi = max(hi, p+1)
	}
	return hi
}

// absDot returns Σ|x_i|y_i.
func absDot(x, y []float64) float64 {
	x = x[:len(y)]
	var s0, s1, s2, s3 float64
	for ; len(y) >= 4 && len(x) >= 4; x, y = x[4:], y[4:] {
		s0 += math.Abs(x[0]) * y[0]
		s1 += math.Abs(x[1]) * y[1]
		s2 += math.Abs(x[2]) * y[2]
		s3 += math.Abs(x[3]) * y[3]
	}
	for i, v := range y {
		s0 += math.Abs(x[i]) * v
	}
	return (s0 + s1) + (s2 + s3)
}
