package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// tiles has passes over tiles whose panels are all full. They read as the others do, a panel after
// the other; but what a call costs comes once for some tiles, not twice for each panel.
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

// overTiles writes the loops over tiles, their panels, and lines. panel does what comes before and
// after a panel's lines, which lines writes; there are three: that of a first panel, of those that
// follow, and of the last one.
type overTiles struct{ g, far, tile, panels, count Register }

func newOverTiles() overTiles {
	return overTiles{g: GP64(), far: GP64(), tile: Load(Param("base"), GP64()), panels: GP64(), count: GP64()}
}

func (o overTiles) slot(i, disp int) Mem { return Mem{Base: o.g, Disp: lineBytes*i + disp} }

// lines writes the loop over a panel's lines.
func (o overTiles) lines(name string, body func()) {
	MOVQ(param("lines"), o.count)
	Label(name)
	body()
	ADDQ(U32(full), o.g)
	ADDQ(U32(full), o.far)
	DECQ(o.count)
	JNZ(LabelRef(name))
}

// begin goes to the tile's first panel.
func (o overTiles) begin() {
	MOVQ(o.tile, o.g)
	MOVQ(param("ahead"), o.far)
	ADDQ(o.g, o.far)
	MOVQ(param("panels"), o.panels)
}

// combineTiles goes over sixteen columns at a time, with the coefficients of a panel in registers. The
// first panel's sums begin as zero, the last one's go out; in between they lie at r.
func combineTiles(s isa, t dtype) {
	TEXT("combineTiles"+t.name+s.name, NOSPLIT, "func(p *byte, r *float64, base *byte, tiles, stride, panels int, c *float64, next, lines, ahead int) bool")
	Pragma("noescape")
	Doc(fmt.Sprintf("combineTiles%s%s is Variant.combineTiles.", t.name, s.name))
	e, bad := YMM(), YMM()
	VPBROADCASTD(constant("exponentTiles"+t.name+s.name, 0x7f800000), e)
	VPXOR(bad, bad, bad)
	s.useSpread(t, "combineTiles"+t.name+s.name)
	defer endSpread()
	acc, v, cs := s.vecs(16/s.width), s.vecs(2), s.vecs(panelSlots)
	o, p, r := newOverTiles(), Load(Param("p"), GP64()), GP64()
	c, cTile := GP64(), Load(Param("c"), GP64())
	left := Load(Param("tiles"), GP64())

	panel := func(name string, first, last bool) {
		MOVQ(param("r"), r)
		for i, ci := range cs {
			VBROADCASTSD(Mem{Base: c, Disp: 8 * i}, ci)
		}
		ADDQ(U8(8*panelSlots), c)
		o.lines(name, func() {
			for col := 0; col < t.cols(); col += 16 {
				sums := func(j int) Mem { return Mem{Base: r, Disp: 8*col + s.bytes()*j} }
				if last {
					PREFETCHT0(Mem{Base: p, Disp: roundAhead + 4*col})
				}
				for j, a := range acc {
					if first {
						s.zero(a)
					} else {
						VMOVUPD(sums(j), a)
					}
				}
				for i := range panelSlots {
					if col == 0 {
						s.fetchFar(Mem{Base: o.far, Disp: lineBytes * i})
					}
					for j, a := range acc {
						x := v[j%2]
						s.load(t, o.slot(i, (col+s.width*j)*t.size), x)
						VFMADD231PD(x, cs[i], a)
					}
				}
				if last {
					out(s, acc, Mem{Base: p, Disp: 4 * col}, e, bad)
					continue
				}
				for j, a := range acc {
					VMOVUPD(a, sums(j))
				}
			}
			if !(first && last) {
				ADDQ(U32(8*t.cols()), r)
			}
			if last {
				ADDQ(U32(4*t.cols()), p)
			}
		})
	}
	Label("tile")
	o.begin()
	MOVQ(cTile, c)
	DECQ(o.panels)
	JZ(LabelRef("only"))
	panel("first", true, false)
	Label("others")
	DECQ(o.panels)
	JZ(LabelRef("end"))
	panel("middle", false, false)
	JMP(LabelRef("others"))
	Label("end")
	panel("last", false, true)
	JMP(LabelRef("next"))
	Label("only")
	panel("lone", true, true)
	Label("next")
	ADDQ(param("stride"), o.tile)
	ADDQ(param("next"), cTile)
	DECQ(left)
	JNZ(LabelRef("tile"))
	VPTEST(bad, bad)
	ok := GP8()
	SETEQ(ok)
	VZEROUPPER()
	Store(ok, ReturnIndex(0))
	RET()
}

// out rounds sixteen sums to float32 and marks in bad what is not finite.
func out(s isa, acc []Register, to Mem, e, bad Register) {
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
		VPAND(e, f, f)
		VPCMPEQD(e, f, f)
		VPOR(f, bad, bad)
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

// dotsTiles keeps the sums of a panel's slots in registers. The first panel makes the vector's numbers
// float64, for the others they lie at w.
func dotsTiles(t dtype) {
	s := avx512
	TEXT("dotsTiles"+t.name+s.name, NOSPLIT, "func(y *float64, w *float64, base *byte, tiles, stride, panels int, x *byte, lines, ahead int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("dotsTiles%s%s is Variant.dotsTiles.", t.name, s.name))
	y, x, w := Load(Param("y"), GP64()), Load(Param("x"), GP64()), GP64()
	s.useSpread(t, "dotsTiles"+t.name+s.name)
	defer endSpread()
	acc, v, xv := s.vecs(panelSlots), s.vec(), s.vec()
	o, left := newOverTiles(), Load(Param("tiles"), GP64())
	panel := func(name string, first bool) {
		for _, a := range acc {
			s.zero(a)
		}
		MOVQ(param("w"), w)
		o.lines(name, func() {
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
		ADDQ(U8(8*panelSlots), y)
		DECQ(o.panels)
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
	DECQ(left)
	JNZ(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// vectorAhead is how many bytes ahead of a vector in float32 are asked for: a tile's.
const vectorAhead = 4096
