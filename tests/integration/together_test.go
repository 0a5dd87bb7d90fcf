package integration

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"mfac/client"
	"mfac/wire"
)

// together is a run that has all that can be had together: weights, a half-life, labels, dampings of tensors, rows that were
// forgotten, windows of other sizes; and what it should be.
type together struct {
	*client.Run
	cfg     client.RunConfig
	rows    [][]float32
	given   []float64 // weights, as published
	steps   []wire.Step
	labels  []string
	damping []float64 // of each column, over λ
	newest  wire.Step // published, forgotten or not
}

// togetherOff is what answers may be off by, relative, beside their bounds: cond H is below 1e5 here, and both sides are float64.
const togetherOff = 1e-10

func (x *together) publish(t *testing.T, r *rand.Rand) {
	t.Helper()
	x.newest += wire.Step(1 + r.IntN(3))
	step := x.newest
	g, w, label := normal(r, int(x.cfg.Dim)), math.Exp(r.NormFloat64()), fmt.Sprintf("example %d", step)
	ctx := within(t, time.Minute)
	if _, err := x.Publish(ctx, step, g, client.WithWeight(w), client.WithLabel(label)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Gradient(ctx, g, step); err != nil { // as it is stored
		t.Fatal(err)
	}
	x.rows, x.given, x.steps, x.labels = append(x.rows, g), append(x.given, w), append(x.steps, step), append(x.labels, label)
	x.keep(func(i int) bool { return len(x.rows)-i <= x.cfg.Window })
}

// keep takes rows out of what should be.
func (x *together) keep(stays func(i int) bool) {
	var y together
	for i := range x.rows {
		if stays(i) {
			y.rows, y.given, y.steps, y.labels = append(y.rows, x.rows[i]), append(y.given, x.given[i]), append(y.steps, x.steps[i]), append(y.labels, x.labels[i])
		}
	}
	x.rows, x.given, x.steps, x.labels = y.rows, y.given, y.steps, y.labels
}

// weights is what rows weigh now.
func (x *together) weights() []float64 {
	ws := slices.Clone(x.given)
	for i := range ws {
		if x.cfg.HalfLife != 0 {
			ws[i] *= math.Exp2(-float64(x.steps[len(ws)-1]-x.steps[i]) / x.cfg.HalfLife)
		}
	}
	return ws
}

// reference is the dense H, of blocks.
func (x *together) reference(lambda float64, divisor wire.Divisor, apart func(i, j int) bool) pruneReference {
	p := pruneReference{lambda: lambda, n: float64(x.cfg.Window), apart: apart, over: x.damping}
	if divisor == wire.Count {
		p.n = float64(len(x.rows))
	}
	for i, w := range x.weights() {
		g := widened(x.rows[i])
		floats.Scale(math.Sqrt(w), g)
		p.g = append(p.g, g)
	}
	return p
}

func (x *together) relative(got, want []float64) float64 {
	return floats.Distance(got, want, 2) / floats.Norm(want, 2)
}

// check asks for all that knows blocks, over blocks of every kind, and compares with dense algebra.
func (x *together) check(t *testing.T, what string, r *rand.Rand) {
	t.Helper()
	d := int(x.cfg.Dim)
	all := make([]int, d)
	v := make([]float64, d)
	for j := range v {
		all[j], v[j] = j, r.NormFloat64()
	}
	within_ := func(size int, layout []wire.Tensor) func(i, j int) bool {
		borders := bordersOf(layout, d, size)
		block := func(j int) int {
			b, ok := slices.BinarySearch(borders, j)
			if !ok {
				b--
			}
			return b
		}
		return func(i, j int) bool { return block(i) != block(j) }
	}
	ways := []struct {
		name  string
		opts  []client.QueryOption
		apart func(i, j int) bool
	}{
		{"whole", nil, nil},
		{"tensors", []client.QueryOption{client.WithTensorBlocks()}, within_(d, x.cfg.Layout)},
		{"blocks of 3", []client.QueryOption{client.WithBlocks(3)}, within_(3, x.cfg.Layout)},
		{"blocks of 11 across", []client.QueryOption{client.WithBlocksAcross(11)}, within_(11, nil)},
	}
	if x.cfg.TensorDamping != nil {
		ways = ways[:1]
	}
	for _, way := range ways {
		for _, lambda := range []float64{x.cfg.Damping, 8 * x.cfg.Damping} {
			divisor := x.cfg.Divisor
			opts := slices.Clone(way.opts)
			if lambda != x.cfg.Damping {
				divisor = wire.Count
				opts = append(opts, client.WithDamping(lambda), client.WithDivisor(divisor))
			}
			name := fmt.Sprintf("%s, %s, λ = %g", what, way.name, lambda)
			x.vectors(t, name, x.reference(lambda, divisor, way.apart), all, v, opts)
			x.pruned(t, name, x.reference(lambda, divisor, way.apart), v, opts)
		}
	}
	x.numbers(t, what, v)
}

// vectors compares H⁻¹v, H⁻¹Gᵀa, the diagonal and a sub-block.
func (x *together) vectors(t *testing.T, what string, ref pruneReference, all []int, v []float64, opts []client.QueryOption) {
	t.Helper()
	ctx := within(t, time.Minute)
	d, last := len(all), len(x.rows)-1
	inverse := ref.inverse(t, all)
	times := func(v []float64) []float64 {
		var y mat.VecDense
		y.MulVec(inverse, mat.NewVecDense(d, v))
		return y.RawVector().Data
	}
	near := func(name string, got, want []float64, a client.Answer, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", what, name, err)
		}
		if off := x.relative(got, want); !(off <= togetherOff) {
			t.Errorf("%s: %s is off by %.3g (bound %.3g)", what, name, off, a.Bound())
		}
	}
	got := make([]float64, d)
	a, err := x.IHVP64(ctx, got, v, opts...)
	near("ihvp", got, times(v), a, err)
	a, err = x.IHVPStep64(ctx, got, x.steps[0], opts...)
	near("the oldest step", got, times(widened(x.rows[0])), a, err)
	sum := widened(x.rows[0])
	floats.Scale(-2, sum)
	floats.Add(sum, widened(x.rows[last]))
	a, err = x.IHVPCombine64(ctx, got, []wire.Step{x.steps[0], x.steps[last]}, []float64{-2, 1}, opts...)
	near("a combination", got, times(sum), a, err)
	a, err = x.Diag64(ctx, got, opts...)
	diag := make([]float64, d)
	for j := range diag {
		diag[j] = inverse.At(j, j)
	}
	near("the diagonal", got, diag, a, err)
	index := []int64{0, int64(d - 1), int64(d / 2), int64(d/2 + 1), 0}
	b, a, err := x.Subblock(ctx, index, opts...)
	var want []float64
	for _, i := range index {
		for _, j := range index {
			want = append(want, inverse.At(int(i), int(j)))
		}
	}
	near("a sub-block", b, want, a, err)
}

