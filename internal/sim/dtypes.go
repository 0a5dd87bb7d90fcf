package sim

import (
	"math"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/wire"
)

// This file: numbers as they are sent and kept. What rounding must come to is said here by the
// definition, apart from the code that does it.

var (
	rowDTypes = []wire.DType{wire.F32, wire.BF16, wire.F16}
	dtypes    = []wire.DType{wire.F32, wire.F64, wire.BF16, wire.F16}
)

func oneOf[T any](w *world, of []T) T { return of[w.rng.IntN(len(of))] }

// nearest is x rounded to a dtype, ties to even.
func nearest(x float64, t wire.DType) float64 {
	bits, least := 24, -149 // significant ones; the exponent of the smallest number
	switch t {
	case wire.F64:
		return x
	case wire.BF16:
		bits, least = 8, -133
	case wire.F16:
		bits, least = 11, -24
	}
	_, e := math.Frexp(x)
	unit := math.Ldexp(1, max(e-bits, least))
	return math.Copysign(math.RoundToEven(x/unit)*unit, x)
}

// rounded is a row as it is sent in a dtype.
func rounded(x []float32, t wire.DType) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(nearest(float64(v), t))
	}
	return y
}

// kept is what a shard, of less than a tile of columns, keeps of a row. In float16 it is times a
// power of two that brings its largest number to [2¹⁵, 2¹⁶), and not past 65504.
func kept(x []float32, store wire.DType) []float32 {
	if store != wire.F16 {
		return rounded(x, store)
	}
	var top float64
	for _, v := range x {
		top = max(top, math.Abs(float64(v)))
	}
	_, e := math.Frexp(top)
	scale := math.Ldexp(1, 16-e)
	if nearest(top*scale, wire.F16) > 65504 {
		scale /= 2
	}
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(nearest(float64(v)*scale, wire.F16) / scale)
	}
	return y
}

// stored is a row as all shards together keep it.
func (k *checker) stored(x []float32) []float64 {
	y := make([]float64, 0, len(x))
	for s := range k.w.shape.shards {
		lo, n := k.columns(s)
		for _, v := range kept(x[lo:lo+n], k.w.shape.store) {
			y = append(y, float64(v))
		}
	}
	return y
}

func encode(x []float64, t wire.DType) []byte {
	p, _ := shard.Append(nil, x, dtype.Of(t)) // NaN and infinities too
	return p
}

func decode(p []byte, t wire.DType) []float64 {
	x := make([]float64, len(p)/t.Size())
	kernel.Best().Expand(x, p, dtype.Of(t))
	return x
}

func widened(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}
