package kernel

import (
	"math"
	"unsafe"
)

// generic is the meaning of the package: other variants equal it bit for bit.
var generic = Variant{
	name:    "generic",
	dots:    [3]func(*float64, *byte, *int, int, int, *float64, int, int){dotsF32Generic, dots16Generic[bf16], dots16Generic[f16]},
	combine: [3]func(*float64, *byte, *int, int, int, *float64, int, int, int){combineF32Generic, combine16Generic[bf16], combine16Generic[f16]},
	expand:  [dtypes]func(*float64, *byte, int, int){expandF32Generic, expand16Generic[bf16], expand16Generic[f16], expandF64Generic},
	put:     putGeneric,
	toBF16:  toBF16Generic,
	toF16:   toF16Generic,
	top:     topGeneric,
	dot:     dotGeneric,
	finish:  finishGeneric,
	round:   [dtypes]func(*byte, *float64, int) bool{F32: roundGeneric, BF16: roundHalfGeneric[bf16], F16: roundHalfGeneric[f16]},
	narrow:  [dtypes]func(*byte, *float32, int){BF16: narrowGeneric[bf16], F16: narrowGeneric[f16]},
	widen:   [dtypes]func(*float32, *byte, int){BF16: widenGeneric[bf16], F16: widenGeneric[f16]},
	solve:   solveGeneric,
	squares: squaresGeneric,
}

// bf16 and f16 are the 16-bit numbers of a line.
type (
	bf16 uint16
	f16  uint16
)

func (h bf16) float() float64 { return float64(FromBF16(uint16(h))) }
func (h f16) float() float64  { return float64(FromF16(uint16(h))) }

func (bf16) of(f float32) uint16 { return ToBF16(f) }
func (f16) of(f float32) uint16  { return ToF16(f) }

type half interface {
	bf16 | f16
	float() float64
	of(f float32) uint16
}

// line is the numbers of the line at g.
func line[T any](g *byte) []T {
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(g)), lineBytes/unsafe.Sizeof(t))
}

func next(g *byte, bytes int) *byte { return (*byte)(unsafe.Add(unsafe.Pointer(g), bytes)) }

func floats(x *float64, n int) []float64 { return unsafe.Slice(x, n) }

func dotsF32Generic(y *float64, g *byte, off *int, n, stride int, x *float64, lines, _ int) {
	const cols = lineBytes / 4
	ys, offs, xs := floats(y, n), unsafe.Slice(off, n), floats(x, lines*cols)
	if n == PanelSlots { // of others, some may be written by another goroutine
		touch(g, stride*lines)
	}
	for i, o := range offs {
		gi := unsafe.Slice((*float32)(unsafe.Pointer(next(g, o))), ((lines-1)*stride+lineBytes)/4)
		ys[i] = dotLines(gi, stride/4, xs)
	}
}

// touch reads a panel in the order of memory, a word a line. The dots go over it once a
// slot, in steps of 512 bytes, which the prefetcher doesn't follow: half the speed.
//
//go:noinline
func touch(g *byte, bytes int) (sum uint32) {
	for p := unsafe.Slice((*uint32)(unsafe.Pointer(g)), bytes/4); len(p) >= lineBytes/4; p = p[lineBytes/4:] {
		sum += p[0]
	}
	return sum
}

// Written out, so that the lanes stay in registers and no index is checked.
func dotLines(g []float32, stride int, x []float64) float64 {
	const cols = lineBytes / 4
	var l0, l1, l2, l3, l4, l5, l6, l7 float64
	for {
		g16, x16 := (*[cols]float32)(g), (*[cols]float64)(x)
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
		if x = x[cols:]; len(x) == 0 {
			return ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
		}
		g = g[stride:]
	}
}

