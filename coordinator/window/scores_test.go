package window

import (
	"errors"
	"flag"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

var scoresSearch = flag.Int("scores.search", 0, "random cases of TestScoresSearch")

// worstScores is the largest ratios of errors to bounds of all that scores.go and influence.go answer,
// against exact arithmetic, and whether K was refused.
type worstScores struct {
	ill                              bool
	scores, pairs, rows, self, out   float64
	relScores, relPair, relOut, rel1 float64 // bounds, relative to the answer
	unbounded                        int
}

func (w worstScores) max() float64 { return max(w.scores, w.pairs, w.rows, w.self, w.out) }

// ratio is error/bound; NaN and an error above a bound of 0 are Inf.
func ratio(off, bound float64) float64 {
	if off == 0 || math.IsInf(bound, 1) {
		return 0
	}
	if r := off / bound; r >= 0 {
		return r
	}
	return math.Inf(1)
}

func offOf(got float64, want *big.Float) float64 {
	d, _ := num(0).Sub(num(got), want).Float64()
	return math.Abs(d)
}

func (c *boundCase) runScores(t failer) (r worstScores) {
	t.Helper()
	w, g := c.feed(t), c.inWindow()
	f, err := w.Factor(c.damping, c.divisor)
	if errors.Is(err, ErrIllConditioned) {
		return worstScores{ill: true}
	}
	must(t, err)
	n := len(g)
	if n == 0 {
		return r
	}
	ref := c.exact(f.N())
	N, lam := num(float64(f.N())), num(c.damping)
	weights := c.weightsAt(len(c.rows))

	// scores of a vector
	scoresOf := func(v []float64) []*big.Float {
		x := bigs(v)
		y := make([]*big.Float, n)
		for i := range g {
			y[i] = ref.dot(ref.g[i], x)
		}
		ref.solve(y)
		for i := range y {
			y[i].Mul(y[i], ref.over(N, i))
		}
		return y
	}
	products := func(v []float64) []float64 {
		y := make([]float64, n)
		for i := range g {
			y[i] = c.dot(g[i], v)
		}
		return y
	}
	got := make([]float64, n)
	b, err := f.ScoresTo(got, products(c.v), c.dot(c.v, c.v))
	must(t, err)
	r.scores = ratio(relative(rooted(got, scoresOf(c.v), weights)), b.Relative)
	if r.relScores = b.Relative; math.IsInf(b.Relative, 1) {
		r.unbounded++
	}

	// pairs of the vector, a row and another vector
	other := make([]float64, len(c.v))
	for j := range other {
		other[j] = float64(j%5) - 1.5
	}
	list := [][]float64{c.v, g[0], other}
	sides := make([]*Side, len(list))
	exacts := make([][]*big.Float, len(list)) // λH⁻¹v
	for i, v := range list {
		sides[i], err = f.Side(products(v), c.dot(v, v))
		must(t, err)
		exacts[i] = ref.vector(v)
	}
	for i := range list {
		for j := range list {
			value, bound := f.PairOf(sides[i], sides[j], c.dot(list[i], list[j]))
			want := ref.dot(bigs(list[i]), exacts[j])
			want.Quo(want, lam)
			r.pairs = max(r.pairs, ratio(offOf(value, want), bound))
			if i == 0 && j == 0 {
				r.relPair = bound / math.Abs(value)
			}
		}
	}

	// rows on each other
	for i := range g {
		want := scoresOf(g[i])
		bound, err := f.InfluenceTo(got, i)
		must(t, err)
		diff := num(0)
		for j := range got {
			d := num(0).Sub(num(got[j]), want[j])
			diff.Add(diff, d.Mul(d, d))
		}
		off, _ := diff.Float64()
		r.rows = max(r.rows, ratio(math.Sqrt(off), bound))
		self, selfBound, out, outBound, err := f.SelfInfluence(i)
		must(t, err)
		r.self = max(r.self, ratio(offOf(self, want[i]), selfBound))
		// h/(1 − h/N)
		rest := num(1)
		rest.Sub(rest, num(0).Quo(want[i], ref.over(N, i)))
		left := num(0).Quo(want[i], rest)
		r.out = max(r.out, ratio(offOf(out, left), outBound))
		if want[i].Sign() != 0 {
			r.relOut = max(r.relOut, outBound/out)
			r.rel1 = max(r.rel1, selfBound/self)
		}
	}
	return r
}

// rooted is scores times the roots of the weights: so their bound is meant.
func rooted(got []float64, want []*big.Float, weights []float64) ([]float64, []*big.Float) {
	if weights == nil {
		return got, want
	}
	g, w := make([]float64, len(got)), make([]*big.Float, len(want))
	for i := range g {
		root := num(math.Sqrt(weights[i]))
		g[i], _ = num(0).Mul(root, num(got[i])).Float64()
		w[i] = num(0).Mul(root, want[i])
	}
	return g, w
}

// Every kind of rows with every kind of vector at four dampings: each error is within its bound.
func TestScoresBound(t *testing.T) {
	seed, cases, ill, worst := uint64(1000), 0, 0, 0.0
	for _, rk := range rowKinds {
		for _, vk := range vecKinds {
			for _, damping := range []float64{1e-10, 1e-7, 1e-4, 1} {
				seed++
				n := 1 + int(seed%7)
				c := makeCase(seed, rk, vk, "unit", n, int(seed%3)*n, n+int(seed%29), damping, Divisor(seed%2))
				r := c.runScores(t)
				if cases++; r.ill {
					ill++
					continue
				}
				if worst = max(worst, r.max()); !(r.max() <= 1) {
					t.Errorf("%s, v %s, n=%d, λ=%g, seed %d: error/bound %.2g: %+v", rk, vk, n, damping, seed, r.max(), r)
				}
			}
		}
	}
	t.Logf("%d cases, %d ill-conditioned, error/bound at most %.2f", cases, ill, worst)
	if ill > cases/4 {
		t.Errorf("%d of %d cases are ill-conditioned", ill, cases)
	}
}

func TestScoresRapid(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, name := drawCase(rt)
		if len(c.inWindow()) > 24 { // each row is a column of A solved exactly
			c.rows, c.capacity = c.rows[len(c.rows)-24:], 24
		}
		if r := c.runScores(t); !r.ill && !(r.max() <= 1) {
			rt.Fatalf("%s: error/bound %.2g: %+v", name, r.max(), r)
		}
	})
}

