package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"mfac/wire"
)

// Every call that sends or fetches numbers does so in the dtype that it is told, and the caller has
// them in its own.
func TestWireDTypes(t *testing.T) {
	for _, as := range []wire.DType{"", wire.F32, wire.BF16, wire.F16} {
		for _, result := range []wire.DType{"", wire.F32, wire.BF16, wire.F16} {
			t.Run(fmt.Sprintf("%s and %s", as, result), func(t *testing.T) {
				f := newFake(t, "a", "b")
				r := f.attached(3333, WithChunkBytes(1000))
				var mu sync.Mutex
				seen := map[wire.DType]int{}
				f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
					mu.Lock()
					defer mu.Unlock()
					switch m := m.(type) {
					case *wire.Chunk:
						seen[m.DType]++
					case *wire.Vec:
						seen["vec "+m.DType]++
					case *wire.Fetch:
						seen["fetch "+m.DType]++
					}
					return nil, false
				})
				expect := func(own wire.DType, kinds ...string) {
					t.Helper()
					mu.Lock()
					defer mu.Unlock()
					want := map[string]wire.DType{"chunk": as, "vec": as, "fetch": result}
					for _, k := range kinds {
						d := want[k]
						if d == "" {
							d = own
						}
						if k != "chunk" {
							d = wire.DType(k) + " " + d
						}
						if seen[d] == 0 {
							t.Errorf("no %q: %v", d, seen)
						}
						delete(seen, d)
					}
					if len(seen) > 0 {
						t.Errorf("%v besides", seen)
					}
					clear(seen)
				}
				ctx := t.Context()
				n := int(r.Dim())
				g, x32, x64 := make([]float32, n), make([]float32, n), make([]float64, n)
				v64 := make([]float64, n)
				for i := range g {
					g[i] = float32(i%200) - 100 // and twice that: bfloat16 can say them
					v64[i] = float64(g[i])
				}
				must := func(_ any, err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				on, in := WithWire(as), WithResult(result)
				if as == "" {
					on = func(*call) error { return nil }
				}
				if result == "" {
					in = func(*call) error { return nil }
				}
				must(r.Publish(ctx, 1, g, on))
				expect(wire.F32, "chunk")
				must(r.PublishMany(ctx, 2, [][]float32{g, g, g}, on))
				expect(wire.F32, "chunk")
				must(r.PublishFrom(ctx, 5, &memory[float32]{x: g}, on))
				expect(wire.F32, "chunk")
				must(r.PublishColumns(ctx, 6, 0, g, on))
				expect(wire.F32, "chunk")
				must(r.Precondition(ctx, 7, x32, g, on, in))
				wantTwice(t, x32, g)
				expect(wire.F32, "chunk", "fetch")
				must(r.PreconditionColumns(ctx, 8, 0, x32, g, on, in))
				wantTwice(t, x32, g)
				expect(wire.F32, "chunk", "fetch")
				sink := &memory[float32]{x: make([]float32, n)}
				must(r.PreconditionFrom(ctx, 9, sink, &memory[float32]{x: g}, on, in))
				wantTwice(t, sink.x, g)
				expect(wire.F32, "chunk", "fetch")

				must(r.IHVP(ctx, x32, g, on, in))
				wantTwice(t, x32, g)
				expect(wire.F32, "vec", "fetch")
				must(r.IHVPs(ctx, [][]float32{x32, sink.x}, [][]float32{g, g}, on, in))
				wantTwice(t, sink.x, g)
				expect(wire.F32, "vec", "fetch")
				clear(sink.x)
				must(r.IHVPFrom(ctx, sink, &memory[float32]{x: g}, on, in))
				wantTwice(t, sink.x, g)
				expect(wire.F32, "vec", "fetch")
				must(r.IHVPStep(ctx, x32, 9, in))
				wantTwice(t, x32, g)
				expect(wire.F32, "fetch")
				clear(sink.x)
				must(r.IHVPCombineTo(ctx, sink, []wire.Step{9}, []float64{1}, in))
				wantTwice(t, sink.x, g)
				expect(wire.F32, "fetch")

				must(r.Precondition64(ctx, 10, x64, g, on, in))
				wantTwice(t, x64, g)
				mu.Lock()
				delete(seen, map[bool]wire.DType{true: wire.F32, false: as}[as == ""])
				mu.Unlock()
				expect(wire.F64, "fetch")
				must(r.IHVP64(ctx, x64, v64, on, in))
				wantTwice(t, x64, g)
				expect(wire.F64, "vec", "fetch")
				sink64 := &memory[float64]{x: make([]float64, n)}
				must(r.IHVPFrom64(ctx, sink64, &memory[float64]{x: v64}, on, in))
				wantTwice(t, sink64.x, g)
				expect(wire.F64, "vec", "fetch")
				must(r.IHVPStep64(ctx, x64, 10, in))
				wantTwice(t, x64, g)
				expect(wire.F64, "fetch")
				must(r.Gradient(ctx, x32, 10))
				mu.Lock()
				defer mu.Unlock()
				if seen["fetch "+wire.F32] == 0 || len(seen) != 1 {
					t.Errorf("a row is fetched as %v", seen)
				}
			})
		}
	}
}

