package shard

import (
	"unsafe"

	"mfac/shard/kernel"
)

// GramWithout is Gram of the columns j with out[j] = 0 alone; out has length Cols(). They are summed
// directly, in Gram's order, with zeros in the place of the others: nothing cancels (maths.md, "Pruning").
func (s *Store) GramWithout(dst []float64, slots []int, i0, i1 int, out []byte) error {
	if err := checkLen("out", len(out), s.cols); err != nil {
		return err
	}
	return s.gram(dst, slots, i0, i1, out)
}

// line is a line of a tile.
type line [regionAlign / 8]uint64

// kept is a copy of a tile with zeros in the columns that are left out. In every dtype the bits of 0
// are 0.
func (p *pass) kept(sc *scratch, g kernel.Tile, tile int) kernel.Tile {
	start := int64(tile) * TileCols
	size := regionAlign / g.DType.LineCols()
	var keep [TileCols * 4 / regionAlign]line
	b := unsafe.Slice((*byte)(unsafe.Pointer(&keep)), int(unsafe.Sizeof(keep)))
	for j, out := range p.out[start : start+int64(p.s.width(tile))] {
		if out == 0 {
			for i := range size {
				b[j*size+i] = 0xff
			}
		}
	}
	n := len(g.G) / regionAlign
	if need := len(g.G) + regionAlign; cap(sc.lines) < need {
		sc.lines = make([]byte, need)
	}
	at0 := int(-uintptr(unsafe.Pointer(unsafe.SliceData(sc.lines))) % regionAlign)
	copied := sc.lines[:cap(sc.lines)][at0:][:len(g.G)]
	to := unsafe.Slice((*line)(unsafe.Pointer(unsafe.SliceData(copied))), n)
	from := unsafe.Slice((*line)(unsafe.Pointer(unsafe.SliceData(g.G))), n)
	for first, at := 0, 0; first < g.Slots; first += kernel.PanelSlots {
		h := min(kernel.PanelSlots, g.Slots-first)
		for l := range g.Lines {
			k := &keep[l]
			for range h {
				for i, x := range &from[at] {
					to[at][i] = x & k[i]
				}
				at++
			}
		}
	}
	g.G = copied
	return g
}

// Load sets dst to the columns of v from lo on, which it has.
func (s *Store) Load(dst []float64, v Vector, lo int64) error {
	if err := s.checkVectors("v", v); err != nil {
		return err
	}
	if err := s.checkRange(lo, int64(len(dst))); err != nil {
		return err
	}
	v.load(s.kernel, dst, lo)
	return nil
}

// RoundBytes sets dst to x, rounded once to dtype t, in little-endian bytes. bad is the first number
// that is not finite then, or −1.
func (s *Store) RoundBytes(dst []byte, t DType, x []float64) (bad int, err error) {
	if err := checkBytes(dst, t, 1, 0, int64(len(x))); err != nil {
		return -1, err
	}
	return s.kernel.Round(dst, x, t), nil
}
