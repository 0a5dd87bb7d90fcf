package wire

import (
	"slices"
	"testing"
)

func TestParsePattern(t *testing.T) {
	for _, s := range []string{"", ":", "2", "2:", ":4", "2:4:8", "4:2", "0:4", "a:b", "2:65", " 2:4", "-1:4"} {
		if p, err := ParsePattern(s); err == nil {
			t.Errorf("%q is %v", s, p)
		}
	}
	if p, err := ParsePattern("2:4"); err != nil || p != (Pattern{Keep: 2, Of: 4}) || p.String() != "2:4" {
		t.Errorf("2:4 is %v, %v", p, err)
	}
}

func TestStrips(t *testing.T) {
	for _, c := range []struct {
		layout []Tensor
		dim    int64
		want   []Strip
	}{
		{nil, 9, []Strip{{Lo: 0, Len: 9}}},
		{[]Tensor{{Shape: []int64{2, 3}}, {Shape: []int64{3}, Offset: 6}, {Offset: 9}, {Shape: []int64{5, 2, 2}, Offset: 10}}, 30,
			[]Strip{{Lo: 0, Len: 3}, {Lo: 9, Len: 1}, {Lo: 10, Len: 2}}},
	} {
		if got := Strips(c.layout, c.dim); !slices.Equal(got, c.want) || !slices.Equal(StripList(AppendStrips(nil, got)), got) {
			t.Errorf("%v has strips %v, want %v", c.layout, got, c.want)
		}
	}
}
