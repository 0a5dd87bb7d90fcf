package shard_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// Windows with few slots out, where kernels take some tiles at once, have the contract's bits, whatever
// part of the columns is asked for.
func TestTiles(t *testing.T) {
	workers := pool.Start(2)
	defer workers.Stop()
	rapid.Check(t, func(rt *rapid.T) {
		slots := rapid.OneOf(rapid.IntRange(5, 26), rapid.SampledFrom([]int{8, 10, 16, 24})).Draw(rt, "slots")
		cols := rapid.OneOf(rapid.IntRange(1, 3000), rapid.IntRange(3000, 20_000)).Draw(rt, "cols")
		rng := rngOf(rt)
		w := newWindow(t, rng, dtypeOf(rt), slots, cols)
		mask := shard.FullMask(slots)
		for s := range slots {
			if w.mask.Has(s) {
				continue
			}
			for j := range cols {
				w.rows[s][j] = float64(rng.IntN(9) - 4) // the same in every dtype
			}
			p, _ := shard.Append(nil, w.rows[s], shard.F32)
			must(t, w.Write(s, 0, p, shard.F32))
		}
		for range rng.IntN(3) { // whatever they hold is not looked at
			out := rng.IntN(slots)
			mask.Clear(out)
			p := make([]byte, 4*cols)
			for j := range cols {
				binary.LittleEndian.PutUint32(p[4*j:], math.Float32bits(float32(math.NaN())))
			}
			must(t, w.Write(out, 0, p, shard.F32))
		}
		x := make([]float32, cols)
		xs := make([]float64, cols)
		for j := range x {
			x[j] = float32(rng.NormFloat64())
			xs[j] = float64(x[j])
		}
		c := make([]float64, slots)
		for i := range c {
			c[i] = rng.NormFloat64()
			if !mask.Has(i) {
				c[i] = math.NaN()
			}
		}
		lo := rng.IntN(cols)
		hi := lo + 1 + rng.IntN(cols-lo)
		if rng.IntN(2) == 0 {
			lo, hi = lo/shard.TileCols*shard.TileCols, cols
		}
		wantDots := make([]float64, slots)
		for s := range wantDots {
			if mask.Has(s) {
				wantDots[s] = orderedDot(w.rows[s], xs)
			}
		}
		want := make([]float32, hi-lo)
		for j := range want {
			want[j] = float32(orderedCombine(w.rows, c, mask, lo+j))
		}
		const lambda = 1e-3
		solved := make([]float32, hi-lo)
		for j := range solved {
			solved[j] = float32((xs[lo+j] - orderedCombine(w.rows, c, mask, lo+j)) / lambda)
		}
		for _, v := range kernel.Variants() {
			for _, cfg := range []shard.Config{{Threads: 1, Kernel: v}, {Pool: workers, Kernel: v}} {
				s := w.like(t, cfg)
				dots := make([]float64, slots)
				must(t, s.Dots(dots, []shard.Vector{shard.Float32s(x)}, mask))
				same(t, fmt.Sprintf("Dots, kernel %s", v.Name()), dots, wantDots)
				out := make([]byte, 4*(hi-lo))
				bad, err := s.CombineBytes(out, shard.F32, c, mask, int64(lo), int64(hi))
				must(t, err)
				if bad >= 0 {
					t.Fatalf("kernel %s: column %d is not finite", v.Name(), bad)
				}
				for j := range want {
					if got := binary.LittleEndian.Uint32(out[4*j:]); got != math.Float32bits(want[j]) {
						t.Fatalf("kernel %s, columns %d to %d of %d: %d is %x, want %x", v.Name(), lo, hi, cols, lo+j, got, math.Float32bits(want[j]))
					}
				}
				bad, err = s.SolveBytes(out, shard.F32, shard.Float32s(x), c, mask, lambda, int64(lo), int64(hi))
				must(t, err)
				if bad >= 0 {
					t.Fatalf("kernel %s: column %d of (v − Gᵀc)/λ is not finite", v.Name(), bad)
				}
				for j := range solved {
					if got := binary.LittleEndian.Uint32(out[4*j:]); got != math.Float32bits(solved[j]) {
						t.Fatalf("kernel %s, columns %d to %d of %d: %d of (v − Gᵀc)/λ is %x, want %x", v.Name(), lo, hi, cols, lo+j, got, math.Float32bits(solved[j]))
					}
				}
			}
		}
	})
}

// The first column that is not finite is named where kernels take some tiles at once, too.
func TestTilesNotFinite(t *testing.T) {
	const slots, cols = 16, 20 * shard.TileCols
	for _, v := range kernel.Variants() {
		s := newStore(t, shard.Config{Slots: slots, Cols: cols, Threads: 1, Kernel: v})
		row := make([]byte, 4*cols)
		for t := range slots {
			_ = s.Write(t, 0, row, shard.F32)
		}
		for _, col := range []int{19*shard.TileCols + 7, 5_000, 1_023} {
			one := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.Inf(-1))))
			must(t, s.Write(3, int64(col), one, shard.F32))
			c := make([]float64, slots)
			c[3] = 1
			bad, err := s.CombineBytes(row, shard.F32, c, shard.FullMask(slots), 0, cols)
			must(t, err)
			if bad != int64(col) {
				t.Fatalf("kernel %s: the first column that is not finite is %d, want %d", v.Name(), bad, col)
			}
		}
	}
}

func TestTilesAllocateNothing(t *testing.T) {
	const slots, cols = 18, 40_000
	mask := shard.FullMask(slots)
	mask.Clear(3)
	for _, dtype := range []shard.DType{shard.F32, shard.BF16, shard.F16} {
		s := newStore(t, shard.Config{Slots: slots, Cols: cols, DType: dtype, Threads: 1})
		x, out := []shard.Vector{shard.Float32s(make([]float32, cols))}, make([]byte, 4*cols)
		y, c := make([]float64, slots), make([]float64, slots)
		f := func() {
			must(t, s.Dots(y, x, mask))
			_, err := s.CombineBytes(out, shard.F32, c, mask, 0, cols)
			must(t, err)
		}
		f()
		if n := testing.AllocsPerRun(10, f); n != 0 {
			t.Errorf("%v: %v allocations", dtype, n)
		}
	}
}
