package worker

import (
	"fmt"
	"slices"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/pool"
	"mfac/wire"
)

// This file: W = L⁻¹G, which a shard keeps for a frozen run. It belongs to a query of its own, so that it goes
// as queries go: with a row that is forgotten, with the owner's epoch, with the shard.

// kept is the W of a hold.
type kept struct {
	slots   []wire.Slot // of its rows, in L's order
	made    int         // of its two memories
	waiter  Token       // of the hold
	seq     uint64
	columns int64 // of W that are there, from the shard's first one on
}

// whole reports whether all of W is there.
func (k *kept) whole(s *shardState) bool { return k.columns == s.cols }

// Ops of W.
type (
	// NewWhite makes room for the W of a hold, of the rows in Slots.
	NewWhite struct {
		Query wire.QueryID
		Slots []int
	}
	// Whiten works out columns [Lo, Hi) of it.
	Whiten struct {
		Query  wire.QueryID
		Slots  []int
		Lo, Hi int64
	}
	// FreeFactor gives the memory of a query's L back.
	FreeFactor struct{ Query wire.QueryID }
)

func (o NewWhite) use() use { return use{track: vecTrack, slot: -1, query: o.Query, ends: true} }

func (o Whiten) use() use { return use{track: queryTrack, slot: -1, query: o.Query, list: o.Slots} }

func (o FreeFactor) use() use { return use{track: vecTrack, slot: -1, query: o.Query, ends: true} }

// whiteBytes is the memory of W of so many rows.
func (s *shardState) whiteBytes(rows int) int64 {
	return 8 * shard.WhiteLen(s.cols, dtype.Of(s.store), rows)
}

// hold makes room for W, and for the L that it is made with.
func (c *Core) hold(e *Effects, in Request, s *shardState, m *wire.Hold) error {
	if slices.Contains(s.closed, m.Query) {
		return unknownQuery(m.Query)
	}
	slots, err := wire.SlotList(m.Payload)
	if err != nil {
		return err
	}
	if q := s.queries[m.Query]; q != nil {
		if q.kept == nil || !slices.Equal(slots, q.kept.slots) || m.Damping != q.damping {
			return wire.Errorf(wire.CodeConflict, "query", uint64(m.Query), "with the rows and damping that it has")
		}
		q.kept.waiter, q.kept.seq = in.From, m.Seq
		c.heldW(e, q)
		return nil
	}
	list, err := s.slotsOf(slots)
	if err != nil {
		return err
	}
	mask, err := s.checkMask(shard.MaskOf(s.slots, list...))
	if err != nil {
		return err
	}
	white, square := s.whiteBytes(len(list)), squareBytes(len(list))
	if free := c.cfg.Capacity - c.used; white > free || square > free-white {
		return wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes for W of shard %d and %d while it is worked out", white, s.index, square),
			fmt.Sprintf("at most the %d bytes free on worker %s", free, c.cfg.ID))
	}
	n := int64(len(list))
	q := &query{
		id: m.Query, kind: wire.KindHold, vectors: 1, mask: mask, damping: m.Damping, result: wire.F64, vecBytes: white + square,
		factor: &factor{slots: slots, left: n * (n + 1) / 2, pieces: map[int64]*factorPiece{}},
		kept:   &kept{slots: slots, waiter: in.From, seq: m.Seq},
	}
	s.queries[q.id] = q
	c.used += q.vecBytes
	for _, op := range []Op{NewFactor{Query: q.id, Slots: list}, NewWhite{Query: q.id, Slots: list}} {
		c.queryJob(e, s, q, op, func(e *Effects, d Done) {
			if q.kept.made++; q.poison == nil {
				q.poison = d.Err
			}
			c.heldW(e, q)
		})
	}
	return nil
}

// heldW answers a hold whose memory is there, or is not to be had.
func (c *Core) heldW(e *Effects, q *query) {
	k := q.kept
	switch {
	case k.made < 2:
		return
	case q.poison != nil:
		err := *q.poison
		err.Seq = k.seq
		e.send(k.waiter, &err)
	default:
		e.send(k.waiter, &wire.OK{Seq: k.seq})
	}
	k.waiter = 0
}

// slotsOf is slots that the shard has.
func (s *shardState) slotsOf(slots []wire.Slot) ([]int, error) {
	list := make([]int, len(slots))
	for i, t := range slots {
		if list[i] = int(t); list[i] >= s.slots {
			return nil, wire.Invalid("slot", t, fmt.Sprintf("below %d", s.slots))
		}
	}
	return list, nil
}

