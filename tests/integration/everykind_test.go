package integration

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/gonum/floats"

	"mfac/client"
	"mfac/wire"
)

// heard is what a run has answered of one kind: a vector of numbers for each that was asked for together, and how far each may be off, in
// the 2-norm.
type heard struct {
	x      [][]float64
	bounds []float64
}

// kind is a kind of query that is asked for some of the vectors of a table, by their numbers.
type kind struct {
	name   string
	alone  bool // not asked for several at once
	fixed  bool // of no damping
	blocks bool // takes blocks, and has none
	ask    func(ctx context.Context, which []int, opts ...client.QueryOption) (heard, error)
}

// kinds is every kind of query that there is, of a run with m gradients, in its newest steps, and of the vectors vs.
func kinds(run *client.Run, steps []wire.Step, vs [][]float64) []kind {
	d := int(run.Dim())
	pick := func(which []int) (v, x [][]float64) {
		for _, i := range which {
			v, x = append(v, vs[i]), append(x, make([]float64, d))
		}
		return v, x
	}
	// relative is an answer whose bounds are of ‖x‖.
	relative := func(x [][]float64, a client.Answer, err error) (heard, error) {
		h := heard{x: x}
		for i := range x {
			bound := noBound // of pruning, see there
			if len(a.Bounds) > 0 {
				bound = a.Bounds[min(i, len(a.Bounds)-1)]
			}
			h.bounds = append(h.bounds, bound*floats.Norm(x[i], 2))
		}
		return h, err
	}
	vectors := func(name string, f func(ctx context.Context, x, v [][]float64, opts ...client.QueryOption) (client.Answer, error), more ...client.QueryOption) kind {
		return kind{name: name, ask: func(ctx context.Context, which []int, opts ...client.QueryOption) (heard, error) {
			v, x := pick(which)
			a, err := f(ctx, x, v, append(opts, more...)...)
			return relative(x, a, err)
		}}
	}
	one := func(name string, f func(ctx context.Context, x []float64, opts ...client.QueryOption) (client.Answer, error), more ...client.QueryOption) kind {
		return kind{name: name, alone: true, ask: func(ctx context.Context, _ []int, opts ...client.QueryOption) (heard, error) {
			x := make([]float64, d)
			a, err := f(ctx, x, append(opts, more...)...)
			return relative([][]float64{x}, a, err)
		}}
	}
	pruned := func(p client.Pruning, more ...client.QueryOption) kind {
		return one(fmt.Sprintf("prune %s %v %d, %d options", p.Rule, p.Pattern, p.Steps, len(more)), func(ctx context.Context, x []float64, opts ...client.QueryOption) (client.Answer, error) {
			return run.Prune64(ctx, x, vs[0], p, opts...)
		}, more...)
	}
	combined := func(name string, more ...client.QueryOption) kind {
		return kind{name: name, ask: func(ctx context.Context, which []int, opts ...client.QueryOption) (heard, error) {
			_, x := pick(which)
			var coef [][]float64
			for _, i := range which {
				coef = append(coef, vs[i][:len(steps)])
			}
			a, err := run.IHVPCombines64(ctx, x, steps, coef, append(opts, more...)...)
			return relative(x, a, err)
		}}
	}
	subblock := func(name string, more ...client.QueryOption) kind {
		return kind{name: name, alone: true, ask: func(ctx context.Context, _ []int, opts ...client.QueryOption) (heard, error) {
			x, a, err := run.Subblock(ctx, []int64{0, int64(d - 1), 5, int64(d / 2)}, append(opts, more...)...)
			largest := 0.0
			for _, y := range x {
				largest = max(largest, math.Abs(y)) // √(H⁻¹ᵢᵢ H⁻¹ⱼⱼ) is at most the largest of the diagonal
			}
			return heard{[][]float64{x}, []float64{4 * a.Bound() * largest}}, err
		}}
	}
	estimates := func(s client.Scalars, with ...client.Estimate) (x, bound []float64) {
		all := append(with, s.Trace, s.Frobenius, s.Spectral)
		for _, at := range s.At {
			all = append(all, at.LogDet, at.TraceInverse, at.EffectiveDim, at.Largest, at.Smallest)
		}
		for _, e := range all {
			x, bound = append(x, e.Value), append(bound, e.Error)
		}
		return x, bound
	}
	mask, fixed, delta := make([]int8, d), make([]bool, d), make([]float64, d)
	for j := range mask {
		if mask[j] = []int8{0, 0, 1, 0, -1}[j%5]; j%4 == 0 {
			fixed[j], delta[j] = true, vs[0][j]
		}
	}
	blocks, across := client.WithBlocks(100), client.WithBlocksAcross(700)
	lambda := func(opts []client.QueryOption) []float64 { // queries of lists of λ take it there
		if len(opts) > 0 {
			return []float64{overriding}
		}
		return []float64{run.Spec().Damping}
	}
	inBlocks := func(k kind) kind { k.blocks = true; return k }
	return []kind{
		inBlocks(vectors("ihvp", run.IHVPs64)), vectors("ihvp, refined", run.IHVPs64, client.WithRefine()), vectors("ihvp, verified", run.IHVPs64, client.WithVerify()),
		vectors("ihvp in blocks", run.IHVPs64, blocks), vectors("ihvp in blocks across", run.IHVPs64, across), vectors("ihvp in blocks, verified", run.IHVPs64, blocks, client.WithVerify()),
		func() kind { k := vectors("fvp", run.FisherVecs64); k.fixed = true; return k }(),
		vectors("hvp", run.HessianVecs64), vectors("root", run.InvSqrts64),
		inBlocks(combined("combination")), combined("combination, refined", client.WithRefine()), combined("combination in blocks", blocks), combined("combination in blocks across", across),
		{name: "sample", ask: func(ctx context.Context, which []int, opts ...client.QueryOption) (heard, error) {
			_, x := pick(which)
			a, err := run.Samples64(ctx, x, 5, int64(which[0]), opts...)
			return relative(x, a, err)
		}},
		{name: "column", ask: func(ctx context.Context, which []int, opts ...client.QueryOption) (heard, error) {
			_, x := pick(which)
			var index []int64
			for _, i := range which {
				index = append(index, int64(i*d/len(vs)))
			}
			a, err := run.Columns64(ctx, x, index, opts...)
			return relative(x, a, err)
		}},
		{name: "scores", ask: func(ctx context.Context, which []int, opts ...client.QueryOption) (heard, error) {
			v, _ := pick(which)
			s, err := run.Scores64(ctx, v, opts...)
			return relative(s.Scores, s.Answer, err)
		}},
		{name: "pairs", ask: func(ctx context.Context, which []int, opts ...client.QueryOption) (heard, error) {
			v, _ := pick(which)
			var pairs [][2]int
			for i := range v {
				pairs = append(pairs, [2]int{i, i})
			}
			p, err := run.Pairs64(ctx, v, pairs, opts...)
			h := heard{bounds: p.Bounds}
			for _, x := range p.Values {
				h.x = append(h.x, []float64{x})
			}
			return h, err
		}},
		{name: "likelihood", ask: func(ctx context.Context, which []int, opts ...client.QueryOption) (heard, error) {
			v, _ := pick(which)
			l, err := run.Likelihoods64(ctx, lambda(opts), v)
			if err != nil {
				return heard{}, err
			}
			h := heard{bounds: l.Bounds[0]}
			for _, x := range l.Values[0] {
				h.x = append(h.x, []float64{x})
			}
			return h, err
		}},
		inBlocks(one("diag", run.Diag64)), one("diag in blocks", run.Diag64, blocks), one("diag in blocks across", run.Diag64, across),
		inBlocks(subblock("sub-block")), subblock("sub-block in blocks", blocks), subblock("sub-block in blocks across", across),
		inBlocks(pruned(client.Pruning{Sparsity: 0.5, Rule: wire.RuleSummed})), inBlocks(pruned(client.Pruning{Sparsity: 0.5, Rule: wire.RuleJoint, Mask: mask})),
		inBlocks(pruned(client.Pruning{Sparsity: 0.5, Rule: wire.RuleSummed, Steps: 2})), inBlocks(pruned(client.Pruning{Pattern: wire.Pattern{Keep: 2, Of: 4}, Rule: wire.RuleJoint})),
		pruned(client.Pruning{Sparsity: 0.5, Rule: wire.RuleJoint, Mask: mask}, blocks), pruned(client.Pruning{Pattern: wire.Pattern{Keep: 2, Of: 4}}, across),
		one("compensate", func(ctx context.Context, x []float64, opts ...client.QueryOption) (client.Answer, error) {
			return run.Compensate64(ctx, x, delta, fixed, opts...)
		}),
		{name: "influence", alone: true, ask: func(ctx context.Context, _ []int, opts ...client.QueryOption) (heard, error) {
			in, err := run.Influence(ctx, opts...)
			return heard{in.Values, in.Bounds}, err
		}},
		{name: "self-influence", alone: true, ask: func(ctx context.Context, _ []int, opts ...client.QueryOption) (heard, error) {
			s, err := run.SelfInfluence(ctx, opts...)
			return heard{[][]float64{s.Self, s.Out}, []float64{floats.Norm(s.SelfBound, 2), floats.Norm(s.OutBound, 2)}}, err
		}},
		{name: "left-out likelihood", alone: true, ask: func(ctx context.Context, _ []int, opts ...client.QueryOption) (heard, error) {
			l, err := run.LeaveOneOut(ctx, lambda(opts))
			if err != nil {
				return heard{}, err
			}
			return heard{l.Values, []float64{floats.Norm(l.Bounds[0], 2)}}, nil
		}},
		{name: "scalars", alone: true, ask: func(ctx context.Context, _ []int, opts ...client.QueryOption) (heard, error) {
			s, err := run.Scalars(ctx, lambda(opts))
			x, bound := estimates(s)
			return heard{[][]float64{x}, []float64{floats.Norm(bound, 2)}}, err
		}},
		{name: "scalars of blocks", alone: true, ask: func(ctx context.Context, _ []int, opts ...client.QueryOption) (h heard, err error) {
			all, err := run.BlockScalars(ctx, lambda(opts), across)
			for _, s := range all {
				x, bound := estimates(s.Scalars)
				h.x, h.bounds = append(h.x, x), append(h.bounds, floats.Norm(bound, 2))
			}
			return h, err
		}},
		{name: "spectrum", alone: true, fixed: true, ask: func(ctx context.Context, _ []int, opts ...client.QueryOption) (heard, error) {
			s, err := run.Spectrum(ctx)
			return heard{[][]float64{s.Eigenvalues}, []float64{s.Error * math.Sqrt(float64(len(s.Eigenvalues)))}}, err
		}},
		{name: "gradient", alone: true, fixed: true, ask: func(ctx context.Context, _ []int, opts ...client.QueryOption) (heard, error) {
			g := make([]float32, d)
			_, err := run.Gradient(ctx, g, steps[1])
			return heard{[][]float64{widened(g)}, []float64{0}}, err
		}},
	}
}

