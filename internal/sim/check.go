package sim

import (
	"bytes"
	"fmt"
	"slices"

	"mfac/coordinator"
	"mfac/wire"
	"mfac/worker"
)

// checker knows what has been sent and told, and looks after each event.
type checker struct {
	w        *world
	attempts map[wire.Attempt]*publication
	lost     map[wire.Attempt]bool // some shard may have lost its slice of it
	windows  map[wire.Version]*served
	highest  wire.Version // served
	told     wire.Version // the highest that a publisher was told
	newest   wire.Step    // the highest that was served
	tellings map[wire.Attempt]wire.Version
	last     map[*coordinator.Core]*served
	begun    map[*coordinator.Core]int  // in which order owners began
	latest   int                        // of those that have served
	since    wire.Version               // of the first window after all rows were lost at once
	live     map[wire.Attempt]wire.Step // that any shard has ever had as a row
	on       map[shardRow]bool          // the same, of each shard

	forgets  []*forgetting                 // that were asked for
	gone     map[wire.Attempt]wire.Version // told forgotten
	settings []setting                     // that the run was asked to be set to
	least    int                           // the smallest window that it was asked to have
}

// shardRow is a shard's slice of a row.
type shardRow struct {
	shard   int
	attempt wire.Attempt
}

// served is a window that a run was served with.
type served struct {
	epoch   wire.Epoch
	version wire.Version
	rows    []wire.Row // oldest first
	window  int        // that the run had: another one makes another version
}

func newChecker(w *world) *checker {
	return &checker{
		w: w, attempts: map[wire.Attempt]*publication{}, lost: map[wire.Attempt]bool{}, windows: map[wire.Version]*served{},
		tellings: map[wire.Attempt]wire.Version{}, last: map[*coordinator.Core]*served{}, begun: map[*coordinator.Core]int{}, live: map[wire.Attempt]wire.Step{}, on: map[shardRow]bool{},
		gone: map[wire.Attempt]wire.Version{}, settings: []setting{{damping: w.shape.damping, divisor: wire.Capacity}}, least: w.shape.window,
	}
}

func (k *checker) knows(p *publication) { k.w.logf("%s publishes %v", p.by, p) }

func (k *checker) poisoned(p *publication) { p.hopeless = true }

// opened notes which publication an attempt is of.
func (k *checker) opened(p *publication, r *wire.OpenReply) {
	if q := k.attempts[r.Attempt]; q != nil && q != p {
		k.w.fail("V3 attempt %d is of two publications: %v and %v", uint64(r.Attempt), q, p)
	}
	if k.attempts[r.Attempt] == nil {
		k.attempts[r.Attempt] = p
		p.attempts = append(p.attempts, r.Attempt)
	}
}

// begins notes a new owner.
func (k *checker) begins(core *coordinator.Core) { k.begun[core] = len(k.begun) + 1 }

// window is the one of a version, if it was served.
func (k *checker) window(v wire.Version) []wire.Row {
	if s := k.windows[v]; s != nil {
		return s.rows
	}
	return nil
}

// loses notes what a worker that is about to crash holds.
func (k *checker) loses(n *workerNode) {
	for _, s := range n.core.Inspect().Shards {
		k.losesShard(&s)
	}
}

func (k *checker) losesShard(s *worker.InspectedShard) {
	for _, r := range s.Live {
		k.lost[r.Attempt] = true
	}
	for _, st := range s.Staged {
		k.lost[st.Attempt] = true
	}
}

// places notes the rows of shards that are placed elsewhere: they are lost with their old place.
func (k *checker) places(old, now coordinator.Record) {
	for s := range old.Placed {
		if old.Placed[s] == now.Placed[s] || old.Placed[s].Worker == "" {
			continue
		}
		if n, ok := k.w.bus.nodes[old.Placed[s].Worker].(*workerNode); ok && n.up {
			if sh := n.core.InspectShard(runName, s); sh != nil {
				k.losesShard(sh)
			}
		}
	}
}

// coordinator checks a core after a step.
func (k *checker) coordinator(n *coordinatorNode, core *coordinator.Core, in coordinator.Input, e coordinator.Effects) {
	w := k.w
	if _, tick := in.(coordinator.Tick); tick && len(e.Calls)+len(e.Sends) == 0 {
		return
	}
	c := core.Inspect()
	k.slots(n, &c)
	if c.Serving {
		if l := k.last[core]; l == nil || l.version != c.Version {
			k.serves(n, core, &c, l)
		}
	}
	for _, s := range e.Sends {
		if m, ok := s.Msg.(*wire.WaitReply); ok && m.State == wire.StateCommitted {
			if m.Version > k.highest {
				w.fail("V1 %s tells version %d, and %d is the highest that was served", n.name, m.Version, k.highest)
			}
			k.told = max(k.told, m.Version)
			k.everywhere(n, core, &c, m)
		}
	}
}

