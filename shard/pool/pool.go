package pool

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
)

// Class says whose units go first.
type Class uint8

// The classes, the first goes first.
const (
	Step Class = iota
	Query

	classes = iota // of them
)

// MaxThreads is the most workers of a pool.
const MaxThreads = 1 << 10

// The errors of Do, but for a *Panic.
var (
	ErrCancelled = errors.New("pool: the task was cancelled")
	ErrStopped   = errors.New("pool: stopped")
)

// Panic is the error of a task in which a unit panicked.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprintf("pool: a unit panicked: %v", p.Value) }

// Worker is who carries out a unit: a goroutine, of StartThreads with an operating system's thread of
// its own, or, while that one sleeps, the caller of a short task.
type Worker struct {
	Index int // in [0, Threads())

	// Local is the units' own: what they left there is there for the next one on this worker, of
	// whatever task, and nobody else touches it. It is nil at first and after a panic.
	Local any

	wake   chan struct{}
	asleep bool

	short      bool // what it was last woken for, which may be over before it has begun
	vain, skip int  // looks in vain, and how many chances to look are left out yet
}

// Work is what a task does. Units of one task run at the same time.
type Work interface {
	Unit(w *Worker, i int)
}

// Span is the units [First, First+N) of a whole of Total, by which the workers' home ranges go.
type Span struct{ First, N, Total int }

// All is all of n units.
func All(n int) Span { return Span{0, n, n} }

// Spec says how a task is carried out.
type Spec struct {
	Class Class
	Run   string  // tasks of different runs share the workers in turn
	Abort *Cancel // ends the task, or nil

	// Short says that the task takes so little, 1 ms or less, that to wake a thread counts. The
	// caller takes part in the place of a worker that sleeps, and who ends looks for more for a while.
	Short bool
}

// looks is how often a worker looks for another task before it sleeps, after a short one, and the
// caller of a short one whether it is done: some 30 µs, about what it takes to wake a thread, so that
// it costs at most as much as it can save. Where tasks don't follow each other so soon a worker
// looks less and less: after looks in vain it leaves out the next 1, 3, then 7 chances.
// An idle pool does nothing at all.
const (
	looks    = 1 << 17 // at one a cycle
	mostSkip = 7
)

// Pool is workers. Its methods may be called at the same time.
type Pool struct {
	workers []Worker
	wg      sync.WaitGroup

	// mostLooking is how many may look for work at a time: a core is left to who has some.
	mostLooking int

	// added counts tasks: a worker looks round for another one when it has changed.
	added atomic.Uint64

	mu      sync.Mutex
	classes [classes]class
	spare   []*task
	looking int // workers
	stopped bool
	shared  Shared
}

// Shared is how callers and other workers shared short tasks of which a caller took part.
type Shared struct {
	Tasks, Alone uint64 // Alone: the caller did all of it
	Units, Own   uint64 // Own: by callers
}

// Shared is as of the pool's start.
func (p *Pool) Shared() Shared {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shared
}

// class is the tasks of one class that may have units left.
type class struct {
	runs []run
	turn int // index of the run whose turn it is
}

type run struct {
	name  string
	tasks []*task // as they came
}

// Start starts a pool of threads workers, GOMAXPROCS of them if it is 0. Who starts it stops it.
func Start(threads int) *Pool { return start(threads, (*Pool).work) }

// StartThreads is Start with a thread of the operating system for each worker, so that the system
// can keep a column range's worker on the node whose memory that is. It costs: to go on with what a
// worker has done, another thread must be woken, which may take longer than a unit.
func StartThreads(threads int) *Pool {
	return start(threads, func(p *Pool, w *Worker) {
		runtime.LockOSThread() // and its end ends the thread: what was pinned to it would be
		defer runtime.UnlockOSThread()
		p.work(w)
	})
}

func start(threads int, work func(*Pool, *Worker)) *Pool {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	p := &Pool{workers: make([]Worker, min(threads, MaxThreads))}
	p.mostLooking = min(len(p.workers), runtime.GOMAXPROCS(0)) - 1
	for i := range p.workers {
		w := &p.workers[i]
		w.Index, w.wake = i, make(chan struct{}, 1)
		p.wg.Go(func() { work(p, w) })
	}
	return p
}

