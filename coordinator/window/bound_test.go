package window

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var (
	search    = flag.Int("bound.search", 0, "random cases of TestBoundSearch")
	oneNumber = flag.Int("bound.onenumber", 60, "cases of TestBoundOneNumber")
)

// A fixed table, every kind of rows with every kind of vector at four dampings.
func TestBound(t *testing.T) {
	seed, cases, ill := uint64(0), 0, 0
	for _, rk := range rowKinds {
		for _, vk := range vecKinds {
			for _, damping := range []float64{1e-10, 1e-7, 1e-4, 1} {
				seed++
				n := 1 + int(seed%8)
				before := int(seed%3) * n
				ck := comKinds[seed%uint64(len(comKinds))]
				c := makeCase(seed, rk, vk, ck, n, before, n+int(seed%33), damping, Divisor(seed%2))
				r := c.run(t)
				cases++
				if r.ill {
					ill++
					continue
				}
				if w := r.worst(); !(w <= 1) {
					t.Errorf("%s, v %s, a %s, n=%d, λ=%g, seed %d: error/bound %.2g: %+v", rk, vk, ck, n, damping, seed, w, r)
				}
			}
		}
	}
	t.Logf("%d cases, %d ill-conditioned", cases, ill)
	if ill > cases/4 {
		t.Errorf("%d of %d cases are ill-conditioned", ill, cases)
	}
}

// In the cases that users have, the bound is far below anything that matters.
func TestBoundBenign(t *testing.T) {
	const benign = 1e-9
	for i := range 30 {
		n := 1 + i
		for _, vk := range []string{"random", "stored", "combination"} {
			c := makeCase(uint64(i), "random", vk, comKinds[i%len(comKinds)], n, i%2*n, 200, 1, Count)
			for _, g := range c.rows { // of length 1: λ = 1e-3 is then small but not tiny
				s := 1 / math.Sqrt(c.dot(g, g))
				for j := range g {
					g[j] *= s
				}
				round32(g)
			}
			c.damping = 1e-3
			r := c.run(t)
			if r.ill || !(r.vec <= benign) || !(r.vecWith <= benign) || !(r.comb <= benign) || !(r.combWith <= benign) || !(r.all <= benign) {
				t.Errorf("n=%d, v %s: %+v", n, vk, r)
			}
		}
	}
}

// What maths.md's bounds leave out, see VectorBound and CombinationBound: nearly equal rows, Nλ of their
// size and a = (1, −1), where κ = 3 and Gᵀa has lost six digits; and 32εκ without κ.
func TestCombinationBoundBlind(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	exceeded := 0
	for range 50 {
		g := normal(rng, 30, 1)
		h := make([]float64, 30)
		for j := range h {
			h[j] = g[j] * (1 + 1e-6*rng.NormFloat64())
		}
		round32(g)
		round32(h)
		c := &boundCase{rows: [][]float64{g, h}, v: g, a: []float64{1, -1}, capacity: 2, damping: 15, width: 30}
		r := c.run(t)
		if !(r.combErr <= r.comb) || !(r.comb <= 1e-6) {
			t.Errorf("%+v", r)
		}
		if r.combErr > r.all {
			exceeded++
		}
	}
	if exceeded == 0 {
		t.Error("CombinationBound's comment is out of date")
	}
}