// whiten works out columns of W. With the last ones L goes.
func (c *Core) whiten(e *Effects, in Request, s *shardState, m *wire.Whiten) error {
	q := s.queries[m.Query]
	if q == nil || q.kept == nil {
		return unknownQuery(m.Query)
	}
	if m.Lo < s.lo || m.N > s.cols || m.Lo-s.lo > s.cols-m.N {
		return wire.Invalid("columns", fmt.Sprintf("[%d, %d)", m.Lo, m.Lo+m.N), fmt.Sprintf("within the shard's [%d, %d)", s.lo, s.lo+s.cols))
	}
	k, lo := q.kept, m.Lo-s.lo
	hi := lo + m.N
	switch {
	case q.poison != nil:
		return q.poison
	case hi <= k.columns:
		e.send(in.From, &wire.OK{Seq: m.Seq})
		return nil
	case lo%diagCols != 0 || hi%diagCols != 0 && hi != s.cols:
		return wire.Invalid("columns", fmt.Sprintf("[%d, %d)", m.Lo, m.Lo+m.N), fmt.Sprintf("a multiple of %d from the shard's first one on", diagCols))
	case lo > k.columns:
		return wire.Errorf(wire.CodeConflict, "lo", m.Lo, fmt.Sprintf("at most %d: in order", s.lo+k.columns))
	case q.factor == nil || q.factor.left > 0:
		return wire.Errorf(wire.CodeConflict, "query", uint64(m.Query), "with all of its factor")
	}
	if s.again(m.Seq, in.From) {
		return nil
	}
	list, err := s.slotsOf(k.slots)
	if err != nil {
		return err
	}
	c.queryJob(e, s, q, Whiten{Query: q.id, Slots: list, Lo: lo, Hi: hi}, func(e *Effects, d Done) {
		to := s.finish(m.Seq)
		if d.Err != nil {
			err := *d.Err
			err.Seq = m.Seq
			e.send(to, &err)
			return
		}
		if k.columns = max(k.columns, hi); k.whole(s) && q.factor != nil && s.queries[q.id] == q {
			bytes := squareBytes(len(k.slots))
			q.factor = nil
			q.vecBytes -= bytes
			c.used -= bytes
			c.job(e, s, FreeFactor{Query: q.id}, nil, func(*Effects, Done) {})
		}
		e.send(to, &wire.OK{Seq: m.Seq})
	})
	return nil
}

// keptOf is the query that holds a W which is all there.
func (s *shardState) keptOf(id wire.QueryID) (*query, error) {
	q := s.queries[id]
	if q == nil || q.kept == nil {
		return nil, unknownQuery(id)
	}
	if !q.kept.whole(s) {
		return nil, wire.Errorf(wire.CodeConflict, "query", uint64(id), "with all of its W")
	}
	return q, nil
}

// recall makes a diagonal query of a W.
func (c *Core) recall(s *shardState, m *wire.Recall) error {
	if slices.Contains(s.closed, m.Query) {
		return unknownQuery(m.Query)
	}
	if q := s.queries[m.Query]; q != nil {
		if q.kind != wire.KindDiag || q.of != m.Of || q.damping != m.Damping || q.result != m.Result {
			return wire.Errorf(wire.CodeConflict, "query", uint64(m.Query), "what it is")
		}
		return nil
	}
	of, err := s.keptOf(m.Of)
	if err != nil {
		return err
	}
	s.queries[m.Query] = &query{
		id: m.Query, kind: wire.KindDiag, vectors: 1, mask: slices.Clone(of.mask), damping: m.Damping, result: m.Result,
		hasCoef: true, of: m.Of, rows: len(of.kept.slots),
	}
	return nil
}

// white is the W of a hold on one shard.
type white struct {
	slots  []int
	w      []float64
	memory *region
}

func (n *numbersOf) newWhite(op NewWhite) error {
	memory, err := newRegion(8 * shard.WhiteLen(n.store.Cols(), n.store.DType(), len(op.Slots)))
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.whites[op.Query] = white{op.Slots, floatsOf(memory.bytes), memory}
	return nil
}

func (n *numbersOf) whiteOf(id wire.QueryID) (white, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, ok := n.whites[id]
	if !ok {
		return white{}, unknownQuery(id)
	}
	return w, nil
}

func (n *numbersOf) whiten(op Whiten, abort *pool.Cancel) error {
	w, err := n.whiteOf(op.Query)
	if err != nil {
		return err
	}
	f, err := n.factorOf(op.Query)
	if err != nil {
		return err
	}
	return n.store.For(pool.Query, abort).Whiten(w.w, f.l, w.slots, op.Lo, op.Hi)
}

// freeWhite gives a W's memory back, zeroed: it has traces of its rows, which may be forgotten. What was
// mapped the operating system zeroes before anybody else gets it. n.mu is held.
func (n *numbersOf) freeWhite(id wire.QueryID) {
	if w, ok := n.whites[id]; ok {
		delete(n.whites, id)
		if w.memory.keep == nil {
			clear(w.w)
		}
		w.memory.free()
	}
}
