package shard

import (
	"encoding/binary"
	"unsafe"

	"mfac/internal/normal"
	"mfac/shard/kernel"
)

// A Vector is a vector over the columns of a shard, in Go's slices or in little-endian bytes.
// It refers to the caller's memory, which must not change during a call. The zero Vector has
// no columns.
type Vector struct {
	p     []byte // nil: zeros, but for the one, or made's
	dtype DType
	n     int64
	made  *normal.Source
	first int64 // of made, the index of column 0
	one   int64 // of Unit: its column, counted from 1
	plain bool
}

// Float32s is the vector x.
func Float32s(x []float32) Vector { return sliceOf(x, F32) }

// Float64s is the vector x.
func Float64s(x []float64) Vector { return sliceOf(x, F64) }

// Raw is the vector of the numbers of dtype t in little-endian bytes, at any alignment. Bytes left
// over at the end are not part of it.
func Raw(p []byte, t DType) Vector { return Vector{p: p, dtype: t, n: int64(len(p) / t.Size())} }

// Zeros is the zero vector of n columns; it takes no memory.
func Zeros(n int64) Vector { return Vector{n: n} }

// Normal is the vector of n normal numbers of src, from index first on; it takes no memory.
func Normal(src normal.Source, first, n int64) Vector { return Vector{n: n, made: &src, first: first} }

// Unit is the vector of n columns that is 1 in column j, 0 elsewhere; all zeros where there is no
// such column. It takes no memory.
func Unit(n, j int64) Vector {
	if j < 0 || j >= n {
		return Zeros(n)
	}
	return Vector{n: n, one: j + 1}
}

func sliceOf[T float32 | float64](x []T, t DType) Vector {
	p := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*t.Size())
	if !littleEndian { // a copy: there the numbers' bytes are the other way round
		p, _ = binary.Append(nil, binary.LittleEndian, x)
	}
	return Raw(p, t)
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// Plain is v for Dots that a Store with Scales leaves as they are, Gv, with vᵀRv for ‖v‖²: what F v is made of.
func (v Vector) Plain() Vector {
	v.plain = true
	return v
}

// Len is the number of columns.
func (v Vector) Len() int64 { return v.n }

// load sets x to the columns from lo on, to 0 past the last one.
func (v Vector) load(k *kernel.Variant, x []float64, lo int64) {
	n := int(max(0, min(int64(len(x)), v.n-lo)))
	clear(x[n:])
	if v.made != nil {
		v.made.Fill(x[:n], v.first+lo)
		return
	}
	if v.p == nil {
		clear(x)
		if j := v.one - 1 - lo; v.one > 0 && j >= 0 && j < int64(len(x)) {
			x[j] = 1
		}
		return
	}
	size := v.dtype.Size()
	k.Expand(x[:n], v.p[int(lo)*size:][:n*size], v.dtype)
}
