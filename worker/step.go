package worker

import (
	"fmt"
	"slices"

	"mfac/internal/planted"
	"mfac/shard"
	"mfac/wire"
)

// This file: a step, from stage to commit, and what a takeover does to steps.

func (st *staged) whole() bool { return st.slice.whole() && st.poison == nil }

// stage reserves a slot. The coordinator alone knows which slots are free: what still holds this
// one here, a dropped attempt or a closed query of which a late copy came, gives way.
func (c *Core) stage(e *Effects, in Request, s *shardState, m *wire.Stage) error {
	if int(m.Slot) >= s.slots {
		return wire.Invalid("slot", m.Slot, fmt.Sprintf("in [0, %d)", s.slots))
	}
	if row, ok := s.row(m.Slot); ok {
		return wire.Errorf(wire.CodeConflict, "slot", m.Slot, fmt.Sprintf("free, it holds step %d", row.Step))
	}
	if st := s.staged[m.Step]; m.Attempt <= s.reserved[m.Slot] && (st == nil || st.attempt != m.Attempt) {
		// A late copy, of an attempt that has ended here. A query may read the slot by now.
		return wire.Errorf(wire.CodeDropped, "attempt", uint64(m.Attempt), "one that has not ended", "slot %d has been attempt %d's since", m.Slot, uint64(s.reserved[m.Slot]))
	}
	for _, step := range sortedKeys(s.staged) {
		other := s.staged[step]
		if other.step != m.Step && other.slot != m.Slot {
			continue
		}
		if other.attempt > m.Attempt {
			return wire.Errorf(wire.CodeSuperseded, "attempt", m.Attempt, fmt.Sprintf("at least %d", other.attempt))
		}
		if other.attempt < m.Attempt {
			c.discard(e, s, other)
		}
	}
	st := s.staged[m.Step]
	if st == nil {
		for _, id := range sortedKeys(s.queries) {
			if q := s.queries[id]; q.mask.Has(int(m.Slot)) {
				c.dropQuery(e, s, q)
			}
		}
		for _, other := range s.staged {
			other.rows = slices.DeleteFunc(other.rows, func(r wire.Row) bool { return r.Slot == m.Slot })
		}
		st = &staged{step: m.Step, attempt: m.Attempt, slot: m.Slot, token: m.Token, label: m.Label, weight: m.Weight, slice: slice{lo: s.lo, cols: s.cols}}
		s.staged[m.Step] = st
		s.reserved[m.Slot] = m.Attempt
		delete(s.filled, m.Slot)
		if s.store == wire.F16 {
			st.slice.parts = parts{}
			c.job(e, s, Begin{Slot: int(m.Slot), Attempt: m.Attempt}, nil, func(*Effects, Done) {})
		}
	}
	if st.slot != m.Slot {
		return wire.Errorf(wire.CodeConflict, "slot", m.Slot, fmt.Sprintf("%d, which the attempt has", st.slot))
	}
	st.waiter, st.seq = in.From, m.Seq
	c.progress(e, s, st)
	return nil
}

// progress answers the coordinator's stage once there is something to say.
func (c *Core) progress(e *Effects, s *shardState, st *staged) {
	switch {
	case s.gone || s.staged[st.step] != st:
		return
	case st.poison != nil:
		err := *st.poison
		err.Seq = st.seq
		e.send(st.waiter, &err)
		st.waiter = 0
	case st.products != nil:
		e.send(st.waiter, &wire.Products{
			Shard: wire.Shard{Seq: st.seq, Run: s.run, Epoch: s.adopted, Shard: s.index},
			Step:  st.step, Attempt: st.attempt, Payload: wire.AppendProducts(nil, st.products),
		})
		st.waiter = 0
	case st.gather.working:
	case st.whole():
		c.multiplyAll(e, s, st)
	case st.gather.cols >= c.cfg.GatherCols:
		if !st.gather.begun {
			st.rows = s.readable(st)
		}
		op := Accumulate{Slot: int(st.slot), Attempt: st.attempt, Mask: maskOf(s.slots, st.rows), Cols: st.gather.take()}
		st.gather.begun = true
		c.job(e, s, op, st.gather.abort, func(e *Effects, d Done) {
			st.gather.working = false
			if d.Err != nil {
				st.poison = d.Err
			}
			c.progress(e, s, st)
		})
	}
}

