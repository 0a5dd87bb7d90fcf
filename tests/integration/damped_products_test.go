package integration

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"mfac/client"
	"mfac/wire"
)

// dampedTimes is λRv + Fv without rounding, R of each column.
func dampedTimes(e *exact, v []float64, n int, lambda float64, r []float64) []*big.Float {
	x := e.times(numbers(v), n, 0)
	for j := range x {
		s := number(lambda)
		s.Mul(s, number(r[j]))
		e.addMul(x[j], s, number(v[j]))
	}
	return x
}

// overRoot is x in the norm of R⁻¹.
func overRoot(x []*big.Float, r []float64) []*big.Float {
	out := make([]*big.Float, len(x))
	for j := range x {
		root := number(r[j])
		out[j] = number(0).Quo(x[j], root.Sqrt(root))
	}
	return out
}

// F v and H v where tensors have dampings of their own, up to 10⁶ times λ and down to 10⁻⁶, of hard rows, against math/big:
// within the bounds, in the norm of Λ⁻¹; float32 and float16 results, k together the k alone; F v the bytes of a run with one
// damping; residuals.
func TestDampedProducts(t *testing.T) {
	t.Parallel()
	cases := 12 // 100 were run once, 1,200 answers: at most 0.37 of a bound, 0.55 with the rounding to bfloat16
	if testing.Short() {
		cases = 4
	}
	c := start(t, shape{workers: 2})
	cl := c.client()
	answered, worst := 0, map[string]float64{}
	for i := range cases {
		rng := rand.New(rand.NewPCG(uint64(i), 78))
		d, m := 1+rng.IntN(1500), 1+rng.IntN(10)
		n := rng.IntN(m + 1)
		lambda := math.Pow(10, -9+10*rng.Float64())
		var layout []wire.Tensor
		var r []float64
		own := map[string]float64{}
		for len(r) < d {
			cols := min(d-len(r), 1+rng.IntN(d/3+1))
			tensor := wire.Tensor{Name: fmt.Sprint(len(layout)), Shape: []int64{int64(cols)}}
			ratio := 1.0
			if rng.IntN(4) > 0 {
				own[tensor.Name] = lambda * math.Pow(10, 12*rng.Float64()-6)
				ratio = own[tensor.Name] / lambda
			}
			layout = append(layout, tensor)
			for range cols {
				r = append(r, ratio)
			}
		}
		cfg := client.RunConfig{Name: fmt.Sprintf("r%d", i), Dim: int64(d), Window: m, Damping: lambda, Layout: layout, TensorDamping: own, Shards: 1 + rng.IntN(min(d, 3))}
		run := c.attach(cl, cfg)
		cfg.Name, cfg.TensorDamping = fmt.Sprintf("one%d", i), nil
		same := c.attach(cl, cfg)
		ctx := within(t, time.Minute)
		rows := hardRows(rng, d, n)
		for s, g := range rows {
			for _, run := range []*client.Run{run, same} {
				if _, err := run.Publish(ctx, wire.Step(s+1), g); err != nil {
					t.Fatal(err)
				}
			}
		}
		e := newExact(rows)
		v, w := make([]float64, d), make([]float64, d)
		for j := range v {
			v[j] = float64(float32(rng.NormFloat64()))
		}
		if n > 0 {
			w = widened(rows[rng.IntN(n)])
		}
		vs := [][]float64{v, w}
		both := [][]float64{make([]float64, d), make([]float64, d)}
		judge := func(what string, got []float64, want []*big.Float, bound float64) {
			t.Helper()
			answered++
			diff := make([]*big.Float, d)
			for j := range want {
				diff[j] = number(0).Sub(number(got[j]), want[j])
			}
			off := size(overRoot(diff, r))
			if off > 0 {
				off /= size(overRoot(want, r))
				worst[what] = max(worst[what], off/bound)
			}
			if !(off <= bound*(1+referenceOff)) {
				t.Errorf("case %d (d=%d, n=%d, λ=%.2g): %s is off by %.3g, bound %.3g", i, d, n, lambda, what, off, bound)
			}
		}
		for _, kind := range []string{"F v", "H v"} {
			for _, s := range []float64{1, 300} {
				opts := []client.QueryOption{client.WithDamping(s * lambda)}
				many, one, single, scale := run.HessianVecs64, run.HessianVec64, run.HessianVec, s*lambda
				if kind == "F v" {
					many, one, single, scale = run.FisherVecs64, run.FisherVec64, run.FisherVec, 0
				}
				a, err := many(ctx, both, vs, opts...)
				var refusal *wire.Error
				if errors.As(err, &refusal) && refusal.Code == wire.CodeIllConditioned {
					continue
				}
				if err != nil {
					t.Fatalf("case %d, %s: %v", i, kind, err)
				}
				alone, f32 := make([]float64, d), make([]float32, d)
				for k, v := range vs {
					judge(kind, both[k], dampedTimes(e, v, m, scale, r), a.Bounds[k])
					if _, err := one(ctx, alone, v, opts...); err != nil {
						t.Fatal(err)
					}
					same64(t, kind+" alone", alone, both[k])
				}
				if _, err := single(ctx, f32, narrowed32(v), opts...); err != nil {
					t.Fatal(err)
				}
				same64(t, kind+" in float32", widened(f32), rounded(both[0]))
				b, err := single(ctx, f32, narrowed32(v), append(opts, client.WithResult(wire.BF16))...)
				if err != nil {
					t.Fatal(err)
				}
				judge(kind+" in bfloat16", widened(f32), dampedTimes(e, v, m, scale, r), b.Bound())
				if kind == "F v" {
					if _, err := same.FisherVecs64(ctx, [][]float64{alone, make([]float64, d)}, vs); err == nil { // else its bound, in another norm, is too large
						same64(t, "F v of a run with one damping", both[0], alone)
					}
				}
			}
		}

		// H(H⁻¹v) = v: what it is off by, in that norm, is the residual, but for the rounding of its products.
		a, err := run.IHVP64(ctx, both[0], v, client.WithVerify())
		if errors.Is(err, wire.ErrIllConditioned) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := run.HessianVec64(ctx, both[1], both[0])
		if errors.Is(err, wire.ErrIllConditioned) { // the products cancel in Hx
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		diff := make([]*big.Float, d)
		for j := range diff {
			diff[j] = number(0).Sub(number(both[1][j]), number(v[j]))
		}
		vsize := size(overRoot(numbers(v), r))
		off := size(overRoot(diff, r)) / vsize
		floor := b.Bound() * size(overRoot(numbers(both[1]), r)) / vsize
		if !(math.Abs(off-a.Residuals[0]) <= 2*floor) {
			t.Errorf("case %d: ‖HH⁻¹v − v‖/‖v‖ is %.3g, reported %.3g, products are right to %.3g", i, off, a.Residuals[0], floor)
		}
	}
	t.Logf("%d answers; errors are at most these shares of their bounds: %v", answered, worst)
	if answered < 5*cases {
		t.Errorf("%d answers of %d cases show nothing", answered, cases)
	}
}
