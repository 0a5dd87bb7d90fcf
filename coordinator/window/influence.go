package window

import (
	"math"
	"slices"
)

// This file: the influence of the window's rows on each other, from A alone.

// InfluenceTo sets dst to row i of G H⁻¹Gᵀ = N K⁻¹A (maths.md, "Scalars alone"): the scores of the
// row's own gradient. It returns what dst is off by at most, absolute, in the 2-norm. The matrix
// is symmetric; two rows agree about it within their bounds. dst has length n. O(n²), and Cond's
// cost once. A StaleError, or an InvalidError for a wrong length or row.
func (f *Factor) InfluenceTo(dst []float64, i int) (bound float64, err error) {
	y, err := f.column(i)
	if err != nil {
		return 0, err
	}
	b, err := f.ScoresTo(dst, y, y[i])
	least := 1.0
	if f.w.weight != nil {
		least = slices.Min(f.w.Weights())
	}
	return b.Numerator / math.Sqrt(least), err
}

// SelfInfluence returns h = g_iᵀH⁻¹g_i = N (K⁻¹A)_ii, what it is off by at most, absolute, and the same
// of the row left out,
//
//	g_iᵀ(H − g_i g_iᵀ/N)⁻¹g_i = h/(1 − h/N) = h/(Nλ (K⁻¹)_ii)
//
// by Sherman and Morrison's formula, since K⁻¹A = I − Nλ K⁻¹; N stays what it is. With weights N is
// N/w_i throughout. The last form has no difference that cancels. With k = K⁻¹e_i, which has no error in its right side, the bounds are
// PairOf's for h = N e_iᵀK⁻¹(A e_i) and (K⁻¹)_ii = e_iᵀK⁻¹e_i. The second is +Inf where (K⁻¹)_ii drowns in
// its own. O(n²), and Cond's cost once. A StaleError, or an InvalidError for a wrong row.
func (f *Factor) SelfInfluence(i int) (self, selfBound, out, outBound float64, err error) {
	y, err := f.column(i)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	if y[i] == 0 { // a row of zeros
		return 0, 0, 0, 0, nil
	}
	a, err := f.Side(y, y[i])
	if err != nil {
		return 0, 0, 0, 0, err
	}
	unit := make([]float64, f.z.n)
	unit[i] = 1
	k, err := f.Side(unit, 0)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	n, shift, inverse := float64(f.divisor)/f.w.Weight(i), f.w.shiftAt(i, f.z.shift), k.c[i]
	self = n * a.c[i]
	selfBound = n*f.formError(k, a) + rounding*epsilon*math.Abs(self)
	off := f.formError(k, k) / inverse // of (K⁻¹)_ii, relative
	out = self / (shift * inverse)
	outBound = math.Inf(1)
	if off < 0.5 && inverse > 0 {
		outBound = (selfBound/(shift*inverse)+math.Abs(out)*off)/(1-off) + rounding*epsilon*math.Abs(out)
	}
	return self, selfBound, out, outBound, nil
}

// column is column i of A.
func (f *Factor) column(i int) ([]float64, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if i < 0 || i >= f.z.n {
		return nil, invalid("row", float64(i), "of the window")
	}
	y := make([]float64, f.z.n)
	for j := range y {
		y[j] = f.w.At(i, j)
	}
	return y, nil
}
