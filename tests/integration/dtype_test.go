package integration

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mfac/client"
	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/wire"
)

// Here: runs whose rows are kept, and numbers that are sent and fetched, in each dtype.

var (
	rowDTypes = []wire.DType{wire.F32, wire.BF16, wire.F16}
	dtypes    = []wire.DType{wire.F32, wire.F64, wire.BF16, wire.F16}
)

const (
	dtypeDim    = 4_219 // shards of more than a tile, and no multiple of one
	dtypeWindow = 5
	dtypeSteps  = 7 // the window wraps

	// tolStored is for float64 answers against exact arithmetic on the stored rows, relative in the
	// 2-norm: K's condition is below 100 here, and some hundred roundings of 2⁻⁵³ remain below 1e-13.
	tolStored = 1e-13
)

// nearest rounds to a dtype once, to nearest even: what must come back where a result was asked for in it.
func nearest(x []float64, t wire.DType) []float64 {
	p, _ := shard.Append(nil, x, dtype.Of(t))
	return numbers64(p, t)
}

func numbers64(p []byte, t wire.DType) []float64 {
	y := make([]float64, len(p)/t.Size())
	kernel.Best().Expand(y, p, dtype.Of(t))
	return y
}

func single(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

// storedRows reads the window back.
func storedRows(t *testing.T, run *client.Run) [][]float32 {
	t.Helper()
	w, err := run.Steps(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	rows := make([][]float32, len(w.Steps))
	for i, s := range w.Steps {
		rows[i] = make([]float32, run.Dim())
		if a, err := run.Gradient(soon(t), rows[i], s); err != nil || a.Bound() != 0 {
			t.Fatalf("gradient of step %d: bound %v, %v", s, a.Bound(), err)
		}
	}
	return rows
}

// TestStoresAndWires: for each store and each dtype that gradients are sent in, all answers are those
// of exact arithmetic on the rows as they are stored, whatever was lost on the way there; in each
// dtype that vectors are sent in, for the vectors as they were sent; and a result in another dtype is
// the float64 one rounded once.
func TestStoresAndWires(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client(client.WithChunkBytes(3000)) // several chunks a shard, whose ends aren't those of tiles
	for _, store := range rowDTypes {
		for _, sent := range rowDTypes {
			t.Run(fmt.Sprintf("store=%s/wire=%s", store, sent), func(t *testing.T) {
				ctx := within(t, time.Minute)
				run := c.attach(cl, client.RunConfig{Name: fmt.Sprintf("d-%s-%s", store, sent), Dim: dtypeDim, Window: dtypeWindow, Damping: 0.5, Shards: 3, Store: store})
				r := rand.New(rand.NewPCG(21, 22))
				rows := make([][]float32, dtypeSteps)
				x64, x32 := make([]float64, dtypeDim), make([]float32, dtypeDim)
				for i := range rows {
					rows[i] = normal(r, dtypeDim)
					for j := range rows[i] {
						rows[i][j] *= 0x1p-6 // so that float16 has many below its normal range
					}
					if i == dtypeSteps-1 {
						break
					}
					if _, err := run.Publish(ctx, wire.Step(i), rows[i], client.WithWire(sent)); err != nil {
						t.Fatal(err)
					}
				}
				last := wire.Step(dtypeSteps - 1)
				a, err := run.Precondition64(ctx, last, x64, rows[last], client.WithWire(sent))
				if err != nil {
					t.Fatal(err)
				}
				preconditioned := slices.Clone(x64)
				stored := storedRows(t, run)
				for i, got := range stored {
					onWire := nearest(widened(rows[dtypeSteps-dtypeWindow+i]), sent)
					checkStored(t, run, got, onWire, store)
				}
				e := newExact(stored)
				newest := make([]float64, dtypeWindow)
				newest[dtypeWindow-1] = 1
				want, _ := e.combination(newest, dtypeDim, dtypeWindow, 0.5)
				if off := relative(preconditioned, want); !(off <= tolStored && off <= a.Bound()) {
					t.Errorf("the preconditioned gradient is off by %.3g, bound %.3g", off, a.Bound())
				}
				if _, err := run.IHVPStep64(ctx, x64, last); err != nil || !cmp.Equal(bits64(x64), bits64(preconditioned)) {
					t.Errorf("the query for the newest step has other bits than its precondition (%v)", err)
				}
				for _, result := range dtypes {
					a, err := run.IHVPStep64(ctx, x64, last, client.WithResult(result))
					if err != nil || !cmp.Equal(bits64(x64), bits64(nearest(preconditioned, result))) {
						t.Errorf("a result in %s is not the float64 one rounded once (%v)", result, err)
					}
					if off := relative(x64, want); !(off <= a.Bound()) || result != wire.F64 && !(a.Bound() <= 1.1*rounding[result]) {
						t.Errorf("a result in %s is off by %.3g, bound %.3g", result, off, a.Bound())
					}
					if result == wire.F64 {
						continue
					}
					if _, err := run.IHVPStep(ctx, x32, last, client.WithResult(result)); err != nil || !cmp.Equal(bits64(widened(x32)), bits64(x64)) {
						t.Errorf("a result in %s has other numbers in float32 (%v)", result, err)
					}
				}
				v := make([]float64, dtypeDim)
				for i := range v {
					v[i] = r.NormFloat64()
				}
				for _, sent := range dtypes {
					a, err := run.IHVP64(ctx, x64, v, client.WithWire(sent))
					if err != nil {
						t.Fatal(err)
					}
					onWire := nearest(v, sent)
					want, _ := e.vector(onWire, dtypeWindow, 0.5)
					if off := relative(x64, want); !(off <= tolStored && off <= a.Bound()) {
						t.Errorf("H⁻¹v with v in %s is off by %.3g, bound %.3g", sent, off, a.Bound())
					}
					if sent == wire.F64 {
						continue
					}
					got := slices.Clone(x64)
					if _, err := run.IHVP(ctx, x32, single(onWire), client.WithWire(sent), client.WithResult(wire.BF16)); err != nil || !cmp.Equal(bits64(widened(x32)), bits64(nearest(got, wire.BF16))) {
						t.Errorf("H⁻¹v with v in %s, there and back, has other numbers (%v)", sent, err)
					}
				}
			})
		}
	}
}

// rounding is the relative error of one number.
var rounding = map[wire.DType]float64{wire.F32: 0x1p-24, wire.BF16: 0x1p-8, wire.F16: 0x1p-11}

// checkStored compares a stored row with what was sent, by the definition of nearest: in a float16
// store, with the power of two of each 1,024 columns of a shard.
func checkStored(t *testing.T, run *client.Run, got []float32, sent []float64, store wire.DType) {
	t.Helper()
	info, err := run.Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for s := range info.Lo {
		lo, n := info.Range(s)
		for at := lo; at < lo+n; at += shard.TileCols {
			tile := sent[at:min(at+shard.TileCols, lo+n)]
			scale := 1.0
			if store == wire.F16 {
				top := 0.0
				for _, v := range tile {
					top = max(top, math.Abs(v))
				}
				_, e := math.Frexp(top)
				if scale = math.Ldexp(1, 16-e); math.IsInf(nearest([]float64{top * scale}, wire.F16)[0], 0) {
					scale /= 2
				}
			}
			for i, v := range tile {
				if want := nearest([]float64{v * scale}, store)[0] / scale; float64(got[at+int64(i)]) != want {
					t.Fatalf("column %d of %v is stored as %v, want %v", at+int64(i), v, got[at+int64(i)], want)
				}
			}
		}
	}
}

// halfStory is a run of numbers that every dtype can say, sent in some dtype in some order, and its
// answers as bits.
func halfStory(t *testing.T, store, sent wire.DType, workers int, shuffled uint64) map[string]any {
	t.Helper()
	c := start(t, shape{workers: workers, threads: 2})
	cl := c.client(client.WithChunkBytes(5000))
	eventually(t, func() error {
		w, err := cl.Workers(soon(t))
		if err == nil && len(w) < workers {
			err = fmt.Errorf("%d workers", len(w))
		}
		return err
	})
	run := c.attach(cl, client.RunConfig{Name: "same", Dim: dtypeDim, Window: dtypeWindow, Damping: 0.5, Shards: 3, Store: store})
	r := rand.New(rand.NewPCG(31, 32))
	say := func() []float32 { // seven bits, in float16's normal range
		x := make([]float32, dtypeDim)
		for i := range x {
			x[i] = float32(r.IntN(255)-127) / 256
		}
		return x
	}
	out := map[string]any{}
	x64, x32 := make([]float64, dtypeDim), make([]float32, dtypeDim)
	ctx := within(t, time.Minute)
	var g []float32
	for i := range dtypeSteps {
		g = say()
		switch {
		case i == dtypeSteps-1:
		case shuffled == 0:
			if _, err := run.Publish(ctx, wire.Step(i), g, client.WithWire(sent)); err != nil {
				t.Fatal(err)
			}
		default: // by pieces, each in a dtype of its own
			publishMixed(t, run, wire.Step(i), g, shuffled)
		}
	}
	keep := func(name string, bits any, a client.Answer, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name], out[name+": answer"] = bits, a
	}
	a, err := run.Precondition64(ctx, dtypeSteps-1, x64, g, client.WithWire(sent))
	keep("precondition", bits64(x64), a, err)
	v := say()
	vector := sent
	if shuffled != 0 {
		vector = wire.F64
	}
	a, err = run.IHVP64(ctx, x64, widened(v), client.WithWire(vector))
	keep("vector", bits64(x64), a, err)
	for _, result := range rowDTypes {
		a, err = run.IHVP(ctx, x32, v, client.WithWire(sent), client.WithResult(result))
		keep("in "+string(result), bits32(x32), a, err)
	}
	for i, row := range storedRows(t, run) {
		out[fmt.Sprint("row ", i)] = bits32(row)
	}
	return out
}

// publishMixed publishes a gradient in pieces of all sizes in another order, each in a dtype of its
// own, by several publishers with one token.
func publishMixed(t *testing.T, run *client.Run, step wire.Step, g []float32, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(step)))
	var all sync.WaitGroup
	var cuts []int
	for lo := 0; lo < len(g); lo += 1 + r.IntN(900) {
		cuts = append(cuts, lo)
	}
	cuts = append(cuts, len(g))
	for _, i := range r.Perm(len(cuts) - 1) {
		lo, hi, sent := cuts[i], cuts[i+1], rowDTypes[r.IntN(3)]
		all.Go(func() {
			if _, err := run.PublishColumns(soon(t), step, int64(lo), g[lo:hi], client.WithToken(seed), client.WithWire(sent)); err != nil {
				t.Errorf("columns [%d, %d) in %s: %v", lo, hi, sent, err)
			}
		})
	}
	all.Wait()
}