func TestBoundEdges(t *testing.T) {
	w := loaded(t, [][]float64{{1, 0}, {1, 1}}, 2, 1e-3, Capacity)
	f, err := w.Factor(1e-3, Capacity)
	must(t, err)
	zero, c := make([]float64, 2), []float64{1, 2}
	vector := func(c, y []float64, vnorm2 float64) Bound {
		t.Helper()
		b, err := f.VectorBound(c, y, vnorm2)
		must(t, err)
		return b
	}
	if b := vector(zero, zero, 0); b != (Bound{}) || b.With(0) != (Bound{}) {
		t.Errorf("of the zero vector: %+v", b)
	}
	// Orthogonal to the rows: x = v/λ.
	b := vector(zero, zero, 9)
	if b.NormEst != 3 || !(b.NormLow < 3) || !(b.NormLow > 3-1e-6) || !(b.Relative < 1e-12) || b.Relative != b.Numerator/b.NormLow {
		t.Errorf("orthogonal: %+v", b)
	}
	if b := b.With(4); b.NormEst != 2 || !(b.NormLow < 2) || !(b.NormLow > 2-1e-12) || b.Relative != b.Numerator/b.NormLow {
		t.Errorf("orthogonal with a norm: %+v", b)
	}
	inf := func(what string, b Bound) {
		t.Helper()
		if !math.IsInf(b.Relative, 1) || b.NormLow != 0 {
			t.Errorf("%s: %+v", what, b)
		}
	}
	for _, norm2 := range []float64{0, -1, math.NaN(), math.Inf(1), 1e-30, 1e-300} {
		inf(fmt.Sprint("with ", norm2), b.With(norm2))
	}
	inf("underflow", vector(zero, zero, 1e-300))
	inf("c lost", vector([]float64{math.NaN(), 0}, c, 1))
	inf("c overflowed", vector([]float64{math.Inf(1), 0}, c, 1))
	inf("c large", vector([]float64{1e300, 1e300}, c, 1))
	inf("y overflows", vector(c, []float64{1e308, 1e308}, 1))
	b, err = f.CombinationBoundOf([]float64{math.NaN(), 1})
	must(t, err)
	inf("combination lost", b)
	b, err = f.CombinationBoundOf(zero)
	must(t, err)
	if b != (Bound{}) {
		t.Errorf("of no combination: %+v", b)
	}
}

// Many rows of which each lane of a dot sees one number throughout, another in each row: not multiples
// of one another, but the errors of each dot go one way.
func TestBoundOneNumberALane(t *testing.T) {
	worst, quad := 0.0, 0.0
	for i := range 8 {
		n, d := 20+i%3*10, 1000+8*i
		c := makeCase(uint64(i), "random", vecKinds[i], comKinds[i%5], n, 0, d, math.Pow(10, -float64(i)), Divisor(i%2))
		rng := rand.New(rand.NewPCG(uint64(i), 6))
		for _, g := range c.rows {
			x := normal(rng, 8, 1)
			for j := range g {
				g[j] = 1 + 0.3*x[j%8]
			}
			round32(g)
		}
		c.width = d
		r := c.run(t)
		if w := r.worst(); !r.ill && !(w <= 1) {
			t.Errorf("case %d: %.2g %+v", i, w, r)
		}
		if err := r.check(); !r.ill && err != nil {
			t.Errorf("case %d: %v", i, err)
		}
		worst, quad = max(worst, r.worst()), max(quad, r.quadErr)
	}
	t.Logf("error/bound at most %.2f, ‖x‖² off by %.2g", worst, quad)
}

// Rows that are one number throughout: the errors of all products in a lane go the same way.
func TestBoundOneNumber(t *testing.T) {
	worst, quad := 0.0, 0.0
	for i := range *oneNumber {
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		n, d := 1+rng.IntN(3), 1000+rng.IntN(3000)
		c := makeCase(uint64(i), "random", vecKinds[i%len(vecKinds)], comKinds[i%5], n, 0, d, math.Pow(10, -10*rng.Float64()), Divisor(i%2))
		x := rng.NormFloat64()
		for _, g := range c.rows {
			if i%4 == 0 {
				x = rng.NormFloat64()
			}
			for j := range g {
				g[j] = x
			}
			round32(g)
		}
		if i%3 == 0 {
			for j := range c.v {
				c.v[j] = x
			}
		}
		c.width = d
		r := c.run(t)
		if w := r.worst(); !r.ill && !(w <= 1) {
			t.Errorf("case %d: %.2g %+v", i, w, r)
		}
		worst, quad = max(worst, r.worst()), max(quad, r.quadErr)
	}
	t.Logf("error/bound at most %.2f, ‖x‖² off by %.2g", worst, quad)
}

