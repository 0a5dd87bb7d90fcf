package coordinator

import (
	"fmt"
	"slices"

	"mfac/wire"
)

// This file: another window for a run. Every shard makes ready, the record is written, and with that it is
// decided: the owner begins anew, and adopts the shards with so many slots. Before, what was made ready
// is forgotten by the next install; after, each shard becomes it when it is adopted.

// resizing reports whether a window is to be resized: no further step is opened then.
func (c *Core) resizing() bool {
	if c.changing != nil && c.changing.resizes() {
		return true
	}
	return slices.ContainsFunc(c.changes, (*change).resizes)
}

func (ch *change) resizes() bool {
	_, ok := ch.msg.(*wire.Resize)
	return ok
}

// popChange takes the first change that can begin from those that wait: a window is resized when no step
// is open, as what is staged of one would be lost. nil where there is none.
func (c *Core) popChange() *change {
	i := slices.IndexFunc(c.changes, func(ch *change) bool { return len(c.open) == 0 || !ch.resizes() })
	if i < 0 {
		return nil
	}
	ch := c.changes[i]
	c.changes = slices.Delete(c.changes, i, i+1)
	return ch
}

// resizeRecord is the record of a run whose window is resized, and the oldest rows, which leave.
func (c *Core) resizeRecord(ch *change, rec *Record, m *wire.Resize) error {
	rec.Spec.Window = m.Window
	if err := rec.Spec.Validate(); err != nil { // Nλ may be too large
		return err
	}
	for i := range max(0, len(c.rows)-m.Window) {
		ch.rows = append(ch.rows, i)
	}
	rec.Change.Version++
	rec.Change.Rows -= len(ch.rows)
	if c.hasNewest {
		newest := c.newest
		rec.Newest = &newest
	}
	return nil
}

// makeReady asks every shard to make ready for the window of a change: its rows in the first slots, the
// oldest first. Where one has not got the memory the run stays what it is.
func (c *Core) makeReady(e *Effects, ch *change) {
	ch.readying = true
	kept := c.rows[len(ch.rows):]
	rows := make([]wire.Row, len(kept))
	for i, r := range kept {
		rows[i] = r.Row
		rows[i].Slot = wire.Slot(i)
	}
	msg := wire.Reshape{Version: ch.record.Change.Version, Slots: ch.record.Spec.Slots(), Payload: wire.AppendRows(nil, rows)}
	left := len(c.shards)
	var refused *wire.Error
	for s := range c.shards {
		m := msg
		c.call(e, s, &m, func(e *Effects, reply wire.Message) {
			switch r := reply.(type) {
			case *wire.OK:
			case *wire.Error:
				if r.Code != wire.CodeTooLarge {
					c.restart(e, fmt.Sprintf("shard %d does not make ready for another window: %s", s, said(r)))
					return
				}
				if refused == nil {
					err := *r
					err.Seq = 0
					refused = &err
				}
			default:
				c.restart(e, fmt.Sprintf("shard %d does not make ready for another window: %s", s, said(r)))
				return
			}
			left--
			switch {
			case left > 0 || c.changing != ch:
			case refused != nil:
				c.unready(e, ch, refused)
			default:
				ch.readying = false
				save := ch.record.clone()
				e.Save = &save
			}
		})
	}
}

// unready has every shard forget what it made ready, and tells why the window stays as it is.
func (c *Core) unready(e *Effects, ch *change, why *wire.Error) {
	left := len(c.shards)
	for s := range c.shards {
		c.call(e, s, &wire.Reshape{Version: c.version + 1, Slots: c.rec.Spec.Slots()}, func(e *Effects, reply wire.Message) {
			if _, ok := reply.(*wire.OK); !ok {
				c.restart(e, fmt.Sprintf("shard %d does not keep its window: %s", s, said(reply)))
				return
			}
			if left--; left == 0 && c.changing == ch {
				c.changing = nil
				c.endChange(e, ch, outcome{err: why})
				c.goOn(e)
			}
		})
	}
}

// resized begins anew with the window of the record. A goes along: it need not be made of all rows again.
func (c *Core) resized(e *Effects, ch *change) {
	n := len(ch.rows)
	k := &Carried{}
	for _, r := range c.rows[n:] {
		k.Attempts = append(k.Attempts, r.Attempt)
	}
	for i := n; i < len(c.rows); i++ {
		for j := n; j <= i; j++ {
			k.Packed = append(k.Packed, c.win.At(i, j))
		}
	}
	c.carried = k
	var steps []wire.Step
	for _, i := range ch.rows {
		steps = append(steps, c.rows[i].Step)
	}
	if len(steps) > 0 {
		e.Notes = append(e.Notes, Note{"rows leave: a client has asked for a smaller window", steps})
	}
	c.restart(e, fmt.Sprintf("the window is resized to %d rows", ch.record.Spec.Window))
}

// Carried is A of rows that a core had when it began anew for another window.
type Carried struct {
	Attempts []wire.Attempt // of the rows, oldest first
	Packed   []float64      // the lower triangle, row by row
}

// Carried is what the next core of the same process can do without asking for: nil for most.
func (c *Core) Carried() *Carried { return c.carried }

// loadCarried takes A over from the core before, where it is of the rows that are there.
func (c *Core) loadCarried() {
	k := c.cfg.Carried
	if k == nil || !slices.EqualFunc(k.Attempts, c.rows, func(a wire.Attempt, r row) bool { return a == r.Attempt }) {
		return
	}
	c.gram.packed, c.gram.next = k.Packed, len(c.rows)
	c.cfg.Carried = nil
}
