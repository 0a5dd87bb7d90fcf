package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// DType is how numbers are kept: those of rows, and those that come as bytes.
type DType uint8

// The dtypes. Rows are F32, BF16 or F16; F64 is for vectors and results alone.
const (
	F32 DType = iota
	BF16
	F16
	F64

	dtypes = iota // of them
)

// Size is the bytes of a number.
func (t DType) Size() int { return [...]int{F32: 4, BF16: 2, F16: 2, F64: 8}[t] }

// LineCols is the columns in a line of 64 bytes.
func (t DType) LineCols() int { return lineBytes / t.Size() }

func (t DType) String() string {
	if int(t) >= dtypes {
		return fmt.Sprintf("DType(%d)", uint8(t))
	}
	return [...]string{F32: "f32", BF16: "bf16", F16: "f16", F64: "f64"}[t]
}

// ToBF16 rounds to the nearest bfloat16, ties to even. NaN stays NaN, and what lies past the
// largest one becomes an infinity.
func ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if f != f {
		return uint16(b>>16) | 0x40 // quiet: its payload may be all in what is cut off
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromBF16 is exact.
func FromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// ToF16 rounds to the nearest IEEE 754 binary16, ties to even. NaN stays NaN, and what lies
// past the largest one becomes an infinity.
func ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign, exp, mant := uint16(b>>16&0x8000), int(b>>23&0xff), b&0x7fffff
	switch {
	case exp == 0xff && mant != 0:
		return sign | 0x7e00 | uint16(mant>>13)
	case exp >= 127+16:
		return sign | 0x7c00
	case exp >= 127-14:
		h := uint32(exp-127+15)<<10 | mant>>13
		rest := mant & 0x1fff
		if rest > 0x1000 || rest == 0x1000 && h&1 == 1 {
			h++ // into the exponent, up to infinity, if need be
		}
		return sign | uint16(h)
	case exp < 127-25:
		return sign
	}
	mant |= 1 << 23 // below the normal range: units of 2⁻²⁴
	shift := 13 + 127 - 14 - exp
	h, rest, half := mant>>shift, mant&(1<<shift-1), uint32(1)<<(shift-1)
	if rest > half || rest == half && h&1 == 1 {
		h++
	}
	return sign | uint16(h)
}

// FromF16 is exact.
func FromF16(h uint16) float32 {
	sign, exp, mant := uint32(h&0x8000)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0x1f:
		b := sign | 0x7f800000 | mant<<13
		if mant != 0 {
			b |= 1 << 22 // quiet, as the hardware makes it
		}
		return math.Float32frombits(b)
	case 0:
		f := float32(mant) * (1. / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | mant<<13)
}

// scaleF16 is the power of two that brings top, the largest magnitude of a row, into [2¹⁵, 2¹⁶)
// with no number past float16's largest, 65504; 0 where top is 0. top is finite, so it is at most
// 2¹⁶⁴, which makes 2¹⁵ of the smallest float32, 2⁻¹⁴⁹.
func scaleF16(top float32) int16 {
	if top == 0 {
		return 0
	}
	frac, exp := math.Frexp(float64(top)) // in [½, 1)
	if frac*(1<<16) >= 65520 {            // would be rounded up to infinity
		exp++
	}
	return int16(16 - exp)
}

// pow2 is 2^e, for |e| ≤ 1022.
func pow2(e int16) float64 { return math.Float64frombits(uint64(1023+int(e)) << 52) }

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

func native16(p []byte) uint16       { return binary.NativeEndian.Uint16(p) }
func native32(p []byte) uint32       { return binary.NativeEndian.Uint32(p) }
func setNative16(p []byte, v uint16) { binary.NativeEndian.PutUint16(p, v) }
func setNative32(p []byte, v uint32) { binary.NativeEndian.PutUint32(p, v) }

// cast reads memory as numbers of another type: the machine's byte order, and the caller
// answers for the alignment.
func cast[T any](p []byte) []T {
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(p))), len(p)/int(unsafe.Sizeof(t)))
}

// castBytes is x's memory. Copying it moves 16 bytes at a time, a loop over numbers one.
func castBytes[T any](x []T) []byte {
	var t T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*int(unsafe.Sizeof(t)))
}
