package shard_test

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// exactBits is enough for the systems of these tests, of condition 1e15 at most, to come out exact in float64.
const exactBits = 200

func exactly(x float64) *big.Float { return new(big.Float).SetPrec(exactBits).SetFloat64(x) }

// exactSolve solves K x = y for each y, K symmetric and positive definite, which is lost: x by y.
func exactSolve(k [][]*big.Float, ys [][]*big.Float) {
	n := len(k)
	t := exactly(0)
	for i := range n {
		for j := i + 1; j < n; j++ {
			f := exactly(0).Quo(k[j][i], k[i][i])
			for c := i; c < n; c++ {
				k[j][c].Sub(k[j][c], t.Mul(f, k[i][c]))
			}
			for _, y := range ys {
				y[j].Sub(y[j], t.Mul(f, y[i]))
			}
		}
	}
	for _, y := range ys {
		for i := n - 1; i >= 0; i-- {
			for c := i + 1; c < n; c++ {
				y[i].Sub(y[i], t.Mul(k[i][c], y[c]))
			}
			y[i].Quo(y[i], k[i][i])
		}
	}
}

// exactBlock is H_b of the columns listed, of rows g.
func exactBlock(g [][]float64, w []float64, cols []int64, lambda float64, n int) [][]*big.Float {
	h := make([][]*big.Float, len(cols))
	t := exactly(0)
	for a, i := range cols {
		h[a] = make([]*big.Float, len(cols))
		for b, j := range cols {
			sum := exactly(0)
			for r, row := range g {
				t.Mul(exactly(row[i]), exactly(row[j]))
				if w != nil {
					t.Mul(t, exactly(w[r]))
				}
				sum.Add(sum, t)
			}
			sum.Quo(sum, exactly(float64(n)))
			if a == b {
				sum.Add(sum, exactly(lambda))
			}
			h[a][b] = sum
		}
	}
	return h
}

// blocky is a window and blocks over its columns.
type blocky struct {
	window
	age    []int       // slots, oldest first
	g      [][]float64 // their rows
	spec   shard.BlockSpec
	blocks []shard.Block
}

// newBlocky draws one: rows from benign to all but dependent ones, λ from far below what they are to far above.
func newBlocky(t testing.TB, rt *rapid.T, mostSlots, mostCols int) blocky {
	slots := rapid.IntRange(1, mostSlots).Draw(rt, "slots")
	cols := rapid.IntRange(1, mostCols).Draw(rt, "cols")
	rng := rngOf(rt)
	w := newWindow(t, rng, dtypeOf(rt), slots, cols)
	b := blocky{window: w}
	for _, s := range rng.Perm(slots) {
		if w.mask.Has(s) {
			b.age = append(b.age, s)
			b.g = append(b.g, w.rows[s])
		}
	}
	b.spec = shard.BlockSpec{Slots: b.age, N: len(b.age) + rng.IntN(5) + 1}
	most := 1.0
	for _, r := range b.g {
		for _, x := range r {
			most = max(most, x*x)
		}
	}
	b.spec.Lambda = most * math.Exp2(-float64(rapid.IntRange(-3, 40).Draw(rt, "damping")))
	if rng.IntN(3) == 0 {
		b.spec.Out = make([]byte, cols)
		for j := range b.spec.Out {
			b.spec.Out[j] = byte(rng.IntN(4) / 3)
		}
	}
	if rng.IntN(3) == 0 {
		for range b.age {
			b.spec.Weights = append(b.spec.Weights, math.Exp2(float64(rng.IntN(40)-35)*rng.Float64()))
		}
	}
	for lo := int64(rng.IntN(min(2, cols))); lo < int64(cols); {
		hi := min(lo+1+int64(rng.IntN(1+rng.IntN(cols))), int64(cols))
		b.blocks = append(b.blocks, shard.Block{Lo: lo, Hi: hi})
		lo = hi + int64(rng.IntN(3)/2)
	}
	return b
}

func (b blocky) kept(blk shard.Block) (cols []int64) {
	for j := blk.Lo; j < blk.Hi; j++ {
		if b.spec.Out == nil || b.spec.Out[j] == 0 {
			cols = append(cols, j)
		}
	}
	return cols
}

