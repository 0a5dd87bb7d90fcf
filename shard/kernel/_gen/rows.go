package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// rows has what a row goes through on its way in and a result on its way out. It is AVX2 alone:
// memory is the limit.
func rows() {
	for _, t := range append(kinds, f64) {
		expand(t)
	}
	put()
	toBF16()
	toF16()
	finish()
	round()
}

func expand(t dtype) {
	TEXT("expand"+t.name+"AVX2", NOSPLIT, "func(x *float64, p *byte, stride, lines int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("expand%sAVX2 is Variant.expand.", t.name))
	x, p := Load(Param("x"), GP64()), Load(Param("p"), GP64())
	stride, lines := Load(Param("stride"), GP64()), Load(Param("lines"), GP64())
	Label("line")
	for col := 0; col < t.cols(); col += 4 {
		v := YMM()
		avx2.load(t, Mem{Base: p, Disp: col * t.size}, v)
		VMOVUPD(v, Mem{Base: x, Disp: 8 * col})
	}
	ADDQ(stride, p)
	ADDQ(U32(8*t.cols()), x)
	DECQ(lines)
	JNZ(LabelRef("line"))
	VZEROUPPER()
	RET()
}

// writeLines is a function of lines: line computes two registers that make one, which go to memory
// past the caches, where a line at a time would be read first.
func writeLines(name, params string, size int, setup func(), line func(p Register) [2]Register) {
	TEXT(name, NOSPLIT, "func(base *byte, stride int, "+params+")")
	Pragma("noescape")
	Doc(name + " is the Variant's function of that name.")
	g, stride := Load(Param("base"), GP64()), Load(Param("stride"), GP64())
	p, lines := Load(Param("p"), GP64()), Load(Param("lines"), GP64())
	setup()
	Label("line")
	for i, v := range line(p) {
		VMOVNTPS(v, Mem{Base: g, Disp: 32 * i})
	}
	ADDQ(U32(size), p)
	ADDQ(stride, g)
	DECQ(lines)
	JNZ(LabelRef("line"))
	SFENCE()
	VZEROUPPER()
	RET()
}

func put() {
	writeLines("putAVX2", "p *byte, lines int", lineBytes, func() {}, func(p Register) (v [2]Register) {
		for i := range v {
			v[i] = YMM()
			VMOVUPS(Mem{Base: p, Disp: 32 * i}, v[i])
		}
		return v
	})
}

func constant(name string, v uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	DATA(0, U32(v))
	return m
}

func toBF16() {
	half := constant("half", 0x7fff)
	one := constant("one", 1)
	quiet := constant("quiet", 0x40)
	h, o, q := YMM(), YMM(), YMM()
	writeLines("toBF16AVX2", "p *float32, lines int", 2*lineBytes, func() {
		VPBROADCASTD(half, h)
		VPBROADCASTD(one, o)
		VPBROADCASTD(quiet, q)
	}, func(p Register) (v [2]Register) {
		for i := range v {
			var part [2]Register
			for j := range part {
				x, r, nan := YMM(), YMM(), YMM()
				VMOVUPS(Mem{Base: p, Disp: 64*i + 32*j}, x)
				VCMPPS(U8(3), x, x, nan) // unordered: NaN
				VPSRLD(U8(16), x, r)
				keep := YMM()
				VPOR(q, r, keep)
				VPAND(o, r, r)
				VPADDD(h, r, r)
				VPADDD(x, r, r)
				VPSRLD(U8(16), r, r)
				VPBLENDVB(nan, keep, r, r)
				part[j] = r
			}
			v[i] = YMM()
			VPACKUSDW(part[1], part[0], v[i])
			VPERMQ(U8(0b11_01_10_00), v[i], v[i])
		}
		return v
	})
}

func toF16() {
	s1, s2 := YMM(), YMM()
	writeLines("toF16AVX2", "p *float32, lines int, e int", 2*lineBytes, func() {
		// Times 2^⌊e/2⌋, then times the rest: 2^e itself may be past float32's range.
		e, e1 := Load(Param("e"), GP64()), GP64()
		MOVQ(e, e1)
		SARQ(U8(1), e1)
		SUBQ(e1, e)
		for _, f := range []struct{ e, s Register }{{e1, s1}, {e, s2}} {
			ADDQ(U8(127), f.e)
			SHLQ(U8(23), f.e)
			x := f.s.(VecVirtual).AsX()
			MOVD(f.e.(GPVirtual).As32(), x)
			VBROADCASTSS(x, f.s)
		}
	}, func(p Register) (v [2]Register) {
		for i := range v {
			var part [2]Register
			for j := range part {
				x := YMM()
				VMULPS(Mem{Base: p, Disp: 64*i + 32*j}, s1, x)
				VMULPS(s2, x, x)
				part[j] = XMM()
				VCVTPS2PH(U8(0), x, part[j]) // to nearest even
			}
			v[i] = YMM()
			VINSERTF128(U8(1), part[1], part[0].(VecVirtual).AsY(), v[i])
		}
		return v
	})
}

func finish() {
	TEXT("finishAVX2", NOSPLIT, "func(r, x *float64, lambda float64, n int)")
	Pragma("noescape")
	Doc("finishAVX2 is Variant.finish.")
	r, x, n := Load(Param("r"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	l := YMM()
	lambda, err := Param("lambda").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSD(lambda.Addr, l)
	Label("sixteen")
	for i := range 4 {
		v := YMM()
		VMOVUPD(Mem{Base: x, Disp: 32 * i}, v)
		VSUBPD(Mem{Base: r, Disp: 32 * i}, v, v)
		VDIVPD(l, v, v)
		VMOVUPD(v, Mem{Base: r, Disp: 32 * i})
	}
	ADDQ(U32(128), x)
	ADDQ(U32(128), r)
	SUBQ(U8(16), n)
	JNZ(LabelRef("sixteen"))
	VZEROUPPER()
	RET()
}

func round() {
	exponent := constant("exponent", math.Float32bits(float32(math.Inf(1))))
	TEXT("roundAVX2", NOSPLIT, "func(p *byte, x *float64, n int) bool")
	Pragma("noescape")
	Doc("roundAVX2 is Variant.round.")
	p, x, n := Load(Param("p"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	e, bad := XMM(), XMM()
	VPBROADCASTD(exponent, e)
	VPXOR(bad, bad, bad)
	Label("sixteen")
	for i := range 4 {
		f, b := XMM(), XMM()
		VCVTPD2PSY(Mem{Base: x, Disp: 32 * i}, f)
		VMOVUPS(f, Mem{Base: p, Disp: 16 * i})
		VPAND(e, f, b)
		VPCMPEQD(e, b, b)
		VPOR(b, bad, bad)
	}
	ADDQ(U32(64), p)
	ADDQ(U32(128), x)
	SUBQ(U8(16), n)
	JNZ(LabelRef("sixteen"))
	VPTEST(bad, bad)
	ok := GP8()
	SETEQ(ok)
	VZEROUPPER()
	Store(ok, ReturnIndex(0))
	RET()
}
