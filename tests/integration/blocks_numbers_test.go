package integration

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// TestBlockElements compares elements and sub-blocks of H⁻¹ by blocks with exact arithmetic: within their bound in one block, 0 over two.
func TestBlockElements(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cases := newBlockCases(t, c.client())
	rapid.Check(t, func(rt *rapid.T) {
		bc := cases[rapid.IntRange(0, len(cases)-1).Draw(rt, "run")]
		what := bc.draw(rt)
		ctx := within(t, time.Minute)
		d := int(bc.run.Dim())
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 5))
		index := make([]int64, 1+rng.IntN(6))
		for i := range index {
			index[i] = int64(rng.IntN(d))
		}
		blockOf := func(j int64) (lo, hi int) {
			for b := range bc.borders[:len(bc.borders)-1] {
				if lo, hi = bc.borders[b], bc.borders[b+1]; int(j) < hi {
					break
				}
			}
			return lo, hi
		}
		column := func(j int64) []*big.Float { // of its block
			lo, hi := blockOf(j)
			y := make([]*big.Float, hi-lo)
			for i := range y {
				y[i] = bigOf(0)
			}
			y[int(j)-lo] = bigOf(1)
			bc.solve(lo, hi, bc.lambda, [][]*big.Float{y})
			return y
		}
		got, a, err := bc.run.Subblock(ctx, index, bc.option)
		if err != nil {
			rt.Fatalf("%s: %v", what, err)
		}
		columns := map[int64][]*big.Float{}
		for _, j := range index {
			columns[j] = column(j)
		}
		for i, r := range index {
			for k, s := range index {
				lo, _ := blockOf(s)
				x := got[i*len(index)+k]
				if other, _ := blockOf(r); other != lo {
					if x != 0 {
						rt.Fatalf("%s: element (%d, %d) of two blocks is %g", what, r, s, x)
					}
					continue
				}
				rr, _ := columns[r][int(r)-lo].Float64()
				ss, _ := columns[s][int(s)-lo].Float64()
				off, _ := bigOf(0).Sub(bigOf(x), columns[s][int(r)-lo]).Float64()
				if !(math.Abs(off) <= a.Bound()*math.Sqrt(rr*ss)) {
					rt.Fatalf("%s: element (%d, %d) is off by %g, bound %g of %g", what, r, s, off, a.Bound(), math.Sqrt(rr*ss))
				}
			}
		}
		x, _, err := bc.run.Element(ctx, index[0], index[len(index)-1], bc.option)
		if err != nil || x != got[len(index)-1] {
			rt.Fatalf("%s: element is %g, %g in a sub-block (%v)", what, x, got[len(index)-1], err)
		}
	})
}

// TestBlockScalars compares the numbers of blocks with those of dense eigenvalues in float64, which are off by some ε of the largest.
func TestBlockScalars(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cases := newBlockCases(t, c.client())
	rapid.Check(t, func(rt *rapid.T) {
		bc := cases[rapid.IntRange(0, len(cases)-1).Draw(rt, "run")]
		what := bc.draw(rt)
		ctx := within(t, time.Minute)
		dampings := []float64{bc.lambda, 0.5}
		list, err := bc.run.BlockScalars(ctx, dampings, bc.option.(client.BlocksOption))
		if err != nil {
			rt.Fatalf("%s: %v", what, err)
		}
		if len(list) != len(bc.borders)-1 {
			rt.Fatalf("%s: %d blocks, want %d", what, len(list), len(bc.borders)-1)
		}
		logDet, trace := make([]float64, 2), make([]float64, 2)
		for i, b := range list {
			lo, hi := bc.borders[i], bc.borders[i+1]
			if int(b.Lo) != lo || int(b.Hi) != hi {
				rt.Fatalf("%s: block %d is [%d, %d), want [%d, %d)", what, i, b.Lo, b.Hi, lo, hi)
			}
			f := mat.NewSymDense(hi-lo, nil)
			for r := lo; r < hi; r++ {
				for s := r; s < hi; s++ {
					sum := 0.0
					for k, g := range bc.rows {
						sum += bc.weight(k) * float64(g[r]) * float64(g[s]) / float64(bc.n)
					}
					f.SetSym(r-lo, s-lo, sum)
				}
			}
			var eigen mat.EigenSym
			if !eigen.Factorize(f, false) {
				rt.Fatal("no eigenvalues")
			}
			values := eigen.Values(nil)
			top := values[len(values)-1]
			slack := 1e-13 * top * float64(hi-lo) // of the reference
			near := func(name string, e client.Estimate, want, tol float64) {
				if !(math.Abs(e.Value-want) <= e.Error+tol+1e-13*math.Abs(want)) {
					rt.Fatalf("%s: %s of block %d is %g ± %g, want %g", what, name, i, e.Value, e.Error, want)
				}
			}
			near("tr F", b.Trace, mat.Trace(f), slack)
			near("‖F‖", b.Frobenius, mat.Norm(f, 2), slack)
			near("‖F‖₂", b.Spectral, top, slack)
			for k, lambda := range dampings {
				var det, inverse, dim, detTol, inverseTol float64
				for _, v := range values {
					v = max(v, 0)
					det += math.Log(v + lambda)
					inverse += 1 / (v + lambda)
					dim += v / (v + lambda)
					detTol += slack / (v + lambda)
					inverseTol += slack / (v + lambda) / (v + lambda)
				}
				at := b.At[k]
				near("log det", at.LogDet, det, 2*detTol+1e-13)
				near("tr H⁻¹", at.TraceInverse, inverse, 2*inverseTol)
				near("dimension", at.EffectiveDim, dim, 2*detTol)
				near("λ max", at.Largest, lambda+top, slack)
				near("λ min", at.Smallest, lambda+max(values[0], 0), slack)
				logDet[k], trace[k] = logDet[k]+at.LogDet.Value, trace[k]+at.TraceInverse.Value
			}
		}
		all := client.SumBlocks(list)
		for k, x := range all.At {
			if math.Abs(x.LogDet.Value-logDet[k]) > 1e-9*math.Abs(logDet[k])+1e-12 || math.Abs(x.TraceInverse.Value-trace[k]) > 1e-12*trace[k] {
				rt.Fatalf("%s: the sums are %v and %v, want %g and %g", what, x.LogDet, x.TraceInverse, logDet[k], trace[k])
			}
		}
		if len(list) == 1 { // the whole of H
			whole, err := bc.run.Scalars(ctx, dampings)
			if err != nil {
				rt.Fatal(err)
			}
			for k, x := range whole.At {
				y := all.At[k]
				if math.Abs(x.LogDet.Value-y.LogDet.Value) > x.LogDet.Error+y.LogDet.Error || math.Abs(x.CondK.Value-list[0].At[k].CondK.Value) > x.CondK.Error+list[0].At[k].CondK.Error {
					rt.Fatalf("%s: one block's numbers %+v, the whole's %+v", what, y, x)
				}
			}
		}
	})
}

