package window

// Making is a factor at other parameters than the window's own that is made beside the window, since
// O(n³) is too long to wait for in the goroutine that has it.
type Making struct {
	z       factorization
	version uint64
	s2      []float64
}

// Has reports whether Factor has the factor at these parameters at hand, or makes it in the window's own
// place.
func (w *Window) Has(damping float64, divisor Divisor) bool {
	shift := w.shift(damping, divisor)
	if shift == w.shift(w.damping, w.divisor) {
		return true
	}
	for _, z := range w.other {
		if z.of(w.version, shift) {
			return true
		}
	}
	return false
}

// Begin copies what the factor at these parameters is made from, O(n²). An InvalidError as for New.
func (w *Window) Begin(damping float64, divisor Divisor) (*Making, error) {
	if err := checkParams(w.capacity, damping, divisor); err != nil {
		return nil, err
	}
	m := &Making{version: w.version, s2: make([]float64, w.n)}
	w.begin(&m.z, w.shift(damping, divisor))
	return m, nil
}

// Make makes the factor, O(n³), with the bits that Window.Factor would give it. For any goroutine, once.
func (m *Making) Make() { m.z.finish(m.version, m.s2) }

// Take gives a window, that of Begin or a Clone, a factor that has been made: Factor has it at hand, as one
// of the 4 that are kept. False where the window has changed since Begin. The Making is spent.
func (w *Window) Take(m *Making) bool {
	if m.version != w.version {
		return false
	}
	z := w.override(m.z.shift)
	times := z.times
	*z = m.z
	z.times = times + 1
	return true
}
