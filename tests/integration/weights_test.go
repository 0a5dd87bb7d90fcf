package integration

import (
	"bytes"
	"context"
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

// finding is numbers that a run has answered, and how far they can be off, in the 2-norm.
type finding struct {
	name  string
	x     []float64
	bound float64
}

// noBound is what numbers without a bound of their own may differ by, relative to the largest: cond H is
// below 1e4 in these tests, and pruning is held to 1e-12 there (docs/pruning.md). residual is what a good
// answer's residual may be, ε cond H.
const (
	noBound  = 1e-11
	residual = 2e-12
)

// everything asks a run all that there is to ask, at the run's damping and another, with what is of stored
// gradients brought to that of the rows √w g: root has their roots, steps are 1, 2, ….
func everything(t *testing.T, run *client.Run, root []float64, v []float64) []finding {
	t.Helper()
	ctx := within(t, time.Minute)
	d, n := int(run.Dim()), len(root)
	var all []finding
	add := func(name string, x []float64, relative float64, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, finding{name, x, relative * floats.Norm(x, 2)})
	}
	newest := wire.Step(1)
	if steps, err := run.Steps(ctx); err != nil {
		t.Fatal(err)
	} else {
		newest = steps.Steps[len(steps.Steps)-1]
	}
	step := func(i int) wire.Step { return newest - wire.Step(n-1-i) }
	for _, lambda := range []float64{0.01, 0.3} {
		opts := []client.QueryOption{client.WithDamping(lambda)}
		vector := func(name string, f func(dst []float64) (client.Answer, error)) {
			t.Helper()
			x := make([]float64, d)
			a, err := f(x)
			add(fmt.Sprintf("%s at %g", name, lambda), x, a.Bound(), err)
		}
		vector("ihvp", func(x []float64) (client.Answer, error) { return run.IHVP64(ctx, x, v, opts...) })
		vector("refined", func(x []float64) (client.Answer, error) {
			a, err := run.IHVP64(ctx, x, v, append(opts, client.WithRefine())...)
			if err == nil && !(a.Residuals[0] <= residual) {
				t.Errorf("a residual of %g", a.Residuals[0])
			}
			return a, err
		})
		vector("verified", func(x []float64) (client.Answer, error) {
			a, err := run.IHVPCombine64(ctx, x, []wire.Step{step(0), step(n - 1)}, []float64{root[0], -root[n-1]}, append(opts, client.WithVerify())...)
			if err == nil && !(a.Residuals[0] <= residual) {
				t.Errorf("a residual of %g", a.Residuals[0])
			}
			return a, err
		})
		vector("refined step", func(x []float64) (client.Answer, error) {
			return run.IHVPCombine64(ctx, x, []wire.Step{step(n / 2)}, []float64{root[n/2]}, append(opts, client.WithRefine())...)
		})
		vector("fvp", func(x []float64) (client.Answer, error) { return run.FisherVec64(ctx, x, v, opts...) })
		vector("hvp", func(x []float64) (client.Answer, error) { return run.HessianVec64(ctx, x, v, opts...) })
		vector("sample", func(x []float64) (client.Answer, error) { return run.Sample64(ctx, x, 7, 3, opts...) })
		vector("root", func(x []float64) (client.Answer, error) { return run.InvSqrt64(ctx, x, v, opts...) })
		vector("diag", func(x []float64) (client.Answer, error) { return run.Diag64(ctx, x, opts...) })
		vector("column", func(x []float64) (client.Answer, error) {
			return run.Columns64(ctx, [][]float64{x}, []int64{2}, opts...)
		})
		for _, size := range []int64{2, 100} {
			blocks := append(opts[:len(opts):len(opts)], client.WithBlocks(size))
			vector("ihvp in blocks", func(x []float64) (client.Answer, error) { return run.IHVP64(ctx, x, v, blocks...) })
			vector("diag in blocks", func(x []float64) (client.Answer, error) { return run.Diag64(ctx, x, blocks...) })
			for _, rule := range []string{wire.RuleSummed, wire.RuleJoint} {
				x := make([]float64, d)
				_, err := run.Prune64(ctx, x, v, client.Pruning{Sparsity: 0.4, Rule: rule}, blocks...)
				add(fmt.Sprintf("prune %s in blocks of %d at %g", rule, size, lambda), x, noBound, err)
			}
		}
		b, a, err := run.Subblock(ctx, []int64{0, 4, 1}, opts...)
		add("subblock", b, a.Bound(), err)
		mask := make([]int8, d)
		mask[1], mask[3] = wire.MaskFixed, wire.MaskPruned
		for _, p := range []client.Pruning{{Sparsity: 0.4}, {Sparsity: 0.4, Rule: wire.RuleJoint}, {Sparsity: 0.5, Rule: wire.RuleJoint, Mask: mask}, {Sparsity: 0.5, Steps: 3}} {
			x := make([]float64, d)
			_, err := run.Prune64(ctx, x, v, p, opts...)
			add(fmt.Sprintf("prune %v at %g", p, lambda), x, noBound, err)
		}
		x, fixed := make([]float64, d), make([]bool, d)
		fixed[0], fixed[d-1] = true, true
		delta := make([]float64, d)
		delta[0], delta[d-1] = v[0], v[d-1]
		_, err = run.Compensate64(ctx, x, delta, fixed, opts...)
		add("compensate", x, noBound, err)

		s, err := run.Scores64(ctx, [][]float64{v}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		floats.Mul(s.Scores[0], root)
		add("scores", s.Scores[0], s.Bound(), nil)
		p, err := run.Pairs64(ctx, [][]float64{v}, [][2]int{{0, 0}}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, finding{"pair", p.Values, p.Bounds[0]})
		in, err := run.Influence(ctx, opts...)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range in.Values {
			floats.Mul(row, root)
			floats.Scale(root[i], row)
			all = append(all, finding{fmt.Sprintf("influence of %d", i), row, in.Bounds[i] * root[i] * slices.Max(root)})
		}
		self, err := run.SelfInfluence(ctx, opts...)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range root {
			all = append(all, finding{"self", []float64{r * r * self.Self[i]}, r * r * self.SelfBound[i]},
				finding{"left out", []float64{r * r * self.Out[i]}, r * r * self.OutBound[i]})
		}
		held, err := run.Likelihoods64(ctx, []float64{lambda}, [][]float64{v})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, finding{"likelihood", held.Values[0], held.Bounds[0][0]})
		left, err := run.LeaveOneOut(ctx, []float64{lambda})
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range left.Values[0] { // without gᵀ(H − w ggᵀ/N)⁻¹g, which is that of a gradient of another length
			all = append(all, finding{"left-out likelihood", []float64{l + self.Out[i]/2}, left.Bounds[0][i] + self.OutBound[i]/2})
		}
	}
	sc, err := run.Scalars(ctx, []float64{0.01, 0.3})
	if err != nil {
		t.Fatal(err)
	}
	estimates := []client.Estimate{sc.Trace, sc.Frobenius, sc.Spectral}
	for _, at := range sc.At {
		estimates = append(estimates, at.LogDet, at.TraceInverse, at.EffectiveDim, at.Largest, at.Smallest, at.CondH, at.CondK)
	}
	for i, e := range estimates {
		all = append(all, finding{fmt.Sprintf("scalar %d", i), []float64{e.Value}, e.Error})
	}
	sp, err := run.Spectrum(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return append(all, finding{"spectrum", sp.Eigenvalues, sp.Error * math.Sqrt(float64(n))})
}

// same holds what two runs answer to be within the bounds of both.
func same(t *testing.T, what string, got, want []finding) {
	t.Helper()
	for i, w := range want {
		g := got[i]
		if off := floats.Distance(g.x, w.x, 2); g.name != w.name || !(off <= g.bound+w.bound) {
			t.Errorf("%s: %s is off by %.3g, bounds %.3g and %.3g", what, w.name, off, g.bound, w.bound)
		}
	}
}

// A weight is what the rows √w g are, in everything that is asked: exactly those rows where the roots are
// powers of two, so that both runs know the same H.
func TestWeightIsScale(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	for i := range 4 {
		r := rand.New(rand.NewPCG(uint64(i), 5))
		d, m := 20+r.IntN(40), 3+r.IntN(8)
		store := []wire.DType{wire.F32, wire.F16}[i%2]
		cfg := client.RunConfig{Dim: int64(d), Window: m, Damping: 0.01, Divisor: []wire.Divisor{wire.Capacity, wire.Count}[i/2], Shards: 1 + i%3, Store: store}
		cfg.Name = fmt.Sprintf("weighted-%d", i)
		weighted := c.attach(cl, cfg)
		cfg.Name = fmt.Sprintf("scaled-%d", i)
		scaled := c.attach(cl, cfg)
		ctx := within(t, time.Minute)
		var root []float64
		for s := range m + 2 {
			g := normal(r, d)
			k := math.Exp2(float64(r.IntN(5) - 2))
			root = append(root, k)
			if _, err := weighted.Publish(ctx, wire.Step(s+1), g, client.WithWeight(k*k)); err != nil {
				t.Fatal(err)
			}
			for j := range g {
				g[j] *= float32(k)
			}
			if _, err := scaled.Publish(ctx, wire.Step(s+1), g); err != nil {
				t.Fatal(err)
			}
		}
		root = root[2:]
		v := widened(normal(r, d))
		same(t, cfg.Name, everything(t, weighted, root, v), everything(t, scaled, slices.Repeat([]float64{1}, m), v))
	}
}

// dense is H of rows with weights.
func dense(rows [][]float32, weights []float64, n int, lambda float64) *mat.SymDense {
	d := len(rows[0])
	h := mat.NewSymDense(d, nil)
	for j := range d {
		h.SetSym(j, j, lambda)
	}
	for i, g := range rows {
		h.SymRankOne(h, weights[i]/float64(n), mat.NewVecDense(d, widened(g)))
	}
	return h
}

// denseOff is what float64 algebra on H may be off by, relative: cond H is below 1e6.
const denseOff = 1e-9

// checkDense compares H⁻¹v, H⁻¹g of the newest, and the diagonal with dense algebra.
func checkDense(t *testing.T, what string, run *client.Run, rows [][]float32, weights []float64, n int, lambda float64, v []float64) {
	t.Helper()
	ctx := within(t, time.Minute)
	d := len(v)
	var chol mat.Cholesky
	if !chol.Factorize(dense(rows, weights, n, lambda)) {
		t.Fatal("H is not positive definite")
	}
	check := func(name string, got []float64, err error, right []float64) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", what, name, err)
		}
		var want mat.VecDense
		if err := chol.SolveVecTo(&want, mat.NewVecDense(d, right)); err != nil {
			t.Fatal(err)
		}
		if off := floats.Distance(got, want.RawVector().Data, 2) / mat.Norm(&want, 2); !(off <= denseOff) {
			t.Errorf("%s: %s is off by %.3g", what, name, off)
		}
	}
	x := make([]float64, d)
	_, err := run.IHVP64(ctx, x, v)
	check("ihvp", x, err, v)
	steps, err := run.Steps(ctx)
	if err != nil || len(steps.Steps) != len(rows) {
		t.Fatalf("%s: steps %v, %v", what, steps.Steps, err)
	}
	_, err = run.IHVPStep64(ctx, x, steps.Steps[len(rows)-1])
	check("newest", x, err, widened(rows[len(rows)-1]))
	if len(rows) > 1 {
		_, err = run.IHVPStep64(ctx, x, steps.Steps[0])
		check("oldest", x, err, widened(rows[0]))
	}
	var inverse mat.SymDense
	if err := chol.InverseTo(&inverse); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Diag64(ctx, x); err != nil {
		t.Fatal(err)
	}
	for j := range x {
		if want := inverse.At(j, j); !(math.Abs(x[j]-want) <= denseOff*want) {
			t.Errorf("%s: element %d of the diagonal is %g, want %g", what, j, x[j], want)
		}
	}
}

