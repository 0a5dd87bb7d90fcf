//go:build !invariants

package window

import "testing"

func TestAllocs(t *testing.T) {
	const m = 20
	g := gradients(8, m+1, 30)
	w := loaded(t, g[:m], m, 0.5, Capacity)
	f, err := w.Factor(0.5, Capacity)
	must(t, err)
	y, c, last := make([]float64, m), make([]float64, m), row(g[:m-1], g[m-1])
	next := row(g[1:m], g[m])
	for _, op := range []struct {
		name string
		f    func() error
	}{
		{"Factor.SolveTo", func() error { return f.SolveTo(c, y) }},
		{"CombinationTo", func() error { return f.CombinationTo(c, y) }},
		{"VectorBound", func() error { _, err := f.VectorBound(c, last, 1e-20); return err }},
		{"Drop and Append", func() error {
			if err := w.Drop(m - 1); err != nil {
				return err
			}
			return w.Append(last)
		}},
		{"Replace", func() error { return w.Replace(next) }},
		{"Window.SolveTo", func() error { return w.SolveTo(c, y) }},
		{"refactor", func() error { w.own.version--; return w.SolveTo(c, y) }},
	} {
		if n := testing.AllocsPerRun(10, func() { must(t, op.f()) }); n != 0 {
			t.Errorf("%s: %g allocations", op.name, n)
		}
		if !w.current() {
			t.Errorf("%s: no factor", op.name)
		}
	}
}