// multiplyAll works out the products of a step that is whole, or what is left of them.
func (c *Core) multiplyAll(e *Effects, s *shardState, st *staged) {
	begun := st.gather.begun
	if !begun {
		st.rows = s.readable(st)
	}
	op := Multiply{Slot: int(st.slot), Attempt: st.attempt, Mask: maskOf(s.slots, st.rows), Cols: st.gather.take(), Begun: begun}
	st.gather.begun = false // the job ends the sum
	c.job(e, s, op, st.gather.abort, func(e *Effects, d Done) {
		st.gather.working = false
		if d.Err != nil {
			st.poison = d.Err
		} else {
			// Those that were evicted, or written over, since the first columns were multiplied are none
			// of anybody's business.
			st.products = productsOf(s.held(st.rows), d.Floats)
		}
		st.rows = nil
		c.progress(e, s, st)
	})
}

// unstage forgets an attempt at a step.
func (c *Core) unstage(e *Effects, s *shardState, st *staged) {
	delete(s.staged, st.step)
	if st.gather.working {
		e.Cancel = append(e.Cancel, st.gather.abort)
	}
	if st.gather.begun {
		c.job(e, s, Abandon{Slot: int(st.slot), Attempt: st.attempt}, nil, func(*Effects, Done) {})
	}
}

// held are the rows that are of the window, or staged; those that readable listed come in the window's
// order first. It takes over the slice.
func (s *shardState) held(rows []wire.Row) []wire.Row {
	i := 0
	return slices.DeleteFunc(rows, func(r wire.Row) bool {
		if i == len(s.bySlot) || s.bySlot[i] != r {
			i, _ = s.find(r.Slot)
		}
		if i < len(s.bySlot) && s.bySlot[i] == r {
			i++
			return false
		}
		st := s.staged[r.Step]
		return st == nil || st.attempt != r.Attempt
	})
}

// readable lists the rows that a new row's products should cover: the window, the steps that are
// staged whole, and itself.
func (s *shardState) readable(st *staged) []wire.Row {
	rows := s.rows()
	for _, step := range sortedKeys(s.staged) {
		if o := s.staged[step]; o.whole() || o == st {
			rows = append(rows, wire.Row{Slot: o.slot, Step: o.step, Attempt: o.attempt, Weight: o.weight})
		}
	}
	return rows
}

func maskOf(slots int, rows []wire.Row) shard.Mask {
	m := shard.NewMask(slots)
	for _, r := range rows {
		m.Set(int(r.Slot))
	}
	return m
}

func productsOf(rows []wire.Row, dots []float64) []wire.Product {
	out := make([]wire.Product, len(rows))
	for i, r := range rows {
		out[i] = wire.Product{Slot: r.Slot, Attempt: r.Attempt, Value: dots[r.Slot]}
	}
	return out
}

// multiply works out products that the answer to stage did not cover.
func (c *Core) multiply(e *Effects, in Request, s *shardState, m *wire.Multiply) error {
	st := s.staged[m.Step]
	if st == nil || st.attempt != m.Attempt || !st.whole() {
		return wire.Errorf(wire.CodeNotOpen, "step", m.Step, "staged whole")
	}
	slots, err := wire.SlotList(m.Payload)
	if err != nil {
		return err
	}
	var rows []wire.Row
	for _, r := range s.readable(st) {
		for _, slot := range slots {
			if r.Slot == slot {
				rows = append(rows, r)
			}
		}
	}
	head := m.Shard
	if s.again(head.Seq, in.From) {
		return nil
	}
	c.job(e, s, Multiply{Slot: int(st.slot), Attempt: st.attempt, Mask: maskOf(s.slots, rows)}, nil, func(e *Effects, d Done) {
		if d.Err != nil {
			numbers(e, s.finish(head.Seq), head, d)
			return
		}
		e.send(s.finish(head.Seq), &wire.Products{Shard: head, Step: m.Step, Attempt: m.Attempt, Payload: wire.AppendProducts(nil, productsOf(rows, d.Floats))})
	})
	return nil
}

// chunk admits columns of a gradient and issues the job that checks and writes them.
func (c *Core) chunk(e *Effects, in Request, m *wire.Chunk) error {
	s, err := c.held(m.Run, m.Shard, m.Epoch)
	if err != nil {
		return err
	}
	st := s.staged[m.Step]
	if st == nil {
		for _, r := range s.bySlot {
			if r.Step == m.Step && r.Attempt == m.Attempt { // a late copy: it is all there
				c.ack(e, in, m.Want, s.cols, s.cols)
				return nil
			}
		}
	}
	if st == nil || st.attempt < m.Attempt {
		return c.park(in, int64(len(m.Payload)), wire.Errorf(wire.CodeNotOpen, "step", m.Step, "open on this shard", "open it, or send the chunk again in a moment"))
	}
	if st.attempt > m.Attempt {
		return wire.Errorf(wire.CodeSuperseded, "attempt", m.Attempt, fmt.Sprint(st.attempt), "another publisher has opened step %d anew", m.Step)
	}
	w := write{
		lo: m.Lo, n: m.N, dtype: m.DType, sum: m.Sum, want: m.Want, payload: m.Payload, slice: &st.slice,
		op:       Write{Slot: int(st.slot), Attempt: st.attempt, Lo: m.Lo - s.lo, Col: m.Lo, DType: m.DType, Payload: m.Payload, Sum: m.Sum},
		poison:   &st.poison,
		staged:   func() int64 { return st.slice.have },
		columns:  s.cols,
		gather:   &st.gather,
		progress: func(e *Effects) { c.progress(e, s, st) },
	}
	return c.write(e, in, s, w)
}

