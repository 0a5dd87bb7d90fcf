package shard

import "mfac/shard/pool"

// together is the number of vectors in one reading of the rows: the scratch of a pass is
// together × slots numbers for each goroutine some times over.
const together = 64

// gramRows is the number of rows of a Gram matrix in one reading.
const gramRows = 64

// Products sets dst[t], for each slot t in mask, to the product of the row in slot with
// the row in t, itself too if in mask; the others to 0. dst has length Slots().
func (s *Store) Products(dst []float64, slot int, mask Mask) error {
	if err := s.checkSlot(slot); err != nil {
		return err
	}
	if err := s.checkMask(mask); err != nil {
		return err
	}
	if err := checkLen("dst", len(dst), int64(s.slots)); err != nil {
		return err
	}
	p, work := s.products(slot, mask)
	return s.total(dst, p, work)
}

func (s *storage) products(slot int, mask Mask) (p *pass, work int64) {
	work = int64(mask.Count()) * s.cols
	p = s.pass(opProducts, 0, s.tiles(), work)
	p.slot, p.mask = slot, mask
	return p, work
}

// Dots sets dst[i*Slots()+t] to the product of x[i] with the row in t, for each slot t in
// mask, and the others to 0: G x for k = len(x) vectors of Cols() columns each, in one
// reading of G (one for each 64). dst has length k*Slots(). Each vector gets the bits that
// it gets alone. What is not finite in x gives what float64 gives: NaN or an infinity.
func (s *Store) Dots(dst []float64, x []Vector, mask Mask) error {
	if err := s.checkVectors("x", x...); err != nil {
		return err
	}
	if err := s.checkMask(mask); err != nil {
		return err
	}
	if err := checkLen("dst", len(dst), int64(len(x))*int64(s.slots)); err != nil {
		return err
	}
	for len(x) > 0 {
		k := min(len(x), together)
		p, work := s.dots(x[:k], mask)
		if err := s.total(dst[:k*s.slots], p, work); err != nil {
			return err
		}
		x, dst = x[k:], dst[k*s.slots:]
	}
	return nil
}

// Gram sets dst to rows i0 ≤ i < i1 of the lower triangle of GGᵀ, where G's rows are those
// in slots, in that order. Row i has the i+1 entries j ≤ i, and the rows are packed one
// after the other: dst has length (i1(i1+1) − i0(i0+1))/2. The rows are read once for
// every 16 of i. Entries have the bits that Products gives.
func (s *Store) Gram(dst []float64, slots []int, i0, i1 int) error {
	return s.gram(dst, slots, i0, i1, nil)
}

func (s *Store) gram(dst []float64, slots []int, i0, i1 int, out []byte) error {
	for _, t := range slots {
		if err := s.checkSlot(t); err != nil {
			return err
		}
	}
	if i1 < 0 || i1 > len(slots) {
		return outOf("i1", i1, "0 to %d", len(slots))
	}
	if i0 < 0 || i0 > i1 {
		return outOf("i0", i0, "0 to %d", i1)
	}
	if err := checkLen("dst", len(dst), (int64(i1)*int64(i1+1)-int64(i0)*int64(i0+1))/2); err != nil {
		return err
	}
	for i := i0; i < i1; {
		next := min(i+gramRows, i1)
		n := (next*(next+1) - i*(i+1)) / 2
		p := s.pass(opGram, 0, s.tiles(), int64(n)*s.cols)
		p.slots, p.i0, p.i1, p.out = slots, i, next, out
		if s.scales != nil {
			p.mask = MaskOf(s.slots, slots...)
		}
		if err := s.total(dst[:n], p, int64(n)*s.cols); err != nil {
			return err
		}
		dst, i = dst[n:], next
	}
	return nil
}

func (s *storage) dots(x []Vector, mask Mask) (p *pass, work int64) {
	work = int64(len(x)) * int64(mask.Count()) * s.cols
	p = s.pass(opDots, 0, s.tiles(), work)
	p.k, p.x, p.mask = len(x), x, mask
	return p, work
}

// Dot is the product of u and v, of Cols() columns each.
func (s *Store) Dot(u, v Vector) (float64, error) {
	if err := s.checkVectors("vector", u, v); err != nil {
		return 0, err
	}
	p := s.pass(opDot, 0, s.tiles(), s.cols)
	p.own = [2]Vector{u, v}
	p.x = p.own[:]
	n := p.count()
	p.tree.begin(1, n)
	defer s.done(p)
	if err := s.do(p, pool.All(n), s.cols); err != nil {
		return 0, err
	}
	return p.tree.sum()[0], nil
}

// Norm2 is the square of x's 2-norm, x of Cols() columns.
func (s *Store) Norm2(x Vector) (float64, error) { return s.Dot(x, x) }
