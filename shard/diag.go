package shard

import (
	"math"

	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// diagCols is how many columns are solved for together: few enough that their W stays in the second
// cache, a multiple of every dtype's line that divides TileCols. No result depends on it.
const diagCols = 64

// DiagBytes sets dst to columns [lo, hi) of the diagonal of H⁻¹, (1 − ‖w_j‖²)/lambda with W = L⁻¹G
// (maths.md, "Elements, diagonal, columns"), worked out in float64 and rounded once to dtype t, in
// little-endian bytes. slots are those of the rows in L's order; L is len(slots)², row by row, lower
// triangular with a positive diagonal, and not looked at above it. lambda is positive and finite. In
// each column by itself
//
//	w_i = fma(−l_ik, w_k, w_i) for k < i in order, then w_i = w_i / l_ii; ‖w‖² = fma(w_i, w_i, ·) in order
//
// bad is the first column that is not finite then, or −1. O(n²) a column.
func (s *Store) DiagBytes(dst []byte, t DType, l []float64, slots []int, lambda float64, lo, hi int64) (bad int64, err error) {
	if err := s.checkDiag(l, slots, lambda, lo, hi); err != nil {
		return 0, err
	}
	if err := checkBytes(dst, t, 1, lo, hi); err != nil || lo == hi {
		return -1, err
	}
	first, last := int(lo/diagCols), int((hi-1)/diagCols)
	n := int64(len(slots))
	work := max(1, n*(n+1)/2) * (hi - lo)
	p := s.pass(opDiag, first, last-first+1, work)
	defer s.done(p)
	p.c, p.slots, p.lambda, p.lo, p.hi = l, slots, lambda, lo, hi
	p.bytes, p.dtype = dst, t
	p.split()
	p.bad.Store(hi)
	if err := s.do(p, pool.All(p.count()), work); err != nil {
		return -1, err
	}
	if bad := p.bad.Load(); bad < hi {
		return bad, nil
	}
	return -1, nil
}

func (s *storage) checkDiag(l []float64, slots []int, lambda float64, lo, hi int64) error {
	for _, t := range slots {
		if err := s.checkSlot(t); err != nil {
			return err
		}
	}
	if err := checkLen("l", len(l), int64(len(slots))*int64(len(slots))); err != nil {
		return err
	}
	for i := range slots {
		if d := l[i*len(slots)+i]; !(d > 0) || math.IsInf(d, 1) {
			return outOf("diagonal of l", d, "> 0 and finite")
		}
	}
	if !(lambda > 0) || math.IsInf(lambda, 1) {
		return outOf("lambda", lambda, "> 0 and finite")
	}
	if lo > hi {
		return outOf("first column", lo, "≤ %d, the end", hi)
	}
	return s.checkRange(lo, hi-lo)
}

// diag works out one block of diagCols columns of a diagonal, of W, or of a diagonal from W.
func (p *pass) diag(sc *scratch, block int) {
	s := p.s
	start := int64(block) * diagCols
	tile := int(start / TileCols)
	g := s.tile(tile)
	within := int(start % TileCols)
	cols := min(diagCols, g.Cols()-within)
	n := len(p.slots)
	x := grow(&sc.x, 2*cols)
	r, one := x[:cols], x[cols:]
	clear(r)
	var w []float64
	if p.white != nil {
		w = p.white[int64(n)*start:][:n*cols]
	} else {
		w = grow(&sc.r, n*cols)
	}
	if p.op != opSquares {
		for i, t := range p.slots {
			s.kernel.RowPart(w[i*cols:(i+1)*cols], g, t, within/g.DType.LineCols())
		}
		if n > 0 {
			s.kernel.Solve(w, p.c, n, cols)
		}
	}
	if p.op == opWhiten {
		return
	}
	if n > 0 {
		s.kernel.Squares(r, w)
		s.over(r, start)
	}
	for j := range one {
		one[j] = 1
	}
	s.kernel.Finish(r, one, p.lambda)
	s.over(r, start)
	a, b := max(p.lo, start), min(p.hi, start+int64(cols))
	size := int64(p.dtype.Size())
	if bad := s.kernel.Round(p.bytes[(a-p.lo)*size:(b-p.lo)*size], r[a-start:b-start], p.dtype); bad >= 0 {
		p.note(a + int64(bad))
	}
}

// Columns sets dst[i*Slots()+t] = g_tj for j = cols[i] over the slots t in mask, 0 elsewhere. dst has
// length len(cols)*Slots().
func (s *Store) Columns(dst []float64, cols []int64, mask Mask) error {
	if err := s.checkMask(mask); err != nil {
		return err
	}
	if err := checkLen("dst", len(dst), int64(len(cols))*int64(s.slots)); err != nil {
		return err
	}
	for _, j := range cols {
		if err := s.checkRange(j, 1); err != nil {
			return err
		}
	}
	clear(dst)
	var x [kernel.MostLineCols]float64
	for i, j := range cols {
		if err := s.spec.Abort.Err(); err != nil {
			return err
		}
		g := s.tile(int(j / TileCols))
		c := g.DType.LineCols()
		within := int(j % TileCols)
		for t := range s.slots {
			if mask.Has(t) {
				s.kernel.RowPart(x[:c], g, t, within/c)
				dst[i*s.slots+t] = x[within%c]
			}
		}
	}
	return nil
}
