package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// rows has what a row goes through on its way in and a result on its way out. Nearly all of it is AVX2
// alone: memory is the limit.
func rows() {
	for _, t := range append(kinds, f64) {
		expand(t)
	}
	flush()
	top()
	put()
	toBF16()
	toF16()
	for _, t := range []dtype{bf16, f16} {
		narrow(t)
		widen(t)
	}
	finish()
	round()
	round512()
	for _, t := range []dtype{bf16, f16} {
		roundHalf(t)
	}
}

// expand asks for what lies as far ahead as it goes: the same columns of the next tile, where a vector
// is read tile by tile, between rows.
func expand(t dtype) {
	TEXT("expand"+t.name+"AVX2", NOSPLIT, "func(x *float64, p *byte, stride, lines int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("expand%sAVX2 is Variant.expand.", t.name))
	x, p := Load(Param("x"), GP64()), Load(Param("p"), GP64())
	stride, lines := Load(Param("stride"), GP64()), Load(Param("lines"), GP64())
	ahead := GP64()
	MOVQ(stride, ahead)
	IMULQ(lines, ahead)
	Label("line")
	PREFETCHT0(Mem{Base: p, Index: ahead, Scale: 1})
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

// writeLines is a function of rows in some tiles: line computes two registers that make a line of
// tile i, which go to memory past the caches, where a line at a time would be read first. flush
// orders them. The tiles' lines take turns, and the numbers of a tile's row follow those of the one
// before.
func writeLines(name, params string, size int, setup func(), line func(p, i Register) [2]Register) {
	TEXT(name, NOSPLIT, "func(base **byte, tiles, stride int, "+params+")")
	Pragma("noescape")
	Doc(name + " is the Variant's function of that name.")
	g, tiles, stride := Load(Param("base"), GP64()), Load(Param("tiles"), GP64()), Load(Param("stride"), GP64())
	p, lines := Load(Param("p"), GP64()), Load(Param("lines"), GP64())
	setup()
	row, at := GP64(), GP64()
	IMUL3Q(U32(size), lines, row)
	XORQ(at, at)
	Label("line")
	i, q, to := GP64(), GP64(), GP64()
	XORQ(i, i)
	MOVQ(p, q)
	Label("tile")
	MOVQ(Mem{Base: g, Index: i, Scale: 8}, to)
	for j, v := range line(q, i) {
		VMOVNTPS(v, Mem{Base: to, Index: at, Scale: 1, Disp: 32 * j})
	}
	ADDQ(row, q)
	INCQ(i)
	CMPQ(i, tiles)
	JNE(LabelRef("tile"))
	ADDQ(U32(size), p)
	ADDQ(stride, at)
	DECQ(lines)
	JNZ(LabelRef("line"))
	VZEROUPPER()
	RET()
}

// flush puts what writeLines wrote before all that is written later.
func flush() {
	TEXT("flushAMD64", NOSPLIT, "func()")
	Doc("flushAMD64 is Variant.flush.")
	SFENCE()
	RET()
}

// top is the largest magnitude.
func top() {
	abs := constant("magnitude", 0x7fffffff)
	TEXT("topAVX2", NOSPLIT, "func(x *float32, n int) float32")
	Pragma("noescape")
	Doc("topAVX2 is Variant.top.")
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	a, most := YMM(), []Register{YMM(), YMM()}
	VPBROADCASTD(abs, a)
	for _, m := range most {
		VPXOR(m, m, m)
	}
	Label("sixteen")
	for j, m := range most {
		v := YMM()
		VANDPS(Mem{Base: x, Disp: 32 * j}, a, v)
		VMAXPS(v, m, m)
	}
	ADDQ(U8(64), x)
	SUBQ(U8(16), n)
	JNZ(LabelRef("sixteen"))
	VMAXPS(most[1], most[0], most[0])
	lo, hi := most[0].(VecVirtual).AsX(), XMM()
	VEXTRACTF128(U8(1), most[0], hi)
	VMAXPS(hi, lo, lo)
	VPERMILPS(U8(0b00_00_11_10), lo, hi)
	VMAXPS(hi, lo, lo)
	VPERMILPS(U8(0b00_00_00_01), lo, hi)
	VMAXSS(hi, lo, lo)
	VZEROUPPER()
	Store(lo, ReturnIndex(0))
	RET()
}

func put() {
	writeLines("putAVX2", "p *byte, lines int", lineBytes, func() {}, func(p, _ Register) (v [2]Register) {
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

// rounder has the constants of rounding float32 to bfloat16.
type rounder struct{ half, one, quiet Register }

func newRounder(name string) rounder {
	r := rounder{YMM(), YMM(), YMM()}
	VPBROADCASTD(constant(name+"half", 0x7fff), r.half)
	VPBROADCASTD(constant(name+"one", 1), r.one)
	VPBROADCASTD(constant(name+"quiet", 0x40), r.quiet)
	return r
}

// bf16 turns the float32 in x into bfloat16, each in 32 bits.
func (r rounder) bf16(x Register) {
	v, nan, keep := YMM(), YMM(), YMM()
	VCMPPS(U8(3), x, x, nan) // unordered: NaN
	VPSRLD(U8(16), x, v)
	VPOR(r.quiet, v, keep)
	VPAND(r.one, v, v)
	VPADDD(r.half, v, v)
	VPADDD(x, v, v)
	VPSRLD(U8(16), v, v)
	VPBLENDVB(nan, keep, v, x)
}

// pack makes one register of two of 32-bit words below 2¹⁶.
func pack16(low, high Register) Register {
	v := YMM()
	VPACKUSDW(high, low, v)
	VPERMQ(U8(0b11_01_10_00), v, v)
	return v
}

func toBF16() {
	var r rounder
	writeLines("toBF16AVX2", "p *float32, lines int", 2*lineBytes, func() { r = newRounder("line") }, func(p, _ Register) (v [2]Register) {
		for i := range v {
			part := []Register{YMM(), YMM()}
			for j, x := range part {
				VMOVUPS(Mem{Base: p, Disp: 64*i + 32*j}, x)
				r.bf16(x)
			}
			v[i] = pack16(part[0], part[1])
		}
		return v
	})
}

// narrow is toBF16 or toF16 to any place, without a power of two.
func narrow(t dtype) {
	TEXT("narrow"+t.name+"AVX2", NOSPLIT, "func(p *byte, x *float32, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("narrow%sAVX2 is Variant.narrow.", t.name))
	p, x, n := Load(Param("p"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	var r rounder
	if t == bf16 {
		r = newRounder("narrow")
	}
	Label("sixteen")
	part := []Register{YMM(), YMM()}
	for j, v := range part {
		VMOVUPS(Mem{Base: x, Disp: 32 * j}, v)
		if t == bf16 {
			r.bf16(v)
		} else {
			VCVTPS2PH(U8(0), v, Mem{Base: p, Disp: 16 * j})
		}
	}
	if t == bf16 {
		VMOVDQU(pack16(part[0], part[1]), Mem{Base: p})
	}
	ADDQ(U8(64), x)
	ADDQ(U8(32), p)
	SUBQ(U8(16), n)
	JNZ(LabelRef("sixteen"))
	VZEROUPPER()
	RET()
}

func widen(t dtype) {
	TEXT("widen"+t.name+"AVX2", NOSPLIT, "func(x *float32, p *byte, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("widen%sAVX2 is Variant.widen.", t.name))
	x, p, n := Load(Param("x"), GP64()), Load(Param("p"), GP64()), Load(Param("n"), GP64())
	Label("sixteen")
	for j := range 2 {
		v, m := YMM(), Mem{Base: p, Disp: 16 * j}
		if t == bf16 {
			VPMOVZXWD(m, v)
			VPSLLD(U8(16), v, v)
		} else {
			VCVTPH2PS(m, v)
		}
		VMOVUPS(v, Mem{Base: x, Disp: 32 * j})
	}
	ADDQ(U8(64), x)
	ADDQ(U8(32), p)
	SUBQ(U8(16), n)
	JNZ(LabelRef("sixteen"))
	VZEROUPPER()
	RET()
}

// roundHalf rounds float64 to 16 bits once: first to float32 as kernel.odd does, then again.
func roundHalf(t dtype) {
	exponents := uint32(0x7f80)
	if t == f16 {
		exponents = 0x7c00
	}
	exponent := constant("exponent"+t.name, exponents<<16|exponents)
	abs := constant("abs"+t.name, 0x7fffffff)
	TEXT("round"+t.name+"AVX2", NOSPLIT, "func(p *byte, x *float64, n int) bool")
	Pragma("noescape")
	Doc(fmt.Sprintf("round%sAVX2 is Variant.round.", t.name))
	p, x, n := Load(Param("p"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	r := newRounder("round" + t.name)
	e, bad, a := XMM(), XMM(), YMM()
	VPBROADCASTD(exponent, e)
	VPXOR(bad, bad, bad)
	VPBROADCASTD(abs, a)
	VPSLLQ(U8(32), a, a)
	VPOR(r.low(), a, a) // of float64

	Label("eight")
	f := []Register{XMM(), XMM()}
	for j, y := range f {
		v, back, inexact, above := YMM(), YMM(), YMM(), YMM()
		VMOVUPD(Mem{Base: x, Disp: 32 * j}, v)
		VCVTPD2PSY(v, y)
		VCVTPS2PD(y, back)
		VCMPPD(U8(4), v, back, inexact) // not equal
		VANDPD(a, v, v)
		VANDPD(a, back, back)
		VCMPPD(U8(30), v, back, above) // |back| > |v|, ordered
		for _, m := range []Register{above, inexact} {
			hi, lo := XMM(), m.(VecVirtual).AsX()
			VEXTRACTF128(U8(1), m, hi)
			VSHUFPS(U8(0b10_00_10_00), hi, lo, lo) // a word of each mask
		}
		VPADDD(above.(VecVirtual).AsX(), y, y) // one less: towards zero
		odd := inexact.(VecVirtual).AsX()
		VPSRLD(U8(31), odd, odd)
		VPOR(odd, y, y)
	}
	both, out := YMM(), XMM()
	VINSERTF128(U8(1), f[1], f[0].(VecVirtual).AsY(), both)
	if t == bf16 {
		r.bf16(both)
		hi := XMM()
		VEXTRACTF128(U8(1), both, hi)
		VPACKUSDW(hi, both.(VecVirtual).AsX(), out)
	} else {
		VCVTPS2PH(U8(0), both, out)
	}
	VMOVDQU(out, Mem{Base: p})
	VPAND(e, out, out)
	VPCMPEQW(e, out, out)
	VPOR(out, bad, bad)
	ADDQ(U8(16), p)
	ADDQ(U8(64), x)
	SUBQ(U8(8), n)
	JNZ(LabelRef("eight"))
	VPTEST(bad, bad)
	ok := GP8()
	SETEQ(ok)
	VZEROUPPER()
	Store(ok, ReturnIndex(0))
	RET()
}

// low is all ones in the low word of each float64.
func (r rounder) low() Register {
	v := YMM()
	VPCMPEQD(v, v, v)
	VPSRLQ(U8(32), v, v)
	return v
}

func toF16() {
	var scale Register
	setup := func() { scale = Load(Param("scale"), GP64()) }
	writeLines("toF16AVX2", "p *float32, lines int, scale *[2]float32", 2*lineBytes, setup, func(p, tile Register) (v [2]Register) {
		s := []Register{YMM(), YMM()}
		for i, s := range s {
			VBROADCASTSS(Mem{Base: scale, Index: tile, Scale: 8, Disp: 4 * i}, s)
		}
		for i := range v {
			var part [2]Register
			for j := range part {
				x := YMM()
				VMULPS(Mem{Base: p, Disp: 64*i + 32*j}, s[0], x)
				VMULPS(s[1], x, x)
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

// roundAhead is how many bytes ahead round asks for lines to write: a tile's, so that they are there
// when the next one is done.
const roundAhead = 4096

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
	PREFETCHT0(Mem{Base: p, Disp: roundAhead})
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

func round512() {
	exponent := constant("exponent512", math.Float32bits(float32(math.Inf(1))))
	TEXT("roundAVX512", NOSPLIT, "func(p *byte, x *float64, n int) bool")
	Pragma("noescape")
	Doc("roundAVX512 is Variant.round.")
	p, x, n := Load(Param("p"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	e, most := YMM(), YMM()
	VPBROADCASTD(exponent, e)
	VPXOR(most, most, most)
	Label("sixteen")
	PREFETCHT0(Mem{Base: p, Disp: roundAhead})
	for i := range 2 {
		f := YMM()
		VCVTPD2PS(Mem{Base: x, Disp: 64 * i}, f)
		VMOVUPS(f, Mem{Base: p, Disp: 32 * i})
		VPAND(e, f, f)
		VPMAXUD(f, most, most)
	}
	ADDQ(U32(64), p)
	ADDQ(U32(128), x)
	SUBQ(U8(16), n)
	JNZ(LabelRef("sixteen"))
	VPCMPEQD(e, most, most)
	VPTEST(most, most)
	ok := GP8()
	SETEQ(ok)
	VZEROUPPER()
	Store(ok, ReturnIndex(0))
	RET()
}
