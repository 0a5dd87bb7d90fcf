package integration

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"mfac/client"
	"mfac/wire"
)

// inBlocks is h with zeros outside blocks.
func inBlocks(h *mat.SymDense, borders []int) *mat.SymDense {
	d := h.SymmetricDim()
	out := mat.NewSymDense(d, nil)
	for b := range borders[:len(borders)-1] {
		for i := borders[b]; i < borders[b+1]; i++ {
			for j := i; j < borders[b+1]; j++ {
				out.SetSym(i, j, h.At(i, j))
			}
		}
	}
	return out
}

// checkBlocks asks all that is answered by blocks, and compares with dense algebra, as check does.
func (x *dampedRun) checkBlocks(t *testing.T, what string, r *rand.Rand, borders []int, of ...client.QueryOption) {
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
	last := len(x.rows) - 1
	for _, s := range []float64{1, 7.5} {
		opts := append(of[:len(of):len(of)], client.WithDamping(s*x.cfg.Damping))
		h := inBlocks(x.h(n, s), borders)
		var chol mat.Cholesky
		var inverse mat.SymDense
		if !chol.Factorize(h) {
			t.Fatal("H is not positive definite")
		}
		if err := chol.InverseTo(&inverse); err != nil {
			t.Fatal(err)
		}
		solve, near := x.against(t, &chol, fmt.Sprintf("%s at %g", what, s))
		got := make([]float64, d)
		verified := append(opts[:len(opts):len(opts)], client.WithVerify())
		a, err := x.IHVP64(ctx, got, v, verified...)
		near("ihvp", got, solve(v), a, err)
		x.residual(t, "ihvp", got, v, a, h)
		sum := widened(x.rows[0])
		floats.Scale(2, sum)
		floats.Sub(sum, widened(x.rows[last]))
		a, err = x.IHVPCombine64(ctx, got, []wire.Step{at.Steps[0], at.Steps[last]}, []float64{2, -1}, verified...)
		near("a combination", got, solve(sum), a, err)
		x.residual(t, "a combination", got, sum, a, h)

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
		if !(diff <= (a.Bound()+denseOff)*norm) || !(a.Bound() <= 1e-9) {
			t.Errorf("%s at %g: the diagonal is off by %.3g, bound %.3g", what, s, diff/norm, a.Bound())
		}
		index := []int64{0, int64(d - 1), int64(r.IntN(d)), int64(d / 2), int64(d/2 + 1)}
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
		if d <= 100 {
			x.prune(t, what, v, h, &inverse, true, opts)
		}
	}

	// Numbers, at λ and 3λ of each tensor.
	list, err := x.BlockScalars(ctx, []float64{x.cfg.Damping, 3 * x.cfg.Damping}, nil, of...)
	if err != nil {
		t.Fatal(err)
	}
	for k, s := range []float64{1, 3} {
		h := inBlocks(x.h(n, s), borders)
		var chol mat.Cholesky
		chol.Factorize(h)
		sum := client.SumBlocks(list).At[k]
		if want := chol.LogDet(); !(math.Abs(sum.LogDet.Value-want) <= sum.LogDet.Error+denseOff*float64(d)) {
			t.Errorf("%s: log det is %g ± %g, want %g", what, sum.LogDet.Value, sum.LogDet.Error, want)
		}
		var eigen mat.EigenSym
		if !eigen.Factorize(h, false) {
			t.Fatal("no eigenvalues")
		}
		values := eigen.Values(nil)
		if !(math.Abs(sum.Largest.Value-floats.Max(values)) <= sum.Largest.Error+denseOff*floats.Max(values)) ||
			!(math.Abs(sum.Smallest.Value-floats.Min(values)) <= sum.Smallest.Error+denseOff*floats.Max(values)) {
			t.Errorf("%s: eigenvalues in [%g, %g], want [%g, %g]", what, sum.Smallest.Value, sum.Largest.Value, floats.Min(values), floats.Max(values))
		}
		if cond := floats.Max(values) / floats.Min(values); !(math.Abs(sum.CondH.Value-cond) <= sum.CondH.Error+denseOff*cond) {
			t.Errorf("%s: cond H is %g ± %g, want %g", what, sum.CondH.Value, sum.CondH.Error, cond)
		}
		for _, b := range list {
			if own := s * x.damping[b.Lo]; !(math.Abs(b.At[k].Damping-own) <= 1e-12*own) {
				t.Errorf("%s: block [%d, %d) is at %g, want %g", what, b.Lo, b.Hi, b.At[k].Damping, own)
			}
		}
	}
}

