package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mfac/client"
	"mfac/coordinator"
	"mfac/wire"
)

// gradients are n rows of d normal numbers.
func gradients(seed uint64, n, d int) [][]float32 {
	r := rand.New(rand.NewPCG(seed, 23))
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = normal(r, d)
	}
	return rows
}

// follows checks that H⁻¹v by run is the answer for the rows given, oldest first, at their
// number and N = the window's capacity.
func follows(t *testing.T, run *client.Run, rows [][]float32, v []float64) client.Answer {
	t.Helper()
	x := make([]float64, len(v))
	a, err := run.IHVP64(soon(t), x, v)
	if err != nil {
		t.Fatal(err)
	}
	right(t, run, a, x, rows, v)
	return a
}

func right(t *testing.T, run *client.Run, a client.Answer, x []float64, rows [][]float32, v []float64) {
	t.Helper()
	want, _ := newExact(rows).vector(v, run.Spec().Window, run.Spec().Damping)
	if off := relative(x, want); a.Rows != len(rows) || !(off <= a.Bound()) || !(a.Bound() <= benignBound) {
		t.Errorf("answer %+v, off by %.3g, want %d rows and a small bound", a, off, len(rows))
	}
}

func vector(seed uint64, d int) []float64 {
	return widened(gradients(seed, 1, d)[0])
}

// TestRanks: two ranks publish their halves of each gradient and get theirs of H⁻¹g back.
func TestRanks(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	const d, m, half = 4001, 4, 1700 // not on a shard's border
	cfg := client.RunConfig{Name: "ranks", Dim: d, Window: m, Damping: 1e-2, Shards: 3}
	ranks := []*client.Run{c.attach(c.client(), cfg), c.attach(c.client(), cfg)}
	cfg.Name = "whole"
	whole := c.attach(c.client(), cfg)
	rows := gradients(1, 2*m+1, d)
	want, got := make([]float32, d), make([]float32, d)
	for i, g := range rows {
		step := wire.Step(i)
		var all sync.WaitGroup
		for rank, r := range ranks {
			all.Go(func() {
				lo, hi := 0, half
				if rank == 1 {
					lo, hi = half, d
				}
				if i%2 == 0 {
					a, err := r.PreconditionColumns(soon(t), step, int64(lo), got[lo:hi], g[lo:hi])
					if err != nil || a.Version != wire.Version(i+1) || a.Rows != min(i+1, m) {
						t.Errorf("step %d, rank %d: %+v, %v", i, rank, a, err)
					}
				} else if c, err := r.PublishColumns(soon(t), step, int64(lo), g[lo:hi]); err != nil || c.Version != wire.Version(i+1) {
					t.Errorf("step %d, rank %d: %+v, %v", i, rank, c, err)
				}
			})
		}
		all.Wait()
		if _, err := whole.Precondition(soon(t), step, want, g); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 && !slices.Equal(bits32(got), bits32(want)) {
			t.Errorf("step %d: the ranks' results are not those of the whole gradient", i)
		}
	}
	follows(t, ranks[1], rows[len(rows)-m:], vector(2, d))
	eventually(t, func() error { // the results were closed by both
		info, err := ranks[0].Status(soon(t))
		if err == nil && info.Queries+info.Open > 0 {
			err = fmt.Errorf("%d queries, %d steps are open", info.Queries, info.Open)
		}
		return err
	})
}

