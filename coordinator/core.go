package coordinator

import (
	"fmt"
	"math"
	"slices"

	"mfac/coordinator/window"
	"mfac/internal/invariant"
	"mfac/wire"
)

// Token names a request that waits for its answer. Zero is none.
type Token uint64

// Input is what happens to a core: a Request, a Reply, a Hello, a Tick, a Saved, a Done or an
// Underway.
type Input interface{ input() }

// Request is a client's message, decoded and valid in itself.
type Request struct {
	From   Token
	Caller string
	Msg    wire.Message
}

// Reply is a worker's answer to a call.
type Reply struct{ Msg wire.Message }

// Hello is a worker's heartbeat.
type Hello struct{ Msg wire.Hello }

// Tick says that Config.TickMS milliseconds have gone by.
type Tick struct{}

// Saved says that the record of Effects.Save is written. A takeover and a change wait for that.
type Saved struct{}

func (Request) input() {}
func (Reply) input()   {}
func (Hello) input()   {}
func (Tick) input()    {}
func (Saved) input()   {}

// Effects are what the adapter carries out, in field order.
type Effects struct {
	Save    *Record  // durable, by compare-and-set, then a Saved input
	Jobs    []Job    // to be run beside the core, each then a Done input
	Stops   []uint64 // jobs whose outcome nobody waits for
	Calls   []Call   // to workers; may be lost, doubled, reordered: all idempotent
	Sends   []Send   // answers to clients
	Notes   []Note   // for the log
	Delete  bool     // the run's record, layout and lease; then Deleted is to be called
	Restart string   // take the lease again and start a new core, because …
	Lost    string   // somebody else owns the run: stop
}

// Call is a request to a worker.
type Call struct {
	Worker string
	Msg    wire.Control
}

// Send is an answer to a client.
type Send struct {
	To  Token
	Msg wire.Message
}

// Note is something that an operator wants to know.
type Note struct {
	Text  string
	Steps []wire.Step
}

// Config of a core. All fields are needed but Carried, InlineRows and Starts.
type Config struct {
	Coordinator string // its name
	Record      Record
	Epoch       wire.Epoch
	Workers     []wire.Hello // as last heard of
	Carried     *Carried     // of the core before, or nil
	Had         []wire.Step  // in the window, as this coordinator's last core knew it; to tell of a total loss
	TickMS      int64
	SilentMS    int64   // a worker that is silent for so long is lost
	StepMS      int64   // an incomplete step is dropped after so long, unless its publisher says otherwise
	QueryMS     int64   // the same of queries
	InlineRows  int     // up to so many rows a factor is made between two inputs, beyond by a job; 0: 256
	Starts      []int64 // first columns of the layout's tensors, where the run answers by blocks; none without a layout
}

// Timings and limits that nobody needs to set.
const (
	waitMS      = 1000    // a long poll is answered "pending" after so long
	retryMS     = 200     // a call is sent again after so long, then at growing intervals …
	retryMostMS = 2000    // … up to this
	maxStepMS   = 600_000 // the longest deadline of a step
	maxQueryMS  = 3_600_000
	maxQueries  = 1024
	queryBytes  = 256 << 20 // of windows that queries under way pin, and as much of what else these hold
	maxReaders  = 1024      // callers that share a precondition's result
	heldBytes   = 64 << 20  // of queries that wait for a commit
	maxWaiters  = 64        // on one step or query: the oldest gives way
	memory      = 4096      // outcomes of attempts and queries that are remembered
	retryFailed = 2000      // ms until a takeover that failed is tried again
)

