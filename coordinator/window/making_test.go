package window

import (
	"errors"
	"slices"
	"testing"
)

// A factor that is made beside the window has the bits of one that is made in it, and the window has it at
// hand afterwards; a window that has changed does not take it.
func TestMaking(t *testing.T) {
	g := gradients(8, 30, 3)
	w, same := loaded(t, g[:7], 7, 0.5, Capacity), loaded(t, g[:7], 7, 0.5, Capacity)
	if !w.Has(0.5, Capacity) || w.Has(2, Capacity) || w.Has(0.5*7/5, Count) != w.Has(0.5*7/5, Capacity) {
		t.Error("at hand are others than the window's own")
	}
	packed := func(w *Window, damping float64, divisor Divisor) []float64 {
		f, err := w.Factor(damping, divisor)
		must(t, err)
		l := make([]float64, 28)
		must(t, f.PackedTo(l))
		return l
	}
	clone := w.Clone()
	for i, damping := range []float64{2, 3, 4, 5, 6, 2} { // more than are kept
		if w.Has(damping, Count) {
			t.Errorf("damping %g is at hand before it is made", damping)
		}
		m, err := w.Begin(damping, Count)
		must(t, err)
		done := make(chan struct{})
		go func() { m.Make(); close(done) }()
		<-done
		if !w.Take(m) || !w.Has(damping, Count) {
			t.Fatalf("damping %g is not taken", damping)
		}
		if i == 0 && (!clone.Take(m) || !clone.Has(damping, Count)) {
			t.Error("a clone does not take it")
		}
		if !slices.Equal(packed(w, damping, Count), packed(same, damping, Count)) {
			t.Errorf("damping %g: other bits than Factor's", damping)
		}
	}
	old, err := w.Factor(2, Count)
	must(t, err)
	m, err := w.Begin(7, Count)
	must(t, err)
	must(t, w.Replace(row(g[1:7], g[7])))
	m.Make()
	if w.Take(m) || w.Has(7, Count) || old.check() == nil {
		t.Error("a window that has changed takes a factor")
	}
	if _, err := w.Begin(-1, Count); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	// Not positive definite is remembered as Factor does: the same gradient twice, with rounding errors.
	ill := func() *Window {
		w, err := New(2, 1, Capacity)
		must(t, err)
		must(t, w.Append([]float64{1e6}))
		must(t, w.Append([]float64{1e6 * (1 + 1e-15), 1e6}))
		return w
	}
	w = ill()
	m, err = w.Begin(1e-20, Capacity)
	must(t, err)
	m.Make()
	if !w.Take(m) || !w.Has(1e-20, Capacity) {
		t.Error("not taken")
	}
	_, want := ill().Factor(1e-20, Capacity)
	if _, err = w.Factor(1e-20, Capacity); !errors.Is(err, ErrIllConditioned) || err.Error() != want.Error() {
		t.Errorf("%v, of Factor %v", err, want)
	}
}
