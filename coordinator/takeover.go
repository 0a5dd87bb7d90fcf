package coordinator

import (
	"cmp"
	"fmt"
	"slices"

	"mfac/coordinator/window"
	"mfac/wire"
)

// This file: from the lease to service.

// place waits until every shard has a live worker, and puts those whose worker stays away on
// others.
func (c *Core) place(e *Effects) {
	var away []int
	rooms := map[string]*room{}
	for _, id := range sortedKeys(c.workers) {
		p := c.workers[id]
		if c.tick-p.heard < c.ticks(c.cfg.SilentMS) {
			rooms[id] = &room{id: id, free: p.hello.Capacity - p.hello.Used}
		}
	}
	waiting := ""
	for s, p := range c.rec.Placed {
		if p.Worker != "" && rooms[p.Worker] != nil {
			continue
		}
		if p.Worker != "" && c.tick-c.since < c.ticks(c.cfg.SilentMS) {
			waiting = p.Worker
		}
		away = append(away, s)
	}
	if waiting != "" {
		c.why = fmt.Sprintf("waiting for worker %s", waiting)
		return
	}
	if len(away) > 0 {
		list := make([]room, 0, len(rooms))
		for _, id := range sortedKeys(rooms) {
			list = append(list, *rooms[id])
		}
		where, err := place(&c.rec, away, list)
		if err != nil {
			c.why = "waiting for workers: " + err.Error()
			return
		}
		for _, s := range away {
			c.rec.Placed[s] = Place{Worker: where[s], Revision: c.rec.Takeovers}
		}
	}
	c.enter(adopting, "asking workers what they hold")
	for s := range c.shards {
		w := c.rec.Placed[s].Worker
		c.shards[s] = shardOf{worker: w, instance: c.workers[w].hello.Instance}
		lo, n := c.rec.columns(s)
		c.call(e, s, &wire.Adopt{Instance: c.shards[s].instance, UID: c.rec.UID, Placed: c.rec.Placed[s].Revision, Lo: lo, Cols: n, Slots: c.rec.Spec.Slots(), Store: c.rec.Spec.Store, Scales: c.rec.Spec.Scales},
			func(e *Effects, m wire.Message) { c.adopted(e, s, m) })
	}
}

func (c *Core) adopted(e *Effects, s int, m wire.Message) {
	a, ok := m.(*wire.Adopted)
	if err, refused := m.(*wire.Error); refused && err.Code == wire.CodeTooLarge {
		// No room there after all: another run was quicker. Look again, as the worker's next
		// heartbeat tells.
		c.workers[c.shards[s].worker].hello.Used = c.workers[c.shards[s].worker].hello.Capacity
		c.rec.Placed[s] = Place{}
		c.calls = map[uint64]*call{}
		c.enter(placing, "looking for room: "+err.Error())
		return
	}
	if !ok {
		c.enter(failed, fmt.Sprintf("worker %s can't take shard %d: %s", c.shards[s].worker, s, said(m)))
		return
	}
	c.shards[s].adopted = a
	for _, o := range c.shards {
		if o.adopted == nil {
			return
		}
	}
	if c.phase == adopting {
		c.decide(e)
	}
}

// decide says what the window is: the rows of the highest version, of which every shard still
// holds its slice. A row that some shard has lost is dropped, never guessed. A step that is
// staged stays open: its publisher sends what is missing, or it is dropped at its deadline.
func (c *Core) decide(e *Effects) {
	var best *wire.Adopted
	for _, s := range c.shards {
		if best == nil || s.adopted.Version > best.Version {
			best = s.adopted
		}
	}
	var lost []wire.Step
	for _, r := range wire.Rows(best.Payload) {
		if !c.hasNewest || r.Step > c.newest {
			c.newest, c.hasNewest = r.Step, true
		}
		if int(r.Slot) < c.rec.Spec.Slots() && c.heldByAll(r) {
			c.rows = append(c.rows, row{Row: r})
		} else {
			lost = append(lost, r.Step)
		}
	}
	slices.SortFunc(c.rows, func(a, b row) int { return cmp.Compare(a.Step, b.Step) })
	if len(c.rows) > c.rec.Spec.Window { // can't be: a shard's rows are a window's
		c.enter(failed, fmt.Sprintf("%d rows in a window of %d", len(c.rows), c.rec.Spec.Window))
		return
	}
	c.decided = true
	c.version = best.Version
	dropped := "rows dropped: a shard has lost them"
	switch {
	case best.Version == 0:
		c.version = c.rec.Floor // a new run has 0; one whose rows are all lost goes on above
		lost = c.cfg.Had
		if n := c.rec.Newest; n != nil && len(lost) == 0 { // another coordinator knew them
			dropped, lost = "all rows are lost, and how many is not known: there were some up to", []wire.Step{*n}
		}
	case len(lost) > 0:
		c.version++
	}
	for i := range c.rows {
		c.rows[i].version = c.version
	}
	c.lost = len(lost)
	if len(lost) > 0 {
		e.Notes = append(e.Notes, Note{dropped, lost})
	}
	if c.hasNewest {
		newest := c.newest // a window that loses all its rows does not forget how far it was
		c.rec.Newest = &newest
	}
	c.keepOpen()
	c.resumeChange(best.Version)
	c.rec.Floor = max(c.rec.Floor, c.version) + versionReserve
	c.enter(saving, "writing the run's record")
	rec := c.rec.clone()
	e.Save = &rec
}