// Core owns one run at one epoch. Not safe for concurrent use.
type Core struct {
	cfg   Config
	rec   Record
	epoch wire.Epoch
	tick  int64

	phase   phase
	why     string // what is being done or waited for
	since   int64  // tick of the phase's beginning
	decided bool   // what the window is
	workers map[string]*peer
	shards  []shardOf

	calls   map[uint64]*call
	lastSeq uint64
	lastID  uint64

	part      *wire.Partition // of a run of blocks; nil: it answers by the whole of H
	win       *window.Window
	rows      []row // oldest first
	version   wire.Version
	newest    wire.Step
	hasNewest bool
	lost      int
	cursor    wire.Slot // the slot that was reserved last

	open       []*openStep // by step
	committing *openStep
	settling   []*openStep // committed, with a precondition whose bound takes a further pass
	held       []Request   // queries that came during a commit
	queries    map[wire.QueryID]*query
	queryBytes int64 // the constant, but for tests
	tokens     map[callerToken]wire.QueryID
	outcomes   ring[wire.Attempt, outcome]
	gone       ring[wire.QueryID, *wire.Error]
	ended      ring[callerToken, *wire.Error] // so that a late copy of a request opens nothing

	carried   *Carried
	changing  *change // is under way
	changes   []*change
	changed   ring[callerToken, outcome]
	kept      *kept     // the W of a frozen run; nil: it has none
	without   string    // why not
	ending    []*kept   // that queries still read
	freezers  []*change // freezes that wait for W
	gram      gramLoad
	jobs      map[uint64]task // that are under way
	spectra   spectra
	makings   []*making // the first is under way
	subblocks []*query  // that wait for the jobs of their sub-blocks; the first one's is under way
}

type phase int

const (
	placing phase = iota
	adopting
	saving
	installing
	loading
	serving
	failed
	stopped
)

// peer is a worker as last heard of.
type peer struct {
	hello wire.Hello
	heard int64 // tick
}

// shardOf is a shard as its owner sees it.
type shardOf struct {
	worker   string
	instance uint64
	adopted  *wire.Adopted
}

// row is a row of the window.
type row struct {
	wire.Row
	version wire.Version // that it was committed at, as far as is known
	label   string
}

// waiter is a client's long poll.
type waiter struct {
	to    Token
	until int64 // tick
}

// NewCore makes the owner of a run at an epoch. It does nothing until its first input.
func NewCore(cfg Config) *Core {
	c := &Core{
		cfg: cfg, rec: cfg.Record.clone(), epoch: cfg.Epoch,
		workers: map[string]*peer{}, calls: map[uint64]*call{}, jobs: map[uint64]task{},
		queryBytes: queryBytes, queries: map[wire.QueryID]*query{}, tokens: map[callerToken]wire.QueryID{},
		outcomes: newRing[wire.Attempt, outcome](memory), gone: newRing[wire.QueryID, *wire.Error](memory), ended: newRing[callerToken, *wire.Error](memory),
		why: "starting",
		// A late answer to an earlier epoch's call belongs to no call of this one.
		lastSeq: (cfg.Epoch.Revision ^ cfg.Epoch.Incarnation<<16) << 24,
	}
	// Attempts and queries of later owners are higher. Not by the epoch's revision: a bucket of
	// leases that is made anew starts at 1 again. Who writes the record has the number alone.
	c.rec.Takeovers++
	c.rec.Epoch = cfg.Epoch
	c.lastID = c.rec.Takeovers << 32
	if n := c.rec.Newest; n != nil {
		c.newest, c.hasNewest = *n, true
	}
	for _, step := range cfg.Had {
		c.newest, c.hasNewest = max(c.newest, step), true
	}
	for _, h := range cfg.Workers {
		c.workers[h.Worker] = &peer{hello: h}
	}
	if c.cfg.InlineRows == 0 {
		c.cfg.InlineRows = inlineRows
	}
	if c.rec.Spec.Blocks != "" {
		part, err := c.rec.Spec.Partition(cfg.Starts)
		invariant.That(err == nil, "blocks of a record that was checked: %v", err)
		c.part = &part
	}
	c.shards = make([]shardOf, cfg.Record.Spec.Shards)
	c.changed = newRing[callerToken, outcome](memory)
	return c
}

