package coordinator

import (
	"fmt"
	"math"
	"slices"

	"mfac/coordinator/window"
	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/wire"
)

// This file: frozen runs. No step is published to one, and its shards keep W = L⁻¹G. That it is frozen is in
// the record, so that it stays; W is made of it, by each owner anew.

// Freezing is a run's last freeze, in the record, with who asked for it: a late copy of the request does not
// freeze a run that was thawed since.
type Freezing struct {
	Caller string `json:"caller"`
	Token  uint64 `json:"token,string"`
	Thawed bool   `json:"thawed,omitempty"`
}

// kept is a W that the shards keep, or are about to.
type kept struct {
	id      wire.QueryID
	slots   []wire.Slot // of its rows, oldest first
	damping float64
	divisor window.Divisor
	l       []float64 // on its way to the shards
	made    []int64   // columns that are there, of each shard
	left    int       // shards that have not all of it
	asked   bool      // shards have heard of it
	whole   bool
}

// A shard works out a piece of W at a time, in tens of ms, so that queries come in between.
const (
	whitenProducts = 1 << 29   // at most, and
	whitenBytes    = 128 << 20 // of W
	whitenCols     = 64        // a piece is a multiple of
)

func (c *Core) frozen() bool { return c.rec.Freeze != nil && !c.rec.Freeze.Thawed }

func (c *Core) errFrozen() *wire.Error {
	return wire.Errorf(wire.CodeFrozen, "run", c.rec.Spec.Name, "thawed", "mfac run thaw %s lets its window change again", c.rec.Spec.Name)
}

// freezing says whether the change that is under way is a freeze whose record is not written yet.
func (c *Core) freezing() bool {
	if c.changing == nil {
		return false
	}
	m, ok := c.changing.msg.(*wire.Freeze)
	return ok && !m.Thaw
}

// freezeChange begins a freeze or a thaw. Room for W is asked for before anything is written: where a
// worker has not got it the run is as it was.
func (c *Core) freezeChange(e *Effects, ch *change, m *wire.Freeze) {
	last := c.rec.Freeze
	switch {
	case m.Thaw && c.frozen():
		rec := c.rec.clone()
		rec.Change = &Change{Caller: ch.key.caller, Token: ch.key.token, Version: c.version, Rows: len(c.rows)}
		rec.Freeze.Thawed = true
		c.changing, ch.record = ch, rec
		save := rec.clone()
		e.Save = &save
	case m.Thaw, c.kept != nil && c.kept.whole, last != nil && last.Thawed && last.Caller == ch.key.caller && last.Token == ch.key.token:
		c.endChange(e, ch, c.asItStands())
	case c.frozen():
		c.freezers = append(c.freezers, ch)
		if c.kept == nil {
			c.hold(e)
		}
	case len(c.rows) == 0:
		c.endChange(e, ch, outcome{err: wire.Errorf(wire.CodeTooFewRows, "rows", 0, "at least 1", "there is nothing to freeze")})
	default:
		c.changing, ch.saved = ch, true // there is nothing to be saved yet
		c.hold(e)
	}
}

func (c *Core) asItStands() outcome {
	return outcome{reply: &wire.WaitReply{State: wire.StateCommitted, Version: c.version, Rows: len(c.rows)}}
}

// hold asks every shard for room for W.
func (c *Core) hold(e *Effects) {
	q := c.newQuery(c.version, c.rows, 0, "", wire.F64)
	k := &kept{id: q.id, slots: q.slots, damping: q.damping, divisor: q.divisor, made: make([]int64, len(c.shards)), left: len(c.shards)}
	c.kept, c.without = k, ""
	if len(k.slots) == 0 {
		c.unkept(e, wire.Errorf(wire.CodeTooFewRows, "rows", 0, "at least 1", "all that the run was frozen with are lost"))
		return
	}
	if _, err := c.factor(q); err != nil {
		c.unkept(e, wire.AsError(err))
		return
	}
	k.asked = true
	left := len(c.shards)
	for s := range c.shards {
		c.call(e, s, &wire.Hold{Query: k.id, Damping: k.damping, Payload: wire.AppendSlots(nil, k.slots)}, func(e *Effects, m wire.Message) {
			switch {
			case c.kept != k || !c.acknowledged(e, m):
			case left > 1:
				left--
			case c.freezing():
				ch := c.changing
				ch.record = c.rec.clone()
				ch.record.Freeze = &Freezing{Caller: ch.key.caller, Token: ch.key.token}
				ch.saved = false
				save := ch.record.clone()
				e.Save = &save
			default:
				c.sendLower(e, k)
			}
		})
	}
}