// overriding is the λ that queries ask for in place of the run's.
const overriding = 0.2

// TestEveryKind holds every kind of query to what is promised of all: k together are each alone, byte for byte; the bytes are the same
// whatever the number of workers and threads; at another λ than the run's the answer is that of a run made with that λ, within the
// bounds of both. In windows with weights and a half-life, over shards that cut tiles, tensors and blocks.
func TestEveryKind(t *testing.T) {
	t.Parallel()
	const d, m, k = 2_500, 7, 3
	r := rand.New(rand.NewPCG(50, 51))
	rows, vs := make([][]float32, m+2), make([][]float64, k)
	for i := range rows {
		rows[i] = normal(r, d)
	}
	for i := range vs {
		vs[i] = widened(normal(r, d))
	}
	var steps []wire.Step
	for i := range m {
		steps = append(steps, wire.Step(i+2))
	}
	ctx := within(t, 2*time.Minute)
	fill := func(c *cluster, name string, lambda float64) []kind {
		t.Helper()
		run := c.attach(c.client(), client.RunConfig{Name: name, Dim: d, Window: m, Damping: lambda, HalfLife: 9, Divisor: wire.Count, Shards: 3})
		for i, g := range rows {
			if _, err := run.Publish(ctx, wire.Step(i), g, client.WithWeight(1+float64(i%3))); err != nil {
				t.Fatal(err)
			}
		}
		return kinds(run, steps, vs)
	}
	ask := func(q kind, which []int, opts ...client.QueryOption) heard {
		t.Helper()
		h, err := q.ask(ctx, which, opts...)
		if err != nil {
			t.Fatalf("%s: %v", q.name, err)
		}
		return h
	}
	equal := func(a, b heard) bool {
		return slices.EqualFunc(a.x, b.x, func(a, b []float64) bool { return slices.Equal(bits64(a), bits64(b)) }) && slices.Equal(bits64(a.bounds), bits64(b.bounds))
	}
	few, many := start(t, shape{workers: 1, threads: 1}), start(t, shape{workers: 3, threads: 2})
	eventually(t, func() error {
		w, err := many.client().Workers(soon(t))
		if err == nil && len(w) < 3 {
			err = fmt.Errorf("%d workers", len(w))
		}
		return err
	})
	all := []int{0, 1, 2}
	first, second, other := fill(few, "same", 0.05), fill(many, "same", 0.05), fill(many, "other", overriding)
	for i, q := range first {
		h := ask(q, all)
		if g := ask(second[i], all); !equal(h, g) {
			t.Errorf("%s: other bytes, or another bound, with 3 workers", q.name)
		}
		if !q.alone {
			for j := range k {
				if g := ask(q, []int{j}); !equal(g, heard{h.x[j : j+1], h.bounds[j : j+1]}) {
					t.Errorf("%s: number %d alone has other bytes, or another bound, than with others", q.name, j)
				}
			}
		}
		if q.fixed {
			continue
		}
		h, g := ask(q, all, client.WithDamping(overriding)), ask(other[i], all)
		for j := range h.x {
			if off := floats.Distance(h.x[j], g.x[j], 2); !(off <= h.bounds[j]+g.bounds[j]) {
				t.Errorf("%s: number %d at another λ is off by %.3g, bounds %.3g and %.3g", q.name, j, off, h.bounds[j], g.bounds[j])
			}
		}
		if equal(h, ask(q, all)) {
			t.Errorf("%s: another λ changes nothing", q.name)
		}
	}
}

