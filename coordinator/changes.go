package coordinator

import (
	"fmt"
	"slices"

	"mfac/internal/invariant"
	"mfac/wire"
)

// This file: changes of a run that no step makes. Rows are forgotten, λ or the divisor is set, the run is
// frozen or thawed (freeze.go).
// One at a time, in the order in which they came, between commits and not beside one.

// Change is the last one, in the record: so that who asks again, after the run has changed hands,
// hears what has become of it. Written before any shard hears of the change.
type Change struct {
	Caller  string       `json:"caller"`
	Token   uint64       `json:"token,string"`
	Version wire.Version `json:"version"` // when it is done
	Rows    int          `json:"rows"`    // the same
}

// change is one that waits, or is under way.
type change struct {
	key     callerToken
	msg     wire.Message // *wire.Forget, *wire.Set, *wire.Resize or *wire.Freeze
	waiters []waiter
	record  Record // with it
	saved   bool
	rows    []int // to be forgotten, by age; or that leave a window that becomes smaller

	readying bool // the shards make ready: it is not in the record yet
}

// maxChanges is how many changes may wait.
const maxChanges = 64

// change answers a request for a change, when it is done.
func (c *Core) change(e *Effects, in Request, token uint64) error {
	key := callerToken{in.Caller, token}
	if out, ok := c.changed.get(key); ok {
		if out.err != nil {
			return out.err
		}
		e.send(in.From, out.reply)
		return nil
	}
	all := append(slices.Clone(c.freezers), c.changes...)
	if c.changing != nil {
		all = append([]*change{c.changing}, all...)
	}
	for _, ch := range all {
		if ch.key == key {
			ch.waiters = c.wait(e, ch.waiters, in.From)
			return nil
		}
	}
	if len(c.changes) >= maxChanges {
		return wire.Errorf(wire.CodeBusy, "changes that wait", len(c.changes), fmt.Sprintf("below %d", maxChanges))
	}
	ch := &change{key: key, msg: in.Msg}
	ch.waiters = c.wait(e, nil, in.From)
	c.changes = append(c.changes, ch)
	c.nextChange(e)
	return nil
}

// goOn takes up what has waited for a commit or a change to end.
func (c *Core) goOn(e *Effects) {
	c.nextChange(e)
	if c.changing != nil {
		return
	}
	held := c.held
	c.held = nil
	for _, in := range held {
		if err := c.query(e, in, in.Msg.(*wire.Query)); err != nil {
			e.send(in.From, wire.AsError(err))
		}
	}
	c.advance(e)
}

// nextChange begins the next change that is one, unless something is under way. Only then can it be
// said which rows there are: all steps of a forget are in the window, or nothing is forgotten.
func (c *Core) nextChange(e *Effects) {
	for c.committing == nil && c.changing == nil && c.phase == serving {
		ch := c.popChange()
		if ch == nil {
			return
		}
		rec := c.rec.clone()
		rec.Change = &Change{Caller: ch.key.caller, Token: ch.key.token, Version: c.version, Rows: len(c.rows)}
		switch m := ch.msg.(type) {
		case *wire.Forget:
			for _, step := range wire.Uint64s[wire.Step](m.Payload) {
				i, err := c.indexOf(step)
				if err != nil {
					we := *wire.AsError(err)
					we.Hint = "nothing was forgotten: it has left the window or never was in it"
					c.endChange(e, ch, outcome{err: &we})
					ch = nil
					break
				}
				ch.rows = append(ch.rows, i)
			}
			if ch == nil {
				continue
			}
			slices.Sort(ch.rows)
			rec.Change.Version++
			rec.Change.Rows -= len(ch.rows)
			newest := c.newest // a window without its newest row does not forget how far it was
			rec.Newest = &newest
			if rec.Freeze != nil { // W has traces of the rows
				rec.Freeze.Thawed = true
			}
		case *wire.Resize:
			if m.Window == rec.Spec.Window {
				c.endChange(e, ch, outcome{reply: c.changeReply(rec.Change)})
				continue
			}
			if c.frozen() {
				c.endChange(e, ch, outcome{err: c.errFrozen()})
				continue
			}
			if err := c.resizeRecord(ch, &rec, m); err != nil {
				c.endChange(e, ch, outcome{err: wire.AsError(err)})
				continue
			}
			ch.record, c.changing = rec, ch
			c.makeReady(e, ch)
			continue
		case *wire.Set:
			if m.Damping != 0 {
				rec.Spec.Damping = m.Damping
			}
			if m.Divisor != "" {
				rec.Spec.Divisor = m.Divisor
			}
			if err := c.checkDamping(m.Damping); err != nil {
				c.endChange(e, ch, outcome{err: wire.AsError(err)})
				continue
			}
			if rec.Spec == c.rec.Spec {
				c.endChange(e, ch, outcome{reply: c.changeReply(rec.Change)})
				continue
			}
			if c.frozen() {
				c.endChange(e, ch, outcome{err: c.errFrozen()})
				continue
			}
		case *wire.Freeze:
			c.freezeChange(e, ch, m)
			continue
		}
		ch.record = rec
		c.changing = ch
		save := rec.clone()
		e.Save = &save
	}
}

func (c *Core) changeReply(ch *Change) *wire.WaitReply {
	return &wire.WaitReply{State: wire.StateCommitted, Version: ch.Version, Rows: ch.Rows}
}

// endChange tells who waits for a change.
func (c *Core) endChange(e *Effects, ch *change, out outcome) {
	c.changed.put(ch.key, out)
	for _, w := range ch.waiters {
		if out.err != nil {
			e.send(w.to, out.err)
		} else {
			e.send(w.to, out.reply)
		}
	}
	ch.waiters = nil
}

