package shard

import (
	"math"

	"mfac/shard/kernel"
)

// This file: products and residuals of answers, which are worked out tile by tile and kept nowhere, and
// the functions of H beside its inverse.

// An Answer is k vectors x, k = len(C)/Slots(): Gᵀc where V is empty, else (v − Gᵀc)/λ, with the bits
// of Combine and Solve. Where the i-th bit of Refined is set, the i-th is that plus Gᵀe, and v − Gᵀc
// is summed with twice the digits, in slot order (TwoSum and a product's error by FMA: Ogita, Rump and
// Oishi, "Accurate sum and dot product", 2005, algorithm 5.3), some ten times the work. E is as long as C then.
type Answer struct {
	V       []Vector
	C, E    []float64
	Mask    Mask
	Lambda  float64 // of those with V
	Refined uint64
}

func (s *storage) checkAnswer(a Answer) (k int, err error) {
	if k, err = s.checkCoefficients(a.C, a.Mask); err != nil {
		return 0, err
	}
	if a.Refined != 0 {
		if err := checkLen("e", len(a.E), int64(len(a.C))); err != nil {
			return 0, err
		}
	}
	if len(a.V) == 0 {
		return k, nil
	}
	if !(a.Lambda > 0) || math.IsInf(a.Lambda, 1) {
		return 0, outOf("lambda", a.Lambda, "> 0 and finite")
	}
	if err := checkLen("v", len(a.V), int64(k)); err != nil {
		return 0, err
	}
	return k, s.checkVectors("v", a.V...)
}

// Apply sets dst[i*Slots()+t] to the product of the i-th answer x with the row in t, for each slot t
// of the answer's mask and the others to 0, and then dst[k*Slots()+i] to ‖x‖²: G x in one reading of G.
// dst has length k*(Slots()+1).
func (s *Store) Apply(dst []float64, a Answer) error {
	k, err := s.checkAnswer(a)
	if err == nil {
		err = checkLen("dst", len(dst), int64(k)*int64(s.slots+1))
	}
	if err != nil {
		return err
	}
	work := 2 * int64(k) * int64(a.Mask.Count()) * s.cols
	p := s.pass(opApply, 0, s.tiles(), work)
	p.k, p.answer = k, a
	return s.total(dst, p, work)
}

// Misfit sets dst[i] to ‖λx + Gᵀw − v‖² for the answers x, v being 0 where the answer has none, in one
// reading of G. dst has length k, w k*Slots().
func (s *Store) Misfit(dst []float64, a Answer, w []float64, lambda float64) error {
	k, err := s.checkAnswer(a)
	if err == nil {
		err = checkLen("w", len(w), int64(len(a.C)))
	}
	if err == nil {
		err = checkLen("dst", len(dst), int64(k))
	}
	if err != nil {
		return err
	}
	work := 2 * int64(k) * int64(a.Mask.Count()) * s.cols
	p := s.pass(opMisfit, 0, s.tiles(), work)
	p.k, p.answer, p.w, p.lambda = k, a, w, lambda
	return s.total(dst, p, work)
}

// AnswerBytes sets dst to columns [lo, hi) of one answer, rounded once to dtype t, in little-endian
// bytes. bad is the first column that is not finite then, or −1.
func (s *Store) AnswerBytes(dst []byte, t DType, a Answer, lo, hi int64) (bad int64, err error) {
	k, err := s.checkAnswer(a)
	if err == nil {
		_, err = s.checkCombine(a.C, a.Mask, lo, hi)
	}
	if err == nil {
		err = checkBytes(dst, t, k, lo, hi)
	}
	if err != nil || lo == hi {
		return -1, err
	}
	p := s.columns(1, a.C, a.Mask, lo, hi)
	p.bytes, p.dtype, p.answer = dst, t, a
	return s.run(p)
}

// ScaleBytes sets dst to columns [lo, hi) of scale·v + Gᵀc for one vector, rounded once to dtype t, in
// little-endian bytes: in each column fma(scale, v, Gᵀc), in float64, with Rv for v where there are Scales. bad is the first column that is
// not finite then, or −1.
func (s *Store) ScaleBytes(dst []byte, t DType, v Vector, c []float64, mask Mask, scale float64, lo, hi int64) (bad int64, err error) {
	k, err := s.checkOne(v, c, mask, scale, lo, hi)
	if err == nil {
		err = checkBytes(dst, t, k, lo, hi)
	}
	if err != nil || lo == hi {
		return -1, err
	}
	p := s.columns(1, c, mask, lo, hi)
	p.own[0] = v
	p.bytes, p.dtype, p.x, p.scaled, p.lambda = dst, t, p.own[:1], true, scale
	return s.run(p)
}

