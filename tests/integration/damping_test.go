package integration

import (
	"bytes"
	"cmp"
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
	gauss "mfac/internal/normal"
	"mfac/wire"
)

// dampedRun is a run whose tensors have dampings of their own, and what is dense about it.
type dampedRun struct {
	*client.Run
	cfg     client.RunConfig
	rows    [][]float32
	weights []float64
	damping []float64 // of each column
}

// tensorsOf cuts d columns into tensors, of which most have a damping of their own.
func tensorsOf(r *rand.Rand, d int, lambda float64) (layout []wire.Tensor, own map[string]float64, damping []float64) {
	own = map[string]float64{}
	for len(damping) < d {
		n := min(d-len(damping), 1+r.IntN(d/3+1))
		t := wire.Tensor{Name: fmt.Sprintf("t=%d", len(layout)), Shape: []int64{int64(n)}}
		l := lambda
		if r.IntN(4) > 0 {
			l = lambda * math.Pow(10, 3*r.Float64()-1.5)
			own[t.Name] = l
		}
		layout = append(layout, t)
		for range n {
			damping = append(damping, l)
		}
	}
	return layout, own, damping
}

// h is H = F + Λ, all of Λ scaled by s, with n the divisor.
func (x *dampedRun) h(n int, s float64) *mat.SymDense {
	h := dense(x.rows, x.weights, n, 0)
	for j, l := range x.damping {
		h.SetSym(j, j, h.At(j, j)+s*l)
	}
	return h
}

// off is ‖a − b‖/‖b‖ in the norm of Λ, which bounds are in.
func (x *dampedRun) off(a, b []float64) float64 {
	diff, norm := 0.0, 0.0
	for j, l := range x.damping {
		diff += l * (a[j] - b[j]) * (a[j] - b[j])
		norm += l * b[j] * b[j]
	}
	return math.Sqrt(diff / norm)
}

// against solves with a dense factor, and holds answers against that: within the bound, and denseOff beside it.
func (x *dampedRun) against(t *testing.T, chol *mat.Cholesky, what string) (solve func(v []float64) []float64, near func(name string, got, want []float64, a client.Answer, err error)) {
	solve = func(v []float64) []float64 {
		var y mat.VecDense
		if err := chol.SolveVecTo(&y, mat.NewVecDense(len(v), v)); err != nil {
			t.Fatal(err)
		}
		return y.RawVector().Data
	}
	near = func(name string, got, want []float64, a client.Answer, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", what, name, err)
		}
		if off := x.off(got, want); !(off <= a.Bound()+denseOff) || !(a.Bound() <= 1e-9) {
			t.Errorf("%s: %s is off by %.3g, bound %.3g", what, name, off, a.Bound())
		}
	}
	return solve, near
}