func drawCase(t *rapid.T) (*boundCase, string) {
	n := rapid.OneOf(rapid.IntRange(0, 8), rapid.IntRange(0, 8), rapid.IntRange(9, 70)).Draw(t, "n")
	before := rapid.IntRange(0, 20+n).Draw(t, "before")
	if n == 0 {
		before = 0
	}
	d := rapid.IntRange(1, 40+n).Draw(t, "d")
	damping := math.Pow(10, rapid.Float64Range(-10, 0).Draw(t, "log λ"))
	rk, vk, ck := rapid.SampledFrom(rowKinds).Draw(t, "rows"), rapid.SampledFrom(vecKinds).Draw(t, "v"), rapid.SampledFrom(comKinds).Draw(t, "a")
	div := Divisor(rapid.IntRange(0, 1).Draw(t, "divisor"))
	seed := rapid.Uint64().Draw(t, "seed")
	return makeCase(seed, rk, vk, ck, n, before, d, damping, div), fmt.Sprintf("%s, v %s, a %s", rk, vk, ck)
}

func TestBoundRapid(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, name := drawCase(rt)
		r := c.run(t)
		if r.ill {
			return
		}
		if w := r.worst(); !(w <= 1) {
			rt.Fatalf("%s: error/bound %.2g: %+v", name, w, r)
		}
		if err := r.check(); err != nil {
			rt.Fatalf("%s: %v", name, err)
		}
	})
}

// TestBoundSearch looks for the worst cases: go test -run BoundSearch -v . -bound.search 100000
func TestBoundSearch(t *testing.T) {
	type found struct {
		ratio float64
		what  string
		r     boundResult
	}
	var all []found
	var tight []float64
	ill, quad := 0, 0.0
	kinds := map[string]float64{}
	blindMost := map[string]float64{}
	blind := map[string]int{} // where 32εκ is not a bound
	for i := range *search {
		rng := rand.New(rand.NewPCG(uint64(i), 2))
		n := 1 + rng.IntN(8)
		if rng.IntN(10) == 0 {
			n = 1 + rng.IntN(40)
		}
		before := rng.IntN(3) * rng.IntN(3*n)
		d := 1 + rng.IntN(48)
		if rng.IntN(20) == 0 {
			d = 1 + rng.IntN(1500)
		}
		damping := math.Pow(10, -10*rng.Float64())
		rk, vk, ck := rowKinds[rng.IntN(len(rowKinds))], vecKinds[rng.IntN(len(vecKinds))], comKinds[rng.IntN(len(comKinds))]
		r := makeCase(uint64(i), rk, vk, ck, n, before, d, damping, Divisor(i%2)).run(t)
		if r.ill {
			ill++
			continue
		}
		if r.vecErr > 0 && !math.IsInf(r.vec, 1) {
			tight = append(tight, r.vec/r.vecErr)
		}
		all = append(all, found{r.worst(), fmt.Sprintf("i=%d %s, v %s, a %s n=%d before=%d d=%d λ=%.2g", i, rk, vk, ck, n, before, d, damping), r})
		if r.combErr > r.all {
			blind[ck]++
			blindMost[ck+"/"+rk] = max(blindMost[ck+"/"+rk], r.combErr/r.all)
		}
		kinds[rk] = max(kinds[rk], r.worst())
		quad = max(quad, r.quadErr)
		if w := r.worst(); !(w <= 1) {
			t.Errorf("%s: %.2g %+v", all[len(all)-1].what, w, r)
		}
	}
	if len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b found) int { return -compare(a.ratio, b.ratio) })
	for _, f := range all[:min(15, len(all))] {
		t.Logf("%.3f %s %+v", f.ratio, f.what, f.r)
	}
	for k, v := range kinds {
		t.Logf("at most %.3f with %s rows", v, k)
	}
	t.Logf("‖x‖² off by %.2g at most", quad)
	t.Logf("above 32εκ: %v %.2v", blind, blindMost)
	slices.Sort(tight)
	t.Logf("%d cases, %d ill; bound/error: 1%% %.2g, 10%% %.2g, median %.2g, 90%% %.2g, 99%% %.2g", len(all), ill,
		tight[len(tight)/100], tight[len(tight)/10], tight[len(tight)/2], tight[len(tight)*9/10], tight[len(tight)*99/100])
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