// slots is V7 at the coordinator.
func (k *checker) slots(n *coordinatorNode, c *coordinator.Inspection) {
	use := map[wire.Slot]string{}
	take := func(s wire.Slot, what string) {
		if other, ok := use[s]; ok {
			k.w.fail("V7 %s has slot %d for %s and for %s", n.name, s, other, what)
		}
		use[s] = what
	}
	for _, r := range c.Rows {
		take(r.Slot, fmt.Sprintf("the row of step %d", r.Step))
	}
	for _, o := range c.Open {
		take(o.Slot, fmt.Sprintf("open step %d", o.Step))
		for _, q := range c.Queries {
			if c.Committing != o.Step && q.Mask.Has(int(o.Slot)) {
				k.w.fail("V7 %s reserved slot %d for step %d, and query %d reads it", n.name, o.Slot, o.Step, uint64(q.ID))
			}
		}
	}
	if len(c.Rows) > c.Record.Spec.Window {
		k.w.fail("V7 %d rows in a window of %d", len(c.Rows), c.Record.Spec.Window)
	}
}

// serves checks a window that is new to a core: V2, V4, V5 and V6's A.
func (k *checker) serves(n *coordinatorNode, core *coordinator.Core, c *coordinator.Inspection, before *served) {
	w := k.w
	now := &served{c.Epoch, c.Version, c.Rows, c.Record.Spec.Window}
	k.last[core] = now
	w.logf("%s serves version %d: %v", n.name, c.Version, c.Rows)
	if old := k.windows[now.version]; old != nil {
		if !slices.Equal(old.rows, now.rows) || old.window != now.window {
			w.fail("V2 version %d was %v at epoch %v and is %v at %v", now.version, old.rows, old.epoch, now.rows, now.epoch)
		}
	}
	k.latest = max(k.latest, k.begun[core])
	// An owner that was replaced hears late that its window was installed or its last step was
	// committed: so it was.
	late := k.begun[core] < k.latest
	if !late && now.version < k.highest {
		w.fail("V4 version %d is served after %d", now.version, k.highest)
	}
	if before != nil && !k.forgetsFrom(core, c, before, now) {
		k.stayedFrozen(c, before, now)
		want := before.rows
		if len(want) == now.window {
			want = want[1:]
		}
		if now.version != before.version+1 || len(now.rows) != len(want)+1 || !slices.Equal(now.rows[:len(want)], want) {
			w.fail("V4 a commit makes version %d, %v of version %d, %v", now.version, now.rows, before.version, before.rows)
		}
	}
	if !slices.IsSortedFunc(now.rows, func(a, b wire.Row) int { return int(a.Step) - int(b.Step) }) {
		w.fail("V4 rows are not in the order of their steps: %v", now.rows)
	}
	for _, r := range now.rows {
		p := k.attempts[r.Attempt]
		if p == nil || p.step != r.Step {
			w.fail("V3 row %v of version %d is of no publication", r, now.version)
		}
		if p.hopeless && len(p.others) == 0 {
			w.fail("V3 %v had a NaN and is in version %d", p, now.version)
		}
	}
	for _, other := range w.coordinators {
		if other != n && other.core != nil && other.core.Ready() {
			w.stats.TwoOwners++
		}
	}
	if now.version >= k.highest+1<<31 {
		k.since = now.version // no shard remembers anything
	}
	if !late {
		k.order(now)
		k.stays(now)
		k.stayGone(now)
	}
	k.windows[now.version], k.highest = now, max(k.highest, now.version)
	if len(now.rows) > 0 {
		k.newest = max(k.newest, now.rows[len(now.rows)-1].Step)
		w.stats.Committed++
	}
	if !late {
		k.bytes(n, c)
	}
	k.labels(n, c)
	k.gram(core, now)
}

