package shard

import (
	"fmt"
	"math"
	"sync"

	"mfac/shard/kernel"
)

// This file: diagonal blocks of H = GᵀWG/N + λI in place of H (maths.md, "Blocks"; docs/blocks.md). A block of q columns is worked out
// from a Gram matrix of min(q, n) rows, plus NλI:
//
//	q ≤ n and q ≤ mostPrimal   K = G_bᵀWG_b + NλI, q×q:    H_b⁻¹v = N K⁻¹v
//	else                       K = G_bG_bᵀ + NλW⁻¹, n×n:   H_b⁻¹v = (v − G_bᵀK⁻¹G_bv)/λ
//
// In a store with scales λ is a block's own, its scale r times the λ that is asked for, and sums are in the norm of λ: ‖·‖² is r‖·‖²
// of vectors, r²‖·‖² of diagonals, ‖·‖²/r of residuals. A block lies in one scale.
//
// Rows are taken in the order in which they are listed, columns in tiles of 1,024 from the block's first one on: nothing depends on
// where in the shard a block lies, on threads, or on which other blocks there are.

// A Block is columns [Lo, Hi) of a shard.
type Block struct{ Lo, Hi int64 }

// BlockSpec says of what window, and at what λ and N, blocks are.
type BlockSpec struct {
	Slots  []int // of the rows, oldest first
	Lambda float64
	N      int
	Out    []byte // by column of the shard: not 0 where a column is left out of H; nil: none is

	Weights []float64 // of the rows, W = diag(w); nil: all are 1
}

// A BlockSum says of a result x̂, of exact arithmetic x, that ‖x̂ − x‖² ≤ Error2, and what ‖x̂‖² is.
type BlockSum struct{ Error2, Norm2 float64 }

// An IllConditioned is a block that can't be solved in float64.
type IllConditioned struct {
	Block
	Pivot float64
}

func (e *IllConditioned) Error() string {
	return fmt.Sprintf("the block of columns [%d, %d) of the shard is singular in float64: pivot %g", e.Lo, e.Hi, e.Pivot)
}

const (
	// mostPrimal is the most columns for which GᵀG is made: each thread has some such squares then.
	mostPrimal = 1024

	// A block of more columns, or of more rows where it is n×n, has all threads work on it; of others, each
	// thread has one.
	mostSmallCols = 16 * TileCols

	// blockRows is the rows of a Gram matrix in one reading of a block.
	blockRows = 256

	// blockPanel is how many columns are solved for together.
	blockPanel = 64
)

// epsilon is the ε of maths.md, 2⁻⁵².
const epsilon = 0x1p-52

// dotError is coordinator/window's: a dot is off by that many ε ‖g‖‖h‖.
const dotError = 8

// blockRun is a call at work on blocks.
type blockRun struct {
	*Store
	want BlockSpec
	n    int
	ages []int // 0 … n−1
	mask Mask  // of them all

	mu   sync.Mutex
	free []*blockScratch
	err  error
	at   int64 // of the block that err is of
}

// blockScratch is what one goroutine needs.
type blockScratch struct {
	kernel.Scratch
	spd
	row, lines  []byte
	t           []float32
	stack, w    []float64
	packed      []float64
	x, y, z, rc []float64
	cols        []int64 // of a block that are not left out
}

func (s *Store) blocks(spec BlockSpec) (*blockRun, error) {
	for _, t := range spec.Slots {
		if err := s.checkSlot(t); err != nil {
			return nil, err
		}
	}
	most := 1.0
	for _, f := range s.scales {
		most = max(most, f.R)
	}
	if !(spec.Lambda > 0) || !(float64(spec.N)*(spec.Lambda*most) <= math.MaxFloat64) {
		return nil, outOf("lambda", spec.Lambda, "> 0 and finite, times N = %d too", spec.N)
	}
	if spec.N < 1 {
		return nil, outOf("N", spec.N, "≥ 1")
	}
	if spec.Weights != nil {
		if err := checkLen("weights", len(spec.Weights), int64(len(spec.Slots))); err != nil {
			return nil, err
		}
	}
	for _, w := range spec.Weights {
		if !(w > 0) || math.IsInf(w, 1) {
			return nil, outOf("weight", w, "> 0 and finite")
		}
	}
	if spec.Out != nil {
		if err := checkLen("out", len(spec.Out), s.cols); err != nil {
			return nil, err
		}
	}
	b := &blockRun{Store: s, want: spec, n: len(spec.Slots)}
	b.mask = FullMask(b.n)
	for i := range b.n {
		b.ages = append(b.ages, i)
	}
	return b, nil
}

