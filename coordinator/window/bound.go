package window

import (
	"math"

	"gonum.org/v1/gonum/floats"
)

// A Bound says how wrong an answer x̂ in float64 can be: ‖x̂ − x‖ ≤ Relative ‖x‖ in the 2-norm, x
// being the answer of exact arithmetic for the rows as they are stored. It takes for granted that
// the dots are summed in maths.md's order and that not all their rounding errors go one way. In 40,000
// cases against exact arithmetic, most of them adversarial, the error stayed below 0.25 of it
// (TestBoundSearch); with rows that are nearly or quite one number throughout, below 0.5 and 0.92.
// Its numbers are those of λx, or of x for a combination.
type Bound struct {
	Numerator float64 // ≥ ‖x̂ − x‖
	NormLow   float64 // ≤ ‖x‖, so less than is known of ‖x̂‖ by Numerator; 0 where that is nothing
	NormEst   float64 // about ‖x̂‖
	Relative  float64 // Numerator/NormLow; +Inf where NormLow is 0, 0 for the zero vector
}

const (
	// quadError is C in: a quadratic form that is made of the shards' dots and of sums here is off
	// by at most C ε (‖v‖ + Σ|c_i|‖g_i‖)². Dots are off by dotError or, where products round alike, twice
	// that. In 75 additions here at n = 2048, and one a shard, errors of ε/2 go both ways: 3 of C
	// for each sum. Up to 21 was found.
	quadError = 32

	// parallel is how many ε below 1 the cosine of rows that are multiples of one may come out.
	parallel = 256

	// dotError is δ in: a shard's dot is off by δ ε ‖g‖‖h‖. Random numbers of one sign make that 0.7
	// in one tile, less in more; one number throughout, whose products all round alike, up to 17.
	dotError = 8

	// enough is the relative bound below which a better κ is not looked for.
	enough = 1e-10

	// underflow is the norm below which squares are not trusted.
	underflow = 1e-140
)

// VectorBound returns the bound of x = (v − Gᵀc)/λ for c = K⁻¹y by SolveTo, y = Gv summed by the
// shards and vnorm2 = ‖v‖² (maths.md, "How wrong an answer can be"). With s = (√K_ii),
// S = diag(s), T = Σ|c_i|√A_ii and P = √Σ T_b², T_b being the part of T of a bundle, rows that are
// multiples of one
//
//	M = min(√(n‖SK⁻¹S‖), ‖s‖/(2√(Nλ))) ≥ ‖GᵀK⁻¹e‖ for all e with |e_i| ≤ s_i
//	‖λx̂ − λx‖ ≤ ε ((1 + M) 8√(‖v‖² + P²) + M‖Sc‖ + (1 + √n)(‖v‖ + T))
//
// M magnifies the errors of y, of A and of L in turn; the last term is the rounding of c and of the n
// additions to v. P is for A: the errors of its columns, and of y, add up like any that know nothing
// of each other, but equal rows have equal ones. That is more than maths.md's E = ε(‖v‖ + M‖Sc‖)/‖λx‖,
// which fell short in 0.8 % of random and adversarial cases, by up to 9: for v almost orthogonal
// to almost dependent rows the rounding of y counts, not c; there are bundles; and where products
// round alike dots are worse (dotError). Where it is more than enough, it is at most
//
//	9 (√b + min(M, ‖v‖/‖Sc‖)) + 2√n
//
// times E, b being the rows of the largest bundle (TestBoundBelow).
//
// ‖λx‖ comes from scalars, λ²‖x‖² = ‖v‖² − 2cᵀy + cᵀAc, less what the rounding of these may come to.
// Below some 1e-7 (‖v‖ + T) nothing is left of it, NormLow is 0 and With is needed.
//
// c and y have length n. O(n²); where M's second part will not do, Cond's cost too. A StaleError,
// or an InvalidError for a wrong length or a vnorm2 that is negative or not finite. If something
// overflowed, c too, Relative is +Inf. A v whose square underflows is taken for zero.
func (f *Factor) VectorBound(c, y []float64, vnorm2 float64) (Bound, error) {
	if err := f.checkBound(c); err != nil {
		return Bound{}, err
	}
	if err := checkLen("y", len(y), len(c)); err != nil {
		return Bound{}, err
	}
	if !(vnorm2 >= 0) || math.IsInf(vnorm2, 1) {
		return Bound{}, invalid("‖v‖²", vnorm2, "≥ 0 and finite")
	}
	if vnorm2 == 0 && floats.Norm(y, 1) == 0 {
		return Bound{}, nil
	}
	return f.bound(c, y, vnorm2), nil
}

// CombinationBoundOf returns the bound of x = Gᵀc for c = N K⁻¹a by CombinationTo (maths.md, "A
// combination of stored gradients"), with the letters of VectorBound
//
//	‖x̂ − x‖ ≤ ε ((1 + M) 8P + M‖Sc‖ + (1 + √n) T)
//
// and ‖x‖² = cᵀAc. Where it is more than enough, it is at most 32εκ max(1, √(nb/κ)‖Sc‖/‖x‖)
// (TestBoundBelow): the second where parts cancel. O(n²), and sometimes Cond's cost. A StaleError, or an
// InvalidError for a wrong length.
func (f *Factor) CombinationBoundOf(c []float64) (Bound, error) {
	if err := f.checkBound(c); err != nil {
		return Bound{}, err
	}
	if floats.Norm(c, 1) == 0 {
		return Bound{}, nil
	}
	return f.bound(c, nil, 0), nil
}

