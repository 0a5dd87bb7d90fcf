package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// tiles has passes over some tiles in one call. They read as the others do, a panel after the other; but
// what a call costs comes once, not for each panel of each tile.
func tiles() {
	combineTiles(avx2, f32)
	for _, t := range kinds {
		combineTiles(avx512, t)
	}
	for _, t := range kinds {
		dotsTiles(t)
	}
}

func param(name string) Mem {
	c, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return c.Addr
}

// overTiles writes the loops over tiles, their panels, and lines. Panels are listed: where they begin in
// a tile, how far apart their lines are, which slots are in, and where their powers of two begin in those
// of a tile, as words.
type overTiles struct{ g, far, tile, list, panels, count, step, in Register }

const listed = 4 * 8 // bytes for a panel

func newOverTiles() overTiles {
	return overTiles{
		g: GP64(), far: GP64(), tile: Load(Param("base"), GP64()), list: GP64(), panels: GP64(),
		count: GP64(), step: GP64(), in: GP64(),
	}
}

func (o overTiles) slot(i, disp int) Mem { return Mem{Base: o.g, Disp: lineBytes*i + disp} }

// begin goes to the tile's first panel.
func (o overTiles) begin() {
	MOVQ(param("list"), o.list)
	MOVQ(param("panels"), o.panels)
}

// enter goes to a panel, and jumps to partly where a slot of it is not in.
func (o overTiles) enter(partly string) {
	MOVQ(Mem{Base: o.list}, o.g)
	ADDQ(o.tile, o.g)
	MOVQ(param("ahead"), o.far)
	ADDQ(o.g, o.far)
	MOVQ(param("lines"), o.count)
	if partly != "" {
		CMPQ(Mem{Base: o.list, Disp: 16}, U32(0xff))
		JNE(LabelRef(partly))
	}
}

// next counts a panel; the zero flag tells that it was the last one.
func (o overTiles) next() {
	ADDQ(U8(listed), o.list)
	DECQ(o.panels)
}

// lines writes the loop over a panel's lines, of all its slots or of some.
func (o overTiles) lines(name string, some bool, body func()) {
	if some {
		MOVQ(Mem{Base: o.list, Disp: 8}, o.step)
		MOVQ(Mem{Base: o.list, Disp: 16}, o.in)
	}
	Label(name)
	body()
	if some {
		ADDQ(o.step, o.g)
		ADDQ(o.step, o.far)
	} else {
		ADDQ(U32(full), o.g)
		ADDQ(U32(full), o.far)
	}
	DECQ(o.count)
	JNZ(LabelRef(name))
}

// each writes f for a panel's slots. Where only some are in the others are jumped over: always the
// same, which the CPU foresees.
func (o overTiles) each(some bool, name string, f func(i int)) {
	for i := range panelSlots {
		if !some {
			f(i)
			continue
		}
		out := fmt.Sprintf("%sout%d", name, i)
		BTQ(U8(i), o.in)
		JCC(LabelRef(out))
		f(i)
		Label(out)
	}
}

// powers reads and takes from the panel at hand the powers of two by which its slots are kept: a tile's
// own, in the line before it, which the far lines of the tile before have asked for.
type powers struct{ at, panel, v Register }

func newPowers(t dtype) *powers {
	if t != f16 {
		return nil
	}
	return &powers{Load(Param("exp"), GP64()), GP64(), ZMM()}
}

// load makes them those of a panel, 0 of slots that are out.
func (w *powers) load(o overTiles) {
	if w == nil {
		return
	}
	MOVQ(Mem{Base: o.list, Disp: 24}, w.panel)
	ADDQ(w.at, w.panel)
	in, k := GP32(), K()
	MOVL(Mem{Base: o.list, Disp: 16}, in)
	KMOVD(in, k)
	x, y := w.v.(VecVirtual).AsX(), w.v.(VecVirtual).AsY()
	VMOVDQU16_Z(Mem{Base: w.panel}, k, x)
	VPMOVSXWD(x, y)
	VCVTDQ2PD(y, w.v)
	zero := ZMM()
	VPXORQ(zero, zero, zero)
	VSUBPD(w.v, zero, w.v)
}

// over divides eight numbers, one for each slot, by the powers of two, and leaves them at to.
func (w *powers) over(m, to Mem) {
	v := ZMM()
	VMOVUPD(m, v)
	VSCALEFPD(w.v, v, v)
	VMOVUPD(v, to)
}

// next goes to the next tile's.
func (w *powers) next() {
	if w != nil {
		ADDQ(param("stride"), w.at)
	}
}

