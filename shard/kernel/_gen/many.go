package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// group is the most rows of either side whose products' lanes registers can hold.
func group(s isa) (p, q int) {
	if s.width == 8 {
		return 4, 6
	}
	return 3, 4
}

func many() {
	for _, s := range isas {
		for _, t := range append(kinds, f64) {
			pack(s, t)
		}
		manyDots(s)
	}
	fetch()
}

// fetch asks for lines ahead of their use, into the second cache.
func fetch() {
	TEXT("fetchAMD64", NOSPLIT, "func(base *byte, offset, stride, lines int)")
	Pragma("noescape")
	Doc("fetchAMD64 is many.fetch.")
	at, n := Load(Param("base"), GP64()), Load(Param("lines"), GP64())
	offset, stride := Load(Param("offset"), GP64()), Load(Param("stride"), GP64())
	ADDQ(offset, at)
	Label("line")
	PREFETCHT1(Mem{Base: at})
	ADDQ(stride, at)
	DECQ(n)
	JNZ(LabelRef("line"))
	RET()
}

// pack writes a row as many.pack says.
func pack(s isa, t dtype) {
	params := "base *byte, stride, lines int"
	if t == f64 {
		params = "x *float64, n int"
	}
	TEXT("pack"+t.name+s.name, NOSPLIT, "func(dst *float64, step, half int, "+params+")")
	Pragma("noescape")
	Doc(fmt.Sprintf("pack%s%s is many.pack.", t.name, s.name))
	dst, step := Load(Param("dst"), GP64()), Load(Param("step"), GP64())
	var g, stride, count Register
	cols := t.cols()
	if t == f64 {
		g, count = Load(Param("x"), GP64()), Load(Param("n"), GP64())
		SHRQ(U8(3), count)
	} else {
		g, stride, count = Load(Param("base"), GP64()), Load(Param("stride"), GP64()), Load(Param("lines"), GP64())
	}
	var odd Register
	if s.width == 4 {
		odd = Load(Param("half"), GP64())
		ADDQ(dst, odd)
	}
	Label("line")
	for col := 0; col < cols; col += 8 {
		if s.width == 8 {
			v := s.vec()
			s.load(t, Mem{Base: g, Disp: col * t.size}, v)
			VMOVUPD(v, Mem{Base: dst})
		} else {
			low, high, e, o := s.vec(), s.vec(), s.vec(), s.vec()
			s.load(t, Mem{Base: g, Disp: col * t.size}, low)
			s.load(t, Mem{Base: g, Disp: (col + 4) * t.size}, high)
			VUNPCKLPD(high, low, e) // columns 0, 4, 2, 6
			VUNPCKHPD(high, low, o) // columns 1, 5, 3, 7
			VMOVUPD(e, Mem{Base: dst})
			VMOVUPD(o, Mem{Base: odd})
			ADDQ(step, odd)
		}
		ADDQ(step, dst)
	}
	if t == f64 {
		ADDQ(U8(lineBytes), g)
	} else {
		ADDQ(stride, g)
	}
	DECQ(count)
	JNZ(LabelRef("line"))
	VZEROUPPER()
	RET()
}

func manyDots(s isa) {
	mostP, mostQ := group(s)
	TEXT("many"+s.name, NOSPLIT, "func(y *float64, ld int, a, b *float64, p, q, steps int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("many%s is many.dots.", s.name))
	p, q := Load(Param("p"), GP64()), Load(Param("q"), GP64())
	SHLQ(U8(4), p)
	ORQ(q, p)
	name := func(i, j int) string { return fmt.Sprintf("p%dq%d", i, j) }
	for i := mostP; i > 0; i-- {
		for j := mostQ; j > 0; j-- {
			CMPQ(p, U8(i<<4|j))
			JEQ(LabelRef(name(i, j)))
		}
	}
	RET()
	for i := 1; i <= mostP; i++ {
		for j := 1; j <= mostQ; j++ {
			Label(name(i, j))
			manyBlock(s, i, j, name(i, j)+"step")
			VZEROUPPER()
			RET()
		}
	}
}

// manyBlock keeps the lanes of p·q products in registers; of a step it loads p + q.
func manyBlock(s isa, p, q int, loop string) {
	a, b, steps := Load(Param("a"), GP64()), Load(Param("b"), GP64()), Load(Param("steps"), GP64())
	acc := make([][]Register, p)
	for i := range acc {
		acc[i] = s.vecs(q)
		for _, v := range acc[i] {
			s.zero(v)
		}
	}
	av, bv := s.vecs(p), s.vec()
	Label(loop)
	const unroll = 2 // of an even number of steps
	for u := range unroll {
		for i := range p {
			VMOVUPD(Mem{Base: a, Disp: s.bytes() * (u*p + i)}, av[i])
		}
		for j := range q {
			VMOVUPD(Mem{Base: b, Disp: s.bytes() * (u*q + j)}, bv)
			for i := range p {
				VFMADD231PD(av[i], bv, acc[i][j])
			}
		}
	}
	ADDQ(U32(unroll*p*s.bytes()), a)
	ADDQ(U32(unroll*q*s.bytes()), b)
	SUBQ(U8(unroll), steps)
	JNZ(LabelRef(loop))
	y, ld := Load(Param("y"), GP64()), Load(Param("ld"), GP64())
	for j := range q {
		for i := 0; i < p; i++ {
			to := Mem{Base: y, Disp: 8 * i}
			if s.width == 8 {
				total8(acc[i][j], to)
				continue
			}
			// Lanes 0, 4, 2, 6 or 1, 5, 3, 7: first (0+4) and (2+6), of two rows where there are two.
			next := min(i+1, p-1)
			sum, hi := YMM(), XMM()
			VHADDPD(acc[next][j], acc[i][j], sum)
			VEXTRACTF128(U8(1), sum, hi)
			lo := sum.AsX()
			VADDPD(hi, lo, lo)
			if next == i {
				VMOVSD(lo, to)
				continue
			}
			VMOVUPD(lo, to)
			i++
		}
		LEAQ(Mem{Base: y, Index: ld, Scale: 8}, y)
	}
}