// TestSameBytesInEveryDType: numbers that every dtype can say give the same bytes, whichever they are
// sent in, in whatever order and to however many workers.
func TestSameBytesInEveryDType(t *testing.T) {
	t.Parallel()
	for _, store := range rowDTypes {
		t.Run(string(store), func(t *testing.T) {
			want := halfStory(t, store, wire.F32, 1, 0)
			for _, other := range []struct {
				sent     wire.DType
				workers  int
				shuffled uint64
			}{{wire.BF16, 3, 0}, {wire.F16, 2, 0}, {wire.BF16, 2, 7}, {wire.F16, 3, 8}} {
				got := halfStory(t, store, other.sent, other.workers, other.shuffled)
				for name := range want {
					if !cmp.Equal(want[name], got[name]) {
						t.Errorf("%+v: %s has other bits, or another version or bound", other, name)
					}
				}
			}
		})
	}
}

// TestVectorsInHalf publishes the reference gradients to runs of each store. Answers are those of
// exact arithmetic on the stored rows; what the store itself costs, against the reference on the
// float32 rows, is printed.
func TestVectorsInHalf(t *testing.T) {
	t.Parallel()
	v := openVectors(t)
	grads, vec := v.grads(), widened(v.f32("v"))
	c := start(t, shape{workers: 3})
	cl := c.client()
	for _, store := range []wire.DType{wire.BF16, wire.F16} {
		t.Run(string(store), func(t *testing.T) {
			ctx := within(t, 2*time.Minute)
			run, err := cl.Attach(ctx, client.RunConfig{Name: "vectors-" + string(store), Dim: vectorsDim, Window: vectorsWindow, Damping: 0.01, Shards: 4, Store: store})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := run.PublishMany(ctx, 1, grads, client.WithWire(store)); err != nil {
				t.Fatal(err)
			}
			e := newExact(storedRows(t, run))
			a := make([]float64, vectorsWindow)
			a[vectorsWindow-1] = 1
			x := make([]float64, vectorsDim)
			for _, lambda := range []float64{0.01, 1e-5} {
				check := func(what, key string, got client.Answer, err error, want []float64, off float64, tol float64) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
					var diff, size float64
					for i, w := range want {
						diff, size = math.Hypot(diff, x[i]-w), math.Hypot(size, w)
					}
					t.Logf("%s at λ = %g: off by %.2g of the stored rows' answer (bound %.2g), by %.2g of the float32 rows'", what, lambda, off, got.Bound(), diff/size)
					if !(off <= tol) || !(off <= got.Bound()) {
						t.Errorf("%s at λ = %g: off by %.3g, want at most %g and the bound %.3g", what, lambda, off, tol, got.Bound())
					}
				}
				name := map[float64]string{0.01: "0.01", 1e-5: "1e-05"}[lambda]
				want, _ := e.vector(vec, vectorsWindow, lambda)
				got, err := run.IHVP64(ctx, x, vec, client.WithDamping(lambda))
				check("H⁻¹v", "ihvp_"+name, got, err, v.f64("ihvp_"+name), relative(x, want), tolFloat64)
				want, _ = e.combination(a, vectorsDim, vectorsWindow, lambda)
				got, err = run.IHVPStep64(ctx, x, wire.Step(len(grads)), client.WithDamping(lambda))
				check("H⁻¹g", "ihvp_last_"+name, got, err, v.f64("ihvp_last_"+name), relative(x, want), tolFloat64)
			}
		})
	}
}

