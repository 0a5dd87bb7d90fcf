package worker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"mfac/internal/invariant"
	"mfac/shard"
	"mfac/shard/pool"
	"mfac/wire"
)

// Token names a request that waits for its answer. Zero is none.
type Token uint64

// Input is what happens to a core: a Request, a Done, a Tick or an Incarnation.
type Input interface{ input() }

// Request is a message of a caller, decoded and valid in itself.
type Request struct {
	From   Token
	Caller string
	Msg    wire.Message

	parked bool // it has waited already
}

// Done is a job carried out. Err is what was wrong with the data or the memory.
type Done struct {
	Job     JobID
	Err     *wire.Error
	Floats  []float64
	Payload []byte
	Sum     uint32 // of Payload
}

// Tick says that Config.TickMS milliseconds have gone by.
type Tick struct{}

// Incarnation answers Effects.AskIncarnation: the present one of the bucket of leases.
type Incarnation struct{ Value uint64 }

func (Request) input()     {}
func (Done) input()        {}
func (Tick) input()        {}
func (Incarnation) input() {}

// Effects are what the adapter carries out, in field order.
type Effects struct {
	Cancel         []*pool.Cancel // of jobs that nobody waits for any more: they end soon, and are answered all the same
	Jobs           []Job          // those of one shard as a Queue lets them; each is answered by a Done
	Sends          []Send         // answers; may be lost, all requests are idempotent
	Recycle        [][]byte       // payloads of a Done that were sent, and nobody reads now
	Hello          *wire.Hello    // heartbeat to all coordinators
	AskIncarnation bool           // read it from the bucket of leases, give it back as an input
}

// Send is an answer to a request.
type Send struct {
	To  Token
	Msg wire.Message
}

// Config of a core. All fields are needed.
type Config struct {
	ID       string
	Instance uint64 // random: tells one process from the next one of the same ID
	Capacity int64  // bytes for rows and staged vectors
	Budget   int64  // bytes of chunks and results in flight
	TickMS   int64

	// GatherCols is how many columns of a slice or of vectors come before what is complete of them
	// is multiplied; 0 is shard.GroupCols, with which there is something to do.
	GatherCols int64
}

// Limits that are not on the wire.
const (
	maxSpans     = 1 << 16 // chunks of one slice
	maxParts     = 1 << 10 // tiles of a float16 row that are begun and not whole
	maxCredit    = 8 << 20 // bytes in flight for one client
	maxWork      = 1 << 28 // bytes of rows to be read for results: at this, who asks for more hears busy
	mostWaiters  = 8       // for the same columns
	creditMS     = 2000
	helloMS      = 500
	askMS        = 500
	closedMemory = 1024 // closed queries that a shard remembers
	mostLeft     = 1024 // runs without a shard here whose epochs are remembered
)

// Core is the state of a worker. Not safe for concurrent use.
type Core struct {
	cfg         Config
	incarnation uint64
	runs        map[string]*run
	left        left
	jobs        map[JobID]func(*Effects, Done)
	lastJob     JobID
	used        int64 // bytes of rows and staged vectors
	work        int64 // bytes of rows that jobs under way will read for results
	flow        flow
	parked      []parked
	tick        int64
	asked       int64 // tick of the last AskIncarnation
	heldCursor  int
}

// run is what a worker knows of a run of which it holds shards.
type run struct {
	uid    uint64
	epoch  wire.Epoch // the highest heard
	shards map[int]*shardState
}

// shardState is the bookkeeping of one shard.
type shardState struct {
	run       string
	index     int
	placed    uint64
	adopted   wire.Epoch
	installed bool // in this epoch
	ready     bool // its memory is there
	adopter   Token
	adoptSeq  uint64
	lo, cols  int64
	slots     int
	store     wire.DType
	scales    wire.Scales
	bytes     int64
	version   wire.Version
	bySlot    []wire.Row                 // the window, in the order of slots
	filled    map[wire.Slot]bool         // its row is or was of the window, and is there still
	reserved  map[wire.Slot]wire.Attempt // the last one that the slot was for
	staged    map[wire.Step]*staged
	queries   map[wire.QueryID]*query
	passes    map[uint64]Token // who waits for a pass over G, by the request's Seq
	closed    []wire.QueryID   // the last ones, as a ring
	gone      bool
	next      *reshaped            // nil: none
	labels    map[wire.Slot]string // of rows of the window that have one

	erasing map[wire.Slot]JobID // the last job that zeroes it, under way
}