// order is V4: a step that is new is above all that were served and are not lost.
func (k *checker) order(now *served) {
	for _, r := range now.rows {
		if k.everServed(r) {
			continue
		}
		for _, s := range k.windows {
			if s.version < k.since {
				continue
			}
			for _, o := range s.rows {
				if o.Step >= r.Step && !k.lost[o.Attempt] {
					k.w.fail("V4 step %d (attempt %d) is committed in version %d after step %d (attempt %d) in %d", r.Step, uint64(r.Attempt), now.version, o.Step, uint64(o.Attempt), s.version)
				}
			}
		}
	}
}

func (k *checker) everServed(r wire.Row) bool {
	for _, s := range k.windows {
		if slices.ContainsFunc(s.rows, func(o wire.Row) bool { return o.Attempt == r.Attempt }) { // in another slot, after a resize
			return true
		}
	}
	return false
}

// stays is V5: what was told stays, until it is evicted or lost.
func (k *checker) stays(now *served) {
	for a, v := range k.tellings {
		if k.lost[a] || k.mayForget(k.attempts[a].step) || slices.ContainsFunc(now.rows, func(r wire.Row) bool { return r.Attempt == a }) {
			continue
		}
		// Evicted on a shard is evicted, also where the commit that did it came to nothing more.
		step, newer := k.attempts[a].step, map[wire.Step]bool{}
		for _, s := range k.live {
			if s > step {
				newer[s] = true
			}
		}
		if len(newer) < k.least {
			k.w.fail("V5 step %d, told at version %d, is not in version %d: %v", step, v, now.version, now.rows)
		}
	}
}

// shardsOf lists the shards of a core's placement that are there, with their workers. One is nil
// where a worker has crashed, or a later owner has moved it.
func (k *checker) shardsOf(c *coordinator.Inspection) ([]*worker.InspectedShard, []*workerNode) {
	shards, nodes := make([]*worker.InspectedShard, len(c.Record.Placed)), make([]*workerNode, len(c.Record.Placed))
	for s, p := range c.Record.Placed {
		n, ok := k.w.bus.nodes[p.Worker].(*workerNode)
		if !ok || !n.up {
			continue
		}
		if sh := n.core.InspectShard(runName, s); sh != nil && sh.Placed == p.Revision {
			shards[s], nodes[s] = sh, n
		}
	}
	return shards, nodes
}

// everywhere is V1: who is told "committed" is told the truth about every shard.
func (k *checker) everywhere(n *coordinatorNode, core *coordinator.Core, c *coordinator.Inspection, m *wire.WaitReply) {
	now := k.windows[m.Version]
	if now == nil {
		k.w.fail("V1 %s tells version %d, which nobody served", n.name, m.Version)
	}
	if len(now.rows) != m.Rows && m.Version == c.Version {
		k.w.fail("V1 %s tells version %d with %d rows: it has %d", n.name, m.Version, m.Rows, len(now.rows))
	}
	shards, _ := k.shardsOf(c)
	for s, sh := range shards {
		if sh == nil || sh.Adopted != c.Epoch {
			continue // crashed since, or made anew by a later owner: evicted rows are not among those lost
		}
		if sh.Version < m.Version && !k.crashed(now) && k.begun[core] >= k.latest {
			k.w.fail("V1 %s tells version %d, and shard %d is at %d", n.name, m.Version, s, sh.Version)
		}
	}
}

// crashed reports whether a row of a window may be lost.
func (k *checker) crashed(s *served) bool {
	return slices.ContainsFunc(s.rows, func(r wire.Row) bool { return k.lost[r.Attempt] })
}

// heard is a publisher that has been told.
func (k *checker) heard(c *client, p *publication, a wire.Attempt, m *wire.WaitReply) {
	k.w.logf("%s hears that %v is committed at version %d", c.name, p, m.Version)
	if k.attempts[a] != p {
		k.w.fail("V3 attempt %d, told to %s, is not of %v", uint64(a), c.name, p)
	}
	if p.hopeless && len(p.others) == 0 {
		k.w.fail("V3 %v had a NaN and is told committed", p)
	}
	ever := false
	for _, s := range k.windows {
		ever = ever || slices.ContainsFunc(s.rows, func(r wire.Row) bool { return r.Attempt == a && r.Step == p.step })
	}
	if !ever {
		k.w.fail("V1 %v is told committed at version %d, and was in no window", p, m.Version)
	}
	for s := range k.w.shape.shards {
		if !k.on[shardRow{s, a}] {
			k.w.fail("V1 %v is told committed at version %d, and never was on shard %d", p, m.Version, s)
		}
	}
	k.tellings[a] = m.Version
}

