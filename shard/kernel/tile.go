package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

const (
	lineBytes  = 64 // a line: some columns of one slot
	PanelSlots = 8  // slots in a panel; a tile's last panel may have fewer

	// MostLineCols is the columns in the longest line. A multiple of it is whole lines in
	// every dtype.
	MostLineCols = lineBytes / 2

	allSlots = 1<<PanelSlots - 1 // the mask of a full panel
)

// A Tile is some columns of every slot's row, laid out as the package comment draws.
type Tile struct {
	G            []byte // Slots × Lines × 64 bytes, aligned to 64, numbers in the machine's byte order
	DType        DType  // F32, BF16 or F16
	Slots, Lines int    // at least 1
	Exp          []int16
	// Exp is of F16 alone: a slot keeps its values times 2^Exp[slot], |Exp| ≤ 164.
}

// Cols is the number of columns, padding included.
func (g Tile) Cols() int { return g.Lines * g.DType.LineCols() }

// line finds the slot's first line in G, and how far it is from there to its next one.
func (g Tile) line(slot int) (at, stride int) {
	first := slot &^ (PanelSlots - 1)
	h := min(PanelSlots, g.Slots-first)
	return (first*g.Lines + slot - first) * lineBytes, h * lineBytes
}

// panel is where panel p begins, and how far it is from one line of a slot to the next.
func (g Tile) panel(p int) (at, stride int) { return g.line(p * PanelSlots) }

// present sets off to where the slots of the panel's mask in have their lines, from the
// first slot's, and returns how many there are.
func present(off *[PanelSlots]int, in byte) (n int) {
	for ; in != 0; in &= in - 1 {
		off[n] = lineBytes * bits.TrailingZeros8(in)
		n++
	}
	return n
}

// mostPanels is how many full panels are taken at once, where that is better.
const mostPanels = 4

// fullFrom is how many panels from p on are full, at most mostPanels.
func fullFrom(mask []byte, p int) (n int) {
	for n < mostPanels && p+n < len(mask) && mask[p+n] == allSlots {
		n++
	}
	return n
}

// scale is what the numbers kept in a slot are to be multiplied by.
func (g Tile) scale(slot int) float64 { return pow2(-g.Exp[slot]) }

// Get sets p to the slot's columns [col, col+n) in little-endian float32 bytes, n = len(p)/4.
// It is exact: a store holds what float32 can say.
func Get(p []byte, g Tile, slot, col int) {
	g.checkCols(slot, col, len(p)/4, len(p)%4)
	at, stride := g.line(slot)
	c := g.DType.LineCols()
	at += col / c * stride
	for col %= c; len(p) > 0; at, col = at+stride, 0 {
		n := min(len(p)/4, c-col)
		g.getLine(p[:4*n], g.G[at:at+lineBytes], slot, col)
		p = p[4*n:]
	}
}

func (g Tile) getLine(p, line []byte, slot, col int) {
	put := func(j int, f float32) { binary.LittleEndian.PutUint32(p[4*j:], math.Float32bits(f)) }
	n := len(p) / 4
	switch g.DType {
	case F32:
		if littleEndian {
			copy(p, line[4*col:])
			return
		}
		for j, f := range cast[float32](line)[col:][:n] {
			put(j, f)
		}
	case BF16:
		for j, h := range cast[uint16](line)[col:][:n] {
			put(j, FromBF16(h))
		}
	default:
		s := g.scale(slot)
		for j, h := range cast[uint16](line)[col:][:n] {
			put(j, float32(float64(FromF16(h))*s))
		}
	}
}

// Row sets x to the slot's row; x has length g.Cols().
func (v *Variant) Row(x []float64, g Tile, slot int) {
	g.checkCols(slot, 0, 0, 0)
	if len(x) != g.Cols() {
		panic(fmt.Sprintf("kernel: a row of %d columns into %d", g.Cols(), len(x)))
	}
	at, stride := g.line(slot)
	v.expand[g.DType](&x[0], &g.G[at], stride, g.Lines)
	if g.DType == F16 && g.Exp[slot] != 0 {
		s := g.scale(slot)
		for j := range x {
			x[j] *= s
		}
	}
}

// FetchRow asks for the slot's row ahead of its use: its lines are so far apart that no prefetcher
// does.
func (v *Variant) FetchRow(g Tile, slot int) {
	g.checkCols(slot, 0, 0, 0)
	if v.many != nil {
		at, stride := g.line(slot)
		v.many.fetch(&g.G[0], at, stride, g.Lines)
	}
}

// CopyRow copies the row of a slot of src, padding too, to a slot of dst, which has as many lines of the
// same dtype and any number of slots.
func CopyRow(dst Tile, to int, src Tile, from int) {
	dst.checkCols(to, 0, 0, 0)
	src.checkCols(from, 0, 0, 0)
	if dst.DType != src.DType || dst.Lines != src.Lines {
		panic(fmt.Sprintf("kernel: a row of %d lines of %v into %d of %v", src.Lines, src.DType, dst.Lines, dst.DType))
	}
	at, stride := dst.line(to)
	from0, stride0 := src.line(from)
	for range dst.Lines {
		copy(dst.G[at:at+lineBytes], src.G[from0:from0+lineBytes])
		at, from0 = at+stride, from0+stride0
	}
	if dst.DType == F16 {
		dst.Exp[to] = src.Exp[from]
	}
}

// Zero sets the slot's columns from col on to zeros, padding too.
func Zero(g Tile, slot, col int) {
	g.checkCols(slot, col, 0, 0)
	at, stride := g.line(slot)
	c, size := g.DType.LineCols(), g.DType.Size()
	if g.DType == F16 && col == 0 {
		g.Exp[slot] = 0
	}
	for ; col < g.Cols(); col += c - col%c {
		from := at + col/c*stride
		clear(g.G[from+col%c*size : from+lineBytes])
	}
}

func (g Tile) check(mask []byte) {
	g.checkShape()
	if len(mask) != (g.Slots+PanelSlots-1)/PanelSlots {
		panic(fmt.Sprintf("kernel: tile of %d slots, mask of %d bytes", g.Slots, len(mask)))
	}
}

func (g Tile) checkShape() {
	if g.Slots < 1 || g.Lines < 1 || g.DType > F16 || len(g.G) != g.Slots*g.Lines*lineBytes || g.DType == F16 && len(g.Exp) != g.Slots {
		panic(fmt.Sprintf("kernel: tile of %d slots, %d lines of %v, %d bytes, %d scales", g.Slots, g.Lines, g.DType, len(g.G), len(g.Exp)))
	}
}

// checkCols checks that slot has the columns [col, col+n); odd is what is too much of bytes.
func (g Tile) checkCols(slot, col, n, odd int) {
	g.checkShape()
	if slot < 0 || slot >= g.Slots || col < 0 || n > g.Cols()-col || odd != 0 {
		panic(fmt.Sprintf("kernel: %d columns and %d bytes at column %d of slot %d, of %d slots of %d columns", n, odd, col, slot, g.Slots, g.Cols()))
	}
}
