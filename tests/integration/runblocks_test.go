package integration

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mfac/client"
	"mfac/wire"
)

// asked is an answer, without its version.
type asked struct {
	X      []float64
	Answer client.Answer
}

// everyBlocked asks all that can be of blocks.
func everyBlocked(t *testing.T, r *client.Run, v []float64, steps []wire.Step, opts ...client.QueryOption) map[string]asked {
	t.Helper()
	ctx, d := within(t, time.Minute), int(r.Dim())
	out := map[string]asked{}
	vector := func(name string, f func(x []float64) (client.Answer, error)) {
		t.Helper()
		x := make([]float64, d)
		a, err := f(x)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a.Version = 0
		out[name] = asked{x, a}
	}
	vector("ihvp", func(x []float64) (client.Answer, error) { return r.IHVP64(ctx, x, v, opts...) })
	vector("ihvp, verified", func(x []float64) (client.Answer, error) {
		return r.IHVP64(ctx, x, v, append(opts[:len(opts):len(opts)], client.WithVerify())...)
	})
	vector("a step", func(x []float64) (client.Answer, error) { return r.IHVPStep64(ctx, x, steps[0], opts...) })
	vector("a combination", func(x []float64) (client.Answer, error) {
		return r.IHVPCombine64(ctx, x, steps, v[:len(steps)], opts...)
	})
	vector("diag", func(x []float64) (client.Answer, error) { return r.Diag64(ctx, x, opts...) })
	for _, rule := range []string{wire.RuleSummed, wire.RuleJoint} {
		vector("prune "+rule, func(x []float64) (client.Answer, error) {
			return r.Prune64(ctx, x, v, client.Pruning{Sparsity: 0.5, Rule: rule, Steps: 2}, opts...)
		})
	}
	x, a, err := r.Subblock(ctx, []int64{0, int64(d / 2), int64(d/2 + 1), int64(d - 1)}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	a.Version = 0
	out["subblock"] = asked{x, a}
	return out
}

// A run of blocks answers as one of the same rows that is asked for blocks, byte for byte, also the result of a step; by the whole of H where
// it is asked for that, and by others; before and after a takeover.
func TestRunBlocks(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cl := c.client()
	layout := []wire.Tensor{{Name: "a", Shape: []int64{31}}, {Name: "b", Shape: []int64{4, 9}}, {Name: "c", Shape: []int64{23}}}
	const d, m = 90, 8
	for i, s := range []struct {
		blocks wire.Blocking
		option client.BlocksOption
		layout []wire.Tensor
	}{
		{wire.BlockingTensor, client.WithTensorBlocks(), layout},
		{wire.BlockingOf(13, false), client.WithBlocks(13), layout},
		{wire.BlockingOf(25, true), client.WithBlocksAcross(25), layout},
		{wire.BlockingOf(40, false), client.WithBlocks(40), nil},
	} {
		if testing.Short() && i%2 == 1 {
			t.Logf("-short: without %s", s.blocks)
			continue
		}
		t.Run(strings.ReplaceAll(string(s.blocks), " ", "-"), func(t *testing.T) {
			ctx := within(t, 2*time.Minute)
			r := rand.New(rand.NewPCG(uint64(i), 17))
			cfg := client.RunConfig{Name: "blocks-" + strings.Fields(string(s.blocks))[0], Dim: d, Window: m, Damping: 1e-3, Layout: s.layout, Shards: 3, HalfLife: 4, Spare: 4, Blocks: s.blocks}
			run := c.attach(cl, cfg)
			cfg.Name, cfg.Blocks = "plain-"+cfg.Name, ""
			plain := c.attach(cl, cfg)
			var steps []wire.Step
			for k := range m + 3 {
				g, step := normal(r, d), wire.Step(k+1)
				if _, err := plain.Publish(ctx, step, g); err != nil {
					t.Fatal(err)
				}
				got, want := make([]float64, d), make([]float64, d)
				a, err := run.Precondition64(ctx, step, got, g)
				if err != nil {
					t.Fatal(err)
				}
				b, err := plain.IHVPStep64(ctx, want, step, s.option)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(asked{want, b}, asked{got, a}); diff != "" {
					t.Fatalf("the result of step %d (-a query for it +of the step)\n%s", step, diff)
				}
				if steps = append(steps, step); len(steps) > m {
					steps = steps[1:]
				}
			}
			v := make([]float64, d)
			for j := range v {
				v[j] = r.NormFloat64()
			}
			check := func(when string) {
				t.Helper()
				for what, of := range map[string][2]map[string]asked{
					"the run's":  {everyBlocked(t, plain, v, steps, s.option), everyBlocked(t, run, v, steps)},
					"the whole":  {everyBlocked(t, plain, v, steps), everyBlocked(t, run, v, steps, client.WithWhole())},
					"of others":  {everyBlocked(t, plain, v, steps, client.WithBlocks(7)), everyBlocked(t, run, v, steps, client.WithBlocks(7))},
					"of the λ":   {everyBlocked(t, plain, v, steps, s.option, client.WithDamping(0.1)), everyBlocked(t, run, v, steps, client.WithDamping(0.1))},
					"in no such": {everyBlocked(t, plain, v, steps), everyBlocked(t, plain, v, steps, client.WithWhole())},
				} {
					if diff := cmp.Diff(of[0], of[1]); diff != "" {
						t.Errorf("%s: %s (-plain +of blocks)\n%s", when, what, diff)
					}
				}
				want, err := plain.BlockScalars(ctx, []float64{1e-3, 1}, s.option)
				if err != nil {
					t.Fatal(err)
				}
				got, err := run.BlockScalars(ctx, []float64{1e-3, 1}, nil)
				if err != nil {
					t.Fatal(err)
				}
				all, err := run.Scalars(ctx, []float64{1e-3, 1})
				if err != nil {
					t.Fatal(err)
				}
				for i := range got {
					got[i].Version, want[i].Version = 0, 0
				}
				all.Version = 0
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: numbers (-plain +of blocks)\n%s", when, diff)
				}
				if diff := cmp.Diff(client.SumBlocks(want), all); diff != "" {
					t.Errorf("%s: numbers of all (-plain +of blocks)\n%s", when, diff)
				}
			}
			check("at first")
			if i == 0 {
				c.crashCoordinator("c0")
				c.startCoordinator("c0")
				check("after a takeover")
			}
			others(t, plain, run, v)
		})
	}
}

