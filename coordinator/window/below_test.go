package window

import (
	"flag"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// below is what the carried bound is below wherever maths.md says that it can be: E, or 32εκ, times
// the factor of a gauge.
const below = 1e-9

// A hardness holds what maths.md says that errors stay below, E of a vector and 32εκ of a
// combination, and by how much more the carried bound may exceed it.
type hardness struct {
	vec, vecFactor   float64
	comb, combFactor float64
}

// check says which bound is larger than it may be. Below enough, which is below 1e-9, none is too large.
func (r boundResult) check() error {
	h := r.hard
	if most := h.vec * h.vecFactor; most <= 1e-3 && !(r.vecWith <= max(most, enough)) {
		return fmt.Errorf("the bound of a vector is %.3g where maths.md's E is %.3g, times %.3g", r.vecWith, h.vec, h.vecFactor)
	}
	if most := h.comb * h.combFactor; most <= 1e-3 && !(r.combWith <= max(most, enough)) {
		return fmt.Errorf("the bound of a combination is %.3g where 32εκ is %.3g, times %.3g", r.combWith, h.comb, h.combFactor)
	}
	return nil
}

// A gauge is of K, with nothing estimated.
type gauge struct {
	n, kappa float64
	m        float64   // min(√(nκ), ‖s‖/(2√(Nλ)))
	s        []float64 // √K_ii
	bundle   float64   // rows in the largest bundle
}

func newGauge(f *Factor, ref *exact) gauge {
	w, n := f.w, f.z.n
	g := gauge{n: float64(n), kappa: 1, s: make([]float64, n)}
	if n == 0 {
		return g
	}
	for i := range n {
		g.s[i] = math.Sqrt(w.At(i, i) + f.z.shift)
	}
	k, sizes := mat.NewSymDense(n, nil), make([]float64, n)
	for i := range n {
		first := i
		for j := i; j >= 0; j-- {
			a := w.At(i, j)
			if math.Abs(a) >= math.Sqrt(w.At(i, i))*math.Sqrt(w.At(j, j))*(1-1e-12) && a != 0 {
				first = j
			}
			if i == j {
				a += f.z.shift
			}
			k.SetSym(i, j, a/g.s[i]/g.s[j])
		}
		sizes[first]++
	}
	g.bundle = floats.Max(sizes)
	var eig mat.EigenSym
	eig.Factorize(k, false)
	val := eig.Values(nil)
	g.kappa = max(val[n-1]/val[0], 1)
	if !(val[0] > 1e-8) { // rounding errors show in it: by inverse iteration with the exact K
		x, size := make([]float64, n), 1.0
		for i := range x {
			x[i] = 1 + float64(i%7)/7 - float64(i%2)*2
		}
		for range 30 {
			floats.Scale(1/floats.Norm(x, 2), x)
			b := make([]*big.Float, n)
			for i := range x {
				b[i] = num(x[i] * g.s[i])
			}
			ref.solve(b)
			for i := range x {
				v, _ := b[i].Float64()
				x[i] = v * g.s[i]
			}
			size = floats.Norm(x, 2)
		}
		g.kappa = max(val[n-1]*size, 1)
	}
	g.m = min(math.Sqrt(g.n*g.kappa), floats.Norm(g.s, 2)/(2*math.Sqrt(f.z.shift)))
	return g
}

func (g gauge) scaled(c []float64) (sc float64) {
	for i, s := range g.s {
		sc = math.Hypot(sc, s*c[i])
	}
	return sc
}

// vector returns E of λx = v − Gᵀc and how much more is carried for good reasons, see VectorBound:
//
//   - 9 times, since the dots are off by dotError, and κ is estimated to a factor of two
//   - √b times, since the errors of b equal rows add up
//   - ‖v‖/‖Sc‖ times, at most M, since the rounding of y = Gv is proportional to ‖v‖, not to c
//   - √n for the n additions to v
func (g gauge) vector(c []float64, v, size float64) (e, factor float64) {
	sc := g.scaled(c)
	e = epsilon * (v + g.m*sc) / size
	return e, 9*(math.Sqrt(max(g.bundle, 1))+min(g.m, v/sc)) + 2*math.Sqrt(g.n)
}

// combination returns 32εκ, and how much more is carried for x = Gᵀc because its parts cancel,
// ρ = ‖Sc‖/‖x‖, which 32εκ does not know: ρ√(nb/κ) times, if that is more than 1.
func (g gauge) combination(c []float64, size float64) (e, factor float64) {
	return 32 * epsilon * g.kappa, max(1, g.scaled(c)/size*math.Sqrt(g.n*g.bundle/g.kappa))
}

// length returns ‖x‖.
func length(x []*big.Float) float64 {
	sum, t := num(0), num(0)
	for _, v := range x {
		sum.Add(sum, t.Mul(v, v))
	}
	f, _ := sum.Sqrt(sum).Float64()
	return f
}

var belowCases = flag.Int("bound.below", 1200, "cases of TestBoundBelow")

// TestBoundBelow: the bound is below 1e-9 wherever maths.md says that it can be.
func TestBoundBelow(t *testing.T) {
	checked, seen, above := 0, [2]int{}, [2]int{}
	used := [2]float64{} // of the factors, where nothing stopped looking for a better bound
	for i := range *belowCases {
		rng := rand.New(rand.NewPCG(uint64(i), 5))
		n := 1 + rng.IntN(12)
		if rng.IntN(4) == 0 {
			n = 1 + rng.IntN(40)
		}
		d := 1 + rng.IntN(60)
		rk, vk, ck := rowKinds[i%len(rowKinds)], vecKinds[rng.IntN(len(vecKinds))], comKinds[rng.IntN(len(comKinds))]
		r := makeCase(uint64(i), rk, vk, ck, n, i%2*rng.IntN(n+1), d, math.Pow(10, -9+10*rng.Float64()), Divisor(i%2)).run(t)
		if r.ill {
			continue
		}
		checked++
		for k, h := range [2]struct{ e, factor, err, bound float64 }{
			{r.hard.vec, r.hard.vecFactor, r.vecErr, r.vecWith}, {r.hard.comb, r.hard.combFactor, r.combErr, r.combWith},
		} {
			if !(h.e <= below) || h.err == 0 {
				continue
			}
			seen[k]++
			if h.bound > below {
				above[k]++
			}
			if most := h.e * h.factor; h.bound > enough && most <= 1e-3 {
				used[k] = max(used[k], h.bound/most)
			}
		}
		if err := r.check(); err != nil {
			t.Errorf("case %d, %s, v %s, a %s, n=%d d=%d: %v", i, rk, vk, ck, n, d, err)
		}
		if w := r.worst(); !(w <= 1) {
			t.Errorf("case %d, %s, v %s, a %s, n=%d d=%d: error/bound %.2g: %+v", i, rk, vk, ck, n, d, w, r)
		}
	}
	t.Logf("%d cases; %d vectors and %d combinations where maths.md says at most 1e-9, of which %d and %d carry more; at most %.2g and %.2g of the factor is used",
		checked, seen[0], seen[1], above[0], above[1], used[0], used[1])
}
