package shard

// A Vector is a vector over the columns of a shard, in float32 or float64, in Go's slices
// or in little-endian bytes. It refers to the caller's memory, which must not change
// during a call; nothing is copied. The zero Vector has no columns.
type Vector struct {
	kind vectorKind
	f32  []float32
	f64  []float64
	raw  []byte
	n    int64
}

type vectorKind uint8

const (
	kindNone vectorKind = iota
	kindZeros
	kindF32
	kindF64
	kindRaw32
	kindRaw64
)

// Float32s is the vector x.
func Float32s(x []float32) Vector { return Vector{kind: kindF32, f32: x, n: int64(len(x))} }

// Float64s is the vector x.
func Float64s(x []float64) Vector { return Vector{kind: kindF64, f64: x, n: int64(len(x))} }

// Float32Bytes is the vector whose little-endian float32 bytes are p, at any alignment.
// Bytes left over at the end, len(p) mod 4, are not part of it.
func Float32Bytes(p []byte) Vector { return Vector{kind: kindRaw32, raw: p, n: int64(len(p) / 4)} }

// Float64Bytes is the vector whose little-endian float64 bytes are p, at any alignment.
// Bytes left over at the end, len(p) mod 8, are not part of it.
func Float64Bytes(p []byte) Vector { return Vector{kind: kindRaw64, raw: p, n: int64(len(p) / 8)} }

// Zeros is the zero vector of n columns; it takes no memory.
func Zeros(n int64) Vector { return Vector{kind: kindZeros, n: n} }

// Len is the number of columns.
func (v Vector) Len() int64 { return v.n }
