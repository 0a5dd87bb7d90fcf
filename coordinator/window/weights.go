package window

import (
	"fmt"
	"math"
	"slices"
)

// This file: weights of rows (maths.md, "Weights and dampings"). With W = diag(w)
//
//	F = GᵀWG/N,  K = A + NλW⁻¹
//
// so that A and the products with v stay what they are, and so do c = K⁻¹Gv and x = (v − Gᵀc)/λ: only
// the diagonal of K has a number of its own in each row. S⁻¹KS⁻¹, of which the bounds speak, is that of
// the rows √w g, since a scaling of rows and columns does not change it. Where weights are all 1 every bit is as without.

// Weight returns that of row i in age order, 0 ≤ i < n: 1 unless it was given another.
func (w *Window) Weight(i int) float64 {
	if w.weight == nil {
		return 1
	}
	return w.weight[w.slot[i]]
}

// Weighted reports whether any row's weight is not 1.
func (w *Window) Weighted() bool { return w.weight != nil }

// Weights returns those of all rows, by age; nil where all are 1.
func (w *Window) Weights() []float64 {
	if w.weight == nil {
		return nil
	}
	ws := make([]float64, w.n)
	for i := range ws {
		ws[i] = w.Weight(i)
	}
	return ws
}

// SetWeights gives all rows weights, by age; nil stands for ones. The factor is made anew from A, O(n³),
// when next asked for, unless all stay what they are. An InvalidError for a wrong length or a weight that
// is not above 0 and finite; then nothing has changed.
func (w *Window) SetWeights(weights []float64) error {
	if err := checkWeights(weights, w.n); err != nil {
		return err
	}
	if w.keepWeights(weights, 0) {
		return nil
	}
	w.release()
	w.weigh(weights)
	w.version++
	w.start()
	w.check()
	return nil
}

func checkWeights(weights []float64, n int) error {
	if weights == nil {
		return nil
	}
	if err := checkLen("weights", len(weights), n); err != nil {
		return err
	}
	for i, x := range weights {
		if !(x > 0) || math.IsInf(x, 1) {
			return invalid(fmt.Sprintf("weights[%d]", i), x, "> 0 and finite")
		}
	}
	return nil
}

// keepWeights reports whether the rows from the given one on already have these weights, which may be
// one more than they are: the last is then a new row's.
func (w *Window) keepWeights(weights []float64, from int) bool {
	for i := from; i < w.n; i++ {
		x := 1.0
		if weights != nil {
			x = weights[i-from]
		}
		if w.Weight(i) != x {
			return false
		}
	}
	return true
}

// weigh sets the weights of all rows.
func (w *Window) weigh(weights []float64) {
	if !slices.ContainsFunc(weights, func(x float64) bool { return x != 1 }) {
		w.weight = nil
		return
	}
	if w.weight == nil {
		w.weight = make([]float64, w.capacity)
	}
	for i, x := range weights {
		w.weight[w.slot[i]] = x
	}
}

// weightsWith is those of the rows from the given one on, and of a new one; nil where all are 1.
func (w *Window) weightsWith(from int, weight float64) []float64 {
	if w.weight == nil && weight == 1 {
		return nil
	}
	ws := make([]float64, 0, w.n+1)
	for i := from; i < w.n; i++ {
		ws = append(ws, w.Weight(i))
	}
	return append(ws, weight)
}

// shiftAt is Nλ/w of row i, what K has there beside A.
func (w *Window) shiftAt(i int, shift float64) float64 {
	if w.weight == nil {
		return shift
	}
	return shift / w.weight[w.slot[i]]
}

// lengthsTo sets dst to s² = diag K and returns the most of w s²: what the inverse of S⁻¹KS⁻¹ has for an
// eigenvalue is at most that over Nλ, as K ≥ NλW⁻¹.
func (w *Window) lengthsTo(dst []float64, shift float64) (most float64) {
	w.diagonalTo(dst, shift)
	for i, k := range dst {
		most = max(most, k*w.Weight(i))
	}
	return most
}
