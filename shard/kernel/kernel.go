package kernel

import (
	"fmt"
	"slices"
)

const (
	LineCols   = 16 // columns in a line: 64 bytes of float32
	PanelSlots = 8  // slots in a panel; a tile's last panel may have fewer
)

// A Tile is some columns of every slot's row, laid out as the package comment draws.
// G has length Slots*Lines*LineCols, and both are at least 1.
type Tile struct {
	G            []float32
	Slots, Lines int
}

// Cols is the number of columns, padding included.
func (g Tile) Cols() int { return g.Lines * LineCols }

// line finds the slot's first line in G, and how far it is from there to its next one.
func (g Tile) line(slot int) (at, stride int) {
	first := slot &^ (PanelSlots - 1)
	h := min(PanelSlots, g.Slots-first)
	return first*g.Cols() + (slot-first)*LineCols, h * LineCols
}

// A Variant is one implementation of the arithmetic. All of them give the same bits. It is
// immutable; its methods may run at the same time where what they write is not shared.
// The functions inside trust their arguments.
type Variant struct {
	name    string
	dots    func(y []float64, g Tile, x []float64, mask []byte)
	combine func(r []float64, g Tile, line int, c []float64, mask []byte)
	dot     func(x, y []float64) float64
	put     func(g []float32, stride int, p []byte) // whole lines, stride floats apart
}

// Name is what ByName takes.
func (v *Variant) Name() string { return v.name }

// Dots sets y[i*Slots+t] to the product of x's vector i with the row in slot t where t is
// in mask, to +0 elsewhere: y = G x. x holds k vectors of g.Cols() columns one after the
// other, y has length k*Slots, mask a bit a slot and a byte a panel. Each vector gets the
// bits that it gets alone.
func (v *Variant) Dots(y []float64, g Tile, x []float64, mask []byte) {
	g.check(mask)
	k := len(x) / g.Cols()
	if len(x) != k*g.Cols() || len(y) != k*g.Slots {
		panic(fmt.Sprintf("kernel: %d dots of %d columns with %d slots of %d", len(y), len(x), g.Slots, g.Cols()))
	}
	v.dots(y, g, x, mask)
}

// Combine sets r[i*n+j] = Σ_t c[i*Slots+t] g_tj over the slots t in mask, for n columns
// from the line given: r = Gᵀc. c holds k = len(c)/Slots coefficient vectors, and r has
// length k*n, where n is a multiple of LineCols. c is not read outside the mask.
func (v *Variant) Combine(r []float64, g Tile, line int, c []float64, mask []byte) {
	g.check(mask)
	k := len(c) / g.Slots
	if k == 0 || len(c) != k*g.Slots || len(r)%(k*LineCols) != 0 || line < 0 || line+len(r)/(k*LineCols) > g.Lines {
		panic(fmt.Sprintf("kernel: %d columns from line %d with %d coefficients, of %d slots of %d columns", len(r), line, len(c), g.Slots, g.Cols()))
	}
	v.combine(r, g, line, c, mask)
}

// Dot is the product of x and y. Both have the same length, a multiple of LineCols.
func (v *Variant) Dot(x, y []float64) float64 {
	if len(x) != len(y) || len(x)%LineCols != 0 {
		panic(fmt.Sprintf("kernel: dot of %d and %d columns", len(x), len(y)))
	}
	return v.dot(x, y)
}

// Put sets the slot's columns [col, col+len(p)/4) from little-endian float32 bytes.
func (v *Variant) Put(g Tile, slot, col int, p []byte) {
	g.checkCols(slot, col, p)
	at, stride := g.line(slot)
	at += col / LineCols * stride
	if c := col % LineCols; c != 0 && len(p) > 0 {
		n := min(len(p), 4*(LineCols-c))
		putCols(g.G[at+c:], p[:n])
		p, at = p[n:], at+stride
	}
	if n := len(p) &^ (4*LineCols - 1); n > 0 {
		v.put(g.G[at:], stride, p[:n])
		p, at = p[n:], at+n/(4*LineCols)*stride
	}
	if len(p) > 0 {
		putCols(g.G[at:], p)
	}
}

// Get sets p to the slot's columns [col, col+len(p)/4) in little-endian float32 bytes.
func Get(p []byte, g Tile, slot, col int) {
	g.checkCols(slot, col, p)
	at, stride := g.line(slot)
	for at += col / LineCols * stride; len(p) > 0; at += stride {
		c := col % LineCols
		n := min(len(p), 4*(LineCols-c))
		getCols(p[:n], g.G[at+c:])
		p, col = p[n:], 0
	}
}

// Row sets x to the slot's row; x has length g.Cols().
func Row(x []float64, g Tile, slot int) {
	g.checkCols(slot, 0, nil)
	if len(x) != g.Cols() {
		panic(fmt.Sprintf("kernel: a row of %d columns into %d", g.Cols(), len(x)))
	}
	at, stride := g.line(slot)
	for ; len(x) > 0; at += stride {
		to, from := (*[LineCols]float64)(x), (*[LineCols]float32)(g.G[at:])
		for j := range from {
			to[j] = float64(from[j])
		}
		x = x[LineCols:]
	}
}

// Zero sets the slot's columns from col on to zeros, padding too.
func Zero(g Tile, slot, col int) {
	g.checkCols(slot, col, nil)
	at, stride := g.line(slot)
	for ; col < g.Cols(); col += LineCols - col%LineCols {
		from := at + col/LineCols*stride
		clear(g.G[from+col%LineCols : from+LineCols])
	}
}

func (g Tile) check(mask []byte) {
	if g.Slots < 1 || g.Lines < 1 || len(g.G) != g.Slots*g.Cols() || len(mask) != (g.Slots+PanelSlots-1)/PanelSlots {
		panic(fmt.Sprintf("kernel: tile of %d slots, %d lines, %d floats, mask of %d bytes", g.Slots, g.Lines, len(g.G), len(mask)))
	}
}

func (g Tile) checkCols(slot, col int, p []byte) {
	if slot < 0 || slot >= g.Slots || len(g.G) != g.Slots*g.Cols() || col < 0 || len(p)%4 != 0 || len(p)/4 > g.Cols()-col {
		panic(fmt.Sprintf("kernel: %d bytes at column %d of slot %d, of %d slots of %d columns", len(p), col, slot, g.Slots, g.Cols()))
	}
}

// variants are those that this CPU can run, the fastest last.
var variants = []*Variant{&generic}

// Variants lists the implementations that this CPU can run, the fastest last.
func Variants() []*Variant { return slices.Clone(variants) }

// Best is the fastest implementation that this CPU can run.
func Best() *Variant { return variants[len(variants)-1] }

// ByName finds an implementation by its name, "generic" say; "" is Best.
func ByName(name string) (*Variant, error) {
	if name == "" {
		return Best(), nil
	}
	var names []string
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
		names = append(names, v.name)
	}
	return nil, fmt.Errorf("kernel is %q, must be one of %q on this CPU", name, names)
}