// bytes is V3: every row, on every shard that is there, is the publication's, as the store keeps it.
func (k *checker) bytes(n *coordinatorNode, c *coordinator.Inspection) {
	shards, nodes := k.shardsOf(c)
	for _, r := range c.Rows {
		p := k.attempts[r.Attempt]
		all := append([][]float32{p.row}, p.others...)
		for s, sh := range shards {
			if sh == nil || !slices.Contains(sh.Live, r) {
				continue
			}
			got := nodes[s].engine.Row(sh.Key, int(r.Slot))
			lo, cols := k.columns(s)
			all = slices.DeleteFunc(all, func(x []float32) bool {
				return !bytes.Equal(got, encode(widened(kept(x[lo:lo+cols], k.w.shape.store)), wire.F32))
			})
			if len(all) == 0 {
				k.w.fail("V3 %s serves version %d with a row that is not what was sent: %v, from shard %d on, in slot %d", n.name, c.Version, p, s, r.Slot)
			}
		}
		p.row, p.others = all[0], all[1:]
	}
}

func (k *checker) columns(s int) (lo, n int64) {
	b := k.w.kv.record.Lo
	hi := k.w.shape.dim
	if s+1 < len(b) {
		hi = b[s+1]
	}
	return b[s], hi - b[s]
}

// worker checks a worker after a step: V2 among shards, V7, V8.
func (k *checker) worker(n *workerNode, in worker.Input) {
	w := k.w
	c := n.core.Inspect()
	used := int64(0)
	for i := range c.Shards {
		s := &c.Shards[i]
		used += s.Bytes
		for _, q := range s.Queries {
			used += q.Bytes
		}
		for j, st := range s.Staged {
			for _, r := range s.Live {
				if r.Slot == st.Slot {
					w.fail("V7 %s shard %d has slot %d for %v and stages step %d in it", n.name, s.Key.Index, st.Slot, r, st.Step)
				}
			}
			for _, o := range s.Staged[:j] {
				if o.Slot == st.Slot {
					w.fail("V7 %s shard %d stages steps %d and %d in slot %d", n.name, s.Key.Index, o.Step, st.Step, st.Slot)
				}
			}
			for _, q := range s.Queries {
				if q.Mask.Has(int(st.Slot)) {
					w.fail("V7 %s shard %d stages step %d in slot %d, which query %d reads", n.name, s.Key.Index, st.Step, st.Slot, uint64(q.ID))
				}
			}
		}
	}
	k.keptLabels(n, &c)
	if used != c.Used {
		w.fail("V8 %s says that it uses %d bytes, its shards and queries are %d", n.name, c.Used, used)
	}
	if c.InFlight < 0 || c.InFlight > w.shape.budget || c.InFlight > 0 && c.Jobs+c.Parked == 0 {
		w.fail("V8 %s has %d bytes in flight, of %d, in %d jobs", n.name, c.InFlight, w.shape.budget, c.Jobs)
	}
	if r, ok := in.(worker.Request); ok {
		switch r.Msg.(type) {
		case *wire.Stage:
			k.pinned(n, r.Msg.(wire.Control).Head())
		case *wire.Commit, *wire.Evict, *wire.Install:
			k.agree(n, r.Msg.(wire.Control).Head().Shard)
			for _, s := range c.Shards {
				for _, row := range s.Live {
					k.live[row.Attempt] = row.Step
					k.on[shardRow{s.Key.Index, row.Attempt}] = true
				}
			}
		}
	}
}

// over is a message to a shard of an epoch that is over there, or not begun: V9.
func (k *checker) over(n *workerNode, in worker.Input) *over {
	r, ok := in.(worker.Request)
	if !ok {
		return nil
	}
	var index int
	var epoch wire.Epoch
	switch m := r.Msg.(type) {
	case *wire.Chunk:
		index, epoch = m.Shard, m.Epoch
	case *wire.Vec:
		index, epoch = m.Shard, m.Epoch
	case *wire.Fetch:
		index, epoch = m.Shard, m.Epoch
	case wire.Control:
		index, epoch = m.Head().Shard, m.Head().Epoch
	default:
		return nil
	}
	s := n.core.InspectShard(runName, index)
	if s == nil || s.Adopted == epoch {
		return nil
	}
	switch r.Msg.(type) {
	case *wire.Adopt, *wire.Release: // a new owner's, unless it is an earlier one's
		if epoch.Incarnation != s.Adopted.Incarnation || epoch.Revision > s.Adopted.Revision {
			return nil
		}
	}
	return &over{r, epoch, s}
}

