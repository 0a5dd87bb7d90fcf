package window

import (
	"math"

	"gonum.org/v1/gonum/floats"
	lapack "gonum.org/v1/gonum/lapack/gonum"
)

// epsilon is the ε of maths.md, 2⁻⁵².
const epsilon = 0x1p-52

// Cond returns an upper bound, in practice, of κ, the 2-norm condition number of S⁻¹KS⁻¹ with
// S = diag(√K_ii): the gauge of how wrong an answer can be, which unlike cond K does not mind rows
// of very different size (maths.md, "How wrong an answer can be"). It is ‖S⁻¹KS⁻¹‖₁, certain,
// times the smaller of
//
//   - max s²/(Nλ), certain, since K − NλI is positive semidefinite
//   - twice the largest eigenvalue of SK⁻¹S by 12 Lanczos steps from a random vector, which fall
//     short by more than half with a probability below 2e-7 √n (Kuczyński & Woźniakowski, SIAM
//     J. Matrix Anal. Appl. 13, 1992). L is the factor of a K that is off by some nε in these
//     units, so it is raised for that, and near 1/(nε) splitInverse takes its place.
//
// Higham's estimate of the 1-norm (LAPACK's dlacn2) takes four or five solves, not 12, but fell
// short by 8 where one row was repeated in two sizes. O(n²), once in the factor's life. 1 when
// n ≤ 1. A StaleError is the only error.
func (f *Factor) Cond() (float64, error) {
	if err := f.check(); err != nil {
		return math.Inf(1), err
	}
	f.measure()
	return f.z.cond, nil
}

// measure finds cond and inverse, upper bounds of κ and of ‖SK⁻¹S‖₂, and the bundles, unless they
// are known.
func (f *Factor) measure() {
	w, z := f.w, f.z
	if z.cond > 0 {
		return
	}
	w.bundles(z)
	if z.n <= 1 {
		z.cond, z.inverse = 1, 1
		return
	}
	s := w.vec[0][:z.n]
	z.inverse = w.lengthsTo(s, z.shift) / z.shift
	for i := range s {
		s[i] = math.Sqrt(s[i])
	}
	estimate := 2 * w.inverseNorm(z, s, s, 0)
	if off := estimate * float64(z.n+8) * epsilon; off < 0.5 {
		z.inverse = min(z.inverse, estimate/(1-off))
	} else {
		z.inverse = min(z.inverse, w.splitInverse(z, s))
	}
	// The diagonal of S⁻¹KS⁻¹ is all ones, so neither is below 1.
	z.inverse = max(z.inverse, 1)
	z.cond = max(z.inverse*w.scaledNorm1(s, z.shift), 1)
}

// splitInverse returns an upper bound of ‖SK⁻¹S‖₂ for rows of very different size where L is too
// inexact for the whole. Let x be a unit vector, split into x_B of the large rows, of which s > limit,
// and x_R of the others. Of M = S⁻¹KS⁻¹ it is certain that xᵀMx ≥ Nλ‖x_R‖²/max s_R², and with
// 1/μ = ‖(SK⁻¹S)_BB‖, by which Schur's complement of B is at least μ, xᵀMx ≥ μ‖x_B‖² − nε. One of the two
// parts has half of x, so
//
//	‖SK⁻¹S‖₂ ≤ max(2 max s_R²/(Nλ), 1/(μ/2 − nε))
//
// The first falls with the limit, the second rises: the best is found by bisection, over powers of four
// of s². With weights s is √w s in all of this but SK⁻¹S. O(n²).
func (w *Window) splitInverse(z *factorization, s []float64) float64 {
	by := s
	if w.weight != nil { // s²/D, D = NλW⁻¹, is what decides
		by = make([]float64, len(s))
		for i := range by {
			by[i] = s[i] * math.Sqrt(w.Weight(i))
		}
	}
	_, high := math.Frexp(floats.Max(by))
	_, low := math.Frexp(floats.Min(by))
	best := math.Inf(1)
	for low, high = low-1, high-1; low <= high; {
		mid := low + (high-low)/2
		limit := math.Ldexp(1, mid)
		small := 0.0
		for _, v := range by {
			if v <= limit {
				small = max(small, v)
			}
		}
		rest, large := 2*small*small/z.shift, math.Inf(1)
		estimate := 4 * w.inverseNorm(z, s, by, limit)
		if off := estimate * float64(z.n+8) * epsilon; off < 0.5 {
			large = estimate / (1 - off)
		}
		best = min(best, max(rest, large))
		if large > rest {
			low = mid + 1
		} else {
			high = mid - 1
		}
	}
	return best
}

