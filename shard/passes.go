package shard

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
	s.dots(dst, 1, mask, func(x []float64, _, tile int) { s.kernel.Row(x, s.tile(tile), slot) })
	return nil
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
		s.dots(dst[:k*s.slots], k, mask, func(to []float64, i, tile int) { x[i].load(s.kernel, to, int64(tile)*TileCols) })
		x, dst = x[k:], dst[k*s.slots:]
	}
	return nil
}

// Gram sets dst to rows i0 ≤ i < i1 of the lower triangle of GGᵀ, where G's rows are those
// in slots, in that order. Row i has the i+1 entries j ≤ i, and the rows are packed one
// after the other: dst has length (i1(i1+1) − i0(i0+1))/2. The rows are read once for
// every 16 of i. Entries have the bits that Products gives.
func (s *Store) Gram(dst []float64, slots []int, i0, i1 int) error {
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
		s.sum(dst[:n], int64(n)*s.cols, func(w *scratch, tile int, y []float64) {
			s.kernel.Gram(&w.Scratch, y, s.tile(tile), slots, i, next)
		})
		dst, i = dst[n:], next
	}
	return nil
}

// dots is G x for k vectors; load sets x to the padded columns of vector i in a tile.
func (s *Store) dots(dst []float64, k int, mask Mask, load func(x []float64, i, tile int)) {
	n := int64(mask.Count())
	s.sum(dst, int64(k)*n*s.cols, func(w *scratch, tile int, y []float64) {
		g := s.tile(tile)
		x := grow(&w.x, k*g.Cols())
		for i := range k {
			load(x[i*g.Cols():(i+1)*g.Cols()], i, tile)
		}
		s.kernel.Dots(&w.Scratch, y, g, x, mask)
	})
}

// Dot is the product of u and v, of Cols() columns each.
func (s *Store) Dot(u, v Vector) (float64, error) {
	if err := s.checkVectors("vector", u, v); err != nil {
		return 0, err
	}
	var dst [1]float64
	s.sum(dst[:], s.cols, func(w *scratch, tile int, y []float64) {
		n := (s.width(tile) + 15) &^ 15
		x := grow(&w.x, 2*n)
		u.load(s.kernel, x[:n], int64(tile)*TileCols)
		v.load(s.kernel, x[n:], int64(tile)*TileCols)
		y[0] = s.kernel.Dot(x[:n], x[n:])
	})
	return dst[0], nil
}

// Norm2 is the square of x's 2-norm, x of Cols() columns.
func (s *Store) Norm2(x Vector) (float64, error) { return s.Dot(x, x) }
