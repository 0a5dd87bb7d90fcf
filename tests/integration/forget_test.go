package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// TestForget: after any forgets and publishes, at random, the window is the rows that stay, bit by
// bit, and an answer is within its bound of the exact one for them.
func TestForget(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		if runs > 12 && testing.Short() {
			return
		}
		d, m := rapid.IntRange(3, 1500).Draw(t, "d"), rapid.IntRange(1, 7).Draw(t, "m")
		store := rapid.SampledFrom([]wire.DType{wire.F32, wire.BF16, wire.F16}).Draw(t, "store")
		divisor := rapid.SampledFrom([]wire.Divisor{wire.Capacity, wire.Count}).Draw(t, "divisor")
		cfg := client.RunConfig{Name: fmt.Sprintf("forget-%d", runs), Dim: int64(d), Window: m, Damping: 1e-2, Store: store, Divisor: divisor,
			Shards: rapid.IntRange(1, 3).Draw(t, "shards")}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		run, err := cl.Attach(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := cl.Delete(ctx, cfg.Name); err != nil {
				t.Error(err)
			}
		}()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var steps []wire.Step
		var rows [][]float32
		version, next := wire.Version(0), wire.Step(1)
		read := func(s wire.Step) []float32 {
			row := make([]float32, d)
			if _, err := run.Gradient(ctx, row, s); err != nil {
				t.Fatal(err)
			}
			return row
		}
		for range rapid.IntRange(1, 12).Draw(t, "ops") {
			version++
			if len(steps) == 0 || rapid.Float64Range(0, 1).Draw(t, "op") < 0.65 {
				commit, err := run.Publish(ctx, next, normal(r, d))
				if err != nil || commit.Version != version {
					t.Fatalf("publish: %+v, %v", commit, err)
				}
				if len(steps) == m {
					steps, rows = steps[1:], rows[1:]
				}
				steps, rows = append(steps, next), append(rows, read(next))
				next += wire.Step(1 + r.IntN(3))
				continue
			}
			var gone []wire.Step
			for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(steps)-1), 1, len(steps), rapid.ID).Draw(t, "gone") {
				gone = append(gone, steps[i])
			}
			if _, err := run.Forget(ctx, append(gone, next+5)...); !errors.Is(err, wire.ErrUnknownStep) {
				t.Fatalf("forget of a step that isn't there: %v", err)
			}
			commit, err := run.Forget(ctx, gone...)
			if err != nil || commit.Version != version || commit.Rows != len(steps)-len(gone) {
				t.Fatalf("forget %v of %v: %+v, %v", gone, steps, commit, err)
			}
			for i := len(steps) - 1; i >= 0; i-- {
				if slices.Contains(gone, steps[i]) {
					steps, rows = slices.Delete(steps, i, i+1), slices.Delete(rows, i, i+1)
				}
			}
		}
		w, err := run.Steps(ctx)
		if err != nil || w.Version != version || !slices.Equal(w.Steps, steps) {
			t.Fatalf("window %+v, %v; want version %d, %v", w, err, version, steps)
		}
		for i, s := range steps {
			if !slices.Equal(bits32(read(s)), bits32(rows[i])) {
				t.Fatalf("the row of step %d has changed", s)
			}
		}
		n := m
		if divisor == wire.Count {
			n = len(rows)
		}
		v, x := widened(normal(r, d)), make([]float64, d)
		a, err := run.IHVP64(ctx, x, v)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := newExact(rows).vector(v, n, cfg.Damping)
		if off := relative(x, want); a.Rows != len(rows) || !(off <= a.Bound()) || !(a.Bound() <= benignBound) {
			t.Fatalf("answer %+v, off by %.3g, for %d rows", a, off, len(rows))
		}
	})
}