// errorOf is ‖x − exact‖² and ‖exact‖².
func errorOf(x []float64, cols []int64, exact []*big.Float) (off, size float64) {
	for i, j := range cols {
		e, _ := exactly(0).Sub(exactly(x[j]), exact[i]).Float64()
		f, _ := exact[i].Float64()
		off += e * e
		size += f * f
	}
	return off, size
}

// SolveBlocks and DiagBlocks are within their bounds of exact arithmetic, from benign to ill-conditioned blocks, and so are elements.
func TestBlocksAgainstExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBlocky(t, rt, 12, 24)
		cols := int(b.Cols())
		rng := rngOf(rt)
		v := make([][]float64, 1+rng.IntN(3))
		var vs []shard.Vector
		dst := make([][]float64, len(v))
		for i := range v {
			v[i], dst[i] = make([]float64, cols), make([]float64, cols)
			for j := range v[i] {
				v[i][j] = rng.NormFloat64()
				if len(b.g) > 0 && i == 1 {
					v[i][j] = b.g[0][j]
				}
			}
			vs = append(vs, shard.Float64s(v[i]))
		}
		diag := make([]float64, cols)
		sums, err := b.SolveBlocks(dst, vs, b.spec, b.blocks)
		must(t, err)
		sum, err := b.DiagBlocks(diag, b.spec, b.blocks)
		must(t, err)
		if b.spec.Out == nil {
			b.checkCombined(t, rt, rng)
		}
		var off, size [4]float64
		for _, blk := range b.blocks {
			kept := b.kept(blk)
			var ys [][]*big.Float
			for i := range v {
				var y []*big.Float
				for _, j := range kept {
					y = append(y, exactly(v[i][j]))
				}
				ys = append(ys, y)
			}
			for a := range kept {
				e := make([]*big.Float, len(kept))
				for c := range e {
					e[c] = exactly(0)
				}
				e[a] = exactly(1)
				ys = append(ys, e)
			}
			exactSolve(exactBlock(b.g, b.spec.Weights, kept, b.spec.Lambda, b.spec.N), ys)
			if n := len(kept); n > 0 && b.spec.Out == nil {
				b.checkElements(rt, rng, blk, ys[len(v):])
			}
			var d []*big.Float
			for a, y := range ys[len(v):] {
				d = append(d, y[a])
			}
			for i := range v {
				e, s := errorOf(dst[i], kept, ys[i])
				off[i], size[i] = off[i]+e, size[i]+s
			}
			e, s := errorOf(diag, kept, d)
			off[3], size[3] = off[3]+e, size[3]+s
			for j := blk.Lo; j < blk.Hi; j++ {
				if b.spec.Out != nil && b.spec.Out[j] != 0 && (dst[0][j] != 0 || diag[j] != 0) {
					rt.Fatalf("column %d is left out and has %g and %g", j, dst[0][j], diag[j])
				}
			}
		}
		check := func(what string, s shard.BlockSum, off, size float64) {
			if !(off <= s.Error2) {
				rt.Fatalf("%s is off by %g of %g, bound %g", what, math.Sqrt(off), math.Sqrt(size), math.Sqrt(s.Error2))
			}
			if !(math.Abs(math.Sqrt(s.Norm2)-math.Sqrt(size)) <= math.Sqrt(s.Error2)+1e-14*math.Sqrt(size)) {
				rt.Fatalf("%s has the norm %g, not %g", what, math.Sqrt(s.Norm2), math.Sqrt(size))
			}
		}
		for i := range v {
			check(fmt.Sprintf("vector %d", i), sums[i], off[i], size[i])
		}
		check("diagonal", sum, off[3], size[3])
	})
}

