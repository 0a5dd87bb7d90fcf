package integration

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// elements are what a frozen run answers from W, and columns, which it does not.
type elements struct {
	Diag, Block, Column []uint64
	Narrow              []float32
	Answers             []client.Answer
}

func elementsOf(t testing.TB, r *client.Run, index []int64) (e elements, block []float64) {
	t.Helper()
	ctx := within(t, time.Minute)
	diag, column := make([]float64, r.Dim()), make([]float64, r.Dim())
	e.Narrow = make([]float32, r.Dim())
	keep := func(a client.Answer, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		e.Answers = append(e.Answers, a)
	}
	a, err := r.Diag64(ctx, diag)
	keep(a, err)
	a, err = r.Diag(ctx, e.Narrow)
	keep(a, err)
	block, a, err = r.Subblock(ctx, index)
	keep(a, err)
	a, err = r.Columns64(ctx, [][]float64{column}, index[:1])
	keep(a, err)
	e.Diag, e.Block, e.Column = bits64(diag), bits64(block), bits64(column)
	return e, block
}

// TestFreezeVectors: real gradients, in 4 shards. Frozen, the answers are the same bytes, and the reference's;
// the window stays; the memory is as it was said, and given back.
func TestFreezeVectors(t *testing.T) {
	v := openVectors(t)
	const lambda = 1e-5
	c := start(t, shape{workers: 3, coordinator: calm})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "frozen", Dim: vectorsDim, Window: vectorsWindow, Damping: lambda, Shards: 4})
	ctx := within(t, 4*time.Minute) // all of the test: seconds, but minutes with the race detector on a machine that is busy
	grads := v.grads()
	if _, err := r.PublishMany(ctx, 0, grads); err != nil {
		t.Fatal(err)
	}
	index := []int64{0, 12729, 5000, 12600, 12729, 5001, 3184}
	want, _ := elementsOf(t, r, index)
	used := func() int64 {
		workers, err := cl.Workers(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		for _, w := range workers {
			n += w.Used
		}
		return n
	}
	rest := int64(vectorsWindow+wire.DefaultSpare) * vectorsDim * 4 // and what a line or a page is more
	settled := func(what string, least, most int64) {
		t.Helper()
		eventually(t, func() error {
			if n := used(); n < least || n > most {
				return fmt.Errorf("%s: %d bytes are used, must be in [%d, %d]", what, n, least, most)
			}
			return nil
		})
	}
	const slack = 64 << 10
	settled("thawed", rest, rest+slack)
	plan, err := r.FreezePlan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var kept int64
	for _, n := range plan.Kept {
		kept += n
	}
	if plan.State != wire.StateThawed || plan.Rows != vectorsWindow || plan.Columns != vectorsDim || len(plan.Workers) != 3 || kept < 8*vectorsWindow*vectorsDim || kept > 8*vectorsWindow*(vectorsDim+4*16) {
		t.Errorf("plan %+v", plan)
	}

	var done, total int64
	if _, err := r.Freeze(ctx, client.WithProgress(func(d, n int64) { done, total = d, n })); err != nil {
		t.Fatal(err)
	}
	if done != vectorsDim || total != vectorsDim {
		t.Errorf("%d of %d columns", done, total)
	}
	settled("frozen", rest+kept, rest+kept+slack)
	if info, err := r.Status(ctx); err != nil || info.Frozen != wire.StateFrozen || info.Kept != kept {
		t.Errorf("status %+v, %v", info, err)
	}
	got, block := elementsOf(t, r, index)
	if !cmp.Equal(got, want) {
		t.Error("other bytes from W")
	}
	for _, p := range [][2]int{{0, 2}, {3, 1}, {4, 4}} {
		x, _, err := r.Element(ctx, index[p[0]], index[p[1]])
		if err != nil || x != block[p[0]*len(index)+p[1]] {
			t.Errorf("element %v: %g (%v), in the sub-block %g", p, x, err, block[p[0]*len(index)+p[1]])
		}
	}
	ref := newExact(grads[len(grads)-vectorsWindow:])
	checkBlock(t, ref, "frozen sub-block", block, index, vectorsWindow, lambda, got.Answers[2].Bound())
	diag := make([]float64, vectorsDim)
	if _, err := r.Diag64(ctx, diag); err != nil {
		t.Fatal(err)
	}
	check64(t, "frozen diagonal", diag, v.f64("diag_1e-05"), tolFloat64)
	if _, err := r.Diag64(ctx, diag, client.WithDamping(1e-2)); err != nil { // W is no help there
		t.Fatal(err)
	}
	check64(t, "at another damping", diag, v.f64("diag_0.01"), tolFloat64)

	// The window stays, λ too.
	refusal{wire.CodeFrozen, "run", "frozen", "thawed"}.check(t, func() error { _, err := r.Publish(ctx, 1000, grads[0]); return err }())
	refusal{wire.CodeFrozen, "run", "frozen", "thawed"}.check(t, func() error { _, err := r.Set(ctx, 1, ""); return err }())
	if _, err := r.Freeze(ctx); err != nil {
		t.Error(err)
	}
	if _, err := r.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	settled("thawed", rest, rest+slack)
	if got, _ := elementsOf(t, r, index); !cmp.Equal(got, want) {
		t.Error("other bytes when thawed")
	}
	if _, err := r.Publish(ctx, 1000, grads[0]); err != nil {
		t.Error(err)
	}
}

