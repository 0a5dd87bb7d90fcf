package window

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
)

// elementError returns E: each element of λH⁻¹ = I − WᵀW with W = L⁻¹G (maths.md, "Elements, diagonal,
// columns") comes out within E √(s_i s_j) of what it is, s_j = g_jᵀK⁻¹g_j = ‖w_j‖² < 1 being what
// is taken from 1. With S = diag(√K_ii) and ν ≥ ‖SK⁻¹S‖₂
//
//	E = t/(1 − t) + n√n ε √ν + (n + 4) ε,  t = ε (16 + 8(b + √n) + n) ν
//
// t is for L, which is the factor of a K that is off by t/ν in these units: by dotError in each
// of A's elements, which go one way in the b rows of the largest bundle and both ways in others, and by
// n ε in the factorization. The second term is the rounding of the solve, |ΔL| ≤ nε/2 |L|, which
// √ν = ‖L⁻¹S‖ magnifies; the last one that of the sum of squares. +Inf where t is not below 1/2.
func (f *Factor) elementError() float64 {
	n := float64(f.z.n)
	if n == 0 {
		return 4 * epsilon
	}
	f.measure()
	counts, b := make([]int, f.z.n), 0
	for _, first := range f.z.bundle[:f.z.n] {
		counts[first]++
		b = max(b, counts[first])
	}
	root := math.Sqrt(n)
	t := epsilon * (16 + dotError*(float64(b)+root) + n) * f.z.inverse
	if !(t < 0.5) {
		return math.Inf(1)
	}
	return t/(1-t) + n*root*epsilon*math.Sqrt(f.z.inverse) + (n+4)*epsilon
}

// DiagonalBound returns the bound of the diagonal of H⁻¹ of dim columns, worked out from W = L⁻¹G: the
// norm of what it is off by, over its norm. With S = Σs_j = tr(K⁻¹A) ≤ min(n, d, tr A/(Nλ)), the letters
// of elementError and h the diagonal of λH⁻¹
//
//	‖ĥ − h‖ ≤ E√S + 2ε√d
//	‖h‖ ≥ max(d − S, d Nλ/(Nλ + tr A/d))/√d
//
// since h_j ≥ 1/(λ⁻¹H_jj), whose mean is least where all columns are alike. Each element is off by at
// most E/λ. Its numbers are those of λ times the diagonal. O(n²) at most. A StaleError is the only error.
func (f *Factor) DiagonalBound(dim int64) (Bound, error) {
	if err := f.check(); err != nil {
		return Bound{}, err
	}
	d := float64(dim)
	trace := 0.0
	for i := range f.z.n {
		trace += f.w.At(i, i) * f.w.Weight(i)
	}
	sum := min(float64(f.z.n), d, trace/f.z.shift)
	low := max(d-sum, d*(f.z.shift/(f.z.shift+trace/d))) / math.Sqrt(d)
	low *= 1 - quadError*epsilon
	return newBound(f.elementError()*math.Sqrt(sum)+2*epsilon*math.Sqrt(d), low, low), nil
}

// Lower returns L, row i at l[i*ld:], for W = L⁻¹G: not to be written to, and good as long as f is. What
// is above the diagonal is no number of L. A StaleError is the only error.
func (f *Factor) Lower() (l []float64, ld int, err error) {
	if err := f.check(); err != nil {
		return nil, 0, err
	}
	return f.z.l, f.z.ld, nil
}

// SubblockTo sets dst, q×q, to [H⁻¹]_QQ = (I − W_QᵀW_Q)/λ for the q = len(index) columns of W = L⁻¹G that
// index names, which may repeat (maths.md, "Elements, diagonal, columns"). w has them by row, row i at
// w[i*ldw:], worked out one after the other: w_i = fma(−l_ik, w_k, w_i) for k < i, then w_i/l_ii. An
// element has the same bits whatever the others are. The result bounds the error of each,
// relative to √([H⁻¹]_ii [H⁻¹]_jj):
//
//	E max s_j/(h_j − E s_j) + 4ε
//
// with the letters of elementError; +Inf where that is nothing. O(nq²). A StaleError, or an
// InvalidError for a wrong length.
func (f *Factor) SubblockTo(dst, w []float64, ldw int, index []int64) (bound float64, err error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	n, q := f.z.n, len(index)
	if ldw < q {
		return 0, invalid("ldw", float64(ldw), "at least the number of indices")
	}
	if err := checkLen("w", len(w), n*ldw); err != nil {
		return 0, err
	}
	if err := checkLen("dst", len(dst), q*q); err != nil {
		return 0, err
	}
	clear(dst)
	if n > 0 && q > 0 {
		blas64.Implementation().Dsyrk(blas.Upper, blas.Trans, q, n, 1, w, ldw, 0, dst, q)
	}
	e := f.elementError()
	for i, at := range index {
		s := dst[i*q+i]
		bound = max(bound, e*s/(1-s-e*s))
		if !(1-s-e*s > 0) {
			bound = math.Inf(1)
		}
		for k := i; k < q; k++ {
			x := -dst[i*q+k]
			if index[k] == at {
				x++
			}
			dst[i*q+k] = x / f.damping
			dst[k*q+i] = dst[i*q+k]
		}
	}
	if floats.HasNaN(dst) {
		bound = math.Inf(1)
	}
	return bound + 4*epsilon, nil
}
