package integration

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// pruneReference is the pruning of w by dense algebra in float64: H of the free columns, d×d.
type pruneReference struct {
	g      [][]float64 // rows
	lambda float64
	n      float64             // N
	apart  func(i, j int) bool // columns in other blocks: H is 0 there; nil: none are
	over   []float64           // of each column, λ times what; nil: 1
}

// sub is H restricted to some columns.
func (p pruneReference) sub(cols []int) *mat.SymDense {
	h := mat.NewSymDense(len(cols), nil)
	for a, i := range cols {
		for b := a; b < len(cols); b++ {
			if p.apart != nil && p.apart(i, cols[b]) {
				continue
			}
			sum := 0.0
			for _, g := range p.g {
				sum += g[i] * g[cols[b]]
			}
			sum /= p.n
			if a == b && p.over == nil {
				sum += p.lambda
			} else if a == b {
				sum += p.lambda * p.over[i]
			}
			h.SetSym(a, b, sum)
		}
	}
	return h
}

// inverse is H⁻¹ of some columns.
func (p pruneReference) inverse(t rapid.TB, cols []int) *mat.SymDense {
	var ch mat.Cholesky
	if !ch.Factorize(p.sub(cols)) {
		t.Fatal("the reference's H is not positive definite")
	}
	var inv mat.SymDense
	if err := ch.InverseTo(&inv); err != nil {
		t.Fatal(err)
	}
	return &inv
}

// choice is the ⌊S·d⌋ weights of lowest score, those that are gone included.
func (p pruneReference) choice(t rapid.TB, w []float64, mask []int8, sparsity float64) (chosen []int, scores []float64) {
	var cols []int
	count := int(math.Floor(sparsity * float64(len(w))))
	for j := range w {
		if mask == nil || mask[j] == wire.MaskFree {
			cols = append(cols, j)
		} else if mask[j] == wire.MaskPruned {
			count--
		}
	}
	inv := p.inverse(t, cols)
	scores = make([]float64, len(w))
	for a, j := range cols {
		scores[j] = w[j] * w[j] / (2 * inv.At(a, a))
	}
	order := slices.Clone(cols)
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case scores[a] < scores[b]:
			return -1
		case scores[a] > scores[b]:
			return 1
		}
		return 0
	})
	return order[:count], scores
}

// pruned is what becomes of w when the chosen weights are pruned.
func (p pruneReference) pruned(t rapid.TB, w []float64, mask []int8, chosen []int, rule string) []float64 {
	x := slices.Clone(w)
	var cols, rest []int
	is := make([]bool, len(w))
	for _, j := range chosen {
		is[j] = true
	}
	for j := range w {
		if mask != nil && mask[j] == wire.MaskPruned {
			x[j] = 0
		}
		if mask == nil || mask[j] == wire.MaskFree {
			cols = append(cols, j)
			if !is[j] {
				rest = append(rest, j)
			}
		}
	}
	if rule == wire.RuleSummed {
		inv := p.inverse(t, cols)
		for a, i := range cols {
			for b, j := range cols {
				if is[j] {
					x[i] -= inv.At(a, b) * w[j] / inv.At(b, b)
				}
			}
		}
	} else {
		change := make([]float64, len(w))
		for _, j := range chosen {
			change[j] = -w[j]
		}
		for i, c := range p.compensated(t, change, chosen, rest) {
			x[rest[i]] += c
		}
	}
	for _, j := range chosen {
		x[j] = 0
	}
	return x
}

// compensated is the change of the rest that minimises the quadratic: H_rest x = −H_rest,S δ_S.
func (p pruneReference) compensated(t rapid.TB, delta []float64, fixed, rest []int) []float64 {
	if len(rest) == 0 {
		return nil
	}
	inv := p.inverse(t, rest)
	right := make([]float64, len(rest))
	for a, i := range rest {
		for _, j := range fixed {
			if p.apart != nil && p.apart(i, j) {
				continue
			}
			for _, g := range p.g {
				right[a] -= g[i] * g[j] / p.n * delta[j]
			}
		}
	}
	var x mat.VecDense
	x.MulVec(inv, mat.NewVecDense(len(rest), right))
	return x.RawVector().Data
}