// staged is a step that is being published.
type staged struct {
	step     wire.Step
	attempt  wire.Attempt
	slot     wire.Slot
	token    uint64
	label    string
	weight   float64 // 0: 1
	slice    slice
	waiter   Token // of the coordinator's stage
	seq      uint64
	products []wire.Product // nil until worked out
	rows     []wire.Row     // those that they cover, as far as they are there still; nil until the first are multiplied
	gather   gather
	poison   *wire.Error
}

// gather is what has come of a slice, or of vectors, and is not multiplied yet.
type gather struct {
	fresh   []Columns // written, and in no job
	cols    int64     // in fresh
	begun   bool      // the engine has a sum of it
	working bool      // a job is under way
	abort   *pool.Cancel
}

// add takes columns that were written.
func (g *gather) add(c Columns) {
	g.fresh = append(g.fresh, c)
	g.cols += c.N
}

// take is what a job is to multiply.
func (g *gather) take() []Columns {
	fresh := g.fresh
	g.fresh, g.cols, g.working, g.abort = nil, 0, true, new(pool.Cancel)
	return fresh
}

// query is a query that is being answered.
type query struct {
	id       wire.QueryID
	kind     string
	vectors  int
	dtype    wire.DType
	result   wire.DType
	damping  float64
	mask     shard.Mask
	slices   []slice // one a vector, of a vector query
	waiter   Token
	seq      uint64
	dots     []float64 // nil until worked out
	gather   gather
	poison   *wire.Error
	step     bool                   // made by a commit, for the step's own publisher
	aborts   map[JobID]*pool.Cancel // of its jobs under way
	hasCoef  bool
	coef     []float64
	refined  Refined
	round    int                        // of the last Refine
	fetching map[fetchKey][]fetchWaiter // results that are being worked out
	vecBytes int64
	factor   *factor      // of a diagonal query, of a prune query, or of a hold
	kept     *kept        // of a hold
	of       wire.QueryID // the hold whose W a diagonal query reads, …
	rows     int          // … of so many rows
	prune    *pruning
	blocks   *blocking
	ones     []int64 // the columns of a column query, from the shard's first one; some are other shards'
}

// NewCore makes the core of a worker that holds nothing.
func NewCore(cfg Config) *Core {
	if cfg.GatherCols == 0 {
		cfg.GatherCols = shard.GroupCols
	}
	return &Core{
		cfg:   cfg,
		runs:  map[string]*run{},
		left:  left{epochs: map[string]wire.Epoch{}},
		jobs:  map[JobID]func(*Effects, Done){},
		flow:  flow{budget: cfg.Budget, grants: map[string]grant{}},
		asked: -1 << 40,
	}
}

// Step takes one input. It depends on c and in alone.
func (c *Core) Step(in Input) Effects {
	var e Effects
	switch in := in.(type) {
	case Request:
		if err := c.request(&e, in); err != nil {
			c.refuse(&e, in, err)
		}
	case Done:
		if f := c.jobs[in.Job]; f != nil {
			delete(c.jobs, in.Job)
			f(&e, in)
		}
	case Tick:
		c.tick++
		c.flow.expire(c.tick)
		c.unpark(&e, "", -1)
		if c.tick == 1 {
			e.AskIncarnation = true // so that the first adopt need not wait for it
		}
		if c.tick%max(1, helloMS/c.cfg.TickMS) == 1 || helloMS <= c.cfg.TickMS {
			e.Hello = c.hello()
		}
	case Incarnation:
		if in.Value != 0 && in.Value != c.incarnation {
			c.incarnation = in.Value
			for _, r := range c.runs {
				r.epoch = wire.Epoch{Incarnation: in.Value}
			}
		}
	}
	return e
}