// checkElements compares some elements with inv, the inverse of a block.
func (b blocky) checkElements(rt *rapid.T, rng *rand.Rand, blk shard.Block, inv [][]*big.Float) {
	cols := make([]int64, 1+rng.IntN(3))
	for i := range cols {
		cols[i] = blk.Lo + rng.Int64N(blk.Hi-blk.Lo)
	}
	got := make([]float64, len(cols)*len(cols))
	bound, err := b.BlockElements(got, cols, blk, b.spec)
	if err != nil {
		rt.Fatal(err)
	}
	for i, c := range cols {
		for k, d := range cols {
			ii, _ := inv[c-blk.Lo][c-blk.Lo].Float64()
			kk, _ := inv[d-blk.Lo][d-blk.Lo].Float64()
			off, _ := exactly(0).Sub(exactly(got[i*len(cols)+k]), inv[c-blk.Lo][d-blk.Lo]).Float64()
			if !(math.Abs(off) <= bound*math.Sqrt(ii*kk)) {
				rt.Fatalf("element (%d, %d) is off by %g of %g, bound %g", c, d, off, math.Sqrt(ii*kk), bound)
			}
		}
	}
}

// checkCombined compares H_b⁻¹G_bᵀa with exact arithmetic.
func (b blocky) checkCombined(t *testing.T, rt *rapid.T, rng *rand.Rand) {
	n := len(b.g)
	a, got := make([]float64, 2*n), [][]float64{make([]float64, b.Cols()), make([]float64, b.Cols())}
	for i := range a {
		a[i] = rng.NormFloat64()
	}
	sums, err := b.CombineBlocks(got, a, b.spec, b.blocks)
	must(t, err)
	var off, size [2]float64
	for _, blk := range b.blocks {
		kept := b.kept(blk)
		ys := make([][]*big.Float, 2)
		for i := range ys {
			for _, j := range kept {
				sum := exactly(0)
				for r, row := range b.g {
					sum.Add(sum, exactly(0).Mul(exactly(a[i*n+r]), exactly(row[j])))
				}
				ys[i] = append(ys[i], sum)
			}
		}
		exactSolve(exactBlock(b.g, b.spec.Weights, kept, b.spec.Lambda, b.spec.N), ys)
		for i := range ys {
			e, s := errorOf(got[i], kept, ys[i])
			off[i], size[i] = off[i]+e, size[i]+s
		}
	}
	for i, s := range sums {
		if !(off[i] <= s.Error2) || !(math.Abs(math.Sqrt(s.Norm2)-math.Sqrt(size[i])) <= math.Sqrt(s.Error2)+1e-14*math.Sqrt(size[i])) {
			rt.Fatalf("combination %d is off by %g of %g, bound %g of %g", i, math.Sqrt(off[i]), math.Sqrt(size[i]), math.Sqrt(s.Error2), math.Sqrt(s.Norm2))
		}
	}
	alone := [][]float64{make([]float64, b.Cols())}
	_, err = b.CombineBlocks(alone, a[n:], b.spec, b.blocks)
	must(t, err)
	sameBits(rt, "a combination alone", alone[0], got[1])
}

// TestJointBlocks compares with exact arithmetic: the change δ of the columns that are left, (NλI + G_restᵀG_rest) δ = G_restᵀGx.
func TestJointBlocks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBlocky(t, rt, 10, 20)
		rng := rngOf(rt)
		cols := int(b.Cols())
		b.spec.Out = make([]byte, cols)
		x, got := make([]float64, cols), make([]float64, cols)
		for j := range x {
			if b.spec.Out[j] = byte(rng.IntN(3)); b.spec.Out[j] == 1 {
				x[j] = rng.NormFloat64()
			}
		}
		must(t, b.JointBlocks(got, shard.Float64s(x), b.spec, b.blocks))
		for _, blk := range b.blocks {
			kept := b.kept(blk)
			h := exactBlock(b.g, b.spec.Weights, kept, b.spec.Lambda, b.spec.N)
			right, trace := make([]*big.Float, len(kept)), 0.0
			size := 0.0
			for a, i := range kept {
				right[a] = exactly(0)
				for r, row := range b.g {
					f := 1 / float64(b.spec.N)
					if b.spec.Weights != nil {
						f *= b.spec.Weights[r]
					}
					for j := blk.Lo; j < blk.Hi; j++ {
						right[a].Add(right[a], exactly(row[i]*x[j]*f*row[j]))
						size += math.Abs(row[i] * x[j] * f * row[j])
					}
				}
				f, _ := h[a][a].Float64()
				trace += f
			}
			exactSolve(h, [][]*big.Float{right})
			off, _ := errorOf(got, kept, right)
			// The right side is off by some ε of what it is made of, the system by some ε of its trace: both are magnified by 1/λ.
			_, norm := errorOf(got, kept, right)
			tol := 100 * 0x1p-52 * (size + trace*math.Sqrt(norm)) / b.spec.Lambda
			if !(math.Sqrt(off) <= tol) {
				rt.Fatalf("block %v is off by %g, at most %g", blk, math.Sqrt(off), tol)
			}
		}
	})
}

