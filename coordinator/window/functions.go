package window

import (
	"math"

	"gonum.org/v1/gonum/floats"
)

// This file: bounds of functions of H beside its inverse, of samples, and of refined answers. They
// take for granted what Bound does.

// NOf returns what a divisor comes to: m, or n.
func (w *Window) NOf(d Divisor) int { return w.divide(d) }

// ProductBound returns the bound of x = scale·v + Gᵀc for c = Wy/N, with N = NOf(d), y = Gv summed by
// the shards and vnorm2 = ‖v‖²: of F v with scale 0, of H v with λ. With T = Σ|c_i|√A_ii and
// ‖A‖ ≤ min(tr A, max_i Σ_j |A_ij|)
//
//	‖x̂ − x‖ ≤ ε (8 √(‖A‖ tr A) ‖v‖/N + 2T + (1 + √n)(scale ‖v‖ + T))
//
// the first for y, the others for c and for the n additions; with weights A is W^½AW^½. Where columns have dampings of
// their own it is all of the rows GR^-½ and of R^½v: vnorm2 is vᵀRv, x has λRv, whose two roundings the last term
// has, and the norm is that of R⁻¹. Where y is 0 throughout, F v = 0 is taken for exact. c and y have length n. O(n²). Errors as for VectorBound.
func (w *Window) ProductBound(c, y []float64, d Divisor, scale, vnorm2 float64) (Bound, error) {
	for field, x := range map[string][]float64{"c": c, "y": y} {
		if err := checkLen(field, len(x), w.n); err != nil {
			return Bound{}, err
		}
	}
	if !(vnorm2 >= 0) || math.IsInf(vnorm2, 1) {
		return Bound{}, invalid("‖v‖²", vnorm2, "≥ 0 and finite")
	}
	v := math.Sqrt(vnorm2)
	if floats.Norm(y, 1) == 0 && (v == 0 || scale == 0) {
		return Bound{}, nil
	}
	var t, trace, most float64
	for i, ci := range c {
		a, sum := w.At(i, i), 0.0
		t += math.Abs(ci) * math.Sqrt(a)
		trace += a * w.Weight(i)
		for j := range c {
			x := math.Abs(w.At(i, j))
			if w.weight != nil {
				x *= math.Sqrt(w.Weight(i)) * math.Sqrt(w.Weight(j))
			}
			sum += x
		}
		most = max(most, sum)
	}
	q := scale*scale*vnorm2 + 2*scale*chunkedDot(c, y) + w.quad(c)
	size := scale*v + t
	numerator := 2*t + (1+math.Sqrt(float64(w.n)))*size
	if n := float64(w.divide(d)); n > 0 {
		numerator += dotError * math.Sqrt(min(trace, most)) * math.Sqrt(trace) * v / n
	}
	return newBound(epsilon*numerator, math.Sqrt(max(q-quadError*epsilon*size*size, 0)), math.Sqrt(max(q, 0))), nil
}

// SampleBound returns the bound of √λ times a sample, z − Gᵀc for c = K⁻¹(y − √(Nλ)u), with y = Gz
// summed by the shards and znorm2 = ‖z‖²: that of VectorBound, for a right-hand side that has the
// roundings of √(Nλ)u and of the difference too. z and u are taken as they are. Lengths and errors
// as for VectorBound.
func (f *Factor) SampleBound(c, y, u []float64, znorm2 float64) (Bound, error) {
	if err := f.checkBound(c); err != nil {
		return Bound{}, err
	}
	for field, x := range map[string][]float64{"y": y, "u": u} {
		if err := checkLen(field, len(x), len(c)); err != nil {
			return Bound{}, err
		}
	}
	if !(znorm2 >= 0) || math.IsInf(znorm2, 1) {
		return Bound{}, invalid("‖z‖²", znorm2, "≥ 0 and finite")
	}
	return f.boundWith(c, y, znorm2, 2*floats.Norm(u, math.Inf(1))+math.Sqrt(znorm2)/2), nil
}