// acknowledged takes a shard's answer about the W that is being made.
func (c *Core) acknowledged(e *Effects, m wire.Message) bool {
	switch m := m.(type) {
	case *wire.OK:
		return true
	case *wire.Error:
		err := *m
		err.Seq = 0
		if err.Code == wire.CodeUnknownQuery { // a shard has another owner: it is to be asked there
			err = *wire.Errorf(wire.CodeUnavailable, "run", c.rec.Spec.Name, "ready", "its shards have another owner")
		}
		c.unkept(e, &err)
	default:
		c.unkept(e, wire.Errorf(wire.CodeInternal, "answer", m.Type(), "one of the protocol"))
	}
	return false
}

// unkept gives up a W that can't be made, and tells who waits for it.
func (c *Core) unkept(e *Effects, why *wire.Error) {
	k := c.kept
	c.kept = nil
	if c.freezing() { // it has not begun: nothing has changed
		ch := c.changing
		c.closeKept(e, k, func(e *Effects) {
			c.changing = nil
			c.endChange(e, ch, outcome{err: why})
			c.goOn(e)
		})
		return
	}
	c.without = why.Error()
	e.Notes = append(e.Notes, Note{Text: "a frozen run is without W: " + c.without})
	c.closeKept(e, k, func(*Effects) {})
	c.endFreezers(e, outcome{err: why})
}

// endFreezers tells who waits for W.
func (c *Core) endFreezers(e *Effects, out outcome) {
	for _, ch := range c.freezers {
		c.endChange(e, ch, out)
	}
	c.freezers = nil
}

// savedFreeze goes on with a freeze that is in the record: steps that are open come to nothing.
func (c *Core) savedFreeze(e *Effects, ch *change) {
	c.changing = nil
	c.freezers = append(c.freezers, ch)
	c.dropOpen(e)
	c.sendLower(e, c.kept)
	c.goOn(e)
}

// dropOpen ends the steps that are open: nothing is published to a frozen run.
func (c *Core) dropOpen(e *Effects) {
	for _, o := range slices.Clone(c.open) {
		if !o.dropping {
			c.fail(e, o, c.errFrozen())
		}
	}
}

// sendLower gives every shard L.
func (c *Core) sendLower(e *Effects, k *kept) {
	n := len(k.slots)
	f, err := c.win.Factor(k.damping, k.divisor)
	if err == nil {
		k.l = make([]float64, n*(n+1)/2)
		err = f.PackedTo(k.l)
	}
	if err != nil {
		c.unkept(e, wire.AsError(fmt.Errorf("factor of a frozen run: %w", err)))
		return
	}
	for s := range c.shards {
		t := &lowerTo{c: c, k: k, shard: s}
		for range factorWindow {
			t.next(e)
		}
	}
}

// lowerTo sends a W's L to one shard, some pieces at a time, and then has W worked out.
type lowerTo struct {
	c     *Core
	k     *kept
	shard int
	lo    int64 // of the next piece
	open  int   // pieces on their way
	all   bool  // have been sent
}

func (t *lowerTo) next(e *Effects) {
	c, k := t.c, t.k
	if t.all || c.kept != k {
		return
	}
	n := min(int64(len(k.l))-t.lo, wire.MaxFactorPiece(len(k.slots)))
	m := &wire.Factor{
		Query: k.id, Rows: len(k.slots), Lo: t.lo, N: n, Damping: k.damping, Result: wire.F64,
		Payload: wire.AppendFloats(wire.AppendSlots(nil, k.slots), k.l[t.lo:t.lo+n]),
	}
	t.lo += n
	t.open++
	t.all = t.lo == int64(len(k.l))
	c.call(e, t.shard, m, func(e *Effects, m wire.Message) {
		if c.kept != k || !c.acknowledged(e, m) {
			return
		}
		t.open--
		if t.next(e); t.open == 0 {
			c.whiten(e, k, t.shard)
		}
	})
}

// whiten has a shard work out its next columns of W.
func (c *Core) whiten(e *Effects, k *kept, s int) {
	first, cols := c.rec.columns(s)
	if k.made[s] == cols {
		if k.left--; k.left == 0 {
			k.whole, k.l = true, nil
			c.endFreezers(e, c.asItStands())
		}
		return
	}
	rows := int64(len(k.slots))
	n := min(whitenProducts/(rows*(rows+1)/2), whitenBytes/(8*rows))
	n = min(cols-k.made[s], max(1, n/whitenCols)*whitenCols)
	c.call(e, s, &wire.Whiten{Query: k.id, Lo: first + k.made[s], N: n}, func(e *Effects, m wire.Message) {
		if c.kept == k && c.acknowledged(e, m) {
			k.made[s] += n
			c.whiten(e, k, s)
		}
	})
}

// thaw lets go of W, when the queries that read it have ended. then is told when it is gone; where some
// read it, at once.
func (c *Core) thaw(e *Effects, then func(*Effects)) {
	k := c.kept
	c.kept, c.without = nil, ""
	c.endFreezers(e, outcome{err: wire.Errorf(wire.CodeSuperseded, "freeze", "of "+c.rec.Spec.Name, "the last change", "the run was thawed before its W was there")})
	switch {
	case k == nil:
		then(e)
	case c.readers(k):
		c.ending = append(c.ending, k)
		then(e)
	default:
		c.closeKept(e, k, then)
	}
}