// Step takes one input. It depends on c and in alone. It panics where an invariant is broken.
func (c *Core) Step(in Input) Effects {
	var e Effects
	if c.phase == stopped {
		return e
	}
	switch in := in.(type) {
	case Request:
		if err := c.request(&e, in); err != nil {
			e.send(in.From, wire.AsError(err))
		}
	case Reply:
		c.reply(&e, in.Msg)
	case Hello:
		c.hello(&e, in.Msg)
	case Tick:
		c.tick++
		c.onTick(&e)
	case Done:
		c.done(&e, in)
	case Underway:
		c.underway(in)
	case Saved:
		if c.phase == saving {
			c.install(&e)
		}
		c.savedChange(&e)
	}
	if c.phase == placing {
		c.place(&e)
	}
	return e
}

// Ready reports whether the run is being served.
func (c *Core) Ready() bool { return c.phase == serving }

// Steps lists the steps in the window, oldest first; before that is decided, those of Config.Had.
func (c *Core) Steps() []wire.Step {
	if !c.decided {
		return c.cfg.Had
	}
	steps := make([]wire.Step, len(c.rows))
	for i, r := range c.rows {
		steps[i] = r.Step
	}
	return steps
}

// Version is the version of the window.
func (c *Core) Version() wire.Version { return c.version }

func (c *Core) ticks(ms int64) int64 { return max(1, ms/c.cfg.TickMS) }

func (c *Core) enter(p phase, why string) { c.phase, c.why, c.since = p, why, c.tick }

func (e *Effects) send(to Token, m wire.Message) {
	if to != 0 && m != nil {
		e.Sends = append(e.Sends, Send{to, m})
	}
}

// restart gives up this epoch.
func (c *Core) restart(e *Effects, why string) {
	if c.phase == stopped {
		return
	}
	c.enter(stopped, why)
	c.abandon(e, wire.Errorf(wire.CodeUnavailable, "run", c.rec.Spec.Name, "served", "%s", why))
	e.Restart = why
}

// abandon answers everybody who waits.
func (c *Core) abandon(e *Effects, err *wire.Error) {
	for _, o := range append(slices.Clone(c.open), c.settling...) {
		for _, w := range o.waiters {
			e.send(w.to, err)
		}
	}
	for _, id := range sortedKeys(c.queries) {
		for _, w := range c.queries[id].waiters {
			e.send(w.to, err)
		}
	}
	for _, r := range c.held {
		e.send(r.From, err)
	}
	c.held = nil
	c.abandonChanges(e, err)
}

// Stop answers everybody who waits, because the adapter is stopping or has lost the lease.
func (c *Core) Stop(why string) Effects {
	var e Effects
	if c.phase != stopped {
		c.enter(stopped, why)
		c.abandon(&e, wire.Errorf(wire.CodeUnavailable, "run", c.rec.Spec.Name, "served", "%s", why))
	}
	return e
}

// Deleted releases the run's shards: its record is gone. Workers that don't hear of it now hear
// of it at their next heartbeat.
func (c *Core) Deleted() Effects {
	var e Effects
	c.enter(stopped, "deleted")
	c.abandon(&e, wire.Errorf(wire.CodeUnknownRun, "run", c.rec.Spec.Name, "a run", "it was deleted"))
	for s := range c.shards {
		c.lastSeq++
		if w := c.rec.Placed[s].Worker; w != "" {
			e.Calls = append(e.Calls, Call{w, &wire.Release{Shard: c.head(s, c.lastSeq), UID: c.rec.UID, Placed: c.rec.Placed[s].Revision}})
		}
	}
	return e
}

