package client

import (
	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/wire"
)

// This file: numbers that are sent in another dtype than the caller's. They are rounded once, to
// nearest even; what comes is widened exactly.

// narrow sets p to x in dtype t. lost is the first number that t can't say, a NaN, an infinity or
// what became one, or −1.
func narrow[T Float](p []byte, x []T, t wire.DType) (lost int) {
	k, to := kernel.Best(), dtype.Of(t)
	p = p[:len(x)*t.Size()]
	switch x := any(x).(type) {
	case []float32:
		k.Narrow(p, x, to)
		return shard.FirstNonFinite(p, to)
	case []float64:
		return k.Round(p, x, to)
	}
	return -1
}

// widen sets x to the numbers of p, of dtype t: as many as x has.
func widen[T Float](x []T, p []byte, t wire.DType) {
	k, from := kernel.Best(), dtype.Of(t)
	p = p[:len(x)*t.Size()]
	switch x := any(x).(type) {
	case []float32:
		k.Widen(x, p, from)
	case []float64:
		k.Expand(x, p, from)
	}
}
