package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func combine() {
	for _, s := range isas {
		for _, t := range kinds {
			TEXT("combine"+t.name+s.name, NOSPLIT, "func(r *float64, base *byte, off *int, n, stride int, c *float64, lines, ahead, keep int)")
			Pragma("noescape")
			Doc(fmt.Sprintf("combine%s%s is Variant.combine.", t.name, s.name))
			s.useSpread(t, "combine"+t.name+s.name)
			byCount("n", 1, panelSlots, func(n int, label func(string) string) { combineOne(s, t, n, label) })
			endSpread()
		}
	}
	combineFull(avx2, f32)
	for _, s := range isas {
		for _, t := range kinds {
			TEXT("combineMany"+t.name+s.name, NOSPLIT, "func(r *float64, ldr int, base *byte, panels, next int, c *float64, p, lines int)")
			Pragma("noescape")
			Doc(fmt.Sprintf("combineMany%s%s is Variant.combineMany.", t.name, s.name))
			byCount("p", 2, mostCombine(s), func(p int, label func(string) string) { combineMany(s, t, p, label) })
		}
	}
}

// loadKeep reads the parameter keep: 0 makes zeros of sums so far, −1 keeps them.
func (s isa) loadKeep() Register {
	keep := Load(Param("keep"), GP64())
	if s.width == 8 {
		k := K()
		KMOVW(keep.(GPVirtual).As32(), k)
		return k
	}
	v := YMM()
	VMOVQ(keep, v.AsX())
	VPBROADCASTQ(v.AsX(), v)
	return v
}

// combineOne keeps the coefficients in registers, and goes over sixteen columns at a time.
func combineOne(s isa, t dtype, n int, label func(string) string) {
	c := Load(Param("c"), GP64())
	cs := s.vecs(n)
	for i, v := range cs {
		VBROADCASTSD(Mem{Base: c, Disp: 8 * i}, v)
	}
	g, r := loadSlots(n), Load(Param("r"), GP64())
	lines := Load(Param("lines"), GP64())
	acc, v := s.vecs(16/s.width), s.vecs(2)
	odd, far := s.oddHalves(t), g.far()
	kept := s.loadKeep()
	Label(label("line"))
	for col := 0; col < t.cols(); col += 16 {
		at := func(j int) Mem { return Mem{Base: r, Disp: 8*col + s.bytes()*j} }
		for j, a := range acc {
			if s.width == 8 {
				VMOVUPD_Z(at(j), kept, a)
			} else {
				s.half(t, at(j&^1), j%2, a)
				VANDPD(kept, a, a)
			}
		}
		for i := range n {
			if col == 0 {
				s.fetch(g, far, i)
			}
			for j, a := range acc {
				if s.width == 8 {
					s.load(t, g.at(i, (col+8*j)*t.size), v[j%2])
				} else {
					s.loadHalf(t, g.at(i, (col+j/2*8)*t.size), j%2, odd, v[j%2])
				}
				VFMADD231PD(v[j%2], cs[i], a)
			}
		}
		if s.width == 8 {
			for j, a := range acc {
				VMOVUPD(a, at(j))
			}
			continue
		}
		for j := 0; j < len(acc); j += 2 {
			s.store(t, acc[j:j+2], at(j))
		}
	}
	g.next()
	g.nextFar(far)
	ADDQ(U32(8*t.cols()), r)
	DECQ(lines)
	JNZ(LabelRef(label("line")))
}