// H has a condition number below 1e4 in these cases: some ε times that both may be off; 3e-14 of the largest weight holds too.
const tolPruned = 1e-12

// tieScore is how near two scores may be, relative, for the reference to be unable to tell them apart.
const tieScore = 1e-9

// pruneCase is a run with random gradients.
type pruneCase struct {
	run *client.Run
	ref pruneReference
	rng *rand.Rand
}

func newPruneCase(t *testing.T, cl *client.Client, name string, dim, window, rows, shards int, divisor wire.Divisor) pruneCase {
	t.Helper()
	ctx := within(t, time.Minute)
	r, err := cl.Attach(ctx, client.RunConfig{Name: name, Dim: int64(dim), Window: window, Damping: 0.01, Shards: shards, Divisor: divisor})
	if err != nil {
		t.Fatal(err)
	}
	c := pruneCase{run: r, rng: rand.New(rand.NewPCG(uint64(dim), 7)), ref: pruneReference{lambda: 0.01, n: float64(window)}}
	for i := range rows {
		g, wide := make([]float32, dim), make([]float64, dim)
		for j := range g {
			g[j] = float32(c.rng.NormFloat64())
			wide[j] = float64(g[j])
		}
		if _, err := r.Publish(ctx, wire.Step(i), g); err != nil {
			t.Fatal(err)
		}
		if i >= rows-window {
			c.ref.g = append(c.ref.g, wide)
		}
	}
	if divisor == wire.Count {
		c.ref.n = float64(len(c.ref.g))
	}
	return c
}

// checkPruned compares with the reference. Zeros are +0.
func checkPruned(t rapid.TB, what string, got, want []float64) {
	t.Helper()
	var most, worst float64
	for j := range want {
		most, worst = max(most, math.Abs(want[j])), max(worst, math.Abs(got[j]-want[j]))
		if (want[j] == 0) != (got[j] == 0 && !math.Signbit(got[j])) {
			t.Fatalf("%s: weight %d is %g, want %g", what, j, got[j], want[j])
		}
	}
	if !(worst <= tolPruned*most) {
		t.Fatalf("%s: off by %.3g of the largest weight, want at most %g", what, worst/most, tolPruned)
	}
}

// TestPrune compares pruning of random weights with dense float64 algebra: both rules, with and
// without a mask, over one to five shards, the window full, part-filled and empty.
func TestPrune(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cl := c.client()
	var cases []pruneCase
	for i, s := range []struct {
		dim, window, rows, shards int
		divisor                   wire.Divisor
	}{{1, 2, 2, 1, ""}, {40, 5, 7, 1, ""}, {97, 12, 12, 3, ""}, {64, 9, 4, 4, wire.Count}, {130, 3, 0, 2, ""}, {57, 8, 8, 5, ""}} {
		cases = append(cases, newPruneCase(t, cl, fmt.Sprintf("prune-%d", i), s.dim, s.window, s.rows, s.shards, s.divisor))
	}
	rapid.Check(t, func(rt *rapid.T) {
		pc := rapid.SampledFrom(cases).Draw(rt, "run")
		ctx := within(t, time.Minute)
		d := int(pc.run.Dim())
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		w := make([]float64, d)
		for j := range w {
			w[j] = rng.NormFloat64() * math.Exp2(float64(rng.IntN(8)))
			if rng.IntN(10) == 0 {
				w[j] = 0 // scores that are equal
			}
		}
		p := client.Pruning{Rule: rapid.SampledFrom([]string{wire.RuleSummed, wire.RuleJoint}).Draw(rt, "rule"), Sparsity: rng.Float64()}
		if rapid.Bool().Draw(rt, "masked") && d > 2 {
			p.Mask = make([]int8, d)
			free, gone := 0, 0
			for j := range p.Mask {
				p.Mask[j] = []int8{0, 0, 0, 0, 1, -1}[rng.IntN(6)]
			}
			p.Mask[0], p.Mask[d-1] = 0, 1
			for _, m := range p.Mask {
				switch m {
				case 0:
					free++
				case -1:
					gone++
				}
			}
			p.Sparsity = (float64(gone) + rng.Float64()*float64(free)) / float64(d)
			if math.Floor(p.Sparsity*float64(d)) < float64(gone) { // rounding
				p.Sparsity = math.Nextafter(p.Sparsity, 1)
			}
		}
		got := make([]float64, d)
		a, err := pc.run.Prune64(ctx, got, w, p)
		if err != nil {
			rt.Fatalf("%+v: %v", p, err)
		}
		if a.Rows != len(pc.ref.g) {
			rt.Fatalf("answer %+v", a)
		}
		chosen, scores := pc.ref.choice(rt, w, p.Mask, p.Sparsity)
		if nearTie(w, p.Mask, scores, chosen) {
			return // the reference can't tell
		}
		want := pc.ref.pruned(rt, w, p.Mask, chosen, p.Rule)
		for j := range want { // a free weight that is 0 and not adapted
			if want[j] == 0 && got[j] != 0 || want[j] != 0 && got[j] == 0 {
				rt.Fatalf("%+v: weight %d of %v is %g, want %g (chosen %v)", p, j, w, got[j], want[j], chosen)
			}
		}
		checkPruned(rt, fmt.Sprintf("%+v", p), got, want)
		got32, single := make([]float32, d), make([]float32, d)
		for j := range w {
			single[j] = float32(w[j])
			w[j] = float64(single[j])
		}
		if _, err := pc.run.Prune64(ctx, got, w, p); err != nil {
			rt.Fatal(err)
		}
		if _, err := pc.run.Prune(ctx, got32, single, p); err != nil {
			rt.Fatal(err)
		}
		for j := range got {
			if math.Float32bits(got32[j]) != math.Float32bits(float32(got[j])) {
				rt.Fatalf("weight %d is %g in float32, %g in float64", j, got32[j], got[j])
			}
		}
	})
}

