package shard

import (
	"math"
	"sort"

	"mfac/shard/kernel"
)

// This file: dampings of their own, H = F + λR with R diagonal (maths.md, "Weights and dampings"). Rows and vectors lie
// as they are; one of the two scales of a product is divided by R, rounded once, and so is what is answered:
//
//	Products, Gram     GR⁻¹Gᵀ, of columns that are kept too
//	Dots               GR⁻¹v, and vᵀR⁻¹v for ‖v‖²; of a Plain v, Gv and vᵀRv
//	Dot                uᵀ(R⁻¹v)
//	Combine, Solve     R⁻¹Gᵀc, R⁻¹(v − Gᵀc)/λ
//	Multiply, Scale    Gᵀc, λRv + Gᵀc
//	ResidualNorm2      in the norm of R⁻¹, and so is ScaleNorm2
//	Apply              G x and xᵀRx, of x = R⁻¹(v − Gᵀc)/λ or R⁻¹Gᵀc, + R⁻¹Gᵀe where refined
//	Misfit             λRx + Gᵀw − v, in the norm of R⁻¹
//	DiagBytes          (1 − ‖w_j‖²/r_j)/(λr_j)
//
// and of Normals √R z is what is made.
// Other calls know nothing of R, and are refused where there is one.

// A Scale says that in columns from Lo on, up to the next Scale's, the damping is R times λ.
type Scale struct {
	Lo int64
	R  float64
}

func checkScales(f []Scale, cols int64) error {
	for i, x := range f {
		if i == 0 && x.Lo != 0 || i > 0 && x.Lo <= f[i-1].Lo || x.Lo >= cols {
			return outOf("first column of a scale", x.Lo, "0, then growing, below %d", cols)
		}
		if !(x.R > 0) || math.IsInf(x.R, 1) {
			return outOf("scale", x.R, "> 0 and finite")
		}
	}
	return nil
}

// over divides x, columns from lo on, by their scales.
func (s *storage) over(x []float64, lo int64) {
	s.scaled(x, lo, func(part []float64, r float64) {
		for j := range part {
			part[j] /= r
		}
	})
}

// times multiplies x, columns from lo on, by their scales.
func (s *storage) times(x []float64, lo int64) {
	s.scaled(x, lo, func(part []float64, r float64) {
		for j := range part {
			part[j] *= r
		}
	})
}

// Times multiplies x, columns from lo on, by their scales.
func (s *Store) Times(x []float64, lo int64) { s.times(x, lo) }

// load is v's columns from lo on; of samples, √R z.
func (s *storage) load(v Vector, x []float64, lo int64) {
	v.load(s.kernel, x, lo)
	if v.made != nil {
		s.scaled(x, lo, func(part []float64, r float64) {
			root := math.Sqrt(r)
			for j := range part {
				part[j] *= root
			}
		})
	}
}

// scaled does what is to be done with the parts of x, columns from lo on, whose scale is not 1.
func (s *storage) scaled(x []float64, lo int64, do func(part []float64, r float64)) {
	if s.scales == nil {
		return
	}
	hi := lo + int64(len(x))
	for i := sort.Search(len(s.scales), func(i int) bool { return s.scales[i].Lo > lo }) - 1; i < len(s.scales) && s.scales[i].Lo < hi; i++ {
		end := hi
		if i+1 < len(s.scales) {
			end = min(end, s.scales[i+1].Lo)
		}
		r := s.scales[i].R
		if r == 1 {
			continue
		}
		do(x[max(s.scales[i].Lo, lo)-lo:end-lo], r)
	}
}

// checkAware refuses what a pass would do without the scales.
func (p *pass) checkAware() error {
	if p.s.scales == nil {
		return nil
	}
	aware := false
	switch p.op {
	case opProducts, opDots, opDot, opGram, opResidual, opApply, opMisfit, opColumns, opTouch, opDiag, opWhiten, opSquares,
		opEach, opSum: // of blocks, which have one scale each
		aware = true
	}
	if !aware {
		return outOf("scales of λ", "given", "left out for this call")
	}
	return nil
}

// gramOver is a tile's part of a Gram matrix with scales: each row is divided and multiplied with
// those before it, as Products does.
func (p *pass) gramOver(sc *scratch, dst []float64, g kernel.Tile, tile int) {
	s := p.s
	x, dots := grow(&sc.x, g.Cols()), grow(&sc.r, s.slots)
	for i := p.i0; i < p.i1; i++ {
		s.kernel.Row(x, g, p.slots[i])
		s.over(x, int64(tile)*TileCols)
		s.kernel.Dots(&sc.Scratch, dots, g, x, p.mask)
		for _, t := range p.slots[:i+1] {
			dst[0] = dots[t]
			dst = dst[1:]
		}
	}
}