func (c *Core) refuse(e *Effects, in Request, err error) {
	// A copy: the error may be kept as a step's poison, and Seq is the request's.
	we := *wire.AsError(err)
	if ctl, ok := in.Msg.(wire.Control); ok {
		we.Seq = ctl.Head().Seq
	}
	e.send(in.From, &we)
}

func (e *Effects) send(to Token, m wire.Message) {
	if to != 0 {
		e.Sends = append(e.Sends, Send{to, m})
	}
}

// job issues a job; then is called with its outcome. abort ends it, or is nil.
func (c *Core) job(e *Effects, s *shardState, op Op, abort *pool.Cancel, then func(*Effects, Done)) JobID {
	s.checkUse(op.use())
	c.lastJob++
	c.jobs[c.lastJob] = then
	e.Jobs = append(e.Jobs, Job{ID: c.lastJob, Shard: ShardKey{s.run, s.index}, Op: op, Abort: abort})
	return c.lastJob
}

// checkUse checks I5 of a job.
func (s *shardState) checkUse(u use) {
	for _, st := range s.staged {
		if !st.slice.whole() && st.slot != wire.Slot(u.slot) && u.reads(int(st.slot)) {
			invariant.That(false, "a job reads slot %d, which step %d is being written to", st.slot, st.step)
		}
	}
	for _, q := range s.queries {
		if u.write && q.mask.Has(u.slot) {
			invariant.That(false, "a job writes slot %d, which query %d reads", u.slot, uint64(q.id))
		}
	}
}

// queryJob issues a job of a query, which ends with it.
func (c *Core) queryJob(e *Effects, s *shardState, q *query, op Op, then func(*Effects, Done)) {
	abort := new(pool.Cancel)
	var id JobID
	id = c.job(e, s, op, abort, func(e *Effects, d Done) {
		delete(q.aborts, id)
		if d.Err != nil && s.queries[q.id] != q {
			d.Err = unknownQuery(q.id)
		}
		then(e, d)
	})
	if q.aborts == nil {
		q.aborts = map[JobID]*pool.Cancel{}
	}
	q.aborts[id] = abort
}

func (c *Core) request(e *Effects, in Request) error {
	switch m := in.Msg.(type) {
	case *wire.Chunk:
		return c.chunk(e, in, m)
	case *wire.Vec:
		return c.vec(e, in, m)
	case *wire.Fetch:
		return c.fetch(e, in, m)
	case *wire.Adopt:
		return c.adopt(e, in, m)
	case *wire.Release:
		return c.release(e, in, m)
	case wire.Control:
		s, err := c.owned(e, m.Head())
		if err != nil {
			return err
		}
		return c.control(e, in, s, m)
	}
	return wire.Errorf(wire.CodeMalformed, "type", in.Msg.Type(), "a request to a worker")
}

func (c *Core) control(e *Effects, in Request, s *shardState, m wire.Control) error {
	ok := &wire.OK{Seq: m.Head().Seq}
	if _, install := m.(*wire.Install); !install && !s.installed {
		// An owner asks for nothing before its install was answered. So this shard was made anew
		// since, by a late copy of the adopt: it holds nothing of what it is asked about.
		return lostShard(s)
	}
	switch m := m.(type) {
	case *wire.Install:
		return c.installErasing(e, in, s, m)
	case *wire.Evict:
		return c.evict(e, in, s, m)
	case *wire.Gram:
		return c.gram(e, in, s, m)
	case *wire.Reshape:
		if err := c.reshape(s, m); err != nil {
			return err
		}
	case *wire.SlotLabels:
		return c.slotLabels(e, in, s, m)
	case *wire.Stage:
		if err := c.stage(e, in, s, m); err != nil {
			return err
		}
		c.unpark(e, s.run, s.index)
		return nil
	case *wire.Multiply:
		return c.multiply(e, in, s, m)
	case *wire.Commit:
		if err := c.commit(e, s, m); err != nil {
			return err
		}
	case *wire.Drop:
		if st := s.staged[m.Step]; st != nil && st.attempt <= m.Attempt { // a lower one was superseded
			c.discard(e, s, st)
		}
	case *wire.Prepare:
		if err := c.prepare(e, in, s, m); err != nil {
			return err
		}
		c.unpark(e, s.run, s.index)
		return nil
	case *wire.Coef:
		if err := c.coef(s, m); err != nil {
			return err
		}
	case *wire.Factor:
		return c.factor(e, in, s, m)
	case *wire.Columns:
		return c.columns(e, in, s, m)
	case *wire.Hold:
		return c.hold(e, in, s, m)
	case *wire.Whiten:
		return c.whiten(e, in, s, m)
	case *wire.Recall:
		if err := c.recall(s, m); err != nil {
			return err
		}
	case *wire.Prune:
		return c.prune(e, in, s, m)
	case *wire.Blocks:
		return c.blocks(e, in, s, m)
	case *wire.Norms:
		return c.norms(e, in, s, m)
	case *wire.Apply:
		return c.apply(e, in, s, m)
	case *wire.Residual:
		return c.residual(e, in, s, m)
	case *wire.Refine:
		if err := c.refine(s, m); err != nil {
			return err
		}
	case *wire.DotVectors:
		return c.dotVectors(e, in, s, m)
	case *wire.CloseQuery:
		c.closeQuery(e, s, m.Query)
	default:
		return wire.Errorf(wire.CodeMalformed, "type", m.Type(), "a request to a worker")
	}
	e.send(in.From, ok)
	return nil
}

