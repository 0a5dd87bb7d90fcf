package shard

import (
	"math"

	"mfac/shard/kernel"
)

// Combine sets dst[i*(hi−lo)+j−lo] = Σ_t c[i*Slots()+t] g_tj over the slots t in mask, for
// columns lo ≤ j < hi: Gᵀc for k = len(c)/Slots() ≥ 1 coefficient vectors in one reading of
// G. dst has length k*(hi−lo) and shares no memory with c. Coefficients outside mask are
// not looked at.
func (s *Store) Combine(dst, c []float64, mask Mask, lo, hi int64) error {
	k, err := s.checkCombine(dst, c, mask, lo, hi)
	if err != nil {
		return err
	}
	s.columns(dst, k, c, mask, lo, hi, func(_ *scratch, to, r []float64, _ int, _ int64) { copy(to, r) })
	return nil
}

// Solve sets dst[i*(hi−lo)+j−lo] = (v_ij − Σ_t c[i*Slots()+t] g_tj)/lambda over the slots t
// in mask, for columns lo ≤ j < hi and k = len(v) ≥ 1 vectors of Cols() columns each:
// (v − Gᵀc)/λ in one reading of G, in float64 (AppendFloat32 rounds once, at the end). dst
// has length k*(hi−lo), c k*Slots(); dst shares no memory with c or v. Coefficients outside
// mask are not looked at. lambda is positive and finite.
func (s *Store) Solve(dst []float64, v []Vector, c []float64, mask Mask, lambda float64, lo, hi int64) error {
	if !(lambda > 0) || math.IsInf(lambda, 1) {
		return outOf("lambda", lambda, "> 0 and finite")
	}
	k, err := s.checkCombine(dst, c, mask, lo, hi)
	if err != nil {
		return err
	}
	if err := s.checkVectors("v", v...); err != nil {
		return err
	}
	if err := checkLen("v", len(v), int64(k)); err != nil {
		return err
	}
	s.columns(dst, k, c, mask, lo, hi, func(w *scratch, to, r []float64, i int, col int64) {
		x := grow(&w.x, len(r))
		v[i].load(x, col)
		for j := range to {
			to[j] = (x[j] - r[j]) / lambda
		}
	})
	return nil
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
		s.kernel.Combine(r, g, 0, c, mask)
		for i := range k {
			v[i].load(x, int64(tile)*TileCols)
			for j, p := range r[i*g.Cols():][:s.width(tile)] { // past it x is 0; p may be 0·∞
				x[j] -= p
			}
			y[i] = s.kernel.Dot(x, x)
		}
	})
	return nil
}

// columns calls f for each tile that [lo, hi) meets and each i in [0, k), with the
// combination r of the columns that it meets there, the first of which is col, and their
// place in dst.
func (s *Store) columns(dst []float64, k int, c []float64, mask Mask, lo, hi int64, f func(w *scratch, to, r []float64, i int, col int64)) {
	if lo == hi {
		return
	}
	first, last := int(lo/TileCols), int((hi-1)/TileCols)
	work := int64(k) * int64(mask.Count()) * (hi - lo)
	s.parallel(last-first+1, work, func(w *scratch, i int) {
		tile := first + i
		start := int64(tile) * TileCols
		a, b := max(lo, start), min(hi, start+TileCols)
		line := int(a-start) / kernel.LineCols
		n := padded(int(b-start)) - line*kernel.LineCols
		skip := int(a-start) % kernel.LineCols
		r := grow(&w.r, k*n)
		s.kernel.Combine(r, s.tile(tile), line, c, mask)
		for i := range k {
			to := dst[int64(i)*(hi-lo):][a-lo : b-lo]
			f(w, to, r[i*n+skip:][:len(to)], i, a)
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

func (s *Store) checkCombine(dst, c []float64, mask Mask, lo, hi int64) (k int, err error) {
	if k, err = s.checkCoefficients(c, mask); err != nil {
		return 0, err
	}
	if lo > hi {
		return 0, outOf("first column", lo, "≤ %d, the end", hi)
	}
	if lo < 0 {
		return 0, outOf("first column", lo, "0 to %d", s.cols)
	}
	if err := s.checkRange(lo, hi-lo); err != nil {
		return 0, err
	}
	return k, checkLen("dst", len(dst), int64(k)*(hi-lo))
}
