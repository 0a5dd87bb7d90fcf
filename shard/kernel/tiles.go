package kernel

import (
	"fmt"
	"math"
	"math/bits"
	"unsafe"
)

// Tiles are tiles alike that follow each other in memory.
type Tiles struct {
	G            []byte  // from the first one's first line to the last one's end
	Exp          []int16 // of F16: from the first one's on, Stride/2 from one tile's to the next
	DType        DType
	Slots, Lines int
	N, Stride    int // how many, and the bytes from one to the next

	// Near says that they are likely to be in the last-level cache, from where lines come soon.
	Near bool
}

// nearAhead is how many bytes ahead lines are asked for that are near: 3 % faster than far ahead.
const nearAhead = 4 << 10

func (g Tiles) ahead(far [3]int) int {
	if g.Near {
		return min(far[g.DType], nearAhead)
	}
	return far[g.DType]
}

// Cols is the number of columns of a tile.
func (g Tiles) Cols() int { return g.Lines * g.DType.LineCols() }

// list sets w.list to the panels that have slots in mask, as combineTiles takes them, and returns how
// many there are; or 0 where the variant does better without.
func (v *Variant) list(w *Scratch, g Tiles, mask []byte) (panels int) {
	w.list = w.list[:0]
	present := 0
	for p, in := range mask {
		if in == 0 {
			continue
		}
		if in != allSlots && !v.anyPanel {
			return 0
		}
		at, stride := Tile{Slots: g.Slots, Lines: g.Lines}.panel(p)
		w.list = append(w.list, at, stride, int(in))
		present += bits.OnesCount8(in)
		panels++
	}
	// A slot that is out takes as long as one that is in, but for memory: less than it saves where these
	// are one in two of float32, or one in four of what is converted in two steps.
	least := 4
	if g.DType != F32 {
		least = 6
	}
	if present < least*panels {
		return 0
	}
	return panels
}

func (g Tiles) check(mask []byte) {
	size := g.Slots * g.Lines * lineBytes
	switch {
	case g.Slots < 1 || g.Lines < 1 || g.N < 1 || g.DType > F16 || g.Stride < size || len(g.G) != (g.N-1)*g.Stride+size,
		g.DType == F16 && len(g.Exp) != (g.N-1)*g.Stride/2+g.Slots:
		panic(fmt.Sprintf("kernel: %d tiles of %d slots, %d lines of %v, %d bytes, %d scales, %d bytes apart", g.N, g.Slots, g.Lines, g.DType, len(g.G), len(g.Exp), g.Stride))
	case len(mask) != (g.Slots+PanelSlots-1)/PanelSlots:
		panic(fmt.Sprintf("kernel: tiles of %d slots, mask of %d bytes", g.Slots, len(mask)))
	}
}

// CombineTiles is Combine of whole tiles for one coefficient vector, then Finish with the numbers of x in
// F32 where x is not nil, and Round to F32: p and x have N·Cols() numbers. done tells whether this variant does that for such tiles and such a mask, or
// has left p alone; finite whether all numbers of p are.
func (v *Variant) CombineTiles(w *Scratch, p []byte, g Tiles, c []float64, mask, x []byte, lambda float64) (done, finite bool) {
	g.check(mask)
	if len(c) != g.Slots || len(p) != 4*g.N*g.Cols() || x != nil && len(x) != len(p) {
		panic(fmt.Sprintf("kernel: %d bytes and %d coefficients for %d tiles of %d slots of %d columns", len(p), len(c), g.N, g.Slots, g.Cols()))
	}
	if v.combineTiles[g.DType] == nil || !littleEndian {
		return false, false
	}
	panels := v.list(w, g, mask)
	if panels == 0 {
		return false, false
	}
	sets, next := 1, 0
	if g.DType == F16 { // a tile's slots have powers of two of its own
		sets, next = g.N, 8*PanelSlots*panels
	}
	own := grow(&w.cm, sets*panels*PanelSlots)
	for i := range sets {
		to := own[i*panels*PanelSlots:]
		for p, in := range mask {
			if in == 0 {
				continue
			}
			for t := range PanelSlots {
				to[t] = math.Copysign(0, -1)
				if slot := p*PanelSlots + t; in>>t&1 != 0 {
					to[t] = c[slot]
					if g.DType == F16 {
						to[t] *= pow2(-g.Exp[i*g.Stride/2+slot])
					}
				}
			}
			to = to[PanelSlots:]
		}
	}
	r := grow(&w.x, g.Cols())
	return true, v.combineTiles[g.DType](&p[0], &r[0], &g.G[0], g.N, g.Stride, &w.list[0], panels, &own[0], next, g.Lines, g.ahead(v.combineAhead), unsafe.SliceData(x), lambda)
}

// DotsTiles is Dots of whole tiles with one vector, x of N·Cols() numbers in F32: y gets Slots numbers
// of each tile. done tells whether this variant does that for such tiles and such a mask, or has left
// y alone.
func (v *Variant) DotsTiles(w *Scratch, y []float64, g Tiles, x []byte, mask []byte) (done bool) {
	g.check(mask)
	if len(y) != g.N*g.Slots || len(x) != 4*g.N*g.Cols() {
		panic(fmt.Sprintf("kernel: %d numbers and %d bytes for %d tiles of %d slots of %d columns", len(y), len(x), g.N, g.Slots, g.Cols()))
	}
	x64 := grow(&w.x, g.Cols())
	return v.listedDots(w, y, g, &x[0], x64, mask)
}

// listedDots is the dots of x, or of x64, of a tile's columns, where x is nil.
func (v *Variant) listedDots(w *Scratch, y []float64, g Tiles, x *byte, x64 []float64, mask []byte) (done bool) {
	if v.dotsTiles[g.DType] == nil || !littleEndian {
		return false
	}
	panels := v.list(w, g, mask)
	if panels == 0 {
		return false
	}
	sums := grow(&w.sums, g.N*panels*PanelSlots)
	v.dotsTiles[g.DType](&sums[0], &x64[0], &g.G[0], g.N, g.Stride, &w.list[0], panels, x, g.Lines, g.ahead(v.dotsAhead))
	for i := range g.N {
		yi := y[i*g.Slots : (i+1)*g.Slots]
		for p, in := range mask {
			to := yi[p*PanelSlots : min(len(yi), (p+1)*PanelSlots)]
			if in == 0 {
				clear(to)
				continue
			}
			copy(to, sums)
			sums = sums[PanelSlots:]
			for t := range to {
				if in>>t&1 == 0 {
					to[t] = 0
				} else if g.DType == F16 {
					if e := g.Exp[i*g.Stride/2+p*PanelSlots+t]; e != 0 {
						to[t] *= pow2(-e)
					}
				}
			}
		}
	}
	return true
}
