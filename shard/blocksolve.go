package shard

import (
	"encoding/binary"
	"math"

	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// This file: what is worked out of blocks.

// SolveBlocks sets dst[i], of Cols() numbers, to H_b⁻¹v_i in the columns of each block, 0 where one is left out; columns of no
// block are left alone. The sums are one a vector, over all blocks. With L and s of K, ρ = y − Kc or v − Kz as it comes out,
// T = Σ|c_i|‖g_i‖ and U = Σ s_i|c_i| or Σ s_i|z_i|, of a block
//
//	n×n  ‖x̂ − x‖ ≤ ((‖W^½ρ‖ + 8ε(√tr W^½AW^½ ‖v‖ + 2‖W^½s‖U))/(2√(Nλ)) + ε(1 + √n)(‖v‖ + T))/λ + 2ε‖x‖
//	q×q  ‖x̂ − x‖ ≤ (‖ρ‖ + 16ε‖s‖U + ε‖v‖)/λ + 2ε‖x‖
//
// since ‖G_bᵀK⁻¹W^-½‖ ≤ 1/(2√(Nλ)) and ‖K⁻¹‖ ≤ 1/(Nλ). The Gram matrix takes min(q, n)²·max(q, n)/2 products a block.
func (s *Store) SolveBlocks(dst [][]float64, v []Vector, spec BlockSpec, blocks []Block) ([]BlockSum, error) {
	b, err := s.solver(dst, v, spec, blocks)
	if err != nil {
		return nil, err
	}
	sums := make([]BlockSum, len(v)*len(blocks))
	err = b.each(blocks, func(bs *blockScratch, i int, alone bool) error {
		return b.solve(bs, dst, v, blocks[i], sums[i*len(v):(i+1)*len(v)], alone)
	})
	return b.totals(sums, len(v), blocks, 1), err
}

// CombineBlocks sets dst[i], of Cols() numbers, to H_b⁻¹G_bᵀa_i in the columns of each block, for coefficients a_i of the rows: from K as SolveBlocks
// makes it, N G_bᵀK⁻¹W⁻¹a or N K⁻¹G_bᵀa. With ρ = W⁻¹a − Kz or G_bᵀa − Kz as it comes out, T = Σ|c_i|‖g_i‖ of c = Nz or of a, and U as there
//
//	n×n  ‖x̂ − x‖ ≤ N (‖W^½ρ‖ + ε(16‖W^½s‖U + ‖W^-½a‖))/(2√(Nλ)) + ε(1 + √n)T + 2ε‖x‖
//	q×q  ‖x̂ − x‖ ≤ (‖ρ‖ + 16ε‖s‖U + ε(1 + √n)T + ε‖G_bᵀa‖)/λ + 2ε‖x‖
func (s *Store) CombineBlocks(dst [][]float64, a []float64, spec BlockSpec, blocks []Block) ([]BlockSum, error) {
	zeros := make([]Vector, len(dst))
	for i := range zeros {
		zeros[i] = Zeros(s.cols)
	}
	b, err := s.solver(dst, zeros, spec, blocks)
	if err == nil {
		err = checkLen("a", len(a), int64(len(dst)*b.n))
	}
	if err != nil {
		return nil, err
	}
	k := len(dst)
	sums := make([]BlockSum, k*len(blocks))
	err = b.each(blocks, func(bs *blockScratch, i int, alone bool) error {
		primal, err := b.factored(bs, blocks[i], alone)
		if err != nil {
			return err
		}
		if primal {
			return b.combinePrimal(bs, dst, a, blocks[i], sums[i*k:(i+1)*k], alone)
		}
		c := make([]float64, k*b.n)
		for v := range k {
			y, z := make([]float64, bs.m), make([]float64, bs.m)
			norm := 0.0 // ‖W^-½a‖
			for r, x := range a[v*b.n:][:b.n] {
				y[r] = x
				if b.want.Weights != nil {
					y[r] /= b.want.Weights[r]
				}
				norm = math.FMA(math.Abs(x), math.Abs(y[r]), norm)
			}
			bs.solveTo(b.kernel, z, y)
			e := bs.misfit(b.kernel, z, y) + epsilon*(2*dotError*bs.wnorm*bs.scaled(z)+math.Sqrt(norm))
			e *= float64(b.want.N) / (2 * math.Sqrt(b.shift(blocks[i])))
			t := 0.0
			for r := range b.n {
				c[v*b.n+r] = float64(b.want.N) * z[r]
				t = math.FMA(math.Abs(c[v*b.n+r]), math.Sqrt(bs.a[r]), t)
			}
			sums[i*k+v].Error2 = e + epsilon*(1+math.Sqrt(float64(b.n)))*t
		}
		return b.combined(bs, dst, c, blocks[i], sums[i*k:(i+1)*k], alone)
	})
	return b.totals(sums, k, blocks, 1), err
}

// combined sets dst to Gᵀc in the columns of a block. sums has the bound as Error2, but for the last rounding.
func (b *blockRun) combined(bs *blockScratch, dst [][]float64, c []float64, blk Block, sums []BlockSum, alone bool) error {
	k := len(dst)
	norms := make([]float64, k*tilesOf(blk))
	err := b.columnsOf(bs, blk, int64(k*b.n)*TileCols, alone, func(bs *blockScratch, tile int, t Block) {
		b.combine(bs, c, k, t, func(i int, r []float64) {
			x := grow(&bs.x, (len(r)+15)&^15)
			clear(x)
			copy(x, r)
			copy(dst[i][t.Lo:t.Hi], r)
			norms[tile*k+i] = b.kernel.Dot(x, x)
		})
	})
	if err != nil {
		return err
	}
	for i, x := range norms {
		sums[i%k].Norm2 += x
	}
	for i := range sums {
		e := sums[i].Error2 + 2*epsilon*math.Sqrt(sums[i].Norm2)
		sums[i].Error2 = e * e
	}
	return nil
}

// combinePrimal does CombineBlocks for a block of which K is q×q.
func (b *blockRun) combinePrimal(bs *blockScratch, dst [][]float64, a []float64, blk Block, sums []BlockSum, alone bool) error {
	if err := b.combined(bs, dst, a, blk, sums, alone); err != nil { // y = Gᵀa
		return err
	}
	norms := make([]float64, b.n) // ‖g_i‖
	row := bytesOf(&bs.row, int(4*(blk.Hi-blk.Lo)))
	for i, slot := range b.want.Slots {
		b.read(row, slot, blk)
		sum := 0.0
		for _, j := range bs.cols {
			x := float64(float32At(row, int(j-blk.Lo)))
			sum = math.FMA(x, x, sum)
		}
		norms[i] = math.Sqrt(sum)
	}
	for v := range dst {
		t := 0.0
		for r, x := range a[v*b.n:][:b.n] {
			t = math.FMA(math.Abs(x), norms[r], t)
		}
		y, z := b.vectorOf(bs, Float64s(dst[v]), blk)
		sums[v] = b.solvePrimal(bs, z, y, dst[v], blk)
		e := math.Sqrt(sums[v].Error2) + epsilon*(1+math.Sqrt(float64(b.n)))*t/b.lambda(blk)
		sums[v].Error2 = e * e
	}
	return nil
}

// solver checks the arguments of what makes vectors of vectors.
func (s *Store) solver(dst [][]float64, v []Vector, spec BlockSpec, blocks []Block) (*blockRun, error) {
	b, err := s.blocks(spec)
	if err == nil {
		err = s.checkBlocks(blocks)
	}
	if err == nil {
		err = s.checkVectors("v", v...)
	}
	if err == nil && len(dst) != len(v) {
		err = outOf("results", len(dst), "%d, as vectors", len(v))
	}
	for _, d := range dst {
		if err == nil {
			err = checkLen("dst", len(d), s.cols)
		}
	}
	return b, err
}

// totals adds the sums of k vectors in the order of the blocks.
func totals(sums []BlockSum, k int) []BlockSum {
	out := make([]BlockSum, k)
	for i, x := range sums {
		out[i%k].Error2 += x.Error2
		out[i%k].Norm2 += x.Norm2
	}
	return out
}

// totals is the same of blocks, in the norm of λ: each counts its scale to a power.
func (b *blockRun) totals(sums []BlockSum, k int, blocks []Block, power int) []BlockSum {
	for i := range sums {
		if r := b.scale(blocks[i/k]); r != 1 {
			w := math.Pow(r, float64(power))
			sums[i].Error2 *= w
			sums[i].Norm2 *= w
		}
	}
	return totals(sums, k)
}

func (b *blockRun) solve(bs *blockScratch, dst [][]float64, v []Vector, blk Block, sums []BlockSum, alone bool) error {
	primal, err := b.factored(bs, blk, alone)
	if err != nil {
		return err
	}
	if primal {
		for i := range v {
			y, z := b.vectorOf(bs, v[i], blk)
			sums[i] = b.solvePrimal(bs, z, y, dst[i], blk)
		}
		return nil
	}
	k := len(v)
	y := make([]float64, k*(b.n+1))
	if err := b.dots(bs, y, v, blk, b.want.Out, alone); err != nil {
		return err
	}
	c := make([]float64, k*b.n)
	for i := range k {
		x, yi := make([]float64, bs.m), make([]float64, bs.m)
		copy(yi, y[i*b.n:(i+1)*b.n])
		bs.solveTo(b.kernel, x, yi)
		copy(c[i*b.n:], x[:b.n])
		sums[i].Error2 = b.errorOf(bs, x, yi, y[k*b.n+i], blk)
	}
	return b.finish(bs, dst, v, c, blk, sums, alone)
}

// errorOf is λ times the bound of a block's error, but for the last rounding.
func (b *blockRun) errorOf(bs *blockScratch, c, y []float64, norm2 float64, blk Block) float64 {
	norm, t := math.Sqrt(norm2), 0.0
	for i := range b.n {
		t = math.FMA(math.Abs(c[i]), math.Sqrt(bs.a[i]), t)
	}
	reach := 1 / (2 * math.Sqrt(b.shift(blk)))
	first := bs.misfit(b.kernel, c, y) + dotError*epsilon*(math.Sqrt(bs.trace)*norm+2*bs.wnorm*bs.scaled(c))
	return first*reach + epsilon*(1+math.Sqrt(float64(b.n)))*(norm+t)
}

// finish sets dst to (v − Gᵀc)/λ in the columns of a block. sums has λ times the bound as Error2.
func (b *blockRun) finish(bs *blockScratch, dst [][]float64, v []Vector, c []float64, blk Block, sums []BlockSum, alone bool) error {
	k, lambda := len(v), b.lambda(blk)
	norms := make([]float64, k*tilesOf(blk))
	err := b.columnsOf(bs, blk, int64(k*b.n)*TileCols, alone, func(bs *blockScratch, tile int, t Block) {
		b.combine(bs, c, k, t, func(i int, r []float64) {
			x := grow(&bs.x, (len(r)+15)&^15)
			b.loadKept(x, v[i], t, b.want.Out)
			for j, g := range r {
				x[j] = (x[j] - g) / lambda
				if b.want.Out != nil && b.want.Out[t.Lo+int64(j)] != 0 {
					x[j] = 0
				}
			}
			copy(dst[i][t.Lo:t.Hi], x)
			norms[tile*k+i] = b.kernel.Dot(x, x)
		})
	})
	if err != nil {
		return err
	}
	for i, x := range norms {
		sums[i%k].Norm2 += x
	}
	for i := range sums {
		e := sums[i].Error2/lambda + 2*epsilon*math.Sqrt(sums[i].Norm2)
		sums[i].Error2 = e * e
	}
	return nil
}

// vectorOf returns a vector's numbers in the block's kept columns, padded with zeros, and room for as many.
func (b *blockRun) vectorOf(bs *blockScratch, v Vector, blk Block) (y, room []float64) {
	x := grow(&bs.x, int(blk.Hi-blk.Lo))
	v.load(b.kernel, x, blk.Lo)
	y, room = grow(&bs.y, bs.m), grow(&bs.z, bs.m)
	clear(y)
	for j, c := range bs.cols {
		y[j] = x[c-blk.Lo]
	}
	return y, room
}

// solvePrimal sets dst to N K⁻¹y in the kept columns of a block, 0 in the others.
func (b *blockRun) solvePrimal(bs *blockScratch, z, y, dst []float64, blk Block) BlockSum {
	bs.solveTo(b.kernel, z, y)
	norm := math.Sqrt(b.kernel.Dot(y, y))
	e := (bs.misfit(b.kernel, z, y) + 2*dotError*epsilon*bs.wnorm*bs.scaled(z) + epsilon*norm) / b.lambda(blk)
	for j := range z {
		z[j] *= float64(b.want.N)
	}
	b.spread(bs, dst, z, blk)
	norm2 := b.kernel.Dot(z, z)
	e += 2 * epsilon * math.Sqrt(norm2)
	return BlockSum{e * e, norm2}
}

// spread sets a block's columns of dst to z where they are kept, 0 elsewhere.
func (b *blockRun) spread(bs *blockScratch, dst, z []float64, blk Block) {
	clear(dst[blk.Lo:blk.Hi])
	for j, c := range bs.cols {
		dst[c] = z[j]
	}
}

// DiagBlocks sets dst, of Cols() numbers, to the diagonal of H_b⁻¹ in the columns of each block, 0 where one is left out: N‖L⁻¹e_j‖² or
// (1 − ‖L⁻¹g_j‖²)/λ. With E of elementError, an element of the first kind is off by E times itself, of the second by (E‖L⁻¹g_j‖² +
// 2ε)/λ. Its cost is SolveBlocks' and q³/2 or q n²/2 products more.
func (s *Store) DiagBlocks(dst []float64, spec BlockSpec, blocks []Block) (BlockSum, error) {
	b, err := s.solver([][]float64{dst}, []Vector{Zeros(s.cols)}, spec, blocks)
	if err != nil {
		return BlockSum{}, err
	}
	sums := make([]BlockSum, len(blocks))
	err = b.each(blocks, func(bs *blockScratch, i int, alone bool) error {
		primal, err := b.factored(bs, blocks[i], alone)
		if err != nil {
			return err
		}
		d := make([]float64, bs.m)
		nu, err := bs.inverseDiag(b.kernel, d, &bs.w, b.spec.Abort.Err)
		if err != nil {
			return err
		}
		e := bs.elementError(nu)
		if !primal {
			sums[i], err = b.diagColumns(bs, dst, bs.l[:bs.m*bs.m], e, blocks[i], alone)
			return err
		}
		for j := range d {
			d[j] *= float64(b.want.N)
		}
		clear(d[bs.n:])
		b.spread(bs, dst, d, blocks[i])
		norm2 := b.kernel.Dot(d, d)
		sums[i] = BlockSum{e * e * norm2, norm2}
		return nil
	})
	return b.totals(sums, 1, blocks, 2)[0], err
}

// diagColumns sets dst to (1 − ‖L⁻¹g_j‖²)/λ in the columns of a block, where ‖L⁻¹g_j‖² is off by e times itself.
func (b *blockRun) diagColumns(bs *blockScratch, dst, l []float64, e float64, blk Block, alone bool) (BlockSum, error) {
	m, lambda := (b.n+15)&^15, b.lambda(blk)
	parts := make([]BlockSum, tilesOf(blk))
	err := b.columnsOf(bs, blk, int64(triangle(b.n))*TileCols, alone, func(bs *blockScratch, tile int, t Block) {
		width := int(t.Hi - t.Lo)
		var g kernel.Tile
		if b.n > 0 {
			g = b.rowsOf(bs, t, nil)
		}
		for lo := 0; lo < width; lo += blockPanel {
			cols := min(blockPanel, (width+15)&^15-lo)
			w, r := grow(&bs.w, m*cols), grow(&bs.x, cols)
			clear(w)
			clear(r)
			for i := range b.n {
				b.kernel.RowPart(w[i*cols:(i+1)*cols], g, i, lo/F32.LineCols())
			}
			if b.n > 0 {
				b.kernel.Solve(w, l, m, cols)
				b.kernel.Squares(r, w)
			}
			for j := range min(cols, width-lo) {
				at := t.Lo + int64(lo+j)
				if b.want.Out != nil && b.want.Out[at] != 0 {
					dst[at] = 0
					continue
				}
				x, off := (1-r[j])/lambda, (e*r[j]+2*epsilon)/lambda
				dst[at] = x
				parts[tile].Norm2 = math.FMA(x, x, parts[tile].Norm2)
				parts[tile].Error2 = math.FMA(off, off, parts[tile].Error2)
			}
		}
	})
	return totals(parts, 1)[0], err
}

// JointBlocks sets dst, of Cols() numbers, to G_bᵀ(NλW⁻¹ + G_bG_bᵀ)⁻¹y with y = Gx over all of the block's columns, also those that are left out
// of H: the change of the others when those of x go (maths.md, "Pruning"). 0 where a column is left out.
func (s *Store) JointBlocks(dst []float64, x Vector, spec BlockSpec, blocks []Block) error {
	b, err := s.solver([][]float64{dst}, []Vector{x}, spec, blocks)
	if err != nil {
		return err
	}
	return b.each(blocks, func(bs *blockScratch, i int, alone bool) error {
		primal, err := b.factored(bs, blocks[i], alone)
		if err != nil {
			return err
		}
		y := make([]float64, b.n+1)
		if err := b.dots(bs, y, []Vector{x}, blocks[i], nil, alone); err != nil {
			return err
		}
		c := y[:b.n]
		if primal && b.want.Weights != nil {
			for i, f := range b.want.Weights {
				c[i] *= f
			}
		}
		if !primal {
			full, z := make([]float64, bs.m), make([]float64, bs.m)
			copy(full, c)
			bs.solveTo(b.kernel, z, full)
			c = z[:b.n]
		}
		if err := b.change(bs, dst, c, blocks[i], alone); err != nil || !primal {
			return err
		}
		rhs, z := make([]float64, bs.m), make([]float64, bs.m)
		for j, at := range bs.cols {
			rhs[j] = dst[at]
		}
		bs.solveTo(b.kernel, z, rhs)
		b.spread(bs, dst, z, blocks[i])
		return nil
	})
}

// change sets dst to Gᵀc in the columns of a block, 0 where one is left out.
func (b *blockRun) change(bs *blockScratch, dst, c []float64, blk Block, alone bool) error {
	return b.columnsOf(bs, blk, int64(b.n)*TileCols, alone, func(bs *blockScratch, _ int, t Block) {
		b.combine(bs, c, 1, t, func(_ int, r []float64) {
			copy(dst[t.Lo:t.Hi], r)
			if b.want.Out != nil {
				for j, o := range b.want.Out[t.Lo:t.Hi] {
					if o != 0 {
						dst[t.Lo+int64(j)] = 0
					}
				}
			}
		})
	})
}

// What follows is for a block that lies in several shards: its parts.

// PartGram sets dst to rows [i0, i1) of the lower triangle of GGᵀ over the columns of part, packed.
func (s *Store) PartGram(dst []float64, part Block, spec BlockSpec, i0, i1 int) error {
	b, err := s.blocks(spec)
	if err == nil {
		err = s.checkBlocks([]Block{part})
	}
	if err == nil && (i0 < 0 || i1 < i0 || i1 > b.n) {
		err = outOf("rows", i0, "0 to i1 = %d, that at most %d", i1, b.n)
	}
	if err == nil {
		err = checkLen("dst", len(dst), int64(triangle(i1)-triangle(i0)))
	}
	if err != nil {
		return err
	}
	return b.gram(new(blockScratch), dst, part, i0, i1, false)
}

// PartDots sets dst to Gv over the columns of part, n numbers for each vector, then ‖v‖² of each. With all, columns that are left out of H count.
func (s *Store) PartDots(dst []float64, v []Vector, part Block, spec BlockSpec, all bool) error {
	b, err := s.blocks(spec)
	if err == nil {
		err = s.checkBlocks([]Block{part})
	}
	if err == nil {
		err = s.checkVectors("v", v...)
	}
	if err == nil {
		err = checkLen("dst", len(dst), int64(len(v)*(b.n+1)))
	}
	if err != nil {
		return err
	}
	out := b.want.Out
	if all {
		out = nil
	}
	return b.dots(new(blockScratch), dst, v, part, out, false)
}

// PartSolve sets dst to (v − Gᵀc)/λ in the columns of part, and returns ‖·‖² of each.
func (s *Store) PartSolve(dst [][]float64, v []Vector, c []float64, part Block, spec BlockSpec) ([]float64, error) {
	b, err := s.solver(dst, v, spec, []Block{part})
	if err == nil {
		err = checkLen("c", len(c), int64(len(v)*b.n))
	}
	if err != nil {
		return nil, err
	}
	sums := make([]BlockSum, len(v))
	err = b.finish(new(blockScratch), dst, v, c, part, sums, false)
	norms := make([]float64, len(v))
	for i := range sums {
		norms[i] = sums[i].Norm2
	}
	return norms, err
}

// PartDiag sets dst to (1 − ‖L⁻¹g_j‖²)/λ in the columns of part, and returns its ‖·‖². L is n×n, as in DiagBytes.
func (s *Store) PartDiag(dst, l []float64, part Block, spec BlockSpec) (norm2 float64, err error) {
	b, err := s.solver([][]float64{dst}, []Vector{Zeros(s.cols)}, spec, []Block{part})
	if err == nil {
		err = s.checkDiag(l, spec.Slots, spec.Lambda, part.Lo, part.Hi)
	}
	if err != nil {
		return 0, err
	}
	m := (b.n + 15) &^ 15
	padded := make([]float64, m*m)
	for i := range m {
		if i < b.n {
			copy(padded[i*m:], l[i*b.n:][:i+1])
		} else {
			padded[i*m+i] = 1
		}
	}
	sum, err := b.diagColumns(new(blockScratch), dst, padded, 0, part, false)
	return sum.Norm2, err
}

// PartChange sets dst to Gᵀc in the columns of part, 0 where one is left out.
func (s *Store) PartChange(dst, c []float64, part Block, spec BlockSpec) error {
	b, err := s.solver([][]float64{dst}, []Vector{Zeros(s.cols)}, spec, []Block{part})
	if err == nil {
		err = checkLen("c", len(c), int64(b.n))
	}
	if err != nil {
		return err
	}
	return b.change(new(blockScratch), dst, c, part, false)
}

// PartCombine sets dst to Gᵀc in the columns of part, and returns ‖·‖² of each.
func (s *Store) PartCombine(dst [][]float64, c []float64, part Block, spec BlockSpec) ([]float64, error) {
	zeros := make([]Vector, len(dst))
	for i := range zeros {
		zeros[i] = Zeros(s.cols)
	}
	b, err := s.solver(dst, zeros, spec, []Block{part})
	if err == nil {
		err = checkLen("c", len(c), int64(len(dst)*b.n))
	}
	if err != nil {
		return nil, err
	}
	sums, norms := make([]BlockSum, len(dst)), make([]float64, len(dst))
	err = b.combined(new(blockScratch), dst, c, part, sums, false)
	for i := range sums {
		norms[i] = sums[i].Norm2
	}
	return norms, err
}

// BlockGram returns the smaller Gram matrix of a block, packed: G_bᵀG_b where primal, else G_bG_bᵀ.
func (s *Store) BlockGram(blk Block, spec BlockSpec) (packed []float64, primal bool, err error) {
	b, err := s.blocks(spec)
	if err == nil {
		err = s.checkBlocks([]Block{blk})
	}
	if err != nil {
		return nil, false, err
	}
	return b.gramOf(new(blockScratch), blk, false)
}

// growOf is grow of float32s.
func growOf(p *[]float32, n int) []float32 {
	if cap(*p) < n {
		*p = make([]float32, n)
	}
	return (*p)[:n]
}

func float32At(p []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
}

func setFloat32(p []byte, i int, x float32) {
	binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(x))
}

func all(p *pass) pool.Span { return pool.All(p.count()) }