// readers reports whether a query reads a W.
func (c *Core) readers(k *kept) bool {
	for _, q := range c.queries {
		if q.of == k.id {
			return true
		}
	}
	return false
}

// endKept closes the Ws that nobody reads any more.
func (c *Core) endKept(e *Effects) {
	c.ending = slices.DeleteFunc(c.ending, func(k *kept) bool {
		if c.readers(k) {
			return false
		}
		c.closeKept(e, k, func(*Effects) {})
		return true
	})
}

// closeKept has every shard give a W back.
func (c *Core) closeKept(e *Effects, k *kept, then func(*Effects)) {
	if !k.asked {
		then(e)
		return
	}
	c.forget(func(m wire.Control) bool {
		switch m := m.(type) {
		case *wire.Hold:
			return m.Query == k.id
		case *wire.Factor:
			return m.Query == k.id
		case *wire.Whiten:
			return m.Query == k.id
		}
		return false
	})
	left := len(c.shards)
	for s := range c.shards {
		c.call(e, s, &wire.CloseQuery{Query: k.id}, func(e *Effects, m wire.Message) {
			if _, ok := m.(*wire.OK); !ok {
				c.restart(e, fmt.Sprintf("shard %d does not give W back: %s", s, said(m)))
				return
			}
			if left--; left == 0 {
				then(e)
			}
		})
	}
}

// keptFor is the W that answers a query, nil where none does.
func (c *Core) keptFor(q *query) *kept {
	k := c.kept
	if k == nil || !k.whole || q.damping != k.damping || q.divisor != k.divisor || !slices.Equal(q.slots, k.slots) {
		return nil
	}
	return k
}

// recall has the shards work a diagonal out from W.
func (c *Core) recall(e *Effects, q *query, k *kept) {
	q.of, q.left = k.id, len(c.shards)
	for s := range c.shards {
		c.call(e, s, &wire.Recall{Query: q.id, Of: k.id, Damping: q.damping, Result: q.result}, func(e *Effects, m wire.Message) {
			if c.queries[q.id] != q || q.closing {
				return
			}
			if _, ok := m.(*wire.OK); !ok {
				c.refuse(e, q, m)
				return
			}
			if q.left--; q.left == 0 {
				c.answer(e, q)
			}
		})
	}
}

// whiteBytes is what W of so many rows takes on the worker of shard s, the largest int64 if it is more than
// any has, and what L takes beside it.
func (c *Core) whiteBytes(s, rows int) (white, lower int64) {
	_, n := c.rec.columns(s)
	numbers := shard.WhiteLen(n, dtype.Of(c.rec.Spec.Store), 1)
	if r := int64(max(1, rows)); numbers > math.MaxInt64/8/r {
		return math.MaxInt64, 0
	}
	return 8 * int64(rows) * numbers, 8 * int64(rows) * int64(rows)
}

// frozenReply says whether the run is frozen, and what that takes.
func (c *Core) frozenReply() *wire.Frozen {
	m := &wire.Frozen{State: c.frozenState(), Version: c.version, Rows: len(c.rows), Columns: c.rec.Spec.Dim}
	if m.State == wire.StateWithout {
		m.Why = c.without
	}
	if c.kept != nil {
		for _, n := range c.kept.made {
			m.Done += n
		}
	}
	at := map[string]int{}
	for s := range c.shards {
		w := c.shards[s].worker
		i, ok := at[w]
		if !ok {
			i = len(m.Workers)
			at[w] = i
			var free int64
			if p := c.workers[w]; p != nil {
				free = max(0, p.hello.Capacity-p.hello.Used)
			}
			m.Workers, m.Free = append(m.Workers, w), append(m.Free, free)
			m.Kept, m.Making = append(m.Kept, 0), append(m.Making, 0)
		}
		white, lower := c.whiteBytes(s, len(c.rows))
		m.Kept[i] = addUpTo(m.Kept[i], white)
		m.Making[i] += lower
	}
	return m
}

// addUpTo is a sum that ends at the largest int64.
func addUpTo(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func (c *Core) frozenState() string {
	switch {
	case !c.frozen():
		return wire.StateThawed
	case c.kept == nil:
		return wire.StateWithout
	case !c.kept.whole:
		return wire.StateMaking
	}
	return wire.StateFrozen
}

// frozenInfo adds to a run's info that it is frozen.
func (c *Core) frozenInfo(m *wire.Info) {
	if !c.frozen() {
		return
	}
	m.Frozen = c.frozenState()
	if c.phase != serving || c.kept == nil {
		return
	}
	for s := range c.shards {
		white, _ := c.whiteBytes(s, len(c.kept.slots))
		m.Kept = addUpTo(m.Kept, white)
	}
}