// RefineTo sets e = K⁻¹(N(c + a) − w) for the refinement of an answer, O(n²): with c that answer's
// coefficients and w = Gx summed by the shards,
//
//	H⁻¹(v − Hx) = GᵀK⁻¹(Nc − w)                for x = (v − Gᵀc)/λ
//	H⁻¹(Gᵀa − Hx) = GᵀK⁻¹(N(a − λc) − w)       for x = Gᵀc
//
// with NW⁻¹ for N where rows have weights. In the first, a is nil, else −λc is added here. All have length n. Errors as for SolveTo.
func (f *Factor) RefineTo(e, c, a, w []float64) error {
	rhs := make([]float64, len(c))
	for i := range rhs {
		n := float64(f.divisor) / f.w.Weight(i)
		if a == nil {
			rhs[i] = math.FMA(n, c[i], -w[i])
		} else {
			rhs[i] = math.FMA(n, math.FMA(-f.damping, c[i], a[i]), -w[i])
		}
	}
	return f.SolveTo(e, rhs)
}

// RefinedBound returns the bound of λx' for x' = x + Gᵀe, e by RefineTo, x = (v − Gᵀc)/λ with twice the
// digits in v − Gᵀc, of which xnorm2 = ‖x‖² and norm2 = ‖x'‖² are summed by the shards: that of
// VectorBound for H⁻¹(λx), whose coefficients are −λe, and for H⁻¹Gᵀc N, of which nothing is
// subtracted. v is ‖v‖². O(n²), and sometimes Cond's cost.
func (f *Factor) RefinedBound(c, e []float64, vnorm2, xnorm2, norm2 float64) (Bound, error) {
	if err := f.checkBound(c); err != nil {
		return Bound{}, err
	}
	if err := checkLen("e", len(e), len(c)); err != nil {
		return Bound{}, err
	}
	extra, t := 0.0, 0.0
	scaled := make([]float64, len(e))
	for i := range e {
		scaled[i] = -f.damping * e[i]
		a := f.w.At(i, i)
		d := f.w.shiftAt(i, f.z.shift)
		extra = max(extra, d*math.Abs(c[i])/math.Sqrt(a+d))
		t += math.Abs(c[i]) * math.Sqrt(a)
	}
	lambda2 := f.damping * f.damping
	b := f.boundWith(scaled, nil, lambda2*xnorm2, extra)
	n := float64(len(c) + 1)
	b.Numerator += 2*epsilon*f.damping*math.Sqrt(xnorm2) + epsilon*epsilon*n*n*(math.Sqrt(vnorm2)+t)
	return b.With(lambda2 * norm2), nil
}

// RefinedCombinationBound returns the bound of x' = Gᵀc + Gᵀe, e by RefineTo, norm2 = ‖x'‖² summed by the
// shards: that of CombinationBoundOf for c + e, for a right-hand side that has the errors of w,
// below ε s_i Σ s_j|c_j| each. O(n²), and sometimes Cond's cost.
func (f *Factor) RefinedCombinationBound(c, e []float64, norm2 float64) (Bound, error) {
	if err := f.checkBound(c); err != nil {
		return Bound{}, err
	}
	if err := checkLen("e", len(e), len(c)); err != nil {
		return Bound{}, err
	}
	sum, extra := make([]float64, len(c)), 0.0
	for i := range c {
		sum[i] = c[i] + e[i]
		extra += 2 * math.Sqrt(f.w.At(i, i)+f.w.shiftAt(i, f.z.shift)) * (math.Abs(c[i]) + math.Abs(e[i]))
	}
	return f.boundWith(sum, nil, 0, extra).With(norm2), nil
}

// CombinationNorm2 returns ‖Gᵀa‖² = aᵀAa, O(n²), less good where the sum cancels. a has length n.
func (w *Window) CombinationNorm2(a []float64) float64 { return max(w.quad(a), 0) }
