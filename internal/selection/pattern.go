package selection

import (
	"cmp"
	"fmt"
	"slices"
)

// This file: patterns N:M, at most N of each M consecutive weights not 0. Groups are chosen from one by
// one; of a group that lies on several shards the scores are moved, fewer than M from each of its ends.

// MaxOf is the largest M.
const MaxOf = 64

// Strip says that from column Lo on, to the next strip's, groups begin anew every Len columns, as the
// rows of a tensor's last dimension do.
type Strip struct{ Lo, Len int64 }

// CheckPattern checks that at most keep of each so many are to stay.
func CheckPattern(keep, of int) error {
	if of < 2 || of > MaxOf || keep < 1 || keep >= of {
		return fmt.Errorf("N:M with 1 <= N < M <= %d", MaxOf)
	}
	return nil
}

// CheckStrips checks what comes from elsewhere: all strips, of which the first begins at column 0, or some.
func CheckStrips(strips []Strip, all bool) error {
	for i, s := range strips {
		switch {
		case all && i == 0 && s.Lo != 0:
			return fmt.Errorf("strip 0 begins at %d, must be at 0", s.Lo)
		case i > 0 && s.Lo <= strips[i-1].Lo:
			return fmt.Errorf("strip %d begins at %d, must be after %d", i, s.Lo, strips[i-1].Lo)
		case s.Len < 1:
			return fmt.Errorf("strip %d has rows of %d, must be at least 1", i, s.Len)
		}
	}
	if len(strips) == 0 {
		return fmt.Errorf("there are no strips, must be one at least")
	}
	return nil
}

// Within is the strips that columns [lo, hi) lie in, and one that begins where these end: at another one's
// first column, or at dim.
func Within(strips []Strip, dim, lo, hi int64) []Strip {
	a, _ := slices.BinarySearchFunc(strips, lo+1, func(s Strip, lo int64) int { return cmp.Compare(s.Lo, lo) })
	b, _ := slices.BinarySearchFunc(strips, hi, func(s Strip, hi int64) int { return cmp.Compare(s.Lo, hi) })
	out := slices.Clone(strips[a-1 : b])
	if b < len(strips) {
		dim = strips[b].Lo
	}
	return append(out, Strip{Lo: dim, Len: 1})
}

// Edges are the groups that have columns of [lo, hi) and others: at most two.
func Edges(strips []Strip, of int, lo, hi int64) (edges [][2]int64) {
	for _, j := range []int64{lo, hi - 1} {
		_ = EachGroup(strips, of, j, j+1, func(a, b int64) error { // it returns what f does
			if g := [2]int64{a, b}; (a < lo || b > hi) && !slices.Contains(edges, g) {
				edges = append(edges, g)
			}
			return nil
		})
	}
	return edges
}

// EachGroup calls f for the groups [a, b) of at most so many columns that have columns of [lo, hi), in their
// order, till it returns an error. Strips are those that Within gives, or more; the last one but marks the
// end.
func EachGroup(strips []Strip, of int, lo, hi int64, f func(a, b int64) error) error {
	m := int64(of)
	for i, s := range strips[:len(strips)-1] {
		end := strips[i+1].Lo
		if end <= lo {
			continue
		}
		if s.Lo >= hi {
			return nil
		}
		// The first row and group that reach beyond lo.
		row, a := s.Lo, s.Lo
		if lo > s.Lo {
			row += (lo - s.Lo) / s.Len * s.Len
			a = row + (lo-row)/m*m
		}
		for a < min(end, hi) {
			rowEnd := min(end, row+min(s.Len, end-row))
			b := min(a+m, rowEnd)
			if err := f(a, b); err != nil {
				return err
			}
			if a = b; a == rowEnd {
				row = rowEnd
			}
		}
	}
	return nil
}

// In a group's scores, what can't be chosen.
const (
	Fixed = -1 // stays as it is
	Gone  = -2 // is 0 already
)

// Group sets chosen for what has to go of a group, so that at most keep of it are not 0: the lowest
// scores, equal ones by index. A group in which nothing can be chosen is left as it is. It
// answers how many were chosen; no score is NaN; ok is false where more than keep are fixed, and nothing is chosen then.
func Group(chosen []bool, score []float64, keep int) (count int, ok bool) {
	clear(chosen)
	free, need := 0, len(score)-keep
	for _, s := range score {
		switch {
		case s == Gone:
			need--
		case s != Fixed:
			free++
		}
	}
	if free == 0 || need <= 0 {
		return 0, true
	}
	if need > free {
		return 0, false
	}
	for range need {
		best := -1
		for i, s := range score {
			if s >= 0 && !chosen[i] && (best < 0 || s < score[best]) {
				best = i
			}
		}
		chosen[best] = true
	}
	return need, true
}