// others asks what is not answered by blocks: refused by name, unless the whole is asked for.
func others(t *testing.T, plain, run *client.Run, v []float64) {
	t.Helper()
	ctx, d := within(t, time.Minute), int(run.Dim())
	x := func() [][]float64 { return [][]float64{make([]float64, d)} }
	for name, ask := range map[string]func(r *client.Run, opts ...client.QueryOption) (any, error){
		"scores": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			s, err := r.Scores64(ctx, [][]float64{v}, opts...)
			return s.Scores, err
		},
		"pairs": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			p, err := r.Pairs64(ctx, [][]float64{v}, [][2]int{{0, 0}}, opts...)
			return p.Values, err
		},
		"influence": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			y, err := r.Influence(ctx, opts...)
			return y.Values, err
		},
		"self": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			y, err := r.SelfInfluence(ctx, opts...)
			return y.Self, err
		},
		"column": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			y := x()
			_, err := r.Columns64(ctx, y, []int64{3}, opts...)
			return y, err
		},
		"sample": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			y := x()
			_, err := r.Samples64(ctx, y, 1, 0, opts...)
			return y, err
		},
		"invsqrt": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			y := x()
			_, err := r.InvSqrts64(ctx, y, [][]float64{v}, opts...)
			return y, err
		},
		"fisher": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			y := x()
			_, err := r.FisherVecs64(ctx, y, [][]float64{v}, opts...)
			return y, err
		},
		"hessian": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			y := x()
			_, err := r.HessianVecs64(ctx, y, [][]float64{v}, opts...)
			return y, err
		},
		"compensate": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			y, fixed := x(), make([]bool, d)
			fixed[2] = true
			_, err := r.Compensate64(ctx, y[0], v, fixed, opts...)
			return y, err
		},
		"spectrum": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			s, err := r.Spectrum(ctx, opts...)
			return s.Eigenvalues, err
		},
		"likelihood": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			l, err := r.Likelihoods64(ctx, []float64{1}, [][]float64{v}, opts...)
			return l.Values, err
		},
		"leaveout": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			l, err := r.LeaveOneOut(ctx, []float64{1}, opts...)
			return l.Values, err
		},
		"scalars": func(r *client.Run, opts ...client.QueryOption) (any, error) {
			s, err := r.Scalars(ctx, nil, opts...)
			return s.At, err
		},
	} {
		if _, err := ask(run); name != "scalars" && (!errors.Is(err, wire.ErrUnsupported) || !strings.Contains(err.Error(), "kind is "+name+",")) {
			t.Errorf("%s in a run of blocks: %v", name, err)
		}
		got, err := ask(run, client.WithWhole())
		if err != nil {
			t.Errorf("%s of the whole: %v", name, err)
			continue
		}
		want, err := ask(plain)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-plain +of the whole)\n%s", name, diff)
		}
	}
	g := make([]float32, d)
	if _, err := run.Gradient(ctx, g, wire.Step(9)); err != nil {
		t.Errorf("a row: %v", err)
	}
}

