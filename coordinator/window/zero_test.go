package window

import "testing"

// TestBoundZeroRows: a gradient of zeros has an exact answer, 0, and does not make the answers
// for the others less certain.
func TestBoundZeroRows(t *testing.T) {
	w, err := New(4, 1e-8, Capacity)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range [][]float64{{0}, {0, 5}, {0, 2, 7}, {0, 0, 0, 0}} { // of A
		if err := w.Append(row); err != nil {
			t.Fatal(err)
		}
	}
	f, err := w.Factor(1e-8, Capacity)
	if err != nil {
		t.Fatal(err)
	}
	c := make([]float64, 4)
	bound := func(a ...float64) Bound {
		t.Helper()
		if err := f.CombinationTo(c, a); err != nil {
			t.Fatal(err)
		}
		b, err := f.CombinationBoundOf(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := bound(1, 0, 0, -3); b != (Bound{}) {
		t.Errorf("a combination of zeros has the bound %+v, want none", b)
	}
	alone, beside := bound(0, 1, 0, 0), bound(1, 1, 0, 0)
	if alone != beside || !(alone.Relative < 1e-10) {
		t.Errorf("beside a row of zeros the bound is %+v, alone %+v", beside, alone)
	}
}
