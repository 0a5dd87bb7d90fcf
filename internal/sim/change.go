package sim

import (
	"bytes"
	"slices"

	"mfac/coordinator"
	"mfac/wire"
)

// forgetting is a request to forget steps, of which one may never have been.
type forgetting struct {
	steps []wire.Step
	bogus bool
}

func (f *forgetting) names(s wire.Step) bool { return slices.Contains(f.steps, s) }

// setting is what a run was asked to be set to.
type setting struct {
	damping float64
	divisor wire.Divisor
	window  int // of the version that is asked
}

// mostWindow is the largest window that a run is resized to.
const mostWindow = 8

// changer forgets steps, sets λ and the divisor, and resizes the window, while the faults last.
func (c *client) changer() {
	w := c.w
	for w.now < w.shape.quiet {
		c.sleep(w.between(200, 3000))
		if w.chance(0.3) {
			c.doing = "set"
			s := setting{w.shape.damping * []float64{0.5, 1, 4}[w.rng.IntN(3)], []wire.Divisor{wire.Capacity, wire.Count}[w.rng.IntN(2)], 0}
			w.check.settings = append(w.check.settings, s)
			if _, code := c.until(&wire.Set{Run: runName, Token: w.rng.Uint64(), Damping: s.damping, Divisor: s.divisor}, w.now+15_000); code != "" && code != wire.CodeFrozen {
				w.fail("set is answered %s", code)
			}
			continue
		}
		if w.chance(0.15) {
			c.doing = "resize"
			m := 1 + w.rng.IntN(mostWindow)
			w.check.least = min(w.check.least, m)
			r, code := c.until(&wire.Resize{Run: runName, Token: w.rng.Uint64(), Window: m}, w.now+15_000)
			switch {
			case r != nil:
				w.check.resized(c, m, r)
			case code != "" && code != wire.CodeTooLarge && code != wire.CodeFrozen:
				w.fail("resize to %d is answered %s", m, code)
			}
			continue
		}
		rows := w.check.window(w.check.highest)
		if len(rows) == 0 {
			continue
		}
		c.doing = "forget"
		f := &forgetting{}
		for range 1 + w.rng.IntN(2) {
			if s := rows[w.rng.IntN(len(rows))].Step; !f.names(s) {
				f.steps = append(f.steps, s)
			}
		}
		if w.chance(0.1) {
			f.bogus = true
			f.steps = append(f.steps, w.check.newest+1000)
		}
		w.check.forgets = append(w.check.forgets, f)
		r, code := c.until(&wire.Forget{Run: runName, Token: w.rng.Uint64(), Payload: wire.AppendUint64s(nil, f.steps)}, w.now+15_000)
		switch {
		case r != nil:
			w.check.forgot(c, f, r)
		case code != "" && code != wire.CodeUnknownStep:
			w.fail("forget of %v is answered %s", f.steps, code)
		}
	}
}

// until asks for a change until it is done, refused, or the time is up.
func (c *client) until(m wire.Message, end ms) (*wire.WaitReply, wire.Code) {
	for c.w.now < end {
		switch r := c.owner(m).(type) {
		case *wire.WaitReply:
			if r.State == wire.StateCommitted {
				return r, ""
			}
		case *wire.Error:
			if r.Code != wire.CodeBusy && r.Code != wire.CodeUnavailable {
				return nil, r.Code
			}
			c.sleep(c.w.between(20, 200))
		}
	}
	return nil, ""
}

// mayForget reports whether somebody has asked that a step be forgotten.
func (k *checker) mayForget(s wire.Step) bool {
	return slices.ContainsFunc(k.forgets, func(f *forgetting) bool { return !f.bogus && f.names(s) })
}