// savedChange goes on with a change that is in the record.
func (c *Core) savedChange(e *Effects) {
	ch := c.changing
	if ch == nil || ch.saved || ch.readying {
		return
	}
	ch.saved = true
	if _, ok := ch.msg.(*wire.Resize); ok {
		c.resized(e, ch)
		return
	}
	c.rec = ch.record
	if m, ok := ch.msg.(*wire.Freeze); ok {
		if m.Thaw {
			c.thaw(e, c.doneChange)
		} else {
			c.savedFreeze(e, ch)
		}
		return
	}
	if _, ok := ch.msg.(*wire.Set); ok {
		c.snapshot() // queries that are open keep the factor of their λ, as far as it is made
		if err := c.win.SetParams(c.rec.Spec.Damping, divisorOf(c.rec.Spec.Divisor)); err != nil {
			c.restart(e, fmt.Sprintf("the new damping is not taken: %v", err))
			return
		}
		c.doneChange(e)
		return
	}
	rows := make([]wire.Row, len(ch.rows))
	for i, r := range ch.rows {
		rows[i] = c.rows[r].Row
	}
	c.closeReaders(e, rows)
	c.thaw(e, func(*Effects) {})
	left := len(c.shards)
	for s := range c.shards {
		c.call(e, s, &wire.Evict{Version: c.version + 1, Payload: wire.AppendRows(nil, rows)}, func(e *Effects, m wire.Message) {
			if _, ok := m.(*wire.OK); !ok {
				c.restart(e, fmt.Sprintf("shard %d does not forget: %s", s, said(m)))
				return
			}
			if left--; left == 0 && c.changing == ch {
				c.forgotten(e, ch)
			}
		})
	}
}

// closeReaders ends the queries that read any of the rows, or whose numbers are of one, whoever waits
// for them. Shards end them before they zero the rows, whichever message comes first.
func (c *Core) closeReaders(e *Effects, rows []wire.Row) {
	c.spectra.known, c.spectra.form = nil, nil
	for _, id := range sortedKeys(c.queries) {
		q := c.queries[id]
		reads := func(r wire.Row) bool {
			return q.alone() || q.formed != nil || q.kind == wire.KindLikelihood || q.mask.Has(int(r.Slot)) || slices.Contains(q.steps, r.Step)
		}
		if i := slices.IndexFunc(rows, reads); i >= 0 && !q.closing {
			c.closeQuery(e, q, wire.Errorf(wire.CodeVersionGone, "query", uint64(q.id), "on rows that are in memory", "step %d of version %d was forgotten", uint64(rows[i].Step), q.version))
		}
	}
}

// forgotten takes the rows out of A: every shard has zeroed them.
func (c *Core) forgotten(e *Effects, ch *change) {
	c.snapshot()
	err := c.win.Erase(ch.rows)
	invariant.That(err == nil, "forget rows %v of %d: %v", ch.rows, len(c.rows), err)
	for _, i := range slices.Backward(ch.rows) {
		slot := c.rows[i].Slot
		for _, o := range c.open {
			for _, part := range o.parts {
				if part != nil {
					part[slot] = wire.Product{}
				}
			}
		}
		c.rows = slices.Delete(c.rows, i, i+1)
	}
	err = c.win.SetWeights(c.weightsOf(c.rows)) // the newest may have gone
	invariant.That(err == nil, "weights of %d rows: %v", len(c.rows), err)
	c.version++
	e.Notes = append(e.Notes, Note{"rows forgotten, as a client has asked", wire.Uint64s[wire.Step](ch.msg.(*wire.Forget).Payload)})
	invariant.That(c.version == c.rec.Change.Version && len(c.rows) == c.rec.Change.Rows, "forgotten: version %d with %d rows, the record says %+v", c.version, len(c.rows), *c.rec.Change)
	c.doneChange(e)
}

func (c *Core) doneChange(e *Effects) {
	ch := c.changing
	c.changing = nil
	c.endChange(e, ch, outcome{reply: c.changeReply(c.rec.Change)})
	c.goOn(e)
}

// resumeChange takes note, at a takeover, of what has become of the last change. A forget that any
// shard has carried out is finished by the window that is decided, as a commit is; of one that none
// has, nothing is left: who asks again has it done then.
func (c *Core) resumeChange(best wire.Version) {
	ch := c.rec.Change
	if ch == nil {
		return
	}
	if ch.Version > best {
		c.rec.Change = nil
		return
	}
	// At the version that is served now: a lost row may have made it another.
	c.changed.put(callerToken{ch.Caller, ch.Token}, outcome{reply: c.changeReply(&Change{Version: c.version, Rows: len(c.rows)})})
}

// abandonChanges answers who waits for a change.
func (c *Core) abandonChanges(e *Effects, err *wire.Error) {
	if c.changing != nil {
		c.changes = append([]*change{c.changing}, c.changes...)
	}
	for _, ch := range append(c.changes, c.freezers...) {
		for _, w := range ch.waiters {
			e.send(w.to, err)
		}
		ch.waiters = nil
	}
	c.changes, c.changing, c.freezers = nil, nil, nil
}

// pendingChanges answers the long polls for changes whose time is up.
func (c *Core) pendingChanges(e *Effects) {
	if ch := c.changing; ch != nil {
		ch.waiters = c.pending(e, ch.waiters, &wire.WaitReply{State: wire.StatePending})
	}
	for _, ch := range append(slices.Clone(c.freezers), c.changes...) {
		ch.waiters = c.pending(e, ch.waiters, &wire.WaitReply{State: wire.StatePending})
	}
}
