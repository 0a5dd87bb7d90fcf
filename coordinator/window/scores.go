package window

import (
	"math"

	"gonum.org/v1/gonum/floats"
)

// This file: answers that are numbers, from Gv and A alone (maths.md, "Scalars alone").
//
// All bounds come from one residual. With r = Δy − ΔK ĉ, Δy being the error of y and ΔK that of A
// and of its factor,
//
//	ĉ = K⁻¹y + K⁻¹r,  |r_i| ≤ ε s_i ρ,  ρ = δ√(‖v‖² + P²) + ‖Sc‖
//
// in the letters of VectorBound and for the reasons given there, with δ = 20.

// sumError is δ: dotError, and what dots of numbers whose products all round alike were found to come
// to, 17. VectorBound has slack for these in its other terms, there is none here.
const sumError = 20

// rounding is how many ε a number is off for being worked out in a handful of operations, those that
// make Nλ and the diagonal of K included.
const rounding = 4

// A Side is y = Gv with K⁻¹y, and what a bound needs to know of them.
type Side struct {
	y, c   []float64
	v      float64 // ‖v‖; 0 where y has no error
	p, sc  float64 // P, ‖Sc‖
	spread float64 // T
	rho    float64 // ρ
}

// Side solves for y, which it keeps; vnorm2 = ‖v‖², 0 for a y that is exact. O(n²), and Cond's cost
// once. Errors as for SolveTo and VectorBound.
func (f *Factor) Side(y []float64, vnorm2 float64) (*Side, error) {
	if !(vnorm2 >= 0) || math.IsInf(vnorm2, 1) {
		return nil, invalid("‖v‖²", vnorm2, "≥ 0 and finite")
	}
	s := &Side{y: y, c: make([]float64, f.z.n), v: math.Sqrt(vnorm2)}
	if err := f.SolveTo(s.c, y); err != nil {
		return nil, err
	}
	f.measure()
	for i, c := range s.c {
		if a := f.w.At(i, i); a != 0 { // of a row of zeros nothing is wrong
			s.spread += math.Abs(c) * math.Sqrt(a)
			s.sc = math.Hypot(s.sc, math.Sqrt(a+f.w.shiftAt(i, f.z.shift))*c)
		}
	}
	s.p = f.bundled(s.c)
	s.rho = sumError*math.Hypot(s.v, s.p) + s.sc
	return s, nil
}

// magnified returns M with rᵀK⁻¹r ≤ M² for all |r_i| ≤ s_i, so ‖K⁻¹r‖ ≤ M/√(Nλ), since K ≥ Nλ. M is
// the smaller of √(n‖SK⁻¹S‖) and ‖s‖/√(Nλ). With weights ‖K⁻¹r‖ is ‖W^-½K⁻¹r‖, and s in what is not SK⁻¹S is √w s.
func (f *Factor) magnified() (m, least float64) {
	trace, count := 0.0, 0.0
	least = math.Inf(1)
	for i := range f.z.n {
		if a := f.w.At(i, i); a != 0 {
			k := (a + f.w.shiftAt(i, f.z.shift)) * f.w.Weight(i)
			trace += k
			least = min(least, k)
			count++
		}
	}
	return min(math.Sqrt(count*f.z.inverse), math.Sqrt(trace/f.z.shift)), math.Sqrt(least)
}

// solveError returns what ‖K⁻¹r‖ is at most for |r_i| ≤ s_i: M/√(Nλ), or, by K⁻¹ = S⁻¹(SK⁻¹S)S⁻¹,
// √n‖SK⁻¹S‖/min s_i.
func (f *Factor) solveError() float64 {
	m, least := f.magnified()
	return min(m/math.Sqrt(f.z.shift), math.Sqrt(float64(f.z.n))*f.z.inverse/least)
}

// ScoresTo sets dst = G H⁻¹v = N K⁻¹y, with weights N W⁻¹K⁻¹y, the influence of each row on v, and returns its
// bound, which with weights is of √w times the scores: with
// X = min(M/√(Nλ), √n‖SK⁻¹S‖/min s_i) ≥ ‖K⁻¹r‖ for |r_i| ≤ s_i
//
//	‖ŝ − s‖ ≤ εN (Xρ + 4‖c‖)
//
// y = Gv summed by the shards, vnorm2 = ‖v‖². dst has length n and may be y. Relative is +Inf where the
// scores drown in rounding errors, as those of a v that is orthogonal to all rows do. O(n²), and
// Cond's cost once. Errors as for VectorBound.
func (f *Factor) ScoresTo(dst, y []float64, vnorm2 float64) (Bound, error) {
	if err := checkLen("dst", len(dst), f.z.n); err != nil {
		return Bound{}, err
	}
	s, err := f.Side(y, vnorm2)
	if err != nil {
		return Bound{}, err
	}
	copy(dst, s.c)
	floats.Scale(float64(f.divisor), dst)
	if vnorm2 == 0 && floats.Norm(s.c, 1) == 0 || f.z.n == 0 {
		return Bound{}, nil
	}
	norm := f.rootNorm(dst)
	for i := range dst {
		dst[i] /= f.w.Weight(i)
	}
	return newBound(f.scoresError(s), norm*(1-quadError*epsilon), norm), nil
}

// scoresError is ScoresTo's bound of ‖ŝ − s‖.
func (f *Factor) scoresError(s *Side) float64 {
	return epsilon * float64(f.divisor) * (f.solveError()*s.rho + rounding*f.rootNorm(s.c))
}

// rootNorm is ‖W^-½x‖.
func (f *Factor) rootNorm(x []float64) float64 {
	if f.w.weight == nil {
		return floats.Norm(x, 2)
	}
	norm := 0.0
	for i, v := range x {
		norm = math.Hypot(norm, v/math.Sqrt(f.w.Weight(i)))
	}
	return norm
}

// PairOf returns uᵀH⁻¹v = (uᵀv − (Gu)ᵀK⁻¹(Gv))/λ for uᵀv summed by the shards, and what it is off by
// at most, absolute. With c_u of u's side and c_v of v's
//
//	(Gu)ᵀĉ_v − (Gu)ᵀc_v = c_uᵀr_v,  c_u = ĉ_u − K⁻¹r_u
//
// so that K⁻¹ magnifies nothing to first order:
//
//	λ·error ≤ ε (δ(‖u‖ + P_u)(‖v‖ + P_v) + (1 + √k)‖Sc_u‖‖Sc_v‖ + √n ‖u‖T_v) + ε²M² ρ_u ρ_v
//
// where L has gone through k updates, and the rounding of what is left, 4ε(|uᵀv| + |(Gu)ᵀc_v|)
//
// O(n). Not of sides of other factors.
func (f *Factor) PairOf(u, v *Side, uv float64) (value, bound float64) {
	form := chunkedDot(u.y, v.c)
	off := f.formError(u, v) + epsilon*(sumError*u.v*v.v+rounding*(math.Abs(uv)+math.Abs(form)))
	value = (uv - form) / f.damping
	return value, off/f.damping + rounding*epsilon*math.Abs(value)
}

// formError is what yᵤᵀK⁻¹y_v is off by at most.
func (f *Factor) formError(u, v *Side) float64 {
	m, _ := f.magnified()
	if f.z.n == 0 {
		return 0
	}
	root := math.Sqrt(float64(f.z.n))
	updates := 1 + math.Sqrt(float64(f.z.drops)) // of L, each with an error of its own
	first := sumError*(u.v*v.p+u.p*v.v+u.p*v.p) + updates*u.sc*v.sc + root*u.v*v.spread
	second := m * u.rho * m * v.rho * epsilon
	return epsilon * (first + second)
}