// ScaleNorm2 sets dst[i] = ‖scale·v_i + Gᵀc_i‖², of what ScaleBytes gives, for k = len(v) ≥ 1 vectors, in one reading of G.
// Lengths are those of ResidualNorm2.
func (s *Store) ScaleNorm2(dst []float64, v []Vector, c []float64, mask Mask, scale float64) error {
	k, err := s.checkSolve(v, c, mask, scale, 0, 0)
	if err == nil {
		err = checkLen("dst", len(dst), int64(k))
	}
	if err != nil {
		return err
	}
	work := int64(k) * int64(mask.Count()) * s.cols
	p := s.pass(opResidual, 0, s.tiles(), work)
	p.k, p.x, p.c, p.mask, p.scaled, p.lambda = k, v, c, mask, true, scale
	return s.total(dst, p, work)
}

// answers sets r to k vectors of the answer in a tile, as many whole lines from the given one as r has
// room for: 0 past the last column.
func (p *pass) answers(sc *scratch, r []float64, tile, line int) {
	s, a, g := p.s, p.answer, p.s.tile(tile)
	n := len(r) / p.k
	first := line * g.DType.LineCols()
	col := int64(tile)*TileCols + int64(first)
	s.kernel.Combine(&sc.Scratch, r, g, line, a.C, a.Mask)
	for i := range p.k {
		ri := r[i*n : (i+1)*n]
		if len(a.V) > 0 {
			x := grow(&sc.v, n)
			s.load(a.V[i], x, col)
			if a.refined(i) {
				p.precise(sc, x, g, first, a.C[i*s.slots:(i+1)*s.slots])
				for j := range ri {
					ri[j] = x[j] / a.Lambda
				}
			} else {
				s.kernel.Finish(ri, x, a.Lambda)
			}
		}
		if a.refined(i) {
			x := grow(&sc.v, n)
			s.kernel.Combine(&sc.Scratch, x, g, line, a.E[i*s.slots:(i+1)*s.slots], a.Mask)
			for j := range ri {
				ri[j] += x[j]
			}
		}
		s.over(ri, col)
		clear(ri[min(n, s.width(tile)-first):]) // past it may be 0·∞
	}
}

func (a Answer) refined(i int) bool { return a.Refined>>i&1 != 0 }

// precise sets x to x − Gᵀc with twice the digits, for columns of the tile from first on.
func (p *pass) precise(sc *scratch, x []float64, g kernel.Tile, first int, c []float64) {
	low := grow(&sc.low, len(x))
	clear(low)
	row := grow(&sc.x, g.Cols())
	for t, ct := range c {
		if ct == 0 || !p.answer.Mask.Has(t) {
			continue
		}
		p.s.kernel.Row(row, g, t)
		for j, gj := range row[first : first+len(x)] {
			h := float64(ct * gj)
			err := math.FMA(ct, gj, -h)
			sum := x[j] - h
			back := sum - x[j]
			low[j] += ((x[j] - (sum - back)) + (-h - back)) - err
			x[j] = sum
		}
	}
	for j := range x {
		x[j] += low[j]
	}
}

func (p *pass) apply(sc *scratch, tile int, dst []float64) {
	s, k, g := p.s, p.k, p.s.tile(tile)
	cols := g.Cols()
	r := grow(&sc.r, k*cols)
	p.answers(sc, r, tile, 0)
	s.kernel.Dots(&sc.Scratch, dst[:k*s.slots], g, r, p.answer.Mask)
	for i := range k {
		dst[k*s.slots+i] = p.normTimes(sc, r[i*cols:][:dotCols(s.width(tile))], tile)
	}
}

func (p *pass) misfit(sc *scratch, tile int, dst []float64) {
	s, k, g := p.s, p.k, p.s.tile(tile)
	cols := g.Cols()
	r := grow(&sc.r, k*cols)
	p.answers(sc, r, tile, 0)
	for i := range k {
		ri := r[i*cols : (i+1)*cols]
		v, w := grow(&sc.v, cols), grow(&sc.low, cols)
		clear(v)
		if len(p.answer.V) > 0 {
			s.load(p.answer.V[i], v, int64(tile)*TileCols)
		}
		s.kernel.Combine(&sc.Scratch, w, g, 0, p.w[i*s.slots:(i+1)*s.slots], p.answer.Mask)
		s.times(ri, int64(tile)*TileCols)
		for j := range ri[:s.width(tile)] {
			ri[j] = math.FMA(p.lambda, ri[j], -v[j]) + w[j]
		}
		dst[i] = p.norm2(sc, ri, tile)
	}
}