// What is refused, and that nothing is left of it.
func TestBlocksRefused(t *testing.T) {
	t.Parallel()
	const d = 5000
	c := start(t, shape{workers: 2})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "refused", Dim: d, Window: 4, Damping: 1e-3, Shards: 2})
	ctx := within(t, time.Minute)
	g := normal(rand.New(rand.NewPCG(1, 1)), d)
	if _, err := r.Publish(ctx, 1, g); err != nil {
		t.Fatal(err)
	}
	x, v := make([]float32, d), make([]float32, d)
	refused := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	_, err := r.IHVP(ctx, x, v, client.WithBlocks(0))
	refused("blocks of 0", err, "block is 0, must be at least 1 column")
	_, err = r.IHVP(ctx, x, v, client.WithBlocksAcross(-3))
	refused("blocks of -3", err, "block is -3, must be at least 1 column")
	_, err = r.IHVP(ctx, x, v, client.WithTensorBlocks())
	refused("tensor without a layout", err, "blocks is tensor, must be a number of columns: run refused has no layout")
	_, err = r.IHVP(ctx, x, v, client.WithBlocks(7), client.WithRefine())
	refused("refine", err, "must be left out of a query of blocks")
	_, err = r.FisherVec(ctx, x, v, client.WithBlocks(7))
	refused("F v", err, "block is 7, must be left out of a query of kind fisher")
	_, err = r.Scalars(ctx, nil, client.WithBlocks(7))
	refused("scalars", err, "BlockScalars takes them")
	_, err = r.BlockScalars(ctx, nil, client.WithBlocks(1))
	refused("numbers of 5,000 blocks", err, "blocks is more than 4096, must be at most 4096")
	_, _, err = r.Subblock(ctx, make([]int64, 354), client.WithBlocks(7))
	refused("many elements", err, "indices in one block is 354, must be at most 353")
	_, _, err = r.Element(ctx, 0, d, client.WithBlocks(7))
	refused("an index", err, "index is 5000, must be in [0, 5000)")
	for j := range v {
		v[j] = 1e20
		g[j] = 1e18
	}
	if _, err := r.Publish(ctx, 2, g); err != nil {
		t.Fatal(err)
	}
	_, err = r.Diag(ctx, x, client.WithBlocks(3), client.WithDamping(1e-12))
	var we *wire.Error
	if !errors.As(err, &we) || we.Code != wire.CodeIllConditioned {
		t.Errorf("a singular block: %v", err)
	}
	eventually(t, func() error {
		info, err := r.Status(ctx)
		if err != nil || info.Queries != 0 {
			return fmt.Errorf("%d queries, %v", info.Queries, err)
		}
		return nil
	})
}