// combineFull is combineOne for several full panels: sixteen columns of each in turn, so that memory
// is read in as many streams, and sums stay in registers.
func combineFull(s isa, t dtype) {
	TEXT("combineFull"+t.name+s.name, NOSPLIT, "func(r *float64, base *byte, panels, next int, c *float64, lines, keep int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("combineFull%s%s is Variant.combineFull.", t.name, s.name))
	r, base := Load(Param("r"), GP64()), Load(Param("base"), GP64())
	panels, next := Load(Param("panels"), GP64()), Load(Param("next"), GP64())
	c, lines := Load(Param("c"), GP64()), Load(Param("lines"), GP64())
	acc, v, ci, odd := s.vecs(4), s.vecs(2), s.vec(), s.oddHalves(t)
	g := slots{n: panelSlots, base: GP64()}
	cAt, panel := GP64(), GP64()
	kept := s.loadKeep()
	Label("line")
	for col := 0; col < t.cols(); col += 16 {
		at := func(j int) Mem { return Mem{Base: r, Disp: 8*col + s.bytes()*j} }
		for j, a := range acc {
			VANDPD(at(j), kept, a)
		}
		MOVQ(base, g.base)
		MOVQ(c, cAt)
		MOVQ(panels, panel)
		loop := fmt.Sprintf("panel%d", col)
		Label(loop)
		for i := range panelSlots {
			VBROADCASTSD(Mem{Base: cAt, Disp: 8 * i}, ci)
			for j, a := range acc {
				s.loadHalf(t, g.at(i, (col+j/2*8)*t.size), j%2, odd, v[j%2])
				VFMADD231PD(v[j%2], ci, a)
			}
		}
		ADDQ(next, g.base)
		ADDQ(U8(8*panelSlots), cAt)
		DECQ(panel)
		JNZ(LabelRef(loop))
		for j := 0; j < len(acc); j += 2 {
			s.store(t, acc[j:j+2], at(j))
		}
	}
	ADDQ(U32(full), base)
	ADDQ(U32(8*t.cols()), r)
	DECQ(lines)
	JNZ(LabelRef("line"))
	VZEROUPPER()
	RET()
}

// mostCombine is the most vectors at once: with two registers each, what the CPU has allows it.
func mostCombine(s isa) int {
	if s.width == 8 {
		return 8
	}
	return 6
}

// combineMany keeps two registers of columns of p vectors, and loads a coefficient at a time.
func combineMany(s isa, t dtype, p int, label func(string) string) {
	r, ldr := Load(Param("r"), GP64()), Load(Param("ldr"), GP64())
	g := slots{n: panelSlots, base: Load(Param("base"), GP64())}
	c, lines := Load(Param("c"), GP64()), Load(Param("lines"), GP64())
	SHLQ(U8(3), ldr)
	at := rowsOf(r, ldr, p)
	cols := 2 * s.width
	const unroll = 2 // slots
	panels, next := Load(Param("panels"), GP64()), Load(Param("next"), GP64())
	count, panel, slot, at0, c0 := GP64(), GP64(), GP64(), g.base, c
	g.base, c = GP64(), GP64()
	SUBQ(U32(full), next)
	acc := make([][]Register, p)
	for i := range acc {
		acc[i] = s.vecs(2)
	}
	v, ci := s.vecs(2), s.vec()

	Label(label("line"))
	MOVQ(U32(t.cols()/cols), count)
	Label(label("columns"))
	for i := range p {
		for j, a := range acc[i] {
			VMOVUPD(at(i, s.bytes()*j), a)
		}
	}
	MOVQ(at0, g.base)
	MOVQ(c0, c)
	MOVQ(panels, panel)
	Label(label("panel"))
	MOVQ(U32(panelSlots/unroll), slot)
	Label(label("slot"))
	for u := range unroll {
		for j := range v {
			s.load(t, g.at(u, s.width*j*t.size), v[j])
		}
		for i := range p {
			VBROADCASTSD(Mem{Base: c, Disp: 8 * (u*mostCombine(s) + i)}, ci)
			for j, a := range acc[i] {
				VFMADD231PD(v[j], ci, a)
			}
		}
	}
	ADDQ(U8(unroll*lineBytes), g.base)
	ADDQ(U8(unroll*8*mostCombine(s)), c)
	DECQ(slot)
	JNZ(LabelRef(label("slot")))
	ADDQ(next, g.base)
	DECQ(panel)
	JNZ(LabelRef(label("panel")))
	for i := range p {
		for j, a := range acc[i] {
			VMOVUPD(a, at(i, s.bytes()*j))
		}
	}
	ADDQ(U32(cols*t.size), at0)
	ADDQ(U32(8*cols), r)
	DECQ(count)
	JNZ(LabelRef(label("columns")))
	ADDQ(U32(full-lineBytes), at0)
	DECQ(lines)
	JNZ(LabelRef(label("line")))
}

// rowsOf addresses up to eight rows ld bytes apart.
func rowsOf(base, ld Register, n int) func(i, disp int) Mem {
	odd := map[int]Register{1: ld}
	for i := 3; i < n; i += 2 {
		odd[i] = GP64()
		LEAQ(Mem{Base: odd[i-2], Index: ld, Scale: 2}, odd[i])
	}
	return func(i, disp int) Mem {
		m := Mem{Base: base, Disp: disp}
		if i > 0 {
			m.Scale = 1
			for i%2 == 0 {
				i, m.Scale = i/2, 2*m.Scale
			}
			m.Index = odd[i]
		}
		return m
	}
}