// Weights and half-lives of any size, against dense algebra, with takeovers and forgetting between.
func TestWeightsDense(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	for i, halfLife := range []float64{0, 0.7, 4} {
		r := rand.New(rand.NewPCG(uint64(i), 6))
		d, m := 25, 5
		cfg := client.RunConfig{Name: fmt.Sprintf("dense-%d", i), Dim: int64(d), Window: m, Damping: 0.05, Divisor: []wire.Divisor{wire.Capacity, wire.Count, wire.Capacity}[i], HalfLife: halfLife, Shards: 2}
		run := c.attach(cl, cfg)
		ctx := within(t, time.Minute)
		var rows [][]float32
		var given []float64
		var steps []wire.Step
		v := widened(normal(r, d))
		check := func(what string) {
			t.Helper()
			ws := make([]float64, len(rows))
			for k := range ws {
				ws[k] = given[k]
				if halfLife != 0 {
					ws[k] *= math.Exp2(-float64(steps[len(steps)-1]-steps[k]) / halfLife)
				}
			}
			n := m
			if cfg.Divisor == wire.Count {
				n = len(rows)
			}
			checkDense(t, fmt.Sprintf("%s, half-life %g", what, halfLife), run, rows, ws, n, cfg.Damping, v)
		}
		step := wire.Step(0)
		publish := func() {
			t.Helper()
			step += wire.Step(1 + r.IntN(3))
			g, w := normal(r, d), math.Exp(r.NormFloat64())
			if _, err := run.Publish(ctx, step, g, client.WithWeight(w)); err != nil {
				t.Fatal(err)
			}
			if len(rows) == m {
				rows, given, steps = rows[1:], given[1:], steps[1:]
			}
			rows, given, steps = append(rows, g), append(given, w), append(steps, step)
		}
		for range m + 3 {
			publish()
			check(fmt.Sprintf("step %d", step))
		}
		// The next owner knows the weights.
		c.crashCoordinator("c0")
		c.startCoordinator("c0")
		check("after a takeover")
		publish()
		check("and the next step")
		// So does a window that forgets its newest gradient.
		last := len(rows) - 1
		if _, err := run.Forget(ctx, steps[last], steps[1]); err != nil {
			t.Fatal(err)
		}
		keep := func(k int) bool { return k != last && k != 1 }
		var rows2 [][]float32
		var given2 []float64
		var steps2 []wire.Step
		for k := range rows {
			if keep(k) {
				rows2, given2, steps2 = append(rows2, rows[k]), append(given2, given[k]), append(steps2, steps[k])
			}
		}
		rows, given, steps = rows2, given2, steps2
		check("after forgetting")
		publish()
		check("and the next step")
		for _, m = range []int{3, 6} {
			if _, err := run.Resize(ctx, m); err != nil {
				t.Fatal(err)
			}
			n := max(0, len(rows)-m)
			rows, given, steps = rows[n:], given[n:], steps[n:]
			check("after a resize")
			publish()
			check("and the next step")
		}
	}
}

