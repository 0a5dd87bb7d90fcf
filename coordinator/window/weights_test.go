package window

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// weightKinds are weights of rows as they come, and what those before are multiplied by at each.
var weightKinds = map[string]func(rng *rand.Rand, n int) ([]float64, float64){
	"twos":      func(_ *rand.Rand, n int) ([]float64, float64) { return slices.Repeat([]float64{2}, n), 1 },
	"random":    func(rng *rand.Rand, n int) ([]float64, float64) { return spread(rng, n, 1), 1 },
	"wide":      func(rng *rand.Rand, n int) ([]float64, float64) { return spread(rng, n, 12), 1 },
	"half-life": func(_ *rand.Rand, n int) ([]float64, float64) { return slices.Repeat([]float64{1}, n), math.Exp2(-0.3) },
	"both":      func(rng *rand.Rand, n int) ([]float64, float64) { return spread(rng, n, 3), 0.01 },
}

// spread is n numbers from 10^-decades to 10^decades.
func spread(rng *rand.Rand, n int, decades float64) []float64 {
	ws := make([]float64, n)
	for i := range ws {
		ws[i] = math.Pow(10, decades*(2*rng.Float64()-1))
	}
	return ws
}

// All bounds hold with weights, in the worst cases that they hold in without.
func TestWeightedBounds(t *testing.T) {
	seed, cases, ill, worst := uint64(0), 0, 0, 0.0
	for _, name := range []string{"twos", "random", "wide", "half-life", "both"} {
		for _, rk := range rowKinds {
			for _, damping := range []float64{1e-10, 1e-7, 1e-4, 1} {
				seed++
				n := 1 + int(seed%8)
				c := makeCase(seed, rk, vecKinds[seed%uint64(len(vecKinds))], comKinds[seed%uint64(len(comKinds))], n, int(seed%3)*n, n+int(seed%33), damping, Divisor(seed%2))
				c.weights, c.fade = weightKinds[name](rand.New(rand.NewPCG(seed, 1)), len(c.rows))
				what := fmt.Sprintf("%s, %s, n=%d, λ=%g, seed %d", name, rk, n, damping, seed)
				r, s := c.run(t), c.runScores(t)
				cases++
				if r.ill {
					ill++
					continue
				}
				worst = max(worst, r.worst(), s.max())
				if !(r.worst() <= 1) || !(s.max() <= 1) {
					t.Errorf("%s: errors over bounds %.2g and %.2g: %+v, %+v", what, r.worst(), s.max(), r, s)
				}
				if err := c.runDiag(t).check(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	}
	t.Logf("%d cases, %d ill-conditioned; error/bound at most %.2g", cases, ill, worst)
	if ill > cases/4 {
		t.Errorf("%d of %d cases are ill-conditioned", ill, cases)
	}
}

func TestWeightedBoundsRapid(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, name := drawCase(rt)
		if len(c.rows) == 0 {
			return
		}
		kind := rapid.SampledFrom([]string{"twos", "random", "wide", "half-life", "both"}).Draw(rt, "weights")
		c.weights, c.fade = weightKinds[kind](rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "weight seed"), 1)), len(c.rows))
		r, few := c.run(rt), *c
		if n := len(c.rows) - 24; len(c.inWindow()) > 24 { // as in TestScoresRapid
			few.rows, few.weights, few.capacity = c.rows[n:], c.weights[n:], 24
		}
		s := few.runScores(rt)
		if !(r.worst() <= 1) || !(s.max() <= 1) {
			rt.Fatalf("%s, %s: %+v, %+v", name, kind, r, s)
		}
		if err := c.runDiag(rt).check(); err != nil {
			rt.Fatalf("%s, %s: %v", name, kind, err)
		}
	})
}

// Ones, given or not, are the same bits in all that is answered.
func TestWeightOneIsNone(t *testing.T) {
	for seed := range uint64(20) {
		c := makeCase(seed, rowKinds[seed%uint64(len(rowKinds))], "random", "random", 6, 9, 20, 1e-4, Divisor(seed%2))
		r, s := c.run(t), c.runScores(t)
		c.weights, c.fade = slices.Repeat([]float64{1}, len(c.rows)), 1
		if got := c.run(t); got != r {
			t.Errorf("seed %d: %+v, without weights %+v", seed, got, r)
		}
		if got := c.runScores(t); got != s {
			t.Errorf("seed %d: %+v, without weights %+v", seed, got, s)
		}
	}
}