// pruned compares both rules, with a mask, in steps and by pattern.
func (x *together) pruned(t *testing.T, what string, ref pruneReference, w []float64, opts []client.QueryOption) {
	t.Helper()
	ctx := within(t, time.Minute)
	d := len(w)
	mask := make([]int8, d)
	for j := range mask {
		mask[j] = []int8{0, 0, 1, 0, 0, -1, 0}[j%7]
	}
	got := make([]float64, d)
	for _, rule := range []string{wire.RuleSummed, wire.RuleJoint} {
		for _, p := range []client.Pruning{{Sparsity: 0.5}, {Sparsity: 0.5, Mask: mask}, {Sparsity: 0.6, Mask: mask, Steps: 2}, {Pattern: wire.Pattern{Keep: 1, Of: 2}}} {
			p.Rule = rule
			_, err := x.Prune64(ctx, got, w, p, opts...)
			if err != nil {
				t.Fatalf("%s: %+v: %v", what, p, err)
			}
			want, at, near := slices.Clone(w), slices.Clone(p.Mask), false
			if at == nil {
				at = make([]int8, d)
			}
			kept := 1 - float64(count(at, wire.MaskPruned))/float64(d)
			for step := 1; step <= max(1, p.Steps); step++ {
				var chosen []int
				var scores []float64
				if p.Pattern.Of > 0 {
					chosen, _, near = ref.patternChoice(t, want, at, x.cfg.Layout, p.Pattern)
				} else {
					sparsity := p.Sparsity
					if step < p.Steps {
						sparsity = 1 - kept*math.Pow((1-p.Sparsity)/kept, float64(step)/float64(p.Steps))
					}
					chosen, scores = ref.choice(t, want, at, sparsity)
					near = near || nearTie(want, at, scores, chosen)
				}
				want = ref.pruned(t, want, at, chosen, rule)
				for _, j := range chosen {
					at[j] = wire.MaskPruned
				}
			}
			if near {
				t.Errorf("%s: %+v: scores too near to each other: take other weights", what, p)
				continue
			}
			for j := range want {
				if (want[j] == 0) != (got[j] == 0) {
					t.Fatalf("%s: %+v: weight %d is %g, want %g", what, p, j, got[j], want[j])
				}
			}
			if off := x.relative(got, want); !(off <= togetherOff) {
				t.Errorf("%s: %+v is off by %.3g", what, p, off)
			}
		}
	}
}