// TestFrozenElements: random shapes, weights and rows that are hard for somebody. The same bytes as without W, within
// their bounds of big.Float.
func TestFrozenElements(t *testing.T) {
	c := start(t, shape{workers: 2})
	cl := c.client()
	var runs atomic.Int64
	answered := 0
	rapid.Check(t, func(rt *rapid.T) {
		d, m := rapid.IntRange(1, 200).Draw(rt, "d"), rapid.IntRange(1, 12).Draw(rt, "m")
		rows := drawRows(rt, d, rapid.IntRange(1, m).Draw(rt, "rows"))
		cfg := client.RunConfig{
			Name: fmt.Sprintf("f%d", runs.Add(1)), Dim: int64(d), Window: m, Damping: math.Pow(10, rapid.Float64Range(-6, 1).Draw(rt, "log λ")),
			Shards: rapid.IntRange(1, min(d, 4)).Draw(rt, "shards"), Divisor: rapid.SampledFrom([]wire.Divisor{wire.Capacity, wire.Count}).Draw(rt, "divisor"),
		}
		n := m
		if cfg.Divisor == wire.Count {
			n = len(rows)
		}
		r := c.attach(cl, cfg)
		ctx := within(t, time.Minute)
		defer func() { _ = cl.Delete(ctx, cfg.Name) }()
		for i, g := range rows {
			k := rapid.SampledFrom([]int{0, 0, 0, -2, 3}).Draw(rt, "k")
			if _, err := r.Publish(ctx, wire.Step(i), g, client.WithWeight(math.Ldexp(1, 2*k))); err != nil {
				rt.Fatal(err)
			}
			for j := range g { // as the reference sees it
				g[j] = float32(math.Ldexp(float64(g[j]), k))
			}
		}
		index := make([]int64, rapid.IntRange(1, 20).Draw(rt, "indices"))
		for i := range index {
			index[i] = rapid.Int64Range(0, int64(d)-1).Draw(rt, "index")
		}
		diag, frozen := make([]float64, d), make([]float64, d)
		a, err := r.Diag64(ctx, diag)
		block, b, err2 := r.Subblock(ctx, index)
		if _, err := r.Freeze(ctx); err != nil {
			if errors.Is(err, wire.ErrIllConditioned) {
				return
			}
			rt.Fatal(err)
		}
		same := func(what string, err, want error, got, x []float64, of, before client.Answer) bool {
			if code(err) != code(want) {
				rt.Fatalf("%s: %v, without W %v", what, err, want)
			}
			if err == nil && !cmp.Equal(bits64(got), bits64(x)) || !cmp.Equal(of, before) {
				rt.Fatalf("%s: other bytes, or %+v, without W %+v", what, of, before)
			}
			return err == nil
		}
		fa, ferr := r.Diag64(ctx, frozen)
		ref := newExact(rows)
		if same("diagonal", ferr, err, frozen, diag, fa, a) {
			want := make([]*big.Float, d)
			for j := range want {
				want[j] = ref.column(int64(j), []int64{int64(j)}, n, cfg.Damping)[0]
				want[j].Quo(want[j], number(cfg.Damping))
			}
			if o := relative(frozen, want); !(o <= fa.Bound()) {
				rt.Errorf("the diagonal is off by %.3g, its bound is %.3g", o, fa.Bound())
			}
			answered++
		}
		got, fb, ferr := r.Subblock(ctx, index)
		if same("sub-block", ferr, err2, got, block, fb, b) {
			checkBlock(t, ref, fmt.Sprintf("%+v", cfg), got, index, n, cfg.Damping, fb.Bound())
		}
	})
	if t.Logf("%d answered", answered); answered == 0 {
		t.Error("nothing was answered")
	}
}

