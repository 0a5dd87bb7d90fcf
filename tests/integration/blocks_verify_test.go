package integration

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// misfit is H_Bx − v, exactly, and the size of what is summed for it: ‖H_B‖‖x‖ + ‖v‖, but for a factor.
func (c *blockCase) misfit(x []float64, v []*big.Float, lambda float64) (misfit []*big.Float, scale float64) {
	trace := lambda
	for r, g := range c.rows {
		for _, a := range g {
			trace += c.weight(r) * float64(a) * float64(a) / float64(c.n)
		}
	}
	t := bigOf(0)
	for b := range c.borders[:len(c.borders)-1] {
		lo, hi := c.borders[b], c.borders[b+1]
		y := make([]*big.Float, hi-lo)
		for j := range y {
			y[j] = bigOf(0).Sub(t.Mul(bigOf(lambda), bigOf(x[lo+j])), v[lo+j])
		}
		for r, g := range c.rows {
			dot := bigOf(0)
			for j := lo; j < hi; j++ {
				dot.Add(dot, t.Mul(bigOf(float64(g[j])), bigOf(x[j])))
			}
			dot.Quo(dot.Mul(dot, bigOf(c.weight(r))), bigOf(float64(c.n)))
			for j := range y {
				y[j].Add(y[j], t.Mul(dot, bigOf(float64(g[lo+j]))))
			}
		}
		misfit = append(misfit, y...)
	}
	return misfit, trace*size(numbers(x)) + size(v)
}

// TestBlocksVerify compares residuals of answers by blocks with exact arithmetic: in shards and over their borders, of vectors and combinations,
// with weights. The answers have the bytes and bounds that they have without, and k together the residuals of each alone.
func TestBlocksVerify(t *testing.T) {
	t.Parallel()
	const roundings = 64 * 0x1p-52 // as in TestFunctions: of the products that a residual is measured by
	c := start(t, shape{workers: 3})
	cases := newBlockCases(t, c.client())
	rapid.Check(t, func(rt *rapid.T) {
		bc := cases[rapid.IntRange(0, len(cases)-1).Draw(rt, "run")]
		what := bc.draw(rt)
		ctx := within(t, time.Minute)
		d := int(bc.run.Dim())
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 3))
		lambda := bc.lambda
		opts := []client.QueryOption{bc.option}
		if rapid.Bool().Draw(rt, "other damping") {
			lambda = math.Pow(10, -float64(rng.IntN(7)))
			opts = append(opts, client.WithDamping(lambda))
		}
		verified := append(slices.Clone(opts), client.WithVerify())
		check := func(name string, x []float64, v []*big.Float, got float64) {
			misfit, scale := bc.misfit(x, v, lambda)
			vsize := size(v)
			if vsize == 0 {
				if got != 0 {
					rt.Fatalf("%s: the residual of %s is %g, of v = 0", what, name, got)
				}
				return
			}
			if want, floor := size(misfit)/vsize, roundings*scale/vsize; !(math.Abs(got-want) <= floor+1e-9*want) {
				rt.Fatalf("%s: the residual of %s is %.3g, want %.3g ± %.2g", what, name, got, want, floor)
			}
		}
		v := [][]float64{make([]float64, d), make([]float64, d), make([]float64, d)}
		for j := range d {
			if v[0][j] = rng.NormFloat64(); len(bc.rows) > 0 {
				v[1][j] = float64(bc.rows[0][j])
			}
		}
		x, plain := make([][]float64, len(v)), make([][]float64, len(v))
		for i := range x {
			x[i], plain[i] = make([]float64, d), make([]float64, d)
		}
		a, err := bc.run.IHVPs64(ctx, x, v, verified...)
		if err != nil {
			rt.Fatalf("%s: %v", what, err)
		}
		b, err := bc.run.IHVPs64(ctx, plain, v, opts...)
		if err != nil || !slices.Equal(a.Bounds, b.Bounds) || len(a.Residuals) != len(v) || b.Residuals != nil {
			rt.Fatalf("%s: %+v, without residuals %+v (%v)", what, a, b, err)
		}
		one := make([]float64, d)
		for i := range v {
			if !slices.Equal(bits64(x[i]), bits64(plain[i])) {
				rt.Fatalf("%s: vector %d has other bytes with its residual", what, i)
			}
			check(fmt.Sprintf("vector %d", i), x[i], numbers(v[i]), a.Residuals[i])
			alone, err := bc.run.IHVP64(ctx, one, v[i], verified...)
			if err != nil || alone.Residuals[0] != a.Residuals[i] {
				rt.Fatalf("%s: vector %d alone has the residual %v, not %v (%v)", what, i, alone.Residuals, a.Residuals[i], err)
			}
		}
		if len(bc.rows) == 0 {
			return
		}
		steps, err := bc.run.Steps(ctx)
		if err != nil {
			rt.Fatal(err)
		}
		coef := [][]float64{make([]float64, len(bc.rows)), make([]float64, len(bc.rows))}
		for i := range coef[0] {
			coef[0][i] = rng.NormFloat64()
		}
		coef[1][0] = 1
		if a, err = bc.run.IHVPCombines64(ctx, x[:2], steps.Steps, coef, verified...); err != nil {
			rt.Fatalf("%s: %v", what, err)
		}
		for i := range coef {
			y := make([]*big.Float, d)
			for j := range y {
				y[j] = bigOf(0)
				for r, g := range bc.rows {
					y[j].Add(y[j], bigOf(0).Mul(bigOf(coef[i][r]), bigOf(float64(g[j]))))
				}
			}
			check(fmt.Sprintf("combination %d", i), x[i], y, a.Residuals[i])
		}
		alone, err := bc.run.IHVPStep64(ctx, one, steps.Steps[0], verified...)
		if err != nil || alone.Residuals[0] != a.Residuals[1] {
			rt.Fatalf("%s: a step alone has the residual %v, not %v (%v)", what, alone.Residuals, a.Residuals[1], err)
		}
	})
}