// nearTie reports whether the last score that is chosen and the first one that isn't are too near to
// each other to be told apart, but equal.
func nearTie(w []float64, mask []int8, scores []float64, chosen []int) bool {
	is := map[int]bool{}
	top, low := 0.0, math.Inf(1)
	for _, j := range chosen {
		is[j] = true
		top = max(top, scores[j])
	}
	for j := range w {
		if !is[j] && (mask == nil || mask[j] == wire.MaskFree) {
			low = min(low, scores[j])
		}
	}
	return len(chosen) > 0 && low > 0 && low-top <= tieScore*low
}

// TestPruneMinimises sees that the joint update, and a compensation, minimise the quadratic: its gradient
// Hδ on the free weights is zero.
func TestPruneMinimises(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	pc := newPruneCase(t, c.client(), "joint", 60, 10, 10, 3, "")
	ctx := within(t, time.Minute)
	w, got := make([]float64, 60), make([]float64, 60)
	all := make([]int, 60)
	for j := range w {
		w[j], all[j] = pc.rng.NormFloat64(), j
	}
	if _, err := pc.run.Prune64(ctx, got, w, client.Pruning{Sparsity: 0.5, Rule: wire.RuleJoint}); err != nil {
		t.Fatal(err)
	}
	check := func(what string, delta []float64, fixed []bool) {
		t.Helper()
		var grad mat.VecDense
		h := pc.ref.sub(all)
		grad.MulVec(h, mat.NewVecDense(60, delta))
		scale := mat.Norm(h, 2) * mat.Norm(mat.NewVecDense(60, delta), 2)
		for j, f := range fixed {
			if x := grad.AtVec(j); !f && !(math.Abs(x) <= 1e-13*scale) { // some ε: the update is backward stable
				t.Errorf("%s: the gradient of weight %d is %g", what, j, x/scale)
			}
		}
	}
	delta, fixed := make([]float64, 60), make([]bool, 60)
	zeros := 0
	for j := range got {
		delta[j], fixed[j] = got[j]-w[j], got[j] == 0
		if fixed[j] {
			zeros++
		}
	}
	if zeros != 30 {
		t.Errorf("%d weights are 0, want 30", zeros)
	}
	check("prune", delta, fixed)

	// The same as a prescribed change.
	change := make([]float64, 60)
	for j := range change {
		if change[j] = 3; fixed[j] { // what is not fixed doesn't count
			change[j] = -w[j]
		}
	}
	comp := make([]float64, 60)
	if _, err := pc.run.Compensate64(ctx, comp, change, fixed); err != nil {
		t.Fatal(err)
	}
	for j := range comp {
		if fixed[j] && comp[j] != -w[j] {
			t.Errorf("fixed weight %d changes by %g, want %g", j, comp[j], -w[j])
		}
		if !(math.Abs(comp[j]-delta[j]) <= 1e-15*8*max(1, math.Abs(w[j]))) { // one rounding of w + δ
			t.Errorf("weight %d changes by %g, by %g when it is pruned", j, comp[j], delta[j])
		}
	}
	check("compensate", comp, fixed)
	single, narrow := make([]float32, 60), make([]float32, 60)
	for j := range change {
		narrow[j] = float32(change[j])
		change[j] = float64(narrow[j])
	}
	if _, err := pc.run.Compensate64(ctx, comp, change, fixed); err != nil {
		t.Fatal(err)
	}
	if _, err := pc.run.Compensate(ctx, single, narrow, fixed); err != nil {
		t.Fatal(err)
	}
	for j := range comp {
		if single[j] != float32(comp[j]) {
			t.Errorf("weight %d changes by %g in float32, by %g in float64", j, single[j], comp[j])
		}
	}
}

