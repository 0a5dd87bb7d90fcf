package shard

import (
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// This file: W = L⁻¹G kept in memory (maths.md, "Elements, diagonal, columns"). Its bits are those that
// DiagBytes works with.

// SolveCols is what the columns of Solve's W are a multiple of.
const SolveCols = 16

// SolveLower sets W = L⁻¹W for n rows of cols columns, a multiple of SolveCols, row i at w[i*cols:] and
// row i of the lower triangular L at l[i*ld:]. In each column by itself
//
//	w_i = fma(−l_ik, w_k, w_i) for k < i in order, then w_i = w_i / l_ii
//
// O(n²cols) on the caller's goroutine. Wrong lengths panic.
func SolveLower(w, l []float64, ld, n, cols int) {
	if n > 0 {
		kernel.Best().SolveIn(w, l, ld, n, cols)
	}
}

// WhiteLen is how many numbers W of so many rows has, for a shard of cols ≥ 1 columns whose rows are of
// dtype t: rows × the columns up to a whole line.
func WhiteLen(cols int64, t DType, rows int) int64 {
	last := (cols - 1) / TileCols
	return int64(rows) * (last*TileCols + int64(lines(t, int(cols-last*TileCols)))*int64(t.LineCols()))
}

// Whiten sets columns [lo, hi) of W = L⁻¹G in w, which has WhiteLen numbers: blocks of diagCols
// columns, the last one narrower, in each the rows one after the other. lo is a multiple of 64; hi is
// one, or the shard's end. slots and l are as for DiagBytes. O(n²) a column.
func (s *Store) Whiten(w, l []float64, slots []int, lo, hi int64) error {
	if err := s.checkDiag(l, slots, 1, lo, hi); err != nil {
		return err
	}
	if err := s.checkWhite(w, len(slots)); err != nil {
		return err
	}
	if lo%diagCols != 0 || hi%diagCols != 0 && hi != s.cols {
		return outOf("columns", lo, "from a multiple of %d to one or the end, not %d", diagCols, hi)
	}
	if lo == hi || len(slots) == 0 {
		return nil
	}
	first, last := int(lo/diagCols), int((hi-1)/diagCols)
	n := int64(len(slots))
	work := n * (n + 1) / 2 * (hi - lo)
	p := s.pass(opWhiten, first, last-first+1, work)
	defer s.done(p)
	p.c, p.slots, p.white = l, slots, w
	p.split()
	return s.do(p, pool.All(p.count()), work)
}

// WhiteDiagBytes is DiagBytes from the W of so many rows that Whiten has worked out, O(n) a column. The
// same bits.
func (s *Store) WhiteDiagBytes(dst []byte, t DType, w []float64, rows int, lambda float64, lo, hi int64) (bad int64, err error) {
	if err := s.checkDiag(nil, nil, lambda, lo, hi); err != nil {
		return 0, err
	}
	if err := s.checkWhite(w, rows); err != nil {
		return 0, err
	}
	if err := checkBytes(dst, t, 1, lo, hi); err != nil || lo == hi {
		return -1, err
	}
	first, last := int(lo/diagCols), int((hi-1)/diagCols)
	work := int64(max(1, rows)) * (hi - lo)
	p := s.pass(opSquares, first, last-first+1, work)
	defer s.done(p)
	p.white, p.slots, p.lambda, p.lo, p.hi = w, make([]int, rows), lambda, lo, hi
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

// WhiteColumns sets dst[i*Slots()+slots[k]] = w_kj for j = cols[i], 0 for other slots: as Columns, of
// W, whose row k is of the row in slots[k].
func (s *Store) WhiteColumns(dst []float64, cols []int64, w []float64, slots []int) error {
	if err := checkLen("dst", len(dst), int64(len(cols))*int64(s.slots)); err != nil {
		return err
	}
	if err := s.checkWhite(w, len(slots)); err != nil {
		return err
	}
	for _, t := range slots {
		if err := s.checkSlot(t); err != nil {
			return err
		}
	}
	for _, j := range cols {
		if err := s.checkRange(j, 1); err != nil {
			return err
		}
	}
	clear(dst)
	n, all := len(slots), WhiteLen(s.cols, s.dtype, 1)
	for i, j := range cols {
		start := j / diagCols * diagCols
		width := int(min(diagCols, all-start))
		block := w[int64(n)*start:][:n*width]
		for k, t := range slots {
			dst[i*s.slots+t] = block[k*width+int(j-start)]
		}
	}
	return nil
}

func (s *storage) checkWhite(w []float64, rows int) error {
	return checkLen("w", len(w), WhiteLen(s.cols, s.dtype, rows))
}
