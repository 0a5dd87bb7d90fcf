package coordinator

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"mfac/internal/invariant"
	"mfac/internal/planted"
	"mfac/wire"
)

// openStep is a step that is being published.
type openStep struct {
	step     wire.Step
	attempt  wire.Attempt
	token    uint64
	label    string
	unnamed  bool    // it was found staged, but not on the first shard: who opens it again says its label
	weight   float64 // 0: 1
	slot     wire.Slot
	deadline int64            // tick
	parts    [][]wire.Product // a shard's products by slot, those of attempt 0 not known; nil until its slice is whole
	asked    []bool           // a multiply is under way
	waiters  []waiter
	pre      *wire.Precondition
	life     int64    // ms that the publisher gives it, and its precondition; 0: the default
	readers  []string // who asked for the precondition
	dropping bool
	acks     int
	query    *query      // the precondition's
	refused  *wire.Error // why there is none
}

// outcome is what became of an attempt.
type outcome struct {
	reply *wire.WaitReply
	err   *wire.Error
}

func (c *Core) newOpen(step wire.Step, attempt wire.Attempt, token uint64, slot wire.Slot, deadline int64) *openStep {
	return &openStep{
		step: step, attempt: attempt, token: token, slot: slot, deadline: deadline,
		parts: make([][]wire.Product, len(c.shards)), asked: make([]bool, len(c.shards)),
	}
}

func (o *openStep) count() int {
	n := 0
	for _, p := range o.parts {
		if p != nil {
			n++
		}
	}
	return n
}

// deadlineOf is the tick at which something ends that is to live for ms, or for def by default.
func (c *Core) deadlineOf(ms, def, most int64) int64 {
	if ms == 0 {
		ms = def
	}
	return c.tick + c.ticks(min(ms, most))
}

// openStep reserves a slot for a step, or joins or supersedes one that is open.
func (c *Core) openStep(e *Effects, in Request, m *wire.Open) error {
	if c.hasNewest && m.Step <= c.newest {
		return wire.Errorf(wire.CodeNotGrowing, "step", m.Step, fmt.Sprintf("above %d, the newest one committed", c.newest))
	}
	if c.frozen() {
		return c.errFrozen()
	}
	if c.committing != nil && m.Step < c.committing.step {
		return wire.Errorf(wire.CodeNotGrowing, "step", m.Step, fmt.Sprintf("above %d, which is being committed", c.committing.step))
	}
	if p := m.Precondition; p != nil {
		if err := c.checkDamping(p.Damping); err != nil {
			return err
		}
	}
	deadline := c.deadlineOf(m.DeadlineMS, c.cfg.StepMS, maxStepMS)
	o := c.openOf(m.Step)
	if m.Precondition != nil && o != nil && o.token == m.Token && len(o.readers) >= maxReaders && !slices.Contains(o.readers, in.Caller) {
		return wire.Errorf(wire.CodeTooLarge, "callers with a precondition", len(o.readers)+1, fmt.Sprintf("at most %d for one step", maxReaders), "open it without one")
	}
	if err := o.checkLabel(m); err != nil {
		return err
	}
	switch {
	case o != nil && o.dropping:
		return wire.Errorf(wire.CodeUnavailable, "step", m.Step, "open", "its last attempt is being dropped")
	case o != nil && o == c.committing && o.token != m.Token:
		return wire.Errorf(wire.CodeNotGrowing, "step", m.Step, fmt.Sprintf("above %d, which is being committed", m.Step))
	case o != nil && o.token == m.Token && wire.OrOne(o.weight) != wire.OrOne(m.Weight):
		return wire.Invalid("weight", wire.OrOne(m.Weight), fmt.Sprintf("%g, as another publisher of step %d said", wire.OrOne(o.weight), m.Step))
	case o != nil && o.token != m.Token:
		c.supersede(e, o)
		o = c.newOpen(m.Step, c.nextAttempt(), m.Token, o.slot, deadline)
		o.label = m.Label
		o.weight = m.Weight
		c.open[slices.IndexFunc(c.open, func(p *openStep) bool { return p.step == m.Step })] = o
		c.stage(e, o)
	case o == nil && c.resizing():
		return wire.Errorf(wire.CodeBusy, "step", m.Step, "opened once the window is resized", "it waits for the steps that are open")
	case o == nil:
		slot, err := c.freeSlot()
		if err != nil {
			return err
		}
		c.cursor = slot
		o = c.newOpen(m.Step, c.nextAttempt(), m.Token, slot, deadline)
		o.label = m.Label
		o.weight = m.Weight
		c.open = append(c.open, o)
		slices.SortFunc(c.open, func(a, b *openStep) int { return cmp.Compare(a.step, b.step) })
		c.stage(e, o)
	default:
		o.deadline = max(o.deadline, deadline)
		if o.unnamed {
			o.label, o.unnamed = m.Label, false
			c.stageOn(e, o, 0)
		}
	}
	o.life = max(o.life, m.DeadlineMS)
	if p := m.Precondition; p != nil && o != c.committing {
		if o.pre != nil && *o.pre != *p {
			return wire.Invalid("precondition", fmt.Sprintf("%+v", *p), fmt.Sprintf("%+v, as another publisher of step %d asked", *o.pre, m.Step))
		}
		o.pre = p
		if !slices.Contains(o.readers, in.Caller) {
			o.readers = append(o.readers, in.Caller)
		}
	}
	reply := &wire.OpenReply{Epoch: c.epoch, Attempt: o.attempt}
	for s, p := range o.parts {
		if p != nil {
			reply.Whole = append(reply.Whole, s)
		}
	}
	e.send(in.From, reply)
	return nil
}