// TestForgetIsNothing: publish and forget, of real gradients, leaves the answers of before: bit by bit
// where it was the newest, and so is a λ that is set and set back; another λ is another run's.
func TestForgetIsNothing(t *testing.T) {
	t.Parallel()
	v := openVectors(t)
	grads, vec := v.grads(), widened(v.f32("v"))
	c := start(t, shape{workers: 3})
	run := c.attach(c.client(), client.RunConfig{Name: "nothing", Dim: vectorsDim, Window: vectorsWindow, Damping: 1e-2, Shards: 4})
	x, was := make([]float64, vectorsDim), make([]float64, vectorsDim)
	if _, err := run.PublishMany(soon(t), 0, grads[:10]); err != nil {
		t.Fatal(err)
	}
	ask := func(dst []float64) client.Answer {
		t.Helper()
		a, err := run.IHVP64(soon(t), dst, vec)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ask(was)
	check64(t, "ten gradients", was, v.f64("ihvp_part_0.01"), tolFloat64)
	if _, err := run.PublishMany(soon(t), 10, grads[10:15]); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Forget(soon(t), 12, 14, 10, 13, 11); err != nil {
		t.Fatal(err)
	}
	a := ask(x)
	if !slices.Equal(bits64(x), bits64(was)) || a.Version != 16 || a.Rows != 10 {
		t.Errorf("after publish and forget: other bits, %+v", a)
	}
	// In the middle: the factor was updated, the answer is within the bounds.
	if _, err := run.PublishMany(soon(t), 20, grads[10:15]); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Forget(soon(t), 3, 21); err != nil {
		t.Fatal(err)
	}
	stay := newExact(slices.Concat(grads[:3], grads[4:11], grads[12:15]))
	check := func(what string, x []float64, a client.Answer, lambda float64) {
		t.Helper()
		want, _ := stay.vector(vec, vectorsWindow, lambda)
		off := relative(x, want)
		t.Logf("%s: off by %.2g, bound %.2g", what, off, a.Bound())
		if !(off <= a.Bound()) {
			t.Errorf("%s: off by %.3g, bound %.3g", what, off, a.Bound())
		}
	}
	check("rows in the middle forgotten", x, ask(x), 1e-2)
	// The other damping, as a run made with it, and as an override.
	if _, err := run.Set(soon(t), 1e-5, ""); err != nil {
		t.Fatal(err)
	}
	if got := run.Spec().Damping; got != 1e-5 {
		t.Errorf("the run's damping is %g", got)
	}
	set := ask(x)
	check("another damping set", x, set, 1e-5)
	over, err := run.IHVP64(soon(t), was, vec, client.WithDamping(1e-2))
	if err != nil {
		t.Fatal(err)
	}
	check("the old damping asked for", was, over, 1e-2)
	if set.Version != over.Version {
		t.Errorf("a set has made version %d of %d", set.Version, over.Version)
	}
}

// TestForgetWaitsForNoOne: a query on a row that is forgotten ends with an error, for whoever asked it, at once;
// one that reads another row is answered. The slot is used again.
func TestForgetWaitsForNoOne(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	s := c.stranger("stranger")
	const d, m = 900, 4
	run := c.attach(c.client(), client.RunConfig{Name: "pinned", Dim: d, Window: m, Damping: 1, Shards: 2, Spare: 1})
	rows := gradients(31, 12, d)
	if _, err := run.PublishMany(soon(t), 1, rows[:3]); err != nil {
		t.Fatal(err)
	}
	open := func(m *wire.Query) *wire.QueryReply {
		t.Helper()
		m.Run = "pinned"
		return as[*wire.QueryReply](t, s.coordinator(m))
	}
	vector := open(&wire.Query{Token: 1, Kind: wire.KindVector, Vectors: 1, DType: wire.F64, Result: wire.F64})
	row := open(&wire.Query{Token: 2, Kind: wire.KindRow, Vectors: 1, Result: wire.F32, Payload: wire.AppendUint64s(nil, []wire.Step{2})})
	other := open(&wire.Query{Token: 3, Kind: wire.KindRow, Vectors: 1, Result: wire.F32, Payload: wire.AppendUint64s(nil, []wire.Step{3})})
	result := func(q *wire.QueryReply) wire.Message {
		return s.coordinator(&wire.Result{Run: "pinned", Epoch: q.Epoch, Query: q.Query})
	}
	for _, q := range []*wire.QueryReply{row, other} {
		if r := as[*wire.ResultReply](t, result(q)); r.State != wire.StateReady {
			t.Fatalf("%+v", r)
		}
	}
	begun := time.Now()
	if _, err := run.Forget(soon(t), 2); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a forget took %v beside open queries", took)
	}
	info := s.info("pinned")
	fetch := func(q *wire.QueryReply) wire.Message {
		w := info.Workers[info.Owner[0]]
		return s.worker(w, &wire.Fetch{Run: "pinned", Epoch: q.Epoch, Query: q.Query, N: 100, DType: wire.F32})
	}
	for _, q := range []*wire.QueryReply{vector, row} {
		refusal{wire.CodeVersionGone, "query", fmt.Sprint(q.Query), "rows that are in memory"}.answer(t, result(q))
		refusal{wire.CodeUnknownQuery, "query", fmt.Sprint(q.Query), ""}.answer(t, fetch(q))
	}
	if p := as[*wire.Part](t, fetch(other)); !slices.Equal(p.Payload, payload32(rows[2][:100])) {
		t.Error("the other row has changed")
	}
	// All slots are used in turn, which takes the query that is still open out of the way.
	s.coordinator(&wire.Close{Run: "pinned", Epoch: other.Epoch, Query: other.Query})
	if _, err := run.PublishMany(soon(t), 5, rows[3:]); err != nil {
		t.Fatal(err)
	}
	follows(t, run, rows[8:], widened(rows[0]))
	if _, err := run.Forget(soon(t), 2); !errors.Is(err, wire.ErrUnknownStep) {
		t.Errorf("forget what is forgotten: %v", err)
	}
	// The same request again, from the same client, is one: it is answered, and changes nothing.
	m1 := &wire.Forget{Run: "pinned", Token: 9, Payload: wire.AppendUint64s(nil, []wire.Step{13})}
	first := as[*wire.WaitReply](t, s.coordinator(m1))
	if _, err := run.Publish(soon(t), 50, rows[0]); err != nil {
		t.Fatal(err)
	}
	if again := as[*wire.WaitReply](t, s.coordinator(m1)); again.Version != first.Version || again.State != wire.StateCommitted {
		t.Errorf("again: %+v, first %+v", again, first)
	}
}