func lostShard(s *shardState) error {
	return wire.Errorf(wire.CodeUnknownShard, "shard", fmt.Sprintf("%s/%d", s.run, s.index), "one whose rows this worker holds", "it was made anew")
}

// held finds a shard that has adopted exactly this epoch.
func (c *Core) held(runName string, index int, epoch wire.Epoch) (*shardState, error) {
	r := c.runs[runName]
	if r == nil || r.shards[index] == nil {
		return nil, wire.Errorf(wire.CodeUnknownShard, "shard", fmt.Sprintf("%s/%d", runName, index), "one that this worker holds", "ask for the run's info again")
	}
	s := r.shards[index]
	if !accepts(s.adopted, epoch) {
		err := wire.Errorf(wire.CodeStaleEpoch, "epoch", epoch, s.adopted.String(), "ask for the run's info again")
		err.Epoch = s.adopted
		return nil, err
	}
	if !s.ready {
		return nil, wire.Errorf(wire.CodeUnavailable, "shard", index, "ready", "its memory is being made")
	}
	return s, nil
}

// owned finds the shard of a control request: as held, after a look at the incarnation.
func (c *Core) owned(e *Effects, h *wire.Shard) (*shardState, error) {
	if err := c.known(e, h.Epoch); err != nil {
		return nil, err
	}
	return c.held(h.Run, h.Shard, h.Epoch)
}

// known refuses an incarnation that is not the present one, and asks which is. Two incarnations
// can't be compared: only the bucket itself can tell.
func (c *Core) known(e *Effects, epoch wire.Epoch) error {
	if epoch.Incarnation == c.incarnation {
		return nil
	}
	if (c.tick-c.asked)*c.cfg.TickMS >= askMS {
		c.asked = c.tick
		e.AskIncarnation = true
	}
	return wire.Errorf(wire.CodeUnavailable, "incarnation", fmt.Sprintf("%x", epoch.Incarnation), fmt.Sprintf("%x", c.incarnation), "this worker is asking which is the present one")
}

func (c *Core) hello() *wire.Hello {
	h := &wire.Hello{Worker: c.cfg.ID, Instance: c.cfg.Instance, Capacity: c.cfg.Capacity, Used: c.used}
	var all []wire.Held
	for _, name := range sortedKeys(c.runs) {
		r := c.runs[name]
		for _, i := range sortedKeys(r.shards) {
			all = append(all, wire.Held{Run: name, UID: r.uid, Shard: i, Placed: r.shards[i].placed})
		}
	}
	h.Shards = len(all)
	n := min(len(all), wire.MaxHeld)
	for i := range n {
		h.Held = append(h.Held, all[(c.heldCursor+i)%len(all)])
	}
	if n > 0 {
		c.heldCursor = (c.heldCursor + n) % len(all)
	}
	return h
}

// sortedKeys makes iteration over a map deterministic.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
