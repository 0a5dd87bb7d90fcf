package shard

import (
	"encoding/binary"
	"math"
	"slices"
)

// The test below adds 1 to the lowest bit of an exponent: only from the highest exponent,
// that of NaN and the infinities, does it reach the sign bit. Two float32 go in a word.
const (
	exp32, low32, top32 = 0x7f80_0000_7f80_0000, 0x0080_0000_0080_0000, 0x8000_0000_8000_0000
	exp64, low64, top64 = 0x7ff0_0000_0000_0000, 0x0010_0000_0000_0000, 0x8000_0000_0000_0000
)

// FirstNonFinite32 is the index of the first NaN or infinity in little-endian float32
// bytes, or −1. Bytes left over at the end, len(p) mod 4, are not looked at.
func FirstNonFinite32(p []byte) int {
	i := finiteBlocks(p, exp32, low32, top32)
	for ; i+4 <= len(p); i += 4 {
		if uint64(binary.LittleEndian.Uint32(p[i:]))&(exp32>>32) == exp32>>32 {
			return i / 4
		}
	}
	return -1
}

// FirstNonFinite64 is the index of the first NaN or infinity in little-endian float64
// bytes, or −1. Bytes left over at the end, len(p) mod 8, are not looked at.
func FirstNonFinite64(p []byte) int {
	i := finiteBlocks(p, exp64, low64, top64)
	for ; i+8 <= len(p); i += 8 {
		if binary.LittleEndian.Uint64(p[i:])&exp64 == exp64 {
			return i / 8
		}
	}
	return -1
}

// finiteBlocks is the length of the part of p, in blocks of 64 bytes, that is all finite.
func finiteBlocks(p []byte, exp, low, top uint64) (i int) {
	for ; i+64 <= len(p); i += 64 {
		b := (*[64]byte)(p[i:])
		bad := binary.LittleEndian.Uint64(b[0:])&exp + low
		bad |= binary.LittleEndian.Uint64(b[8:])&exp + low
		bad |= binary.LittleEndian.Uint64(b[16:])&exp + low
		bad |= binary.LittleEndian.Uint64(b[24:])&exp + low
		bad |= binary.LittleEndian.Uint64(b[32:])&exp + low
		bad |= binary.LittleEndian.Uint64(b[40:])&exp + low
		bad |= binary.LittleEndian.Uint64(b[48:])&exp + low
		bad |= binary.LittleEndian.Uint64(b[56:])&exp + low
		if bad&top != 0 {
			break
		}
	}
	return i
}

// AppendFloat32 appends x to p as little-endian float32 bytes, each rounded once, to
// nearest even. bad is the index of the first that is not finite then (too large for
// float32, or not finite before), or −1.
func AppendFloat32(p []byte, x []float64) (out []byte, bad int) {
	out = slices.Grow(p, 4*len(x))[:len(p)+4*len(x)]
	for to := out[len(p):]; len(x) > 0; x, to = x[1:], to[4:] {
		binary.LittleEndian.PutUint32(to, math.Float32bits(float32(x[0])))
	}
	return out, FirstNonFinite32(out[len(p):])
}

// AppendFloat64 appends x to p as little-endian float64 bytes. bad is the index of the
// first that is not finite, or −1.
func AppendFloat64(p []byte, x []float64) (out []byte, bad int) {
	out = slices.Grow(p, 8*len(x))[:len(p)+8*len(x)]
	for to := out[len(p):]; len(x) > 0; x, to = x[1:], to[8:] {
		binary.LittleEndian.PutUint64(to, math.Float64bits(x[0]))
	}
	return out, FirstNonFinite64(out[len(p):])
}
