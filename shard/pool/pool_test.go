package pool_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"mfac/shard/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type unitFunc func(w *pool.Worker, i int)

func (f unitFunc) Unit(w *pool.Worker, i int) { f(w, i) }

func start(t testing.TB, threads int) *pool.Pool {
	p := pool.Start(threads)
	t.Cleanup(p.Stop)
	return p
}

// Each unit is carried out once, whatever the number of workers and of tasks at a time.
func TestEachUnitOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		begin := rapid.SampledFrom([]func(int) *pool.Pool{pool.Start, pool.StartThreads}).Draw(rt, "begin")
		p := begin(rapid.IntRange(1, 4).Draw(rt, "threads"))
		defer p.Stop()
		var wg sync.WaitGroup
		for i := range rapid.IntRange(1, 6).Draw(rt, "tasks") {
			total := rapid.IntRange(0, 300).Draw(rt, "total")
			first := rapid.IntRange(0, total).Draw(rt, "first")
			s := pool.Span{First: first, N: rapid.IntRange(0, total-first).Draw(rt, "n"), Total: total}
			spec := pool.Spec{Class: pool.Class(i % 2), Run: fmt.Sprint(i / 2), Short: rapid.Bool().Draw(rt, "short")}
			wg.Go(func() {
				for range 2 {
					counts := make([]atomic.Int32, total)
					err := p.Do(spec, s, unitFunc(func(_ *pool.Worker, i int) { counts[i].Add(1) }))
					if err != nil {
						t.Error(err)
					}
					for i := range counts {
						want := int32(0)
						if s.First <= i && i < s.First+s.N {
							want = 1
						}
						if got := counts[i].Load(); got != want {
							t.Errorf("unit %d of %+v was carried out %d times, want %d", i, s, got, want)
						}
					}
				}
			})
		}
		wg.Wait()
	})
}

// gate is a task whose units wait to be let through, one at a time.
type gate struct {
	begun, let chan int
	done       atomic.Int32
}

func newGate() *gate { return &gate{begun: make(chan int, 100), let: make(chan int)} }

func (g *gate) Unit(_ *pool.Worker, i int) {
	g.begun <- i
	<-g.let
	g.done.Add(1)
}

// A step that comes while a query is under way ends after one unit of the query at most.
func TestStepGoesFirst(t *testing.T) {
	p := start(t, 1)
	query, queryDone := newGate(), make(chan error)
	go func() { queryDone <- p.Do(pool.Spec{Class: pool.Query, Run: "a"}, pool.All(50), query) }()
	<-query.begun
	var atStep []int32
	stepDone := make(chan error)
	began := make(chan struct{})
	go func() {
		close(began)
		stepDone <- p.Do(pool.Spec{Class: pool.Step, Run: "b"}, pool.All(20), unitFunc(func(*pool.Worker, int) { atStep = append(atStep, query.done.Load()) }))
	}()
	<-began
	waitFor(t, func() bool { return p.Waiting(pool.Step) == 1 })
	query.let <- 0
	if err := <-stepDone; err != nil {
		t.Error(err)
	}
	for i, n := range atStep {
		if n != 1 {
			t.Errorf("unit %d of the step came after %d units of the query, want 1", i, n)
		}
	}
	for range 49 {
		query.let <- 0
	}
	if err := <-queryDone; err != nil || query.done.Load() != 50 {
		t.Errorf("the query: %v, %d units", err, query.done.Load())
	}
}

func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	for !f() {
		if t.Failed() {
			return
		}
	}
}

