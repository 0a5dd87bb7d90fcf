package shard

import (
	"unsafe"

	"mfac/shard/kernel"
)

// nearBytes is how many bytes of rows are taken to stay in the last-level cache from pass to pass.
const nearBytes = 16 << 20

// tilesFrom is whole tiles [lo, hi), lo < hi.
func (s *storage) tilesFrom(lo, hi int) kernel.Tiles {
	stride, size := tileStride(s.dtype, s.slots), tileBytes(s.dtype, s.slots, TileCols)
	g := kernel.Tiles{DType: s.dtype, Slots: s.slots, Lines: lines(s.dtype, TileCols), N: hi - lo, Stride: int(stride), Near: len(s.g) <= nearBytes}
	p := s.g[int64(lo)*stride:][:int64(g.N-1)*stride+size]
	if n := expBytes(s.dtype, s.slots); n > 0 {
		g.Exp = unsafe.Slice((*int16)(unsafe.Pointer(&p[0])), (g.N-1)*g.Stride/2+s.slots)
		p = p[n:]
	}
	g.G = p
	return g
}

// whole is the end of the tiles from lo on, before hi, that are whole.
func (s *storage) whole(hi int) int { return min(hi, int(s.cols/TileCols)) }

// columnsTiles is columns of the first of tiles [lo, hi), as many as it returns: some, where a kernel
// takes all at once, or none.
func (p *pass) columnsTiles(sc *scratch, lo, hi int) (done int) {
	s := p.s
	start := int64(lo) * TileCols
	if s.scales != nil || p.bytes == nil || p.dtype != F32 || p.scaled || p.answer.C != nil || start < p.lo {
		return 0
	}
	hi = min(s.whole(hi), int(p.hi/TileCols))
	if lo >= hi {
		return 0
	}
	var x []byte
	if p.solve {
		if x = p.x[0].float32s(lo, hi); x == nil {
			return 0
		}
	}
	out := p.bytes[4*(start-p.lo):][:4*TileCols*(hi-lo)]
	// What is not finite is looked for tile by tile.
	if done, finite := s.kernel.CombineTiles(&sc.Scratch, out, s.tilesFrom(lo, hi), p.c, p.mask, x, p.lambda); done && finite {
		return hi - lo
	}
	return 0
}

// dotsTiles is the sum of tiles [lo, hi) of a pass of dots, where a kernel takes all at once, or nil.
func (p *pass) dotsTiles(sc *scratch, lo, hi int) []float64 {
	s := p.s
	if s.scales != nil || p.op != opDots || p.k != 1 || p.norms || s.whole(hi) != hi {
		return nil
	}
	x := p.x[0].float32s(lo, hi)
	if x == nil {
		return nil
	}
	n := p.tree.n
	y := grow(&sc.stack, (1<<mostLevels)*n)[:(hi-lo)*n]
	if !s.kernel.DotsTiles(&sc.Scratch, y, s.tilesFrom(lo, hi), x, p.mask) {
		return nil
	}
	// Pairwise, as sum does: an odd last one goes up as it is.
	for count := hi - lo; count > 1; count = (count + 1) / 2 {
		for i := 0; i < count; i += 2 {
			to := y[i/2*n : (i/2+1)*n]
			copy(to, y[i*n:(i+1)*n])
			if i+1 < count {
				add(to, y[(i+1)*n:(i+2)*n])
			}
		}
	}
	return y[:n]
}

// float32s is the vector's bytes of whole tiles [lo, hi), where it is float32, or nil.
func (v Vector) float32s(lo, hi int) []byte {
	if v.p == nil || v.dtype != F32 {
		return nil
	}
	return v.p[4*TileCols*lo : 4*TileCols*hi]
}
