package window

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
)

// A boundCase is a window and what is asked of it. All rows have passed through the window, the
// last ones are in it.
type boundCase struct {
	rows     [][]float64 // float32 values
	v, a     []float64   // a: a combination, of as many as are in the window
	capacity int
	damping  float64
	divisor  Divisor
	width    int       // of a shard
	weights  []float64 // of all rows, as they come; nil: 1
	fade     float64   // what the weights of those before are multiplied by at each; 0: 1
}

// A boundResult holds true errors and the bounds of them.
type boundResult struct {
	ill                 bool
	vecErr, combErr     float64
	vec, vecWith        float64
	comb, combWith, all float64
	hard                hardness
	quadErr             float64
}

func (c *boundCase) inWindow() [][]float64 {
	return c.rows[max(0, len(c.rows)-c.capacity):]
}

func (c *boundCase) dot(x, y []float64) float64 { return shardDot(x, y, c.width) }

// weightsAt is the weights of those in the window when so many rows have come.
func (c *boundCase) weightsAt(n int) []float64 {
	if c.weights == nil {
		return nil
	}
	ws := slices.Clone(c.weights[max(0, n-c.capacity):n])
	if c.fade != 0 {
		f := 1.0
		for i := range slices.Backward(ws) {
			ws[i] *= f
			f *= c.fade
		}
	}
	return ws
}

// exact is the reference for the window.
func (c *boundCase) exact(n int) *exact {
	return newWeighted(c.inWindow(), n, c.damping, c.weightsAt(len(c.rows)))
}

// feed passes rows through a window: Append, then Replace.
func (c *boundCase) feed(t failer) *Window {
	t.Helper()
	w, err := New(c.capacity, c.damping, c.divisor)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range c.rows {
		weights := c.weightsAt(i + 1)
		from := max(0, i+1-c.capacity)
		row := make([]float64, 0, c.capacity)
		for _, h := range c.rows[from : i+1] {
			row = append(row, c.dot(h, g))
		}
		if i < c.capacity {
			err = w.AppendWeighted(row, weights)
		} else {
			err = w.ReplaceWeighted(row, weights)
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // so that the factor is there, as it is in a run
			_, _ = w.Factor(c.damping, c.divisor)
		}
	}
	return w
}

func (c *boundCase) run(t failer) (r boundResult) {
	t.Helper()
	w, g := c.feed(t), c.inWindow()
	f, err := w.Factor(c.damping, c.divisor)
	if errors.Is(err, ErrIllConditioned) {
		return boundResult{ill: true}
	}
	must(t, err)
	ref := c.exact(f.N())

	y := make([]float64, len(g))
	for i := range g {
		y[i] = c.dot(g[i], c.v)
	}
	k := make([]float64, len(g))
	must(t, f.SolveTo(k, y))
	x := combine(c.v, g, k, -1)
	b, err := f.VectorBound(k, y, c.dot(c.v, c.v))
	must(t, err)
	r.vec, r.vecWith = b.Relative, b.With(c.dot(x, x)).Relative
	want := ref.vector(c.v)
	lam := num(c.damping)
	for j := range x {
		x[j] /= c.damping
		want[j].Quo(want[j], lam)
	}
	r.vecErr = relative(x, want)
	hard := newGauge(f, ref)
	r.quad(b, want, w, k, math.Sqrt(c.dot(c.v, c.v)), c.damping)
	r.hard.vec, r.hard.vecFactor = hard.vector(k, math.Sqrt(c.dot(c.v, c.v)), c.damping*length(want))

	must(t, f.CombinationTo(k, c.a))
	x = combine(make([]float64, len(c.v)), g, k, 1)
	b, err = f.CombinationBoundOf(k)
	must(t, err)
	r.comb, r.combWith = b.Relative, b.With(c.dot(x, x)).Relative
	r.all = f.CombinationBound()
	want = ref.combination(c.a, len(c.v), f.N())
	r.combErr = relative(x, want)
	r.quad(b, want, w, k, 0, 1)
	r.hard.comb, r.hard.combFactor = hard.combination(k, length(want))
	return r
}

// quad notes by how much ‖λx‖² from scalars is off, in ε(‖v‖ + T)².
func (r *boundResult) quad(b Bound, x []*big.Float, w *Window, c []float64, v, damping float64) {
	t := v
	for i := range c {
		t += math.Abs(c[i]) * math.Sqrt(w.At(i, i))
	}
	if t == 0 || b.NormEst == 0 {
		return
	}
	size := damping * length(x)
	r.quadErr = max(r.quadErr, math.Abs(b.NormEst-size)*(b.NormEst+size)/(epsilon*t*t))
}

// worst is the largest ratio of an error to its bound.
func (r boundResult) worst() float64 {
	w := 0.0
	for _, p := range [][2]float64{{r.vecErr, r.vec}, {r.vecErr, r.vecWith}, {r.combErr, r.comb}, {r.combErr, r.combWith}} {
		if p[0] == 0 || math.IsInf(p[1], 1) {
			continue
		}
		if !(p[0]/p[1] <= w) { // NaN too
			w = p[0] / p[1]
		}
	}
	return w
}

