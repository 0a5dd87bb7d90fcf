package window

import "slices"

// Clone returns a window that holds what w holds and goes its own way from there, for a query
// that is pinned to this version: A, and the factor if it is made. 16m² bytes, O(m²).
func (w *Window) Clone() *Window {
	c := &Window{
		capacity: w.capacity, damping: w.damping, divisor: w.divisor,
		n: w.n, a: slices.Clone(w.a), slot: slices.Clone(w.slot), weight: slices.Clone(w.weight), version: w.version,
		own: w.own, kept: w.kept, retry: w.retry, pause: w.pause, rot: make([]rotation, w.capacity),
	}
	c.own.l, c.own.bundle = slices.Clone(w.own.l), slices.Clone(w.own.bundle)
	for i := range c.vec {
		c.vec[i] = make([]float64, w.capacity)
	}
	return c
}

// Forget gives back the memory of the factors at other parameters than the window's own.
func (w *Window) Forget() { w.other = nil }