// Threads is the number of workers.
func (p *Pool) Threads() int { return len(p.workers) }

// Stop ends the workers and waits for them. Tasks under way end with ErrStopped, as do later ones.
func (p *Pool) Stop() {
	p.mu.Lock()
	p.stopped = true
	p.added.Add(1) // for those who look
	for c := range p.classes {
		for _, r := range p.classes[c].runs {
			for _, t := range r.tasks {
				t.fail(ErrStopped)
			}
		}
	}
	for i := range p.workers {
		p.workers[i].rouse()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// rouse wakes a worker that sleeps. p.mu is held.
func (w *Worker) rouse() bool {
	if !w.asleep {
		return false
	}
	w.asleep = false
	w.wake <- struct{}{}
	return true
}

// Do carries out work's units of s and returns when that is done: nil, or ErrCancelled, ErrStopped
// or a *Panic, and then some units were left out. It must not be called from a unit.
func (p *Pool) Do(spec Spec, s Span, work Work) error {
	if s.First < 0 || s.N < 0 || s.Total > math.MaxInt32 || s.N > s.Total-s.First {
		panic(fmt.Sprintf("pool: units [%d, %d) of %d", s.First, s.First+s.N, s.Total))
	}
	if s.N == 0 {
		return nil
	}
	t, me, err := p.add(spec, s, work)
	if err != nil {
		return err
	}
	if me != nil {
		p.stand(me, t, s.N)
	}
	if spec.Short && p.mostLooking > 0 {
		for i := 0; i < looks && t.left.Load() > 0; i++ {
			if i%64 == 63 {
				runtime.Gosched() // to who has something to do
			}
		}
	}
	<-t.done
	if spec.Abort != nil {
		spec.Abort.remove(t)
	}
	return p.end(t)
}

// add makes a task and wakes workers for it. Where it returns one, the caller is to stand in for it.
func (p *Pool) add(spec Spec, s Span, work Work) (t *task, me *Worker, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, nil, ErrStopped
	}
	if n := len(p.spare); n > 0 {
		t, p.spare = p.spare[n-1], p.spare[:n-1]
	} else {
		t = &task{ranges: make([]units, len(p.workers)), done: make(chan struct{}, 1)}
	}
	t.begin(spec, s, work)
	if spec.Abort != nil && !spec.Abort.add(t) {
		p.spare = append(p.spare, t)
		return nil, nil, ErrCancelled
	}
	p.classes[spec.Class].add(t)
	p.added.Add(1)
	// Those who find work at home are woken first, then others, to steal.
	left, woken := s.N-p.looking, false
	for _, home := range []bool{true, false} {
		for i := 0; i < len(p.workers) && left > 0; i++ {
			if home && t.ranges[i].empty() {
				continue
			}
			w := &p.workers[i]
			if spec.Short && me == nil && w.asleep {
				me, w.asleep = w, false
				left--
			} else if w.rouse() {
				w.short, woken = spec.Short, true
				left--
			}
		}
	}
	if me != nil && woken {
		go madeReady()
	}
	return t, me, nil
}

// madeReady takes the place of the goroutine that was made ready last. Go expects that one to go on where
// who made it ready is about to stop, and lets another thread take it only after a sleep of 3 µs, of which
// Linux makes 55 and more: half a short task. Who stands in for a worker doesn't stop, so this is to be the last.
func madeReady() {}

// stand carries out units in the place of a worker that sleeps, until own, of n, has none left that
// nobody has taken.
func (p *Pool) stand(w *Worker, own *task, n int) {
	mine := 0
	for {
		p.mu.Lock()
		if !own.empty() {
			if t, unit, sole := p.pick(w.Index); t != nil {
				added := p.added.Load()
				p.mu.Unlock()
				if done := p.carry(w, t, unit, sole, added); t == own {
					mine += done
				}
				continue
			}
		}
		w.asleep = true
		if p.stopped || p.left() {
			w.rouse()
		}
		p.shared.add(mine, n)
		p.mu.Unlock()
		return
	}
}

// left tells whether there are units that nobody has taken. p.mu is held.
func (p *Pool) left() bool {
	for c := range p.classes {
		for _, r := range p.classes[c].runs {
			for _, t := range r.tasks {
				if !t.empty() {
					return true
				}
			}
		}
	}
	return false
}

// end takes a task that is done out of the lists.
func (p *Pool) end(t *task) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.classes[t.spec.Class].remove(t)
	err := t.err
	t.work, t.err, t.spec = nil, nil, Spec{}
	p.spare = append(p.spare, t)
	return err
}

