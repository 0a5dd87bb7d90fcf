package main

import (
	"math"
	"slices"
)

// spread is the least, the median and the greatest of x, which is not empty.
func spread(x []float64) (low, mid, high float64) {
	x = slices.Sorted(slices.Values(x))
	return x[0], x[len(x)/2]/2 + x[(len(x)-1)/2]/2, x[len(x)-1]
}

func median(x []float64) float64 {
	_, m, _ := spread(x)
	return m
}

// exactSum adds numbers so that the error is far below that of any order in float64 (Neumaier's
// compensated sum): the reference that errors are counted from.
type exactSum struct{ s, c float64 }

func (a *exactSum) add(x float64) {
	t := a.s + x
	if math.Abs(a.s) >= math.Abs(x) {
		a.c += (a.s - t) + x
	} else {
		a.c += (x - t) + a.s
	}
	a.s = t
}

func (a *exactSum) value() float64 { return a.s + a.c }

// relativeError is ‖x − want‖/‖want‖ in the 2-norm.
func relativeError(x, want []float64) float64 {
	var e, n float64
	for i, w := range want {
		e += (x[i] - w) * (x[i] - w)
		n += w * w
	}
	return math.Sqrt(e / n)
}