// write is a chunk on its way into a slice, of a gradient or of a vector.
type write struct {
	lo, n    int64
	dtype    wire.DType
	sum      uint32
	want     int64
	payload  []byte
	slice    *slice
	op       Op
	poison   **wire.Error // set when the whole step or query is refused
	staged   func() int64
	columns  int64
	gather   *gather
	progress func(*Effects)
}

// write admits a chunk, once. A duplicate gets the answer of the first; a conflict or a number
// that is not finite, or too large for the store, refuses the whole step or query.
func (c *Core) write(e *Effects, in Request, s *shardState, w write) error {
	if *w.poison != nil {
		return *w.poison
	}
	sp, fresh, err := w.slice.admit(w.lo, w.n, w.dtype, w.sum)
	if err != nil {
		// Who has all its columns has been answered for: they are of one gradient, and this chunk
		// changes nothing any more.
		if we := wire.AsError(err); we.Code == wire.CodeConflict && w.staged() < w.columns {
			*w.poison = we // it holds bytes of two gradients
			w.progress(e)
		}
		return err
	}
	switch {
	case !fresh && sp.done:
		c.ack(e, in, w.want, w.staged(), w.columns)
		return nil
	case !fresh:
		in.Msg = nil // the payload is the first one's
		sp.waiters = append(sp.waiters, in)
		if len(sp.waiters) > mostWaiters {
			c.refuse(e, sp.waiters[0], tooManyWait())
			sp.waiters = sp.waiters[1:]
		}
		return nil
	}
	bytes := int64(len(w.payload))
	if err := c.flow.admit(bytes); err != nil {
		w.slice.remove(sp)
		return err
	}
	sp.waiters = []Request{in}
	for i := range sp.waiters {
		sp.waiters[i].Msg = nil // the payload is the job's
	}
	c.job(e, s, w.op, nil, func(e *Effects, d Done) {
		c.flow.inflight -= bytes
		waiters := sp.waiters
		sp.waiters = nil
		if d.Err != nil {
			w.slice.remove(sp)
			if d.Err.Code == wire.CodeNotFinite || d.Err.Code == wire.CodeOverflow {
				*w.poison = d.Err
			}
			for _, to := range waiters {
				c.refuse(e, to, d.Err)
			}
		} else {
			if !sp.done || planted.On(planted.DuplicateTwice) {
				w.slice.have += sp.n
			}
			if !sp.done {
				w.gather.add(Columns{sp.lo - w.slice.lo, sp.n})
			}
			sp.done = true
			for _, to := range waiters {
				c.ack(e, to, w.want, w.staged(), w.columns)
			}
		}
		w.progress(e)
	})
	return nil
}

// tooManyWait is what the oldest of those who wait for the same columns hears: mostly it is the
// same client, which has asked again.
func tooManyWait() *wire.Error {
	return wire.Errorf(wire.CodeBusy, "requests for the same columns", mostWaiters+1, fmt.Sprintf("at most %d", mostWaiters), "send it again in a moment")
}

func (c *Core) ack(e *Effects, in Request, want, staged, columns int64) {
	a := &wire.Ack{Staged: staged, Columns: columns}
	a.Credit, a.CreditMS = c.credit(in.Caller, want)
	e.send(in.From, a)
}