// A weight of 1 and a half-life without end are the bytes of neither, in everything; a preconditioned step too.
func TestWeightOneSameBytes(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cl := c.client()
	const d, m = 1100, 5
	publish := func(name string, halfLife float64, shards int, opts ...client.StepOption) (run *client.Run, results []byte) {
		t.Helper()
		run = c.attach(cl, client.RunConfig{Name: name, Dim: d, Window: m, Damping: 0.01, HalfLife: halfLife, Shards: shards})
		ctx := within(t, time.Minute)
		r := rand.New(rand.NewPCG(1, 9))
		for s := range m + 2 {
			x := make([]float64, d)
			var o []client.PreconditionOption
			for _, opt := range opts {
				o = append(o, opt)
			}
			if _, err := run.Precondition64(ctx, wire.Step(s+1), x, normal(r, d), o...); err != nil {
				t.Fatal(err)
			}
			results = wire.AppendFloats(results, x)
		}
		return run, results
	}
	v := widened(normal(rand.New(rand.NewPCG(2, 9)), d))
	ones := slices.Repeat([]float64{1}, m)
	plain, want := publish("plain", 0, 2)
	wanted := everything(t, plain, ones, v)
	for name, run := range map[string]func() (*client.Run, []byte){
		"weight 1":             func() (*client.Run, []byte) { return publish("one", 0, 2, client.WithWeight(1)) },
		"endless half-life":    func() (*client.Run, []byte) { return publish("endless", 1e300, 2) },
		"endless and weight 1": func() (*client.Run, []byte) { return publish("endless-one", math.MaxFloat64, 2, client.WithWeight(1)) },
	} {
		r, got := run()
		if !bytes.Equal(got, want) {
			t.Errorf("%s: preconditioned steps have other bytes", name)
		}
		for i, f := range everything(t, r, ones, v) {
			if w := wanted[i]; f.name != w.name || f.bound != w.bound || !slices.Equal(f.x, w.x) {
				t.Errorf("%s: %s has other bytes", name, f.name)
			}
		}
	}
	// Weighted answers are the same bytes on one worker and three.
	_, first := publish("here", 3, 4, client.WithWeight(0.3))
	c.stopWorker("w1")
	c.stopWorker("w2")
	if _, second := publish("there", 3, 4, client.WithWeight(0.3)); !bytes.Equal(first, second) {
		t.Error("other workers, other bytes")
	}
}

