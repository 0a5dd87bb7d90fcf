package window

import (
	"fmt"
	"slices"
	"strconv"
)

// fewErased is how many rows leave by updates of the factor, or of a larger window that part of it:
// each costs up to n² rotations, all n³/3 multiplications make it anew.
const fewErased = 16

// Erase removes rows, of distinct indices in age order, as Drop does, and leaves no number of
// theirs behind: what A and the factors still hold of them is zeroed. O(m²) beside the drops; where
// many leave, the factor is made anew when next asked for, O(n³). An InvalidError for an index out
// of range or named twice; then nothing has changed. Factors that were handed out are stale, those
// of a Clone are that one's.
func (w *Window) Erase(rows []int) error {
	if len(rows) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(rows))
	for i, r := range sorted {
		if r < 0 || r >= w.n {
			return &InvalidError{"row", strconv.Itoa(r), fmt.Sprintf("in [0, %d)", w.n)}
		}
		if i > 0 && sorted[i-1] == r {
			return &InvalidError{"row", strconv.Itoa(r), "named once"}
		}
	}
	many := len(sorted) > max(fewErased, w.n/fewErased)
	for _, r := range slices.Backward(sorted) { // in one order, whatever the caller's: W5
		if many {
			w.remove(r)
		} else if err := w.Drop(r); err != nil {
			return err
		}
	}
	if many {
		w.start()
	}
	m := w.capacity
	for _, s := range w.slot[w.n:] {
		clear(w.a[s*m : (s+1)*m])
		if w.weight != nil {
			w.weight[s] = 0
		}
		for i := range m {
			w.a[i*m+s] = 0
		}
	}
	for _, z := range w.other { // each is of a version before
		clear(z.l)
	}
	w.other = nil
	n := 0 // rows of own that are a factor of what is left
	if w.own.version == w.version {
		n = w.own.n
	}
	for i := range m {
		keep := 0
		if i < n {
			keep = i + 1
		}
		clear(w.own.l[i*m+keep : (i+1)*m])
	}
	clear(w.rot)
	for _, v := range w.vec {
		clear(v[:cap(v)])
	}
	w.check()
	return nil
}