// commit makes a staged step a row. Asking twice is answered alike.
func (c *Core) commit(e *Effects, s *shardState, m *wire.Commit) error {
	if row, ok := s.row(m.Slot); ok && s.version == m.Version && row.Step == m.Step && row.Attempt == m.Attempt {
		return nil
	}
	if !s.installed || s.version+1 != m.Version {
		return wire.Errorf(wire.CodeConflict, "version", m.Version, fmt.Sprint(s.version+1))
	}
	st := s.staged[m.Step]
	if st == nil || st.attempt != m.Attempt || st.slot != m.Slot || st.products == nil || !st.whole() {
		return wire.Errorf(wire.CodeConflict, "step", m.Step, "staged whole")
	}
	if m.Evict {
		row, ok := s.row(m.EvictSlot)
		if !ok || row.Step != m.EvictStep {
			return wire.Errorf(wire.CodeConflict, "evicted step", m.EvictStep, "in the window")
		}
	}
	if m.Query != 0 && len(m.Payload) != 8*s.slots {
		return wire.Errorf(wire.CodeInvalid, "payload bytes", len(m.Payload), fmt.Sprint(8*s.slots))
	}
	delete(s.staged, m.Step)
	if m.Evict {
		s.evict(m.EvictSlot)
	}
	s.take(wire.Row{Slot: m.Slot, Step: m.Step, Attempt: m.Attempt, Weight: st.weight})
	s.label(m.Slot, st.label)
	s.filled[m.Slot] = true
	s.version = m.Version
	if m.Query != 0 {
		s.queries[m.Query] = &query{
			step: true,
			id:   m.Query, kind: wire.KindCombine, vectors: 1, result: m.Result, mask: maskOf(s.slots, s.rows()),
			hasCoef: true, coef: wire.Floats(m.Payload),
		}
	}
	return nil
}

// install sets the window to what the new owner decided, once an epoch: a late copy of it must
// not undo the commits that came after.
func (c *Core) install(e *Effects, s *shardState, m *wire.Install) error {
	if s.installed {
		return nil
	}
	live, labels := map[wire.Slot]wire.Row{}, map[wire.Slot]string{}
	for _, r := range wire.Rows(m.Payload) {
		st := s.staged[r.Step]
		row, found := s.row(r.Slot)
		switch {
		case int(r.Slot) >= s.slots:
			return wire.Invalid("slot", r.Slot, fmt.Sprintf("in [0, %d)", s.slots))
		case found && row == r:
			labels[r.Slot] = s.labels[r.Slot]
		case st != nil && st.whole() && st.slot == r.Slot && st.attempt == r.Attempt:
			if !planted.On(planted.LabelLost) {
				labels[r.Slot] = st.label
			}
		default:
			return wire.Errorf(wire.CodeConflict, "step", r.Step, "held by the shard")
		}
		live[r.Slot] = r
	}
	kept := map[wire.Step]*staged{}
	for _, k := range m.Keep {
		if st := s.staged[k.Step]; st != nil && st.attempt == k.Attempt && st.slot == k.Slot {
			kept[k.Step] = st
		}
	}
	for _, id := range sortedKeys(s.queries) {
		c.dropQuery(e, s, s.queries[id])
	}
	for _, step := range sortedKeys(s.staged) {
		if st := s.staged[step]; kept[step] != st {
			// One that became a row has its products, and no job under way that is to be cancelled.
			if r, ok := live[st.slot]; ok && r.Attempt == st.attempt {
				c.unstage(e, s, st)
			} else {
				c.discard(e, s, st)
			}
		}
	}
	c.stay(s)
	s.staged, s.version, s.installed = kept, m.Version, true
	s.bySlot, s.filled, s.labels = nil, map[wire.Slot]bool{}, nil
	for _, slot := range sortedKeys(live) {
		s.take(live[slot])
		s.label(slot, labels[slot])
		s.filled[slot] = true
	}
	return nil
}

// gram works out part of A for a coordinator that rebuilds it.
func (c *Core) gram(e *Effects, in Request, s *shardState, m *wire.Gram) error {
	slots, err := wire.SlotList(m.Payload)
	if err != nil {
		return err
	}
	list := make([]int, len(slots))
	for i, slot := range slots {
		if _, ok := s.row(slot); !ok {
			return wire.Errorf(wire.CodeConflict, "slot", slot, "a row of the window")
		}
		list[i] = int(slot)
	}
	head := m.Shard
	if s.again(head.Seq, in.From) {
		return nil
	}
	c.job(e, s, Gram{Slots: list, I0: m.I0, I1: m.I1}, nil, func(e *Effects, d Done) { numbers(e, s.finish(head.Seq), head, d) })
	return nil
}

// again notes who waits for the answer to a request that takes a pass over G, and reports whether
// the pass is under way: asked again, it must not be done again.
func (s *shardState) again(seq uint64, from Token) bool {
	_, working := s.passes[seq]
	s.passes[seq] = from
	return working
}

// finish is who asked for a pass last.
func (s *shardState) finish(seq uint64) Token {
	from := s.passes[seq]
	delete(s.passes, seq)
	return from
}

// numbers answers with a job's numbers.
func numbers(e *Effects, to Token, head wire.Shard, d Done) {
	if d.Err != nil {
		err := *d.Err
		err.Seq = head.Seq
		e.send(to, &err)
		return
	}
	e.send(to, &wire.Numbers{Shard: head, Count: len(d.Floats), Payload: wire.AppendFloats(nil, d.Floats)})
}
