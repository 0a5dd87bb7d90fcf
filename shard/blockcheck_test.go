package shard_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// ResidualBlocks and its parts against exact arithmetic, of answers and of anything else, with the bits of each vector alone, whatever the
// threads and the kernel.
func TestBlockResiduals(t *testing.T) {
	// The products that a residual is measured by are off by up to 8 ε each, twice, and by √n in a combination, n ≤ 12.
	const roundings = 64 * 0x1p-52
	p := pool.Start(2)
	t.Cleanup(p.Stop)
	rapid.Check(t, func(rt *rapid.T) {
		b := newBlocky(t, rt, 12, 24)
		b.spec.Out = nil
		rng, cols, n := rngOf(rt), int(b.Cols()), len(b.g)
		const k = 3
		var x, v [][]float64
		var vs []shard.Vector
		for i := range k {
			x, v = append(x, make([]float64, cols)), append(v, make([]float64, cols))
			for j := range cols {
				v[i][j] = rng.NormFloat64()
			}
			vs = append(vs, shard.Float64s(v[i]))
		}
		_, err := b.SolveBlocks(x, vs, b.spec, b.blocks)
		must(t, err)
		for j := range cols {
			x[2][j] = rng.NormFloat64()
		}
		a := make([]float64, k*n)
		for i := range a {
			a[i] = rng.NormFloat64()
		}
		ofVectors, err := b.ResidualBlocks(x, vs, nil, b.spec, b.blocks)
		must(t, err)
		ofCombinations, err := b.ResidualBlocks(x, nil, a, b.spec, b.blocks)
		must(t, err)

		for i := range k {
			var sum [2]float64
			floor := 0.0
			for _, blk := range b.blocks {
				kept := b.kept(blk)
				h := exactBlock(b.g, b.spec.Weights, kept, b.spec.Lambda, b.spec.N)
				trace, xx, vv, gg := 0.0, 0.0, 0.0, 0.0
				for c, j := range kept {
					y := exactly(-v[i][j])
					z := exactly(0)
					for r, row := range b.g {
						z.Sub(z, new(big.Float).SetPrec(exactBits).Mul(exactly(a[i*n+r]), exactly(row[j])))
						gg += math.Abs(a[i*n+r] * row[j])
					}
					for d, l := range kept {
						hx := exactly(0).Mul(h[c][d], exactly(x[i][l]))
						y.Add(y, hx)
						z.Add(z, hx)
					}
					f, _ := y.Float64()
					sum[0] += f * f
					f, _ = z.Float64()
					sum[1] += f * f
					f, _ = h[c][c].Float64()
					trace += f
					xx += x[i][j] * x[i][j]
					vv += v[i][j] * v[i][j]
				}
				floor += roundings * (trace*math.Sqrt(xx) + math.Sqrt(vv) + gg)
			}
			for kind, got := range [2]float64{ofVectors[i], ofCombinations[i]} {
				if !(math.Abs(math.Sqrt(got)-math.Sqrt(sum[kind])) <= floor) {
					rt.Fatalf("kind %d, result %d: the residual is %g, want %g ± %g", kind, i, math.Sqrt(got), math.Sqrt(sum[kind]), floor)
				}
			}

			// A block in two parts.
			blk := b.blocks[rng.IntN(len(b.blocks))]
			if blk.Hi-blk.Lo < 2 {
				continue
			}
			cut := blk.Lo + 1 + rng.Int64N(blk.Hi-blk.Lo-1)
			parts := []shard.Block{{Lo: blk.Lo, Hi: cut}, {Lo: cut, Hi: blk.Hi}}
			c := make([]float64, n)
			for _, part := range parts {
				y := make([]float64, n+1)
				must(t, b.PartDots(y, []shard.Vector{shard.Float64s(x[i])}, part, b.spec, false))
				for r := range c {
					c[r] += y[r]
				}
			}
			for r := range c {
				if b.spec.Weights != nil {
					c[r] *= b.spec.Weights[r]
				}
				c[r] /= float64(b.spec.N)
			}
			got := 0.0
			for _, part := range parts {
				r, err := b.PartResidual(x[i:i+1], vs[i:i+1], c, part, b.spec)
				must(t, err)
				got += r[0]
			}
			want, err := b.ResidualBlocks(x[i:i+1], vs[i:i+1], nil, b.spec, []shard.Block{blk})
			must(t, err)
			if !(math.Abs(math.Sqrt(got)-math.Sqrt(want[0])) <= 2*floor) {
				rt.Fatalf("a block in two parts has the residual %g, alone %g", math.Sqrt(got), math.Sqrt(want[0]))
			}
		}

		variants := kernel.Variants()
		for _, s := range []*shard.Store{
			b.like(t, shard.Config{Pool: p, Threads: 2, Kernel: variants[rng.IntN(len(variants))]}), b.like(t, shard.Config{Threads: 1000}),
		} {
			got, err := s.ResidualBlocks(x, vs, nil, b.spec, b.blocks)
			must(t, err)
			sameBits(rt, "elsewhere", got, ofVectors)
		}
		for i := range k {
			one, err := b.ResidualBlocks(x[i:i+1], nil, a[i*n:(i+1)*n], b.spec, b.blocks)
			must(t, err)
			sameBits(rt, "alone", one, ofCombinations[i:i+1])
		}
	})
}