type over struct {
	request worker.Request
	epoch   wire.Epoch
	shard   *worker.InspectedShard // before
}

// check fails where the message was acted on: it is refused, begins no job and leaves the shard
// as it was. A release is answered with OK, since the owner that sent it has nothing to wait for.
func (o *over) check(n *workerNode, e worker.Effects) {
	if o == nil {
		return
	}
	w, what := n.w, fmt.Sprintf("V9 %s shard %d, which adopted epoch %v, takes %s of %v", n.name, o.shard.Key.Index, o.shard.Adopted, o.request.Msg.Type(), o.epoch)
	if len(e.Jobs) > 0 {
		w.fail("%s: it begins %d jobs", what, len(e.Jobs))
	}
	_, release := o.request.Msg.(*wire.Release)
	for _, s := range e.Sends {
		if _, refused := s.Msg.(*wire.Error); s.To == o.request.From && !refused && !release {
			w.fail("%s: it answers %s", what, describe(s.Msg))
		}
	}
	now := n.core.InspectShard(runName, o.shard.Key.Index)
	if now == nil || now.Adopted != o.shard.Adopted || now.Version != o.shard.Version || len(now.Staged) != len(o.shard.Staged) || len(now.Queries) != len(o.shard.Queries) {
		w.fail("%s: it was %+v and is %+v", what, o.shard, now)
	}
}

// pinned is V7 of queries: one that can be fetched is there, whatever is staged.
func (k *checker) pinned(n *workerNode, h *wire.Shard) {
	s := n.core.InspectShard(runName, h.Shard)
	if s == nil || !s.Installed {
		return
	}
	for _, c := range k.w.coordinators {
		if c.core == nil || c.epoch != s.Adopted {
			continue
		}
		for _, q := range c.core.Inspect().Queries {
			there := slices.ContainsFunc(s.Queries, func(o worker.InspectedQuery) bool { return o.ID == q.ID })
			if q.Ready && !q.Closing && !q.Alone && q.Mask.Count() > 0 && !there { // one without slots has its numbers at the coordinator
				k.w.fail("V7 staging on %s ended query %d, which %s still answers", n.name, uint64(q.ID), c.name)
			}
		}
	}
}

// agree is V2: shards of one epoch and version have one window.
func (k *checker) agree(n *workerNode, index int) {
	s := n.core.InspectShard(runName, index)
	if s == nil || !s.Installed {
		return
	}
	for _, other := range k.w.workers {
		if !other.up {
			continue
		}
		for _, o := range other.core.Inspect().Shards {
			if o.Installed && o.Adopted == s.Adopted && o.Version == s.Version && !slices.Equal(o.Live, s.Live) {
				k.w.fail("V2 at version %d shard %d on %s has %v, shard %d on %s has %v", s.Version, index, n.name, s.Live, o.Key.Index, other.name, o.Live)
			}
		}
	}
}

// rest is V10: nothing is left.
func (k *checker) rest() {
	w := k.w
	var owner *coordinator.Inspection
	for _, n := range w.coordinators {
		if n.core == nil {
			continue
		}
		if owner != nil {
			w.fail("V10 two coordinators own the run")
		}
		c := n.core.Inspect()
		owner = &c
	}
	switch {
	case owner == nil || !owner.Serving:
		w.fail("V10 nobody serves the run")
	case len(owner.Open) > 0 || len(owner.Queries) > 0 || owner.Calls > 0:
		w.fail("V10 left at the coordinator: steps %v, queries %v, %d calls", owner.Open, owner.Queries, owner.Calls)
	}
	for _, n := range w.workers {
		c := n.core.Inspect()
		if c.InFlight != 0 || c.Jobs != 0 {
			w.fail("V10 left at %s: %d bytes in flight, %d jobs", n.name, c.InFlight, c.Jobs)
		}
		for _, s := range c.Shards {
			if p := owner.Record.Placed[s.Key.Index]; p.Worker != n.name || p.Revision != s.Placed {
				w.fail("V10 left at %s: shard %d, which is on %s", n.name, s.Key.Index, p.Worker)
			}
			if len(s.Queries) > 0 || s.Version != owner.Version {
				w.fail("V10 left at %s: shard %d has version %d, queries %v", n.name, s.Key.Index, s.Version, s.Queries)
			}
			for _, st := range s.Staged {
				w.logf("%s shard %d still stages %+v", n.name, s.Key.Index, st)
				w.stats.Leftovers++
			}
		}
	}
}
