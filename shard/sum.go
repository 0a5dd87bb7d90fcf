package shard

import (
	"fmt"

	"mfac/shard/pool"
)

// A Sum is products that are worked out as columns come, in any order, with the bits that Products
// or Dots gives: units of columns that are complete are multiplied and go into the tree of sums.
// It is made by BeginProducts or BeginDots and ended by End; not for use by several goroutines.
type Sum struct {
	s    *Store
	p    *pass
	left []int32 // columns that are missing, by unit
	todo int     // units that are not in the tree
	err  error   // of an Add, which left it undefined
}

// BeginProducts begins the products of the row in slot, of which Add says what has come, with those
// in mask. The rows in mask but for slot's own are there from the beginning.
func (s *Store) BeginProducts(slot int, mask Mask) (*Sum, error) {
	if err := s.checkSlot(slot); err != nil {
		return nil, err
	}
	if err := s.checkMask(mask); err != nil {
		return nil, err
	}
	p, _ := s.products(slot, mask)
	return s.begin(p, s.slots, 1), nil
}

// BeginDots begins the products of vectors with the rows in mask, and the vectors' squared norms.
// Of the vectors, at most 64, Add says what has come.
func (s *Store) BeginDots(x []Vector, mask Mask) (*Sum, error) {
	if len(x) == 0 || len(x) > together {
		return nil, outOf("vectors", len(x), "1 to %d", together)
	}
	if err := s.checkVectors("x", x...); err != nil {
		return nil, err
	}
	if err := s.checkMask(mask); err != nil {
		return nil, err
	}
	p, _ := s.dots(x, mask)
	p.norms = true
	return s.begin(p, len(x)*(s.slots+1), len(x)), nil
}

func (s *Store) begin(p *pass, n, vectors int) *Sum {
	units := p.count()
	p.tree.begin(n, units)
	p.arriving = true
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &Sum{}
	if last := len(s.sums) - 1; last >= 0 {
		a, s.sums = s.sums[last], s.sums[:last]
	}
	a.s, a.p, a.todo, a.err = s, p, units, nil
	if cap(a.left) < units {
		a.left = make([]int32, units)
	}
	a.left = a.left[:units]
	each := int64(TileCols) << p.levels
	for i := range a.left {
		a.left[i] = int32(int64(vectors) * min(each, s.cols-int64(i)*each))
	}
	return a
}

// Add says that columns [lo, lo+n) of the row, or of one of the vectors, have come; each comes
// once. It multiplies what is complete now, and abort, which may be nil, ends it. An error that is
// not an *Error leaves the Sum undefined.
func (a *Sum) Add(abort *pool.Cancel, lo, n int64) error {
	if a.err != nil {
		return a.err
	}
	s, p := a.s, a.p
	if err := s.checkRange(lo, n); err != nil || n == 0 {
		return err
	}
	each := int64(TileCols) << p.levels
	first, end := int(lo/each), int((lo+n-1)/each)+1
	for i := first; i < end; i++ {
		if a.part(i, lo, n) > a.left[i] {
			return outOf("columns", fmt.Sprintf("[%d, %d)", lo, lo+n), "ones that have not come")
		}
	}
	for i := first; i < end; {
		from := i
		for ; i < end && a.left[i] == a.part(i, lo, n); i++ {
			a.left[i] = 0
		}
		if i == from {
			a.left[i] -= a.part(i, lo, n)
			i++
			continue
		}
		if a.err = a.multiply(abort, from, i-from); a.err != nil {
			return a.err
		}
	}
	return nil
}

// part is how many columns of unit i are in [lo, lo+n).
func (a *Sum) part(i int, lo, n int64) int32 {
	each := int64(TileCols) << a.p.levels
	start := int64(i) * each
	return int32(min(start+each, lo+n) - max(start, lo))
}

func (a *Sum) multiply(abort *pool.Cancel, first, n int) error {
	s := a.s.For(a.s.spec.Class, abort)
	vectors := int64(max(1, len(a.p.x)))
	work := vectors * int64(a.p.mask.Count()) * int64(n) * (TileCols << a.p.levels)
	if err := s.do(a.p, pool.Span{First: first, N: n, Total: len(a.left)}, work); err != nil {
		return err
	}
	a.todo -= n
	return nil
}

// Leave reads only the slots in mask from now on, a part of the first mask: the others may be
// written. What was to be the product with one of them is none.
func (a *Sum) Leave(mask Mask) error {
	if err := a.s.checkMask(mask); err != nil {
		return err
	}
	a.p.mask = mask
	return nil
}

// Result sets dst to what Products does, Slots() numbers, or to what Dots does, and then a squared
// norm a vector. All columns have come.
func (a *Sum) Result(dst []float64) error {
	if a.err != nil {
		return a.err
	}
	if err := checkLen("dst", len(dst), int64(a.p.tree.n)); err != nil {
		return err
	}
	if a.todo > 0 {
		return outOf("columns to come", fmt.Sprintf("in %d of %d units", a.todo, len(a.left)), "none")
	}
	copy(dst, a.p.tree.sum())
	return nil
}

// End gives back what the Sum holds. It is not to be used any more.
func (a *Sum) End() {
	s := a.s
	s.done(a.p)
	a.s, a.p = nil, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sums = append(s.sums, a)
}