// combineTiles goes over the columns of a line at a time, so that few of its sums wait for the one before. A
// panel's coefficients are in registers. The first panel's sums begin as zero, the last one's go out; in
// between they lie at r. Where there is an x, (x − sum)/λ goes out.
func combineTiles(s isa, t dtype) {
	TEXT("combineTiles"+t.name+s.name, NOSPLIT, "func(p *byte, r *float64, base *byte, tiles, stride int, list *int, panels int, c *float64, exp *int16, lines, ahead int, x *byte, lambda float64) bool")
	Pragma("noescape")
	Doc(fmt.Sprintf("combineTiles%s%s is Variant.combineTiles.", t.name, s.name))
	zero, finite := YMM(), YMM()
	VPXOR(zero, zero, zero)
	VPXOR(finite, finite, finite)
	s.useSpread(t, "combineTiles"+t.name+s.name)
	defer endSpread()
	cols := t.cols()
	acc, v, cs := s.vecs(cols/s.width), s.vecs(2), s.vecs(panelSlots)
	o, p, r := newOverTiles(), Load(Param("p"), GP64()), GP64()
	c, pow := GP64(), newPowers(t)
	left, x := Load(Param("tiles"), GP64()), Load(Param("x"), GP64())
	parts := s.width == 8 // whether a panel may be there in part
	var scaled Mem        // a panel's coefficients, of f16
	if pow != nil {
		scaled = AllocLocal(8 * panelSlots)
	}

	panel := func(name string, first, last, some bool) {
		MOVQ(param("r"), r)
		own := Mem{Base: c}
		if pow != nil {
			pow.load(o)
			own = scaled
			pow.over(Mem{Base: c}, own)
		}
		for i, ci := range cs {
			VBROADCASTSD(own.Offset(8*i), ci)
		}
		ADDQ(U8(8*panelSlots), c)
		o.lines(name, some, func() {
			sums := func(j int) Mem { return Mem{Base: r, Disp: s.bytes() * j} }
			if last {
				for col := 0; col < cols; col += 16 {
					PREFETCHT0(Mem{Base: p, Disp: roundAhead + 4*col})
				}
			}
			for j, a := range acc {
				if first {
					s.zero(a)
				} else {
					VMOVUPD(sums(j), a)
				}
			}
			o.each(some, name, func(i int) {
				s.fetchFar(Mem{Base: o.far, Disp: lineBytes * i})
				for j, a := range acc {
					x := v[j%2]
					s.load(t, o.slot(i, s.width*j*t.size), x)
					VFMADD231PD(x, cs[i], a)
				}
			})
			if !last {
				for j, a := range acc {
					VMOVUPD(a, sums(j))
				}
				ADDQ(U32(8*cols), r)
				return
			}
			TESTQ(x, x)
			JZ(LabelRef(name + "solved"))
			VBROADCASTSD(param("lambda"), v[1])
			for j, a := range acc {
				VCVTPS2PD(Mem{Base: x, Disp: 4 * s.width * j}, v[0])
				VSUBPD(a, v[0], a)
				VDIVPD(v[1], a, a)
			}
			ADDQ(U32(4*cols), x)
			Label(name + "solved")
			for col := 0; col < cols; col += 16 {
				out(s, acc[col/s.width:(col+16)/s.width], Mem{Base: p, Disp: 4 * col}, zero, finite)
			}
			if !first {
				ADDQ(U32(8*cols), r)
			}
			ADDQ(U32(4*cols), p)
		})
	}
	partly := func(name string) string {
		if !parts {
			return ""
		}
		return name
	}
	Label("tile")
	o.begin()
	MOVQ(param("c"), c)
	o.enter(partly("zeros"))
	CMPQ(o.panels, U8(1))
	JE(LabelRef("only"))
	panel("first", true, false, false)
	Label("others")
	o.next()
	JZ(LabelRef("next"))
	o.enter(partly("part"))
	CMPQ(o.panels, U8(1))
	JE(LabelRef("end"))
	panel("middle", false, false, false)
	JMP(LabelRef("others"))
	Label("end")
	panel("last", false, true, false)
	JMP(LabelRef("next"))
	Label("only")
	panel("lone", true, true, false)
	JMP(LabelRef("next"))
	if parts {
		Label("zeros")
		MOVQ(param("r"), r)
		s.zero(acc[0])
		zeros := GP64()
		MOVQ(param("lines"), zeros)
		Label("zero")
		for col := 0; col < t.cols(); col += s.width {
			VMOVUPD(acc[0], Mem{Base: r, Disp: 8 * col})
		}
		ADDQ(U32(8*t.cols()), r)
		DECQ(zeros)
		JNZ(LabelRef("zero"))
		Label("part")
		CMPQ(o.panels, U8(1))
		JE(LabelRef("partend"))
		panel("partmiddle", false, false, true)
		JMP(LabelRef("others"))
		Label("partend")
		panel("partlast", false, true, true)
	}
	Label("next")
	ADDQ(param("stride"), o.tile)
	pow.next()
	DECQ(left)
	JNZ(LabelRef("tile"))
	VCMPPS(U8(unordered), finite, finite, finite)
	VPTEST(finite, finite)
	ok := GP8()
	SETEQ(ok)
	VZEROUPPER()
	Store(ok, ReturnIndex(0))
	RET()
}

