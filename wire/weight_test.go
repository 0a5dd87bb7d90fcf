package wire

import (
	"errors"
	"math"
	"testing"
)

func TestWeights(t *testing.T) {
	for _, w := range []float64{0, -1, math.NaN(), math.Inf(1), 1e-200, 1e200} {
		var e *Error
		if err := CheckWeight("weight", w); !errors.As(err, &e) || e.Code != CodeInvalid || e.Field != "weight" {
			t.Errorf("weight %g: %v", w, err)
		}
		if w == 0 { // in a message, 1
			continue
		}
		for _, m := range []Message{
			&Open{Run: "digits", Step: 1, Weight: w},
			&Stage{Shard: exShard, Step: 1, Attempt: 1, Weight: w},
			&Install{Shard: exShard, Keep: []Staged{{Weight: w}}},
			&Adopted{Shard: exShard, Payload: AppendRows(nil, []Row{{1, 1, 1, w}})},
		} {
			if err := m.Validate(); !errors.As(err, &e) || e.Field != "weight" {
				t.Errorf("%s with weight %g: %v", m.Type(), w, err)
			}
		}
	}
	for _, w := range []float64{MinWeight, 1, MaxWeight} {
		if err := CheckWeight("weight", w); err != nil {
			t.Error(err)
		}
	}
	for _, h := range []float64{-1, math.NaN(), math.Inf(1)} {
		s := exSpec
		s.HalfLife = h
		var e *Error
		if err := s.Validate(); !errors.As(err, &e) || e.Field != "half_life" {
			t.Errorf("half-life %g: %v", h, err)
		}
	}
}

func TestFade(t *testing.T) {
	for _, c := range []struct {
		halfLife float64
		age      uint64
		want     float64
	}{
		{0, 5, 1}, {2, 0, 1}, {2, 2, 0.5}, {2, 6, 0.125}, {1e300, 1 << 40, 1}, // a half-life without end is none
		{10, 1_000_000, 0x1p-500}, {1e-300, math.MaxUint64, 0x1p-500}, // nothing is 0
	} {
		s := exSpec
		if s.HalfLife = c.halfLife; s.Fade(c.age) != c.want {
			t.Errorf("half-life %g, age %d: %g, want %g", c.halfLife, c.age, s.Fade(c.age), c.want)
		}
	}
	s := exSpec
	s.HalfLife = 3
	if field, mine, theirs := s.Differs(exSpec); field != "half_life" || mine != 3.0 || theirs != 0.0 {
		t.Errorf("differs in %s, %v, %v", field, mine, theirs)
	}
}