// The rows √w g without weights have the same H: for powers of 4, whose roots are exact, to the rounding
// errors of K. So do w copies of a row of weight w.
func TestWeightIsScaleAndCopies(t *testing.T) {
	const tol = 1e-12 // cond K is below 1e3: 12 rows, and a damping of a thousandth of their size
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		n, d := 6, 30
		g, weights := make([][]float64, n), make([]float64, n)
		var scaled, copies [][]float64
		for i := range g {
			g[i] = normal(rng, d, 1)
			round32(g[i])
			weights[i] = []float64{1, 4, 0.25}[rng.IntN(3)]
			s := slices.Clone(g[i])
			for j := range s {
				s[j] *= math.Sqrt(weights[i])
			}
			scaled = append(scaled, s)
			for range int(4 * weights[i]) { // of a window that counts four times as many
				copies = append(copies, g[i])
			}
		}
		v := normal(rng, d, 1)
		answer := func(g [][]float64, weights []float64, divisor int) []float64 {
			w := loaded(t, g, divisor, 1e-2, Capacity)
			must(t, w.SetWeights(weights))
			y := make([]float64, len(g))
			for i := range g {
				y[i] = shardDot(g[i], v, d)
			}
			must(t, w.SolveTo(y, y))
			return combine(v, g, y, -1)
		}
		want := bigs(answer(g, weights, 100))
		if off := relative(answer(scaled, nil, 100), want); !(off <= tol) {
			t.Errorf("seed %d: scaled rows are off by %.3g", seed, off)
		}
		if off := relative(answer(copies, nil, 400), want); !(off <= tol) {
			t.Errorf("seed %d: copies are off by %.3g", seed, off)
		}
	}
}

// Updates with weights are the factor of a window made anew, within its bound, whatever came before.
func TestWeightedUpdates(t *testing.T) {
	const tol = 1e-11 // of numbers of size 1, cond K below 1e6
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 3))
		m, d := rapid.IntRange(1, 8).Draw(rt, "m"), 20
		w, err := New(m, 1e-3, Divisor(rapid.IntRange(0, 1).Draw(rt, "divisor")))
		must(rt, err)
		var g [][]float64
		var weights []float64
		for range rapid.IntRange(1, 30).Draw(rt, "changes") {
			switch op := rapid.IntRange(0, 5).Draw(rt, "op"); {
			case op == 0 && len(g) > 0:
				i := rng.IntN(len(g))
				must(rt, w.Drop(i))
				g, weights = slices.Delete(g, i, i+1), slices.Delete(weights, i, i+1)
			case op == 1 && len(g) > 1:
				i := rng.IntN(len(g))
				must(rt, w.Erase([]int{i}))
				g, weights = slices.Delete(g, i, i+1), slices.Delete(weights, i, i+1)
			case op == 2 && len(g) > 0:
				for i := range weights {
					weights[i] *= 0.5
				}
				must(rt, w.SetWeights(weights))
			default:
				x := normal(rng, d, 1/math.Sqrt(float64(d)))
				full := len(g) == m
				if full {
					g, weights = g[1:], weights[1:]
				}
				if op == 3 { // a half-life
					for i := range weights {
						weights[i] *= 0.9
					}
				}
				g, weights = append(slices.Clone(g), x), append(slices.Clone(weights), []float64{1, 1, 0.5, 3}[rng.IntN(4)])
				row := make([]float64, len(g))
				for i := range g {
					row[i] = shardDot(g[i], x, d)
				}
				if full {
					must(rt, w.ReplaceWeighted(row, weights))
				} else {
					must(rt, w.AppendWeighted(row, weights))
				}
			}
			if rng.IntN(2) == 0 {
				_, _ = w.Factor(1e-3, w.Divisor())
			}
			if got := w.Weights(); got != nil && !slices.Equal(got, weights) || w.Len() != len(g) {
				rt.Fatalf("weights are %v, want %v", got, weights)
			}
		}
		if len(g) == 0 {
			return
		}
		fresh := loaded(rt, g, m, 1e-3, w.Divisor())
		must(rt, fresh.SetWeights(weights))
		y := normal(rng, len(g), 1)
		got, want := make([]float64, len(y)), make([]float64, len(y))
		must(rt, w.Clone().SolveTo(got, y))
		must(rt, fresh.SolveTo(want, y))
		if off := relative(got, bigs(want)); !(off <= tol) {
			rt.Fatalf("off by %.3g", off)
		}
	})
}

func TestWeightsRefused(t *testing.T) {
	w := loaded(t, [][]float64{{1, 0}, {1, 1}}, 3, 1e-3, Capacity)
	must(t, w.SetWeights([]float64{2, 3}))
	for _, bad := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		for what, err := range map[string]error{
			"set":     w.SetWeights([]float64{1, bad}),
			"append":  w.AppendWeighted([]float64{1, 1, 1}, []float64{2, 3, bad}),
			"replace": w.ReplaceWeighted([]float64{1, 1}, []float64{3, bad}),
			"length":  w.SetWeights([]float64{1}),
		} {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s with %g: %v", what, bad, err)
			}
		}
	}
	if got := w.Weights(); !slices.Equal(got, []float64{2, 3}) || w.Len() != 2 || !w.Weighted() {
		t.Errorf("after refusals: %v", got)
	}
	must(t, w.Append([]float64{1, 1, 1}))
	if got := w.Weights(); !slices.Equal(got, []float64{2, 3, 1}) {
		t.Errorf("after an append: %v", got)
	}
	must(t, w.SetWeights(nil))
	if w.Weighted() || w.Weight(0) != 1 || w.Weights() != nil {
		t.Error("ones are weights")
	}
}