// What is refused changes nothing.
func TestWeightRefused(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	cl := c.client()
	run := c.attach(cl, client.RunConfig{Name: "refused", Dim: 3, Window: 2, Damping: 1})
	ctx := within(t, time.Minute)
	for _, w := range []float64{0, -1, math.NaN(), math.Inf(1), 1e200} {
		var e *wire.Error
		if _, err := run.Publish(ctx, 1, []float32{1, 2, 3}, client.WithWeight(w)); !errors.As(err, &e) || e.Code != wire.CodeInvalid || e.Field != "weight" {
			t.Errorf("weight %g: %v", w, err)
		}
		if w == 0 {
			continue
		}
		if _, err := cl.Attach(ctx, client.RunConfig{Name: "other", Dim: 3, Window: 2, HalfLife: -math.Abs(w)}); !errors.As(err, &e) || e.Field != "half_life" {
			t.Errorf("half-life %g: %v", -math.Abs(w), err)
		}
	}
	if _, err := cl.Attach(ctx, client.RunConfig{Name: "refused", Dim: 3, Window: 2, Damping: 1, HalfLife: 3}); !errors.Is(err, &wire.Error{Code: wire.CodeExists}) {
		t.Errorf("another half-life: %v", err)
	}
	// Two ranks that do not agree: the second is refused, the step goes on with the first's.
	token := client.WithToken(5)
	done := make(chan error, 1)
	go func() {
		_, err := run.PublishColumns(ctx, 1, 0, []float32{1}, token, client.WithWeight(4))
		done <- err
	}()
	for { // until the first has opened it
		if info, err := run.Status(ctx); err != nil {
			t.Fatal(err)
		} else if info.Open > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var e *wire.Error
	if _, err := run.PublishColumns(ctx, 1, 1, []float32{2, 3}, token, client.WithWeight(2)); !errors.As(err, &e) || e.Field != "weight" {
		t.Errorf("another weight: %v", err)
	}
	if _, err := run.PublishColumns(ctx, 1, 1, []float32{2, 3}, token, client.WithWeight(4)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	checkDense(t, "after refusals", run, [][]float32{{1, 2, 3}}, []float64{4}, 2, 1, []float64{1, 0, -1})
}

// A million steps with a half-life of ten: nothing over- or underflows, also after a gap.
func TestHalfLifeLong(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	run := c.attach(c.client(), client.RunConfig{Name: "long", Dim: 6, Window: 3, Damping: 0.1, HalfLife: 10})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := rand.New(rand.NewPCG(3, 3))
	var rows [][]float32
	for _, s := range []wire.Step{1, 999_980, 1_000_000, 1_000_010} {
		rows = append(rows, normal(r, 6))
		if _, err := run.Publish(ctx, s, rows[len(rows)-1]); err != nil {
			t.Fatal(err)
		}
		if len(rows) == 3 { // the first is 1e5 half-lives old: it has no part in H, and is answered still
			var v [6]float64
			if _, err := run.IHVPStep64(ctx, v[:], 1); err != nil && !errors.Is(err, &wire.Error{Code: wire.CodeIllConditioned}) {
				t.Fatal(err)
			}
			checkVector(t, run, rows, []float64{0, 0.25, 1}, 3, 0.1, []float64{1, 2, 3, 4, 5, 6})
		}
	}
	checkDense(t, "long", run, rows[1:], []float64{0.125, 0.5, 1}, 3, 0.1, []float64{1, 2, 3, 4, 5, 6})
}

// checkVector compares H⁻¹v with dense algebra.
func checkVector(t *testing.T, run *client.Run, rows [][]float32, weights []float64, n int, lambda float64, v []float64) {
	t.Helper()
	x := make([]float64, len(v))
	if _, err := run.IHVP64(within(t, time.Minute), x, v); err != nil {
		t.Fatal(err)
	}
	var want mat.VecDense
	if err := want.SolveVec(dense(rows, weights, n, lambda), mat.NewVecDense(len(v), v)); err != nil {
		t.Fatal(err)
	}
	if off := floats.Distance(x, want.RawVector().Data, 2) / mat.Norm(&want, 2); !(off <= denseOff) {
		t.Errorf("off by %.3g", off)
	}
}
