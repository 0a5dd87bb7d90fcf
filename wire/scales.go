package wire

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
)

// This file: dampings of their own for parts of the parameters (maths.md, "Weights and dampings").

// A Scale says that columns from Lo on, up to the next Scale's, have a damping of R times λ.
type Scale struct {
	Lo int64
	R  float64
}

// Limits of a run's scales.
const (
	MaxScales = 512
	MinScale  = 1e-50
	MaxScale  = 1e50
)

// Scales are those of a whole run, in the order of the columns from 0 on, as a spec has them: "" where all are 1, else
// lo:r, with commas between, r in Go's shortest form ("0:1,640:0.25"); neighbours differ.
type Scales string

// ScalesOf is the canonical form of a list, in which neighbours may be the same.
func ScalesOf(list []Scale) Scales {
	var s strings.Builder
	last := math.NaN()
	ones := true
	for _, f := range list {
		if f.R == last {
			continue
		}
		if s.Len() > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, "%d:%s", f.Lo, strconv.FormatFloat(f.R, 'g', -1, 64))
		ones = ones && f.R == 1
		last = f.R
	}
	if ones {
		return ""
	}
	return Scales(s.String())
}

// Parse checks scales of a run of dim columns. None: all are 1.
func (f Scales) Parse(dim int64) ([]Scale, error) {
	if f == "" {
		return nil, nil
	}
	parts := strings.Split(string(f), ",")
	if len(parts) > MaxScales {
		return nil, Errorf(CodeTooLarge, "scales", len(parts), "at most "+itoa(MaxScales), "neighbours of one damping are one")
	}
	list := make([]Scale, len(parts))
	for i, p := range parts {
		lo, r, ok := strings.Cut(p, ":")
		var err error
		if ok {
			if list[i].Lo, err = strconv.ParseInt(lo, 10, 64); err == nil {
				list[i].R, err = strconv.ParseFloat(r, 64)
			}
		}
		if !ok || err != nil {
			return nil, Invalid("scales", strconv.Quote(p), "a column and a number, as 640:0.25")
		}
		if err := CheckScale("scales", list[i].R); err != nil {
			return nil, err
		}
		if i == 0 && list[i].Lo != 0 || i > 0 && list[i].Lo <= list[i-1].Lo || list[i].Lo >= dim {
			return nil, Invalid("scales", strconv.Quote(p), fmt.Sprintf("columns from 0 on that grow, below %d", dim))
		}
	}
	if c := ScalesOf(list); c != f {
		return nil, Invalid("scales", strconv.Quote(string(f)), "in its canonical form, "+strconv.Quote(string(c)))
	}
	return list, nil
}

// CheckScale checks a scale of λ.
func CheckScale(field string, r float64) error {
	if !(r >= MinScale && r <= MaxScale) {
		return Invalid(field, r, fmt.Sprintf("in [%g, %g], times λ", MinScale, MaxScale))
	}
	return nil
}

// Within are those of columns [lo, lo+n), counted from lo; nil where there are none.
func (f Scales) Within(lo, n int64) []Scale {
	list, err := f.Parse(math.MaxInt64)
	if err != nil || list == nil {
		return nil
	}
	var out []Scale
	for i, x := range list {
		end := int64(math.MaxInt64)
		if i+1 < len(list) {
			end = list[i+1].Lo
		}
		if end > lo && x.Lo < lo+n {
			out = append(out, Scale{max(x.Lo-lo, 0), x.R})
		}
	}
	return out
}

// Least is the smallest factor.
func (f Scales) Least() float64 {
	least := math.Inf(1)
	list, _ := f.Parse(math.MaxInt64)
	for _, x := range list {
		least = min(least, x.R)
	}
	if len(list) == 0 {
		return 1
	}
	return least
}

// Most is the largest factor.
func (f Scales) Most() float64 {
	most := 1.0
	list, _ := f.Parse(math.MaxInt64)
	for i, x := range list {
		if i == 0 {
			most = x.R
		}
		most = max(most, x.R)
	}
	return most
}

// Fit checks that each block of a partition has one scale.
func (f Scales) Fit(p Partition) error {
	list, err := f.Parse(math.MaxInt64)
	if err != nil {
		return err
	}
	for _, x := range list {
		if lo, hi := p.At(x.Lo); lo != x.Lo {
			return Errorf(CodeUnsupported, "block", fmt.Sprintf("[%d, %d)", lo, hi), fmt.Sprintf("of one damping: another one begins at column %d", x.Lo),
				"blocks that end where tensors do have one")
		}
	}
	return nil
}

// At is those of columns.
func (f Scales) At(cols ...int64) []float64 {
	out := make([]float64, len(cols))
	list, _ := f.Parse(math.MaxInt64)
	for i, col := range cols {
		out[i] = 1
		if k := sort.Search(len(list), func(k int) bool { return list[k].Lo > col }); k > 0 {
			out[i] = list[k-1].R
		}
	}
	return out
}
