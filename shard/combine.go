package shard

import (
	"math"
	"sync/atomic"
)

// Combine sets dst[i*(hi−lo)+j−lo] = Σ_t c[i*Slots()+t] g_tj over the slots t in mask, for
// columns lo ≤ j < hi: Gᵀc for k = len(c)/Slots() ≥ 1 coefficient vectors in one reading of
// G. dst has length k*(hi−lo) and shares no memory with c. Coefficients outside mask are
// not looked at.
func (s *Store) Combine(dst, c []float64, mask Mask, lo, hi int64) error {
	k, err := s.checkCombine(c, mask, lo, hi)
	if err != nil {
		return err
	}
	if err := checkLen("dst", len(dst), int64(k)*(hi-lo)); err != nil {
		return err
	}
	s.columns(k, c, mask, lo, hi, func(_ *scratch, r []float64, i int, col int64) {
		copy(dst[int64(i)*(hi-lo)+col-lo:], r)
	})
	return nil
}

// Solve sets dst[i*(hi−lo)+j−lo] = (v_ij − Σ_t c[i*Slots()+t] g_tj)/lambda over the slots t
// in mask, for columns lo ≤ j < hi and k = len(v) ≥ 1 vectors of Cols() columns each:
// (v − Gᵀc)/λ in one reading of G, in float64 (SolveBytes rounds once, at the end). dst has
// length k*(hi−lo), c k*Slots(); dst shares no memory with c or v. Coefficients outside mask
// are not looked at. lambda is positive and finite.
func (s *Store) Solve(dst []float64, v []Vector, c []float64, mask Mask, lambda float64, lo, hi int64) error {
	k, err := s.checkSolve(v, c, mask, lambda, lo, hi)
	if err != nil {
		return err
	}
	if err := checkLen("dst", len(dst), int64(k)*(hi-lo)); err != nil {
		return err
	}
	s.columns(k, c, mask, lo, hi, func(w *scratch, r []float64, i int, col int64) {
		s.finish(w, r, v[i], lambda, col)
		copy(dst[int64(i)*(hi-lo)+col-lo:], r)
	})
	return nil
}

// finish sets r = (v − r)/λ for v's columns from col on.
func (s *Store) finish(w *scratch, r []float64, v Vector, lambda float64, col int64) {
	x := grow(&w.x, len(r))
	v.load(s.kernel, x, col)
	s.kernel.Finish(r, x, lambda)
}

// CombineBytes sets dst to columns [lo, hi) of Gᵀc for one coefficient vector, as Combine gives
// them, rounded once to dtype t, in little-endian bytes. bad is the first column that is not
// finite then, or −1.
func (s *Store) CombineBytes(dst []byte, t DType, c []float64, mask Mask, lo, hi int64) (bad int64, err error) {
	k, err := s.checkCombine(c, mask, lo, hi)
	if err == nil {
		err = checkBytes(dst, t, k, lo, hi)
	}
	if err != nil {
		return -1, err
	}
	first := firstBad(hi)
	s.columns(1, c, mask, lo, hi, func(_ *scratch, r []float64, _ int, col int64) { s.round(dst, t, r, lo, col, first) })
	return first.column(hi), nil
}

// SolveBytes sets dst to columns [lo, hi) of (v − Gᵀc)/λ for one vector, as Solve gives them,
// rounded once to dtype t, in little-endian bytes. bad is the first column that is not finite
// then, or −1.
func (s *Store) SolveBytes(dst []byte, t DType, v Vector, c []float64, mask Mask, lambda float64, lo, hi int64) (bad int64, err error) {
	k, err := s.checkSolve([]Vector{v}, c, mask, lambda, lo, hi)
	if err == nil {
		err = checkBytes(dst, t, k, lo, hi)
	}
	if err != nil {
		return -1, err
	}
	first := firstBad(hi)
	s.columns(1, c, mask, lo, hi, func(w *scratch, r []float64, _ int, col int64) {
		s.finish(w, r, v, lambda, col)
		s.round(dst, t, r, lo, col, first)
	})
	return first.column(hi), nil
}

func (s *Store) round(dst []byte, t DType, r []float64, lo, col int64, first *bad) {
	if b := s.kernel.Round(dst[(col-lo)*int64(t.Size()):][:len(r)*t.Size()], r, t); b >= 0 {
		first.note(col + int64(b))
	}
}

// bad is the first column that was noted, by any goroutine.
type bad struct{ atomic.Int64 }

func firstBad(hi int64) *bad {
	b := new(bad)
	b.Store(hi)
	return b
}