// The grid in each dtype is the protocol's.
func TestGrid(t *testing.T) {
	info := &wire.Info{Spec: wire.RunSpec{Dim: 1_000_000}, Lo: []int64{0}}
	for as, want := range map[wire.DType]int64{wire.F32: 245_760, wire.F64: 122_880, wire.BF16: 491_520, wire.F16: 491_520} {
		if got := cut(info, 0, info.Spec.Dim, 1, DefaultChunkBytes, as)[0].n; got != want {
			t.Errorf("%s: %d columns a chunk, want %d", as, got, want)
		}
	}
}

// Dtypes that there aren't, and those that the caller's numbers don't fit, are refused before
// anything is asked.
func TestBadDTypes(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(8)
	ctx, g, x64 := t.Context(), ramp(8), make([]float64, 8)
	dst := make([]float32, 8)
	for name, tt := range map[string]struct {
		ask  func() error
		text string
	}{
		"wire f8": {func() error { _, err := r.Publish(ctx, 1, g, WithWire("f8")); return err }, "wire is f8, must be f32, f64, bf16 or f16"},
		"no wire": {func() error { _, err := r.IHVP(ctx, dst, g, WithWire("")); return err }, "wire is , must be f32"},
		"a gradient in f64": {func() error { _, err := r.Publish(ctx, 1, g, WithWire(wire.F64)); return err },
			"wire is f64, must be f32, bf16 or f16 for float32 numbers"},
		"a gradient in f64, with a result in f64": {func() error { _, err := r.Precondition64(ctx, 1, x64, g, WithWire(wire.F64)); return err }, "wire is f64"},
		"a vector in f64":                         {func() error { _, err := r.IHVP(ctx, dst, g, WithWire(wire.F64)); return err }, "wire is f64"},
		"a result in f64":                         {func() error { _, err := r.IHVP(ctx, dst, g, WithResult(wire.F64)); return err }, "result is f64"},
		"a preconditioned one in f64":             {func() error { _, err := r.Precondition(ctx, 1, dst, g, WithResult(wire.F64)); return err }, "result is f64"},
		"result i4":                               {func() error { _, err := r.IHVPStep(ctx, dst, 1, WithResult("i4")); return err }, "result is i4"},
		"wire where nothing is sent": {func() error { _, err := r.IHVPStep(ctx, dst, 1, WithWire(wire.BF16)); return err },
			"wire is bf16, must be left out: no vectors are sent"},
		"store f64": {func() error {
			_, err := f.client().Attach(ctx, RunConfig{Name: "other", Dim: 8, Window: 4, Damping: 1, Store: wire.F64})
			return err
		}, "store is f64, must be f32, bf16 or f16"},
		"another store": {func() error {
			_, err := f.client().Attach(ctx, RunConfig{Name: "run", Dim: 8, Window: 4, Damping: 1, Store: wire.F16})
			return err
		}, "store is f16, must be f32"},
	} {
		before := f.count(wire.OpOpen) + f.count(wire.OpQuery)
		err := tt.ask()
		var e *wire.Error
		if !errors.As(err, &e) || !strings.Contains(e.Error(), tt.text) {
			t.Errorf("%s: got %v, want %q", name, err, tt.text)
		}
		if f.count(wire.OpOpen)+f.count(wire.OpQuery) != before {
			t.Errorf("%s: something was asked", name)
		}
	}
}