func (s *Store) checkBlocks(blocks []Block) error {
	for _, b := range blocks {
		if err := s.checkRange(b.Lo, b.Hi-b.Lo); err != nil {
			return err
		}
		if b.Hi <= b.Lo {
			return outOf("block", fmt.Sprintf("[%d, %d)", b.Lo, b.Hi), "of one column at least")
		}
		for _, f := range s.scales {
			if b.Lo < f.Lo && f.Lo < b.Hi {
				return outOf("block", fmt.Sprintf("[%d, %d)", b.Lo, b.Hi), "of one damping: another one begins at column %d", f.Lo)
			}
		}
	}
	return nil
}

// scale is that of λ in a block.
func (s *Store) scale(blk Block) float64 {
	r := 1.0
	for _, f := range s.scales {
		if f.Lo <= blk.Lo {
			r = f.R
		}
	}
	return r
}

// lambda is a block's own λ, and shift Nλ.
func (b *blockRun) lambda(blk Block) float64 { return b.want.Lambda * b.scale(blk) }
func (b *blockRun) shift(blk Block) float64  { return float64(b.want.N) * b.lambda(blk) }

func (b *blockRun) take() *blockScratch {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		bs := b.free[n-1]
		b.free = b.free[:n-1]
		return bs
	}
	return new(blockScratch)
}

func (b *blockRun) give(bs *blockScratch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, bs)
}

// fail notes an error of a block: that of the first one counts.
func (b *blockRun) fail(blk Block, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil || blk.Lo < b.at {
		b.err, b.at = err, blk.Lo
	}
}

// each does f for every block: one a thread, the large ones one after the other with all threads on each. f is told which way.
func (b *blockRun) each(blocks []Block, f func(bs *blockScratch, i int, alone bool) error) error {
	var small, large []int
	work := int64(0)
	for i, blk := range blocks {
		q := blk.Hi - blk.Lo
		order := min(q, int64(b.n))
		if q > mostSmallCols || order > mostPrimal {
			large = append(large, i)
			continue
		}
		small = append(small, i)
		work += q*order*(int64(b.n)+1)/2 + order*order*order/6
	}
	if len(small) < b.threads { // few: all threads on each
		large, small = append(large, small...), nil
	}
	do := func(i int, alone bool) {
		if err := b.spec.Abort.Err(); err != nil {
			b.fail(blocks[i], err)
			return
		}
		bs := b.take()
		defer b.give(bs)
		if err := f(bs, i, alone); err != nil {
			b.fail(blocks[i], err)
		}
	}
	if len(small) > 0 {
		if err := b.eachUnit(len(small), work, func(t int) { do(small[t], true) }); err != nil {
			return err
		}
	}
	for _, i := range large {
		do(i, false)
	}
	return b.err
}

// eachUnit does f for 0 … n−1, by the threads.
func (b *blockRun) eachUnit(n int, work int64, f func(i int)) error {
	p := b.pass(opEach, 0, n, max(1, work))
	defer b.done(p)
	p.each = f
	p.split()
	return b.do(p, all(p), work)
}

// tilesOf is how many tiles there are in a block.
func tilesOf(blk Block) int { return int((blk.Hi-blk.Lo-1)/TileCols) + 1 }

// tileOf is tile i of a block.
func tileOf(blk Block, i int) Block {
	lo := blk.Lo + int64(i)*TileCols
	return Block{lo, min(lo+TileCols, blk.Hi)}
}

// sum adds the parts of a block's tiles pairwise, as a pass over all tiles of the shard does. work is the products of one tile.
func (b *blockRun) sum(bs *blockScratch, dst []float64, blk Block, work int64, alone bool, part func(bs *blockScratch, t Block, dst []float64)) error {
	tiles := tilesOf(blk)
	if !alone {
		p := b.pass(opSum, 0, tiles, max(1, work*int64(tiles)))
		p.sumPart = func(i int, dst []float64) {
			own := b.take()
			defer b.give(own)
			part(own, tileOf(blk, i), dst)
		}
		return b.total(dst, p, work*int64(tiles))
	}
	n := len(dst)
	stack := bs.stack[:0]
	depth := 0
	for t := range tiles {
		if err := b.spec.Abort.Err(); err != nil {
			return err
		}
		if (depth+1)*n > len(stack) {
			stack = append(stack[:depth*n], make([]float64, n)...)
		}
		part(bs, tileOf(blk, t), stack[depth*n:(depth+1)*n])
		depth++
		for i := t; i&1 == 1; i >>= 1 {
			depth--
			add(stack[(depth-1)*n:depth*n], stack[depth*n:])
		}
	}
	for ; depth > 1; depth-- {
		add(stack[(depth-2)*n:(depth-1)*n], stack[(depth-1)*n:])
	}
	copy(dst, stack[:n])
	bs.stack = stack
	return nil
}