// Windows of more than 1,024 rows, whose columns are longer than a tile.
func TestManyRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const slots, cols, lambda = 1100, 40, 0.5
	s := newStore(t, shard.Config{Slots: slots, Cols: cols})
	var age []int
	h := make([]float64, cols*cols)
	for i := range slots {
		row := make([]float64, cols)
		for j := range row {
			row[j] = float64(rng.IntN(7) - 3) // sums are exact
		}
		for j := range h {
			h[j] += row[j/cols] * row[j%cols]
		}
		p, _ := shard.Append(nil, row, shard.F32)
		must(t, s.Write(i, 0, p, shard.F32))
		age = append(age, i)
	}
	v, x := make([]float64, cols), make([]float64, cols)
	for j := range v {
		v[j] = rng.NormFloat64()
	}
	_, err := s.SolveBlocks([][]float64{x}, []shard.Vector{shard.Float64s(v)}, shard.BlockSpec{Slots: age, Lambda: lambda, N: slots}, []shard.Block{{Lo: 0, Hi: cols}})
	must(t, err)
	for i := range v {
		sum := lambda * x[i]
		for j := range x {
			sum += h[i*cols+j] / slots * x[j]
		}
		if !(math.Abs(sum-v[i]) <= 1e-13*cols) { // H's condition is some 10
			t.Errorf("row %d of Hx is %g, want %g", i, sum, v[i])
		}
	}
}

// Whether a block has a thread or all threads have it, in whichever shard, with whatever kernel and alone or beside others: the bits are the same.
func TestBlocksBits(t *testing.T) {
	p := pool.Start(2)
	t.Cleanup(p.Stop)
	rapid.Check(t, func(rt *rapid.T) {
		b := newBlocky(t, rt, 40, 5000)
		cols := int(b.Cols())
		rng := rngOf(rt)
		v := make([]float64, cols)
		for j := range v {
			v[j] = rng.NormFloat64()
		}
		vs := []shard.Vector{shard.Float64s(v), shard.Zeros(b.Cols()), shard.Float64s(v)}
		run := func(s *shard.Store, blocks []shard.Block, vs []shard.Vector) (out [][]float64) {
			for range len(vs) + 2 {
				out = append(out, make([]float64, cols))
			}
			_, err := s.SolveBlocks(out[:len(vs)], vs, b.spec, blocks)
			must(t, err)
			_, err = s.DiagBlocks(out[len(vs)], b.spec, blocks)
			must(t, err)
			must(t, s.JointBlocks(out[len(vs)+1], vs[0], b.spec, blocks))
			return out
		}
		want := run(b.Store, b.blocks, vs)
		variants := kernel.Variants()
		for i, got := range [][][]float64{
			run(b.like(t, shard.Config{Pool: p, Threads: 2, Kernel: variants[rng.IntN(len(variants))]}), b.blocks, vs),
			run(b.like(t, shard.Config{Threads: 1000}), b.blocks, vs), // all threads on each
		} {
			for k := range want {
				sameBits(rt, fmt.Sprintf("run %d, result %d", i, k), got[k], want[k])
			}
		}
		sameBits(rt, "the same vector beside others", want[2], want[0])
		blk := b.blocks[rng.IntN(len(b.blocks))]
		alone := run(b.Store, []shard.Block{blk}, vs[:1])
		for i, k := range []int{0, 3, 4} {
			sameBits(rt, "one block", alone[i][blk.Lo:blk.Hi], want[k][blk.Lo:blk.Hi])
		}
		// The same columns elsewhere in a shard.
		shift := int64(rng.IntN(2000))
		moved := newStore(t, shard.Config{Slots: b.Slots(), Cols: b.Cols() + shift, DType: b.DType(), Threads: 1})
		if b.DType() == shard.F16 { // a tile's scale is that of its columns: other rows
			return
		}
		for s := range b.rows {
			p := make([]byte, 4*cols)
			must(t, b.ReadRow(p, s, 0))
			must(t, moved.Write(s, 0, make([]byte, 4*shift), shard.F32))
			must(t, moved.Write(s, shift, p, shard.F32))
		}
		spec := b.spec
		if spec.Out != nil {
			spec.Out = append(make([]byte, shift), spec.Out...)
		}
		dst := make([]float64, b.Cols()+shift)
		_, err := moved.SolveBlocks([][]float64{dst}, []shard.Vector{shard.Float64s(append(make([]float64, shift), v...))}, spec, []shard.Block{{Lo: blk.Lo + shift, Hi: blk.Hi + shift}})
		must(t, err)
		sameBits(rt, "the block elsewhere", dst[blk.Lo+shift:blk.Hi+shift], want[0][blk.Lo:blk.Hi])
	})
}