// TestPruneSteps compares pruning in steps with as many prunings by dense algebra.
func TestPruneSteps(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d, steps = 80, 4
	pc := newPruneCase(t, c.client(), "steps", d, 10, 10, 3, "")
	ctx := within(t, time.Minute)
	w, got := make([]float64, d), make([]float64, d)
	for j := range w {
		w[j] = pc.rng.NormFloat64()
	}
	for _, rule := range []string{wire.RuleSummed, wire.RuleJoint} {
		for _, masked := range []bool{false, true} {
			p := client.Pruning{Sparsity: 0.85, Rule: rule, Steps: steps}
			mask, kept := make([]int8, d), 1.0
			if masked {
				mask[3], mask[7], mask[50] = wire.MaskFixed, wire.MaskPruned, wire.MaskPruned
				p.Mask, kept = slices.Clone(mask), 1-2.0/d
			}
			want := slices.Clone(w)
			for step := 1; step <= steps; step++ {
				sparsity := p.Sparsity
				if step < steps {
					sparsity = 1 - kept*math.Pow((1-p.Sparsity)/kept, float64(step)/steps)
				}
				chosen, _ := pc.ref.choice(t, want, mask, sparsity)
				want = pc.ref.pruned(t, want, mask, chosen, rule)
				for _, j := range chosen {
					mask[j] = wire.MaskPruned
				}
			}
			a, err := pc.run.Prune64(ctx, got, w, p)
			if err != nil || a.Version != 10 {
				t.Fatalf("%+v: %+v, %v", p, a, err)
			}
			zeros := 0
			for _, x := range got {
				if x == 0 {
					zeros++
				}
			}
			if zeros != 68 {
				t.Errorf("%+v: %d zeros, want 68", p, zeros)
			}
			checkPruned(t, fmt.Sprintf("%+v", p), got, want)
			single, narrow := make([]float32, d), make([]float32, d)
			wide := make([]float64, d)
			for j := range w {
				single[j] = float32(w[j])
				wide[j] = float64(single[j])
			}
			if _, err := pc.run.Prune(ctx, narrow, single, p); err != nil {
				t.Fatal(err)
			}
			if _, err := pc.run.Prune64(ctx, got, wide, p); err != nil {
				t.Fatal(err)
			}
			for j := range got {
				if narrow[j] != float32(got[j]) {
					t.Fatalf("weight %d is %g in float32, %g in float64", j, narrow[j], got[j])
				}
			}
			if masked && !slices.Equal(p.Mask[:4], []int8{0, 0, 0, 1}) {
				t.Error("the mask has changed")
			}
		}
	}
	dead := make([]float64, d)
	dead[20] = 1
	if _, err := pc.run.Prune64(ctx, got, dead, client.Pruning{Sparsity: 0.5, Steps: 3}); err != nil {
		t.Errorf("weights that are 0: %v", err)
	}
	same := make([]float64, d)
	if _, err := pc.run.Prune64(ctx, got, w, client.Pruning{Steps: 5}); err != nil || !slices.Equal(got, w) {
		t.Errorf("nothing pruned in 5 steps: %v", err)
	}
	if _, err := pc.run.Prune64(ctx, same, got, client.Pruning{Steps: -1}); err == nil || !strings.Contains(err.Error(), "steps is -1") {
		t.Errorf("-1 steps: %v", err)
	}
}