// heardOf waits till so many workers are known, so that a run has a shard on each.
func heardOf(t *testing.T, cl *client.Client, workers int) {
	t.Helper()
	eventually(t, func() error {
		w, err := cl.Workers(soon(t))
		if err == nil && len(w) != workers {
			err = fmt.Errorf("%d workers", len(w))
		}
		return err
	})
}

func code(err error) wire.Code {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// A worker that has not the memory refuses with the numbers; the other one's is given back, and the run is
// as it was. With the memory it is frozen.
func TestFreezeRefused(t *testing.T) {
	const d, m = 2048, 20
	// Two shards' rows take 1024 columns × 22 slots × 4 bytes = 90,112; W of 20 rows 163,840, L 3,200.
	c := start(t, shape{workers: 1, capacity: 300_000})
	c.startWorker("small", 90_112+163_840+3_199, 1)
	cl := c.client()
	heardOf(t, cl, 2)
	r := c.attach(cl, client.RunConfig{Name: "cold", Dim: d, Window: m, Damping: 1e-3, Shards: 2})
	ctx := within(t, time.Minute)
	_, err := r.Freeze(ctx)
	refusal{wire.CodeTooFewRows, "rows", "0", "at least 1"}.check(t, err)
	rng := rand.New(rand.NewPCG(41, 42))
	for i := range m {
		if _, err := r.Publish(ctx, wire.Step(i), normal(rng, d)); err != nil {
			t.Fatal(err)
		}
	}
	state := func() (wire.Info, []wire.WorkerStatus) {
		info, err := r.Status(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		workers, err := cl.Workers(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range workers {
			workers[i].SilentMS = 0
		}
		return info, workers
	}
	before, had := state()
	if had[0].Used != 90_112 || had[1].Used != 90_112 {
		eventually(t, func() error {
			if before, had = state(); had[0].Used != 90_112 || had[1].Used != 90_112 {
				return fmt.Errorf("%+v", had)
			}
			return nil
		})
	}
	_, err = r.Freeze(ctx)
	refusal{wire.CodeTooLarge, "memory", "163840 bytes for W of shard", "167039 bytes free on worker small"}.check(t, err)
	eventually(t, func() error {
		after, has := state()
		if !cmp.Equal(before, after) || !cmp.Equal(had, has) {
			return fmt.Errorf("it was\n%+v\n%+v, is\n%+v\n%+v", before, had, after, has)
		}
		return nil
	})
	if _, err := r.Publish(ctx, m, normal(rng, d)); err != nil {
		t.Fatal(err)
	}
	// A smaller window has room.
	if _, err := r.Forget(ctx, m); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestFrozenFaults: the coordinator of a frozen run is killed, then a worker. The run stays frozen; with its rows there
// W is made anew, and the answers are those without it; with its rows lost there is none.
func TestFrozenFaults(t *testing.T) {
	t.Parallel()
	const d, m = 3000, 12
	c := start(t, shape{workers: 2})
	cl := c.client()
	heardOf(t, cl, 2)
	r := c.attach(cl, client.RunConfig{Name: "faults", Dim: d, Window: m, Damping: 1e-3, Shards: 2})
	ctx := within(t, 2*time.Minute)
	rng := rand.New(rand.NewPCG(43, 44))
	for i := range m {
		if _, err := r.Publish(ctx, wire.Step(i), normal(rng, d)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	is := func(state string) {
		t.Helper()
		eventually(t, func() error {
			f, err := r.FreezePlan(soon(t))
			if err == nil && f.State != state {
				err = fmt.Errorf("%+v, want %s", f, state)
			}
			return err
		})
	}
	c.startCoordinator("c1")
	c.crashCoordinator("c0")
	is(wire.StateFrozen)
	index := []int64{0, 2999, 1500, 1499}
	frozen, _ := elementsOf(t, r, index)
	if _, err := r.Publish(ctx, 100, normal(rng, d)); !errors.Is(err, wire.ErrFrozen) {
		t.Errorf("publish: %v", err)
	}
	if _, err := r.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	if got, _ := elementsOf(t, r, index); !cmp.Equal(got, frozen) {
		t.Error("other bytes without W, under the new owner")
	}
	if _, err := r.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	c.crashWorker("w1")
	c.startWorker("w2", 1<<30, 1)
	is(wire.StateWithout)
	if f, err := r.FreezePlan(ctx); err != nil || f.Rows != 0 || f.Why == "" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := r.Publish(ctx, 100, normal(rng, d)); !errors.Is(err, wire.ErrFrozen) {
		t.Errorf("publish: %v", err)
	}
	if _, err := r.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range m {
		if _, err := r.Publish(ctx, wire.Step(200+i), normal(rng, d)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Freeze(ctx); err != nil {
		t.Error(err)
	}
	is(wire.StateFrozen)
}

// TestFreezeMeanwhile: diagonals are asked for while the run is frozen, thawed and forgotten from, and gradients
// published where that is let: each answer is one of its version.
func TestFreezeMeanwhile(t *testing.T) {
	t.Parallel()
	const d, m = 20_000, 16
	c := start(t, shape{workers: 2})
	cfg := client.RunConfig{Name: "meanwhile", Dim: d, Window: m, Damping: 1e-2, Shards: 2}
	r, reader, publisher := c.attach(c.client(), cfg), c.attach(c.client(), cfg), c.attach(c.client(), cfg)
	ctx := within(t, time.Minute)
	rng := rand.New(rand.NewPCG(45, 46))
	for i := range m {
		if _, err := r.Publish(ctx, wire.Step(i), normal(rng, d)); err != nil {
			t.Fatal(err)
		}
	}
	type told struct {
		version wire.Version
		diag    []float64
	}
	stop, answers, ended := make(chan struct{}), make(chan []told), make(chan struct{})
	var published atomic.Int64
	go func() {
		var list []told
		for {
			select {
			case <-stop:
				answers <- list
				return
			default:
			}
			x := make([]float64, d)
			a, err := reader.Diag64(ctx, x)
			switch {
			case err == nil:
				list = append(list, told{a.Version, x})
			case !errors.Is(err, wire.ErrVersionGone):
				t.Errorf("diagonal: %v", err)
			}
		}
	}()
	go func() {
		defer close(ended)
		g := normal(rand.New(rand.NewPCG(47, 48)), d)
		for step := wire.Step(100); ; step++ {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			_, err := publisher.Publish(ctx, step, g)
			switch {
			case err == nil:
				published.Add(1)
			case !errors.Is(err, wire.ErrFrozen):
				t.Errorf("publish: %v", err)
			}
		}
	}()
	for i := range 6 {
		if _, err := r.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		if i%2 == 1 {
			w, err := r.Steps(ctx)
			if err == nil {
				_, err = r.Forget(ctx, w.Steps[0])
			}
			if err != nil {
				t.Fatal(err)
			}
		} else if _, err := r.Thaw(ctx); err != nil {
			t.Fatal(err)
		}
		for n := published.Load(); published.Load() == n && ctx.Err() == nil; { // however long that takes
			time.Sleep(50 * time.Millisecond)
		}
	}
	close(stop)
	list := <-answers
	<-ended
	n := published.Load()
	seen := map[wire.Version][]float64{}
	again := 0
	for _, a := range list {
		if x, ok := seen[a.version]; ok {
			again++
			if !cmp.Equal(bits64(x), bits64(a.diag)) {
				t.Errorf("version %d has two diagonals", a.version)
			}
		}
		seen[a.version] = a.diag
	}
	if t.Logf("%d diagonals of %d versions, %d of a version that had one; %d steps published", len(list), len(seen), again, n); again == 0 || n == 0 {
		t.Error("it shows too little")
	}
}