func (c *class) add(t *task) {
	i := slices.IndexFunc(c.runs, func(r run) bool { return r.name == t.spec.Run })
	if i < 0 {
		i = len(c.runs)
		if i < cap(c.runs) { // with the room for tasks of one that was there before
			c.runs = c.runs[:i+1]
			c.runs[i].name = t.spec.Run
		} else {
			c.runs = append(c.runs, run{name: t.spec.Run})
		}
	}
	c.runs[i].tasks = append(c.runs[i].tasks, t)
}

func (c *class) remove(t *task) {
	for i := range c.runs {
		r := &c.runs[i]
		j := slices.Index(r.tasks, t)
		if j < 0 {
			continue
		}
		r.tasks = slices.Delete(r.tasks, j, j+1)
		if len(r.tasks) == 0 {
			c.drop(i)
		}
		return
	}
}

// drop takes out a run that has no tasks. Its room stays, past the end.
func (c *class) drop(i int) {
	last := len(c.runs) - 1
	empty := c.runs[i]
	copy(c.runs[i:], c.runs[i+1:])
	c.runs[last] = empty
	c.runs = c.runs[:last]
	if c.turn > i {
		c.turn--
	}
}

// pick is the next unit of this class for a worker. Tasks that have none left go; sole tells that
// no other run of the class waits for its turn.
func (c *class) pick(w int) (t *task, unit int, sole bool) {
	for len(c.runs) > 0 {
		c.turn %= len(c.runs)
		r := &c.runs[c.turn]
		t = r.tasks[0]
		if i, ok := t.take(w); ok {
			c.turn++
			return t, i, len(c.runs) == 1
		}
		r.tasks = slices.Delete(r.tasks, 0, 1)
		if len(r.tasks) == 0 {
			c.drop(c.turn)
		}
	}
	return nil, 0, false
}

// pick is a worker's next unit, of the highest class that has any. p.mu is held.
func (p *Pool) pick(w int) (t *task, unit int, sole bool) {
	for c := range p.classes {
		if t, unit, sole := p.classes[c].pick(w); t != nil {
			return t, unit, sole
		}
	}
	return nil, 0, false
}

// next is a worker's next unit, and as of which count of tasks; it waits for one, and looks for it
// first where look says so. At the end of the pool the task is nil.
func (p *Pool) next(w *Worker, look bool) (t *task, unit int, sole bool, added uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		added := p.added.Load()
		if t, unit, sole := p.pick(w.Index); t != nil {
			return t, unit, sole, added
		}
		if p.stopped {
			return nil, 0, false, 0
		}
		look = look && p.looking < p.mostLooking
		if look && w.skip > 0 {
			w.skip--
			look = false
		}
		if look {
			p.looking++
		} else {
			w.asleep = true
		}
		p.mu.Unlock()
		if look {
			for i := 0; i < looks && p.added.Load() == added; i++ {
			}
		} else {
			<-w.wake
		}
		p.mu.Lock()
		if look {
			p.looking--
			if w.vain = min(2*w.vain+1, mostSkip); p.added.Load() != added {
				w.vain = 0
			}
			w.skip, look = w.vain, false
		} else {
			look = w.short
		}
	}
}

// work is a worker's life.
func (p *Pool) work(w *Worker) {
	look := false
	for {
		t, i, sole, added := p.next(w, look)
		if t == nil {
			return
		}
		look = t.spec.Short
		p.carry(w, t, i, sole, added)
	}
}

// add counts a task of n units, of which its caller did mine.
func (s *Shared) add(mine, n int) {
	s.Tasks++
	s.Units += uint64(n)
	s.Own += uint64(mine)
	if mine == n {
		s.Alone++
	}
}