func dots16Generic[T half](y *float64, g *byte, off *int, n, stride int, x *float64, lines, _ int) {
	const cols = lineBytes / 2
	ys, offs := floats(y, n), unsafe.Slice(off, n)
	for i, o := range offs {
		var l [8]float64
		for k := range lines {
			xk := floats(x, lines*cols)[k*cols:]
			for j, h := range line[T](next(g, o+k*stride)) {
				l[j%8] = math.FMA(h.float(), xk[j], l[j%8])
			}
		}
		ys[i] = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
	}
}

func dotGeneric(x, y *float64, n int) float64 {
	var l [8]float64
	for xs, ys := floats(x, n), floats(y, n); len(xs) >= len(l); xs, ys = xs[len(l):], ys[len(l):] {
		a, b := (*[8]float64)(xs), (*[8]float64)(ys)
		for j := range l {
			l[j] = math.FMA(a[j], b[j], l[j])
		}
	}
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

func combineF32Generic(r *float64, g *byte, off *int, n, stride int, c *float64, lines, _, keep int) {
	const cols = lineBytes / 4
	offs, cs, rs := unsafe.Slice(off, n), floats(c, n), floats(r, lines*cols)
	if keep == 0 {
		clear(rs)
	}
	if n == PanelSlots {
		combinePanel(rs, unsafe.Slice((*float32)(unsafe.Pointer(g)), lines*stride/4), (*[PanelSlots]float64)(cs))
		return
	}
	for i, o := range offs {
		for k := range lines {
			r16, g16 := (*[cols]float64)(rs[k*cols:]), (*[cols]float32)(line[float32](next(g, o+k*stride)))
			for j := range g16 {
				r16[j] = math.FMA(cs[i], float64(g16[j]), r16[j])
			}
		}
	}
}

func combinePanel(r []float64, g []float32, c *[PanelSlots]float64) {
	const cols = lineBytes / 4
	c0, c1, c2, c3, c4, c5, c6, c7 := c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
	zeroAbove(c0, c1, c2)
	for ; len(r) >= cols; r, g = r[cols:], g[PanelSlots*cols:] {
		r16, g128 := (*[cols]float64)(r), (*[PanelSlots * cols]float32)(g)
		for j := range r16 {
			q := (*[7*cols + 1]float32)(g128[j:])
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

func combine16Generic[T half](r *float64, g *byte, off *int, n, stride int, c *float64, lines, _, keep int) {
	const cols = lineBytes / 2
	offs, cs := unsafe.Slice(off, n), floats(c, n)
	if keep == 0 {
		clear(floats(r, lines*cols))
	}
	for k := range lines {
		rk := (*[cols]float64)(floats(r, lines*cols)[k*cols:])
		for i, o := range offs {
			for j, h := range line[T](next(g, o+k*stride)) {
				rk[j] = math.FMA(cs[i], h.float(), rk[j])
			}
		}
	}
}

func expandF32Generic(x *float64, p *byte, stride, lines int) {
	const cols = lineBytes / 4
	for k := range lines {
		to, from := (*[cols]float64)(floats(x, lines*cols)[k*cols:]), (*[lineBytes]byte)(unsafe.Pointer(next(p, k*stride)))
		for j := range to {
			to[j] = float64(math.Float32frombits(native32(from[4*j:])))
		}
	}
}

func expandF64Generic(x *float64, p *byte, stride, lines int) {
	to := castBytes(floats(x, lines*lineBytes/8))
	for k := range lines {
		copy(to[k*lineBytes:(k+1)*lineBytes], unsafe.Slice(next(p, k*stride), lineBytes))
	}
}

func expand16Generic[T half](x *float64, p *byte, stride, lines int) {
	const cols = lineBytes / 2
	for k := range lines {
		to, from := (*[cols]float64)(floats(x, lines*cols)[k*cols:]), (*[lineBytes]byte)(unsafe.Pointer(next(p, k*stride)))
		for j := range to {
			to[j] = T(native16(from[2*j:])).float()
		}
	}
}

func putGeneric(g **byte, tiles, stride int, p *byte, lines int) {
	for i, to := range unsafe.Slice(g, tiles) {
		from := next(p, i*lines*lineBytes)
		for k := range lines {
			*(*[lineBytes]byte)(unsafe.Pointer(next(to, k*stride))) = *(*[lineBytes]byte)(unsafe.Pointer(next(from, k*lineBytes)))
		}
	}
}

func toBF16Generic(g **byte, tiles, stride int, p *float32, lines int) {
	const cols = lineBytes / 2
	from := unsafe.Slice(p, tiles*lines*cols)
	for _, to := range unsafe.Slice(g, tiles) {
		for k := range lines {
			for j, f := range (*[cols]float32)(from) {
				line[uint16](next(to, k*stride))[j] = ToBF16(f)
			}
			from = from[cols:]
		}
	}
}

func toF16Generic(g **byte, tiles, stride int, p *float32, lines int, scale *[2]float32) {
	const cols = lineBytes / 2
	from := unsafe.Slice(p, tiles*lines*cols)
	for i, s := range unsafe.Slice(scale, tiles) {
		to := unsafe.Slice(g, tiles)[i]
		for k := range lines {
			for j, f := range (*[cols]float32)(from) {
				line[uint16](next(to, k*stride))[j] = ToF16(float32(float64(f) * float64(s[0]) * float64(s[1])))
			}
			from = from[cols:]
		}
	}
}

func topGeneric(x *float32, n int) (top float32) {
	for _, v := range unsafe.Slice(x, n) {
		top = max(top, max(v, -v))
	}
	return top
}

func finishGeneric(r, x *float64, lambda float64, n int) {
	rs := floats(r, n)
	for j, v := range floats(x, n) {
		rs[j] = (v - rs[j]) / lambda
	}
}

func roundGeneric(p *byte, x *float64, n int) bool {
	bad := false
	for j, v := range floats(x, n) {
		f := math.Float32bits(float32(v))
		bad = bad || f&0x7f800000 == 0x7f800000
		setNative32(unsafe.Slice(next(p, 4*j), 4), f)
	}
	return !bad
}

func roundHalfGeneric[T half](p *byte, x *float64, n int) bool {
	bad := false
	var t T
	for j, v := range floats(x, n) {
		h := t.of(odd(v))
		bad = bad || !(math.Abs(T(h).float()) <= math.MaxFloat64)
		setNative16(unsafe.Slice(next(p, 2*j), 2), h)
	}
	return !bad
}

func narrowGeneric[T half](p *byte, x *float32, n int) {
	var t T
	for j, f := range unsafe.Slice(x, n) {
		setNative16(unsafe.Slice(next(p, 2*j), 2), t.of(f))
	}
}

func widenGeneric[T half](x *float32, p *byte, n int) {
	xs := unsafe.Slice(x, n)
	for j := range xs {
		xs[j] = float32(T(native16(unsafe.Slice(next(p, 2*j), 2))).float())
	}
}

func solveGeneric(w *float64, ldw int, l *float64, ldl, i, p, n int) {
	ws, ls := floats(w, (i+p-1)*ldw+n), floats(l, (i+p)*ldl)
	for ; p > 0; i, p = i+1, p-1 {
		wi, li := ws[i*ldw:][:n], ls[i*ldl:]
		for k, f := range li[:i] {
			for j, x := range ws[k*ldw:][:n] {
				wi[j] = math.FMA(-f, x, wi[j])
			}
		}
		for j := range wi {
			wi[j] /= li[i]
		}
	}
}

func squaresGeneric(y, w *float64, ldw, rows, n int) {
	ys, ws := floats(y, n), floats(w, (rows-1)*ldw+n)
	clear(ys)
	for i := range rows {
		for j, x := range ws[i*ldw:][:n] {
			ys[j] = math.FMA(x, x, ys[j])
		}
	}
}