// TestBadHalves sends what is no number, and what a store can't keep, in 16 bits: refused with its
// column, and nothing has changed.
func TestBadHalves(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, sent := range []wire.DType{wire.BF16, wire.F16} {
		for name, bits := range map[string]uint16{"NaN": 0x7fff, "Inf": map[wire.DType]uint16{wire.BF16: 0xff80, wire.F16: 0xfc00}[sent]} {
			t.Run(name+" in "+string(sent), func(t *testing.T) {
				open := as[*wire.OpenReply](t, s.coordinator(&wire.Open{Run: "bad", Step: 40, Token: 3}))
				info := s.info("bad")
				p := make([]byte, 200)
				p[2*77], p[2*77+1] = byte(bits), byte(bits>>8)
				m := &wire.Chunk{Run: "bad", Epoch: open.Epoch, Step: 40, Attempt: open.Attempt, N: 100, DType: sent, Sum: wire.Checksum(p), Payload: p}
				want := refusal{wire.CodeNotFinite, "column", "77", "finite"}
				w := info.Workers[info.Owner[0]]
				var e *wire.Error
				eventually(t, func() error { // the shard hears of the step
					if e = as[*wire.Error](t, s.worker(w, m)); e.Code == wire.CodeNotOpen {
						return e
					}
					return nil
				})
				want.answer(t, e)
				want.answer(t, s.coordinator(&wire.Wait{Run: "bad", Epoch: open.Epoch, Step: 40, Attempt: open.Attempt}))
				s.unchanged(t)
			})
		}
	}

	run := s.cluster.attach(s.cl, client.RunConfig{Name: "half", Dim: siteDim, Window: 2, Damping: 1, Shards: 3, Store: wire.BF16})
	g := normal(rand.New(rand.NewPCG(5, 6)), siteDim)
	before := slices.Clone(g)
	if _, err := run.Publish(soon(t), 1, g); err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, siteDim)
	for _, x := range []float32{math.MaxFloat32, 0x1.FFp127, -0x1.FFp127} {
		g[4321] = x
		want := refusal{wire.CodeOverflow, "column", "4321", "range of bf16"}
		_, err := run.Publish(soon(t), 2, g)
		want.check(t, err)
		_, err = run.Precondition(soon(t), 2, dst, g)
		want.check(t, err)
		_, err = run.Publish(soon(t), 2, g, client.WithWire(wire.BF16))
		want.check(t, err)
		if w, err := run.Steps(soon(t)); err != nil || !slices.Equal(w.Steps, []wire.Step{1}) {
			t.Fatalf("steps %v (%v)", w.Steps, err)
		}
	}
	if _, err := run.Gradient(soon(t), dst, 1); err != nil || !cmp.Equal(widened(dst), nearest(widened(before), wire.BF16)) {
		t.Errorf("the first row has changed (%v)", err)
	}
	g[4321] = 1e30 // in range
	if c, err := run.Publish(soon(t), 2, g); err != nil || c.Rows != 2 {
		t.Errorf("the step again, with a number in range: %+v, %v", c, err)
	}
	// A result that float16 has no room for, and a dtype that the query was not asked in.
	_, err := s.run.IHVP(soon(t), dst, normal(rand.New(rand.NewPCG(1, 1)), siteDim), client.WithDamping(1e-6), client.WithResult(wire.F16))
	refusal{wire.CodeOverflow, "column", "", "range of f16"}.check(t, err)
}
