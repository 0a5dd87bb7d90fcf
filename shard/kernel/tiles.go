package kernel

import (
	"fmt"
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
// many there are; or 0 where not all slots of one are in, and part says that this may not be.
func (g Tiles) list(w *Scratch, mask []byte, part bool) (panels int) {
	w.list = w.list[:0]
	for p, in := range mask {
		if in != allSlots && !part {
			return 0
		}
		if in == 0 {
			continue
		}
		at, stride := Tile{Slots: g.Slots, Lines: g.Lines}.panel(p)
		w.list = append(w.list, at, stride, int(in), 2*PanelSlots*p)
		panels++
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
// F32 where x is not nil, and Round to F32: p and x have N·Cols() numbers. done tells whether this
// variant does that for such tiles and such a mask, or has left p alone; finite whether all numbers of
// p are.
func (v *Variant) CombineTiles(w *Scratch, p []byte, g Tiles, c []float64, mask, x []byte, lambda float64) (done, finite bool) {
	g.check(mask)
	if len(c) != g.Slots || len(p) != 4*g.N*g.Cols() || x != nil && len(x) != len(p) {
		panic(fmt.Sprintf("kernel: %d bytes and %d coefficients for %d tiles of %d slots of %d columns", len(p), len(c), g.N, g.Slots, g.Cols()))
	}
	if v.combineTiles[g.DType] == nil || !littleEndian {
		return false, false
	}
	panels := g.list(w, mask, v.anyPanel)
	if panels == 0 {
		return false, false
	}
	own := grow(&w.cm, panels*PanelSlots)
	to := own
	for p, in := range mask {
		if in == 0 {
			continue
		}
		for t := range PanelSlots {
			to[t] = 0 // where it is out
			if in>>t&1 != 0 {
				to[t] = c[p*PanelSlots+t]
			}
		}
		to = to[PanelSlots:]
	}
	r := grow(&w.x, g.Cols())
	return true, v.combineTiles[g.DType](&p[0], &r[0], &g.G[0], g.N, g.Stride, &w.list[0], panels, &own[0], unsafe.SliceData(g.Exp), g.Lines, g.ahead(v.combineAhead), unsafe.SliceData(x), lambda)
}

// DotsTiles is Dots of whole tiles with one vector, x of N·Cols() numbers in F32: y gets Slots numbers
// of each tile. done tells whether this variant does that for such tiles and such a mask, or has left
// y alone.
func (v *Variant) DotsTiles(w *Scratch, y []float64, g Tiles, x []byte, mask []byte) (done bool) {
	g.check(mask)
	if len(y) != g.N*g.Slots || len(x) != 4*g.N*g.Cols() {
		panic(fmt.Sprintf("kernel: %d numbers and %d bytes for %d tiles of %d slots of %d columns", len(y), len(x), g.N, g.Slots, g.Cols()))
	}
	if v.dotsTiles[g.DType] == nil || !littleEndian {
		return false
	}
	panels := g.list(w, mask, false)
	if panels == 0 {
		return false
	}
	x64 := grow(&w.x, g.Cols())
	v.dotsTiles[g.DType](&y[0], &x64[0], &g.G[0], g.N, g.Stride, &w.list[0], panels, unsafe.SliceData(g.Exp), &x[0], g.Lines, g.ahead(v.dotsAhead))
	return true
}
