package wire

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestScalesForm(t *testing.T) {
	for _, bad := range []Scales{
		"x", "0", "0:", "0:x", ":1", "1:2", "0:2,0:3", "0:2,5:3,4:1", "0:2,10:3", "0:0", "0:-1", "0:NaN", "0:+Inf", "0:1e51",
		"0:1", "0:2,5:2", "0:2.0", "0:2,", " 0:2", "00:2", "0:2,05:1", "0:1e0,3:2", Scales(strings.Repeat("0:2,", 600)),
	} {
		var e *Error
		if list, err := bad.Parse(10); !errors.As(err, &e) || e.Field != "scales" {
			t.Errorf("%.40q: %v, %v", string(bad), list, err)
		}
	}
	s := exSpec
	s.Scales = "0:2,6:0.5"
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if field, _, theirs := s.Differs(exSpec); field != "scales" || theirs != "none" {
		t.Errorf("differs in %s, %v", field, theirs)
	}
	s.Scales = "0:2,12:0.5"
	if err := s.Validate(); err == nil {
		t.Error("a scale past the last column: no error")
	}
	rapid.Check(t, func(t *rapid.T) {
		var list []Scale
		dim := int64(0)
		for range rapid.IntRange(1, 6).Draw(t, "n") {
			list = append(list, Scale{dim, rapid.SampledFrom([]float64{1, 0.1, 1e-50, 3e7}).Draw(t, "r")})
			dim += rapid.Int64Range(1, 5).Draw(t, "cols")
		}
		of := func(list []Scale, j int64) float64 {
			r := 1.0
			for _, f := range list {
				if f.Lo <= j {
					r = f.R
				}
			}
			return r
		}
		f := ScalesOf(list)
		parsed, err := f.Parse(dim)
		if err != nil {
			t.Fatal(err)
		}
		lo := rapid.Int64Range(0, dim-1).Draw(t, "lo")
		n := rapid.Int64Range(1, dim-lo).Draw(t, "n")
		within := f.Within(lo, n)
		for j := range n {
			if of(list, lo+j) != of(parsed, lo+j) || f.At(lo + j)[0] != of(list, lo+j) || of(within, j) != of(list, lo+j) {
				t.Fatalf("column %d of %v: %v, %v", lo+j, list, parsed, within)
			}
		}
		if within != nil && (within[0].Lo != 0 || !slices.IsSortedFunc(within, func(a, b Scale) int { return int(a.Lo - b.Lo) })) {
			t.Fatalf("within [%d, %d+%d): %v", lo, lo, n, within)
		}
	})
}