// unordered is VCMPPS' predicate for where one is NaN.
const unordered = 3

// out rounds sixteen sums to float32. finite gets zero times each added, which is NaN of what is not
// finite: an addition and multiplication, as conversions leave room for them.
func out(s isa, acc []Register, to Mem, zero, finite Register) {
	f := make([]Register, 2)
	if s.width == 8 {
		f[0], f[1] = YMM(), YMM()
		for j, a := range acc {
			VCVTPD2PS(a, f[j])
		}
	} else {
		for j := range f {
			f[j] = acc[2*j]
			lo, hi := acc[2*j].(VecVirtual).AsX(), acc[2*j+1].(VecVirtual).AsX()
			VCVTPD2PSY(acc[2*j], lo)
			VCVTPD2PSY(acc[2*j+1], hi)
			VINSERTF128(U8(1), hi, f[j], f[j])
		}
	}
	for j, f := range f {
		VMOVUPS(f, to.Offset(32*j))
		VFMADD231PS(f, zero, finite)
	}
}

// fetchFar asks for a line as fetch does.
func (s isa) fetchFar(m Mem) {
	if s.width == 8 {
		PREFETCHNTA(m)
		return
	}
	PREFETCHT0(m)
}

// dotsTiles keeps the sums of a panel's slots in registers, where all are in. The first panel makes the
// vector's numbers float64, for the others they lie at w.
func dotsTiles(t dtype) {
	s := avx512
	TEXT("dotsTiles"+t.name+s.name, NOSPLIT, "func(y, w *float64, base *byte, tiles, stride int, list *int, panels int, exp *int16, x *byte, lines, ahead int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("dotsTiles%s%s is Variant.dotsTiles.", t.name, s.name))
	y, x, w := Load(Param("y"), GP64()), Load(Param("x"), GP64()), GP64()
	s.useSpread(t, "dotsTiles"+t.name+s.name)
	defer endSpread()
	acc, v, xv := s.vecs(panelSlots), s.vec(), s.vec()
	o, left, pow := newOverTiles(), Load(Param("tiles"), GP64()), newPowers(t)
	panel := func(name string, first bool) {
		o.enter("")
		pow.load(o)
		for _, a := range acc {
			s.zero(a)
		}
		MOVQ(param("w"), w)
		o.lines(name, false, func() {
			for col := 0; col < t.cols(); col += 8 {
				at := Mem{Base: w, Disp: 8 * col}
				if first {
					if col%16 == 0 {
						PREFETCHT0(Mem{Base: x, Disp: vectorAhead + 4*col})
					}
					VCVTPS2PD(Mem{Base: x, Disp: 4 * col}, xv)
					VMOVUPD(xv, at)
				} else {
					VMOVUPD(at, xv)
				}
				for i, a := range acc {
					if col == 0 {
						s.fetchFar(Mem{Base: o.far, Disp: lineBytes * i})
					}
					s.load(t, o.slot(i, col*t.size), v)
					VFMADD231PD(xv, v, a)
				}
			}
			ADDQ(U32(8*t.cols()), w)
			if first {
				ADDQ(U32(4*t.cols()), x)
			}
		})
		for i, a := range acc {
			total8(a, Mem{Base: y, Disp: 8 * i})
		}
		if pow != nil {
			pow.over(Mem{Base: y}, Mem{Base: y})
		}
		ADDQ(U8(8*panelSlots), y)
		o.next()
	}
	Label("tile")
	o.begin()
	panel("first", true)
	JZ(LabelRef("next"))
	Label("others")
	panel("panel", false)
	JNZ(LabelRef("others"))
	Label("next")
	ADDQ(param("stride"), o.tile)
	pow.next()
	DECQ(left)
	JNZ(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// vectorAhead is how many bytes ahead of a vector in float32 are asked for: a tile's.
const vectorAhead = 4096
