package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Put sets the slot's columns [col, col+n) from n numbers of dtype src, little-endian bytes
// at any alignment, rounding to nearest even where the tile's dtype can't say them. A row
// of an F16 tile is set whole: col is 0, and columns from n on become 0. Another goroutine may read
// what was put after a Flush.
func (v *Variant) Put(w *Scratch, g Tile, slot, col int, p []byte, src DType) {
	size := src.Size()
	n := len(p) / size
	g.checkCols(slot, col, n, len(p)%size)
	if src == F64 || g.DType == F16 && col != 0 {
		panic(fmt.Sprintf("kernel: %v at column %d of a row of %v", src, col, g.DType))
	}
	if n == 0 {
		return
	}
	if g.DType == F16 {
		v.putF16(w, []Tile{g}, slot, p, src)
		return
	}
	at, stride := g.line(slot)
	c := g.DType.LineCols()
	at += col / c * stride
	if first := col % c; first != 0 {
		m := min(n, c-first)
		v.putCols(g.DType, g.G[at+first*g.DType.Size():], p[:m*size], src)
		p, n, at = p[m*size:], n-m, at+stride
	}
	if lines := n / c; lines > 0 {
		w.g[0] = &g.G[at]
		v.putLines(w, 1, stride, lines, p[:lines*c*size], src, g.DType)
		p, n, at = p[lines*c*size:], n%c, at+lines*stride
	}
	if n > 0 {
		v.putCols(g.DType, g.G[at:], p, src)
	}
}

// MostTiles is how many tiles PutTiles takes at most: enough to reach all channels, and their numbers
// in float32 stay in the first cache.
const MostTiles = 4

// PutTiles is Put of whole rows of tiles alike, each tile's after those of the one before. It writes
// a line of each tile in turn, which is faster where these lie in different channels of the memory.
func (v *Variant) PutTiles(w *Scratch, g []Tile, slot int, p []byte, src DType) {
	if len(g) < 1 || len(g) > MostTiles || src == F64 || len(p) != len(g)*g[0].Cols()*src.Size() {
		panic(fmt.Sprintf("kernel: %d bytes of %v into %d tiles", len(p), src, len(g)))
	}
	for i := range g {
		g[i].checkCols(slot, 0, 0, 0)
		if g[i].DType != g[0].DType || g[i].Slots != g[0].Slots || g[i].Lines != g[0].Lines {
			panic("kernel: tiles are not alike")
		}
	}
	if g[0].DType == F16 {
		v.putF16(w, g, slot, p, src)
		return
	}
	v.putLines(w, len(g), w.at(g, slot), g[0].Lines, p, src, g[0].DType)
}

// at sets w.g to where the slot's rows begin in the tiles, and returns their stride.
func (w *Scratch) at(g []Tile, slot int) (stride int) {
	first, stride := g[0].line(slot)
	for i := range g {
		w.g[i] = &g[i].G[first]
	}
	return stride
}

// Flush puts what Put and PutTiles wrote before whatever this goroutine writes from now on: a lock
// that it gives back, say.
func (v *Variant) Flush() {
	if v.flush != nil {
		v.flush()
	}
}

// putLines sets whole lines of tiles, from where w.g says.
func (v *Variant) putLines(w *Scratch, tiles, stride, lines int, p []byte, src, dst DType) {
	switch {
	case src == dst && littleEndian:
		v.put(&w.g[0], tiles, stride, &p[0], lines)
	case dst == F32:
		v.put(&w.g[0], tiles, stride, &castBytes(v.floats(w, p, src))[0], lines)
	default:
		v.toBF16(&w.g[0], tiles, stride, &v.floats(w, p, src)[0], lines)
	}
	clear(w.g[:tiles])
}

func (v *Variant) putF16(w *Scratch, g []Tile, slot int, p []byte, src DType) {
	cols := g[0].Cols()
	x := grow(&w.f, len(g)*cols)
	v.decode(x[:len(p)/src.Size()], p, src)
	clear(x[len(p)/src.Size():])
	for i := range g {
		e := scaleF16(v.top(&x[i*cols], cols))
		g[i].Exp[slot] = e
		// 2^⌊e/2⌋, then the rest: 2^e itself may be past float32's range.
		w.e[i] = [2]float32{float32(pow2(e >> 1)), float32(pow2(e - e>>1))}
	}
	v.toF16(&w.g[0], len(g), w.at(g, slot), &x[0], g[0].Lines, &w.e[0])
	clear(w.g[:len(g)])
}

// floats is p's numbers.
func (v *Variant) floats(w *Scratch, p []byte, src DType) []float32 {
	w.f = grow(&w.f, len(p)/src.Size())
	v.decode(w.f, p, src)
	return w.f
}

// decode sets x to the little-endian numbers of p, which has as many.
func (v *Variant) decode(x []float32, p []byte, src DType) {
	switch {
	case src != F32:
		v.Widen(x, p, src)
	case littleEndian:
		copy(castBytes(x), p)
	default:
		for j := range x {
			x[j] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*j:]))
		}
	}
}

// putCols sets some columns within a line.
func (v *Variant) putCols(dst DType, g, p []byte, src DType) {
	n := len(p) / src.Size()
	if src == dst && littleEndian {
		copy(g, p)
		return
	}
	var x [MostLineCols]float32
	v.decode(x[:n], p, src)
	if dst == F32 {
		copy(cast[float32](g[:4*n]), x[:n])
		return
	}
	to := cast[uint16](g[:2*n])
	for j := range to {
		to[j] = ToBF16(x[j])
	}
}