// In the cases that users have, the bounds are far below anything that matters.
func TestScoresBenign(t *testing.T) {
	const benign = 1e-9 // as TestBoundBenign's
	for i := range 20 {
		n := 1 + i
		for _, vk := range []string{"random", "stored", "combination"} {
			c := makeCase(uint64(i), "random", vk, "unit", n, i%2*n, 200, 1, Count)
			for _, g := range c.rows {
				s := 1 / math.Sqrt(c.dot(g, g))
				for j := range g {
					g[j] *= s
				}
				round32(g)
			}
			c.damping = 1e-3
			if r := c.runScores(t); r.ill || !(max(r.relScores, r.relPair, r.relOut, r.rel1) <= benign) {
				t.Errorf("n=%d, v %s: %+v", n, vk, r)
			}
		}
	}
}

// TestScoresSearch looks for the worst cases: go test -run ScoresSearch -v . -scores.search 10000
func TestScoresSearch(t *testing.T) {
	var worst worstScores
	ill, unbounded := 0, 0
	for i := range *scoresSearch {
		rng := rand.New(rand.NewPCG(uint64(i), 9))
		n := 1 + rng.IntN(8)
		d := 1 + rng.IntN(48)
		rk, vk := rowKinds[rng.IntN(len(rowKinds))], vecKinds[rng.IntN(len(vecKinds))]
		r := makeCase(uint64(i), rk, vk, "unit", n, rng.IntN(3)*rng.IntN(3*n), d, math.Pow(10, -10*rng.Float64()), Divisor(i%2)).runScores(t)
		if r.ill {
			ill++
			continue
		}
		unbounded += r.unbounded
		if !(r.max() <= 1) {
			t.Errorf("i=%d %s, v %s n=%d d=%d: %+v", i, rk, vk, n, d, r)
		}
		worst.scores, worst.pairs, worst.rows = max(worst.scores, r.scores), max(worst.pairs, r.pairs), max(worst.rows, r.rows)
		worst.self, worst.out = max(worst.self, r.self), max(worst.out, r.out)
	}
	t.Logf("%d cases, %d ill, %d unbounded: %+v", *scoresSearch, ill, unbounded, worst)
}

// Rows that are one number throughout: the errors of all products in a lane go the same way.
func TestScoresOneNumber(t *testing.T) {
	worst := 0.0
	for i := range 60 {
		rng := rand.New(rand.NewPCG(uint64(i), 4))
		n, d := 1+rng.IntN(3), 1000+rng.IntN(3000)
		c := makeCase(uint64(i), "random", vecKinds[i%len(vecKinds)], "unit", n, 0, d, math.Pow(10, -10*rng.Float64()), Divisor(i%2))
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
		r := c.runScores(t)
		if !r.ill && !(r.max() <= 1) {
			t.Errorf("case %d: %+v", i, r)
		}
		worst = max(worst, r.max())
	}
	t.Logf("error/bound at most %.2f", worst)
}
