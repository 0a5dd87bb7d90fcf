package integration

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mfac/client"
	"mfac/wire"
)

// setting is what must not change a bit of any answer.
type setting struct {
	workers, threads, procs int
	shuffled                uint64 // seed of the chunks' order; 0: whole gradients
	many                    bool   // PublishMany
	asked                   uint64 // seed of what is asked between the steps; 0: nothing
}

func (s setting) String() string {
	return fmt.Sprintf("workers=%d/threads=%d/procs=%d/shuffled=%d/many=%t/asked=%d", s.workers, s.threads, s.procs, s.shuffled, s.many, s.asked)
}

const (
	determinismDim    = 70_003 // four shards of 17 tiles and a bit …
	determinismWindow = 16     // … so that a pass has work for two threads
	determinismSteps  = 22     // the window wraps
)

// story is a run from the first gradient to the last, and all that can be asked of it, as bits.
func story(t *testing.T, divisor wire.Divisor, set setting) map[string]any {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(set.procs))
	c := start(t, shape{workers: set.workers, threads: set.threads})
	cl := c.client()
	eventually(t, func() error {
		w, err := cl.Workers(soon(t))
		if err == nil && len(w) < set.workers {
			err = fmt.Errorf("%d workers", len(w))
		}
		return err
	})
	run := c.attach(cl, client.RunConfig{Name: "same", Dim: determinismDim, Window: determinismWindow, Damping: 1e-3, Divisor: divisor, Shards: 4})
	r := rand.New(rand.NewPCG(17, 18))
	rows := make([][]float32, determinismSteps)
	for i := range rows {
		rows[i] = normal(r, determinismDim)
	}
	vs := make([][]float64, 4)
	for i := range vs {
		vs[i] = make([]float64, determinismDim)
		for j := range vs[i] {
			vs[i][j] = r.NormFloat64()
		}
	}
	ctx := within(t, time.Minute)
	out := map[string]any{}
	x, x32 := make([]float64, determinismDim), make([]float32, determinismDim)
	keep := func(name string, a client.Answer, err error, bits any) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name], out[name+": answer"] = bits, a
	}
	last := determinismSteps - 1
	switch {
	case set.many:
		if _, err := run.PublishMany(ctx, 0, rows[:last]); err != nil {
			t.Fatal(err)
		}
	default:
		between := rand.New(rand.NewPCG(set.asked, 19))
		for i, g := range rows[:last] {
			if set.asked != 0 {
				ask(t, run, between, i, x)
			}
			if set.shuffled == 0 {
				if _, err := run.Publish(ctx, wire.Step(i), g); err != nil {
					t.Fatal(err)
				}
				continue
			}
			publishShuffled(t, run, wire.Step(i), g, set.shuffled)
		}
	}
	info, err := run.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Workers) != min(set.workers, 4) {
		t.Errorf("the shards are on %v, want %d workers", info.Workers, set.workers)
	}
	a, err := run.Precondition64(ctx, wire.Step(last), x, rows[last])
	keep("precondition", a, err, bits64(x))
	a, err = run.IHVPStep64(ctx, x, wire.Step(last))
	keep("newest step", a, err, bits64(x))
	a, err = run.IHVPStep(ctx, x32, wire.Step(last-3))
	keep("step float32", a, err, bits32(x32))
	a, err = run.IHVPCombine64(ctx, x, []wire.Step{7, 12, 18}, []float64{1, -2, 0.5})
	keep("combination", a, err, bits64(x))
	xs := make([][]float64, len(vs))
	for i := range vs {
		xs[i] = make([]float64, determinismDim)
	}
	a, err = run.IHVPs64(ctx, xs, vs)
	keep("together", a, err, [][]uint64{bits64(xs[0]), bits64(xs[1]), bits64(xs[2]), bits64(xs[3])})
	for i, v := range vs {
		a, err = run.IHVP64(ctx, x, v)
		keep(fmt.Sprintf("alone %d", i), a, err, bits64(x))
	}
	f := make([]float32, determinismDim)
	for i, v := range vs[0] {
		f[i] = float32(v)
	}
	a, err = run.IHVP(ctx, x32, f)
	keep("float32", a, err, bits32(x32))
	a, err = run.IHVP64(ctx, x, vs[1], client.WithDamping(1e-6), client.WithDivisor(wire.Count))
	keep("other damping", a, err, bits64(x))
	a, err = run.FisherVec64(ctx, x, vs[1])
	keep("F v", a, err, bits64(x))
	a, err = run.HessianVec64(ctx, x, vs[1])
	keep("H v", a, err, bits64(x))
	a, err = run.Samples64(ctx, xs[:2], 12345, 7)
	keep("samples", a, err, [][]uint64{bits64(xs[0]), bits64(xs[1])})
	a, err = run.Sample64(ctx, x, 12345, 8)
	keep("sample alone", a, err, bits64(x))
	if !cmp.Equal(out["samples"].([][]uint64)[1], out["sample alone"]) {
		t.Error("a sample alone has other bits than together with another")
	}
	a, err = run.IHVP64(ctx, x, vs[1], client.WithVerify())
	keep("verified", a, err, bits64(x))
	if !cmp.Equal(out["verified"], out["alone 1"]) {
		t.Error("an answer that is verified has other bits")
	}
	a, err = run.IHVPs64(ctx, xs[:2], vs[:2], client.WithRefine(), client.WithDamping(1e-6))
	keep("refined", a, err, [][]uint64{bits64(xs[0]), bits64(xs[1])})
	for _, step := range []int{last, last - determinismWindow + 1} {
		a, err = run.Gradient(ctx, x32, wire.Step(step))
		keep(fmt.Sprintf("gradient %d", step), a, err, bits32(x32))
		if !cmp.Equal(bits32(x32), bits32(rows[step])) {
			t.Errorf("the gradient of step %d is not read back as it was sent", step)
		}
	}
	scalars(t, run, vs, out)
	tuned(t, run, vs, out)
	// Within the same run: k vectors together are the k alone, a result in float32 is the float64
	// one rounded once, and a preconditioned step is the query for it.
	for i := range vs {
		if !cmp.Equal(out["together"].([][]uint64)[i], out[fmt.Sprintf("alone %d", i)]) {
			t.Errorf("vector %d alone has other bits than together with others", i)
		}
	}
	if !cmp.Equal(out["precondition"], out["newest step"]) {
		t.Error("a preconditioned step has other bits than the query for it")
	}
	rounded := func(name string, a client.Answer, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, len(x))
		for i, v := range x {
			want[i] = float32(v)
		}
		if !cmp.Equal(out[name], any(bits32(want))) {
			t.Errorf("%s is not the float64 result rounded once", name)
		}
	}
	a, err = run.IHVPStep64(ctx, x, wire.Step(last-3))
	rounded("step float32", a, err)
	for i, v := range f {
		vs[0][i] = float64(v)
	}
	a, err = run.IHVP64(ctx, x, vs[0])
	rounded("float32", a, err)
	return out
}