// Blocks with dampings of tensors against dense algebra: inside shards and over their borders, larger and smaller than the window, with weights; a
// run of such blocks, and the results of its steps. The same bytes on one worker and three.
func TestTensorDampingBlocks(t *testing.T) {
	t.Parallel()
	var bytes []map[string]asked
	for _, workers := range []int{3, 1} {
		c := start(t, shape{workers: workers})
		cl := c.client()
		for i, d := range []int{60, 260} {
			if testing.Short() && i > 0 {
				t.Log("-short: 60 columns alone")
				bytes = append(bytes, nil)
				continue
			}
			r := rand.New(rand.NewPCG(uint64(i), 21))
			layout, own, damping := tensorsOf(r, d, 0.02)
			at := int64(0)
			for k := range layout {
				layout[k].Offset = at
				at += layout[k].Size()
			}
			const m = 9
			borders := bordersOf(layout, d, d)
			x := &dampedRun{cfg: client.RunConfig{
				Name: fmt.Sprintf("damped-blocks-%d", d), Dim: int64(d), Window: m, Damping: 0.02, Layout: layout, TensorDamping: own,
				Divisor: []wire.Divisor{wire.Capacity, wire.Count}[i], Shards: 3, Blocks: wire.BlockingTensor,
			}, damping: damping}
			x.Run = c.attach(cl, x.cfg)
			ctx := within(t, time.Minute)
			for step := range wire.Step(m + 2) {
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
				chol.Factorize(inBlocks(x.h(n, 1), borders))
				if err := chol.SolveVecTo(&want, mat.NewVecDense(d, widened(g))); err != nil {
					t.Fatal(err)
				}
				if off := x.off(got, want.RawVector().Data); !(off <= a.Bound()+denseOff) || !(a.Bound() <= 1e-9) {
					t.Errorf("step %d is off by %.3g, bound %.3g", step, off, a.Bound())
				}
			}
			x.checkBlocks(t, "tensors", r, borders)
			x.checkBlocks(t, "blocks of 7", r, bordersOf(layout, d, 7), client.WithBlocks(7))
			x.checkBlocks(t, "blocks of 50", r, bordersOf(layout, d, 50), client.WithBlocks(50))
			x.check(t, "the whole", r, client.WithWhole())
			v := make([]float64, d)
			for j := range v {
				v[j] = math.Sin(float64(j))
			}
			bytes = append(bytes, everyBlocked(t, x.Run, v, []wire.Step{m, m + 1}))
		}
	}
	for i := range 2 {
		if diff := cmp.Diff(bytes[i], bytes[i+2]); diff != "" {
			t.Errorf("on three workers, and on one:\n%s", diff)
		}
	}
}

// A block of several dampings is refused, by a query and where the run is made.
func TestTensorDampingBlocksRefused(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	cl := c.client()
	layout := []wire.Tensor{{Name: "a", Shape: []int64{4}}, {Name: "b", Shape: []int64{6}}}
	cfg := client.RunConfig{Name: "d", Dim: 10, Window: 2, Damping: 1, Layout: layout, TensorDamping: map[string]float64{"b": 4}}
	run := c.attach(cl, cfg)
	ctx := within(t, time.Minute)
	const want = "block is [3, 6), must be of one damping: another one begins at column 4"
	if _, err := run.Diag64(ctx, make([]float64, 10), client.WithBlocksAcross(3)); !errors.Is(err, wire.ErrUnsupported) || !strings.Contains(err.Error(), want) {
		t.Errorf("a block of two dampings: %v", err)
	}
	if _, err := run.Diag64(ctx, make([]float64, 10), client.WithBlocksAcross(2)); err != nil {
		t.Errorf("blocks that end where dampings do: %v", err)
	}
	cfg.Name, cfg.Blocks = "e", wire.BlockingOf(3, true)
	if _, err := cl.Attach(ctx, cfg); !errors.Is(err, wire.ErrUnsupported) || !strings.Contains(err.Error(), want) {
		t.Errorf("a run of blocks of two dampings: %v", err)
	}
}