// check asks all that such a run answers, and compares with dense algebra: within the bounds, and denseOff beside them for the
// dense numbers' own errors; cond H is below 1e6.
func (x *dampedRun) check(t *testing.T, what string, r *rand.Rand, of ...client.QueryOption) {
	t.Helper()
	ctx := within(t, time.Minute)
	d, n := len(x.damping), x.cfg.Window
	if x.cfg.Divisor == wire.Count {
		n = len(x.rows)
	}
	v := make([]float64, d)
	for j := range v {
		v[j] = r.NormFloat64()
	}
	at, err := x.Steps(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []float64{1, 7.5} {
		opts := append(of[:len(of):len(of)], client.WithDamping(s*x.cfg.Damping))
		var chol mat.Cholesky
		if !chol.Factorize(x.h(n, s)) {
			t.Fatal("H is not positive definite")
		}
		solve, near := x.against(t, &chol, fmt.Sprintf("%s at %g", what, s))
		got := make([]float64, d)
		a, err := x.IHVP64(ctx, got, v, opts...)
		near("ihvp", got, solve(v), a, err)
		last := len(x.rows) - 1
		a, err = x.IHVPStep64(ctx, got, at.Steps[last], opts...)
		near("a step", got, solve(widened(x.rows[last])), a, err)
		sum := widened(x.rows[0])
		floats.Scale(2, sum)
		floats.Sub(sum, widened(x.rows[last]))
		a, err = x.IHVPCombine64(ctx, got, []wire.Step{at.Steps[0], at.Steps[last]}, []float64{2, -1}, opts...)
		near("a combination", got, solve(sum), a, err)

		var inverse mat.SymDense
		if err := chol.InverseTo(&inverse); err != nil {
			t.Fatal(err)
		}
		if a, err = x.Diag64(ctx, got, opts...); err != nil {
			t.Fatal(err)
		}
		diff, norm := 0.0, 0.0
		for j, l := range x.damping {
			diff, norm = math.Hypot(diff, l*(got[j]-inverse.At(j, j))), math.Hypot(norm, l*inverse.At(j, j))
			if want := inverse.At(j, j); !(math.Abs(got[j]-want) <= denseOff*want) {
				t.Errorf("%s at %g: element %d of the diagonal is %g, want %g", what, s, j, got[j], want)
			}
		}
		if !(diff <= (a.Bound()+denseOff)*norm) {
			t.Errorf("%s at %g: the diagonal is off by %.3g, bound %.3g", what, s, diff/norm, a.Bound())
		}

		// Columns, sub-blocks, samples; residuals and refinement.
		j := int64(r.IntN(d))
		a, err = x.Columns64(ctx, [][]float64{got}, []int64{j}, opts...)
		near("a column", got, mat.Col(nil, int(j), &inverse), a, err)
		index := []int64{j, 0, int64(d - 1), j}
		b, a, err := x.Subblock(ctx, index, opts...)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range index {
			for k, q := range index {
				size := math.Sqrt(inverse.At(int(p), int(p)) * inverse.At(int(q), int(q)))
				if off := math.Abs(b[i*len(index)+k]-inverse.At(int(p), int(q))) / size; !(off <= a.Bound()+denseOff) || !(a.Bound() <= 1e-9) {
					t.Errorf("%s at %g: element %d, %d is off by %.3g, bound %.3g", what, s, p, q, off, a.Bound())
				}
			}
		}
		z, right := make([]float64, d), make([]float64, d)
		gauss.Source{Seed: 9, Index: 4}.Fill(z, 0)
		for k, l := range x.damping {
			right[k] = math.Sqrt(s*l) * z[k]
		}
		for i, g := range x.rows {
			u := gauss.Source{Seed: 9, Index: 4, Domain: gauss.Steps}.At(uint64(at.Steps[i]))
			floats.AddScaled(right, u*math.Sqrt(x.weights[i]/float64(n)), widened(g))
		}
		a, err = x.Sample64(ctx, got, 9, 4, opts...)
		near("a sample", got, solve(right), a, err)
		for name, opt := range map[string]client.QueryOption{"verified": client.WithVerify(), "refined": client.WithRefine()} {
			a, err = x.IHVP64(ctx, got, v, append(opts, opt)...)
			near(name, got, solve(v), a, err)
			x.residual(t, name, got, v, a, x.h(n, s))
			a, err = x.IHVPCombine64(ctx, got, []wire.Step{at.Steps[0], at.Steps[last]}, []float64{2, -1}, append(opts, opt)...)
			near(name+" combination", got, solve(sum), a, err)
			x.residual(t, name+" combination", got, sum, a, x.h(n, s))
		}

		x.products(t, what, v, n, s, opts)
		if d <= 100 {
			x.prune(t, what, v, x.h(n, s), &inverse, false, opts)
			x.likelihoods(t, what, s, n, [][]float64{v, sum}, of)
		}

		// Numbers.
		hv := solve(v)
		sc, err := x.Scores64(ctx, [][]float64{v}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		p, err := x.Pairs64(ctx, [][]float64{v, sum}, [][2]int{{0, 0}, {0, 1}, {1, 0}}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		self, err := x.SelfInfluence(ctx, opts...)
		if err != nil {
			t.Fatal(err)
		}
		number := func(name string, got, want, bound, size float64) {
			t.Helper()
			if !(math.Abs(got-want) <= bound+denseOff*size) {
				t.Errorf("%s at %g: %s is %g, want %g ± %.3g", what, s, name, got, want, bound)
			}
		}
		number("vᵀH⁻¹v", p.Values[0], floats.Dot(v, hv), p.Bounds[0], p.Values[0])
		number("sᵀH⁻¹v", p.Values[1], floats.Dot(sum, hv), p.Bounds[1], p.Values[0])
		number("vᵀH⁻¹s", p.Values[2], floats.Dot(sum, hv), p.Bounds[2], p.Values[0])
		for i, g := range x.rows {
			number("score", sc.Scores[0][i], floats.Dot(widened(g), hv), 0, floats.Norm(sc.Scores[0], 2))
			hg := solve(widened(g))
			h := floats.Dot(widened(g), hg)
			number("self-influence", self.Self[i], h, self.SelfBound[i], h)
			number("left out", self.Out[i], h/(1-x.weights[i]*h/float64(n)), self.OutBound[i], self.Out[i])
		}
	}
}

// likelihoods compares log N(h; 0, H) of vectors, and of the rows, each left out, with dense algebra.
func (x *dampedRun) likelihoods(t *testing.T, what string, s float64, n int, v [][]float64, opts []client.QueryOption) {
	t.Helper()
	ctx, d := within(t, time.Minute), len(x.damping)
	density := func(h []float64, of *mat.SymDense) float64 {
		var chol mat.Cholesky
		var y mat.VecDense
		if !chol.Factorize(of) || chol.SolveVecTo(&y, mat.NewVecDense(d, h)) != nil {
			t.Fatal("H is not positive definite")
		}
		return -(float64(d)*math.Log(2*math.Pi) + chol.LogDet() + floats.Dot(h, y.RawVector().Data)) / 2
	}
	near := func(name string, got, bound, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= bound+denseOff*(math.Abs(want)+float64(d))) || !(bound <= 1e-7*(math.Abs(want)+float64(d))) {
			t.Errorf("%s at %g: %s is %g ± %g, want %g", what, s, name, got, bound, want)
		}
	}
	at := []float64{s * x.cfg.Damping}
	l, err := x.Likelihoods64(ctx, at, v, opts...)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for i, h := range v {
		near("a likelihood", l.Values[0][i], l.Bounds[0][i], density(h, x.h(n, s)))
	}
	if l, err = x.LeaveOneOut(ctx, at, opts...); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for i, g := range x.rows {
		h, row := x.h(n, s), mat.NewVecDense(d, widened(g))
		h.SymRankOne(h, -x.weights[i]/float64(n), row)
		near("a row left out", l.Values[0][i], l.Bounds[0][i], density(widened(g), h))
	}
}

// products compares F v, H v and H(H⁻¹v) with dense algebra, in the norm of Λ⁻¹.
func (x *dampedRun) products(t *testing.T, what string, v []float64, n int, s float64, opts []client.QueryOption) {
	t.Helper()
	ctx := within(t, time.Minute)
	near := func(name string, got, want []float64, bound float64, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", what, name, err)
		}
		diff, norm := 0.0, 0.0
		for j, l := range x.damping {
			diff, norm = math.Hypot(diff, (got[j]-want[j])/math.Sqrt(l)), math.Hypot(norm, want[j]/math.Sqrt(l))
		}
		if !(diff <= (bound+denseOff)*norm) || !(bound <= 1e-9) {
			t.Errorf("%s at %g: %s is off by %.3g, bound %.3g", what, s, name, diff/norm, bound)
		}
	}
	d := len(v)
	got, back := make([]float64, d), make([]float64, d)
	var want mat.VecDense
	want.MulVec(dense(x.rows, x.weights, n, 0), mat.NewVecDense(d, v))
	a, err := x.FisherVec64(ctx, got, v, opts...)
	near("F v", got, want.RawVector().Data, a.Bound(), err)
	h := x.h(n, s)
	want.MulVec(h, mat.NewVecDense(d, v))
	a, err = x.HessianVec64(ctx, got, v, opts...)
	near("H v", got, want.RawVector().Data, a.Bound(), err)
	if a, err = x.IHVP64(ctx, got, v, opts...); err != nil {
		t.Fatal(err)
	}
	b, err := x.HessianVec64(ctx, back, got, opts...)
	near("H(H⁻¹v)", back, v, a.Bound()+b.Bound(), err)
}

// prune compares pruning by both rules, with and without a mask, and a prescribed change with dense algebra.
func (x *dampedRun) prune(t *testing.T, what string, w []float64, h, inverse *mat.SymDense, byBlocks bool, opts []client.QueryOption) {
	t.Helper()
	ctx := within(t, time.Minute)
	d := len(w)
	near := func(name string, got, want []float64, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", what, name, err)
		}
		if off := floats.Distance(got, want, 2) / floats.Norm(want, 2); !(off <= denseOff) {
			t.Errorf("%s: %s is off by %.3g", what, name, off)
		}
	}
	// rest is the best change of the others where delta is prescribed in the columns of set.
	rest := func(delta []float64, set func(j int) bool) []float64 {
		var at []int
		for j := range d {
			if !set(j) {
				at = append(at, j)
			}
		}
		sub, right := mat.NewSymDense(len(at), nil), mat.NewVecDense(len(at), nil)
		for i, p := range at {
			for k, q := range at {
				if k >= i {
					sub.SetSym(i, k, h.At(p, q))
				}
			}
			for j := range d {
				if set(j) {
					right.SetVec(i, right.AtVec(i)-h.At(p, j)*delta[j])
				}
			}
		}
		var chol mat.Cholesky
		var y mat.VecDense
		if !chol.Factorize(sub) || chol.SolveVecTo(&y, right) != nil {
			t.Fatal("H of the rest is not positive definite")
		}
		out := make([]float64, d)
		for i, p := range at {
			out[p] = y.AtVec(i)
		}
		return out
	}
	order := make([]int, d)
	for j := range order {
		order[j] = j
	}
	score := func(j int) float64 { return w[j] * w[j] / inverse.At(j, j) }
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(score(a), score(b)) })
	gone := make([]bool, d)
	for _, j := range order[:d*2/5] {
		gone[j] = true
	}
	set := func(j int) bool { return gone[j] }
	got := make([]float64, d)

	tv, minus := make([]float64, d), make([]float64, d)
	for j := range d {
		if gone[j] {
			tv[j], minus[j] = w[j]/inverse.At(j, j), -w[j]
		}
	}
	var change mat.VecDense
	change.MulVec(inverse, mat.NewVecDense(d, tv))
	summed, joint := make([]float64, d), rest(minus, set)
	for j := range d {
		summed[j], joint[j] = w[j]-change.AtVec(j), w[j]+joint[j]
		if gone[j] {
			summed[j], joint[j] = 0, 0
		}
	}
	_, err := x.Prune64(ctx, got, w, client.Pruning{Sparsity: 0.4}, opts...)
	near("pruned, summed", got, summed, err)
	_, err = x.Prune64(ctx, got, w, client.Pruning{Sparsity: 0.4, Rule: wire.RuleJoint}, opts...)
	near("pruned, joint", got, joint, err)

	// With those pruned before, and one not to be touched, nothing is left to choose: H is that of the others.
	mask := make([]int8, d)
	for j := range d {
		if gone[j] {
			mask[j] = wire.MaskPruned
		}
	}
	free := order[d-1]
	for _, j := range order[d*2/5 : d-2] {
		mask[j] = wire.MaskFixed
	}
	other := order[d-2]
	two := mat.NewSymDense(2, []float64{h.At(free, free), h.At(free, other), h.At(other, free), h.At(other, other)})
	var inv mat.Dense
	if err := inv.Inverse(two); err != nil {
		t.Fatal(err)
	}
	a, b := free, other // b is pruned
	if w[free]*w[free]/inv.At(0, 0) < w[other]*w[other]/inv.At(1, 1) {
		a, b = other, free
	}
	want := slices.Clone(w)
	for j := range d {
		if gone[j] {
			want[j] = 0
		}
	}
	want[b] = 0
	want[a] += h.At(a, b) / h.At(a, a) * w[b]
	_, err = x.Prune64(ctx, got, w, client.Pruning{Sparsity: (float64(d*2/5+1) + 0.5) / float64(d), Rule: wire.RuleJoint, Mask: mask}, opts...)
	near("pruned with a mask", got, want, err)

	fixed, delta := make([]bool, d), make([]float64, d)
	for j := range d {
		if fixed[j] = j%3 == 1; fixed[j] {
			delta[j] = w[j] / 2
		}
	}
	wantChange := rest(delta, func(j int) bool { return fixed[j] })
	for j := range d {
		if fixed[j] {
			wantChange[j] = delta[j]
		}
	}
	if !byBlocks {
		_, err = x.Compensate64(ctx, got, delta, fixed, opts...)
		near("compensated", got, wantChange, err)
	}
}