// onTick sends calls again, and ends what has waited long enough.
func (c *Core) onTick(e *Effects) {
	for _, seq := range sortedKeys(c.calls) {
		call := c.calls[seq]
		if call.next <= c.tick {
			call.every = min(2*call.every, c.ticks(retryMostMS))
			call.next = c.tick + call.every
			e.Calls = append(e.Calls, Call{c.shards[call.shard].worker, call.msg})
		}
	}
	c.forgetPeers()
	switch c.phase {
	case placing:
		return
	case failed:
		if c.tick-c.since >= c.ticks(retryFailed) {
			c.restart(e, c.why)
		}
		return
	}
	for s := range c.shards {
		p := c.workers[c.shards[s].worker]
		if c.tick-p.heard >= c.ticks(c.cfg.SilentMS) {
			c.restart(e, fmt.Sprintf("worker %s has been silent for %d ms", p.hello.Worker, c.cfg.SilentMS))
			return
		}
	}
	if c.phase != serving {
		return
	}
	for _, o := range slices.Clone(c.open) {
		if o != c.committing && !o.dropping && o.deadline <= c.tick {
			c.fail(e, o, wire.Errorf(wire.CodeDropped, "step", o.step, "whole by its deadline", "%d of %d shards had all their columns", o.count(), len(c.shards)))
		}
		o.waiters = c.pending(e, o.waiters, &wire.WaitReply{State: wire.StatePending})
	}
	for _, o := range c.settling {
		o.waiters = c.pending(e, o.waiters, &wire.WaitReply{State: wire.StatePending})
	}
	for _, id := range sortedKeys(c.queries) {
		q := c.queries[id]
		if q.deadline <= c.tick && !q.closing {
			c.closeQuery(e, q, wire.Errorf(wire.CodeVersionGone, "query", uint64(q.id), "closed by its deadline", "version %d is not held any more", q.version))
		}
		q.waiters = c.pending(e, q.waiters, &wire.ResultReply{State: wire.StatePending, Version: q.version, Rows: len(q.slots), Phase: q.phase, Done: q.done, Total: q.total})
	}
	c.pendingChanges(e)
	c.endKept(e)
}

// forgetPeers drops workers that have been silent for long and have no shard of the run.
func (c *Core) forgetPeers() {
	for id, p := range c.workers {
		if c.tick-p.heard < 10*c.ticks(c.cfg.SilentMS) {
			continue
		}
		if !slices.ContainsFunc(c.shards, func(s shardOf) bool { return s.worker == id }) {
			delete(c.workers, id)
		}
	}
}

// pending answers the long polls whose time is up and returns the others.
func (c *Core) pending(e *Effects, ws []waiter, m wire.Message) []waiter {
	return slices.DeleteFunc(ws, func(w waiter) bool {
		if w.until <= c.tick {
			e.send(w.to, m)
			return true
		}
		return false
	})
}

// wait adds a long poll. Where there are many the oldest gives way: it hears busy, for the pause
// before it asks again.
func (c *Core) wait(e *Effects, ws []waiter, to Token) []waiter {
	if len(ws) >= maxWaiters {
		e.send(ws[0].to, wire.Errorf(wire.CodeBusy, "long polls", len(ws)+1, fmt.Sprintf("at most %d of one step or query", maxWaiters), "ask again in a moment"))
		ws = ws[1:]
	}
	return append(ws, waiter{to, c.tick + c.ticks(waitMS)})
}

// hello takes note of a worker. One that forgot the run's shards, or holds what isn't its own any
// more, is dealt with.
func (c *Core) hello(e *Effects, h wire.Hello) {
	c.workers[h.Worker] = &peer{hello: h, heard: c.tick}
	for _, held := range h.Held { // in whatever phase: their memory may be what this run waits for
		if held.Run == c.rec.Spec.Name && held.UID != c.rec.UID {
			c.release(e, h.Worker, held) // of an older run of this name, unless its owner has a higher epoch
		}
	}
	if c.phase == placing {
		return
	}
	for s := range c.shards {
		if c.shards[s].worker == h.Worker && c.shards[s].instance != h.Instance {
			c.restart(e, fmt.Sprintf("worker %s has restarted", h.Worker))
			return
		}
	}
	if c.phase != serving {
		return
	}
	for _, held := range h.Held {
		if held.Run != c.rec.Spec.Name || held.UID != c.rec.UID || held.Shard < 0 || held.Shard >= len(c.shards) {
			continue
		}
		if p := c.rec.Placed[held.Shard]; p.Worker != h.Worker || p.Revision != held.Placed {
			c.release(e, h.Worker, held)
		}
	}
}

// release tells a worker to free a shard, once: its next heartbeat tells if it has not heard.
func (c *Core) release(e *Effects, worker string, held wire.Held) {
	c.lastSeq++
	e.Calls = append(e.Calls, Call{worker, &wire.Release{Shard: c.head(held.Shard, c.lastSeq), UID: held.UID, Placed: held.Placed}})
}