// Runs of one class take turns, unit by unit, however many tasks one of them has.
func TestRunsTakeTurns(t *testing.T) {
	p := start(t, 1)
	blocker := newGate()
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Do(pool.Spec{Class: pool.Step, Run: "z"}, pool.All(1), blocker) })
	<-blocker.begun
	var order []string
	add := func(run string, n int) {
		before := p.Waiting(pool.Query)
		wg.Go(func() {
			err := p.Do(pool.Spec{Class: pool.Query, Run: run}, pool.All(n), unitFunc(func(*pool.Worker, int) { order = append(order, run) }))
			if err != nil {
				t.Error(err)
			}
		})
		waitFor(t, func() bool { return p.Waiting(pool.Query) == before+1 })
	}
	add("a", 100)
	add("a", 100)
	add("b", 10)
	add("c", 5)
	blocker.let <- 0
	wg.Wait()
	last := map[string]int{}
	for i, run := range order {
		last[run] = i
	}
	if last["c"] > 15 || last["b"] > 25 || len(order) != 215 {
		t.Errorf("b's 10 units ended at %d, c's 5 at %d, of %d", last["b"], last["c"], len(order))
	}
}

// A worker takes its home range from the front; who has nothing at home takes the end of another's.
func TestHomeFirst(t *testing.T) {
	p := start(t, 2)
	const n = 100
	slow, begun := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	by := make([][]int, 2)
	err := p.Do(pool.Spec{}, pool.All(n), unitFunc(func(w *pool.Worker, i int) {
		mu.Lock()
		by[w.Index] = append(by[w.Index], i)
		count := len(by[0]) + len(by[1])
		mu.Unlock()
		switch {
		case count == n:
			close(slow)
		case w.Index == 0: // is held up in its first unit
			close(begun)
			<-slow
		default:
			<-begun
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(by[0]) != 1 || by[0][0] != 0 {
		t.Fatalf("worker 0 did %v, want its first unit alone", by[0])
	}
	for i := range 50 { // its home, then what worker 0 left, from the end
		if by[1][i] != 50+i {
			t.Fatalf("worker 1 did %v, want its home range first", by[1])
		}
	}
	for i := range 49 {
		if by[1][50+i] != 49-i {
			t.Fatalf("worker 1 did %v, want the other's range from the end", by[1][50:])
		}
	}
}

// A cancelled task frees the workers within a unit.
func TestCancel(t *testing.T) {
	p := start(t, 2)
	g, c := newGate(), new(pool.Cancel)
	done := make(chan error)
	go func() { done <- p.Do(pool.Spec{Run: "a", Abort: c}, pool.All(1000), g) }()
	<-g.begun
	<-g.begun
	c.Cancel()
	c.Cancel()
	g.let <- 0
	g.let <- 0
	if err := <-done; !errors.Is(err, pool.ErrCancelled) {
		t.Errorf("got %v, want cancelled", err)
	}
	if n := g.done.Load(); n != 2 {
		t.Errorf("%d units were carried out, want the 2 that were under way", n)
	}
	if err := p.Do(pool.Spec{Abort: c}, pool.All(1), g); !errors.Is(err, pool.ErrCancelled) {
		t.Errorf("a task that begins after: %v", err)
	}
	if err := p.Do(pool.Spec{Abort: new(pool.Cancel)}, pool.All(3), unitFunc(func(*pool.Worker, int) {})); err != nil {
		t.Errorf("another task: %v", err)
	}
	if !c.Cancelled() || c.Err() == nil || (*pool.Cancel)(nil).Err() != nil {
		t.Error("Cancelled and Err do not say what happened")
	}
}

// A cancelled task is over even where no worker looks at it.
func TestCancelWaiting(t *testing.T) {
	p := start(t, 1)
	blocker, c := newGate(), new(pool.Cancel)
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Do(pool.Spec{Class: pool.Step}, pool.All(1), blocker) })
	<-blocker.begun
	done := make(chan error)
	go func() { done <- p.Do(pool.Spec{Class: pool.Query, Abort: c}, pool.All(5), newGate()) }()
	waitFor(t, func() bool { return p.Waiting(pool.Query) == 1 })
	c.Cancel()
	if err := <-done; !errors.Is(err, pool.ErrCancelled) {
		t.Errorf("got %v", err)
	}
	blocker.let <- 0
	wg.Wait()
}

// A panic in a unit is its task's error, and nobody else's.
func TestPanic(t *testing.T) {
	p := start(t, 2)
	var after atomic.Int32
	err := p.Do(pool.Spec{Run: "a"}, pool.All(10_000), unitFunc(func(w *pool.Worker, i int) {
		w.Local = "in disorder"
		if after.Add(1) >= 100 {
			panic("no such row")
		}
	}))
	var pe *pool.Panic
	if !errors.As(err, &pe) || pe.Value != "no such row" || len(pe.Stack) == 0 || pe.Error() != "pool: a unit panicked: no such row" {
		t.Errorf("got %v", err)
	}
	if n := after.Load(); n > 101 {
		t.Errorf("%d units were carried out", n)
	}
	err = p.Do(pool.Spec{Run: "a"}, pool.All(100), unitFunc(func(w *pool.Worker, _ int) {
		if after.Add(1) < 100 && w.Local != nil {
			t.Error("what a panic left is still there")
		}
	}))
	if err != nil {
		t.Errorf("the next task: %v", err)
	}
}

// Who calls for a short task takes the place of a worker that sleeps, by the same rules: a step goes
// first there too, and what is left when the task is done is the worker's.
func TestShort(t *testing.T) {
	p := start(t, 1)
	waitFor(t, func() bool { return p.Asleep() == 1 })
	short, shortDone := newGate(), make(chan error)
	go func() {
		shortDone <- p.Do(pool.Spec{Class: pool.Query, Run: "a", Short: true}, pool.All(2), short)
	}()
	<-short.begun
	if n := p.Asleep(); n != 0 {
		t.Errorf("%d workers may still be woken beside the caller, want 0", n)
	}
	step, other := newGate(), newGate()
	stepDone, otherDone := make(chan error), make(chan error)
	go func() { stepDone <- p.Do(pool.Spec{Class: pool.Step, Run: "b", Short: true}, pool.All(1), step) }()
	waitFor(t, func() bool { return p.Waiting(pool.Step) == 1 })
	go func() { otherDone <- p.Do(pool.Spec{Class: pool.Query, Run: "c"}, pool.All(3), other) }()
	waitFor(t, func() bool { return p.Waiting(pool.Query) == 2 })
	short.let <- 0
	<-step.begun
	step.let <- 0
	if err := <-stepDone; err != nil || short.done.Load() != 1 {
		t.Errorf("the step: %v, after %d units of the query", err, short.done.Load())
	}
	for units := 0; units < 4; units++ { // the runs in turn, from either
		select {
		case <-short.begun:
			short.let <- 0
		case <-other.begun:
			other.let <- 0
		}
	}
	if err := errors.Join(<-shortDone, <-otherDone); err != nil || short.done.Load() != 2 || other.done.Load() != 3 {
		t.Errorf("%v, %d and %d units, want 2 and 3", err, short.done.Load(), other.done.Load())
	}
	waitFor(t, func() bool { return p.Asleep() == 1 })
}

// A pool that has nothing to do comes to rest, after short tasks too.
func TestRest(t *testing.T) {
	p := start(t, 3)
	for range 200 {
		if err := p.Do(pool.Spec{Short: true}, pool.All(30), unitFunc(func(*pool.Worker, int) {})); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return p.Asleep() == 3 })
}

func TestStop(t *testing.T) {
	p := pool.Start(1)
	g := newGate()
	done := make(chan error)
	go func() { done <- p.Do(pool.Spec{}, pool.All(10), g) }()
	<-g.begun
	stopped := make(chan struct{})
	go func() { p.Stop(); close(stopped) }()
	waitFor(t, func() bool {
		return errors.Is(p.Do(pool.Spec{}, pool.All(1), unitFunc(func(*pool.Worker, int) {})), pool.ErrStopped)
	})
	g.let <- 0
	if err := <-done; !errors.Is(err, pool.ErrStopped) {
		t.Errorf("got %v", err)
	}
	<-stopped
	p = pool.Start(1) // while a caller has the worker's place
	g = newGate()
	waitFor(t, func() bool { return p.Asleep() == 1 })
	go func() { done <- p.Do(pool.Spec{Short: true}, pool.All(10), g) }()
	<-g.begun
	go func() { p.Stop(); done <- nil }()
	waitFor(t, func() bool {
		return errors.Is(p.Do(pool.Spec{}, pool.All(1), unitFunc(func(*pool.Worker, int) {})), pool.ErrStopped)
	})
	g.let <- 0
	if err := errors.Join(<-done, <-done); !errors.Is(err, pool.ErrStopped) {
		t.Errorf("short: got %v", err)
	}
	if n := g.done.Load(); n != 1 {
		t.Errorf("%d units, want 1", n)
	}
}

type nothing struct{}

func (nothing) Unit(*pool.Worker, int) {}

func TestNoAllocations(t *testing.T) {
	p := start(t, 2)
	var work pool.Work = nothing{}
	c := new(pool.Cancel)
	do := func() {
		for _, class := range []pool.Class{pool.Step, pool.Query} {
			for _, short := range []bool{false, true} {
				if err := p.Do(pool.Spec{Class: class, Run: "digits", Abort: c, Short: short}, pool.All(50), work); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	do()
	if n := testing.AllocsPerRun(100, do); n != 0 {
		t.Errorf("%v allocations for four tasks", n)
	}
}

// What callers of short tasks did is counted.
func TestShared(t *testing.T) {
	p := start(t, 1)
	waitFor(t, func() bool { return p.Asleep() == 1 })
	if err := p.Do(pool.Spec{Short: true}, pool.All(10), nothing{}); err != nil {
		t.Fatal(err)
	}
	if got, want := p.Shared(), (pool.Shared{Tasks: 1, Alone: 1, Units: 10, Own: 10}); got != want {
		t.Errorf("alone: %+v, want %+v", got, want)
	}
	p = start(t, 2)
	waitFor(t, func() bool { return p.Asleep() == 2 })
	var both sync.WaitGroup
	both.Add(2)
	if err := p.Do(pool.Spec{Short: true}, pool.All(2), unitFunc(func(*pool.Worker, int) { both.Done(); both.Wait() })); err != nil {
		t.Fatal(err)
	}
	if err := p.Do(pool.Spec{}, pool.All(5), nothing{}); err != nil { // not short
		t.Fatal(err)
	}
	if got, want := p.Shared(), (pool.Shared{Tasks: 1, Units: 2, Own: 1}); got != want {
		t.Errorf("both: %+v, want %+v", got, want)
	}
}

// What a unit costs beside its work, and a task.
func BenchmarkDo(b *testing.B) {
	for _, n := range []int{1, 1000} {
		for _, threads := range []int{1, 2} {
			for _, short := range []bool{false, true} {
				b.Run(fmt.Sprintf("units=%d/threads=%d/short=%v", n, threads, short), func(b *testing.B) {
					p := start(b, threads)
					var work pool.Work = nothing{}
					b.ReportAllocs()
					for b.Loop() {
						if err := p.Do(pool.Spec{Short: short}, pool.All(n), work); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// BenchmarkSecond is short tasks of 25 units of 20 µs, one after the other: how long one takes, 250 µs with
// both workers from the first moment to the last, and when the worker begins that isn't the caller.
func BenchmarkSecond(b *testing.B) {
	p := start(b, 2)
	var began time.Time
	var second atomic.Int64 // ns after that; 0: not yet
	work := unitFunc(func(w *pool.Worker, _ int) {
		now := time.Now()
		if w.Index == 1 {
			second.CompareAndSwap(0, int64(now.Sub(began)))
		}
		for time.Since(now) < 20*time.Microsecond {
		}
	})
	var all []int64
	for b.Loop() {
		second.Store(0)
		began = time.Now()
		if err := p.Do(pool.Spec{Class: pool.Query, Short: true}, pool.All(25), work); err != nil {
			b.Fatal(err)
		}
		if n := second.Load(); n > 0 {
			all = append(all, n)
		}
	}
	if len(all) > 0 {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2])/1e3, "µs-to-second")
	}
}