// forgets reports whether a window is what a request to forget leaves of the one before, and then
// sees that every shard has zeroed what has gone: V11.
func (k *checker) forgetsFrom(core *coordinator.Core, c *coordinator.Inspection, before, now *served) bool {
	i := slices.IndexFunc(k.forgets, func(f *forgetting) bool {
		left := slices.DeleteFunc(slices.Clone(before.rows), func(r wire.Row) bool { return f.names(r.Step) })
		return !f.bogus && now.version == before.version+1 && len(left) == len(before.rows)-len(f.steps) && slices.Equal(left, now.rows)
	})
	if i < 0 {
		return false
	}
	k.w.stats.Forgotten++
	shards, nodes := k.shardsOf(c)
	for _, r := range before.rows {
		if !k.forgets[i].names(r.Step) {
			continue
		}
		k.unread(c, now, r)
		for s, sh := range shards {
			if sh == nil || sh.Adopted != c.Epoch || sh.Version != now.version {
				continue // a later owner's
			}
			if row := nodes[s].engine.Row(sh.Key, int(r.Slot)); len(bytes.Trim(row, "\x00")) > 0 {
				k.w.fail("V11 step %d is forgotten in version %d, and slot %d of shard %d on %s is not zero", r.Step, now.version, r.Slot, s, nodes[s].name)
			}
		}
	}
	return true
}

// forgot is a client that is told that steps are forgotten. None is in a window from then on, and
// no shard has its bytes anywhere.
func (k *checker) forgot(c *client, f *forgetting, m *wire.WaitReply) {
	w := k.w
	w.logf("%s hears that %v are forgotten at version %d", c.name, f.steps, m.Version)
	if f.bogus {
		w.fail("V11 %v are told forgotten, and one never was", f.steps)
	}
	for v, s := range k.windows {
		for _, r := range s.rows {
			if !f.names(r.Step) {
				continue
			}
			if v >= m.Version {
				w.fail("V11 step %d is told forgotten at version %d, and is in version %d", r.Step, m.Version, v)
			}
			k.gone[r.Attempt] = m.Version
			k.without(r)
		}
	}
}

// leastBytes is how long a slice must be, that another row's bytes are not the same by chance.
const leastBytes = 16

// without sees that no shard has a row's bytes.
func (k *checker) without(r wire.Row) {
	p := k.attempts[r.Attempt]
	for s, place := range k.w.kv.record.Placed {
		n, ok := k.w.bus.nodes[place.Worker].(*workerNode)
		if !ok || !n.up {
			continue
		}
		sh := n.core.InspectShard(runName, s)
		if sh == nil || sh.Placed != place.Revision {
			continue
		}
		lo, cols := k.columns(s)
		want := encode(widened(kept(p.row[lo:lo+cols], k.w.shape.store)), wire.F32)
		if len(want) < leastBytes {
			continue
		}
		for slot := range max(k.w.shape.window, mostWindow) + k.w.shape.spare {
			if bytes.Equal(n.engine.Row(sh.Key, slot), want) && !k.twin(sh.Live, r) {
				k.w.fail("V11 %v is told forgotten, and slot %d of shard %d on %s still has its bytes", p, slot, s, n.name)
			}
		}
	}
}

// twin reports whether another attempt with the row's very publication is in the window.
func (k *checker) twin(live []wire.Row, r wire.Row) bool {
	return slices.ContainsFunc(live, func(o wire.Row) bool { return o.Attempt != r.Attempt && k.attempts[o.Attempt] == k.attempts[r.Attempt] })
}

// stayGone sees that what was told forgotten is in no window.
func (k *checker) stayGone(now *served) {
	for _, r := range now.rows {
		if v, ok := k.gone[r.Attempt]; ok && now.version >= v {
			k.w.fail("V11 step %d was told forgotten at version %d, and is in version %d", r.Step, v, now.version)
		}
	}
}

// resized is a client that is told that the window is of another size: V14.
func (k *checker) resized(c *client, m int, r *wire.WaitReply) {
	k.w.logf("%s hears that the window is %d at version %d", c.name, m, r.Version)
	now := k.windows[r.Version]
	if now == nil || now.window != m || len(now.rows) != r.Rows {
		k.w.fail("V14 a window of %d is told at version %d with %d rows, which is %+v", m, r.Version, r.Rows, now)
	}
	k.w.stats.Resized++
}
