package window_test

import (
	"errors"
	"math"
	"testing"

	"mfac/coordinator/window"
)

// A = [[2,1],[1,2]], N = 2, λ = 1: K = [[4,1],[1,4]].
func TestFunctions(t *testing.T) {
	w, err := window.New(2, 1, window.Capacity)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range [][]float64{{2}, {1, 2}} {
		if err := w.Append(row); err != nil {
			t.Fatal(err)
		}
	}
	f, err := w.Factor(1, window.Capacity)
	if err != nil {
		t.Fatal(err)
	}
	const off = 1e-15 // two roundings of numbers below 1
	e := make([]float64, 2)
	// N c − w = (0.3, 0), then N(a − λc) − w = (2 − 1.2 − 0.4, −0.2).
	for _, c := range []struct{ c, a, w, want [2]float64 }{
		{c: [2]float64{0.4, 0.4}, w: [2]float64{0.5, 0.8}, want: [2]float64{0.08, -0.02}},
		{c: [2]float64{0.6, 0}, a: [2]float64{1, 0}, w: [2]float64{0.4, 0.2}, want: [2]float64{1.8 / 15, -1.2 / 15}},
	} {
		a := c.a[:]
		if c.a == [2]float64{} {
			a = nil
		}
		if err := f.RefineTo(e, c.c[:], a, c.w[:]); err != nil {
			t.Fatal(err)
		}
		for i := range e {
			if !(math.Abs(e[i]-c.want[i]) <= off) {
				t.Errorf("e is %v, want %v", e, c.want)
			}
		}
	}
	if got := w.CombinationNorm2([]float64{1, -1}); got != 2 {
		t.Errorf("‖g₁ − g₂‖² is %v, want 2", got)
	}
	if w.NOf(window.Count) != 2 || w.NOf(window.Capacity) != 2 {
		t.Error("N is not 2")
	}

	one, two := []float64{1}, []float64{1, 1}
	for what, f := range map[string]func() error{
		"c":     func() error { _, err := w.ProductBound(one, two, window.Capacity, 0, 1); return err },
		"y":     func() error { _, err := w.ProductBound(two, one, window.Capacity, 0, 1); return err },
		"‖v‖²":  func() error { _, err := w.ProductBound(two, two, window.Capacity, 0, math.NaN()); return err },
		"u":     func() error { _, err := f.SampleBound(two, two, one, 1); return err },
		"‖z‖²":  func() error { _, err := f.SampleBound(two, two, two, -1); return err },
		"e":     func() error { _, err := f.RefinedBound(two, one, 1, 1, 1); return err },
		"of a":  func() error { _, err := f.RefinedCombinationBound(two, one, 1); return err },
		"NaN w": func() error { return f.RefineTo(e, two, nil, []float64{math.NaN(), 0}) },
	} {
		if err := f(); !errors.Is(err, window.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Of nothing, exactly nothing.
	if b, err := w.ProductBound([]float64{0, 0}, []float64{0, 0}, window.Capacity, 0, 5); err != nil || b.Relative != 0 {
		t.Errorf("F v = 0 has the bound %+v, %v", b, err)
	}
	// ‖Hv‖ ≥ λ‖v‖, so the bound is small.
	if b, err := w.ProductBound([]float64{0.5, 0.5}, two, window.Capacity, 1, 1); err != nil || !(b.Relative > 0 && b.Relative < 1e-13) {
		t.Errorf("H v has the bound %+v, %v", b, err)
	}
}