// Real gradients by blocks, on one worker and on three, the same residuals: those of answers that are right to some digits of float64.
func TestBlocksVerifyVectors(t *testing.T) {
	t.Parallel()
	const residual = 1e-11 // as in TestFunctionsOfVectors
	vec := openVectors(t)
	v := widened(vec.f32("v"))
	var want []float64
	for _, workers := range []int{1, 3} {
		c := start(t, shape{workers: workers})
		run := c.attach(c.client(), client.RunConfig{Name: "digits", Dim: vectorsDim, Window: vectorsWindow, Damping: 0.01, Shards: 3})
		ctx := within(t, time.Minute)
		if _, err := run.PublishMany(ctx, 1, vec.grads()); err != nil {
			t.Fatal(err)
		}
		x := make([]float64, vectorsDim)
		var got []float64
		for _, lambda := range []float64{0.01, 1e-5} {
			for _, size := range []int64{16, 128, vectorsDim} {
				opts := []client.QueryOption{client.WithBlocksAcross(size), client.WithDamping(lambda), client.WithVerify()}
				a, err := run.IHVP64(ctx, x, v, opts...)
				if err != nil {
					t.Fatal(err)
				}
				b, err := run.IHVPStep64(ctx, x, wire.Step(vectorsWindow), opts...)
				if err != nil {
					t.Fatal(err)
				}
				if !(a.Residuals[0] <= residual) || !(b.Residuals[0] <= residual) {
					t.Errorf("λ = %g, blocks of %d: residuals %g and %g", lambda, size, a.Residuals, b.Residuals)
				}
				got = append(got, a.Residuals[0], b.Residuals[0])
			}
		}
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d workers: residuals %g, on one %g", workers, got, want)
		}
		if _, err := run.IHVP64(ctx, x, v, client.WithBlocks(16), client.WithRefine()); err == nil || !strings.Contains(err.Error(), "refine is true, must be left out of a query of blocks") {
			t.Errorf("refine: %v", err)
		}
	}
}