// A number that the wire's dtype can't say is an error that names its column and what it was; the
// service hears of it, so that the step is dropped at once.
func TestLostOnTheWire(t *testing.T) {
	const col = 2222
	f := newFake(t, "a", "b")
	r := f.attached(3333, WithChunkBytes(2048))
	dst64 := make([]float64, 3333)
	step := wire.Step(0)
	for _, tt := range []struct {
		x    float64
		as   wire.DType
		want *wire.Error
		text string
	}{
		{65520, wire.F16, wire.ErrOverflow, "column is 2222, must be within the range of f16: it holds 65520:"},
		{-1e30, wire.F16, wire.ErrOverflow, "it holds -1e+30"},
		{math.MaxFloat32, wire.BF16, wire.ErrOverflow, "column is 2222, must be within the range of bf16"},
		{math.Inf(-1), wire.BF16, wire.ErrNotFinite, "column is 2222, must be finite: it holds -Inf"},
		{math.NaN(), wire.F16, wire.ErrNotFinite, "column is 2222, must be finite: it holds NaN"},
		{1e39, wire.F32, wire.ErrOverflow, "column is 2222, must be within the range of f32: it holds 1e+39"}, // of a float64 alone
	} {
		check := func(what string, err error) {
			t.Helper()
			var e *wire.Error
			if !errors.Is(err, tt.want) || !errors.As(err, &e) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s of %v in %s: got %v, want %q", what, tt.x, tt.as, err, tt.text)
			}
		}
		v64 := make([]float64, 3333)
		v64[col] = tt.x
		if tt.as != wire.F32 {
			g := make([]float32, 3333)
			g[col] = float32(tt.x)
			step++
			_, err := r.Publish(t.Context(), step, g, WithWire(tt.as))
			check("gradient", err)
			f.mu.Lock()
			if n := len(f.runs["run"].open); n > 0 {
				t.Errorf("%d steps are left open", n)
			}
			f.mu.Unlock()
			_, err = r.PublishFrom(t.Context(), step, &memory[float32]{x: g}, WithWire(tt.as))
			check("gradient that is read", err)
		}
		f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
			if v, ok := m.(*wire.Vec); ok {
				for i, x := range numbers(v.Payload, v.DType) {
					if math.IsNaN(x) || math.IsInf(x, 0) {
						return wire.Errorf(wire.CodeNotFinite, "column", v.Lo+int64(i), "finite"), true
					}
				}
			}
			return nil, false
		})
		_, err := r.IHVP64(t.Context(), dst64, v64, WithWire(tt.as))
		check("vector", err)
		f.on(nil)
	}
}

// A call has no more chunks of other numbers in memory than one that reads from a Source.
func TestConvertedChunksInFlight(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(100_000, WithChunkBytes(2048))
	f.credit = func(string, int64) (int64, int64) { return 1 << 20, 60_000 }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := r.Publish(ctx, 1, make([]float32, 100_000), WithWire(wire.BF16)); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for w, n := range f.peak {
		if n > streamWindow/2 {
			t.Errorf("%d chunks in flight at %s of two", n, w)
		}
	}
}