// TestEveryKindSame: one block of all columns is the whole of H, in all that knows blocks, and a gradient that is published and forgotten
// leaves every answer what it was: within the bounds of both.
func TestEveryKindSame(t *testing.T) {
	t.Parallel()
	const d, m = 600, 6
	c := start(t, shape{workers: 2})
	r := rand.New(rand.NewPCG(52, 53))
	vs := [][]float64{widened(normal(r, d)), widened(normal(r, d))}
	ctx := within(t, time.Minute)
	run := c.attach(c.client(), client.RunConfig{Name: "same", Dim: d, Window: m + 2, Damping: 0.05, HalfLife: 9, Shards: 3})
	var steps []wire.Step
	for i := range m {
		if _, err := run.Publish(ctx, wire.Step(i), normal(r, d), client.WithWeight(1+float64(i%3))); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, wire.Step(i))
	}
	near := func(what string, a, b heard) {
		t.Helper()
		for j := range a.x {
			if off := floats.Distance(a.x[j], b.x[j], 2); !(off <= a.bounds[j]+b.bounds[j]) {
				t.Errorf("%s: number %d is off by %.3g, bounds %.3g and %.3g", what, j, off, a.bounds[j], b.bounds[j])
			}
		}
	}
	ask := func(q kind, opts ...client.QueryOption) heard {
		t.Helper()
		h, err := q.ask(ctx, []int{0, 1}, opts...)
		if err != nil {
			t.Fatalf("%s: %v", q.name, err)
		}
		return h
	}
	all := kinds(run, steps, vs)
	before, whole := make([]heard, len(all)), 0
	for i, q := range all {
		before[i] = ask(q)
		if q.blocks {
			near(q.name+" in one block", ask(q, client.WithBlocksAcross(d)), before[i])
			whole++
		}
	}
	if whole < 8 {
		t.Errorf("%d kinds in one block", whole)
	}
	one, err := run.BlockScalars(ctx, nil, client.WithBlocksAcross(d))
	if err != nil || len(one) != 1 {
		t.Fatal(one, err)
	}
	plain, err := run.Scalars(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair := func(name string, a, b client.Estimate) {
		near(name, heard{[][]float64{{a.Value}}, []float64{a.Error}}, heard{[][]float64{{b.Value}}, []float64{b.Error}})
	}
	pair("trace", one[0].Trace, plain.Trace)
	pair("norm", one[0].Frobenius, plain.Frobenius)
	pair("log det H", one[0].At[0].LogDet, plain.At[0].LogDet)
	pair("tr H⁻¹", one[0].At[0].TraceInverse, plain.At[0].TraceInverse)
	pair("dimension", one[0].At[0].EffectiveDim, plain.At[0].EffectiveDim)
	pair("the largest eigenvalue", one[0].At[0].Largest, plain.At[0].Largest)

	if _, err := run.Publish(ctx, m+3, normal(r, d), client.WithWeight(100)); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Forget(ctx, m+3); err != nil {
		t.Fatal(err)
	}
	for i, q := range all {
		near(q.name+" after a gradient that was forgotten", ask(q), before[i])
	}
}
