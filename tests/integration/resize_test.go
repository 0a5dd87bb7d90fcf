package integration

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// TestResize: after any resizes, publishes and forgets, at random, the window is the youngest rows that it
// has room for, bit by bit, with their labels, and an answer is within its bound of the exact one for
// them and the N that m is.
func TestResize(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		if runs > 8 && testing.Short() || runs > 40 {
			return
		}
		d, m := rapid.IntRange(3, 3000).Draw(t, "d"), rapid.IntRange(1, 7).Draw(t, "m")
		store := rapid.SampledFrom([]wire.DType{wire.F32, wire.BF16, wire.F16}).Draw(t, "store")
		divisor := rapid.SampledFrom([]wire.Divisor{wire.Capacity, wire.Count}).Draw(t, "divisor")
		cfg := client.RunConfig{Name: fmt.Sprintf("resize-%d", runs), Dim: int64(d), Window: m, Damping: 1e-2, Store: store, Divisor: divisor,
			Shards: rapid.IntRange(1, 3).Draw(t, "shards")}
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
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
		var labels []string
		var rows [][]float32
		next := wire.Step(1)
		read := func(s wire.Step) []float32 {
			row := make([]float32, d)
			if _, err := run.Gradient(ctx, row, s); err != nil {
				t.Fatal(err)
			}
			return row
		}
		fit := func() {
			if gone := len(steps) - m; gone > 0 {
				steps, labels, rows = steps[gone:], labels[gone:], rows[gone:]
			}
		}
		for range rapid.IntRange(2, 10).Draw(t, "ops") {
			switch op := rapid.Float64Range(0, 1).Draw(t, "op"); {
			case op < 0.6 || len(steps) == 0:
				label := fmt.Sprintf("label %d", next)
				if _, err := run.Publish(ctx, next, normal(r, d), client.WithLabel(label)); err != nil {
					t.Fatal(err)
				}
				steps, labels, rows = append(steps, next), append(labels, label), append(rows, read(next))
				next++
				fit()
			case op < 0.7:
				i := r.IntN(len(steps))
				if _, err := run.Forget(ctx, steps[i]); err != nil {
					t.Fatal(err)
				}
				steps, labels, rows = slices.Delete(steps, i, i+1), slices.Delete(labels, i, i+1), slices.Delete(rows, i, i+1)
			default:
				m = rapid.IntRange(1, 20).Draw(t, "new m")
				fit()
				done, err := run.Resize(ctx, m)
				if err != nil || done.Rows != len(steps) || run.Spec().Window != m {
					t.Fatalf("resize to %d: %+v, %v; spec %+v", m, done, err, run.Spec())
				}
			}
		}
		w, err := run.Labels(ctx)
		if len(steps) == 0 {
			labels = nil
		}
		if err != nil || !slices.Equal(w.Steps, steps) || !slices.Equal(w.Labels, labels) {
			t.Fatalf("window %+v, %v; want %v", w, err, steps)
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
		if n == 0 {
			return
		}
		v, x := widened(normal(r, d)), make([]float64, d)
		a, err := run.IHVP64(ctx, x, v)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := newExact(rows).vector(v, n, cfg.Damping)
		if off := relative(x, want); a.Rows != len(rows) || !(off <= a.Bound()) || !(a.Bound() <= benignBound) {
			t.Fatalf("answer %+v, off by %.3g, for %d rows, N = %d", a, off, len(rows), n)
		}
	})
}