// carry carries out a unit, and others of its task as long as nobody else's turn has come. It returns
// how many.
func (p *Pool) carry(w *Worker, t *task, i int, sole bool, added uint64) (done int) {
	for more := true; more; done++ {
		t.unit(w, i)
		// The next one is taken before this one counts as done: until then the task is not over.
		if more = sole && p.added.Load() == added; more {
			i, more = t.take(w.Index)
		}
		t.finish(1)
	}
	return done
}

// task is a call of Do. It is used again.
type task struct {
	spec   Spec
	work   Work
	ranges []units      // of each worker
	left   atomic.Int64 // units not done
	done   chan struct{}

	mu  sync.Mutex
	err error
}

// units is a range of units that nobody has taken: its first in the high half, its end in the low.
// They don't share a line with another worker's.
type units struct {
	atomic.Uint64
	_ [56]byte
}

func (u *units) set(lo, hi int) { u.Store(uint64(lo)<<32 | uint64(hi)) }

func (u *units) empty() bool { return size(u.Load()) == 0 }

func size(v uint64) int { return int(v&math.MaxUint32) - int(v>>32) }

func (t *task) begin(spec Spec, s Span, work Work) {
	t.spec, t.work, t.err = spec, work, nil
	t.left.Store(int64(s.N))
	n := len(t.ranges)
	border := func(w int) int { return max(s.First, min(s.First+s.N, s.Total/n*w+s.Total%n*w/n)) }
	for w := range t.ranges {
		t.ranges[w].set(border(w), border(w+1))
	}
}

// empty tells whether all units are taken.
func (t *task) empty() bool {
	for i := range t.ranges {
		if !t.ranges[i].empty() {
			return false
		}
	}
	return true
}

// take is a unit that nobody has taken.
func (t *task) take(w int) (unit int, ok bool) {
	for home := &t.ranges[w]; ; {
		v := home.Load()
		if size(v) == 0 {
			break
		}
		if home.CompareAndSwap(v, v+1<<32) {
			return int(v >> 32), true
		}
	}
	for {
		most, from := uint64(0), -1
		for i := range t.ranges {
			if v := t.ranges[i].Load(); size(v) > size(most) {
				most, from = v, i
			}
		}
		if from < 0 {
			return 0, false
		}
		if t.ranges[from].CompareAndSwap(most, most-1) {
			return int(most&math.MaxUint32) - 1, true
		}
	}
}

// finish notes that n units are done, or will not be.
func (t *task) finish(n int) {
	if n > 0 && t.left.Add(-int64(n)) == 0 {
		t.done <- struct{}{}
	}
}

// fail ends the task: units that nobody has taken are left out. The first error stays. Who calls
// it keeps the task from being used again meanwhile: by a unit that is not done, or a lock.
func (t *task) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	n := 0
	for i := range t.ranges {
		n += size(t.ranges[i].Swap(0))
	}
	t.finish(n)
}

func (t *task) unit(w *Worker, i int) {
	defer func() {
		if v := recover(); v != nil {
			w.Local = nil
			t.fail(&Panic{v, debug.Stack()})
		}
	}()
	t.work.Unit(w, i)
}

// Cancel ends tasks from outside: those under way, and those that begin later. The zero value is
// ready.
type Cancel struct {
	mu    sync.Mutex
	done  bool
	tasks []*task
}

// Cancel frees the workers within a unit. It does not wait for that: Do does.
func (c *Cancel) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
	for _, t := range c.tasks {
		t.fail(ErrCancelled)
	}
}

// Cancelled reports whether Cancel was called.
func (c *Cancel) Cancelled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// Err is ErrCancelled after Cancel; of nil too.
func (c *Cancel) Err() error {
	if c != nil && c.Cancelled() {
		return ErrCancelled
	}
	return nil
}

func (c *Cancel) add(t *task) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done {
		c.tasks = append(c.tasks, t)
	}
	return !c.done
}

func (c *Cancel) remove(t *task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tasks = slices.DeleteFunc(c.tasks, func(o *task) bool { return o == t })
}