func (c *Core) openOf(step wire.Step) *openStep {
	for _, o := range c.open {
		if o.step == step {
			return o
		}
	}
	return nil
}

func (c *Core) nextAttempt() wire.Attempt {
	c.lastID++
	return wire.Attempt(c.lastID)
}

// freeSlot picks the slot of the next step: the first one after the last reserved that holds no
// row and no open step. So slots depend on the order of steps alone, not on timing, and with them
// the order of summation. Where a query still reads it, the publisher waits.
func (c *Core) freeSlot() (wire.Slot, error) {
	slots := c.rec.Spec.Slots()
	used := make([]bool, slots)
	for _, r := range c.rows {
		used[r.Slot] = true
	}
	for _, o := range c.open {
		used[o.slot] = true
	}
	for i := 1; i <= slots; i++ {
		slot := (c.cursor + wire.Slot(i)) % wire.Slot(slots)
		if used[slot] {
			continue
		}
		for _, id := range sortedKeys(c.queries) {
			if q := c.queries[id]; q.mask.Has(int(slot)) {
				return 0, wire.Errorf(wire.CodeBusy, "slot", slot, "free", "query %d still reads version %d", uint64(id), q.version)
			}
		}
		return slot, nil
	}
	return 0, wire.Errorf(wire.CodeBusy, "open steps", len(c.open), fmt.Sprintf("at most %d, the spare slots", c.rec.Spec.Spare), "wait for one to commit")
}

// stage tells every shard of an attempt; each answers when its slice is whole.
func (c *Core) stage(e *Effects, o *openStep) {
	for s := range c.shards {
		if s > 0 || !o.unnamed {
			c.stageOn(e, o, s)
		}
	}
}

// stageOn tells one shard of an attempt. The first one hears its label, before it has any of it.
func (c *Core) stageOn(e *Effects, o *openStep, s int) {
	m := &wire.Stage{Step: o.step, Attempt: o.attempt, Slot: o.slot, Token: o.token, Weight: o.weight}
	if s == 0 {
		m.Label = o.label
	}
	c.call(e, s, m, func(e *Effects, m wire.Message) { c.staged(e, o, s, m) })
}

// staged takes a shard's products of a step.
func (c *Core) staged(e *Effects, o *openStep, s int, m wire.Message) {
	if o.dropping || o == c.committing || c.openOf(o.step) != o {
		return
	}
	switch m := m.(type) {
	case *wire.Products:
		if o.parts[s] == nil {
			o.parts[s] = make([]wire.Product, c.rec.Spec.Slots())
		}
		for _, p := range wire.ProductList(m.Payload) {
			if p.Slot >= 0 && int(p.Slot) < len(o.parts[s]) {
				o.parts[s][p.Slot] = p
			}
		}
		o.asked[s] = false
		c.advance(e)
	case *wire.Error:
		switch m.Code {
		case wire.CodeNotFinite, wire.CodeOverflow, wire.CodeConflict, wire.CodeTooLarge, wire.CodeInvalid, wire.CodeDropped, wire.CodeSuperseded, wire.CodeInternal:
			// Nor does a new owner help where a shard can't work the products out: it would keep the
			// step, and hear the same.
			err := *m
			err.Seq = 0
			c.fail(e, o, &err)
		default:
			c.restart(e, fmt.Sprintf("shard %d does not stage step %d: %s", s, o.step, said(m)))
		}
	}
}

