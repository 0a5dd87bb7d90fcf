package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// blockLines is the lines of a panel that AVX2 goes over twice: 2 KiB stay in the first cache.
const blockLines = 4

func dots() {
	for _, s := range isas {
		for _, t := range kinds {
			TEXT("dots"+t.name+s.name, NOSPLIT, "func(y *float64, base *byte, off *int, n, stride int, x *float64, lines, ahead int)")
			Pragma("noescape")
			Doc(fmt.Sprintf("dots%s%s is Variant.dots.", t.name, s.name))
			var wait, vars Mem // of dotsTwice
			if s.width == 4 {
				wait, vars = AllocLocal(2*panelSlots*s.bytes()), AllocLocal(4*8)
			}
			s.useSpread(t, "dots"+t.name+s.name)
			byCount("n", 1, panelSlots, func(n int, label func(string) string) {
				switch {
				case s.width == 8 || n <= 6:
					dotsOnce(s, t, n, label)
				default:
					dotsTwice(s, t, n, label, wait, vars)
				}
			})
			endSpread()
		}
	}
	dot()
}

// dotsOnce keeps all eight lanes of each slot in registers.
func dotsOnce(s isa, t dtype, n int, label func(string) string) {
	g, x := loadSlots(n), Load(Param("x"), GP64())
	lines := Load(Param("lines"), GP64())
	parts := 8 / s.width // registers for the lanes of a slot
	acc := make([][]Register, n)
	for i := range acc {
		acc[i] = s.vecs(parts)
		for _, a := range acc[i] {
			s.zero(a)
		}
	}
	v, odd, far := s.vec(), s.oddHalves(t), g.far()
	Label(label("line"))
	for col := 0; col < t.cols(); col += 8 {
		xs, at := s.vecs(parts), Mem{Base: x, Disp: 8 * col}
		for h, xv := range xs {
			if parts == 1 {
				VMOVUPD(at, xv)
			} else {
				s.half(t, at, h, xv)
			}
		}
		for i := range n {
			if col == 0 {
				s.fetch(g, far, i)
			}
			for h, xv := range xs {
				if parts == 1 {
					s.load(t, g.at(i, col*t.size), v)
				} else {
					s.loadHalf(t, g.at(i, col*t.size), h, odd, v)
				}
				VFMADD231PD(xv, v, acc[i][h])
			}
		}
	}
	g.next()
	g.nextFar(far)
	ADDQ(U32(8*t.cols()), x)
	DECQ(lines)
	JNZ(LabelRef(label("line")))
	y := Load(Param("y"), GP64())
	for i := range n {
		to := Mem{Base: y, Disp: 8 * i}
		if parts == 1 {
			total8(acc[i][0], to)
		} else {
			s.totalHalves(t, acc[i], to)
		}
	}
}

// dotsTwice goes over a block of lines for one half of the lanes, then for the other: sixteen
// registers can't hold all lanes of eight slots. What waits lies on the stack.
func dotsTwice(s isa, t dtype, n int, label func(string) string, wait, vars Mem) {
	g, x := loadSlots(n), Load(Param("x"), GP64())
	lane := func(half, i int) Mem { return wait.Offset((half*n + i) * s.bytes()) }
	acc := s.vecs(n)
	s.zero(acc[0])
	for half := range 2 {
		for i := range n {
			VMOVUPD(acc[0], lane(half, i))
		}
	}
	far := g.far()
	lines, count := Load(Param("lines"), GP64()), GP64()
	leftAt, countAt, baseAt, xAt := vars, vars.Offset(8), vars.Offset(16), vars.Offset(24)
	MOVQ(lines, leftAt)

	Label(label("block"))
	left := GP64()
	MOVQ(leftAt, left)
	MOVQ(U32(blockLines), count)
	CMPQ(left, count)
	CMOVQLT(left, count)
	SUBQ(count, left)
	MOVQ(left, leftAt)
	MOVQ(count, countAt)
	MOVQ(g.base, baseAt)
	MOVQ(x, xAt)
	v, odd := s.vec(), s.oddHalves(t)
	for half := range 2 {
		if half == 1 {
			MOVQ(countAt, count)
			MOVQ(baseAt, g.base)
			MOVQ(xAt, x)
		}
		for i := range n {
			VMOVUPD(lane(half, i), acc[i])
		}
		line := label(fmt.Sprintf("half%dline", half))
		Label(line)
		for col := 0; col < t.cols(); col += 8 {
			xv := s.vec()
			s.half(t, Mem{Base: x, Disp: 8 * col}, half, xv)
			for i := range n {
				if half == 1 && col == 0 { // which waits for nothing
					s.fetch(g, far, i)
				}
				s.loadHalf(t, g.at(i, col*t.size), half, odd, v)
				VFMADD231PD(xv, v, acc[i])
			}
		}
		g.next()
		if half == 1 {
			g.nextFar(far)
		}
		ADDQ(U32(8*t.cols()), x)
		DECQ(count)
		JNZ(LabelRef(line))
		for i := range n {
			VMOVUPD(acc[i], lane(half, i))
		}
	}
	CMPQ(leftAt, U8(0))
	JNE(LabelRef(label("block")))
	y := Load(Param("y"), GP64())
	for i := range n {
		halves := s.vecs(2)
		for h, v := range halves {
			VMOVUPD(lane(h, i), v)
		}
		s.totalHalves(t, halves, Mem{Base: y, Disp: 8 * i})
	}
}

// dot is the product of two vectors in float64.
func dot() {
	TEXT("dotAVX2", NOSPLIT, "func(x, y *float64, n int) float64")
	Pragma("noescape")
	Doc("dotAVX2 is Variant.dot.")
	x, y, n := Load(Param("x"), GP64()), Load(Param("y"), GP64()), Load(Param("n"), GP64())
	low, high := YMM(), YMM()
	avx2.zero(low)
	avx2.zero(high)
	Label("eight")
	for i, acc := range []Register{low, high} {
		v := YMM()
		VMOVUPD(Mem{Base: x, Disp: 32 * i}, v)
		VFMADD231PD(Mem{Base: y, Disp: 32 * i}, v, acc)
	}
	ADDQ(U8(64), x)
	ADDQ(U8(64), y)
	SUBQ(U8(8), n)
	JNZ(LabelRef("eight"))
	out := AllocLocal(8)
	total(low, high, out)
	r := XMM()
	VMOVSD(out, r)
	VZEROUPPER()
	Store(r, ReturnIndex(0))
	RET()
}