// TestPublishers: two publishers take the next step in turn, at their own pace. A step that was
// overtaken by a greater one is refused; the others are all there, in order.
func TestPublishers(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d, m, n = 1200, 8, 60
	cfg := client.RunConfig{Name: "two", Dim: d, Window: m, Damping: 1e-2, Shards: 2, Spare: 2}
	rows := gradients(3, n, d)
	var next atomic.Int64
	var mu sync.Mutex
	versions := map[wire.Version]int{}
	refused := 0
	var all sync.WaitGroup
	for range 2 {
		r := c.attach(c.client(), cfg)
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				commit, err := r.Publish(soon(t), wire.Step(i), rows[i])
				mu.Lock()
				switch {
				case err == nil:
					versions[commit.Version] = i
				case errors.Is(err, wire.ErrNotGrowing):
					refused++
				default:
					t.Errorf("step %d: %v", i, err)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(versions)+refused != n || len(versions) < n/2 {
		t.Fatalf("%d committed, %d refused of %d", len(versions), refused, n)
	}
	var kept [][]float32
	var steps []wire.Step
	last := -1
	for v := range wire.Version(len(versions)) {
		i, ok := versions[v+1]
		if !ok || i <= last {
			t.Fatalf("version %d is step %d, after %d", v+1, i, last)
		}
		last = i
		kept, steps = append(kept, rows[i]), append(steps, wire.Step(i))
	}
	r := c.attach(c.client(), cfg)
	if w, err := r.Steps(soon(t)); err != nil || !slices.Equal(w.Steps, steps[len(steps)-m:]) || w.Version != wire.Version(len(steps)) {
		t.Errorf("the window is %+v (%v), want the steps %v", w, err, steps[len(steps)-m:])
	}
	follows(t, r, kept[len(kept)-m:], vector(4, d))
	t.Logf("%d committed, %d overtaken", len(versions), refused)
}

// TestSuperseded: another publisher opens a step anew; the first one hears of it, and nothing of
// what it sent is in the row.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d = 900
	cfg := client.RunConfig{Name: "anew", Dim: d, Window: 3, Damping: 1e-2, Shards: 2}
	first, second := c.attach(c.client(), cfg), c.attach(c.client(), cfg)
	rows := gradients(5, 2, d)
	failed := make(chan error, 1)
	go func() {
		_, err := first.PublishColumns(soon(t), 7, 0, rows[0][:600], client.WithToken(1))
		failed <- err
	}()
	eventually(t, func() error {
		if info, err := second.Status(soon(t)); err != nil || info.Open != 1 {
			return fmt.Errorf("%d open, %v", info.Open, err)
		}
		return nil
	})
	if commit, err := second.Publish(soon(t), 7, rows[1], client.WithToken(2)); err != nil || commit.Version != 1 {
		t.Fatalf("%+v, %v", commit, err)
	}
	refusal{wire.CodeSuperseded, "attempt", "", ""}.check(t, <-failed)
	got := make([]float32, d)
	if _, err := first.Gradient(soon(t), got, 7); err != nil || !slices.Equal(bits32(got), bits32(rows[1])) {
		t.Errorf("the row is not that of the second publisher (%v)", err)
	}
	// The same token and step again, of one that is committed.
	_, err := first.Publish(soon(t), 7, rows[0], client.WithToken(1))
	refusal{wire.CodeNotGrowing, "step", "7", "above 7"}.check(t, err)
}

// TestManyStopsAtABadRow: what was before a bad row is committed, what is behind is not.
func TestManyStopsAtABadRow(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d, m = 600, 5
	run := c.attach(c.client(), client.RunConfig{Name: "many", Dim: d, Window: m, Damping: 1e-2, Shards: 2, Spare: 3})
	rows := gradients(6, 12, d)
	commits, err := run.PublishMany(soon(t), 100, rows)
	if err != nil {
		t.Fatal(err)
	}
	for i, commit := range commits {
		if commit.Version != wire.Version(i+1) || commit.Rows != min(i+1, m) {
			t.Errorf("row %d: %+v", i, commit)
		}
	}
	more := gradients(7, 6, d)
	more[2][5] = float32(inf)
	commits, err = run.PublishMany(soon(t), 200, more)
	refusal{wire.CodeNotFinite, "column", "5", "finite"}.check(t, err)
	if commits[0].Version != 13 || commits[1].Version != 14 || commits[2].Version != 0 {
		t.Errorf("commits are %+v", commits)
	}
	w, err := run.Steps(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	kept := slices.Clone(rows)
	for i, commit := range commits {
		if commit.Version != 0 {
			kept = append(kept, more[i])
		}
	}
	if w.Version != wire.Version(len(kept)) {
		t.Errorf("version %d, %d commits were told of", w.Version, len(kept))
	}
	follows(t, run, kept[len(kept)-m:], vector(8, d))
}

// TestPinnedQueries asks while publishing goes on: each answer is exact for the version that it
// names, and at_least, exactly and min_rows mean what they say.
func TestPinnedQueries(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d, m, n = 300, 6, 80
	cfg := client.RunConfig{Name: "pinned", Dim: d, Window: m, Damping: 1e-2, Shards: 2, Spare: 2}
	rows := gradients(9, n, d)
	window := func(v wire.Version) [][]float32 { return rows[max(0, int(v)-m):v] }
	var published atomic.Uint64 // version
	var all sync.WaitGroup
	publisher := c.attach(c.client(), cfg)
	all.Go(func() {
		for i, g := range rows {
			commit, err := publisher.Publish(soon(t), wire.Step(i), g)
			if err != nil || commit.Version != wire.Version(i+1) {
				t.Errorf("publish %d: %+v, %v", i, commit, err)
				return
			}
			published.Store(uint64(commit.Version))
		}
	})
	var answers, behind, gone, few atomic.Int64
	for reader := range 3 {
		run := c.attach(c.client(), cfg)
		all.Go(func() {
			v, x := vector(uint64(10+reader), d), make([]float64, d)
			for published.Load() < n && !t.Failed() {
				now := wire.Version(published.Load())
				// What is committed, as its publisher has been told, is seen.
				a, err := run.IHVP64(soon(t), x, v, client.WithAtLeast(now))
				if err != nil {
					t.Errorf("at least %d: %v", now, err)
					return
				}
				if a.Version < now {
					t.Errorf("answer of version %d, asked for %d at least", a.Version, now)
				}
				right(t, run, a, x, window(a.Version), v)
				answers.Add(1)

				b, err := run.IHVP64(soon(t), x, v, client.WithExactly(a.Version))
				switch {
				case a.Version == 0:
					refusal{wire.CodeInvalid, "exactly", "0", "> 0"}.check(t, err)
				case errors.Is(err, wire.ErrVersionGone):
					gone.Add(1)
				case err != nil || b.Version != a.Version:
					t.Errorf("exactly %d: %+v, %v", a.Version, b, err)
				default:
					right(t, run, b, x, window(b.Version), v)
				}
				if _, err := run.IHVP64(soon(t), x, v, client.WithAtLeast(now+1000)); errors.Is(err, wire.ErrBehind) {
					behind.Add(1)
				} else {
					t.Errorf("a version to come: %v", err)
				}
				a, err = run.IHVP64(soon(t), x, v, client.WithMinRows(m))
				switch {
				case errors.Is(err, wire.ErrTooFewRows) && now < m:
					few.Add(1)
				case err != nil || a.Rows != m:
					t.Errorf("%d rows at least: %+v, %v", m, a, err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d answers, %d versions gone, %d behind, %d times too few rows", answers.Load(), gone.Load(), behind.Load(), few.Load())
	if answers.Load() == 0 || behind.Load() == 0 {
		t.Error("nothing was asked while publishing went on")
	}
}

// handOver publishes all the time while change makes another coordinator take the run over. Each
// step is committed once; then the answers are what they were.
func handOver(t *testing.T, change func(*cluster)) {
	c := start(t, shape{workers: 3})
	const d, m = 2000, 6
	cfg := client.RunConfig{Name: "handed", Dim: d, Window: m, Damping: 1e-2, Shards: 3}
	run, reader := c.attach(c.client(), cfg), c.attach(c.client(), cfg)
	rows := gradients(11, 400, d)
	v, row := vector(12, d), make([]float32, d)
	publish := func(from, to int) {
		for i := from; i < to; i++ {
			commit, err := run.Publish(soon(t), wire.Step(i), rows[i])
			if err != nil || commit.Version != wire.Version(i+1) {
				t.Fatalf("step %d: %+v, %v", i, commit, err)
			}
		}
	}
	publish(0, m+3)
	before := follows(t, reader, rows[3:m+3], v)
	c.startCoordinator("c1")
	c.stopping(func() { change(c) })
	after := follows(t, reader, rows[3:m+3], v)
	if after.Version != before.Version {
		t.Errorf("version %d after the change, %d before", after.Version, before.Version)
	}
	for i := 3; i < m+3; i++ {
		if _, err := reader.Gradient(soon(t), row, wire.Step(i)); err != nil || !slices.Equal(bits32(row), bits32(rows[i])) {
			t.Errorf("the row of step %d has changed (%v)", i, err)
		}
	}
	info, err := reader.Status(soon(t))
	if err != nil || info.Coord != "c1" || info.Lost != 0 {
		t.Errorf("the run is %+v, %v: want it at c1 with nothing lost", info, err)
	}
	// And back, in mid-publication.
	c.startCoordinator("c2")
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(20 * time.Millisecond) // into the publishing, no more than that
		c.stopping(func() { c.stopCoordinator("c1") })
	}()
	i := m + 3
	for ; ; i++ {
		select {
		case <-done:
			publish(i, i+m)
			follows(t, reader, rows[i:i+m], v)
			return
		default:
			if i == len(rows)-m {
				t.Fatal("the coordinator takes longer to stop than all publishing")
			}
			publish(i, i+1)
		}
	}
}

func (c *cluster) stopping(f func()) {
	begun := time.Now()
	f()
	c.t.Logf("the coordinator was gone after %v", time.Since(begun).Round(time.Millisecond))
}

func TestCoordinatorStops(t *testing.T) {
	t.Parallel()
	handOver(t, func(c *cluster) { c.stopCoordinator("c0") })
}

func TestCoordinatorCrashes(t *testing.T) {
	t.Parallel()
	handOver(t, func(c *cluster) { c.crashCoordinator("c0") })
}

// TestWorkerRestarts: what a worker held in memory is gone with it. The steps leave the window on
// all shards, the status says how many, min_rows guards, and publishing goes on.
func TestWorkerRestarts(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d, m = 1500, 5
	cfg := client.RunConfig{Name: "lossy", Dim: d, Window: m, Damping: 1e-2, Shards: 3}
	run := c.attach(c.client(), cfg)
	rows := gradients(13, 3*m, d)
	v, x := vector(14, d), make([]float64, d)
	if _, err := run.PublishMany(soon(t), 1, rows[:m+2]); err != nil {
		t.Fatal(err)
	}
	before := follows(t, run, rows[2:m+2], v)
	for round, restart := range []func(id string){
		func(id string) { // by itself, at once
			c.stopWorker(id)
			c.startWorker(id, 1<<30, 0)
		},
		func(id string) { // for good: its shards move to others
			c.startWorker("w2", 1<<30, 0)
			c.crashWorker(id)
		},
	} {
		info, err := run.Status(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		restart(info.Workers[info.Owner[0]]) // one that holds shards: a busy machine may have moved some
		eventually(t, func() error {
			info, err := run.Status(soon(t))
			if err == nil && (info.State != wire.StateReady || info.Rows > 0) {
				err = fmt.Errorf("the run is %s with %d rows", info.State, info.Rows)
			}
			return err
		})
		info, err = run.Status(soon(t))
		if err != nil || info.Rows != 0 || info.Lost == 0 {
			t.Fatalf("round %d: %+v, %v", round, info, err)
		}
		if lost := min(m, before.Rows); info.Lost != lost {
			t.Errorf("round %d: %d rows lost by the status, want %d", round, info.Lost, lost)
		}
		_, err = run.IHVP64(soon(t), x, v, client.WithMinRows(m))
		refusal{wire.CodeTooFewRows, "rows", "0", "at least 5"}.check(t, err)
		if a := follows(t, run, nil, v); a.Version <= before.Version {
			t.Errorf("round %d: version %d, was %d before rows were lost", round, a.Version, before.Version)
		}
		_, err = run.IHVP64(soon(t), x, v, client.WithExactly(before.Version))
		refusal{wire.CodeVersionGone, "exactly", fmt.Sprint(before.Version), ""}.check(t, err)
		// Steps stay growing across the loss.
		if _, err := run.Publish(soon(t), 3, rows[0]); round == 0 && !errors.Is(err, wire.ErrNotGrowing) {
			t.Errorf("a step of before the loss: %v", err)
		}
		first := wire.Step(100 * (round + 1))
		if _, err := run.PublishMany(soon(t), first, rows[m+2:m+5]); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		before = follows(t, run, rows[m+2:m+5], v)
	}
}

// TestAllIsLost: who takes over a run of which nobody is left who knew its rows says that there
// were some, also at the first takeover after its first gradient.
func TestAllIsLost(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	cl := c.client()
	run := c.attach(cl, client.RunConfig{Name: "gone", Dim: 100, Window: 3, Damping: 1})
	if info, err := run.Status(soon(t)); err != nil || info.Lost != 0 {
		t.Fatalf("before any row: %+v, %v", info, err)
	}
	if _, err := run.Publish(soon(t), 7, make([]float32, 100)); err != nil {
		t.Fatal(err)
	}
	c.crashCoordinator("c0")
	c.crashWorker("w0")
	c.startWorker("w0", 1<<30, 0)
	c.startCoordinator("c1")
	eventually(t, func() error {
		info, err := run.Status(soon(t))
		if err == nil && info.State != wire.StateReady {
			err = fmt.Errorf("the run is %s", info.State)
		} else if err == nil && (info.Rows != 0 || info.Lost == 0) {
			t.Fatalf("%+v: the status does not say that rows were lost", info)
		}
		return err
	})
	if _, err := run.Publish(soon(t), 7, make([]float32, 100)); !errors.Is(err, wire.ErrNotGrowing) {
		t.Errorf("the step that was lost, once more: %v", err)
	}
}

// TestDelete frees memory, and the name may be used for another run.
func TestDelete(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2, capacity: 3 << 20})
	cl := c.client()
	used := func() (sum int64) {
		list, err := cl.Workers(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range list {
			sum += w.Used
		}
		return sum
	}
	for i, d := range []int{50_000, 61_001, 40_007} { // two of them would not fit
		cfg := client.RunConfig{Name: "again", Dim: int64(d), Window: 16, Damping: 1, Shards: 2}
		run := c.attach(cl, cfg)
		g := gradients(uint64(15+i), 1, d)[0]
		if commit, err := run.Publish(soon(t), 1, g); err != nil || commit.Version != 1 {
			t.Fatalf("%+v, %v", commit, err)
		}
		eventually(t, func() error {
			if n := used(); n < int64(d)*18*4 {
				return fmt.Errorf("workers use %d bytes", n)
			}
			return nil
		})
		if err := cl.Delete(soon(t), "again"); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if n := used(); n != 0 {
				return fmt.Errorf("workers use %d bytes", n)
			}
			return nil
		})
		_, err := run.Publish(soon(t), 2, g)
		refusal{wire.CodeUnknownRun, "run", "again", "exists"}.check(t, err)
		if runs, err := cl.Runs(soon(t)); err != nil || len(runs) != 0 {
			t.Errorf("runs are %v, %v", runs, err)
		}
	}
	// A handle of a run that was deleted and made anew is not one of the new run.
	cfg := client.RunConfig{Name: "again", Dim: 100, Window: 2, Damping: 1}
	old := c.attach(cl, cfg)
	if _, err := old.Publish(soon(t), 1, make([]float32, 100)); err != nil {
		t.Fatal(err)
	}
	if err := cl.Delete(soon(t), "again"); err != nil {
		t.Fatal(err)
	}
	cfg.Dim = 200
	c.attach(cl, cfg)
	if _, err := old.Status(soon(t)); !errors.Is(err, wire.ErrUnknownRun) {
		t.Errorf("the old handle: %v", err)
	}
	if _, err := old.Publish(soon(t), 2, make([]float32, 100)); err == nil {
		t.Error("a gradient of the old run is in the new one")
	}
}

// TestLeftOver: a worker that was away when a run was deleted, and holds its rows when there is
// another run of that name, is told to free them.
func TestLeftOver(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	c.attach(cl, client.RunConfig{Name: "again", Dim: 100, Window: 2, Damping: 1, Shards: 1})
	s := c.stranger("c9") // a coordinator of long ago
	var info *wire.Info
	eventually(t, func() error {
		if info = s.info("again"); info.State != wire.StateReady {
			return fmt.Errorf("the run is %s", info.State)
		}
		return nil
	})
	list, err := cl.Workers(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list {
		if w.ID == info.Workers[0] {
			continue
		}
		head := wire.Shard{Seq: 1, Run: "again", Epoch: wire.Epoch{Incarnation: info.Epoch.Incarnation, Revision: 1}}
		ask := func(m wire.Control) wire.Message { return s.ask(s.sub.Control(w.ID, m.Type(), s.name), m) }
		eventually(t, func() error { // it asks first which the incarnation is
			m := ask(&wire.Adopt{Shard: head, Instance: w.Instance, UID: info.UID + 1, Placed: 1, Cols: 1000, Slots: 4, Store: wire.F32})
			if e, ok := m.(*wire.Error); ok {
				return e
			}
			return nil
		})
		ask(&wire.Install{Shard: head})
		eventually(t, func() error {
			m := ask(&wire.CloseQuery{Shard: head})
			if e, ok := m.(*wire.Error); !ok || e.Code != wire.CodeUnknownShard {
				return fmt.Errorf("worker %s still holds a shard of the old run: %+v", w.ID, m)
			}
			return nil
		})
	}
	if now := s.info("again"); now.Epoch != info.Epoch || now.State != wire.StateReady {
		t.Errorf("the new run is %+v", now)
	}
}

// TestAbandonedQuery: a query that its client never closes pins its version until its deadline.
// A publisher that needs its slot hears busy until then, and the query is told version_gone.
func TestAbandonedQuery(t *testing.T) {
	t.Parallel()
	const deadline = 2500 * time.Millisecond
	c := start(t, shape{workers: 2, coordinator: coordinator.ServiceConfig{QueryDeadline: deadline}})
	s := c.stranger("stranger")
	const d, m = 500, 2
	run := c.attach(c.client(), client.RunConfig{Name: "abandoned", Dim: d, Window: m, Damping: 1, Shards: 2, Spare: 1})
	rows := gradients(18, 8, d)
	if _, err := run.PublishMany(soon(t), 0, rows[:3]); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	q := as[*wire.QueryReply](t, s.coordinator(&wire.Query{Run: "abandoned", Token: 1, Kind: wire.KindVector, Vectors: 1, DType: wire.F64, Result: wire.F64}))
	if _, err := run.Publish(soon(t), 3, rows[3]); err != nil { // into the spare slot
		t.Fatal(err)
	}
	// The next one takes a slot that the query reads.
	refusal{wire.CodeBusy, "slot", "", "free"}.answer(t, s.ask(s.sub.Coordinator(wire.OpOpen, s.name), &wire.Open{Run: "abandoned", Step: 4}))
	_, err := run.Publish(within(t, 200*time.Millisecond), 4, rows[4])
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, wire.ErrBusy) {
		t.Errorf("error is %v, want a timeout because the publisher was busy", err)
	}
	if _, err := run.Publish(soon(t), 4, rows[4]); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(begun); waited < deadline-200*time.Millisecond {
		t.Errorf("published after %v, the query's deadline is %v", waited, deadline)
	}
	refusal{wire.CodeVersionGone, "query", fmt.Sprint(q.Query), "deadline"}.answer(t, s.coordinator(&wire.Result{Run: "abandoned", Epoch: q.Epoch, Query: q.Query}))
	follows(t, run, rows[3:5], vector(19, d))
	eventually(t, func() error {
		var used int64
		for _, w := range as[*wire.StatusReply](t, s.ask(s.sub.Coordinator(wire.OpStatus, s.name), &wire.Status{})).Workers {
			used += w.Used
		}
		if want := int64(3 * 256 * 4 * 2); used != want { // 250 columns in lines of 16
			return fmt.Errorf("workers use %d bytes, want %d", used, want)
		}
		return nil
	})
}

// slow is a sink that takes its time.
type slow struct {
	x     []float64
	pause func()
}

func (s *slow) WriteColumns(src []float64, lo int64) error {
	s.pause()
	copy(s.x[lo:], src)
	return nil
}

// ReadColumns makes it a source too.
func (s *slow) ReadColumns(dst []float64, lo int64) error {
	copy(dst, s.x[lo:])
	return nil
}

// TestSlowFetch: a client takes a result in small pieces, slowly, while another one publishes. The
// result is that of the one version that the answer names.
func TestSlowFetch(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d, m = 6000, 3
	cfg := client.RunConfig{Name: "slow", Dim: d, Window: m, Damping: 1e-2, Shards: 2, Spare: 2}
	reader, publisher := c.attach(c.client(client.WithChunkBytes(4096)), cfg), c.attach(c.client(), cfg)
	rows := gradients(20, 40, d)
	if _, err := publisher.PublishMany(soon(t), 0, rows[:m]); err != nil {
		t.Fatal(err)
	}
	v := vector(21, d)
	var committed atomic.Int64
	committed.Store(m)
	var pieces atomic.Int64
	sink := &slow{x: make([]float64, d), pause: func() {
		pieces.Add(1)
		time.Sleep(20 * time.Millisecond) // this is the client that is slow
	}}
	ctx, cancel := context.WithCancel(soon(t))
	var all sync.WaitGroup
	all.Go(func() {
		for i := m; i < len(rows); i++ {
			if _, err := publisher.Publish(ctx, wire.Step(i), rows[i]); err != nil {
				if ctx.Err() == nil {
					t.Errorf("publish %d: %v", i, err)
				}
				return
			}
			committed.Add(1)
		}
	})
	a, err := reader.IHVPFrom64(soon(t), sink, &slow{x: v})
	during := committed.Load()
	cancel()
	all.Wait()
	if err != nil {
		t.Fatal(err)
	}
	right(t, reader, a, sink.x, rows[int(a.Version)-m:a.Version], v)
	t.Logf("%d pieces of version %d; at the end %d steps were committed", pieces.Load(), a.Version, during)
	if during <= int64(a.Version) {
		t.Error("no step was committed while the result was fetched")
	}
}

// TestManyClients: 64 clients, each with a run of its own, all at once.
func TestManyClients(t *testing.T) {
	const clients, d, m = 64, 700, 3
	c := start(t, shape{workers: 3})
	ctx := within(t, time.Minute)
	var all sync.WaitGroup
	for i := range clients {
		cl := c.client()
		all.Go(func() {
			run, err := cl.Attach(ctx, client.RunConfig{Name: fmt.Sprintf("r%d", i), Dim: d, Window: m, Damping: 1e-2, Shards: 1 + i%3})
			if err != nil {
				t.Error(err)
				return
			}
			rows := gradients(uint64(100+i), m+2, d)
			x := make([]float64, d)
			for step, g := range rows {
				if a, err := run.Precondition64(ctx, wire.Step(step), x, g); err != nil || a.Version != wire.Version(step+1) {
					t.Errorf("client %d, step %d: %+v, %v", i, step, a, err)
					return
				}
			}
			right(t, run, client.Answer{Rows: m, Bounds: []float64{benignBound}}, x, rows[2:], widened(rows[m+1]))
			v := vector(uint64(200+i), d)
			a, err := run.IHVP64(ctx, x, v)
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			right(t, run, a, x, rows[2:], v)
		})
	}
	all.Wait()
	if runs, err := c.client().Runs(ctx); err != nil || len(runs) != clients {
		t.Errorf("%d runs, %v", len(runs), err)
	}
}

// TestContexts: every call that waits ends soon after its context does, whatever it waits for.
func TestContexts(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	const d = 400
	cl := c.client()
	run := c.attach(cl, client.RunConfig{Name: "ctx", Dim: d, Window: 2, Damping: 1})
	g := gradients(22, 1, d)[0]
	if _, err := run.Publish(soon(t), 1, g); err != nil {
		t.Fatal(err)
	}
	const late = 2 * time.Second
	check := func(t *testing.T, name string, f func(context.Context) error) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for kind, want := range map[string]error{"cancel": context.Canceled, "deadline": context.DeadlineExceeded, "over": context.Canceled} {
				ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
				defer cancel()
				switch kind {
				case "cancel":
					var stop context.CancelFunc
					ctx, stop = context.WithCancel(t.Context())
					time.AfterFunc(150*time.Millisecond, stop)
				case "over":
					var stop context.CancelFunc
					ctx, stop = context.WithCancel(t.Context())
					stop()
				}
				begun := time.Now()
				err := f(ctx)
				if took := time.Since(begun); took > late || !errors.Is(err, want) {
					t.Errorf("%s: %v after %v, want %v soon", kind, err, took, want)
				}
			}
		})
	}
	columns := func(ctx context.Context) error {
		_, err := run.PublishColumns(ctx, 2, 0, g[:100])
		return err
	}
	t.Run("other ranks", func(t *testing.T) { check(t, "publish", columns) })
	// Nobody owns runs any more.
	c.crashCoordinator("c0")
	x := make([]float32, d)
	t.Run("no coordinator", func(t *testing.T) {
		for name, f := range map[string]func(context.Context) error{
			"attach": func(ctx context.Context) error {
				_, err := cl.Attach(ctx, client.RunConfig{Name: "no", Dim: 1, Window: 1})
				return err
			},
			"join":         func(ctx context.Context) error { _, err := cl.Join(ctx, "ctx"); return err },
			"delete":       func(ctx context.Context) error { return cl.Delete(ctx, "ctx") },
			"runs":         func(ctx context.Context) error { _, err := cl.Runs(ctx); return err },
			"workers":      func(ctx context.Context) error { _, err := cl.Workers(ctx); return err },
			"status":       func(ctx context.Context) error { _, err := run.Status(ctx); return err },
			"steps":        func(ctx context.Context) error { _, err := run.Steps(ctx); return err },
			"layout":       func(ctx context.Context) error { _, err := run.Layout(ctx); return err },
			"publish":      func(ctx context.Context) error { _, err := run.Publish(ctx, 3, g); return err },
			"many":         func(ctx context.Context) error { _, err := run.PublishMany(ctx, 3, [][]float32{g, g, g}); return err },
			"columns":      columns,
			"precondition": func(ctx context.Context) error { _, err := run.Precondition(ctx, 3, make([]float32, d), g); return err },
			"ihvp":         func(ctx context.Context) error { _, err := run.IHVP(ctx, make([]float32, d), g); return err },
			"step":         func(ctx context.Context) error { _, err := run.IHVPStep(ctx, make([]float32, d), 1); return err },
			"gradient":     func(ctx context.Context) error { _, err := run.Gradient(ctx, make([]float32, d), 1); return err },
		} {
			check(t, name, f)
		}
	})
	c.startCoordinator("c1")
	if _, err := run.IHVP(soon(t), x, g); err != nil {
		t.Errorf("with a coordinator again: %v", err)
	}
	// A worker that is away in the middle of things.
	c.crashWorker("w0")
	t.Run("no worker", func(t *testing.T) {
		check(t, "publish", func(ctx context.Context) error { _, err := run.Publish(ctx, 3, g); return err })
		check(t, "ihvp", func(ctx context.Context) error { _, err := run.IHVP(ctx, make([]float32, d), g); return err })
		check(t, "gradient", func(ctx context.Context) error { _, err := run.Gradient(ctx, make([]float32, d), 1); return err })
	})
}