// advance commits the lowest open step, if it is whole everywhere and its products cover the
// window.
func (c *Core) advance(e *Effects) {
	if c.committing != nil || c.changing != nil || c.phase != serving || c.frozen() {
		return
	}
	i := slices.IndexFunc(c.open, func(o *openStep) bool { return !o.dropping })
	if i < 0 {
		return
	}
	o := c.open[i]
	if o.count() < len(c.shards) {
		return
	}
	rows := append(slices.Clone(c.rows), row{Row: wire.Row{Slot: o.slot, Step: o.step, Attempt: o.attempt}})
	covered := true
	for s, part := range o.parts {
		var missing []wire.Slot
		for _, r := range rows {
			if part[r.Slot].Attempt != r.Attempt {
				missing = append(missing, r.Slot)
			}
		}
		if len(missing) == 0 {
			continue
		}
		covered = false
		if !o.asked[s] {
			o.asked[s] = true
			c.call(e, s, &wire.Multiply{Step: o.step, Attempt: o.attempt, Payload: wire.AppendSlots(nil, missing)},
				func(e *Effects, m wire.Message) { c.staged(e, o, s, m) })
		}
	}
	if covered {
		c.commit(e, o)
	}
}

// commit takes a step into the window and tells every shard.
func (c *Core) commit(e *Effects, o *openStep) {
	full := len(c.rows) == c.rec.Spec.Window
	kept := c.rows
	if full {
		kept = c.rows[1:]
	}
	sums := make([]float64, 0, len(kept)+1)
	for _, slot := range append(slotsOf(kept), o.slot) {
		var sum float64
		for s := range c.shards { // in shard order
			if s == 0 {
				sum = o.parts[s][slot].Value
			} else {
				sum += o.parts[s][slot].Value
			}
		}
		if math.IsNaN(sum) || math.IsInf(sum, 0) {
			c.fail(e, o, wire.Errorf(wire.CodeNotFinite, "product", sum, "finite", "of step %d with the row in slot %d", o.step, slot))
			return
		}
		sums = append(sums, sum)
	}
	after := append(slices.Clone(kept), row{wire.Row{Slot: o.slot, Step: o.step, Attempt: o.attempt, Weight: o.weight}, c.version + 1, o.label})
	c.snapshot()
	var err error
	if full {
		err = c.win.ReplaceWeighted(sums, c.weightsOf(after))
	} else {
		err = c.win.AppendWeighted(sums, c.weightsOf(after))
	}
	if err != nil {
		c.fail(e, o, wire.AsError(fmt.Errorf("take step %d into the window: %w", o.step, err)))
		return
	}
	c.committing = o
	msg := wire.Commit{Version: c.version + 1, Step: o.step, Attempt: o.attempt, Slot: o.slot}
	if full {
		msg.Evict, msg.EvictStep, msg.EvictSlot = true, c.rows[0].Step, c.rows[0].Slot
	}
	if o.pre != nil {
		o.query, o.refused = c.precondition(o, after)
		if o.query != nil && o.query.blocks == nil {
			msg.Query, msg.Result, msg.Payload = o.query.id, o.query.result, o.query.coef
		}
	}
	for s := range c.shards {
		m := msg
		c.call(e, s, &m, func(e *Effects, reply wire.Message) {
			if _, ok := reply.(*wire.OK); !ok {
				c.restart(e, fmt.Sprintf("shard %d does not commit step %d: %s", s, o.step, said(reply)))
				return
			}
			o.acks++
			switch {
			case planted.On(planted.CommitWithoutAcks) && o.acks == 1:
				c.committed(e, o, after)
			case o.acks == len(c.shards) && c.committing == o:
				invariant.That(o.acks == c.rec.Spec.Shards, "commit of step %d with %d of %d acks", o.step, o.acks, c.rec.Spec.Shards)
				c.committed(e, o, after)
			}
		})
	}
}

func slotsOf(rows []row) []wire.Slot {
	out := make([]wire.Slot, len(rows), len(rows)+1)
	for i, r := range rows {
		out[i] = r.Slot
	}
	return out
}

// committed tells who waits: every shard has acknowledged.
func (c *Core) committed(e *Effects, o *openStep, after []row) {
	invariant.That(!c.hasNewest || o.step > c.newest, "step %d committed after %d", o.step, c.newest)
	invariant.That(len(after) == c.win.Len(), "%d rows, %d in A", len(after), c.win.Len())
	c.rows, c.version, c.newest, c.hasNewest, c.committing = after, c.version+1, o.step, true, nil
	c.open = slices.DeleteFunc(c.open, func(p *openStep) bool { return p == o })
	if c.rec.Newest == nil { // once in a run's life: should all rows be lost, it is known that there were some
		first := o.step
		c.rec.Newest = &first
		rec := c.rec.clone()
		e.Save = &rec
	}
	c.settleStep(e, o)
	c.goOn(e)
}