// heldByAll reports whether every shard has its slice of a row, committed or staged whole.
func (c *Core) heldByAll(r wire.Row) bool {
	for _, s := range c.shards {
		held := slices.Contains(wire.Rows(s.adopted.Payload), r)
		for _, st := range s.adopted.Staged {
			held = held || st.Whole && st.Slot == r.Slot && st.Step == r.Step && st.Attempt == r.Attempt
		}
		if !held {
			return false
		}
	}
	return true
}

// keepOpen lists the steps that stay open: the last attempt at each step above the window, where
// its slot is free.
func (c *Core) keepOpen() {
	last := map[wire.Step]wire.Staged{}
	for _, s := range c.shards {
		for _, st := range s.adopted.Staged {
			if c.hasNewest && st.Step <= c.newest || int(st.Slot) >= c.rec.Spec.Slots() {
				continue
			}
			if l, ok := last[st.Step]; !ok || st.Attempt > l.Attempt {
				last[st.Step] = st
			}
		}
	}
	taken := map[wire.Slot]bool{}
	for _, r := range c.rows {
		taken[r.Slot] = true
		c.cursor = r.Slot
	}
	for _, step := range sortedKeys(last) {
		st := last[step]
		if taken[st.Slot] {
			continue
		}
		taken[st.Slot] = true
		c.cursor = st.Slot
		o := c.newOpen(st.Step, st.Attempt, st.Token, st.Slot, 0)
		o.unnamed = !slices.ContainsFunc(c.shards[0].adopted.Staged, func(t wire.Staged) bool { return t.Attempt == st.Attempt })
		o.weight = st.Weight
		c.open = append(c.open, o)
	}
}

func (c *Core) install(e *Effects) {
	c.enter(installing, "telling workers what the window is")
	rows := make([]wire.Row, len(c.rows))
	for i, r := range c.rows {
		rows[i] = r.Row
	}
	var keep []wire.Staged
	for _, o := range c.open {
		keep = append(keep, wire.Staged{Slot: o.slot, Step: o.step, Attempt: o.attempt, Token: o.token, Weight: o.weight})
	}
	left := len(c.shards)
	for s := range c.shards {
		c.call(e, s, &wire.Install{Version: c.version, Keep: keep, Payload: wire.AppendRows(nil, rows)}, func(e *Effects, m wire.Message) {
			if _, ok := m.(*wire.OK); !ok {
				c.restart(e, fmt.Sprintf("shard %d does not take the window: %s", s, said(m)))
				return
			}
			if left--; left == 0 {
				c.enter(loading, "rebuilding A from the shards")
				c.gram = gramLoad{}
				c.loadCarried()
				c.loadLabels(e, 0)
			}
		})
	}
}

// gramLoad is A on its way from the shards.
type gramLoad struct {
	packed []float64 // rows [0, next) of the lower triangle
	next   int
	parts  [][]float64 // of the present block, a shard each
	left   int
}

// load asks for A, a block of rows at a time.
func (c *Core) load(e *Effects) {
	n, g := len(c.rows), &c.gram
	if g.next == n {
		c.serve(e)
		return
	}
	i0, i1 := g.next, g.next+1
	for i1 < n && 8*(triangle(i1+1)-triangle(i0)) <= wire.MaxPayload {
		i1++
	}
	g.parts, g.left = make([][]float64, len(c.shards)), len(c.shards)
	list := make([]wire.Slot, n)
	for i, r := range c.rows {
		list[i] = r.Slot
	}
	slots := wire.AppendSlots(nil, list)
	for s := range c.shards {
		c.call(e, s, &wire.Gram{I0: i0, I1: i1, Payload: slots}, func(e *Effects, m wire.Message) {
			num, ok := m.(*wire.Numbers)
			if !ok || num.Count != triangle(i1)-triangle(i0) {
				c.restart(e, fmt.Sprintf("shard %d does not answer for A: %s", s, said(m)))
				return
			}
			g.parts[s] = wire.Floats(num.Payload)
			if g.left--; g.left == 0 {
				g.packed = append(g.packed, sumInOrder(g.parts)...)
				g.next = i1
				c.load(e)
			}
		})
	}
}

func triangle(n int) int { return n * (n + 1) / 2 }

// sumInOrder adds the shards' parts in shard order, not as replies come: float64 addition does
// not associate, and the answer must be the same bits.
func sumInOrder(parts [][]float64) []float64 {
	sum := slices.Clone(parts[0])
	for _, p := range parts[1:] {
		for i, v := range p {
			sum[i] += v
		}
	}
	return sum
}

func (c *Core) serve(e *Effects) {
	spec := c.rec.Spec
	win, err := window.New(spec.Window, spec.Damping, divisorOf(spec.Divisor))
	if err == nil && len(c.rows) > 0 {
		if err = win.Load(c.gram.packed, len(c.rows)); err == nil {
			err = win.SetWeights(c.weightsOf(c.rows))
		}
	}
	if err != nil {
		c.enter(failed, fmt.Sprintf("A can't be rebuilt: %v", err))
		return
	}
	c.win, c.gram = win, gramLoad{}
	c.enter(serving, wire.StateReady)
	for s := range c.shards {
		c.shards[s].adopted = nil
	}
	if c.frozen() {
		c.dropOpen(e)
		c.hold(e)
		return
	}
	for _, o := range c.open {
		o.deadline = c.tick + c.ticks(c.cfg.StepMS)
		c.stage(e, o)
	}
}
