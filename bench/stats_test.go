package main

import (
	"math"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		x              []float64
		low, mid, high float64
	}{
		{[]float64{3}, 3, 3, 3},
		{[]float64{3, 1, 2}, 1, 2, 3},
		{[]float64{4, 1, 3, 2}, 1, 2.5, 4},
	} {
		before := append([]float64(nil), c.x...)
		low, mid, high := spread(c.x)
		if low != c.low || mid != c.mid || high != c.high {
			t.Errorf("spread(%v) = %v, %v, %v, not %v, %v, %v", c.x, low, mid, high, c.low, c.mid, c.high)
		}
		for i := range before {
			if c.x[i] != before[i] {
				t.Fatalf("spread changed its argument: %v", c.x)
			}
		}
	}
}

func TestExactSum(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want float64
	}{
		{[]float64{1, 1e100, 1, -1e100}, 2},
		{[]float64{1e16, 1, -1e16}, 1},
		{nil, 0},
	} {
		var sum exactSum
		for _, x := range c.x {
			sum.add(x)
		}
		if sum.value() != c.want {
			t.Errorf("the sum of %v is %v, not %v", c.x, sum.value(), c.want)
		}
	}
}

func TestRelativeError(t *testing.T) {
	if got := relativeError([]float64{3, 4.5}, []float64{3, 4}); math.Abs(got-0.1) > 1e-15 {
		t.Errorf("got %v, not 0.1", got)
	}
}