func (b *bad) note(col int64) {
	for old := b.Load(); col < old && !b.CompareAndSwap(old, col); old = b.Load() {
	}
}

func (b *bad) column(hi int64) int64 {
	if col := b.Load(); col < hi {
		return col
	}
	return -1
}

func checkBytes(dst []byte, t DType, k int, lo, hi int64) error {
	if t > F64 {
		return outOf("dtype", t, "f32, bf16, f16 or f64")
	}
	if k != 1 {
		return outOf("vectors", k, "1")
	}
	return checkLen("dst", len(dst), (hi-lo)*int64(t.Size()))
}

// ResidualNorm2 sets dst[i] = Σ_j (v_ij − Σ_t c[i*Slots()+t] g_tj)² over all columns j and
// the slots t in mask, for k = len(v) ≥ 1 vectors of Cols() columns each, in one reading of
// G: ‖v − Gᵀc‖², and ‖Gᵀc‖² where v is Zeros(Cols()). dst has length k, c k*Slots().
func (s *Store) ResidualNorm2(dst []float64, v []Vector, c []float64, mask Mask) error {
	k, err := s.checkCoefficients(c, mask)
	if err != nil {
		return err
	}
	if err := s.checkVectors("v", v...); err != nil {
		return err
	}
	if err := checkLen("v", len(v), int64(k)); err != nil {
		return err
	}
	if err := checkLen("dst", len(dst), int64(k)); err != nil {
		return err
	}
	s.sum(dst, int64(k)*int64(mask.Count())*s.cols, func(w *scratch, tile int, y []float64) {
		g := s.tile(tile)
		r, x := grow(&w.r, k*g.Cols()), grow(&w.x, g.Cols())
		s.kernel.Combine(&w.Scratch, r, g, 0, c, mask)
		for i := range k {
			v[i].load(s.kernel, x, int64(tile)*TileCols)
			for j, p := range r[i*g.Cols():][:s.width(tile)] { // past it x is 0; p may be 0·∞
				x[j] -= p
			}
			y[i] = s.kernel.Dot(x, x)
		}
	})
	return nil
}

// columns calls f for each tile that [lo, hi) meets and each i in [0, k), with the
// combination r of the columns that it meets there, the first of which is col.
func (s *Store) columns(k int, c []float64, mask Mask, lo, hi int64, f func(w *scratch, r []float64, i int, col int64)) {
	if lo == hi {
		return
	}
	first, last := int(lo/TileCols), int((hi-1)/TileCols)
	work := int64(k) * int64(mask.Count()) * (hi - lo)
	s.parallel(last-first+1, work, func(w *scratch, i int) {
		tile := first + i
		start := int64(tile) * TileCols
		a, b := max(lo, start), min(hi, start+TileCols)
		g := s.tile(tile)
		lineCols := g.DType.LineCols()
		line := int(a-start) / lineCols
		n := (lines(g.DType, int(b-start)) - line) * lineCols
		skip := int(a-start) % lineCols
		r := grow(&w.r, k*n)
		s.kernel.Combine(&w.Scratch, r, g, line, c, mask)
		for i := range k {
			f(w, r[i*n+skip:][:b-a], i, a)
		}
	})
}

func (s *Store) checkCoefficients(c []float64, mask Mask) (k int, err error) {
	if err := s.checkMask(mask); err != nil {
		return 0, err
	}
	if len(c) == 0 || len(c)%s.slots != 0 {
		return 0, outOf("length of c", len(c), "a positive multiple of %d", s.slots)
	}
	return len(c) / s.slots, nil
}

func (s *Store) checkCombine(c []float64, mask Mask, lo, hi int64) (k int, err error) {
	if k, err = s.checkCoefficients(c, mask); err != nil {
		return 0, err
	}
	if lo > hi {
		return 0, outOf("first column", lo, "≤ %d, the end", hi)
	}
	if lo < 0 {
		return 0, outOf("first column", lo, "0 to %d", s.cols)
	}
	return k, s.checkRange(lo, hi-lo)
}

func (s *Store) checkSolve(v []Vector, c []float64, mask Mask, lambda float64, lo, hi int64) (k int, err error) {
	if !(lambda > 0) || math.IsInf(lambda, 1) {
		return 0, outOf("lambda", lambda, "> 0 and finite")
	}
	if k, err = s.checkCombine(c, mask, lo, hi); err != nil {
		return 0, err
	}
	if err := s.checkVectors("v", v...); err != nil {
		return 0, err
	}
	return k, checkLen("v", len(v), int64(k))
}