// tolPrunedVectors is of the largest weight, for the reference's answers (testdata/README.md).
const tolPrunedVectors = 1e-6

// TestPruneVectors compares with the pruned weights of the reference, and sees that the number of workers
// changes no bit.
func TestPruneVectors(t *testing.T) {
	t.Parallel()
	v := openVectors(t)
	grads, weights := v.grads(), v.f32("weights")
	wide := make([]float64, len(weights))
	for j, x := range weights {
		wide[j] = float64(x)
	}
	answers := map[string][]float64{}
	for _, workers := range []int{1, 3} {
		c := start(t, shape{workers: workers})
		cl := c.client()
		for i, lambda := range []string{"0.01", "1e-05"} {
			ctx := within(t, time.Minute)
			r, err := cl.Attach(ctx, client.RunConfig{Name: fmt.Sprintf("pruned-%d", i), Dim: vectorsDim, Window: vectorsWindow, Damping: []float64{0.01, 1e-5}[i], Shards: 4})
			if err != nil {
				t.Fatal(err)
			}
			for k, g := range grads[len(grads)-vectorsWindow:] {
				if _, err := r.Publish(ctx, wire.Step(k), g); err != nil {
					t.Fatal(err)
				}
			}
			for _, percent := range []int{50, 90} {
				for _, rule := range []string{wire.RuleSummed, wire.RuleJoint} {
					got := make([]float64, vectorsDim)
					what := fmt.Sprintf("%s %d%% at λ = %s", rule, percent, lambda)
					if _, err := r.Prune64(ctx, got, wide, client.Pruning{Sparsity: float64(percent) / 100, Rule: rule}); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					if before, ok := answers[what]; ok {
						if !slices.EqualFunc(before, got, func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
							t.Errorf("%s: other bits with %d workers", what, workers)
						}
						continue
					}
					answers[what] = got
					zeros := 0
					for _, x := range got {
						if x == 0 {
							zeros++
						}
					}
					if want := vectorsDim * percent / 100; zeros != want {
						t.Errorf("%s: %d zeros, want %d", what, zeros, want)
					}
					if rule != wire.RuleSummed {
						checkMinimal(t, what, grads[len(grads)-vectorsWindow:], []float64{0.01, 1e-5}[i], wide, got)
						continue
					}
					want := v.f64(fmt.Sprintf("pruned_full_%d_%s", percent, lambda))
					var most, worst float64
					differ := 0
					for j := range want {
						most = max(most, math.Abs(want[j]))
						if (want[j] == 0) != (got[j] == 0) {
							differ++
							continue
						}
						worst = max(worst, math.Abs(want[j]-got[j]))
					}
					t.Logf("%s: off by %.2g of the largest weight, %d chosen otherwise", what, worst/most, differ)
					if differ > 0 || !(worst <= tolPrunedVectors*most) { // no two scores are nearer than 1e-9 there
						t.Errorf("%s: off by %.3g of the largest weight, want at most %g; %d are chosen otherwise", what, worst/most, tolPrunedVectors, differ)
					}
				}
			}
		}
	}
}