// residual holds an answer's residual to what dense algebra says, in the norm of Λ⁻¹: both are of the size of ε cond H.
func (x *dampedRun) residual(t *testing.T, name string, got, v []float64, a client.Answer, h *mat.SymDense) {
	t.Helper()
	var hx mat.VecDense
	hx.MulVec(h, mat.NewVecDense(len(got), got))
	diff, norm := 0.0, 0.0
	for j, l := range x.damping {
		diff = math.Hypot(diff, (hx.AtVec(j)-v[j])/math.Sqrt(l))
		norm = math.Hypot(norm, v[j]/math.Sqrt(l))
	}
	const tol = 1e-11 // cond H, in that norm, is below 1e4
	if len(a.Residuals) != 1 || !(a.Residuals[0] <= tol) || !(diff/norm <= tol) {
		t.Errorf("the residual of %s is %v, dense algebra says %.3g", name, a.Residuals, diff/norm)
	}
}

// Dampings of tensors against dense algebra, with weights, over tiles and shards, across takeovers and forgetting.
func TestTensorDamping(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	for i := range 3 {
		r := rand.New(rand.NewPCG(uint64(i), 8))
		d, m := []int{12, 60, 1500}[i], 4
		layout, own, damping := tensorsOf(r, d, 0.02)
		x := &dampedRun{cfg: client.RunConfig{
			Name: fmt.Sprintf("damped-%d", i), Dim: int64(d), Window: m, Damping: 0.02, Layout: layout, TensorDamping: own,
			Divisor: []wire.Divisor{wire.Capacity, wire.Count}[i%2], Shards: 1 + i,
		}, damping: damping}
		x.Run = c.attach(cl, x.cfg)
		ctx := within(t, time.Minute)
		step := wire.Step(0)
		publish := func() {
			t.Helper()
			step++
			g, w := normal(r, d), 0.5+r.Float64()
			if len(x.rows) == m {
				x.rows, x.weights = x.rows[1:], x.weights[1:]
			}
			x.rows, x.weights = append(x.rows, g), append(x.weights, w)
			got := make([]float64, d)
			a, err := x.Precondition64(ctx, step, got, g, client.WithWeight(w))
			if err != nil {
				t.Fatal(err)
			}
			n := m
			if x.cfg.Divisor == wire.Count {
				n = len(x.rows)
			}
			var want mat.VecDense
			var chol mat.Cholesky
			chol.Factorize(x.h(n, 1))
			if err := chol.SolveVecTo(&want, mat.NewVecDense(d, widened(g))); err != nil {
				t.Fatal(err)
			}
			if off := x.off(got, want.RawVector().Data); !(off <= a.Bound()+denseOff) {
				t.Errorf("step %d is off by %.3g, bound %.3g", step, off, a.Bound())
			}
		}
		steps := m + 2
		if testing.Short() && d > 1000 {
			steps = m + 1
		}
		for range steps {
			publish()
		}
		x.check(t, x.cfg.Name, r)
		c.crashCoordinator("c0")
		c.startCoordinator("c0")
		if _, err := x.Forget(ctx, step-1); err != nil {
			t.Fatal(err)
		}
		x.rows, x.weights = append(x.rows[:m-2:m-2], x.rows[m-1]), append(x.weights[:m-2:m-2], x.weights[m-1])
		publish()
		x.check(t, x.cfg.Name+" after a takeover", r)
		m += 2
		x.cfg.Window = m
		if _, err := x.Resize(ctx, m); err != nil {
			t.Fatal(err)
		}
		publish()
		x.check(t, x.cfg.Name+" after a resize", r)
	}
}