// TestResizeReal: the window of real gradients, larger, then as before, answers as it did, against the
// exact answers of shared/vectors.
func TestResizeReal(t *testing.T) {
	t.Parallel()
	v := openVectors(t)
	grads, vec := v.grads(), widened(v.f32("v"))
	c := start(t, shape{workers: 3})
	run := c.attach(c.client(), client.RunConfig{Name: "real", Dim: vectorsDim, Window: vectorsWindow, Damping: 1e-2, Shards: 4})
	if _, err := run.PublishMany(soon(t), 0, grads[:10]); err != nil {
		t.Fatal(err)
	}
	x := make([]float64, vectorsDim)
	for _, m := range []int{2 * vectorsWindow, 10, vectorsWindow} {
		if _, err := run.Resize(soon(t), m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := run.IHVP64(soon(t), x, vec); err != nil {
		t.Fatal(err)
	}
	check64(t, "ten gradients", x, v.f64("ihvp_part_0.01"), tolFloat64)
}

// TestResizeIsAnotherRun: a resized run, with weights and a half-life, answers as one that was made with
// that window, within the two bounds; and with the same bits when another coordinator has loaded A from
// the shards as the one that kept it.
func TestResizeIsAnotherRun(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d, m = 900, 4
	cfg := client.RunConfig{Name: "resized", Dim: d, Window: 7, Damping: 1e-2, Shards: 3, HalfLife: 6}
	run := c.attach(c.client(), cfg)
	cfg.Name, cfg.Window = "small", m
	small := c.attach(c.client(), cfg)
	for i, g := range gradients(49, 9, d) {
		for _, r := range []*client.Run{run, small} {
			if _, err := r.Publish(soon(t), wire.Step(10*i), g, client.WithWeight(float64(1+i%3))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if done, err := run.Resize(soon(t), m); err != nil || done.Rows != m {
		t.Fatalf("%+v, %v", done, err)
	}
	v, x, y := vector(50, d), make([]float64, d), make([]float64, d)
	a, err := run.IHVP64(soon(t), x, v)
	if err != nil {
		t.Fatal(err)
	}
	b, err := small.IHVP64(soon(t), y, v)
	if err != nil {
		t.Fatal(err)
	}
	same := make([]*big.Float, d)
	for j := range y {
		same[j] = big.NewFloat(y[j])
	}
	if off := relative(x, same); !(off <= a.Bound()+b.Bound()) {
		t.Errorf("%.3g from a run of that window, bounds %.3g and %.3g", off, a.Bound(), b.Bound())
	}
	before, err := run.Influence(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	c.startCoordinator("c1")
	c.crashCoordinator("c0")
	after, err := run.Influence(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range before.Values {
		if !slices.Equal(before.Values[i], after.Values[i]) {
			t.Errorf("row %d of influence is %v, and of A from the shards %v", i, before.Values[i], after.Values[i])
		}
	}
	if _, err := run.IHVP64(soon(t), y, v); err != nil || !slices.Equal(x, y) {
		t.Errorf("another answer with A from the shards, %v", err)
	}
}

// TestResizeBesides: publishing goes on while a window is resized again and again, and coordinators are
// lost; nothing that was told committed is missing but what the smallest window since has no room for.
func TestResizeBesides(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d, sizes = 400, 8
	run := c.attach(c.client(), client.RunConfig{Name: "besides", Dim: d, Window: 6, Damping: 1e-2, Shards: 3})
	other := c.attach(c.client(), client.RunConfig{Name: "besides", Dim: d, Window: 6, Damping: 1e-2, Shards: 3})
	ctx, stop := context.WithCancel(within(t, time.Minute))
	var wg sync.WaitGroup
	var mu sync.Mutex
	rows := map[wire.Step][]float32{}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(7, 7))
		for step := wire.Step(1); ctx.Err() == nil; step++ {
			g := normal(r, d)
			mu.Lock()
			rows[step] = g
			mu.Unlock()
			if _, err := other.Publish(context.WithoutCancel(ctx), step, g); err != nil {
				t.Errorf("publish step %d: %v", step, err)
				return
			}
		}
	})
	wg.Go(func() {
		v, x := vector(46, d), make([]float64, d)
		for ctx.Err() == nil {
			if _, err := other.IHVP64(context.WithoutCancel(ctx), x, v); err != nil {
				t.Errorf("query: %v", err)
				return
			}
		}
	})
	r := rand.New(rand.NewPCG(8, 8))
	for i := range 2 * sizes {
		m := 1 + r.IntN(sizes)
		done, err := run.Resize(within(t, 30*time.Second), m)
		if err != nil || done.Rows > m {
			t.Fatalf("resize to %d: %+v, %v", m, done, err)
		}
		if i == sizes {
			c.startCoordinator("c1")
			c.crashCoordinator("c0")
		}
	}
	if _, err := run.Resize(within(t, 30*time.Second), 5); err != nil {
		t.Fatal(err)
	}
	stop()
	wg.Wait()
	w, err := run.Steps(soon(t))
	if err != nil || len(w.Steps) > 5 {
		t.Fatalf("%+v, %v", w, err)
	}
	var left [][]float32
	for _, s := range w.Steps {
		left = append(left, rows[s])
	}
	v, x := vector(47, d), make([]float64, d)
	a, err := run.IHVP64(soon(t), x, v)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := newExact(left).vector(v, 5, 1e-2)
	if off := relative(x, want); !(off <= a.Bound()) || !(a.Bound() <= benignBound) {
		t.Errorf("off by %.3g, %+v, steps %v", off, a, w.Steps)
	}
	t.Logf("%d gradients published beside %d resizes", len(rows), 2*sizes+1)
}

// TestResizeRefused: what a window can't be is refused as by create, and one that a worker has no room for
// by that worker, with the numbers; the run stays what it was, and so does the worker's memory.
func TestResizeRefused(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2, capacity: 1 << 20, coordinator: calm})
	s := c.stranger("stranger")
	const d = 20_000
	run := c.attach(c.client(), client.RunConfig{Name: "room", Dim: d, Window: 6, Damping: 1, Shards: 2})
	g := gradients(48, 3, d)
	if _, err := run.PublishMany(soon(t), 1, g); err != nil {
		t.Fatal(err)
	}
	before, err := run.Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	used := func() (list []int64) {
		for _, w := range as[*wire.StatusReply](t, s.coordinator(&wire.Status{})).Workers {
			list = append(list, w.Used)
		}
		return list
	}
	eventually(t, func() error {
		if u := used(); len(u) != 2 || u[0] == 0 || u[1] == 0 {
			return fmt.Errorf("used: %v", u)
		}
		return nil
	})
	was := used()
	for m, want := range map[int]refusal{
		0: {wire.CodeInvalid, "window", "0", "in [1, 4096]"}, 4097: {wire.CodeInvalid, "window", "4097", "in [1, 4096]"},
		1000: {wire.CodeTooLarge, "memory", "bytes for shard", "bytes more that are free on worker"},
	} {
		_, err := run.Resize(soon(t), m)
		want.check(t, err)
	}
	if _, err := run.Set(soon(t), 1e305, ""); err != nil {
		t.Fatal(err)
	}
	_, err = run.Resize(soon(t), 4000)
	refusal{wire.CodeInvalid, "damping", "1e+305", "finite when multiplied by the window, 4000"}.check(t, err)
	refusal{wire.CodeInvalid, "damping", "1e+305", "finite when multiplied by the window, 4000"}.answer(t, s.coordinator(&wire.Resize{Run: "room", Token: 5, Window: 4000}))
	after, err := run.Status(soon(t))
	if err != nil || after.Epoch != before.Epoch || after.Version != before.Version || after.Spec.Window != 6 {
		t.Errorf("%+v, %v", after, err)
	}
	eventually(t, func() error {
		if now := used(); !slices.Equal(now, was) {
			return fmt.Errorf("%v bytes are used, %v were", now, was)
		}
		return nil
	})
	if _, err := run.Publish(soon(t), 4, g[0]); err != nil {
		t.Fatal(err)
	}
	// What there is room for.
	if done, err := run.Resize(soon(t), 16); err != nil || done.Rows != 4 {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := run.Resize(soon(t), 2); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if now := used(); now[0] >= was[0] {
			return errors.New("no memory is given back")
		}
		return nil
	})
}
