package worker

import (
	"fmt"
	"slices"

	"mfac/internal/planted"
	"mfac/shard"
	"mfac/wire"
)

// slice is a shard's part of a gradient or a vector, as its chunks come in. Columns count from
// the run's first one.
type slice struct {
	lo, cols int64
	spans    []*span // by lo, disjoint
	have     int64   // columns written
	parts    parts   // of a row in float16
}

// span is a chunk: admitted, and written when done.
type span struct {
	lo, n   int64
	dtype   wire.DType
	sum     uint32
	done    bool
	waiters []Request // of its acknowledgement
}

// admit finds out what a chunk is: a new span, which it adds and returns with fresh true, or a
// duplicate of one. Other bytes for the same columns are a conflict, and so is another dtype.
func (s *slice) admit(lo, n int64, t wire.DType, sum uint32) (sp *span, fresh bool, err error) {
	if lo < s.lo || n > s.cols || lo-s.lo > s.cols-n {
		return nil, false, wire.Invalid("columns", fmt.Sprintf("[%d, %d)", lo, lo+n), fmt.Sprintf("within the shard's [%d, %d)", s.lo, s.lo+s.cols))
	}
	i, found := slices.BinarySearchFunc(s.spans, lo, func(p *span, lo int64) int {
		switch {
		case p.lo < lo:
			return -1
		case p.lo > lo:
			return 1
		}
		return 0
	})
	if found && s.spans[i].n == n {
		if s.spans[i].dtype != t {
			return nil, false, wire.Errorf(wire.CodeConflict, "dtype", t, string(s.spans[i].dtype)+", which was sent before",
				"columns [%d, %d) came in another dtype for the same attempt", lo, lo+n)
		}
		if s.spans[i].sum != sum {
			return nil, false, wire.Errorf(wire.CodeConflict, "columns", fmt.Sprintf("[%d, %d)", lo, lo+n), "the bytes that were sent before",
				"other bytes came for the same columns of the same attempt")
		}
		return s.spans[i], planted.On(planted.DuplicateTwice), nil
	}
	if found || i > 0 && s.spans[i-1].lo+s.spans[i-1].n > lo || i < len(s.spans) && s.spans[i].lo < lo+n {
		return nil, false, wire.Invalid("columns", fmt.Sprintf("[%d, %d)", lo, lo+n), "equal to an earlier chunk's or disjoint from all of them")
	}
	if len(s.spans) >= maxSpans {
		return nil, false, wire.Errorf(wire.CodeTooLarge, "chunks of a slice", len(s.spans)+1, fmt.Sprintf("at most %d", maxSpans))
	}
	if !s.parts.take(s, lo, n) {
		return nil, false, wire.Errorf(wire.CodeTooLarge, "tiles begun and not whole", len(s.parts)+1, fmt.Sprintf("at most %d", maxParts),
			"send the columns of a float16 store by 1,024 and more, from the shard's first one on")
	}
	sp = &span{lo: lo, n: n, dtype: t, sum: sum}
	s.spans = slices.Insert(s.spans, i, sp)
	return sp, true, nil
}

// remove takes back a span whose bytes turned out not to be what its checksum says.
func (s *slice) remove(sp *span) {
	if i := slices.Index(s.spans, sp); i >= 0 {
		s.spans = slices.Delete(s.spans, i, i+1)
		s.parts.giveBack(s, sp.lo, sp.n)
	}
}

// parts is how many columns of a tile have been admitted, of the tiles of which some have and some
// have not: a store of float16 keeps such a tile aside, in 5 KiB. It is nil for other stores.
type parts map[int64]int64

// take counts columns that are new; ok false: there would be too many tiles.
func (p parts) take(s *slice, lo, n int64) (ok bool) {
	if p == nil {
		return true
	}
	more := 0
	p.ends(s, lo, n, func(tile, cols, width int64) {
		if p[tile] == 0 {
			more++
		}
	})
	if len(p)+more > maxParts {
		return false
	}
	p.ends(s, lo, n, func(tile, cols, width int64) {
		if p[tile] += cols; p[tile] == width {
			delete(p, tile)
		}
	})
	return true
}

// giveBack undoes take.
func (p parts) giveBack(s *slice, lo, n int64) {
	if p == nil {
		return
	}
	p.ends(s, lo, n, func(tile, cols, width int64) {
		if p[tile] == 0 {
			p[tile] = width
		}
		if p[tile] -= cols; p[tile] == 0 {
			delete(p, tile)
		}
	})
}

// ends calls f for the tiles of which columns [lo, lo+n) are a part: the first and the last, if any.
func (p parts) ends(s *slice, lo, n int64, f func(tile, cols, width int64)) {
	first, end := lo-s.lo, lo-s.lo+n
	for _, tile := range []int64{first / shard.TileCols, (end - 1) / shard.TileCols} {
		a, b := tile*shard.TileCols, min((tile+1)*shard.TileCols, s.cols)
		if cols := min(end, b) - max(first, a); cols < b-a {
			f(tile, cols, b-a)
		}
		if tile == (end-1)/shard.TileCols {
			return
		}
	}
}

func (s *slice) whole() bool { return s.have == s.cols }

// flow is the credit that a worker hands out: how many bytes each client may have in flight.
type flow struct {
	budget   int64
	inflight int64 // bytes admitted and not yet answered
	granted  int64 // sum of grants
	grants   map[string]grant
}

type grant struct {
	bytes   int64
	expires int64 // tick
}

// admit takes bytes into flight, or says that there is no room.
func (f *flow) admit(bytes int64) error {
	if f.inflight+bytes > f.budget {
		return wire.Errorf(wire.CodeBusy, "bytes in flight", f.inflight+bytes, fmt.Sprintf("at most %d", f.budget), "send it again in a moment")
	}
	f.inflight += bytes
	return nil
}

// renew gives a client what it wants of what is free. A grant that isn't renewed expires, so that
// clients that went away hold nothing.
func (f *flow) renew(client string, want, expires int64) int64 {
	old := f.grants[client]
	f.granted -= old.bytes
	bytes := max(0, min(want, maxCredit, f.budget-f.granted))
	if bytes == 0 {
		delete(f.grants, client)
		return 0
	}
	f.granted += bytes
	f.grants[client] = grant{bytes, expires}
	return bytes
}

func (f *flow) expire(tick int64) {
	for _, client := range sortedKeys(f.grants) {
		if g := f.grants[client]; g.expires <= tick {
			f.granted -= g.bytes
			delete(f.grants, client)
		}
	}
}

// credit renews a client's grant for an acknowledgement.
func (c *Core) credit(client string, want int64) (bytes, ms int64) {
	return c.flow.renew(client, want, c.tick+creditMS/c.cfg.TickMS), creditMS
}

// accepts tells whether a shard that adopted one epoch hears another: itself alone.
func accepts(adopted, epoch wire.Epoch) bool {
	return adopted == epoch || planted.On(planted.StaleEpoch)
}
