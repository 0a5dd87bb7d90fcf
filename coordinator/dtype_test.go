package coordinator

import (
	"math"
	"math/rand/v2"
	"testing"

	"mfac/coordinator/window"
	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/wire"
)

// What placement takes a shard for is what the worker takes it for.
func TestShardBytes(t *testing.T) {
	r := exampleRecord() // 18 slots; shards of 40, 40 and 20 columns
	for store, want := range map[wire.DType][]int64{
		wire.F32:  {18 * 48 * 4, 18 * 48 * 4, 18 * 32 * 4},
		wire.BF16: {18 * 64 * 2, 18 * 64 * 2, 18 * 32 * 2},
		wire.F16:  {18*64*2 + 64, 18*64*2 + 64, 18*32*2 + 64}, // a tile's powers of two, 2 × 18 bytes in a line
	} {
		r.Spec.Store = store
		for s, want := range want {
			if got := r.shardBytes(s); got != want {
				t.Errorf("%s: shard %d takes %d bytes, want %d", store, s, got, want)
			}
		}
	}
}

// A bound holds for the rounded result: also where all of it lies below float16's normal range.
func TestRoundedBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const dim = 300
	c := &Core{rec: Record{Spec: wire.RunSpec{Dim: dim}}}
	for _, result := range []wire.DType{wire.F32, wire.F64, wire.BF16, wire.F16} {
		worst := 0.0
		for _, scale := range []float64{1, 1e3, 1e-3, 1e-4, 1e-6, 1e-7, 1e-9} {
			x := make([]float64, dim)
			var size float64
			for i := range x {
				x[i] = scale * rng.NormFloat64()
				size = math.Hypot(size, x[i])
			}
			q := &query{kind: wire.KindVector, damping: 0.5, result: result}
			const bound = 1e-9
			c.bounded(q, window.Bound{Relative: bound, NormLow: 0.5 * size})
			p, bad := shard.Append(nil, x, dtype.Of(result))
			if bad >= 0 {
				t.Fatalf("%s at %g: column %d overflows", result, scale, bad)
			}
			got := make([]float64, dim)
			kernel.Best().Expand(got, p, dtype.Of(result))
			off := 0.0
			for i := range x {
				off = math.Hypot(off, got[i]-x[i])
			}
			told := c.rounded(q)[0]
			if worst = max(worst, off/size/told); !(off/size <= told) || !(told <= 1.1) {
				t.Errorf("%s at %g is off by %.3g, told %.3g", result, scale, off/size, told)
			}
			if q.bounds[0] != bound {
				t.Errorf("%s: the bound that is checked against the limit is %v", result, q.bounds[0])
			}
		}
		t.Logf("%s: the error is at most %.2g of the bound", result, worst)
	}
	zero := &query{result: wire.F16}
	c.bounded(zero, window.Bound{})
	if got := c.rounded(zero); got[0] != 0 {
		t.Errorf("the zero vector's bound is %v", got[0])
	}
}
