package spectrum

import (
	"math"

	"gonum.org/v1/gonum/floats"
)

// This file: how likely gradients are under N(0, H), at many λ.
//
//	log N(h; 0, H) = −½ (d log 2π + log det H + hᵀH⁻¹h)
//
// of gradients that are not in the window, for hᵀH⁻¹h = (‖h‖² − (Gh)ᵀK⁻¹(Gh))/λ, and of the window's own, each left
// out of H.

// constant is log 2π.
const constant = 1.8378770664093454835606594728112

// half a sum, with the bounds of its parts.
func likelihood(d int64, logDet, form Estimate) Estimate {
	c := constant * float64(d)
	x := -0.5 * (c + logDet.Value + form.Value)
	off := 0.5*(logDet.Error+form.Error) + 2*epsilon*(math.Abs(c)+math.Abs(logDet.Value)+math.Abs(form.Value))
	return Estimate{x, off}
}

// Likelihoods is log N(h; 0, H) at each λ of dampings, for y = Gh summed by the shards and hnorm2 = ‖h‖², in a run of
// d columns. O(n²), and O(n) for each λ. ErrTooSmall where a λ is below Least. Nothing else is checked: what overflows is
// ±Inf or NaN.
//
// The bound: with z = (A + E + s)⁻¹y for s = Nλ, E being what Q T Qᵀ is off by, and ρ = ‖E‖/s
//
//	|(Gh)ᵀK⁻¹(Gh) − yᵀz| ≤ ‖E‖‖z‖ min((1 + ρ)‖z‖, ‖h‖/(2√s)) + 2‖z‖δ + δ²/s + ε(n + 8) yᵀz
//
// with δ = ε(20‖h‖√(tr A) + n‖y‖) for y and Qᵀy, and ‖h‖² is off by 20ε‖h‖².
func (f *Form) Likelihoods(dampings []float64, divisor float64, d int64, y []float64, hnorm2 float64) ([]Estimate, error) {
	if len(y) != f.n {
		return nil, errShape
	}
	x, z := make([]float64, f.n), make([]float64, f.n)
	diag, below := make([]float64, f.n), make([]float64, f.n)
	f.half(x, y, -1)
	n, h := float64(f.n), math.Sqrt(hnorm2)
	delta := epsilon * (sumError*h*math.Sqrt(f.trace) + n*floats.Norm(x, 2))
	f.transpose(x)
	out := make([]Estimate, len(dampings))
	for i, lambda := range dampings {
		s, err := f.shift(lambda, divisor)
		if err != nil || !f.pivots(diag, below, s) {
			return nil, ErrTooSmall
		}
		inside := solve(z, x, diag, below)
		length := floats.Norm(z, 2)
		off := f.wrong*length*min((1+f.wrong/s)*length, h/(2*math.Sqrt(s))) + 2*length*delta + delta*delta/s
		off += epsilon * ((n+8)*inside + sumError*hnorm2)
		form := Estimate{(hnorm2 - inside) / lambda, 0}
		form.Error = off/lambda + 2*epsilon*math.Abs(form.Value)
		out[i] = likelihood(d, f.At(lambda, divisor, d).LogDet, form)
	}
	return out, nil
}

// LeaveOut is log N(g; 0, H − w ggᵀ/N) of each gradient g, in the form's order, at each λ of dampings: a slice of
// len(dampings) numbers for each. The form's rows are √w g; nil stands for weights of 1. N stays what it is. O(n³) for Q, 4n³/3 multiplications and additions, O(n²) for each λ.
// Errors as for Likelihoods, and ErrStopped.
//
// With u = Nλ(K⁻¹)_ii, in (0, 1], (maths.md, "Scalars alone"; Sherman and Morrison)
//
//	log det(H − w ggᵀ/N) = log det H + log u        gᵀ(H − w ggᵀ/N)⁻¹g = N(1 − u)/(w u)
//
// The bound: with u' of Q T Qᵀ, |u − u'| = s|e_iᵀK⁻¹E(A + E + s)⁻¹e_i| ≤ ρ√(uu'), since ‖K⁻¹e_i‖² ≤ u/s², so that
// |log(u/u')| ≤ 2 arsinh(ρ/2); the rows of Q are off by ε n, which changes u by at most 2√u εn + (εn)²; and
// u ≥ s/(A_ii + s). The sum of both has one extremum, at u = N/w, so that and the ends of its interval bound it.
func (f *Form) LeaveOut(dampings []float64, divisor float64, d int64, weights []float64, watch func(done, total int64) (stop bool)) ([][]Estimate, error) {
	total := int64(f.n) * int64(f.n) * int64(f.n+10*len(dampings))
	base := int64(f.n) * int64(f.n) * int64(f.n)
	q, ok := f.basis(func(done, _ int64) bool { return watch(done, total) })
	if !ok {
		return nil, ErrStopped
	}
	out := make([][]Estimate, f.n)
	for i := range out {
		out[i] = make([]Estimate, len(dampings))
	}
	w, diag, below := make([]float64, f.n), make([]float64, f.n), make([]float64, f.n)
	n := float64(f.n)
	for k, lambda := range dampings {
		if watch(base+int64(f.n)*int64(f.n)*int64(10*k), total) {
			return nil, ErrStopped
		}
		s, err := f.shift(lambda, divisor)
		if err != nil || !f.pivots(diag, below, s) {
			return nil, ErrTooSmall
		}
		logDet := f.At(lambda, divisor, d).LogDet
		ratio := 2*math.Asinh(f.wrong/s/2) + (n+16)*epsilon
		turned := n * epsilon
		for i := range out {
			u := min(s*forward(w, q[i*f.n:][:f.n], diag, below), 1)
			slack := 2*math.Sqrt(u)*turned + turned*turned
			least := s / (f.long[i]*f.long[i] + s) * (1 - (sumError+8)*epsilon)
			u = max(u, least)
			each := divisor
			if weights != nil {
				each /= weights[i]
			}
			at := func(u float64) float64 { return math.Log(u) + each*((1-u)/u) }
			value := at(u)
			lo := max(u*math.Exp(-ratio)-slack, least)
			hi := min(u*math.Exp(ratio)+slack, 1)
			off := 8 * epsilon * (math.Abs(value) + 1)
			most := 0.0
			for _, end := range []float64{lo, hi, min(max(each, lo), hi)} {
				most = max(most, math.Abs(at(end)-value))
			}
			off += most
			out[i][k] = likelihood(d, logDet, Estimate{value, off})
		}
	}
	return out, nil
}

// basis is Q, row by row. O(n³).
func (f *Form) basis(watch func(done, total int64) (stop bool)) (q []float64, ok bool) {
	n := f.n
	q, w := make([]float64, n*n), make([]float64, n)
	for i := range n {
		q[i*n+i] = 1
	}
	cube := func(k int) int64 { return int64(k) * int64(k) * int64(k) }
	for i := 1; i < n; i++ {
		if i%panel == 0 && watch(cube(i), cube(n)) {
			return nil, false
		}
		// The reflection changes the first i rows, which so far have nothing but their first i columns.
		v, w := f.v[i*n:][:i], w[:i]
		clear(w)
		for r, x := range v {
			floats.AddScaled(w, x, q[r*n:][:i])
		}
		for r, x := range v {
			floats.AddScaled(q[r*n:][:i], -f.tau[i]*x, w)
		}
	}
	return q, true
}