// Ranks of a data-parallel job each get their columns of a step's result; several steps may be under way, in the order of their commits; and
// the whole may be asked for.
func TestRunBlocksOfRanks(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	const d, m = 50, 6
	run := c.attach(cl, client.RunConfig{Name: "ranks", Dim: d, Window: m, Damping: 1e-2, Shards: 2, Spare: 4, Blocks: wire.BlockingOf(20, true)})
	plain := c.attach(cl, client.RunConfig{Name: "plain", Dim: d, Window: m, Damping: 1e-2, Shards: 2})
	ctx := within(t, time.Minute)
	r := rand.New(rand.NewPCG(4, 4))
	for step := wire.Step(1); step <= m+2; step++ {
		g := normal(r, d)
		if _, err := plain.Publish(ctx, step, g); err != nil {
			t.Fatal(err)
		}
		got, want := make([]float64, d), make([]float64, d)
		errs := make(chan error, 2)
		for _, cols := range [][2]int{{0, 23}, {23, d}} {
			go func() {
				_, err := run.PreconditionColumns64(ctx, step, int64(cols[0]), got[cols[0]:cols[1]], g[cols[0]:cols[1]])
				errs <- err
			}()
		}
		for range 2 {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		if _, err := plain.IHVPStep64(ctx, want, step, client.WithBlocksAcross(20)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("step %d of two ranks (-plain +of ranks)\n%s", step, diff)
		}
	}
	// Four at once: each is that of the window at its own commit.
	grads, got := make([][]float32, 4), make([][]float64, 4)
	errs := make(chan error, len(grads))
	for i := range grads {
		grads[i], got[i] = normal(r, d), make([]float64, d)
		go func() {
			_, err := run.Precondition64(ctx, wire.Step(m+3+i), got[i], grads[i])
			errs <- err
		}()
	}
	for range grads {
		if err := <-errs; err != nil && !errors.Is(err, &wire.Error{Code: wire.CodeNotGrowing}) {
			t.Fatal(err)
		}
	}
	w, err := run.Steps(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []wire.Step{m + 3, m + 4, m + 5, m + 6} {
		if !contains(w.Steps, step) { // a later one came first
			continue
		}
		if _, err := plain.Publish(ctx, step, grads[i]); err != nil {
			t.Fatal(err)
		}
		want := make([]float64, d)
		if _, err := plain.IHVPStep64(ctx, want, step, client.WithBlocksAcross(20)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got[i]); diff != "" {
			t.Errorf("step %d of four at once (-plain +of blocks)\n%s", step, diff)
		}
	}
	g, x, y := normal(r, d), make([]float64, d), make([]float64, d)
	a, err := run.Precondition64(ctx, 99, x, g, client.WithWhole())
	if err != nil {
		t.Fatal(err)
	}
	b, err := run.IHVPStep64(ctx, y, 99, client.WithWhole())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(y, x); diff != "" || a.Bound() != b.Bound() {
		t.Errorf("of the whole (-a query for it +of the step), bounds %g and %g\n%s", b.Bound(), a.Bound(), diff)
	}
	if _, err := run.Precondition64(ctx, 100, x, g, client.WithDamping(1e-200)); !errors.Is(err, &wire.Error{Code: wire.CodeIllConditioned}) {
		t.Errorf("a step at a damping that is too small: %v", err)
	}
	if w, err := run.Steps(ctx); err != nil || !contains(w.Steps, 100) {
		t.Errorf("the gradient whose result was refused is not in the window: %v, %v", w.Steps, err)
	}
}

func contains(list []wire.Step, step wire.Step) bool {
	for _, s := range list {
		if s == step {
			return true
		}
	}
	return false
}

// What a run of blocks is, is part of what it is.
func TestRunBlocksAttach(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	cl := c.client()
	layout := []wire.Tensor{{Name: "a", Shape: []int64{2}}, {Name: "b", Shape: []int64{3}}}
	cfg := client.RunConfig{Name: "b", Dim: 5, Window: 2, Damping: 1, Layout: layout, Blocks: wire.BlockingTensor}
	c.attach(cl, cfg)
	c.attach(cl, cfg)
	ctx := within(t, time.Minute)
	joined, err := cl.Join(ctx, "b")
	if err != nil || joined.Spec().Blocks != wire.BlockingTensor {
		t.Errorf("blocks %q, %v", joined.Spec().Blocks, err)
	}
	for _, other := range []wire.Blocking{"", "2", "2 across"} {
		cfg.Blocks = other
		var we *wire.Error
		if _, err := cl.Attach(ctx, cfg); !errors.As(err, &we) || we.Code != wire.CodeExists || we.Field != "blocks" {
			t.Errorf("with blocks %q: %v", other, err)
		}
	}
	for _, bad := range []wire.Blocking{"0", "-1", "02", "x", "2across", "2  across", "tensor across", "1125899906842625", wire.BlockingOf(0, true)} {
		cfg.Name, cfg.Blocks = "bad", bad
		if _, err := cl.Attach(ctx, cfg); !errors.Is(err, wire.ErrInvalid) || !strings.Contains(err.Error(), "blocks is ") {
			t.Errorf("blocks %q: %v", bad, err)
		}
	}
	if _, err := cl.Attach(ctx, client.RunConfig{Name: "bad", Dim: 5, Window: 2, Blocks: wire.BlockingTensor}); !errors.Is(err, wire.ErrInvalid) || !strings.Contains(err.Error(), "blocks is tensor, must be a number of columns in a run without a layout") {
		t.Errorf("tensors without a layout: %v", err)
	}
	g, x := []float32{1, 2, 3, 4, 5}, make([]float32, 5)
	if _, err := joined.Publish(ctx, 1, g); err != nil {
		t.Fatal(err)
	}
	if _, err := joined.IHVP(ctx, x, g, client.WithRefine()); err == nil || !strings.Contains(err.Error(), "refine is true, must be left out of a query of blocks") {
		t.Errorf("refined: %v", err)
	}
	// g gᵀ/2 + I, of a block: H_b⁻¹g_b = g_b/(1 + ‖g_b‖²/2).
	if _, err := joined.IHVP(ctx, x, g); err != nil {
		t.Fatal(err)
	}
	for j, g := range g {
		want := float64(g) / (1 + []float64{5, 5, 50, 50, 50}[j]/2)
		if !(math.Abs(float64(x[j])-want) <= 1e-6*want) { // float32
			t.Errorf("column %d is %g, want %g", j, x[j], want)
		}
	}
}
