package client

import (
	"encoding/binary"
	"math"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/wire"
)

// This file: numbers that are sent in another dtype than the caller's. They are rounded once, to
// nearest even; what comes is widened exactly. The loops are for the speed of the bus: some
// operations a number, no branch that depends on it.

// narrow sets p to x in dtype t. lost is the first number that t can't say, a NaN, an infinity or
// what became one, or −1.
func narrow[T Float](p []byte, x []T, t wire.DType) (lost int) {
	switch x := any(x).(type) {
	case []float32:
		return narrow32(p, x, t)
	case []float64:
		return narrow64(p, x, t)
	}
	return -1
}

func narrow32(p []byte, x []float32, t wire.DType) (lost int) {
	switch {
	case !littleEndian:
	case t == wire.BF16:
		if shard.FirstLost(bytesOf(x), shard.F32, shard.BF16) < 0 {
			toBF16(p, x)
			return -1
		}
	case toF16(p, x):
		return -1
	}
	to := kernel.ToBF16
	if t == wire.F16 {
		to = kernel.ToF16
	}
	for i, v := range x {
		binary.LittleEndian.PutUint16(p[2*i:], to(v))
	}
	return shard.FirstNonFinite(p[:2*len(x)], dtype.Of(t))
}

func narrow64(p []byte, x []float64, t wire.DType) (lost int) {
	if t == wire.F32 {
		return kernel.Best().Round(p[:4*len(x)], x, kernel.F32)
	}
	var block [tileColumns]float32
	lost = -1
	for at := 0; at < len(x); at += len(block) {
		part := x[at:min(at+len(block), len(x))]
		odd(block[:len(part)], part)
		if i := narrow32(p[2*at:], block[:len(part)], t); i >= 0 && lost < 0 {
			lost = at + i
		}
	}
	return lost
}

// odd rounds to float32 so that rounding once more, to fewer digits, is as good as rounding once:
// towards zero, and to an odd last bit where that was not exact.
func odd(y []float32, x []float64) {
	for i, v := range x {
		f := float32(v)
		to, from := math.Float64bits(float64(f))&^(1<<63), math.Float64bits(v)&^(1<<63)
		above := (from - to) >> 63 // 1 if it was rounded away from zero
		d := from ^ to
		inexact := (d | -d) >> 63
		y[i] = math.Float32frombits((math.Float32bits(f) - uint32(above)) | uint32(inexact))
	}
}

// toBF16 rounds numbers that bfloat16 can say: then nothing carries out of a number's 32 bits, and
// two are added at once.
func toBF16(p []byte, x []float32) {
	q := bytesOf(x)
	for len(q) >= 16 && len(p) >= 8 {
		a, b := binary.LittleEndian.Uint64(q), binary.LittleEndian.Uint64(q[8:])
		const half, one = 0x7fff_0000_7fff, 0x1_0000_0001
		a += half + a>>16&one
		b += half + b>>16&one
		binary.LittleEndian.PutUint64(p, a>>16&0xffff|a>>32&0xffff_0000|(b>>16&0xffff|b>>32&0xffff_0000)<<32)
		q, p = q[16:], p[8:]
	}
	for ; len(q) >= 4; q, p = q[4:], p[2:] {
		binary.LittleEndian.PutUint16(p, kernel.ToBF16(math.Float32frombits(binary.LittleEndian.Uint32(q))))
	}
}

// toF16 rounds, and reports whether binary16 can say all of the numbers; else p holds anything.
func toF16(p []byte, x []float32) bool {
	var bad uint32
	for len(x) >= 4 && len(p) >= 8 {
		a, b, c, d := half(x[0], &bad), half(x[1], &bad), half(x[2], &bad), half(x[3], &bad)
		binary.LittleEndian.PutUint64(p, a|b<<16|c<<32|d<<48)
		x, p = x[4:], p[8:]
	}
	for i, v := range x {
		binary.LittleEndian.PutUint16(p[2*i:], uint16(half(v, &bad)))
	}
	return bad>>31 == 0
}

// half is the binary16 nearest to f. Its sign bit of bad is set where there is none.
func half(f float32, bad *uint32) uint64 {
	const (
		least  = 113 << 23   // 2⁻¹⁴, the smallest that is normal in binary16
		most   = 0x477f_f000 // 65520, which would be rounded to an infinity
		rebias = 0xc800_0000 // −112 << 23
	)
	u := math.Float32bits(f)
	sign := u >> 16 & 0x8000
	u &^= 1 << 31
	*bad |= u + (1<<31 - most)
	small := math.Float32bits(math.Float32frombits(u)+0.5) - 0x3f00_0000 // in units of 2⁻²⁴, which the addition rounds to
	h := (u + rebias + 0xfff + u>>13&1) >> 13
	if u < least {
		h = small
	}
	return uint64(h | sign)
}

// widen sets x to the numbers of p, of dtype t: as many as x has.
func widen[T Float](x []T, p []byte, t wire.DType) {
	switch x := any(x).(type) {
	case []float32:
		switch {
		case !littleEndian:
			for i := range x {
				h := binary.LittleEndian.Uint16(p[2*i:])
				if x[i] = kernel.FromBF16(h); t == wire.F16 {
					x[i] = kernel.FromF16(h)
				}
			}
		case t == wire.BF16:
			fromBF16(x, p)
		default:
			fromF16(x, p)
		}
	case []float64:
		kernel.Best().Expand(x, p[:t.Size()*len(x)], dtype.Of(t))
	}
}

func fromBF16(x []float32, p []byte) {
	q := bytesOf(x)
	for len(q) >= 16 && len(p) >= 8 {
		h := binary.LittleEndian.Uint64(p)
		binary.LittleEndian.PutUint64(q, h<<16&0xffff_0000|h<<32&0xffff_0000_0000_0000)
		binary.LittleEndian.PutUint64(q[8:], h>>16&0xffff_0000|h&0xffff_0000_0000_0000)
		q, p = q[16:], p[8:]
	}
	for ; len(q) >= 4; q, p = q[4:], p[2:] {
		binary.LittleEndian.PutUint32(q, uint32(binary.LittleEndian.Uint16(p))<<16)
	}
}

func fromF16(x []float32, p []byte) {
	const rebias, least, most = 112 << 23, 113 << 23, 31 << 23 // least: 2⁻¹⁴
	p = p[:2*len(x)]
	for i := range x {
		h := uint32(binary.LittleEndian.Uint16(p[2*i:]))
		u := h & 0x7fff << 13
		small := math.Float32bits(math.Float32frombits(u+least) - 0x1p-14)
		v := u + rebias
		if u < 1<<23 {
			v = small
		}
		if u >= most { // an infinity or NaN, which no service sends
			v = math.Float32bits(kernel.FromF16(uint16(h)))
		}
		x[i] = math.Float32frombits(v | h&0x8000<<16)
	}
}
