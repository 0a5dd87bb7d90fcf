package window

import (
	"errors"
	"math"
	"testing"
)

func TestInvalid(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	w := loaded(t, [][]float64{{1, 0}, {0, 1}}, 3, 1, Capacity)
	f, err := w.Factor(1, Capacity)
	must(t, err)
	two, three := make([]float64, 2), make([]float64, 3)
	bad := func(_ any, err error) error { return err }
	for _, c := range []struct {
		err  error
		want string
	}{
		{bad(New(0, 1, Capacity)), "capacity is 0, must be in [1, 16384]"},
		{bad(New(MaxCapacity+1, 1, Capacity)), "capacity is 16385, must be in [1, 16384]"},
		{bad(New(3, -1, Capacity)), "damping is -1, must be > 0 and finite"},
		{bad(New(3, nan, Capacity)), "damping is NaN, must be > 0 and finite"},
		{bad(New(2, math.MaxFloat64, Count)), "damping is 1.7976931348623157e+308, must be finite when multiplied by 2"},
		{bad(New(3, 1, 2)), "divisor is 2, must be capacity or count"},
		{bad(ParseDivisor("m")), `divisor is "m", must be capacity or count`},
		{w.SetParams(0, Count), "damping is 0, must be > 0 and finite"},
		{w.SetParams(1, 3), "divisor is 3, must be capacity or count"},
		{bad(w.Factor(inf, Count)), "damping is +Inf, must be > 0 and finite"},
		{w.Append(two), "len(row) is 2, must be 3"},
		{w.Append([]float64{1, nan, 1}), "row[1] is NaN, must be finite"},
		{w.Append([]float64{1, 1, inf}), "row[2] is +Inf, must be finite"},
		{w.Append([]float64{1, 1, -1e-300}), "g·g is -1e-300, must be ≥ 0"},
		{w.Replace(three), "len(row) is 3, must be 2"},
		{w.Drop(2), "i is 2, must be in [0, 2)"},
		{w.Drop(-1), "i is -1, must be in [0, 2)"},
		{w.Load(nil, -1), "n is -1, must be in [0, 3]"},
		{w.Load(make([]float64, 10), 4), "n is 4, must be in [0, 3]"},
		{w.Load(two, 2), "len(packed) is 2, must be 3"},
		{w.Load([]float64{1, nan, 1}, 2), "packed[1] is NaN, must be finite"},
		{w.Load([]float64{1, 0, 1, 0, 0, -1}, 3), "A[2][2] is -1, must be ≥ 0"},
		{w.SolveTo(two, three), "len(y) is 3, must be 2"},
		{f.SolveTo(three, two), "len(dst) is 3, must be 2"},
		{f.SolveTo(two, []float64{0, -inf}), "y[1] is -Inf, must be finite"},
		{f.CombinationTo(two, []float64{nan, 0}), "y[0] is NaN, must be finite"},
		{f.PackedTo(two), "len(dst) is 2, must be 3"},
		{bad(f.VectorBound(three, two, 1)), "len(c) is 3, must be 2"},
		{bad(f.VectorBound(two, three, 1)), "len(y) is 3, must be 2"},
		{bad(f.VectorBound(two, two, -1)), "‖v‖² is -1, must be ≥ 0 and finite"},
		{bad(f.VectorBound(two, two, nan)), "‖v‖² is NaN, must be ≥ 0 and finite"},
		{bad(f.CombinationBoundOf(three)), "len(c) is 3, must be 2"},
	} {
		var e *InvalidError
		switch {
		case !errors.Is(c.err, ErrInvalid) || !errors.As(c.err, &e):
			t.Errorf("got %v, want %q", c.err, c.want)
		case c.err.Error() != "window: "+c.want || e.Field == "" || e.Value == "" || e.Limit == "":
			t.Errorf("got %q, want %q", c.err, "window: "+c.want)
		}
	}
	if w.Len() != 2 || w.At(1, 1) != 1 || w.At(1, 0) != 0 || w.Damping() != 1 || !w.current() || f.check() != nil {
		t.Error("a refused call changed the window")
	}

	must(t, w.Append(three))
	var full *FullError
	if err := w.Append(make([]float64, 4)); !errors.Is(err, ErrFull) || !errors.As(err, &full) || *full != (FullError{3, 3}) {
		t.Error(err)
	}
	if err := w.Append(nil); !errors.Is(err, ErrFull) || errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	for range 3 {
		must(t, w.Drop(0))
	}
	if err := w.Replace(nil); !errors.Is(err, ErrInvalid) || err.Error() != "window: n is 0, must be ≥ 1 to replace a row" {
		t.Error(err)
	}
}

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&FullError{3, 4}, "window: full, 3 rows of 4"},
		{&StaleError{0.5, 7}, "window: the factor at damping 0.5, N = 7 is of an earlier window"},
		{&IllConditionedError{Row: 1, Pivot: -1e-10, Diagonal: 2e6, MaxDiagonal: 3e6, Shift: 4e-20, Damping: 1e-20, N: 4, Len: 3},
			"window: K is not positive definite in float64: pivot -1e-10 in row 1 of 3, where K is 2e+06 (at most 3e+06); " +
				"Nλ = 4 × 1e-20 = 4e-20, rounding errors are about 2e-09"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("got %q, want %q", c.err, c.want)
		}
	}
}

func TestDivisor(t *testing.T) {
	for _, d := range []Divisor{Capacity, Count} {
		if got, err := ParseDivisor(d.String()); err != nil || got != d {
			t.Errorf("%s: %v, %v", d, got, err)
		}
	}
	if s := Divisor(7).String(); s != "Divisor(7)" {
		t.Error(s)
	}
}
