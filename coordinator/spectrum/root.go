package spectrum

import (
	"math"

	"gonum.org/v1/gonum/floats"
)

// This file: H^(−½)v. With s = Nλ, f(x) = x^(−½) in maths.md's "Other functions" has the divided difference
// −√N/(√s √(α+s) (√s + √(α+s))), so that
//
//	√λ H^(−½)v = v − Gᵀc,   c = (K + √s K^½)⁻¹Gv
//
// and no eigenvectors are needed for c:
//
//	1/(√(α+s)(√s + √(α+s))) = (2/π) ∫ cos²φ/(α cos²φ + s) dφ over [0, π/2]
//
// With φ = am(u), a Jacobi amplitude of complementary parameter k² = s/(s + ‖A‖), the integrand is periodic and
// analytic, and the rule of J midpoints is off by exp(−π²J/K'), K' = log(4/k) or so: at most 80 points for
// all digits of a float64 (N. Hale, N. J. Higham, L. N. Trefethen, Computing A^α, log(A), and related matrix
// functions by contour integrals, SIAM J. Numer. Anal. 46, 2008, method 3, is this for A^(−½)). Each point is a
// shift, T + s/cos²φ, O(n) a vector.

// ruleError is how many ε the rule is off by, relative: rounding, 20 are found (TestRule).
const ruleError = 24

// Roots makes H^(−½)v at one λ and N. Not for several goroutines at once.
type Roots struct {
	f      *Form
	s      float64 // Nλ, scaled
	points []point
	z      []float64
	y, sum []float64
}

// point is one of the rule: c = Σ ω (A + σ)⁻¹y.
type point struct {
	omega, sigma float64
	d, l         []float64 // of T + σ
	gain         float64   // ≥ ‖Gᵀ(A + σ)⁻¹‖
}

// Roots prepares for H^(−½)v at λ and N, O(n) and a few tables of n numbers: at most 2·80·n. ErrTooSmall where λ is
// below Least.
func (f *Form) Roots(lambda, divisor float64) (*Roots, error) {
	s, err := f.shift(lambda, divisor)
	if err != nil {
		return nil, err
	}
	r := &Roots{f: f, s: s, z: make([]float64, f.n), y: make([]float64, f.n), sum: make([]float64, f.n)}
	if f.n == 0 {
		return r, nil
	}
	for _, p := range rule(f.most / s) {
		p.sigma *= s
		p.d, p.l = make([]float64, f.n), make([]float64, f.n)
		if !f.pivots(p.d, p.l, p.sigma) {
			return nil, ErrTooSmall
		}
		p.gain = min(1/(2*math.Sqrt(p.sigma)), math.Sqrt(f.most)/p.sigma)
		r.points = append(r.points, p)
	}
	return r, nil
}

// rule is the points for ‖A‖/s = most: Σ ω/(x + σ) = 1/(√(x+1)(1 + √(x+1))) for x in [0, most].
func rule(most float64) []point {
	k := 1 / math.Sqrt(1+most)
	half := math.Pi / 2 / agm(1, k) // K'
	j := int(math.Ceil(40*half/(math.Pi*math.Pi))) + 2
	points := make([]point, j)
	h := half / float64(j)
	for i := range points {
		// From the nearer end, so that cn has all digits where it is small.
		near := i < j-1-i
		u := (float64(i) + 0.5) * h
		if !near {
			u = (float64(j-1-i) + 0.5) * h
		}
		sn, cn, dn := jacobi(u, k)
		if !near {
			cn, dn = k*sn/dn, k/dn
		}
		points[i] = point{omega: 2 / math.Pi * h * dn, sigma: 1 / (cn * cn)}
	}
	return points
}

// agm is the arithmetic-geometric mean.
func agm(a, b float64) float64 {
	for math.Abs(a-b) > 1e-8*a { // then its square after the next
		a, b = (a+b)/2, math.Sqrt(a*b)
	}
	return (a + b) / 2
}

