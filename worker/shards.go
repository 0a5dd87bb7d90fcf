package worker

import (
	"cmp"
	"fmt"
	"slices"

	"mfac/internal/dtype"
	"mfac/internal/invariant"
	"mfac/shard"
	"mfac/wire"
)

// This file: how a shard comes to a worker, and leaves it.

// adopt takes a new owner's epoch for a shard, and makes the shard if it isn't there.
func (c *Core) adopt(e *Effects, in Request, m *wire.Adopt) error {
	if err := c.known(e, m.Epoch); err != nil {
		return err
	}
	if m.Instance != c.cfg.Instance {
		return wire.Errorf(wire.CodeUnavailable, "instance", m.Instance, fmt.Sprint(c.cfg.Instance), "this worker has restarted")
	}
	r := c.runs[m.Run]
	if r == nil {
		r = &run{uid: m.UID, epoch: m.Epoch, shards: map[int]*shardState{}}
		if last := c.left.epochs[m.Run]; last.Incarnation == m.Epoch.Incarnation {
			r.epoch = last
		}
	}
	if !accepts(r.epoch, m.Epoch) && m.Epoch.Revision < r.epoch.Revision {
		err := wire.Errorf(wire.CodeStaleEpoch, "epoch", m.Epoch, "at least "+r.epoch.String())
		err.Epoch = r.epoch
		return err
	}
	if r.uid != m.UID { // another run of the same name: what is left of the old one goes
		for _, i := range sortedKeys(r.shards) {
			c.free(e, r.shards[i])
		}
		r.uid = m.UID
	}
	c.runs[m.Run] = r // free may have forgotten it
	r.epoch = m.Epoch
	defer c.leave(m.Run) // if the shard is refused
	s := r.shards[m.Shard.Shard]
	if s != nil && s.slots != m.Slots && s.placed == m.Placed {
		switch {
		case s.next != nil && s.next.slots == m.Slots:
			c.become(e, s)
		case len(s.bySlot)+len(s.staged) > 0:
			// Whoever asks has read a record of before, or one that is yet to be believed: the rows are there.
			return wire.Errorf(wire.CodeConflict, "slots", m.Slots, fmt.Sprintf("%d, which shard %d has", s.slots, m.Shard.Shard))
		}
		// An empty one was made anew, after a crash, by a record of before: it is made anew again.
	}
	if s != nil && (s.placed != m.Placed || s.lo != m.Lo || s.cols != m.Cols || s.slots != m.Slots || s.store != m.Store || s.scales != m.Scales) {
		c.free(e, s) // rows of an earlier placement: the run went on without them
		c.runs[m.Run], s = r, nil
	}
	if s == nil {
		cfg := configOf(m.Slots, m.Lo, m.Cols, m.Store, m.Scales)
		bytes, err := shard.Bytes(cfg)
		if err != nil {
			we := asWire(err)
			we.Code = wire.CodeTooLarge
			return we
		}
		if free := c.cfg.Capacity - c.used; bytes > free {
			return wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes for shard %d of %s", bytes, m.Shard.Shard, m.Run), fmt.Sprintf("at most the %d bytes free on worker %s", free, c.cfg.ID))
		}
		s = &shardState{
			run: m.Run, index: m.Shard.Shard, placed: m.Placed, lo: m.Lo, cols: m.Cols, slots: m.Slots, store: m.Store, scales: m.Scales, bytes: bytes,
			filled: map[wire.Slot]bool{}, reserved: map[wire.Slot]wire.Attempt{}, staged: map[wire.Step]*staged{}, queries: map[wire.QueryID]*query{},
			passes: map[uint64]Token{},
		}
		r.shards[s.index] = s
		c.used += bytes
		c.job(e, s, Alloc{cfg}, nil, func(e *Effects, d Done) { c.allocated(e, s, d) })
	}
	if s.adopted != m.Epoch {
		s.adopted, s.installed, s.passes = m.Epoch, false, map[uint64]Token{}
	}
	s.adopter, s.adoptSeq = in.From, m.Seq
	if s.ready {
		c.adopted(e, s)
	}
	return nil
}

// configOf is a shard's store.
func configOf(slots int, lo, cols int64, store wire.DType, scales wire.Scales) shard.Config {
	cfg := shard.Config{Slots: slots, Cols: cols, DType: dtype.Of(store)}
	for _, f := range scales.Within(lo, cols) {
		cfg.Scales = append(cfg.Scales, shard.Scale(f))
	}
	return cfg
}