func sameBits(rt *rapid.T, what string, got, want []float64) {
	for j := range want {
		if math.Float64bits(got[j]) != math.Float64bits(want[j]) {
			rt.Fatalf("%s: number %d is %v, not %v", what, j, got[j], want[j])
		}
	}
}

// The parts of a block in several shards give what the block gives in one, but for rounding, and PartGram is exact where numbers are small integers.
func TestBlockParts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBlocky(t, rt, 10, 3000)
		rng := rngOf(rt)
		n, cols := len(b.g), b.Cols()
		blk := shard.Block{Lo: 0, Hi: cols}
		v := make([]float64, cols)
		for j := range v {
			v[j] = rng.NormFloat64()
		}
		cut := int64(rng.IntN(int(cols)))
		y := make([]float64, n+1)
		for _, part := range []shard.Block{{Lo: 0, Hi: cut}, {Lo: cut, Hi: cols}} {
			if part.Hi == part.Lo {
				continue
			}
			p := make([]float64, n+1)
			must(t, b.PartDots(p, []shard.Vector{shard.Float64s(v)}, part, b.spec, false))
			for i := range y {
				y[i] += p[i]
			}
		}
		whole := make([]float64, n+1)
		must(t, b.PartDots(whole, []shard.Vector{shard.Float64s(v)}, blk, b.spec, false))
		for i := range y {
			scale := 0.0
			for _, j := range b.kept(blk) {
				if i < n {
					scale += math.Abs(b.g[i][j] * v[j])
				} else {
					scale += v[j] * v[j]
				}
			}
			if !(math.Abs(y[i]-whole[i]) <= 1e-14*scale) { // 8 lanes of 1,024 columns
				rt.Fatalf("product %d of two parts is %g, not %g", i, y[i], whole[i])
			}
		}
	})
}

// What blocks are asked for is checked.
func TestBlockErrors(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	w := newWindow(t, rng, shard.F32, 8, 100)
	dst := [][]float64{make([]float64, 100)}
	v := []shard.Vector{shard.Zeros(100)}
	good := shard.BlockSpec{Slots: []int{0}, Lambda: 1, N: 1}
	for _, c := range []struct {
		want   string
		spec   shard.BlockSpec
		blocks []shard.Block
	}{
		{"slot is 8, must be 0 to 7", shard.BlockSpec{Slots: []int{8}, Lambda: 1, N: 1}, nil},
		{"lambda is 0, must be > 0 and finite, times N = 1 too", shard.BlockSpec{N: 1}, nil},
		{"lambda is 1e+308, must be > 0 and finite, times N = 2 too", shard.BlockSpec{N: 2, Lambda: 1e308}, nil},
		{"N is 0, must be ≥ 1", shard.BlockSpec{Lambda: 1}, nil},
		{"length of out is 3, must be 100", shard.BlockSpec{Lambda: 1, N: 1, Out: make([]byte, 3)}, nil},
		{"block is [5, 5), must be of one column at least", good, []shard.Block{{5, 5}}},
		{"number of columns is 101, must be ≤ 100 from column 0", good, []shard.Block{{0, 101}}},
	} {
		if _, err := w.SolveBlocks(dst, v, c.spec, c.blocks); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
