package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"

	"mfac/wire"
)

// ms is virtual time in milliseconds.
type ms = int64

// Config says which history to run.
type Config struct {
	Seed  uint64
	Trace bool // keep a readable trace
}

// Result is what became of a seed.
type Result struct {
	Failure  string // the check that failed, or ""
	Trace    []string
	Coverage Coverage
	Stats    Stats
}

// Stats counts what a seed went through.
type Stats struct {
	Events, Packets, Committed, Answered, Takeovers int
	WorkerCrashes, CoordinatorCrashes, Pauses       int
	TwoOwners                                       int // windows served while another coordinator served too
	Forgotten                                       int // windows that a forget has made
	Resized                                         int // that were told
	Frozen                                          int // freezes that were told done
	Leftovers                                       int // staged steps that no coordinator knows, at the end
}

// Add adds another seed's.
func (s *Stats) Add(o Stats) {
	s.Events += o.Events
	s.Packets += o.Packets
	s.Committed += o.Committed
	s.Answered += o.Answered
	s.Forgotten += o.Forgotten
	s.Resized += o.Resized
	s.Frozen += o.Frozen
	s.Takeovers += o.Takeovers
	s.WorkerCrashes += o.WorkerCrashes
	s.CoordinatorCrashes += o.CoordinatorCrashes
	s.Pauses += o.Pauses
	s.TwoOwners += o.TwoOwners
	s.Leftovers += o.Leftovers
}

// event is something that happens at a time.
type event struct {
	at  ms
	seq uint64 // of events at one time, the one made first
	do  func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// world is a cluster and its history.
type world struct {
	cfg    Config
	shape  shape
	rng    *rand.Rand
	now    ms
	seq    uint64
	events queue

	bus          bus
	kv           *kv
	workers      []*workerNode
	coordinators []*coordinatorNode
	clients      []*client
	faults       faults
	check        *checker

	coverage Coverage
	stats    Stats
	trace    []string
	failure  string
}

// shape is a seed's cluster and run.
type shape struct {
	dim                   int64
	window, spare, shards int
	workers, coordinators int
	damping               float64
	store                 wire.DType
	codec                 bool    // messages go through the codec
	lazy                  bool    // coordinators don't look at the lease's own time: safety must not need it
	quiet                 ms      // when the faults end
	loss, double, slow    float64 // chances of a packet
	budget                int64   // of a worker, bytes in flight
	gather                int64   // columns that come before they are multiplied
	inline                int     // rows up to which factors are made between two inputs
}

// failed ends a history.
type failed struct{ text string }

// fail ends the history: a check did not hold.
func (w *world) fail(format string, args ...any) {
	panic(failed{fmt.Sprintf(format, args...)})
}

func (w *world) logf(format string, args ...any) {
	if w.cfg.Trace {
		w.trace = append(w.trace, fmt.Sprintf("%7d ", w.now)+fmt.Sprintf(format, args...))
	}
}

// after does f in so many ms.
func (w *world) after(d ms, f func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + max(d, 0), w.seq, f})
}

// chance is true with probability p.
func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// between is a random time in [lo, hi].
func (w *world) between(lo, hi ms) ms { return lo + w.rng.Int64N(hi-lo+1) }

// run lets time pass until done or the deadline.
func (w *world) run(deadline ms, done func() bool) bool {
	for len(w.events) > 0 && w.events[0].at <= deadline {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		w.stats.Events++
		e.do()
		if done != nil && done() {
			return true
		}
	}
	w.now = deadline
	return false
}

// Run runs one history.
func Run(cfg Config) (r Result) {
	w := newWorld(cfg)
	defer func() {
		for _, c := range w.clients {
			c.kill()
		}
		switch p := recover().(type) {
		case nil:
		case failed:
			w.failure = p.text
		case error:
			w.failure = "panic: " + p.Error() + stackOf()
		default:
			w.failure = fmt.Sprint("panic: ", p) + stackOf()
		}
		if w.failure != "" {
			w.logf("FAILED %s", w.failure)
		}
		r = Result{w.failure, w.trace, w.coverage, w.stats}
	}()
	w.history()
	return r
}

func newWorld(cfg Config) *world {
	w := &world{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x6d666163)), coverage: Coverage{}}
	r := w.rng
	w.shape = shape{
		dim: 5 + r.Int64N(56), window: 1 + r.IntN(6), spare: 1 + r.IntN(2), shards: 1 + r.IntN(4),
		workers: 1 + r.IntN(4), coordinators: 1 + r.IntN(2), damping: []float64{0.01, 0.1, 1}[r.IntN(3)],
		codec: cfg.Seed%4 == 0, lazy: r.IntN(2) == 0, quiet: 30_000 + r.Int64N(15_000),
		loss: []float64{0, 0.01, 0.05}[r.IntN(3)], double: []float64{0, 0.02, 0.1, 0.3}[r.IntN(4)], slow: []float64{0.01, 0.05, 0.1}[r.IntN(3)],
		budget: []int64{1 << 10, 1 << 20}[r.IntN(2)], gather: []int64{1, 8, 1 << 20}[r.IntN(3)],
		inline: []int{-1, 256}[cfg.Seed/2%2],
	}
	w.shape.store = oneOf(w, rowDTypes)
	w.kv = newKV(w)
	w.bus.init(w)
	w.check = newChecker(w)
	for i := range w.shape.workers {
		w.workers = append(w.workers, newWorkerNode(w, fmt.Sprintf("w%d", i)))
	}
	for i := range w.shape.coordinators {
		w.coordinators = append(w.coordinators, newCoordinatorNode(w, fmt.Sprintf("c%d", i)))
	}
	return w
}

// history is a seed from beginning to end.
func (w *world) history() {
	w.logf("seed %d: %+v", w.cfg.Seed, w.shape)
	for _, n := range w.workers {
		n.start()
	}
	for _, n := range w.coordinators {
		n.start()
	}
	publishers := 2 + w.rng.IntN(2)
	for i := range publishers {
		w.spawn(fmt.Sprintf("p%d", i), func(c *client) { c.publisher(i, publishers) })
	}
	for i := range 1 + w.rng.IntN(2) {
		w.spawn(fmt.Sprintf("q%d", i), func(c *client) { c.querier() })
	}
	w.spawn("f0", func(c *client) { c.changer() })
	if w.chance(0.5) {
		w.spawn("z0", func(c *client) { c.freezer() })
	}
	w.faults.begin(w)
	w.run(w.shape.quiet, nil)
	w.faults.end()
	w.rest()
}

// rest is V10: the faults are over, clients finish what they are at, everything comes to rest.
func (w *world) rest() {
	w.logf("the faults are over")
	idle := func() bool {
		for _, c := range w.clients {
			if !c.done {
				return false
			}
		}
		return true
	}
	if !w.run(w.now+120_000, idle) {
		w.fail("V10 clients are still at work 120 s after the last fault: %s", w.names())
	}
	for _, c := range w.clients {
		c.kill()
	}
	w.run(w.now+2*leaseTTL, nil) // an owner that was replaced hears of it when it renews its lease
	last := w.spawn("last", func(c *client) { c.last() })
	if !w.run(w.now+60_000, func() bool { return last.done }) {
		w.fail("V10 a step and a query did not succeed in 60 s without faults")
	}
	w.run(w.now+maxLife, nil)
	w.check.rest()
}

func (w *world) names() string {
	var b strings.Builder
	for _, c := range w.clients {
		if !c.done {
			fmt.Fprintf(&b, "%s (%s) ", c.name, c.doing)
		}
	}
	return b.String()
}