// checkMinimal sees that Hδ of a joint pruning is zero on the kept weights: some ε tr(F)‖δ‖, which is at
// least ‖F‖‖δ‖, as δ is the solution of a nearby system.
func checkMinimal(t *testing.T, what string, grads [][]float32, lambda float64, w, got []float64) {
	t.Helper()
	delta, norm, trace := make([]float64, len(w)), 0.0, 0.0
	for j := range w {
		delta[j] = got[j] - w[j]
		norm += delta[j] * delta[j]
	}
	grad := make([]float64, len(w))
	for j := range grad {
		grad[j] = lambda * delta[j]
	}
	n := float64(len(grads))
	for _, g := range grads {
		y := 0.0
		for j, x := range g {
			y += float64(x) * delta[j]
			trace += float64(x) * float64(x) / n
		}
		for j, x := range g {
			grad[j] += float64(x) * y / n
		}
	}
	for j := range got {
		if got[j] != 0 && !(math.Abs(grad[j]) <= 1e-13*(trace+lambda)*math.Sqrt(norm)) {
			t.Fatalf("%s: the gradient of weight %d is %g of tr(H)‖δ‖", what, j, grad[j]/(trace+lambda)/math.Sqrt(norm))
		}
	}
}

// TestPruneBad sees that bad input gets an error that says what is wrong, and changes nothing.
func TestPruneBad(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	pc := newPruneCase(t, c.client(), "bad-prune", 10, 3, 3, 2, "")
	ctx := within(t, time.Minute)
	w, dst := make([]float32, 10), make([]float32, 10)
	for j := range w {
		w[j] = float32(j + 1)
	}
	with := func(j int, x float32) []float32 {
		v := slices.Clone(w)
		v[j] = x
		return v
	}
	masked := func(m ...int8) []int8 { return append(m, make([]int8, 10-len(m))...) }
	full := []int8{1, 1, 1, 1, 1, -1, -1, -1, -1, -1}
	ok := client.Pruning{Sparsity: 0.5}
	for _, bad := range []struct {
		what string
		w    []float32
		p    client.Pruning
		says string
	}{
		{"sparsity 1", w, client.Pruning{Sparsity: 1}, "sparsity is 1, must be in [0, 1)"},
		{"sparsity below 0", w, client.Pruning{Sparsity: -0.1}, "sparsity is -0.1, must be in [0, 1)"},
		{"sparsity NaN", w, client.Pruning{Sparsity: math.NaN()}, "sparsity is NaN, must be in [0, 1)"},
		{"rule", w, client.Pruning{Rule: "obs"}, "rule is obs, must be summed or joint"},
		{"NaN", with(7, float32(math.NaN())), ok, "column is 7, must be finite"},
		{"Inf", with(2, float32(math.Inf(1))), ok, "column is 2, must be finite"},
		{"too few weights", w[:9], ok, "weights is 9, must be 10"},
		{"short mask", w, client.Pruning{Sparsity: 0.5, Mask: full[:9]}, "mask is 9, must be 10"},
		{"full mask", w, client.Pruning{Sparsity: 0.5, Mask: full}, "mask is full"},
		{"empty mask", w, client.Pruning{Sparsity: 0.5, Mask: masked()}, "mask is empty"},
		{"other mask", w, client.Pruning{Sparsity: 0.5, Mask: masked(0, 0, 0, 0, 0, 0, 0, 0, 2)}, "mask of column 8 is 2, must be 0, 1 or -1"},
		{"too much kept", w, client.Pruning{Sparsity: 0.9, Mask: masked(1, 1)}, "sparsity is 0.9, must be at most 0.8"},
		{"too much gone", w, client.Pruning{Sparsity: 0.1, Mask: masked(-1, -1)}, "sparsity is 0.1, must be at least 0.2"},
	} {
		dst[0] = 42
		_, err := pc.run.Prune(ctx, dst, bad.w, bad.p)
		if err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: %v, want %q", bad.what, err, bad.says)
		}
		if dst[0] != 42 {
			t.Errorf("%s: the result was written", bad.what)
		}
	}
	if _, err := pc.run.Prune(ctx, w, w, ok); err == nil || !strings.Contains(err.Error(), "its own") {
		t.Errorf("in place: %v", err)
	}
	for what, fixed := range map[string][]bool{"mask is empty": make([]bool, 10), "mask is full": slices.Repeat([]bool{true}, 10), "mask is 3, must be 10": make([]bool, 3)} {
		if _, err := pc.run.Compensate(ctx, dst, w, fixed); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("compensate: %v, want %q", err, what)
		}
	}
	if a, err := pc.run.Prune(ctx, dst, w, ok); err != nil || a.Version != 3 {
		t.Errorf("afterwards: %+v, %v", a, err)
	}
}
