package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// powerMod is xⁿ modulo the Castagnoli polynomial, its bits reflected.
func powerMod(n int) uint64 {
	r := uint32(1 << 31)
	for range n {
		r = r>>1 ^ (r&1)*0x82f63b78
	}
	return uint64(r)
}

// foldBy are the two factors that move 128 bits by so many bits towards the end: of the first 64 and of
// the last. A product of reflected 64-bit numbers stands one bit higher, and a factor of 32 bits stands
// 32 higher: hence 31 and 33.
func foldBy(bits int) [2]uint64 { return [2]uint64{powerMod(bits + 31), powerMod(bits - 33)} }

// multiply is VPCLMULQDQ of whole registers, of which avo knows the 128-bit form alone.
func multiply(which U8, k, x, dst Register) {
	Instruction(&ir.Instruction{Opcode: "VPCLMULQDQ", Operands: []Op{which, k, x, dst}, Inputs: []Op{k, x}, Outputs: []Op{dst}})
}

// crc32c is the checksum of whole blocks of 256 bytes, in four registers of 64 that are folded along.
func crc32c() {
	const blocks = 4
	lanes := func(name string, by ...int) Mem { // a register's worth: a pair of factors for each lane
		m := GLOBL(name, RODATA|NOPTR)
		for i := range 4 {
			k := [2]uint64{}
			if i < len(by) {
				k = foldBy(by[i])
			}
			DATA(16*i, U64(k[0]))
			DATA(16*i+8, U64(k[1]))
		}
		return m
	}
	whole := lanes("foldWhole", 2048, 2048, 2048, 2048)
	next := lanes("foldNext", 512, 512, 512, 512)
	last := lanes("foldLast", 384, 256, 128)

	TEXT("updateAVX512", NOSPLIT, "func(sum uint32, p *byte, blocks int) uint32")
	Pragma("noescape")
	Doc("updateAVX512 is update for blocks ≥ 1 of 256 bytes, sum and what it returns not inverted.")
	sum := Load(Param("sum"), GP32())
	p, n := Load(Param("p"), GP64()), Load(Param("blocks"), GP64())
	k := ZMM()
	VMOVDQU64(whole, k)
	acc := make([]VecVirtual, blocks)
	for i := range acc {
		acc[i] = ZMM()
		VMOVDQU64(Mem{Base: p, Disp: 64 * i}, acc[i])
	}
	first := XMM()
	VMOVD(sum, first) // the rest of the register is 0 then
	VPXORQ(first.AsZ(), acc[0], acc[0])
	// fold moves x as k says and adds what is there.
	fold := func(x VecVirtual, there Op) {
		low := ZMM()
		multiply(U8(0x00), k, x, low)
		multiply(U8(0x11), k, x, x)
		VPTERNLOGQ(U8(0x96), there, low, x)
	}
	Label("block")
	DECQ(n)
	JZ(LabelRef("end"))
	ADDQ(U32(64*blocks), p)
	for i, x := range acc {
		fold(x, Mem{Base: p, Disp: 64 * i})
	}
	JMP(LabelRef("block"))

	Label("end")
	VMOVDQU64(next, k)
	all := acc[0]
	for _, x := range acc[1:] {
		fold(all, x)
	}
	// Its last lane stays, the others are moved to where that is.
	VMOVDQU64(last, k)
	lane := XMM()
	VEXTRACTI32X4(U8(3), all, lane)
	low := ZMM()
	multiply(U8(0x00), k, all, low)
	multiply(U8(0x11), k, all, all)
	VPXORQ(low, all, all)
	for i := range 3 {
		part := XMM()
		VEXTRACTI32X4(U8(i), all, part)
		VPXORQ(part, lane, lane)
	}
	crc, half := GP64(), GP64()
	XORQ(crc, crc)
	VMOVQ(lane, half)
	CRC32Q(half, crc)
	VPEXTRQ(U8(1), lane, half)
	CRC32Q(half, crc)
	Store(crc.As32(), ReturnIndex(0))
	VZEROUPPER()
	RET()
}