func (c *Core) allocated(e *Effects, s *shardState, d Done) {
	if s.gone {
		return
	}
	if d.Err != nil {
		to, seq := s.adopter, s.adoptSeq
		c.free(e, s)
		err := *d.Err
		err.Seq = seq
		e.send(to, &err)
		return
	}
	s.ready = true
	c.adopted(e, s)
}

// adopted tells the new owner what the shard holds.
func (c *Core) adopted(e *Effects, s *shardState) {
	reply := &wire.Adopted{
		Shard:   wire.Shard{Seq: s.adoptSeq, Run: s.run, Epoch: s.adopted, Shard: s.index},
		Version: s.version,
		Labels:  s.labelled(),
		Payload: wire.AppendRows(nil, s.rows()),
	}
	for _, step := range sortedKeys(s.staged) {
		st := s.staged[step]
		reply.Staged = append(reply.Staged, wire.Staged{Slot: st.slot, Step: st.step, Attempt: st.attempt, Token: st.token, Whole: st.whole(), Weight: st.weight})
	}
	e.send(s.adopter, reply)
	s.adopter = 0
}

// rows lists the window, by slot.
func (s *shardState) rows() []wire.Row {
	return append(make([]wire.Row, 0, len(s.bySlot)+len(s.staged)), s.bySlot...)
}

// take makes r a row of the window.
func (s *shardState) take(r wire.Row) {
	i, found := s.find(r.Slot)
	invariant.That(!found, "slot %d holds a row already", r.Slot)
	s.bySlot = slices.Insert(s.bySlot, i, r)
}

// evict takes the row of a slot out of the window.
func (s *shardState) evict(slot wire.Slot) {
	i, found := s.find(slot)
	invariant.That(found, "slot %d holds no row", slot)
	s.bySlot = slices.Delete(s.bySlot, i, i+1)
	delete(s.labels, slot)
}

// row is the row of the window in a slot.
func (s *shardState) row(slot wire.Slot) (wire.Row, bool) {
	if i, found := s.find(slot); found {
		return s.bySlot[i], true
	}
	return wire.Row{}, false
}

// find is where in bySlot a slot's row is, or would be.
func (s *shardState) find(slot wire.Slot) (int, bool) {
	return slices.BinarySearchFunc(s.bySlot, slot, func(r wire.Row, slot wire.Slot) int { return cmp.Compare(r.Slot, slot) })
}

func (c *Core) free(e *Effects, s *shardState) {
	for _, id := range sortedKeys(s.queries) {
		c.dropQuery(e, s, s.queries[id])
	}
	for _, step := range sortedKeys(s.staged) {
		c.unstage(e, s, s.staged[step])
	}
	s.gone = true
	c.used -= s.bytes
	c.job(e, s, Free{}, nil, func(*Effects, Done) {})
	if r := c.runs[s.run]; r != nil && r.shards[s.index] == s {
		delete(r.shards, s.index)
		c.leave(s.run)
	}
}

// leave forgets a run of which nothing is left here, but for its epoch.
func (c *Core) leave(name string) {
	if r := c.runs[name]; r != nil && len(r.shards) == 0 {
		delete(c.runs, name)
		c.left.put(name, r.epoch)
	}
}

// left remembers the highest epochs of the runs that were here last: who comes with a lower one is
// refused, also when the run has no shard here any more.
type left struct {
	epochs map[string]wire.Epoch
	names  []string // the oldest first
}

func (l *left) put(name string, epoch wire.Epoch) {
	if i := slices.Index(l.names, name); i >= 0 {
		l.names = slices.Delete(l.names, i, i+1)
	} else if len(l.names) >= mostLeft {
		delete(l.epochs, l.names[0])
		l.names = slices.Delete(l.names, 0, 1)
	}
	l.names = append(l.names, name)
	l.epochs[name] = epoch
}

// release frees a shard that is not the run's any more. It says which placement it means: a late
// copy of it can't free what has been placed here since.
func (c *Core) release(e *Effects, in Request, m *wire.Release) error {
	if err := c.known(e, m.Epoch); err != nil {
		return err
	}
	if r := c.runs[m.Run]; r != nil && r.uid == m.UID {
		s := r.shards[m.Shard.Shard]
		// known has seen that the incarnation is the present one: an epoch of another is over.
		over := s != nil && (s.adopted.Incarnation != m.Epoch.Incarnation || s.adopted.Revision <= m.Epoch.Revision)
		if over && (m.Placed == 0 || m.Placed == s.placed) {
			c.free(e, s)
			e.Hello = c.hello() // coordinators may give the memory to another run at once
		}
	}
	e.send(in.From, &wire.OK{Seq: m.Seq})
	return nil
}