// Expand sets x to the numbers of p, of dtype src, little-endian bytes at any alignment. p has
// as many.
func (v *Variant) Expand(x []float64, p []byte, src DType) {
	if len(p) != len(x)*src.Size() {
		panic(fmt.Sprintf("kernel: %d bytes of %v into %d numbers", len(p), src, len(x)))
	}
	if n := len(p) / lineBytes; n > 0 && littleEndian {
		v.expand[src](&x[0], &p[0], lineBytes, n)
		x, p = x[n*src.LineCols():], p[n*lineBytes:]
	}
	expandBytes(x, p, src)
}

// Float32 sets dst to the numbers of p as little-endian float32 bytes. Neither F64 nor lengths
// that differ are allowed.
func Float32(dst, p []byte, src DType) {
	if src == F32 {
		copy(dst, p)
		return
	}
	for j := range len(p) / 2 {
		h := binary.LittleEndian.Uint16(p[2*j:])
		f := FromBF16(h)
		if src == F16 {
			f = FromF16(h)
		}
		binary.LittleEndian.PutUint32(dst[4*j:], math.Float32bits(f))
	}
}

// expandBytes is Expand in Go.
func expandBytes(x []float64, p []byte, src DType) {
	for j := range x {
		switch src {
		case F32:
			x[j] = float64(math.Float32frombits(binary.LittleEndian.Uint32(p[4*j:])))
		case BF16:
			x[j] = float64(FromBF16(binary.LittleEndian.Uint16(p[2*j:])))
		case F16:
			x[j] = float64(FromF16(binary.LittleEndian.Uint16(p[2*j:])))
		default:
			x[j] = math.Float64frombits(binary.LittleEndian.Uint64(p[8*j:]))
		}
	}
}

// Round sets p to the numbers of dtype dst nearest to each of x, ties to even, little-endian
// bytes at any alignment, and returns the index of the first that is not finite then, or −1.
// p has as many.
func (v *Variant) Round(p []byte, x []float64, dst DType) (bad int) {
	size := dst.Size()
	if len(p) != size*len(x) {
		panic(fmt.Sprintf("kernel: %d numbers into %d bytes of %v", len(x), len(p), dst))
	}
	n := len(x) &^ 15
	if n == 0 || dst == F64 || !littleEndian {
		return roundBytes(p, x, dst)
	}
	if !v.round[dst](&p[0], &x[0], n) {
		return roundBytes(p, x, dst)
	}
	if bad := roundBytes(p[size*n:], x[n:], dst); bad >= 0 {
		return n + bad
	}
	return -1
}

// Narrow sets p to each of x rounded to dst, BF16 or F16, ties to even, little-endian bytes at any
// alignment. p has as many. What is too large becomes an infinity.
func (v *Variant) Narrow(p []byte, x []float32, dst DType) {
	if dst != BF16 && dst != F16 || len(p) != 2*len(x) {
		panic(fmt.Sprintf("kernel: %d numbers into %d bytes of %v", len(x), len(p), dst))
	}
	if n := len(x) &^ 15; n > 0 && littleEndian {
		v.narrow[dst](&p[0], &x[0], n)
		p, x = p[2*n:], x[n:]
	}
	for j, f := range x {
		h := ToBF16(f)
		if dst == F16 {
			h = ToF16(f)
		}
		binary.LittleEndian.PutUint16(p[2*j:], h)
	}
}

// Widen sets x to the numbers of p, BF16 or F16, little-endian bytes at any alignment. p has as
// many.
func (v *Variant) Widen(x []float32, p []byte, src DType) {
	if src != BF16 && src != F16 || len(p) != 2*len(x) {
		panic(fmt.Sprintf("kernel: %d bytes of %v into %d numbers", len(p), src, len(x)))
	}
	if n := len(x) &^ 15; n > 0 && littleEndian {
		v.widen[src](&x[0], &p[0], n)
		x, p = x[n:], p[2*n:]
	}
	for j := range x {
		h := binary.LittleEndian.Uint16(p[2*j:])
		x[j] = FromBF16(h)
		if src == F16 {
			x[j] = FromF16(h)
		}
	}
}

func roundBytes(p []byte, x []float64, dst DType) (bad int) {
	bad = -1
	for j := len(x) - 1; j >= 0; j-- {
		v := x[j]
		switch dst {
		case F32:
			f := float32(v)
			binary.LittleEndian.PutUint32(p[4*j:], math.Float32bits(f))
			v = float64(f)
		case BF16:
			h := ToBF16(odd(v))
			binary.LittleEndian.PutUint16(p[2*j:], h)
			v = float64(FromBF16(h))
		case F16:
			h := ToF16(odd(v))
			binary.LittleEndian.PutUint16(p[2*j:], h)
			v = float64(FromF16(h))
		default:
			binary.LittleEndian.PutUint64(p[8*j:], math.Float64bits(v))
		}
		if !(math.Abs(v) <= math.MaxFloat64) {
			bad = j
		}
	}
	return bad
}

// odd rounds to float32 so that rounding it once more, to fewer digits, is as good as rounding
// v once: towards zero, and to an odd last bit where that was not exact.
func odd(v float64) float32 {
	f := float32(v)
	b := math.Float32bits(f)
	if float64(f) == v || v != v {
		return f
	}
	if math.Abs(float64(f)) > math.Abs(v) {
		b-- // towards zero; of an infinity the largest float32
	}
	return math.Float32frombits(b | 1)
}
