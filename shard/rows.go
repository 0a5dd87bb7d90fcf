package shard

import "mfac/shard/kernel"

// Write sets columns [lo, lo+len(p)/4) of the row in slot from little-endian float32
// bytes, at any alignment. It does not look at the values: FirstNonFinite32 does.
func (s *Store) Write(slot int, lo int64, p []byte) error {
	return s.chunks(slot, lo, p, func(g kernel.Tile, col int, p []byte) { s.kernel.Put(g, slot, col, p) })
}

// ReadRow sets dst to columns [lo, lo+len(dst)/4) of the row in slot, as little-endian
// float32 bytes.
func (s *Store) ReadRow(dst []byte, slot int, lo int64) error {
	return s.chunks(slot, lo, dst, func(g kernel.Tile, col int, p []byte) { kernel.Get(p, g, slot, col) })
}

// Zero sets the row in slot to zeros.
func (s *Store) Zero(slot int) error {
	if err := s.checkSlot(slot); err != nil {
		return err
	}
	for i := range s.tiles() {
		kernel.Zero(s.tile(i), slot, 0)
	}
	return nil
}

// chunks cuts columns [lo, lo+len(p)/4) where the tiles end.
func (s *Store) chunks(slot int, lo int64, p []byte, f func(g kernel.Tile, col int, p []byte)) error {
	if err := s.checkSlot(slot); err != nil {
		return err
	}
	if len(p)%4 != 0 {
		return outOf("number of bytes", len(p), "a multiple of 4")
	}
	if err := s.checkRange(lo, int64(len(p)/4)); err != nil {
		return err
	}
	for len(p) > 0 {
		i, col := int(lo/TileCols), int(lo%TileCols)
		n := min(len(p)/4, TileCols-col)
		f(s.tile(i), col, p[:4*n])
		p, lo = p[4*n:], lo+int64(n)
	}
	return nil
}
