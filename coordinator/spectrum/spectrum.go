package spectrum

import (
	"errors"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	lapack "gonum.org/v1/gonum/lapack/gonum"
)

// epsilon is the ε of maths.md, 2⁻⁵².
const epsilon = 0x1p-52

const (
	// dotError is window's: each product in A is off by δ ε ‖g_i‖‖g_j‖, so A by δ ε tr A in both norms.
	dotError = 8

	// reductionError is C in: the eigenvalues that tridiagonal and Dsterf find are off by C n ε ‖A‖.
	// In practice the errors are of the size √n ε ‖A‖; TestError meets 1.1 nε‖A‖ at n = 2, a tenth of that
	// from n = 20 on.
	reductionError = 1
)

// For errors.Is.
var (
	ErrStopped     = errors.New("spectrum: stopped")
	ErrNoneFound   = errors.New("spectrum: the eigenvalues of A were not found")
	ErrNotFinite   = errors.New("spectrum: the eigenvalues of A are not finite")
	errWrongLength = errors.New("spectrum: a has not n² numbers")
)

// A Spectrum is the eigenvalues of A = GGᵀ, and two of its norms.
type Spectrum struct {
	Alpha     []float64 // n of them, the largest first
	Error     float64   // none is further from the exact one
	Trace     Estimate  // tr A = ‖G‖²
	Frobenius Estimate  // ‖A‖ in the Frobenius norm
}

// An Estimate is a number with a bound of its error: |Value − exact| ≤ Error. Exact is what the stored
// rows give, without rounding.
type Estimate struct{ Value, Error float64 }

// Of finds the spectrum of the n×n matrix whose lower triangle a has row by row, of stride n; a is
// lost. Rows should be sorted by their diagonal, the small ones first (window.GradedTo): where they are of
// very different size the small eigenvalues then come out better than the bound says (TestGradedRows),
// though it is no better for that. stop is asked now and then, twenty times a second or so: ErrStopped if it says so. ErrNotFinite
// where numbers overflow. O(n³), one thread.
func Of(a []float64, n int, stop func() bool) (*Spectrum, error) {
	f := &Form{n: n}
	if err := f.find(a, n, func(int64, int64) bool { return stop() }); err != nil {
		return nil, err
	}
	return &f.Spectrum, nil
}

// find does Of, and finds the form.
func (f *Form) find(a []float64, n int, watch func(done, total int64) (stop bool)) error {
	if n < 0 || len(a) != n*n {
		return errWrongLength
	}
	s := &f.Spectrum
	s.Alpha = make([]float64, n)
	if n == 0 {
		return nil
	}
	// By a power of four, which is exact, so that no square overflows: |A_ij| ≤ max A_ii.
	_, exp := math.Frexp(largest(a, n))
	exp += exp & 1
	f.exp = exp
	scale := func(x float64) float64 { return math.Ldexp(x, exp) }
	f.long = make([]float64, n)
	for i := range n {
		for j, x := range a[i*n:][:i+1] {
			a[i*n+j] = math.Ldexp(x, -exp)
		}
		f.long[i] = math.Sqrt(a[i*n+i])
	}
	trace, frobenius := norms(a, n)
	f.diag, f.off, f.tau = make([]float64, n), make([]float64, n-1), make([]float64, n)
	if !tridiagonal(f.diag, f.off, f.tau, a, n, watch) {
		return ErrStopped
	}
	copy(s.Alpha, f.diag)
	if !(lapack.Implementation{}.Dsterf(n, s.Alpha, slices.Clone(f.off))) {
		return ErrNoneFound
	}
	slices.Reverse(s.Alpha)
	s.Error = epsilon * (reductionError*float64(n)*s.Alpha[0] + dotError*trace)
	for i, x := range s.Alpha {
		// What is negative is so by rounding, at most by Error: nearer to 0 is nearer to the exact one.
		s.Alpha[i] = scale(max(x, 0))
	}
	// A sum of n products of numbers of one sign, each n terms deep at most.
	depth := float64(n) * epsilon
	s.Trace = Estimate{scale(trace), scale((depth + dotError*epsilon) * trace)}
	s.Frobenius = Estimate{scale(frobenius), scale(depth*frobenius + dotError*epsilon*trace)}
	s.Error = scale(s.Error)
	if !finite(s.Alpha[0]) || !finite(s.Error) || !finite(s.Trace.Value) || !finite(s.Frobenius.Value) {
		return ErrNotFinite
	}
	return nil
}

// largest returns the largest number of the diagonal.
func largest(a []float64, n int) float64 {
	most := 0.0
	for i := range n {
		most = max(most, a[i*n+i])
	}
	return most
}

// norms returns the trace and the Frobenius norm of A.
func norms(a []float64, n int) (trace, frobenius float64) {
	var diagonal, below float64 // sums of squares
	for i := range n {
		row := a[i*n:][:i+1]
		trace += row[i]
		diagonal += row[i] * row[i]
		below += floats.Dot(row[:i], row[:i])
	}
	return trace, math.Sqrt(diagonal + 2*below)
}

func finite(x float64) bool { return x-x == 0 }