// TestForgetMeanwhile: one publishes, one asks, one forgets, and the coordinator is killed. What is told
// forgotten stays away, what is not stays.
func TestForgetMeanwhile(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	const d, m = 1200, 6
	cfg := client.RunConfig{Name: "busy", Dim: d, Window: m, Damping: 1e-2, Shards: 3}
	run, reader, forgetter := c.attach(c.client(), cfg), c.attach(c.client(), cfg), c.attach(c.client(), cfg)
	rows := gradients(33, 160, d)
	ctx := within(t, 60*time.Second)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		x := make([]float64, d)
		for ctx.Err() == nil {
			if _, err := reader.IHVP64(ctx, x, widened(rows[0])); err != nil && ctx.Err() == nil && !errors.Is(err, wire.ErrVersionGone) {
				t.Errorf("ask: %v", err)
			}
		}
	})
	forgot := map[wire.Step]bool{}
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			w, err := forgetter.Steps(ctx)
			if err != nil || len(w.Steps) < 2 {
				continue
			}
			step := w.Steps[i%len(w.Steps)]
			_, err = forgetter.Forget(soon(t), step) // not ctx: what is given up may be done later
			switch {
			case err == nil:
				forgot[step] = true
			case !errors.Is(err, wire.ErrUnknownStep):
				t.Errorf("forget step %d: %v", step, err)
			default: // it has slid out of the window
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	for i, g := range rows {
		if _, err := run.Publish(ctx, wire.Step(i), g); err != nil {
			t.Fatalf("publish: %v", err)
		}
		if i == len(rows)/2 {
			c.startCoordinator("c1")
			c.crashCoordinator("c0")
		}
	}
	stop()
	wg.Wait()
	w, err := run.Steps(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	var left [][]float32
	for _, s := range w.Steps {
		if forgot[s] {
			t.Errorf("step %d was forgotten and is in %v", s, w.Steps)
		}
		left = append(left, rows[s])
	}
	follows(t, run, left, widened(rows[0]))
	if info, err := run.Status(soon(t)); err != nil || info.Lost != 0 {
		t.Errorf("%d rows count as lost, %v", info.Lost, err)
	}
	t.Logf("%d steps forgotten, %v are left", len(forgot), w.Steps)
}

// TestSet: the damping and the divisor of a live run. Others see them, who attaches with the old ones hears
// of it, a new owner has them, and queries that are open keep theirs.
func TestSet(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	s := c.stranger("stranger")
	const d, m = 700, 5
	cfg := client.RunConfig{Name: "live", Dim: d, Window: m, Damping: 1e-2, Shards: 2}
	run, other := c.attach(c.client(), cfg), c.attach(c.client(), cfg)
	rows := gradients(35, m-2, d)
	v := vector(36, d)
	if _, err := run.PublishMany(soon(t), 1, rows); err != nil {
		t.Fatal(err)
	}
	before := follows(t, run, rows, v)
	pinned := as[*wire.QueryReply](t, s.coordinator(&wire.Query{Run: "live", Token: 1, Kind: wire.KindVector, Vectors: 1, DType: wire.F64, Result: wire.F64}))
	done, err := run.Set(soon(t), 0.5, wire.Count)
	if err != nil || done.Version != before.Version || done.Rows != len(rows) {
		t.Fatalf("set: %+v, %v", done, err)
	}
	if got := run.Spec(); got.Damping != 0.5 || got.Divisor != wire.Count {
		t.Errorf("the spec is %+v", got)
	}
	check := func(run *client.Run, n int, lambda float64) {
		t.Helper()
		x := make([]float64, d)
		a, err := run.IHVP64(soon(t), x, v)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := newExact(rows).vector(v, n, lambda)
		if off := relative(x, want); !(off <= a.Bound()) || !(a.Bound() <= benignBound) {
			t.Errorf("off by %.3g, %+v", off, a)
		}
	}
	check(run, len(rows), 0.5)
	check(other, len(rows), 0.5)
	// The open query is answered at the damping that it was asked at.
	info := s.info("live")
	for i, w := range info.Owner {
		lo, n := info.Range(i)
		p := wire.AppendFloats(nil, v[lo:lo+n])
		as[*wire.Ack](t, s.worker(info.Workers[w], &wire.Vec{Run: "live", Epoch: pinned.Epoch, Query: pinned.Query, Shard: i, Lo: lo, N: n, DType: wire.F64, Sum: wire.Checksum(p), Payload: p}))
	}
	eventually(t, func() error {
		if r := as[*wire.ResultReply](t, s.coordinator(&wire.Result{Run: "live", Epoch: pinned.Epoch, Query: pinned.Query})); r.State != wire.StateReady {
			return errors.New("pending")
		}
		return nil
	})
	var x []float64
	for i, w := range info.Owner {
		lo, n := info.Range(i)
		x = append(x, wire.Floats(as[*wire.Part](t, s.worker(info.Workers[w], &wire.Fetch{Run: "live", Epoch: pinned.Epoch, Query: pinned.Query, Shard: i, Lo: lo, N: n, DType: wire.F64})).Payload)...)
	}
	want, _ := newExact(rows).vector(v, m, 1e-2)
	if off := relative(x, want); !(off <= benignBound) {
		t.Errorf("the query of before is off by %.3g", off)
	}
	// Who attaches.
	_, err = c.client().Attach(soon(t), cfg)
	refusal{wire.CodeExists, "damping", "0.01", "0.5"}.check(t, err)
	now := cfg
	now.Damping, now.Divisor = 0.5, wire.Count
	c.attach(c.client(), now)
	// What can't be.
	_, err = run.Set(soon(t), -1, "")
	refusal{wire.CodeInvalid, "damping", "-1", "> 0"}.check(t, err)
	_, err = run.Set(soon(t), 0, "")
	refusal{wire.CodeInvalid, "changes", "0", "damping"}.check(t, err)
	_, err = run.Set(soon(t), 1, "n")
	refusal{wire.CodeInvalid, "divisor", "n", "capacity"}.check(t, err)
	// A new owner has the record's.
	c.startCoordinator("c1")
	c.crashCoordinator("c0")
	check(other, len(rows), 0.5)
	if _, err := other.Set(soon(t), 0.25, wire.Capacity); err != nil {
		t.Fatal(err)
	}
	check(run, m, 0.25)
	if info, err := run.Status(soon(t)); err != nil || info.Spec.Damping != 0.25 || run.Spec().Damping != 0.25 {
		t.Errorf("%+v, %v", info.Spec, err)
	}
}