// request answers a client.
func (c *Core) request(e *Effects, in Request) error {
	switch m := in.Msg.(type) {
	case *wire.InfoRequest:
		e.send(in.From, c.info())
		return nil
	case *wire.Delete:
		if m.UID != 0 && m.UID != c.rec.UID {
			return wire.Errorf(wire.CodeUnknownRun, "uid", m.UID, fmt.Sprint(c.rec.UID), "there is another run of the name %s by now", c.rec.Spec.Name)
		}
		e.Delete = true
		return nil
	}
	if c.phase != serving {
		return wire.Errorf(wire.CodeUnavailable, "run", c.rec.Spec.Name, "ready", "%s", c.why)
	}
	switch m := in.Msg.(type) {
	case *wire.Open:
		return c.openStep(e, in, m)
	case *wire.Wait:
		return c.waitStep(e, in, m)
	case *wire.Query:
		if c.committing != nil || c.changing != nil { // the window is between two versions
			if len(c.held) >= maxQueries {
				return wire.Errorf(wire.CodeBusy, "queries during a commit", len(c.held), fmt.Sprintf("below %d", maxQueries))
			}
			bytes := len(m.Payload)
			for _, r := range c.held {
				bytes += len(r.Msg.(*wire.Query).Payload)
			}
			if bytes > heldBytes {
				return wire.Errorf(wire.CodeBusy, "bytes of queries during a commit", bytes, fmt.Sprintf("at most %d", heldBytes))
			}
			c.held = append(c.held, in)
			return nil
		}
		return c.query(e, in, m)
	case *wire.Result:
		return c.result(e, in, m)
	case *wire.Values:
		return c.valuesRequest(e, in, m)
	case *wire.Close:
		return c.closeRequest(e, in, m)
	case *wire.Forget:
		return c.change(e, in, m.Token)
	case *wire.Set:
		return c.change(e, in, m.Token)
	case *wire.Resize:
		return c.change(e, in, m.Token)
	case *wire.LabelsRequest:
		return c.labelsRequest(e, in, m)
	case *wire.Freeze:
		return c.change(e, in, m.Token)
	case *wire.FrozenRequest:
		e.send(in.From, c.frozenReply())
		return nil
	case *wire.StepsRequest:
		if m.Query != 0 {
			return c.querySteps(e, in, m.Query)
		}
		steps := c.Steps()
		e.send(in.From, &wire.Steps{Version: c.version, Rows: len(steps), Payload: wire.AppendUint64s(nil, steps)})
		return nil
	}
	return wire.Errorf(wire.CodeMalformed, "type", in.Msg.Type(), "a request to a run's coordinator")
}

// info is the run as it stands.
func (c *Core) info() *wire.Info {
	m := &wire.Info{
		Spec: c.rec.Spec, UID: c.rec.UID, Epoch: c.epoch, State: c.why, Lo: c.rec.Lo,
		Version: c.version, Rows: len(c.rows), Newest: c.newest, Lost: c.lost, Coord: c.cfg.Coordinator,
		Open: len(c.open), Queries: len(c.queries),
	}
	index := map[string]int{}
	for _, p := range c.rec.Placed {
		i, ok := index[p.Worker]
		if !ok {
			i = len(m.Workers)
			index[p.Worker] = i
			m.Workers = append(m.Workers, p.Worker)
		}
		m.Owner = append(m.Owner, i)
	}
	c.frozenInfo(m)
	if c.phase == serving {
		m.State = wire.StateReady
		if f := c.win.Made(); f != nil && f.Len() > 0 { // O(n³) is for queries
			if cond, err := f.Cond(); err == nil && !math.IsInf(cond, 0) && !math.IsNaN(cond) {
				m.Cond = cond
			}
		}
	}
	return m
}

func divisorOf(d wire.Divisor) window.Divisor {
	if d == wire.Count {
		return window.Count
	}
	return window.Capacity
}
