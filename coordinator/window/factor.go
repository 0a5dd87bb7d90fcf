package window

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
)

// overrides is how many factors at other parameters than its own a window keeps. Each takes
// 8n² bytes, which are given back when the window has changed twice and nobody asked for it between.
const overrides = 4

// A factorization is L for one version of A and one shift Nλ, or why there is none.
type factorization struct {
	l       []float64 // n×n lower triangle; the rest is never read
	ld      int       // of l: row i begins at l[i·ld]
	n       int
	shift   float64
	version uint64               // of A
	ill     *IllConditionedError // l is garbage
	times   uint64               // counts what l has been
	drops   int                  // the most updates that a row of l has gone through
	cond    float64              // Cond, 0 when not known yet, and
	inverse float64              // its part that is the inverse's, and
	bundle  []int                // which rows are multiples of one, as indices of the first
}

func (z *factorization) of(version uint64, shift float64) bool {
	return z.version == version && z.shift == shift
}

// made marks that l now is the factor of n rows of a version of A.
func (z *factorization) made(n int, version uint64) {
	z.n, z.version, z.ill, z.cond = n, version, nil, 0
	z.times++
}

// A Factor answers with K = A + NλI at one λ and N. It is good until the window changes or
// until as many other parameters as are kept (4) were asked for since; after that its methods
// return a StaleError. For the goroutine that has the window.
type Factor struct {
	w       *Window
	z       *factorization
	made    uint64
	damping float64
	divisor int
}

// Factor returns the factor at the given parameters: the window's own, which is only made
// anew if it is stale, or one made from A, O(n³); no worker is involved. The last 4 of these are kept
// until the window changes. An InvalidError as for New; an IllConditionedError if K is not
// positive definite in float64, which says nothing against A or against a larger λ.
func (w *Window) Factor(damping float64, divisor Divisor) (*Factor, error) {
	if err := checkParams(w.capacity, damping, divisor); err != nil {
		return nil, err
	}
	z, err := w.factor(damping, divisor)
	if err != nil {
		return nil, err
	}
	return &Factor{w, z, z.times, damping, w.divide(divisor)}, nil
}

// Made returns the factor at the window's own parameters if it is made already, else nil.
func (w *Window) Made() *Factor {
	if !w.current() {
		return nil
	}
	return &Factor{w, &w.own, w.own.times, w.damping, w.divide(w.divisor)}
}

// SolveTo sets dst = K⁻¹y at the window's own parameters; see Factor and Factor.SolveTo.
func (w *Window) SolveTo(dst, y []float64) error {
	if err := checkSolve(w.n, dst, y); err != nil {
		return err
	}
	z, err := w.factor(w.damping, w.divisor)
	if err != nil {
		return err
	}
	z.solveTo(dst, y)
	return nil
}

func (w *Window) factor(damping float64, divisor Divisor) (*factorization, error) {
	shift := w.shift(damping, divisor)
	z := &w.own
	if shift != w.shift(w.damping, w.divisor) {
		z = w.override(shift)
	}
	if !z.of(w.version, shift) {
		w.refactor(z, shift)
		w.check()
	}
	if z.ill != nil {
		ill := *z.ill // found at the same Nλ, perhaps as another product
		ill.Damping, ill.N = damping, w.divide(divisor)
		return nil, &ill
	}
	return z, nil
}

// override returns the place for a shift: its own if it has one, else a new one, else
// that of an earlier version of A, else that which was not used for the longest time.
func (w *Window) override(shift float64) *factorization {
	i := 0
	for i < len(w.other) && !w.other[i].of(w.version, shift) {
		i++
	}
	if i == len(w.other) {
		for i = 0; i < len(w.other) && w.other[i].version == w.version; i++ {
		}
	}
	if i == len(w.other) {
		if i < overrides {
			w.other = append(w.other, &factorization{})
		} else {
			i--
		}
	}
	z := w.other[i]
	copy(w.other[1:i+1], w.other[:i])
	w.other[0] = z
	return z
}

// refactor makes z from A, O(n³).
func (w *Window) refactor(z *factorization, shift float64) {
	w.begin(z, shift)
	z.finish(w.version, w.vec[0])
}

// begin sets z.l to the lower triangle of K, O(n²).
func (w *Window) begin(z *factorization, shift float64) {
	n := w.n
	if z.ld < n { // an override; own has stride m from the beginning
		z.l, z.ld = make([]float64, n*n), n
	}
	rows := w.slot[:n]
	for i, p := range rows {
		to, from := z.l[i*z.ld:], w.a[p*w.capacity:][:w.capacity]
		for j, q := range rows[:i+1] {
			to[j] = from[q]
		}
		to[i] += w.shiftAt(i, shift)
	}
	z.n, z.shift = n, shift
}

// finish turns z.l into the factor, O(n³). s2 is for n numbers.
func (z *factorization) finish(version uint64, s2 []float64) {
	n := z.n
	s2 = s2[:n]
	for i := range s2 {
		s2[i] = z.l[i*z.ld+i]
	}
	row, pivot := cholesky(z.l, z.ld, n)
	z.drops = 0
	z.made(n, version)
	if row < n {
		z.ill = &IllConditionedError{
			Row: row, Pivot: pivot, Diagonal: s2[row], MaxDiagonal: floats.Max(s2), Shift: z.shift, Len: n,
		}
	}
}

