package spectrum

import (
	"errors"
	"math"

	"gonum.org/v1/gonum/floats"
)

// This file: A = Q T Qᵀ with T tridiagonal, of which functions of A are made in O(n²) a vector.

// For errors.Is.
var (
	ErrTooSmall = errors.New("spectrum: Nλ is lost among the rounding errors of A")
	errShape    = errors.New("spectrum: not n numbers")
)

const (
	// solveError is C in: solving with T + σ is as good as exact for a matrix that is off by
	// Cε(‖T‖ + σ): 5|T + σ| of N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2002,
	// §9.6, in which ‖|T|‖ ≤ 2‖T‖, and what σ is off by.
	solveError = 16

	// sumError is window's: a shard's dots are off by so many ε.
	sumError = 20
)

// A Form is the spectrum of A with the tridiagonal form T = QᵀAQ and the reflections of which Q is made. It
// does not change, so several goroutines may use one. Vectors are in the order of the rows that it was
// made of (window.GradedOrder).
type Form struct {
	Spectrum
	n    int
	exp  int       // even: T and all below are of A/2^exp, as if G were G/2^(exp/2)
	diag []float64 // of T
	off  []float64 // beside it
	v    []float64 // row i has the i numbers of the vector of the reflection I − τvvᵀ that dealt with row i
	tau  []float64
	long []float64 // √A_ii

	most  float64 // ≥ ‖A‖
	wrong float64 // ≥ ‖E‖, A + E being what Q T Qᵀ is exactly, the errors of solving with T included
	trace float64
}

// FormOf is Of, for the form too. The form keeps a. watch hears now and then how far it is, and says whether
// to stop.
func FormOf(a []float64, n int, watch func(done, total int64) (stop bool)) (*Form, error) {
	f := &Form{n: n, v: a}
	if err := f.find(a, n, watch); err != nil {
		return nil, err
	}
	if n > 0 {
		f.wrong = math.Ldexp(f.Error, -f.exp) + solveError*epsilon*math.Ldexp(f.Alpha[0], -f.exp)
		f.most = math.Ldexp(f.Alpha[0], -f.exp) + f.wrong
		f.trace = math.Ldexp(f.Trace.Value, -f.exp)
	}
	return f, nil
}

// Rows is n.
func (f *Form) Rows() int { return f.n }

// shift is Nλ as T is scaled. It must be more than twice what A may be off by, for K to be sure to be
// positive definite.
func (f *Form) shift(lambda, divisor float64) (float64, error) {
	if f.n == 0 { // N may be 0 too
		return lambda, nil
	}
	s := math.Ldexp(lambda*divisor, -f.exp)
	if !(s > 2*f.wrong) || math.IsInf(s, 1) {
		return 0, ErrTooSmall
	}
	return s, nil
}

// Least is the damping that is too small, and all below are, for K to be sure to be positive definite.
func (f *Form) Least(divisor float64) float64 { return 2 * math.Ldexp(f.wrong, f.exp) / divisor }

// half scales a vector y = Gv, or back with sign 1.
func (f *Form) half(dst, y []float64, sign int) {
	scale := math.Ldexp(1, sign*f.exp/2)
	for i, x := range y {
		dst[i] = x * scale
	}
}

// transpose sets y to Qᵀy, and times to Qy. O(n²).
func (f *Form) transpose(y []float64) {
	for i := f.n - 1; i > 0; i-- {
		f.reflect(i, y)
	}
}

func (f *Form) times(y []float64) {
	for i := 1; i < f.n; i++ {
		f.reflect(i, y)
	}
}

func (f *Form) reflect(i int, y []float64) {
	v, y := f.v[i*f.n:][:i], y[:i]
	floats.AddScaled(y, -f.tau[i]*floats.Dot(v, y), v)
}

// pivots factors T + σ = LDLᵀ: d is D's diagonal, l what is below L's. It reports false where a pivot is not
// above 0. O(n).
func (f *Form) pivots(d, l []float64, sigma float64) bool {
	if f.n == 0 {
		return true
	}
	d[0] = f.diag[0] + sigma
	for i, b := range f.off {
		if !(d[i] > 0) {
			return false
		}
		l[i] = b / d[i]
		d[i+1] = f.diag[i+1] + sigma - l[i]*b
	}
	return d[f.n-1] > 0
}

// solve sets z to (LDLᵀ)⁻¹y, and returns yᵀz, summed as Σ w²/d with Lw = y. O(n).
func solve(z, y, d, l []float64) (form float64) {
	form = forward(z, y, d, l)
	for i := range z {
		z[i] /= d[i]
	}
	for i := len(z) - 2; i >= 0; i-- {
		z[i] -= l[i] * z[i+1]
	}
	return form
}

// forward sets w to L⁻¹y, and returns Σ w²/d.
func forward(w, y, d, l []float64) (form float64) {
	prev := 0.0
	for i, x := range y {
		if i > 0 {
			x -= l[i-1] * prev
		}
		w[i], prev = x, x
		form += x * (x / d[i])
	}
	return form
}

// quad returns cᵀTc.
func (f *Form) quad(c []float64) float64 {
	sum := 0.0
	for i, x := range c {
		sum += x * f.diag[i] * x
		if i > 0 {
			sum += 2 * x * f.off[i-1] * c[i-1]
		}
	}
	return sum
}