var (
	rowKinds = []string{"random", "duplicates", "zero rows", "row×1e4", "row×1e-4", "nearly equal", "all nearly equal",
		"sum of two", "large twice", "positive", "constant", "sparse", "mixed scales", "two bundles", "sizes and twice"}
	vecKinds = []string{"random", "stored", "combination", "orthogonal", "nearly stored", "zero", "unit", "difference", "random float64"}
	comKinds = []string{"unit", "random", "difference", "mean", "decaying"}
)

func round32(x []float64) {
	for i, v := range x {
		x[i] = float64(float32(v))
	}
}

func addTo(x []float64, c float64, y []float64) {
	for i, v := range y {
		x[i] += c * v
	}
}

func normal(rng *rand.Rand, d int, scale float64) []float64 {
	x := make([]float64, d)
	for i := range x {
		x[i] = scale * rng.NormFloat64()
	}
	return x
}

// makeCase makes a case with n rows in the window after `before` others.
func makeCase(seed uint64, rowKind, vecKind, comKind string, n, before, d int, damping float64, div Divisor) *boundCase {
	rng := rand.New(rand.NewPCG(seed, 1))
	total := n + before
	scale := math.Pow(10, rng.Float64()*6-3)
	rows := make([][]float64, total)
	base := normal(rng, d, scale)
	small := normal(rng, d, scale*math.Pow(10, -3*rng.Float64()))
	for i := range rows {
		r := normal(rng, d, scale)
		prev := r
		if i > 0 {
			prev = rows[i-1]
		}
		some := rng.IntN(3) == 0
		switch rowKind {
		case "duplicates":
			if some {
				copy(r, prev)
			}
		case "zero rows":
			if some {
				clear(r)
			}
		case "row×1e4", "large twice":
			if some {
				for j := range r {
					r[j] *= 1e4
				}
				if rowKind == "large twice" && i > 0 {
					rows[i-1] = append([]float64(nil), r...)
				}
			}
		case "row×1e-4":
			if some {
				for j := range r {
					r[j] *= 1e-4
				}
			}
		case "nearly equal":
			if some {
				for j := range r {
					r[j] = prev[j] * (1 + 1e-6*rng.NormFloat64())
				}
			}
		case "all nearly equal":
			e := math.Pow(10, -1-6*rng.Float64())
			for j := range r {
				r[j] = base[j] * (1 + e*rng.NormFloat64())
			}
		case "sum of two":
			if i%3 == 2 {
				copy(r, prev)
				addTo(r, 1, rows[i-2])
			}
		case "positive":
			for j := range r {
				r[j] = math.Abs(r[j])
			}
		case "constant":
			c := float64(1 + rng.IntN(3))
			for j := range r {
				r[j] = scale * (c + float64(j%2)*1e-3)
			}
		case "sizes and twice":
			size := math.Pow(1e4, float64(rng.IntN(3)-1))
			for j := range r {
				r[j] *= size
			}
			if some && i > 0 {
				copy(r, rows[rng.IntN(i)])
			}
		case "sparse":
			for j := range r {
				if rng.IntN(4) > 0 {
					r[j] = 0
				}
			}
		case "mixed scales":
			for j := range r {
				r[j] *= math.Pow(10, float64((i+j)%9)-4)
			}
		case "two bundles": // ±: partial sums of a combination far exceed the whole
			for j := range r {
				r[j] = 1e-4 * r[j]
			}
			addTo(r, 1, base)
			addTo(r, float64(1-2*(2*i/total)), small)
		}
		rows[i] = r
	}
	for _, r := range rows {
		round32(r)
	}
	c := &boundCase{rows: rows, capacity: max(n, 1), damping: damping, divisor: div, width: max(1, (d+1)/2)}
	if before == 0 && rng.IntN(3) == 0 {
		c.capacity += rng.IntN(4)
	}
	in := c.inWindow()
	c.v = normal(rng, d, 1)
	if n > 0 {
		pick := in[rng.IntN(n)]
		switch vecKind {
		case "stored":
			copy(c.v, pick)
		case "combination":
			clear(c.v)
			for _, r := range in {
				addTo(c.v, rng.NormFloat64(), r)
			}
		case "orthogonal": // as well as float32 can be
			for range 3 {
				for range 20 {
					for _, r := range in {
						if q := c.dot(r, r); q > 0 {
							addTo(c.v, -c.dot(r, c.v)/q, r)
						}
					}
				}
			}
		case "nearly stored":
			for j := range c.v {
				c.v[j] = pick[j] * (1 + 1e-5*c.v[j])
			}
		case "difference":
			copy(c.v, pick)
			addTo(c.v, -1, in[rng.IntN(n)])
		}
	}
	if c.dot(c.v, c.v) < 1e-200 { // beside rows that span all columns nothing is left
		clear(c.v)
	}
	switch vecKind {
	case "zero":
		clear(c.v)
	case "unit":
		clear(c.v)
		c.v[rng.IntN(d)] = 1
	}
	if vecKind != "random float64" && (vecKind != "orthogonal" || rng.IntN(2) == 0) {
		round32(c.v)
	}
	c.a = make([]float64, n)
	for i := range c.a {
		switch comKind {
		case "random":
			c.a[i] = rng.NormFloat64()
		case "mean":
			c.a[i] = 1 / float64(n)
		case "decaying":
			c.a[i] = 0.1 * math.Pow(0.9, float64(n-1-i))
		case "difference":
			c.a[i] = float64(1 - 2*(i%2))
		}
	}
	if n > 0 && comKind == "unit" {
		c.a[rng.IntN(n)] = 1
	}
	return c
}