// columnsOf does f for a block's tiles. work is the products of one.
func (b *blockRun) columnsOf(bs *blockScratch, blk Block, work int64, alone bool, f func(bs *blockScratch, i int, t Block)) error {
	if !alone {
		return b.eachUnit(tilesOf(blk), work*int64(tilesOf(blk)), func(i int) {
			own := b.take()
			defer b.give(own)
			f(own, i, tileOf(blk, i))
		})
	}
	for i := range tilesOf(blk) {
		if err := b.spec.Abort.Err(); err != nil {
			return err
		}
		f(bs, i, tileOf(blk, i))
	}
	return nil
}

// rowsOf is a copy of the rows' columns of t, by age, with zeros where out is not 0.
func (b *blockRun) rowsOf(bs *blockScratch, t Block, out []byte) kernel.Tile {
	width := int(t.Hi - t.Lo)
	g := kernel.Tile{DType: F32, Slots: b.n, Lines: lines(F32, width)}
	g.G = aligned(&bs.lines, g.Slots*g.Lines*regionAlign)
	row := bytesOf(&bs.row, 4*g.Cols())
	clear(row)
	for i, slot := range b.want.Slots {
		b.read(row, slot, t)
		if out != nil {
			for j, o := range out[t.Lo:t.Hi] {
				if o != 0 {
					clear(row[4*j : 4*j+4])
				}
			}
		}
		b.kernel.Put(&bs.Scratch, g, i, 0, row, F32)
	}
	b.kernel.Flush()
	return g
}

// read sets p to columns t of a row, as float32 bytes.
func (b *blockRun) read(p []byte, slot int, t Block) {
	for lo := t.Lo; lo < t.Hi; {
		tile, col := int(lo/TileCols), int(lo%TileCols)
		n := min(t.Hi-lo, TileCols-int64(col))
		kernel.Get(p[4*(lo-t.Lo):4*(lo-t.Lo+n)], b.tile(tile), slot, col)
		lo += n
	}
}

// aligned returns n bytes of p's memory, of any value, at the beginning of a line.
func aligned(p *[]byte, n int) []byte {
	if cap(*p) < n+regionAlign {
		*p = make([]byte, n+regionAlign)
	}
	q := (*p)[:cap(*p)]
	return q[-address(q)&(regionAlign-1):][:n]
}

func bytesOf(p *[]byte, n int) []byte {
	if cap(*p) < n {
		*p = make([]byte, n)
	}
	return (*p)[:n]
}

// gram sets dst to rows [i0, i1) of the lower triangle of G_bG_bᵀ, packed.
func (b *blockRun) gram(bs *blockScratch, dst []float64, blk Block, i0, i1 int, alone bool) error {
	for i := i0; i < i1; {
		next := min(i+blockRows, i1)
		n := triangle(next) - triangle(i)
		err := b.sum(bs, dst[:n], blk, int64(n)*TileCols, alone, func(bs *blockScratch, t Block, dst []float64) {
			b.kernel.Gram(&bs.Scratch, dst, b.rowsOf(bs, t, b.want.Out), b.ages, i, next)
		})
		if err != nil {
			return err
		}
		dst, i = dst[n:], next
	}
	return nil
}

func triangle(n int) int { return n * (n + 1) / 2 }

// dots sets dst to G_bv for k vectors, n numbers each, then ‖v‖² of each, over the block's columns that are not left out.
func (b *blockRun) dots(bs *blockScratch, dst []float64, v []Vector, blk Block, out []byte, alone bool) error {
	k := len(v)
	return b.sum(bs, dst, blk, int64(k*b.n)*TileCols, alone, func(bs *blockScratch, t Block, dst []float64) {
		cols := lines(F32, int(t.Hi-t.Lo)) * F32.LineCols()
		x := grow(&bs.x, k*cols)
		for i := range v {
			b.loadKept(x[i*cols:(i+1)*cols], v[i], t, out)
			dst[k*b.n+i] = b.kernel.Dot(x[i*cols:(i+1)*cols], x[i*cols:(i+1)*cols])
		}
		if b.n > 0 {
			b.kernel.Dots(&bs.Scratch, dst[:k*b.n], b.rowsOf(bs, t, nil), x, b.mask)
		}
	})
}

// loadKept sets x to columns t of v, with zeros past them and where a column is left out.
func (b *blockRun) loadKept(x []float64, v Vector, t Block, out []byte) {
	width := int(t.Hi - t.Lo)
	v.load(b.kernel, x[:width], t.Lo)
	clear(x[width:])
	if out != nil {
		for j, o := range out[t.Lo:t.Hi] {
			if o != 0 {
				x[j] = 0
			}
		}
	}
}

