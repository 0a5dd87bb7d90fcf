package shard

import "mfac/shard/kernel"

// Take copies rows of old, a Store of the same columns and dtype and any number of slots, bit by bit: that
// in slot from[i] to slot to[i]. Tile by tile: after each one done hears how many of old's bytes, from
// its Region's first on, are not read any more. Slots that are not in to stay as they are. The error is an *Error.
func (s *Store) Take(old *Store, from, to []int, done func(bytes int64)) error {
	if old.cols != s.cols || old.dtype != s.dtype {
		return outOf("store", old.dtype.String(), "%d columns of %v", s.cols, s.dtype)
	}
	if err := checkLen("to", len(to), int64(len(from))); err != nil {
		return err
	}
	for i := range from {
		if err := old.checkSlot(from[i]); err != nil {
			return err
		}
		if err := s.checkSlot(to[i]); err != nil {
			return err
		}
	}
	for i := range s.tiles() {
		dst, src := s.tile(i), old.tile(i)
		for k := range from {
			kernel.CopyRow(dst, to[k], src, from[k])
		}
		if i+1 < s.tiles() {
			done(int64(i+1) * tileStride(old.dtype, old.slots))
		}
	}
	return nil
}