// ask asks something, or nothing, of a run with so many steps in it.
func ask(t *testing.T, run *client.Run, r *rand.Rand, steps int, dst []float64) {
	t.Helper()
	var err error
	switch what := r.IntN(6); {
	case what == 0:
		_, err = run.Status(soon(t))
	case what == 1 && steps > 0:
		_, err = run.IHVPStep64(soon(t), dst, wire.Step(steps-1))
	case what == 2 && steps > 0:
		_, err = run.IHVPStep64(soon(t), dst, wire.Step(steps-1), client.WithDamping(0.1), client.WithDivisor(wire.Capacity))
	case what == 3:
		_, err = run.IHVP64(soon(t), dst, make([]float64, len(dst)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// publishShuffled publishes a gradient in pieces of all sizes, in another order, by several
// goroutines that share a token.
func publishShuffled(t *testing.T, run *client.Run, step wire.Step, g []float32, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(step)))
	var cuts []int
	for lo := 0; lo < len(g); {
		cuts = append(cuts, lo)
		lo += 1 + r.IntN(9000)
	}
	type span struct{ lo, hi int }
	pieces := make([]span, len(cuts))
	for i, lo := range cuts {
		pieces[i] = span{lo, len(g)}
		if i+1 < len(cuts) {
			pieces[i].hi = cuts[i+1]
		}
	}
	r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	var all sync.WaitGroup
	for _, p := range pieces {
		all.Go(func() {
			if _, err := run.PublishColumns(soon(t), step, int64(p.lo), g[p.lo:p.hi], client.WithToken(seed)); err != nil {
				t.Errorf("columns [%d, %d): %v", p.lo, p.hi, err)
			}
		})
	}
	all.Wait()
}

// TestSameBytes: the same gradients give the same bytes, whatever the order of their chunks, the
// number of workers that hold the same shards, of threads and of processors, and what was asked
// before.
func TestSameBytes(t *testing.T) {
	for divisor, sets := range map[wire.Divisor][]setting{
		wire.Capacity: {
			{workers: 2, threads: 1, procs: 2, shuffled: 1},
			{workers: 3, threads: 2, procs: 1, shuffled: 2},
			{workers: 4, threads: 2, procs: 2, many: true},
			{workers: 1, threads: 2, procs: 2, shuffled: 3, asked: 1},
		},
		wire.Count: { // N grows till the window is full
			{workers: 2, threads: 2, procs: 2, many: true},
			{workers: 1, threads: 1, procs: 2, asked: 2},
			{workers: 3, threads: 2, procs: 2, asked: 3},
		},
	} {
		want := story(t, divisor, setting{workers: 1, threads: 1, procs: 1})
		for _, set := range sets {
			t.Run(fmt.Sprintf("divisor=%s/%v", divisor, set), func(t *testing.T) {
				got := story(t, divisor, set)
				for name := range want {
					if !cmp.Equal(want[name], got[name]) {
						t.Errorf("%s has other bits, or another version or bound", name)
					}
				}
			})
		}
	}
}