// cholesky turns the lower triangle of an n×n matrix into its factor, in place, and returns n. Where
// a pivot is not positive and finite it stops and returns the row and the pivot. n³/3 multiplications, in
// blocks of columns so that most are in Gemm; gonum's Dpotrf does the same but does not tell the pivot.
func cholesky(l []float64, ld, n int) (row int, pivot float64) {
	const block = 64
	bi := blas64.Implementation()
	for j := 0; j < n; j += block {
		jb := min(block, n-j)
		left, d := l[j*ld:], l[j*ld+j:]
		bi.Dsyrk(blas.Lower, blas.NoTrans, jb, j, -1, left, ld, 1, d, ld)
		for i := range jb {
			r := d[i*ld:][:i+1]
			for k := range i {
				r[k] = (r[k] - dot(r[:k], d[k*ld:][:k])) / d[k*ld+k]
			}
			pivot := r[i] - dot(r[:i], r[:i])
			if !(pivot > 0) || math.IsInf(pivot, 1) {
				return j + i, pivot
			}
			r[i] = math.Sqrt(pivot)
		}
		if below := n - j - jb; below > 0 {
			at := (j + jb) * ld
			bi.Dgemm(blas.NoTrans, blas.Trans, below, jb, j, -1, l[at:], ld, left, ld, 1, l[at+j:], ld)
			bi.Dtrsm(blas.Right, blas.Lower, blas.Trans, blas.NonUnit, below, jb, 1, d, ld, l[at+j:], ld)
		}
	}
	return n, 0
}

func (f *Factor) check() error {
	if f.z.version != f.w.version || f.z.times != f.made {
		return &StaleError{f.damping, f.divisor}
	}
	return nil
}

// Len returns n, the number of rows of K.
func (f *Factor) Len() int { return f.z.n }

// N returns the divisor that the factor is made with.
func (f *Factor) N() int { return f.divisor }

// Damping returns the λ that the factor is made with.
func (f *Factor) Damping() float64 { return f.damping }

// SolveTo sets dst = K⁻¹y by two triangular solves, O(n²) (maths.md, "Any vector"). Both have
// length n; dst may be y. A StaleError, or an InvalidError for a wrong length, a NaN or an
// Inf, leaves dst alone. How good the answer is, VectorBound says.
func (f *Factor) SolveTo(dst, y []float64) error {
	if err := f.check(); err != nil {
		return err
	}
	if err := checkSolve(f.z.n, dst, y); err != nil {
		return err
	}
	f.z.solveTo(dst, y)
	return nil
}

// CombinationTo sets dst = N K⁻¹a, with weights N K⁻¹W⁻¹a, the coefficients of H⁻¹Gᵀa = Gᵀdst (maths.md, "A
// combination of stored gradients"). Both have length n; dst may be a. O(n²). Errors as for
// SolveTo.
func (f *Factor) CombinationTo(dst, a []float64) error {
	if f.w.weight != nil && len(a) == f.z.n && f.check() == nil {
		scaled := make([]float64, len(a))
		for i, x := range a {
			scaled[i] = x / f.w.Weight(i)
		}
		a = scaled
	}
	if err := f.SolveTo(dst, a); err != nil {
		return err
	}
	floats.Scale(float64(f.divisor), dst)
	return nil
}

// PackedTo sets dst, of length n(n+1)/2, to L row by row: L_00, L_10, L_11, …, for the
// shards' W = L⁻¹G (maths.md, "Elements, diagonal, columns"). O(n²). A StaleError, or an
// InvalidError for a wrong length, leaves dst alone.
func (f *Factor) PackedTo(dst []float64) error {
	if err := f.check(); err != nil {
		return err
	}
	n := f.z.n
	if err := checkLen("dst", len(dst), n*(n+1)/2); err != nil {
		return err
	}
	for i := range n {
		copy(dst[i*(i+1)/2:], f.z.l[i*f.z.ld:][:i+1])
	}
	return nil
}

func checkSolve(n int, dst, y []float64) error {
	if err := checkLen("dst", len(dst), n); err != nil {
		return err
	}
	if err := checkLen("y", len(y), n); err != nil {
		return err
	}
	return checkFinite("y", y)
}

func (z *factorization) solveTo(dst, y []float64) {
	copy(dst, y)
	forward(z.l, z.ld, dst)
	backward(z.l, z.ld, dst)
}

// forward sets x to L⁻¹x. Unlike Dtrsv it uses the vector instructions of dot.
func forward(l []float64, ld int, x []float64) {
	for i := range x {
		r := l[i*ld:][:i+1]
		x[i] = (x[i] - dot(r[:i], x[:i])) / r[i]
	}
}

// backward sets x to L⁻ᵀx.
func backward(l []float64, ld int, x []float64) {
	for i := len(x) - 1; i >= 0; i-- {
		r := l[i*ld:][:i+1]
		x[i] /= r[i]
		floats.AddScaled(x[:i], -x[i], r[:i])
	}
}

func dot(x, y []float64) float64 { return floats.Dot(x, y) }
