package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

const (
	lineBytes  = 64
	panelSlots = 8
	full       = panelSlots * lineBytes // from one line of a slot of a full panel to its next one
)

// isa is a set of vector instructions.
type isa struct {
	name  string
	width int // float64 in a register
}

var (
	avx2   = isa{"AVX2", 4}
	avx512 = isa{"AVX512", 8}
	isas   = []isa{avx2, avx512}
)

// bytes of float64 in a register.
func (s isa) bytes() int { return 8 * s.width }

func (s isa) vec() Register {
	if s.width == 8 {
		return ZMM()
	}
	return YMM()
}

func (s isa) vecs(n int) []Register {
	v := make([]Register, n)
	for i := range v {
		v[i] = s.vec()
	}
	return v
}

func (s isa) zero(v Register) {
	if s.width == 8 {
		VPXORQ(v, v, v)
		return
	}
	VXORPD(v, v, v)
}

// dtype is how numbers are kept.
type dtype struct {
	name string
	size int
}

var (
	f32   = dtype{"F32", 4}
	bf16  = dtype{"BF16", 2}
	f16   = dtype{"F16", 2}
	f64   = dtype{"F64", 8}
	kinds = []dtype{f32, bf16, f16} // of rows
)

// cols is the columns in a line.
func (t dtype) cols() int { return lineBytes / t.size }

// spread says which byte of eight bfloat16, twice next to each other, goes where to make them float32:
// one shuffle, where VPMOVZXWD and a shift are two. Nil in functions that have no register for it.
var spread Register

// useSpread begins a function that may load bfloat16; its end is endSpread.
func (s isa) useSpread(t dtype, name string) {
	if s.width != 8 || t != bf16 {
		return
	}
	m := GLOBL(name+"Spread", RODATA|NOPTR)
	const zero = 0x80
	for i := range 8 {
		DATA(4*i, U32(zero|zero<<8|uint32(2*i)<<16|uint32(2*i+1)<<24))
	}
	v := YMM()
	VMOVDQU32(m, v)
	spread = v
}

func endSpread() { spread = nil }

// load sets v to a register's worth of numbers at m, as float64.
func (s isa) load(t dtype, m Mem, v Register) {
	narrow := v.(VecVirtual).AsX() // as many float32
	if s.width == 8 {
		narrow = v.(VecVirtual).AsY()
	}
	switch t {
	case f64:
		VMOVUPD(m, v)
	case f32:
		VCVTPS2PD(m, v)
	case bf16:
		if spread != nil {
			VBROADCASTI128(m, narrow) // not VBROADCASTI32X4, which a Zen 5 does with two instructions
			VPSHUFB(spread, narrow, narrow)
		} else {
			VPMOVZXWD(m, narrow)
			VPSLLD(U8(16), narrow, narrow)
		}
		VCVTPS2PD(narrow, v)
	case f16:
		VCVTPH2PS(m, narrow)
		VCVTPS2PD(narrow, v)
	}
}

// An AVX2 register holds half of eight columns: 0-3 and 4-7, or, of bfloat16, the even and the odd
// ones, which are what the halves of a 32-bit word widen to without being moved.

// loadHalf sets v to the numbers of half h of the eight columns at m, as float64. odd is what
// oddHalves returned.
func (s isa) loadHalf(t dtype, m Mem, h int, odd, v Register) {
	if t != bf16 {
		s.load(t, m.Offset(h*s.width*t.size), v)
		return
	}
	x := v.(VecVirtual).AsX()
	if h == 0 {
		VMOVDQU(m, x)
		VPSLLD(U8(16), x, x)
	} else {
		VPAND(m, odd.(VecVirtual).AsX(), x)
	}
	VCVTPS2PD(x, v)
}

// oddHalves is a register of what to keep of two bfloat16 to have the odd one.
func (s isa) oddHalves(t dtype) Register {
	if t != bf16 || s.width != 4 {
		return nil
	}
	v := YMM()
	VPCMPEQD(v, v, v)
	VPSLLD(U8(16), v, v)
	return v
}

// half sets v to half h of the eight float64 at m.
func (s isa) half(t dtype, m Mem, h int, v Register) {
	if t != bf16 {
		VMOVUPD(m.Offset(h*s.bytes()), v)
		return
	}
	VMOVUPD(m, v)
	if h == 0 {
		VUNPCKLPD(m.Offset(32), v, v) // 0, 4, 2, 6
	} else {
		VUNPCKHPD(m.Offset(32), v, v) // 1, 5, 3, 7
	}
	VPERMPD(U8(0b11_01_10_00), v, v)
}

// store sets the eight float64 at m to their halves, which it may change.
func (s isa) store(t dtype, halves []Register, m Mem) {
	if t == bf16 {
		low, high := s.vec(), s.vec()
		for _, v := range halves {
			VPERMPD(U8(0b11_01_10_00), v, v) // 0, 4, 2, 6 and 1, 5, 3, 7
		}
		VUNPCKLPD(halves[1], halves[0], low)
		VUNPCKHPD(halves[1], halves[0], high)
		halves = []Register{low, high}
	}
	for h, v := range halves {
		VMOVUPD(v, m.Offset(h*s.bytes()))
	}
}