// combine hands f columns t of Gᵀc for k coefficient vectors.
func (b *blockRun) combine(bs *blockScratch, c []float64, k int, t Block, f func(i int, r []float64)) {
	width := int(t.Hi - t.Lo)
	cols := lines(F32, width) * F32.LineCols()
	r := grow(&bs.rc, k*cols)
	if b.n > 0 {
		b.kernel.Combine(&bs.Scratch, r, b.rowsOf(bs, t, nil), 0, c, b.mask)
	} else {
		clear(r)
	}
	for i := range k {
		f(i, r[i*cols : (i+1)*cols][:width])
	}
}

// keptOf lists a block's columns that are not left out.
func (b *blockRun) keptOf(bs *blockScratch, blk Block) []int64 {
	bs.cols = bs.cols[:0]
	for j := blk.Lo; j < blk.Hi; j++ {
		if b.want.Out == nil || b.want.Out[j] == 0 {
			bs.cols = append(bs.cols, j)
		}
	}
	return bs.cols
}

// count is how many columns of a block are not left out.
func (b *blockRun) count(blk Block) int64 {
	if b.want.Out == nil {
		return blk.Hi - blk.Lo
	}
	n := int64(0)
	for _, o := range b.want.Out[blk.Lo:blk.Hi] {
		if o == 0 {
			n++
		}
	}
	return n
}

// gramOf sets dst to the lower triangle of the block's smaller Gram matrix, packed, and returns its rows and whether it is that of the columns.
func (b *blockRun) gramOf(bs *blockScratch, blk Block, alone bool) (packed []float64, primal bool, err error) {
	if q := b.count(blk); q > int64(b.n) || q > mostPrimal {
		packed = grow(&bs.packed, triangle(b.n))
		return packed, false, b.gram(bs, packed, blk, 0, b.n, alone)
	}
	cols := b.keptOf(bs, blk)
	q := len(cols)
	packed = grow(&bs.packed, triangle(q))
	t := growOf(&bs.t, q*b.n) // Gᵀ
	row := bytesOf(&bs.row, int(4*(blk.Hi-blk.Lo)))
	for i, slot := range b.want.Slots {
		b.read(row, slot, blk)
		for j, c := range cols {
			t[j*b.n+i] = float32At(row, int(c-blk.Lo))
		}
	}
	ages := make([]int, q)
	for j := range ages {
		ages[j] = j
	}
	part := grow(&bs.w, len(packed))
	for lo := 0; lo < b.n && q > 0; lo += TileCols {
		if err := b.spec.Abort.Err(); err != nil {
			return nil, true, err
		}
		n := min(TileCols, b.n-lo)
		g := kernel.Tile{DType: F32, Slots: q, Lines: lines(F32, n)}
		g.G = aligned(&bs.lines, g.Slots*g.Lines*regionAlign)
		row := bytesOf(&bs.row, 4*g.Cols())
		clear(row)
		for j := range q {
			for i, x := range t[j*b.n+lo:][:n] {
				setFloat32(row, i, x)
			}
			b.kernel.Put(&bs.Scratch, g, j, 0, row, F32)
		}
		b.kernel.Flush()
		to := part
		if lo == 0 {
			to = packed
		}
		if b.want.Weights == nil {
			b.kernel.Gram(&bs.Scratch, to, g, ages, 0, q)
		} else {
			b.weightedGram(bs, to, g, b.want.Weights[lo:lo+n])
		}
		if lo > 0 {
			add(packed, part)
		}
	}
	return packed, true, nil
}

// weightedGram sets dst to the lower triangle of GWGᵀ, g's rows being G's, packed: each is multiplied with W times the others, rounded.
func (b *blockRun) weightedGram(bs *blockScratch, dst []float64, g kernel.Tile, w []float64) {
	q, cols := g.Slots, g.Cols()
	x, y := grow(&bs.x, q*cols), grow(&bs.y, q*q)
	for i := range q {
		row := x[i*cols : (i+1)*cols]
		b.kernel.Row(row, g, i)
		for j, f := range w { // past it the row is 0
			row[j] *= f
		}
	}
	b.kernel.Dots(&bs.Scratch, y, g, x, FullMask(q))
	for i := range q {
		copy(dst[triangle(i):], y[i*q:][:i+1])
	}
}

// factored makes a block's K and its factor.
func (b *blockRun) factored(bs *blockScratch, blk Block, alone bool) (primal bool, err error) {
	packed, primal, err := b.gramOf(bs, blk, alone)
	if err != nil {
		return primal, err
	}
	n := b.n
	if primal {
		n = len(bs.cols)
	}
	if !primal && b.want.Weights != nil {
		bs.weighted(packed, n, b.shift(blk), b.want.Weights)
	} else {
		bs.load(packed, n, b.shift(blk))
	}
	if pivot, err := bs.factor(b.kernel, b.spec.Abort.Err); err != nil {
		return primal, err
	} else if !(pivot > 0) || math.IsInf(pivot, 1) {
		return primal, &IllConditioned{blk, pivot}
	}
	return primal, nil
}
