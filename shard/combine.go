package shard

import (
	"math"

	"mfac/shard/pool"
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
	if err := checkLen("dst", len(dst), int64(k)*(hi-lo)); err != nil || lo == hi {
		return err
	}
	p := s.columns(k, c, mask, lo, hi)
	p.dst = dst
	_, err = s.run(p)
	return err
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
	if err := checkLen("dst", len(dst), int64(k)*(hi-lo)); err != nil || lo == hi {
		return err
	}
	p := s.columns(k, c, mask, lo, hi)
	p.dst, p.x, p.solve, p.lambda = dst, v, true, lambda
	_, err = s.run(p)
	return err
}

// CombineBytes sets dst to columns [lo, hi) of Gᵀc for one coefficient vector, as Combine gives
// them, rounded once to dtype t, in little-endian bytes. bad is the first column that is not
// finite then, or −1.
func (s *Store) CombineBytes(dst []byte, t DType, c []float64, mask Mask, lo, hi int64) (bad int64, err error) {
	k, err := s.checkCombine(c, mask, lo, hi)
	if err == nil {
		err = checkBytes(dst, t, k, lo, hi)
	}
	if err != nil || lo == hi {
		return -1, err
	}
	p := s.columns(1, c, mask, lo, hi)
	p.bytes, p.dtype = dst, t
	return s.run(p)
}

// MultiplyBytes is CombineBytes, but that Scales divide nothing: Gᵀc.
func (s *Store) MultiplyBytes(dst []byte, t DType, c []float64, mask Mask, lo, hi int64) (bad int64, err error) {
	k, err := s.checkCombine(c, mask, lo, hi)
	if err == nil {
		err = checkBytes(dst, t, k, lo, hi)
	}
	if err != nil || lo == hi {
		return -1, err
	}
	p := s.columns(1, c, mask, lo, hi)
	p.bytes, p.dtype, p.plain = dst, t, true
	return s.run(p)
}

// SolveBytes sets dst to columns [lo, hi) of (v − Gᵀc)/λ for one vector, as Solve gives them,
// rounded once to dtype t, in little-endian bytes. bad is the first column that is not finite
// then, or −1.
func (s *Store) SolveBytes(dst []byte, t DType, v Vector, c []float64, mask Mask, lambda float64, lo, hi int64) (bad int64, err error) {
	k, err := s.checkOne(v, c, mask, lambda, lo, hi)
	if err == nil {
		err = checkBytes(dst, t, k, lo, hi)
	}
	if err != nil || lo == hi {
		return -1, err
	}
	p := s.columns(1, c, mask, lo, hi)
	p.own[0] = v
	p.bytes, p.dtype, p.x, p.solve, p.lambda = dst, t, p.own[:1], true, lambda
	return s.run(p)
}

// columns makes a pass over the tiles that [lo, hi) meets, lo < hi.
func (s *storage) columns(k int, c []float64, mask Mask, lo, hi int64) *pass {
	first, last := int(lo/TileCols), int((hi-1)/TileCols)
	p := s.pass(opColumns, first, last-first+1, int64(k)*int64(mask.Count())*(hi-lo))
	p.k, p.c, p.mask, p.lo, p.hi = k, c, mask, lo, hi
	p.split()
	return p
}

// run carries out a pass of columns. bad is the first one that is not finite, or −1.
func (s *Store) run(p *pass) (bad int64, err error) {
	defer s.done(p)
	p.bad.Store(p.hi)
	// Its units' home ranges are those of the whole shard's columns.
	n := p.count()
	total := (s.tiles()-1)>>p.levels + 1
	at := min(p.first>>p.levels, total-n)
	p.base = at
	if err := s.do(p, pool.Span{First: at, N: n, Total: total}, int64(p.k)*int64(p.mask.Count())*(p.hi-p.lo)); err != nil {
		return -1, err
	}
	if bad := p.bad.Load(); bad < p.hi {
		return bad, nil
	}
	return -1, nil
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
	work := int64(k) * int64(mask.Count()) * s.cols
	p := s.pass(opResidual, 0, s.tiles(), work)
	p.k, p.x, p.c, p.mask = k, v, c, mask
	return s.total(dst, p, work)
}

func (s *storage) checkCoefficients(c []float64, mask Mask) (k int, err error) {
	if err := s.checkMask(mask); err != nil {
		return 0, err
	}
	if len(c) == 0 || len(c)%s.slots != 0 {
		return 0, outOf("length of c", len(c), "a positive multiple of %d", s.slots)
	}
	return len(c) / s.slots, nil
}

func (s *storage) checkCombine(c []float64, mask Mask, lo, hi int64) (k int, err error) {
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

func (s *storage) checkSolve(v []Vector, c []float64, mask Mask, lambda float64, lo, hi int64) (k int, err error) {
	if k, err = s.checkDamped(c, mask, lambda, lo, hi); err != nil {
		return 0, err
	}
	if err := s.checkVectors("v", v...); err != nil {
		return 0, err
	}
	return k, checkLen("v", len(v), int64(k))
}

// checkOne is checkSolve for one vector.
func (s *storage) checkOne(v Vector, c []float64, mask Mask, lambda float64, lo, hi int64) (k int, err error) {
	if k, err = s.checkDamped(c, mask, lambda, lo, hi); err != nil {
		return 0, err
	}
	return k, s.checkVectors("v", v)
}

func (s *storage) checkDamped(c []float64, mask Mask, lambda float64, lo, hi int64) (k int, err error) {
	if !(lambda > 0) || math.IsInf(lambda, 1) {
		return 0, outOf("lambda", lambda, "> 0 and finite")
	}
	return s.checkCombine(c, mask, lo, hi)
}
