package wire

import (
	"fmt"
	"strconv"
	"strings"

	"mfac/internal/selection"
)

// This file: patterns N:M of a prune query, at most N of each M consecutive weights not 0.

// Strip says that from column Lo on, to the next strip's, groups of a pattern begin anew every Len
// columns.
type Strip = selection.Strip

// Pattern is that at most Keep of each Of consecutive weights are not 0. The zero Pattern is none.
type Pattern struct {
	Keep int `msgpack:"keep"`
	Of   int `msgpack:"of"`
}

// IsZero reports whether p is no pattern at all.
func (p Pattern) IsZero() bool { return p == Pattern{} }

func (p Pattern) String() string { return fmt.Sprintf("%d:%d", p.Keep, p.Of) }

// Validate checks a pattern.
func (p Pattern) Validate() error {
	if err := selection.CheckPattern(p.Keep, p.Of); err != nil {
		return Invalid("pattern", p, err.Error())
	}
	return nil
}

// ParsePattern reads N:M.
func ParsePattern(s string) (Pattern, error) {
	a, b, _ := strings.Cut(s, ":")
	keep, err1 := strconv.Atoi(a)
	of, err2 := strconv.Atoi(b)
	p := Pattern{keep, of}
	if err1 != nil || err2 != nil || p.Validate() != nil {
		return Pattern{}, Invalid("pattern", s, selection.CheckPattern(0, 0).Error())
	}
	return p, nil
}

// Strips are those of a run's layout: groups lie along each tensor's last dimension. Without a layout
// all columns are one row.
func Strips(layout []Tensor, dim int64) []Strip {
	if len(layout) == 0 {
		return []Strip{{Len: dim}}
	}
	var strips []Strip
	for _, t := range layout {
		n := int64(1)
		if len(t.Shape) > 0 {
			n = t.Shape[len(t.Shape)-1]
		}
		if k := len(strips); k > 0 && strips[k-1].Len == n { // a tensor is whole rows
			continue
		}
		strips = append(strips, Strip{Lo: t.Offset, Len: n})
	}
	return strips
}

// AppendStrips appends strips as a payload: Lo and Len, uint64 each.
func AppendStrips(p []byte, strips []Strip) []byte {
	u := make([]uint64, 0, 2*len(strips))
	for _, s := range strips {
		u = append(u, uint64(s.Lo), uint64(s.Len))
	}
	return AppendUint64s(p, u)
}

// StripList reads what AppendStrips wrote. It has been validated.
func StripList(p []byte) []Strip {
	u := Uint64s[uint64](p)
	strips := make([]Strip, len(u)/2)
	for i := range strips {
		strips[i] = Strip{Lo: int64(u[2*i]), Len: int64(u[2*i+1])}
	}
	return strips
}

// checkPhase checks what a client shows as it is.
func checkPhase(phase string) error { return checkNameOrNone("phase", phase) }

// checkStrips checks a payload of strips: all, of which the first begins at column 0, or some.
func checkStrips(p []byte, all bool) error {
	if len(p)%16 != 0 || len(p) == 0 {
		return Invalid("payload bytes", len(p), "a multiple of 16 and not 0: strips")
	}
	for _, x := range Uint64s[uint64](p) {
		if x > MaxDim {
			return Invalid("strip", x, "at most "+itoa(int64(MaxDim)))
		}
	}
	if err := selection.CheckStrips(StripList(p), all); err != nil {
		return Invalid("strips", "wrong", err.Error())
	}
	return nil
}

// TooManyFixed refuses a mask that leaves a group [lo, hi) more weights than the pattern, with others that
// could be pruned beside them.
func TooManyFixed(p Pattern, lo, hi int64) *Error {
	return Invalid("mask", fmt.Sprintf("1 in more than %d of columns [%d, %d)", p.Keep, lo, hi), fmt.Sprintf("1 in at most %d of a group, or in all of it", p.Keep))
}

// MaxStrips is the most strips of one query.
const MaxStrips = MaxPayload / 16