// jacobi returns the elliptic functions of u in (0, K'/2], of complementary parameter k², by Bulirsch's
// algorithm (Numer. Math. 7, 1965), which adds no numbers of different sign: cn is relatively as exact as
// the others.
func jacobi(u, k float64) (sn, cn, dn float64) {
	const most = 16 // it takes 8 where k = 1e-16
	var as, bs [most]float64
	a, b := 1.0, k
	var c float64
	n := 0
	for {
		as[n], bs[n] = a, b
		c = (a + b) / 2
		n++
		if math.Abs(a-b) <= 1e-8*a || n == most {
			break
		}
		a, b = c, math.Sqrt(a*b)
	}
	sn, cn = math.Sincos(c * u)
	dn = 1
	a = cn / sn
	c *= a
	for i := n - 1; i >= 0; i-- {
		b := as[i]
		a *= c
		c *= dn
		dn = (bs[i] + a) / (b + a)
		a = c / b
	}
	sn = 1 / math.Sqrt(c*c+1)
	return sn, c * sn, dn
}

// A Root says how wrong √λ x̂ can be for x = H^(−½)v, ‖√λx̂ − √λx‖ ≤ Off, and how long √λ x̂ is: at least Low, about Norm.
type Root struct{ Off, Low, Norm float64 }

// To sets c = (K + √(Nλ)K^½)⁻¹y, of which (v − Gᵀc)/√λ is H^(−½)v, for y = Gv summed by the shards and vnorm2 = ‖v‖².
// c may be y. O(n²), and O(n) for each point of the rule.
//
// The error: with σ and ω of the points, z = (A + E + σ)⁻¹y, E being what Q T Qᵀ is off by, and
// γ = min(1/(2√σ), √‖A‖/σ) ≥ ‖Gᵀ(A + σ)⁻¹‖
//
//	(A + σ)⁻¹y − z = (A + σ)⁻¹E z, exactly
//	‖√λx̂ − √λx‖ ≤ Σ ωγ(‖E‖ + 32εσ)‖z‖ + Σ ωγ ε(20‖v‖√(tr A) + n‖y‖)
//	             + ε√‖A‖(n + J + 8) Σ ω‖z‖ + ε(26‖v‖ + (1 + √n)(‖v‖ + Σ|c_i|√A_ii))
//
// the second for y and Qᵀy, the third for Q and the sum over the J points, the last for the rule itself and for what
// the shards do. ‖√λx‖ is at least ‖v‖√(s/(s + ‖A‖)), and that of ‖v‖² − 2cᵀy + cᵀAc.
func (r *Roots) To(c, y []float64, vnorm2 float64) (Root, error) {
	f := r.f
	if len(c) != f.n || len(y) != f.n {
		return Root{}, errShape
	}
	n, v := float64(f.n), math.Sqrt(vnorm2)
	if f.n == 0 {
		return Root{Off: 4 * epsilon * v, Low: v, Norm: v}, nil
	}
	f.half(r.y, y, -1)
	norm := floats.Norm(r.y, 2)
	f.transpose(r.y)
	clear(r.sum)
	var off, gains, lengths float64
	for _, p := range r.points {
		solve(r.z, r.y, p.d, p.l)
		floats.AddScaled(r.sum, p.omega, r.z)
		length := floats.Norm(r.z, 2)
		off += p.omega * p.gain * (f.wrong + 2*solveError*epsilon*p.sigma) * length
		gains += p.omega * p.gain
		lengths += p.omega * length
	}
	// ‖v − Gᵀc‖², before Q: cᵀAc is sumᵀ T sum, cᵀy the same.
	q := vnorm2 - 2*floats.Dot(r.sum, r.y) + f.quad(r.sum)
	f.times(r.sum)
	t := 0.0
	for i, x := range r.sum {
		t += math.Abs(x) * f.long[i]
	}
	// G is scaled by 2^(−e/2), and so is 1/c.
	f.half(c, r.sum, -1)
	off += gains * epsilon * (sumError*v*math.Sqrt(f.trace) + n*norm)
	off += epsilon * math.Sqrt(f.most) * (n + float64(len(r.points)) + 8) * lengths
	off += epsilon * ((ruleError+2)*v + (1+math.Sqrt(n))*(v+t))
	const quadError = 32 // window's
	low := v * math.Sqrt(r.s/(r.s+f.most)) * (1 - 8*epsilon)
	slack := quadError*epsilon*(v+t)*(v+t) + f.wrong*floats.Dot(r.sum, r.sum)
	low = max(low, math.Sqrt(max(q-slack, 0)))
	return Root{Off: off, Low: low, Norm: math.Sqrt(max(q, low*low))}, nil
}
