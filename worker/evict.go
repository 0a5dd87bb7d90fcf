package worker

import (
	"fmt"
	"slices"

	"mfac/internal/planted"
	"mfac/wire"
)

// This file: rows that leave the window because they are to be forgotten.

// Erase zeroes the row in a slot.
type Erase struct{ Slot int }

// Of no attempt: whatever else there is to do with the slot is done before or after.
func (o Erase) use() use { return use{track: rowTrack, slot: o.Slot, write: true} }

// evict takes rows out of the window and answers when their memory is zero. The queries that read
// them end first, and what they are at, so that nothing is answered from a row that is half there.
// Asked twice it is answered alike.
func (c *Core) evict(e *Effects, in Request, s *shardState, m *wire.Evict) error {
	if s.waits(m.Seq, in.From) {
		return nil
	}
	rows := wire.Rows(m.Payload)
	if s.version == m.Version && !slices.ContainsFunc(rows, s.holds) {
		e.send(in.From, &wire.OK{Seq: m.Seq})
		return nil
	}
	if s.version+1 != m.Version {
		return wire.Errorf(wire.CodeConflict, "version", m.Version, fmt.Sprint(s.version+1))
	}
	var slots []wire.Slot
	for _, r := range rows {
		if !s.holds(r) {
			return wire.Errorf(wire.CodeConflict, "step", r.Step, "in the window")
		}
		slots = append(slots, r.Slot)
	}
	for _, id := range sortedKeys(s.queries) {
		if q := s.queries[id]; slices.ContainsFunc(slots, func(t wire.Slot) bool { return q.mask.Has(int(t)) }) {
			c.closeQuery(e, s, id)
		}
	}
	for _, slot := range slots {
		s.evict(slot)
		delete(s.filled, slot)
	}
	for _, st := range s.staged {
		st.rows = slices.DeleteFunc(st.rows, func(r wire.Row) bool { return slices.Contains(slots, r.Slot) })
	}
	s.version = m.Version
	c.erase(e, in, s, m.Seq, slots)
	return nil
}

// discard forgets an attempt that comes to nothing, and zeroes what came of it: its step may be
// committed by another attempt, and be forgotten.
func (c *Core) discard(e *Effects, s *shardState, st *staged) {
	c.unstage(e, s, st)
	if st.slice.have > 0 || len(st.slice.spans) > 0 {
		c.job(e, s, Erase{Slot: int(st.slot)}, nil, func(*Effects, Done) {})
	}
}

// holds reports whether r is a row of the window.
func (s *shardState) holds(r wire.Row) bool {
	row, ok := s.row(r.Slot)
	return ok && row == r
}

// waits reports whether what a request asks for is under way; then who asked last hears of it.
func (s *shardState) waits(seq uint64, from Token) bool {
	_, working := s.passes[seq]
	if working {
		s.passes[seq] = from
	}
	return working
}

// erase zeroes slots, and answers a request when all of them are.
func (c *Core) erase(e *Effects, in Request, s *shardState, seq uint64, slots []wire.Slot) {
	s.passes[seq] = in.From
	if planted.On(planted.EvictKeeps) {
		e.send(s.finish(seq), &wire.OK{Seq: seq})
	}
	var failed *wire.Error
	for i, slot := range slots {
		var id JobID
		id = c.job(e, s, Erase{Slot: int(slot)}, nil, func(e *Effects, d Done) {
			if s.erasing[slot] == id {
				delete(s.erasing, slot)
			}
			if d.Err != nil && failed == nil {
				failed = d.Err
			}
			if i < len(slots)-1 { // jobs of a track are done in their order
				return
			}
			to := s.finish(seq)
			if failed != nil {
				err := *failed
				err.Seq = seq
				e.send(to, &err)
				return
			}
			e.send(to, &wire.OK{Seq: seq})
		})
		if s.erasing == nil {
			s.erasing = map[wire.Slot]JobID{}
		}
		s.erasing[slot] = id
	}
}

// installErasing is install, answered when the rows that leave the window by it are zero: an earlier
// owner may have forgotten them, and got no further than some other shard, or to the middle of this.
func (c *Core) installErasing(e *Effects, in Request, s *shardState, m *wire.Install) error {
	if s.waits(m.Seq, in.From) {
		return nil
	}
	first, before := !s.installed, s.rows()
	if err := c.install(e, s, m); err != nil {
		return err
	}
	var slots []wire.Slot
	if first {
		for _, r := range before {
			if _, taken := s.row(r.Slot); !taken {
				slots = append(slots, r.Slot)
			}
		}
		for _, slot := range sortedKeys(s.erasing) {
			if !slices.Contains(slots, slot) {
				slots = append(slots, slot)
			}
		}
	}
	if len(slots) == 0 {
		e.send(in.From, &wire.OK{Seq: m.Seq})
		return nil
	}
	c.erase(e, in, s, m.Seq, slots)
	return nil
}