// totalHalves is total for the lanes in halves.
func (s isa) totalHalves(t dtype, halves []Register, y Mem) {
	if t != bf16 {
		total(halves[0], halves[1], y)
		return
	}
	var sum [2]Register // lanes 0, 2, 4, 6 and 1, 3, 5, 7: (l0+l4) + (l2+l6), and the same of the odd ones
	for h, v := range halves {
		lo, hi := v.(VecVirtual).AsX(), XMM()
		VEXTRACTF128(U8(1), v, hi)
		VADDPD(hi, lo, lo)
		sum[h] = lo
	}
	both := XMM()
	VHADDPD(sum[1], sum[0], both)
	VPERMILPD(U8(1), both, sum[0])
	VADDSD(sum[0], both, both)
	VMOVSD(both, y)
}

// slots is where the lines of n slots of a panel are.
type slots struct {
	n    int
	base Register
	off  []Register // nil where the panel is full: slot i is 64 i bytes further
	step Register   // from one line to the next; nil where the panel is full
}

// loadSlots reads the parameters base, off and stride.
func loadSlots(n int) slots {
	s := slots{n: n, base: Load(Param("base"), GP64())}
	if n == panelSlots {
		return s
	}
	off := Load(Param("off"), GP64())
	for i := range n {
		o := GP64()
		MOVQ(Mem{Base: off, Disp: 8 * i}, o)
		s.off = append(s.off, o)
	}
	s.step = Load(Param("stride"), GP64())
	return s
}

// at is the number of slot i that lies disp bytes into the present line.
func (s slots) at(i, disp int) Mem {
	if s.off == nil {
		return Mem{Base: s.base, Disp: lineBytes*i + disp}
	}
	return Mem{Base: s.base, Index: s.off[i], Scale: 1, Disp: disp}
}

// far is a register that is ahead bytes further than base, as the parameter of that name says: a core
// that is busy with numbers does not look far enough ahead by itself. How far is best, and whether lines
// are better kept out of the second cache, depends on the CPU more than on the code (kernel.ahead).
func (s slots) far() Register {
	far := Load(Param("ahead"), GP64())
	ADDQ(s.base, far)
	return far
}

// fetch asks for the line of slot i that is at far.
func (s isa) fetch(g slots, far Register, i int) {
	g.base = far
	if s.width == 8 {
		PREFETCHNTA(g.at(i, 0))
	} else {
		PREFETCHT0(g.at(i, 0))
	}
}

// nextFar goes on to far's next line.
func (s slots) nextFar(far Register) {
	s.base = far
	s.next()
}

// next goes on to the next line.
func (s slots) next() {
	if s.off == nil {
		ADDQ(U32(full), s.base)
		return
	}
	ADDQ(s.step, s.base)
}

// byCount writes body once for each number of slots from 1 to most and jumps to the one that the
// parameter of that name asks for.
func byCount(param string, least, most int, body func(n int, label func(string) string)) {
	n := Load(Param(param), GP64())
	for i := most; i > least; i-- {
		CMPQ(n, U8(i))
		JEQ(LabelRef(fmt.Sprintf("n%d", i)))
	}
	for i := least; i <= most; i++ {
		if i > least {
			Label(fmt.Sprintf("n%d", i))
		}
		body(i, func(name string) string { return fmt.Sprintf("%s%d", name, i) })
		VZEROUPPER()
		RET()
	}
}

// total sets y to ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)), of lanes 0-3 in low and 4-7 in high.
func total(low, high Register, y Mem) {
	VADDPD(high, low, low)
	sumOf4(low, y)
}

// sumOf4 sets y to (s0+s2) + (s1+s3).
func sumOf4(s Register, y Mem) {
	lo, hi := s.(VecVirtual).AsX(), XMM()
	VEXTRACTF128(U8(1), s, hi)
	sumOf2(lo, hi, y)
}

// sumOf2 sets y to (l0+h0) + (l1+h1).
func sumOf2(lo, hi Register, y Mem) {
	VADDPD(hi, lo, lo)
	VPERMILPD(U8(1), lo, hi)
	VADDSD(hi, lo, lo)
	VMOVSD(lo, y)
}

// total8 is total for lanes 0-7 in one register.
func total8(v Register, y Mem) {
	low, high := v.(VecVirtual).AsY(), YMM()
	VEXTRACTF64X4(U8(1), v, high)
	VADDPD(high, low, low)
	hi := XMM()
	VEXTRACTF32X4(U8(1), low, hi) // VEXTRACTF128 for 32 registers
	sumOf2(low.(VecVirtual).AsX(), hi, y)
}
