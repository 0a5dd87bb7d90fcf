package sim

import (
	"slices"

	"mfac/coordinator"
	"mfac/wire"
)

// freezer freezes the run for a while and thaws it, again and again while the faults last, and leaves it thawed.
func (c *client) freezer() {
	w := c.w
	for w.now < w.shape.quiet {
		c.sleep(w.between(200, 6000))
		c.doing = "freeze"
		r, code := c.until(&wire.Freeze{Run: runName, Token: w.rng.Uint64()}, w.now+10_000)
		switch {
		case r != nil:
			w.stats.Frozen++
			c.sleep(w.between(0, 2000))
		case code != "" && code != wire.CodeTooFewRows && code != wire.CodeSuperseded && code != wire.CodeIllConditioned:
			w.fail("freeze is answered %s", code)
		}
		c.doing = "thaw"
		thaw := &wire.Freeze{Run: runName, Token: w.rng.Uint64(), Thaw: true}
		for r = nil; r == nil; { // others could not publish
			if r, code = c.until(thaw, w.now+10_000); code != "" {
				w.fail("thaw is answered %s", code)
			}
		}
	}
}

// stayedFrozen is V12: no step is committed to a frozen run.
func (k *checker) stayedFrozen(c *coordinator.Inspection, before, now *served) {
	if f := c.Record.Freeze; f != nil && !f.Thawed && !slices.Equal(before.rows, now.rows) {
		k.w.fail("V12 version %d, %v, is made of a frozen run's %d, %v", now.version, now.rows, before.version, before.rows)
	}
}

// unread is V11 of queries: when a row is forgotten no shard has any that was on it left, nor what it kept
// of it.
func (k *checker) unread(c *coordinator.Inspection, now *served, r wire.Row) {
	shards, nodes := k.shardsOf(c)
	for s, sh := range shards {
		if sh == nil || sh.Adopted != c.Epoch || sh.Version != now.version {
			continue // a later owner's
		}
		for _, q := range sh.Queries {
			if q.Mask.Has(int(r.Slot)) {
				k.w.fail("V11 step %d is forgotten in version %d, and query %d of shard %d on %s was made of it", r.Step, now.version, uint64(q.ID), s, nodes[s].name)
			}
		}
	}
}