// One damping for all tensors is that damping; powers of 4 are the rows over powers of 2: within the bounds of both. The
// same bytes on one worker and three, together and alone.
func TestTensorDampingIsScale(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cl := c.client()
	const d, m = 1300, 5
	layout := []wire.Tensor{{Name: "a", Shape: []int64{500}}, {Name: "b", Shape: []int64{30, 20}}, {Name: "c", Shape: []int64{200}}}
	root := make([]float64, d) // of 4, 1/16, 1
	for j := range root {
		switch {
		case j < 500:
			root[j] = 2
		case j < 1100:
			root[j] = 0.25
		default:
			root[j] = 1
		}
	}
	ctx := within(t, time.Minute)
	fill := func(cfg client.RunConfig, over []float64) *client.Run {
		t.Helper()
		cfg.Dim, cfg.Window, cfg.Shards = d, m, 4
		run := c.attach(cl, cfg)
		r := rand.New(rand.NewPCG(4, 4))
		for s := range m + 1 {
			g := normal(r, d)
			for j := range over {
				g[j] /= float32(over[j])
			}
			if _, err := run.Publish(ctx, wire.Step(s+1), g); err != nil {
				t.Fatal(err)
			}
		}
		return run
	}
	v := widened(normal(rand.New(rand.NewPCG(5, 5)), d))
	u := widened(normal(rand.New(rand.NewPCG(6, 6)), d))
	ask := func(run *client.Run, v ...[]float64) ([][]float64, client.Answer) {
		t.Helper()
		x := make([][]float64, len(v))
		for i := range x {
			x[i] = make([]float64, d)
		}
		a, err := run.IHVPs64(ctx, x, v)
		if err != nil {
			t.Fatal(err)
		}
		return x, a
	}
	damped := fill(client.RunConfig{Name: "damped", Damping: 0.1, Layout: layout, TensorDamping: map[string]float64{"a": 0.4, "b": 0.1 / 16}}, nil)
	scaled := fill(client.RunConfig{Name: "scaled", Damping: 0.1}, root)
	vr := make([]float64, d)
	floats.DivTo(vr, v, root)
	got, a := ask(damped, v)
	want, b := ask(scaled, vr)
	floats.Mul(got[0], root) // to the norm of R
	if off := floats.Distance(got[0], want[0], 2) / floats.Norm(want[0], 2); !(off <= a.Bound()+b.Bound()) {
		t.Errorf("powers of 4: off by %.3g, bounds %.3g and %.3g", off, a.Bound(), b.Bound())
	}

	all := fill(client.RunConfig{Name: "all", Damping: 0.1, Layout: layout, TensorDamping: map[string]float64{"a": 0.3, "b": 0.3, "c": 0.3}}, nil)
	plain := fill(client.RunConfig{Name: "plain", Damping: 0.3, Layout: layout}, nil)
	got, a = ask(all, v)
	want, b = ask(plain, v)
	if off := floats.Distance(got[0], want[0], 2) / floats.Norm(want[0], 2); !(off <= a.Bound()+b.Bound()+1e-15) { // 0.3/0.1·0.1 is 0.3 to the last digit
		t.Errorf("one damping: off by %.3g, bounds %.3g and %.3g", off, a.Bound(), b.Bound())
	}

	both, _ := ask(damped, v, u)
	alone, _ := ask(damped, u)
	first, _ := ask(damped, v)
	if !bytes.Equal(wire.AppendFloats(nil, both[1]), wire.AppendFloats(nil, alone[0])) || !bytes.Equal(wire.AppendFloats(nil, both[0]), wire.AppendFloats(nil, first[0])) {
		t.Error("two together have other bytes than each alone")
	}
	narrow := make([]float32, d)
	if _, err := damped.IHVP(ctx, narrow, narrowed32(v)); err != nil {
		t.Fatal(err)
	}
	exactly, _ := ask(damped, widened(narrowed32(v)))
	for j := range narrow {
		if narrow[j] != float32(exactly[0][j]) {
			t.Fatalf("column %d is %g, the float64 one rounded once is %g", j, narrow[j], float32(exactly[0][j]))
		}
	}
	if err := cl.Delete(ctx, "damped"); err != nil {
		t.Fatal(err)
	}
	c.stopWorker("w1")
	c.stopWorker("w2")
	again, _ := ask(fill(client.RunConfig{Name: "damped", Damping: 0.1, Layout: layout, TensorDamping: map[string]float64{"a": 0.4, "b": 0.1 / 16}}, nil), v)
	if !bytes.Equal(wire.AppendFloats(nil, again[0]), wire.AppendFloats(nil, first[0])) {
		t.Error("other bytes on one worker than on three")
	}
}