// numbers compares a prescribed change, scores, pairs and influence, of the whole of H; labels come with them.
func (x *together) numbers(t *testing.T, what string, v []float64) {
	t.Helper()
	ctx := within(t, time.Minute)
	d := len(v)
	ref := x.reference(x.cfg.Damping, x.cfg.Divisor, nil)
	all, fixed, delta := make([]int, d), make([]bool, d), make([]float64, d)
	var set, rest []int
	for j := range all {
		if all[j] = j; j%3 == 1 {
			fixed[j], delta[j], set = true, v[j], append(set, j)
		} else {
			rest = append(rest, j)
		}
	}
	got, want := make([]float64, d), slices.Clone(delta)
	if _, err := x.Compensate64(ctx, got, delta, fixed); err != nil {
		t.Fatalf("%s: compensate: %v", what, err)
	}
	for i, c := range ref.compensated(t, delta, set, rest) {
		want[rest[i]] = c
	}
	if off := x.relative(got, want); !(off <= togetherOff) {
		t.Errorf("%s: a prescribed change is off by %.3g", what, off)
	}

	inverse := ref.inverse(t, all)
	form := func(u, v []float64) float64 { return mat.Inner(mat.NewVecDense(d, u), inverse, mat.NewVecDense(d, v)) }
	s, err := x.Scores64(ctx, [][]float64{v})
	if err != nil {
		t.Fatal(err)
	}
	self, err := x.SelfInfluence(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p, err := x.Pairs64(ctx, [][]float64{v, widened(x.rows[0])}, [][2]int{{0, 0}, {1, 0}})
	if err != nil {
		t.Fatal(err)
	}
	at, err := x.Labels(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, labels := range map[string][]string{"scores": s.Labels, "influence": self.Labels, "the window": at.Labels} {
		if !slices.Equal(labels, x.labels) {
			t.Errorf("%s: labels of %s are %q, want %q", what, name, labels, x.labels)
		}
	}
	if !slices.Equal(s.Steps, x.steps) || !slices.Equal(self.Steps, x.steps) {
		t.Errorf("%s: steps %v and %v, want %v", what, s.Steps, self.Steps, x.steps)
	}
	vv := form(v, v)
	near := func(name string, got, want, size float64) {
		t.Helper()
		if !(math.Abs(got-want) <= togetherOff*size) {
			t.Errorf("%s: %s is %g, want %g", what, name, got, want)
		}
	}
	near("vᵀH⁻¹v", p.Values[0], vv, vv)
	near("gᵀH⁻¹v", p.Values[1], form(widened(x.rows[0]), v), vv)
	for i, g := range x.rows {
		g := widened(g)
		h := form(g, g)
		near("a score", s.Scores[0][i], form(g, v), math.Sqrt(vv*h))
		near("self-influence", self.Self[i], h, h)
		near("left out", self.Out[i], h/(1-x.weights()[i]*h/ref.n), self.Out[i])
	}
}

// TestTogether: weights, half-lives, labels, dampings of tensors, lossy rows, forgetting, windows of other sizes, takeovers, frozen
// runs, blocks, masks, steps and patterns, all of them in one run: dense float64 algebra says the same.
func TestTogether(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	layout := []wire.Tensor{{Name: "w", Shape: []int64{3, 7}}, {Name: "b", Shape: []int64{2}, Offset: 21}, {Name: "k", Shape: []int64{2, 10}, Offset: 23}}
	const d = 43
	for i, cfg := range []client.RunConfig{
		{HalfLife: 5, Divisor: wire.Count, Store: wire.F16, Shards: 3},
		{HalfLife: 30, Divisor: wire.Capacity, Shards: 2},
		{HalfLife: 5, Divisor: wire.Capacity, Store: wire.BF16, Shards: 3, TensorDamping: map[string]float64{"w": 0.5, "b": 0.01}},
	} {
		r := rand.New(rand.NewPCG(uint64(i), 40))
		cfg.Name, cfg.Dim, cfg.Window, cfg.Damping, cfg.Layout = fmt.Sprintf("together-%d", i), d, 8, 0.05, layout
		x := &together{Run: c.attach(cl, cfg), cfg: cfg, damping: slices.Repeat([]float64{1}, d)}
		if cfg.TensorDamping != nil {
			for j := range x.damping {
				switch {
				case j < 21:
					x.damping[j] = 10
				case j < 23:
					x.damping[j] = 0.2
				}
			}
		}
		ctx := within(t, time.Minute)
		resize := func(m int) {
			t.Helper()
			if _, err := x.Resize(ctx, m); err != nil {
				t.Fatal(err)
			}
			n := len(x.rows)
			x.cfg.Window = m
			x.keep(func(i int) bool { return n-i <= m })
		}
		forget := func(rows ...int) {
			t.Helper()
			var steps []wire.Step
			for _, i := range rows {
				steps = append(steps, x.steps[i])
			}
			if _, err := x.Forget(ctx, steps...); err != nil {
				t.Fatal(err)
			}
			x.keep(func(i int) bool { return !slices.Contains(rows, i) })
		}
		for range 10 {
			x.publish(t, r)
		}
		forget(1, len(x.rows)-1)
		resize(5)
		x.publish(t, r)
		resize(9)
		x.publish(t, r)
		x.publish(t, r)
		x.check(t, cfg.Name, r)

		c.crashCoordinator("c0")
		c.startCoordinator("c0")
		x.publish(t, r)
		if _, err := x.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		x.check(t, cfg.Name+", frozen by the next owner", r)
		if _, err := x.Resize(ctx, 4); !errors.Is(err, &wire.Error{Code: wire.CodeFrozen}) {
			t.Errorf("%s: resize of a frozen run: %v", cfg.Name, err)
		}
		if _, err := x.Publish(ctx, x.newest+1, x.rows[0]); !errors.Is(err, &wire.Error{Code: wire.CodeFrozen}) {
			t.Errorf("%s: publish to a frozen run: %v", cfg.Name, err)
		}
		forget(0) // thaws it
		x.publish(t, r)
		x.check(t, cfg.Name+", thawed by forgetting", r)
	}
}