// settleStep tells who waits for a committed step, once its precondition's bound is known.
func (c *Core) settleStep(e *Effects, o *openStep) {
	reply := &wire.WaitReply{State: wire.StateCommitted, Version: c.version, Rows: len(c.rows), Refused: o.refused}
	tell := func(e *Effects) {
		c.outcomes.put(o.attempt, outcome{reply: reply})
		c.settling = slices.DeleteFunc(c.settling, func(p *openStep) bool { return p == o })
		for _, w := range o.waiters {
			e.send(w.to, reply)
		}
		o.waiters = nil
	}
	q := o.query
	if q == nil {
		tell(e)
		return
	}
	q.readers = o.readers
	c.queries[q.id] = q
	if len(q.readers) == 0 {
		c.closeQuery(e, q, closed(q))
		tell(e)
		return
	}
	c.settling = append(c.settling, o)
	q.then = func(e *Effects, refused *wire.Error) {
		q.then = nil
		switch {
		case refused == nil:
			reply.Query, reply.Bounds = q.id, q.bounds
		case refused.Code != wire.CodeUnknownQuery: // else whoever asked for it has gone
			reply.Refused = refused
		}
		tell(e)
		c.settleBlocks(e)
	}
	if q.blocks != nil {
		c.settleBlocks(e)
		return
	}
	if q.unsettled != nil {
		c.norms(e, q)
	} else {
		c.answer(e, q)
	}
}

// supersede ends an attempt because another publication of its step begins.
func (c *Core) supersede(e *Effects, o *openStep) {
	err := wire.Errorf(wire.CodeSuperseded, "attempt", uint64(o.attempt), "the last one", "another publisher has opened step %d anew", o.step)
	c.end(e, o, err)
}

// end tells who waits for an attempt that it came to nothing.
func (c *Core) end(e *Effects, o *openStep, err *wire.Error) {
	c.outcomes.put(o.attempt, outcome{err: err})
	for _, w := range o.waiters {
		e.send(w.to, err)
	}
	o.waiters = nil
	c.stopAsking(o)
}

// stopAsking drops what is asked of shards for an attempt.
func (c *Core) stopAsking(o *openStep) {
	c.forget(func(m wire.Control) bool {
		switch m := m.(type) {
		case *wire.Stage:
			return m.Attempt == o.attempt
		case *wire.Multiply:
			return m.Attempt == o.attempt
		}
		return false
	})
}

// fail drops a step on every shard. When all have done so its slot is free again, and who waits is
// told: a step that was said to be dropped is never committed, by no later owner.
func (c *Core) fail(e *Effects, o *openStep, err *wire.Error) {
	c.stopAsking(o)
	o.dropping = true
	left := len(c.shards)
	for s := range c.shards {
		c.call(e, s, &wire.Drop{Step: o.step, Attempt: o.attempt}, func(e *Effects, m wire.Message) {
			if _, ok := m.(*wire.OK); !ok {
				c.restart(e, fmt.Sprintf("shard %d does not drop step %d: %s", s, o.step, said(m)))
				return
			}
			if left--; left == 0 {
				c.open = slices.DeleteFunc(c.open, func(p *openStep) bool { return p == o })
				c.end(e, o, err)
				c.nextChange(e)
			}
		})
	}
	c.advance(e)
}

// waitStep answers what has become of an attempt, when that is known.
func (c *Core) waitStep(e *Effects, in Request, m *wire.Wait) error {
	for _, o := range c.open {
		if o.attempt == m.Attempt {
			if m.Epoch != c.epoch {
				return c.stale(m.Epoch) // open it again: chunks may be missing
			}
			o.waiters = c.wait(e, o.waiters, in.From)
			return nil
		}
	}
	for _, o := range c.settling {
		if o.attempt == m.Attempt {
			o.waiters = c.wait(e, o.waiters, in.From)
			return nil
		}
	}
	if out, ok := c.outcomes.get(m.Attempt); ok {
		if out.err != nil {
			return out.err
		}
		e.send(in.From, out.reply)
		return nil
	}
	for _, r := range c.rows {
		if r.Attempt == m.Attempt && r.Step == m.Step { // committed under an earlier owner
			e.send(in.From, &wire.WaitReply{State: wire.StateCommitted, Version: r.version, Rows: len(c.rows)})
			return nil
		}
	}
	if m.Epoch != c.epoch {
		return c.stale(m.Epoch)
	}
	return wire.Errorf(wire.CodeUnknownStep, "step", m.Step, "open, or committed not long ago")
}

func (c *Core) stale(epoch wire.Epoch) *wire.Error {
	err := wire.Errorf(wire.CodeStaleEpoch, "epoch", epoch, c.epoch.String(), "ask for the run's info again")
	err.Epoch = c.epoch
	return err
}