// CombinationBound returns 32εκ, with κ = Cond or less good where that will do: maths.md's bound
// of the relative error of any H⁻¹Gᵀa. It does not know a, and is no bound where Gᵀa is small beside
// the rows that make it, or those beside √(Nλ), at a small κ: 2 % of random and adversarial cases
// with a = (1, −1, …), 0.1 % of others. CombinationBoundOf holds there too. +Inf when the factor
// is stale.
func (f *Factor) CombinationBound() float64 {
	if f.check() != nil {
		return math.Inf(1)
	}
	if f.z.n == 0 {
		return 32 * epsilon
	}
	s2 := f.w.vec[0][:f.z.n]
	most := f.w.lengthsTo(s2, f.z.shift)
	// The trace over the least that the smallest eigenvalue can be.
	if b := 32 * epsilon * float64(f.z.n) * (most / f.z.shift); b <= enough {
		return b
	}
	f.measure()
	return 32 * epsilon * f.z.cond
}

// With returns the bound with what the shards have summed, norm2 = ‖λx̂‖² (‖x̂‖² for a
// combination), in place of the norm from scalars.
func (b Bound) With(norm2 float64) Bound {
	if b == (Bound{}) {
		return b
	}
	norm := math.Sqrt(norm2) // NaN where norm2 < 0
	return newBound(b.Numerator, norm*(1-quadError*epsilon), norm)
}

// BoundOf is the bound of an x̂ that is off by numerator at most, and of a norm that is at least low, about est.
// None where numerator is 0.
func BoundOf(numerator, low, est float64) Bound {
	if numerator == 0 {
		return Bound{}
	}
	return newBound(numerator, low, est)
}

// newBound is the bound with ‖x̂‖ ≥ low.
func newBound(numerator, low, est float64) Bound {
	b := Bound{Numerator: numerator, NormLow: max(low-numerator, 0), NormEst: est}
	b.Relative = b.Numerator / b.NormLow
	if !(b.NormLow > underflow) || !finite(b.NormLow) || !finite(b.Relative) {
		b.NormLow, b.Relative = 0, math.Inf(1)
	}
	return b
}

func (f *Factor) checkBound(c []float64) error {
	if err := f.check(); err != nil {
		return err
	}
	return checkLen("c", len(c), f.z.n)
}

// bound does VectorBound, and CombinationBoundOf with y = nil.
func (f *Factor) bound(c, y []float64, vnorm2 float64) Bound { return f.boundWith(c, y, vnorm2, 0) }

// boundWith is bound where y is off by extra ε s_i more.
func (f *Factor) boundWith(c, y []float64, vnorm2, extra float64) Bound {
	n, w := f.z.n, f.w
	s2 := w.vec[0][:n]
	w.diagonalTo(s2, f.z.shift)
	var t, sc, trace float64 // T, ‖Sc‖, ‖s‖²; with weights ‖√w s‖²
	for i, k := range s2 {
		a := w.At(i, i)
		if a == 0 {
			continue // g_i = 0: K has nothing beside its diagonal there, and c_i is multiplied by 0
		}
		t += math.Abs(c[i]) * math.Sqrt(a)
		sc = math.Hypot(sc, math.Sqrt(k)*c[i])
		trace += k * w.Weight(i)
	}
	if vnorm2 == 0 && t == 0 && extra == 0 {
		return Bound{} // Gᵀc is 0, exactly
	}
	v, root := math.Sqrt(vnorm2), math.Sqrt(float64(n))
	q := vnorm2 + w.quad(c)
	if y != nil {
		q -= 2 * chunkedDot(c, y)
	}
	low := math.Sqrt(max(q-quadError*epsilon*(v+t)*(v+t), 0))
	with := func(m, p float64) Bound {
		return newBound(epsilon*((1+m)*dotError*math.Hypot(math.Hypot(v, extra), p)+m*sc+(1+root)*(v+t)), low, math.Sqrt(max(q, 0)))
	}
	if n == 0 {
		return with(0, 0)
	}
	m := math.Sqrt(trace/f.z.shift) / 2
	if b := with(m, t); b.Relative <= enough {
		return b
	}
	f.measure()
	return with(min(m, root*math.Sqrt(f.z.inverse)), f.bundled(c))
}

// bundled returns P.
func (f *Factor) bundled(c []float64) float64 {
	sums := f.w.vec[0][:len(c)]
	clear(sums)
	for i, b := range f.z.bundle[:len(c)] {
		sums[b] += math.Abs(c[i]) * math.Sqrt(f.w.At(i, i))
	}
	return floats.Norm(sums, 2)
}

// quad returns cᵀAc.
func (w *Window) quad(c []float64) float64 {
	hi := w.bySlot(w.vec[1], c)
	x, r := w.vec[1][:hi], w.vec[2][:len(c)]
	for i, p := range w.slot[:len(c)] {
		r[i] = chunkedDot(w.a[p*w.capacity:][:hi], x)
	}
	return chunkedDot(c, r)
}

// chunkedDot is a dot whose products go through few additions, see quadError: a quarter of a
// chunk, since dot has four lanes, and one a chunk.
func chunkedDot(x, y []float64) float64 {
	const chunk = 256
	sum := 0.0
	for len(x) > chunk {
		sum += dot(x[:chunk], y[:chunk])
		x, y = x[chunk:], y[chunk:]
	}
	return sum + dot(x, y)
}
