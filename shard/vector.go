package shard

import (
	"encoding/binary"
	"math"
)

// A Vector is a vector over the columns of a shard, in float32 or float64, in Go's slices
// or in little-endian bytes. It refers to the caller's memory, which must not change
// during a call; nothing is copied. The zero Vector has no columns.
type Vector struct {
	f32   []float32
	f64   []float64
	raw32 []byte
	raw64 []byte
	n     int64 // with all of them nil, zeros
}

// Float32s is the vector x.
func Float32s(x []float32) Vector { return Vector{f32: x, n: int64(len(x))} }

// Float64s is the vector x.
func Float64s(x []float64) Vector { return Vector{f64: x, n: int64(len(x))} }

// Float32Bytes is the vector whose little-endian float32 bytes are p, at any alignment.
// Bytes left over at the end, len(p) mod 4, are not part of it.
func Float32Bytes(p []byte) Vector { return Vector{raw32: p, n: int64(len(p) / 4)} }

// Float64Bytes is the vector whose little-endian float64 bytes are p, at any alignment.
// Bytes left over at the end, len(p) mod 8, are not part of it.
func Float64Bytes(p []byte) Vector { return Vector{raw64: p, n: int64(len(p) / 8)} }

// Zeros is the zero vector of n columns; it takes no memory.
func Zeros(n int64) Vector { return Vector{n: n} }

// Len is the number of columns.
func (v Vector) Len() int64 { return v.n }

// load sets x to the columns from lo on, to 0 past the last one.
func (v Vector) load(x []float64, lo int64) {
	n := int(min(int64(len(x)), v.n-lo))
	clear(x[n:])
	x = x[:n]
	switch {
	case v.f64 != nil:
		copy(x, v.f64[lo:])
	case v.f32 != nil:
		for j, f := range v.f32[lo:][:n] {
			x[j] = float64(f)
		}
	case v.raw32 != nil:
		for p := v.raw32[4*lo:]; len(x) > 0; x, p = x[1:], p[4:] {
			x[0] = float64(math.Float32frombits(binary.LittleEndian.Uint32(p)))
		}
	case v.raw64 != nil:
		for p := v.raw64[8*lo:]; len(x) > 0; x, p = x[1:], p[8:] {
			x[0] = math.Float64frombits(binary.LittleEndian.Uint64(p))
		}
	default:
		clear(x)
	}
}
