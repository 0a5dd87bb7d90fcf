package worker

import (
	"fmt"
	"slices"

	"mfac/internal/planted"
	"mfac/wire"
)

// slice is a shard's part of a gradient or a vector, as its chunks come in. Columns count from
// the run's first one.
type slice struct {
	lo, cols int64
	spans    []*span // by lo, disjoint
	have     int64   // columns written
}

// span is a chunk: admitted, and written when done.
type span struct {
	lo, n   int64
	sum     uint32
	done    bool
	waiters []Request // of its acknowledgement
}

// admit finds out what a chunk is: a new span, which it adds and returns with fresh true, or a
// duplicate of one. Other bytes for the same columns are a conflict.
func (s *slice) admit(lo, n int64, sum uint32) (sp *span, fresh bool, err error) {
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
	sp = &span{lo: lo, n: n, sum: sum}
	s.spans = slices.Insert(s.spans, i, sp)
	return sp, true, nil
}

// remove takes back a span whose bytes turned out not to be what its checksum says.
func (s *slice) remove(sp *span) {
	if i := slices.Index(s.spans, sp); i >= 0 {
		s.spans = slices.Delete(s.spans, i, i+1)
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
