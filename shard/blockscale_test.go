package shard_test

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
)

// With scales a block is, byte for byte, one of a store without at its own λ; sums are in the norm of λ.
func TestBlocksScales(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		b := newBlocky(t, rt, 20, 60)
		rng := rngOf(rt)
		cols := b.Cols()
		scales, last := []shard.Scale{{Lo: 0, R: 1}}, 1.0
		for _, blk := range b.blocks {
			if r := []float64{1, 4, 0.3, 17, 1e-3}[rng.IntN(5)]; blk.Lo > 0 && r != last {
				scales, last = append(scales, shard.Scale{Lo: blk.Lo, R: r}), r
			}
		}
		slots := 1
		for _, s := range b.age {
			slots = max(slots, s+1)
		}
		made := func(scales []shard.Scale) *shard.Store {
			s, err := shard.New(shard.Config{Slots: slots, Cols: cols, Scales: scales, Threads: 1 + rng.IntN(3)})
			if err != nil {
				rt.Fatal(err)
			}
			s.UseThreadsAlways()
			for i, slot := range b.age {
				p := make([]byte, 0, 4*cols)
				for _, x := range b.g[i] {
					p = binary.LittleEndian.AppendUint32(p, math.Float32bits(float32(x)))
				}
				if err := s.Write(slot, 0, p, shard.F32); err != nil {
					rt.Fatal(err)
				}
			}
			return s
		}
		scaled, plain := made(scales), made(nil)
		v := make([]float64, cols)
		for j := range v {
			v[j] = rng.NormFloat64()
		}
		a := make([]float64, len(b.age))
		for i := range a {
			a[i] = rng.NormFloat64()
		}
		vec := shard.Float64s(v)
		type answer struct {
			x        []float64
			sum      shard.BlockSum
			residual float64
			err      error
		}
		// ask asks all of some blocks; what is refused is so for a block that is singular.
		ask := func(s *shard.Store, spec shard.BlockSpec, blocks []shard.Block) (out []answer) {
			for k := range 4 {
				x := make([]float64, cols)
				y := answer{x: x}
				var sums []shard.BlockSum
				switch k {
				case 0:
					sums, y.err = s.SolveBlocks([][]float64{x}, []shard.Vector{vec}, spec, blocks)
				case 1:
					sums, y.err = s.CombineBlocks([][]float64{x}, a, spec, blocks)
				case 2:
					y.sum, y.err = s.DiagBlocks(x, spec, blocks)
				default:
					y.err = s.JointBlocks(x, vec, spec, blocks)
				}
				if len(sums) > 0 && y.err == nil {
					y.sum = sums[0]
				}
				if k == 0 && y.err == nil && spec.Out == nil {
					r, err := s.ResidualBlocks([][]float64{x}, []shard.Vector{vec}, nil, spec, blocks)
					if err != nil {
						rt.Fatal(err)
					}
					y.residual = r[0]
				}
				out = append(out, y)
			}
			return out
		}
		for _, blk := range b.blocks {
			r := 1.0
			for _, f := range scales {
				if f.Lo <= blk.Lo {
					r = f.R
				}
			}
			own := b.spec
			own.Lambda *= r
			got, want := ask(scaled, b.spec, []shard.Block{blk}), ask(plain, own, []shard.Block{blk})
			for k := range got {
				g, w := got[k], want[k]
				if (g.err == nil) != (w.err == nil) {
					rt.Fatalf("%d of block %v: %v, want %v", k, blk, g.err, w.err)
				}
				if g.err != nil {
					var ill *shard.IllConditioned
					if !errors.As(g.err, &ill) {
						rt.Fatal(g.err)
					}
					continue
				}
				for j := range g.x {
					if math.Float64bits(g.x[j]) != math.Float64bits(w.x[j]) {
						rt.Fatalf("%d of block %v: column %d is %g, want %g", k, blk, j, g.x[j], w.x[j])
					}
				}
				weight := r
				if k == 2 {
					weight *= r
				}
				const tol = 1e-15 // one more product
				near := func(what string, got, want float64) {
					rt.Helper()
					if !(math.Abs(got-want) <= tol*want) {
						rt.Fatalf("%d of block %v: the %s is %g, want %g", k, blk, what, got, want)
					}
				}
				near("norm", g.sum.Norm2, weight*w.sum.Norm2)
				near("error", g.sum.Error2, weight*w.sum.Error2)
				near("residual", g.residual, w.residual/r)
			}
		}
		if len(scales) > 1 {
			if _, err := scaled.DiagBlocks(make([]float64, cols), b.spec, []shard.Block{{Lo: scales[1].Lo - 1, Hi: scales[1].Lo + 1}}); err == nil {
				rt.Fatal("a block of two scales is answered")
			}
		}
	})
}