// bundles sets z.bundle[i] to the first row that row i is a multiple of, itself if to no other, as far
// as A's rounding errors let that be seen. A row of zeros is on its own. O(n²).
func (w *Window) bundles(z *factorization) {
	if cap(z.bundle) < z.n {
		z.bundle = make([]int, w.capacity)
	}
	z.bundle = z.bundle[:z.n]
	r := w.vec[0][:z.n] // 1/√A_ii
	w.diagonalTo(r, 0)
	for i, a := range r {
		r[i] = 1 / math.Sqrt(a) // +Inf for a row of zeros
	}
	for i, p := range w.slot[:z.n] {
		z.bundle[i] = i
		if math.IsInf(r[i], 1) {
			continue
		}
		a := w.a[p*w.capacity:][:w.capacity]
		for j, q := range w.slot[:i] {
			if z.bundle[j] == j && math.Abs(a[q]*r[i]*r[j]) >= 1-parallel*epsilon { // 0·Inf fails
				z.bundle[i] = j
				break
			}
		}
	}
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
		sum := absDot(w.a[p*w.capacity:][:hi], r)/s[i] + w.shiftAt(i, shift)/s[i]/s[i]
		norm = max(norm, sum)
	}
	return norm
}

// inverseNorm returns a lower bound of the norm of that block of SK⁻¹S of which by > limit, hardly ever
// below half of it: the largest eigenvalue of the tridiagonal matrix of Lanczos' method.
func (w *Window) inverseNorm(z *factorization, s, by []float64, limit float64) float64 {
	const steps = 12
	n := len(s)
	prev, q, r := w.vec[1][:n], w.vec[2][:n], w.vec[3][:n]
	clear(prev)
	seed := uint64(0)
	for i := range q {
		if q[i] = uniform(&seed); by[i] <= limit {
			q[i] = 0
		}
	}
	if floats.Norm(q, 2) == 0 {
		return 0
	}
	floats.Scale(1/floats.Norm(q, 2), q)
	var diag, off [steps]float64
	k := 0
	for b := 0.0; k < min(n, steps); k++ {
		floats.MulTo(r, q, s)
		forward(z.l, z.ld, r)
		backward(z.l, z.ld, r)
		for i, v := range s {
			if r[i] *= v; by[i] <= limit {
				r[i] = 0
			}
		}
		diag[k] = dot(q, r)
		floats.AddScaled(r, -diag[k], q)
		floats.AddScaled(r, -b, prev)
		b = floats.Norm(r, 2)
		if !finite(b) || !finite(diag[k]) {
			return math.Inf(1)
		}
		if off[k] = b; b <= epsilon*diag[k] { // q and those before it span an invariant space
			k++
			break
		}
		floats.Scale(1/b, r)
		prev, q, r = q, r, prev
	}
	if !(lapack.Implementation{}.Dsterf(k, diag[:], off[:])) {
		return math.Inf(1)
	}
	return diag[k-1]
}

// uniform returns a number in (−1, 1): splitmix64, so that it is the same everywhere.
func uniform(seed *uint64) float64 {
	*seed += 0x9e3779b97f4a7c15
	x := *seed
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64(int64(x^x>>31)) / (1 << 63)
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