func narrowed32(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// What such a run does not answer is refused, by name; so are dampings that are none.
func TestTensorDampingRefused(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	cl := c.client()
	layout := []wire.Tensor{{Name: "a", Shape: []int64{2}}, {Name: "b", Shape: []int64{3}}}
	cfg := client.RunConfig{Name: "d", Dim: 5, Window: 2, Damping: 1, Layout: layout, TensorDamping: map[string]float64{"b": 4}}
	run := c.attach(cl, cfg)
	ctx := within(t, time.Minute)
	if _, err := run.Publish(ctx, 1, []float32{1, 2, 3, 4, 5}); err != nil {
		t.Fatal(err)
	}
	x, v := make([]float64, 5), []float64{1, 2, 3, 4, 5}
	asked := map[string]error{}
	note := func(what string, _ any, err error) { asked[what] = err }
	{
		a, err := run.InvSqrt64(ctx, x, v)
		note("invsqrt", a, err)
	}
	_, err := run.Scalars(ctx, nil)
	note("scalars", nil, err)
	_, err = run.Spectrum(ctx)
	note("spectrum", nil, err)
	for what, err := range asked {
		if !errors.Is(err, wire.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, bad := range map[string]client.RunConfig{
		"no tensor":  {TensorDamping: map[string]float64{"c": 1}, Layout: layout},
		"no layout":  {TensorDamping: map[string]float64{"a": 1}},
		"negative":   {TensorDamping: map[string]float64{"a": -1}, Layout: layout},
		"zero":       {TensorDamping: map[string]float64{"a": 0}, Layout: layout},
		"NaN":        {TensorDamping: map[string]float64{"a": math.NaN()}, Layout: layout},
		"too large":  {TensorDamping: map[string]float64{"a": 1e300}, Layout: layout},
		"no damping": {TensorDamping: map[string]float64{"a": 1}, Layout: layout, Damping: -1},
	} {
		bad.Name, bad.Dim, bad.Window = "bad", 5, 2
		if _, err := cl.Attach(ctx, bad); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	cfg.TensorDamping = nil
	if _, err := cl.Attach(ctx, cfg); !errors.Is(err, &wire.Error{Code: wire.CodeExists}) {
		t.Errorf("without dampings: %v", err)
	}
}

// A frozen run answers from W = L⁻¹G: the same bytes, with weights, half-lives and dampings of tensors.
func TestWeightsFrozen(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	r := rand.New(rand.NewPCG(2, 21))
	const d, m = 1100, 4
	layout, own, _ := tensorsOf(r, d, 0.02)
	for name, cfg := range map[string]client.RunConfig{
		"weighed": {HalfLife: 3},
		"damped":  {Layout: layout, TensorDamping: own},
	} {
		cfg.Name, cfg.Dim, cfg.Window, cfg.Damping, cfg.Shards = name, d, m, 0.02, 3
		run := c.attach(cl, cfg)
		ctx := within(t, time.Minute)
		for s := range m + 1 {
			if _, err := run.Publish(ctx, wire.Step(s), normal(r, d), client.WithWeight(0.5+r.Float64())); err != nil {
				t.Fatal(err)
			}
		}
		answers := func() []float64 {
			t.Helper()
			x := make([]float64, d)
			if _, err := run.Diag64(ctx, x); err != nil {
				t.Fatal(err)
			}
			b, _, err := run.Subblock(ctx, []int64{3, 1000, 4})
			if err != nil {
				t.Fatal(err)
			}
			return append(x, b...)
		}
		want := answers()
		if _, err := run.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		if got := answers(); !bytes.Equal(wire.AppendFloats(nil, got), wire.AppendFloats(nil, want)) {
			t.Errorf("%s: a frozen run has other bytes", name)
		}
	}
}
