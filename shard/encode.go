package shard

import (
	"encoding/binary"
	"slices"

	"mfac/shard/kernel"
)

// Words that hold several numbers: the bits of their exponents, and what carries into the sign
// when it is added to the highest exponent, that of NaN and the infinities, and to no other.
// lostBF16 is what carries for float32 that no bfloat16 is near enough to.
const (
	exp32, low32 = 0x7f80_0000_7f80_0000, 0x0080_0000_0080_0000
	exp64, low64 = 0x7ff0_0000_0000_0000, 0x0010_0000_0000_0000
	expBF, lowBF = 0x7f80_7f80_7f80_7f80, 0x0080_0080_0080_0080
	expHF, lowHF = 0x7c00_7c00_7c00_7c00, 0x0400_0400_0400_0400

	all32, lostBF16 = 0x7fff_ffff_7fff_ffff, 0x0080_8000_0080_8000

	top16, top32, top64 = 0x8000_8000_8000_8000, 0x8000_0000_8000_0000, 0x8000_0000_0000_0000
)

// FirstNonFinite is the index of the first NaN or infinity among the numbers of dtype t in
// little-endian bytes, or −1. Bytes left over at the end are not looked at.
func FirstNonFinite(p []byte, t DType) int {
	switch t {
	case F32:
		return firstBits(p, 4, exp32, low32, top32)
	case BF16:
		return firstBits(p, 2, expBF, lowBF, top16)
	case F16:
		return firstBits(p, 2, expHF, lowHF, top16)
	default:
		return firstBits(p, 8, exp64, low64, top64)
	}
}

// FirstLost is the index of the first number of dtype t in little-endian bytes that a store of
// rows of dtype rows can't keep: a NaN or an infinity, or what would be rounded to one. It is
// −1 if there is none.
func FirstLost(p []byte, t, rows DType) int {
	if t == F32 && rows == BF16 {
		return firstBits(p, 4, all32, lostBF16, top32)
	}
	return FirstNonFinite(p, t)
}

// firstBits is the index of the first number of size bytes whose bits in mask, with low added,
// carry into its top bit.
func firstBits(p []byte, size int, mask, low, top uint64) int {
	i := 0
	for ; i+64 <= len(p); i += 64 {
		b := (*[64]byte)(p[i:])
		bad := binary.LittleEndian.Uint64(b[0:])&mask + low
		bad |= binary.LittleEndian.Uint64(b[8:])&mask + low
		bad |= binary.LittleEndian.Uint64(b[16:])&mask + low
		bad |= binary.LittleEndian.Uint64(b[24:])&mask + low
		bad |= binary.LittleEndian.Uint64(b[32:])&mask + low
		bad |= binary.LittleEndian.Uint64(b[40:])&mask + low
		bad |= binary.LittleEndian.Uint64(b[48:])&mask + low
		bad |= binary.LittleEndian.Uint64(b[56:])&mask + low
		if bad&top != 0 {
			break
		}
	}
	for ; i+size <= len(p); i += size {
		var word [8]byte
		copy(word[:size], p[i:])
		if (binary.LittleEndian.Uint64(word[:])&mask+low)&(1<<(8*size-1)) != 0 {
			return i / size
		}
	}
	return -1
}

// Append appends x to p in dtype t, little-endian bytes, each number rounded once, to nearest
// even. bad is the index of the first that is not finite then (too large, or not finite
// before), or −1.
func Append(p []byte, x []float64, t DType) (out []byte, bad int) {
	n := t.Size() * len(x)
	out = slices.Grow(p, n)[:len(p)+n]
	return out, kernel.Best().Round(out[len(p):], x, t)
}
