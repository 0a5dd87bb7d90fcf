package shard

import "mfac/shard/kernel"

// Write sets columns [lo, lo+n) of the row in slot from n numbers of dtype src, little-endian
// bytes at any alignment, rounded once where the rows' dtype can't say them. It does not look
// at the values: FirstLost does. A store of F16 keeps what it has of a tile until the tile's
// columns are all there: the row reads as before until then.
func (s *Store) Write(slot int, lo int64, p []byte, src DType) error {
	if src > F16 {
		return outOf("dtype", src, "f32, bf16 or f16")
	}
	defer s.kernel.Flush()
	return s.chunks(slot, lo, len(p), src.Size(), kernel.MostTiles, func(w *scratch, tile, col, from, n int) {
		if part := p[from*src.Size() : (from+n)*src.Size()]; s.dtype == F16 && n < s.width(tile) {
			s.writePart(w, cell{slot, tile}, col, part, src)
		} else if tiles := n / TileCols; tiles > 1 {
			var g [kernel.MostTiles]kernel.Tile
			for i := range tiles {
				g[i] = s.tile(tile + i)
				s.forget(cell{slot, tile + i})
			}
			s.kernel.PutTiles(&w.Scratch, g[:tiles], slot, part, src)
		} else {
			s.forget(cell{slot, tile})
			s.kernel.Put(&w.Scratch, s.tile(tile), slot, col, part, src)
		}
	})
}

// ReadRow sets dst to columns [lo, lo+len(dst)/4) of the row in slot, as little-endian
// float32 bytes, which can say all that a row can.
func (s *Store) ReadRow(dst []byte, slot int, lo int64) error {
	return s.chunks(slot, lo, len(dst), 4, 1, func(_ *scratch, tile, col, from, n int) {
		kernel.Get(dst[4*from:4*(from+n)], s.tile(tile), slot, col)
	})
}

// Zero sets the row in slot to zeros.
func (s *Store) Zero(slot int) error {
	if err := s.checkSlot(slot); err != nil {
		return err
	}
	for i := range s.tiles() {
		s.forget(cell{slot, i})
		kernel.Zero(s.tile(i), slot, 0)
	}
	return nil
}

// chunks cuts the columns from lo on, of which there are bytes bytes, where the tiles end: n of
// them, from on, are the tile's from col on, or all of up to most tiles of TileCols columns.
func (s *Store) chunks(slot int, lo int64, bytes, size, most int, f func(w *scratch, tile, col, from, n int)) error {
	if err := s.checkSlot(slot); err != nil {
		return err
	}
	if bytes%size != 0 {
		return outOf("number of bytes", bytes, "a multiple of %d", size)
	}
	if err := s.checkRange(lo, int64(bytes/size)); err != nil {
		return err
	}
	me := s.caller()
	defer s.leave(me)
	w := scratchOf(me)
	for from := 0; from < bytes/size; {
		tile, col := int(lo/TileCols), int(lo%TileCols)
		n := min(bytes/size-from, TileCols-col)
		if whole := min(most, (bytes/size-from)/TileCols); col == 0 && whole > 1 {
			n = whole * TileCols
		}
		f(w, tile, col, from, n)
		from, lo = from+n, lo+int64(n)
	}
	return nil
}

// cell is a slot's row in a tile.
type cell struct{ slot, tile int }

// partialRow is what has come of one: a power of two for all of it can't be chosen yet.
type partialRow struct {
	x    [4 * TileCols]byte // float32
	have [TileCols]bool
	n    int
}

func (s *Store) writePart(w *scratch, c cell, col int, p []byte, src DType) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.partial[c]
	if row == nil {
		row = &partialRow{}
		s.partial[c] = row
	}
	n := len(p) / src.Size()
	kernel.Float32(row.x[4*col:4*(col+n)], p, src)
	for j := col; j < col+n; j++ {
		if !row.have[j] {
			row.have[j] = true
			row.n++
		}
	}
	if width := s.width(c.tile); row.n == width {
		delete(s.partial, c)
		s.kernel.Put(&w.Scratch, s.tile(c.tile), c.slot, 0, row.x[:4*width], F32)
	}
}

// forget drops what has come of a cell that is set otherwise.
func (s *Store) forget(c cell) {
	if s.dtype == F16 {
		s.mu.Lock()
		delete(s.partial, c)
		s.mu.Unlock()
	}
}

// Begin forgets what came of an earlier row of the slot that was never written whole.
func (s *Store) Begin(slot int) error {
	if err := s.checkSlot(slot); err != nil {
		return err
	}
	if s.dtype == F16 {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.partial {
			if c.slot == slot {
				delete(s.partial, c)
			}
		}
	}
	return nil
}

// Erase sets the slot's row to zeros, padding and powers of two too, and forgets what came of one
// that was never whole. O(d) writes. Nothing may read or write the slot meanwhile.
func (s *Store) Erase(slot int) error {
	if err := s.Begin(slot); err != nil {
		return err
	}
	for i := range s.tiles() {
		kernel.Zero(s.tile(i), slot, 0)
	}
	return nil
}
