package kernel

import (
	"encoding/binary"
	"math"
	"math/bits"
	"unsafe"
)

// generic is the meaning of the package: other variants equal it bit for bit.
var generic = Variant{
	name:    "generic",
	dots:    dotsGeneric,
	combine: combineGeneric,
	dot:     dotGeneric,
	put:     putGeneric,
}

const (
	panelLine = PanelSlots * LineCols // floats in one line of each slot of a full panel
	allSlots  = 1<<PanelSlots - 1     // the mask of a full panel
)

func dotsGeneric(y []float64, g Tile, x []float64, mask []byte) {
	clear(y)
	w := g.Cols()
	for p, in := range mask {
		if in == allSlots {
			touch(g.G[p*PanelSlots*w:][:PanelSlots*w])
		}
		for xi, yi := x, y; len(xi) > 0; xi, yi = xi[w:], yi[g.Slots:] {
			for b := in; b != 0; b &= b - 1 {
				t := p*PanelSlots + bits.TrailingZeros8(b)
				at, stride := g.line(t)
				yi[t] = dotLines(g.G[at:], stride, xi[:w])
			}
		}
	}
}

// touch reads a panel in the order of memory, a word a line. The dots go over it once a
// slot, in steps of 512 bytes, which the prefetcher doesn't follow: half the speed.
//
//go:noinline
func touch(panel []float32) (sum float32) {
	for ; len(panel) > 0; panel = panel[panelLine:] {
		q := (*[panelLine]float32)(panel)
		sum += q[0] + q[16] + q[32] + q[48] + q[64] + q[80] + q[96] + q[112]
	}
	return sum
}

// Written out, so that the lanes stay in registers and no index is checked.
func dotLines(g []float32, stride int, x []float64) float64 {
	var l0, l1, l2, l3, l4, l5, l6, l7 float64
	for {
		g16, x16 := (*[LineCols]float32)(g), (*[LineCols]float64)(x)
		l0 = math.FMA(float64(g16[0]), x16[0], l0)
		l1 = math.FMA(float64(g16[1]), x16[1], l1)
		l2 = math.FMA(float64(g16[2]), x16[2], l2)
		l3 = math.FMA(float64(g16[3]), x16[3], l3)
		l4 = math.FMA(float64(g16[4]), x16[4], l4)
		l5 = math.FMA(float64(g16[5]), x16[5], l5)
		l6 = math.FMA(float64(g16[6]), x16[6], l6)
		l7 = math.FMA(float64(g16[7]), x16[7], l7)
		l0 = math.FMA(float64(g16[8]), x16[8], l0)
		l1 = math.FMA(float64(g16[9]), x16[9], l1)
		l2 = math.FMA(float64(g16[10]), x16[10], l2)
		l3 = math.FMA(float64(g16[11]), x16[11], l3)
		l4 = math.FMA(float64(g16[12]), x16[12], l4)
		l5 = math.FMA(float64(g16[13]), x16[13], l5)
		l6 = math.FMA(float64(g16[14]), x16[14], l6)
		l7 = math.FMA(float64(g16[15]), x16[15], l7)
		if x = x[LineCols:]; len(x) == 0 {
			return ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
		}
		g = g[stride:]
	}
}

func dotGeneric(x, y []float64) float64 {
	var l [8]float64
	for ; len(x) >= len(l); x, y = x[len(l):], y[len(l):] {
		a, b := (*[8]float64)(x), (*[8]float64)(y)
		for j := range l {
			l[j] = math.FMA(a[j], b[j], l[j])
		}
	}
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

func combineGeneric(r []float64, g Tile, line int, c []float64, mask []byte) {
	clear(r)
	n := len(r) / (len(c) / g.Slots)
	if n == 0 {
		return
	}
	for p, in := range mask {
		for ri, ci := r, c; len(ri) > 0; ri, ci = ri[n:], ci[g.Slots:] {
			if in == allSlots {
				at := p*PanelSlots*g.Cols() + line*panelLine
				combinePanel(ri[:n], g.G[at:], (*[PanelSlots]float64)(ci[p*PanelSlots:]))
				continue
			}
			for b := in; b != 0; b &= b - 1 {
				t := p*PanelSlots + bits.TrailingZeros8(b)
				at, stride := g.line(t)
				combineSlot(ri[:n], g.G[at+line*stride:], stride, ci[t])
			}
		}
	}
}

func combinePanel(r []float64, g []float32, c *[PanelSlots]float64) {
	c0, c1, c2, c3, c4, c5, c6, c7 := c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
	zeroAbove(c0, c1, c2)
	for ; len(r) >= LineCols; r, g = r[LineCols:], g[panelLine:] {
		r16, g128 := (*[LineCols]float64)(r), (*[panelLine]float32)(g)
		for j := range r16 {
			q := (*[7*LineCols + 1]float32)(g128[j:])
			v := math.FMA(c0, float64(q[0]), r16[j])
			v = math.FMA(c1, float64(q[16]), v)
			v = math.FMA(c2, float64(q[32]), v)
			v = math.FMA(c3, float64(q[48]), v)
			v = math.FMA(c4, float64(q[64]), v)
			v = math.FMA(c5, float64(q[80]), v)
			v = math.FMA(c6, float64(q[96]), v)
			r16[j] = math.FMA(c7, float64(q[112]), v)
		}
	}
}

// zeroAbove does nothing, but to be called: arguments are loaded into their registers with
// zeros above. CVTSS2SD keeps what is above in its target, on amd64 the register of FMA's
// second argument; where a copy left something there, each conversion waits for the one
// before it, and a combination takes three times as long.
//
//go:noinline
func zeroAbove(_, _, _ float64) {}

func combineSlot(r []float64, g []float32, stride int, c float64) {
	for {
		r16, g16 := (*[LineCols]float64)(r), (*[LineCols]float32)(g)
		for j := range r16 {
			r16[j] = math.FMA(c, float64(g16[j]), r16[j])
		}
		if r = r[LineCols:]; len(r) == 0 {
			return
		}
		g = g[stride:]
	}
}

// putGeneric sets whole lines, stride floats apart, from p.
func putGeneric(g []float32, stride int, p []byte) {
	for {
		putCols(g[:LineCols], p[:4*LineCols])
		if p = p[4*LineCols:]; len(p) == 0 {
			return
		}
		g = g[stride:]
	}
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// putCols sets g from the little-endian float32 bytes p, whose length decides.
func putCols(g []float32, p []byte) {
	g = g[:len(p)/4]
	if littleEndian {
		copy(bytesOf(g), p)
		return
	}
	for j := range g {
		g[j] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*j:]))
	}
}

// getCols sets p to the little-endian bytes of g; p's length decides.
func getCols(p []byte, g []float32) {
	g = g[:len(p)/4]
	if littleEndian {
		copy(p, bytesOf(g))
		return
	}
	for j, v := range g {
		binary.LittleEndian.PutUint32(p[4*j:], math.Float32bits(v))
	}
}

// bytesOf is g's memory. Copying it moves 16 bytes at a time, a loop over floats four.
func bytesOf(g []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(g))), 4*len(g))
}
