package client

import (
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"testing"

	"mfac/wire"
)

const dim = 333 // no multiple of anything

func TestIHVP(t *testing.T) {
	f := newFake(t, "a", "b", "c")
	r := f.attached(dim)
	v, dst := ramp(dim), make([]float32, dim)
	v64, dst64 := make([]float64, dim), make([]float64, dim)
	for i := range v64 {
		v64[i] = math.Sqrt(float64(i))
	}
	a, err := r.IHVP(t.Context(), dst, v)
	if err != nil || a.Bound() != 1e-12 {
		t.Fatalf("answer is %v, %v", a, err)
	}
	wantTwice(t, dst, v)
	if _, err := r.IHVP64(t.Context(), dst64, v64); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst64, v64)

	k, k64 := [][]float32{v, ramp(dim)}, [][]float64{v64, v64}
	d, d64 := [][]float32{dst, make([]float32, dim)}, [][]float64{dst64, make([]float64, dim)}
	k[1][7] = -3
	a, err = r.IHVPs(t.Context(), d, k)
	if err != nil || len(a.Bounds) != 2 || a.Bound() != 2e-12 {
		t.Fatalf("answer is %v, %v", a, err)
	}
	wantTwice(t, d[0], k[0])
	wantTwice(t, d[1], k[1])
	if _, err := r.IHVPs64(t.Context(), d64, k64); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, d64[1], k64[1])
}

// memory is a Source and a Sink that look for two callers at once.
type memory[T Float] struct {
	mu sync.Mutex
	x  []T
}

func (m *memory[T]) ReadColumns(dst []T, lo int64) error {
	if !m.mu.TryLock() {
		return errors.New("two at once")
	}
	defer m.mu.Unlock()
	copy(dst, m.x[lo:])
	return nil
}

func (m *memory[T]) WriteColumns(src []T, lo int64) error {
	if !m.mu.TryLock() {
		return errors.New("two at once")
	}
	defer m.mu.Unlock()
	copy(m.x[lo:], src)
	return nil
}

func TestStreams(t *testing.T) {
	f := newFake(t, "a", "b", "c")
	r := f.attached(dim)
	f.credit = func(string, int64) (int64, int64) { return 1 << 20, 60_000 }
	src, sink := &memory[float32]{x: ramp(dim)}, &memory[float32]{x: make([]float32, dim)}
	if _, err := r.PublishFrom(t.Context(), 1, src); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PreconditionFrom(t.Context(), 2, sink, src); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, sink.x, src.x)
	clear(sink.x)
	if _, err := r.IHVPFrom(t.Context(), sink, src); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, sink.x, src.x)
	clear(sink.x)
	if _, err := r.IHVPCombineTo(t.Context(), sink, []wire.Step{1}, []float64{1}); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, sink.x, src.x)
	src64, sink64 := &memory[float64]{x: make([]float64, dim)}, &memory[float64]{x: make([]float64, dim)}
	src64.x[dim-1] = math.Pi
	if _, err := r.IHVPFrom64(t.Context(), sink64, src64); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, sink64.x, src64.x)
	want := make([]float64, dim)
	for i, x := range src.x {
		want[i] = float64(x)
	}
	clear(sink64.x)
	if _, err := r.PreconditionFrom64(t.Context(), 3, sink64, src); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, sink64.x, want)
	clear(sink64.x)
	if _, err := r.IHVPCombineTo64(t.Context(), sink64, []wire.Step{1}, []float64{1}); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, sink64.x, want)
	clear(sink64.x)
	if _, err := r.PreconditionColumns64(t.Context(), 4, 0, sink64.x, src.x); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, sink64.x, want)
}

type broken struct{ err error }

func (b broken) ReadColumns([]float32, int64) error  { return b.err }
func (b broken) WriteColumns([]float32, int64) error { return b.err }

// An error of the caller's own is final, whatever it wraps.
func TestStreamErrors(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(dim)
	for _, cause := range []error{io.ErrUnexpectedEOF, wire.ErrBusy, wire.ErrUnavailable} {
		b := broken{cause}
		ok := &memory[float32]{x: ramp(dim)}
		if _, err := r.PublishFrom(t.Context(), 9, b); !errors.Is(err, cause) {
			t.Errorf("error is %v", err)
		}
		if _, err := r.IHVPFrom(t.Context(), ok, b); !errors.Is(err, cause) {
			t.Errorf("error is %v", err)
		}
		if _, err := r.IHVPFrom(t.Context(), b, ok); !errors.Is(err, cause) {
			t.Errorf("error is %v", err)
		}
	}
}

func TestCombinations(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(dim)
	g := ramp(dim)
	if _, err := r.PublishMany(t.Context(), 5, [][]float32{g, g, g}); err != nil {
		t.Fatal(err)
	}
	dst, dst64 := make([]float32, dim), make([]float64, dim)
	if _, err := r.IHVPStep(t.Context(), dst, 6); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst, g)
	if _, err := r.IHVPStep64(t.Context(), dst64, 6); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst64, g)
	clear(dst)
	if _, err := r.IHVPCombine(t.Context(), dst, []wire.Step{5, 7}, []float64{0.25, 0.75}); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst, g)
	clear(dst64)
	if _, err := r.IHVPCombine64(t.Context(), dst64, []wire.Step{5, 7}, []float64{2, -1}); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst64, g)
	two := [][]float32{make([]float32, dim), make([]float32, dim)}
	if _, err := r.IHVPCombines(t.Context(), two, []wire.Step{5, 7}, [][]float64{{0, 0}, {0, 1}}); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, two[0], make([]float32, dim))
	wantTwice(t, two[1], g)
	if _, err := r.IHVPCombines64(t.Context(), [][]float64{dst64}, []wire.Step{5}, [][]float64{{1}}); err != nil {
		t.Fatal(err)
	}
	clear(dst)
	if a, err := r.Gradient(t.Context(), dst, 6, WithExactly(3)); err != nil || a.Version != 3 {
		t.Fatalf("answer is %v, %v", a, err)
	}
	if !slices.Equal(dst, g) {
		t.Error("the gradient differs")
	}
	_, err := r.IHVPStep(t.Context(), dst, 4)
	wantCode(t, err, wire.CodeUnknownStep)
	if n := f.count(wire.OpVec); n != 0 {
		t.Errorf("%d chunks of vectors were sent", n)
	}
}

func TestQueryOptions(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	var last *wire.Query
	f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
		if q, ok := m.(*wire.Query); ok {
			last = q
		}
		return nil, false
	})
	dst, v := make([]float32, 4), ramp(4)
	if _, err := r.IHVP(t.Context(), dst, v, WithDamping(0.5), WithDivisor(wire.Count)); err != nil {
		t.Fatal(err)
	}
	if last.Damping != 0.5 || last.Divisor != wire.Count || last.DeadlineMS <= 0 || last.DeadlineMS > DefaultDeadline.Milliseconds()+lateMS || last.Token == 0 {
		t.Errorf("query is %+v", last)
	}
	for want, opts := range map[wire.Code][]QueryOption{
		wire.CodeTooFewRows: {WithMinRows(1)},
		wire.CodeBehind:     {WithAtLeast(1)},
		wire.CodeInvalid:    {WithDamping(-1)},
	} {
		_, err := r.IHVP(t.Context(), dst, v, opts...)
		wantCode(t, err, want, "query (vector): ")
	}
	if _, err := r.Publish(t.Context(), 1, v); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(t.Context(), 2, v); err != nil {
		t.Fatal(err)
	}
	_, err := r.IHVP(t.Context(), dst, v, WithExactly(1))
	wantCode(t, err, wire.CodeVersionGone)
	a, err := r.IHVP(t.Context(), dst, v, WithExactly(2), WithMinRows(2), WithAtLeast(1))
	if err != nil || a.Version != 2 || a.Rows != 2 {
		t.Errorf("answer is %v, %v", a, err)
	}
	for name, opt := range map[string]QueryOption{
		"NaN damping": WithDamping(math.NaN()), "divisor": WithDivisor("x"), "min rows": WithMinRows(-1),
	} {
		if _, err := r.IHVP(t.Context(), dst, v, opt); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the client can tell is told before anything is sent.
func TestQueryChecks(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	before := f.count(wire.OpQuery)
	v, long := ramp(4), ramp(5)
	many := make([][]float32, r.MaxVectors()+1)
	for i := range many {
		many[i] = make([]float32, 4)
	}
	ctx := t.Context()
	for name, err := range map[string]error{
		"length of the vector is 5, must be 4, the run's dim": second(r.IHVP(ctx, make([]float32, 4), long)),
		"length of the result is 5":                           second(r.IHVP(ctx, long, v)),
		"result is in the vector's memory":                    second(r.IHVP(ctx, v, v)),
		"results is 2, must be 1":                             second(r.IHVPs(ctx, [][]float32{v, v}, [][]float32{v})),
		"vectors is 0, must be in [1, 64]":                    second(r.IHVPs(ctx, nil, nil)),
		"vectors is 65":                                       second(r.IHVPs(ctx, many, many)),
		"coefficients is 1, must be 2":                        second(r.IHVPCombine(ctx, v, []wire.Step{1, 2}, []float64{1})),
		"coefficient is NaN":                                  second(r.IHVPCombine(ctx, v, []wire.Step{1}, []float64{math.NaN()})),
		"steps is 0, must be in [1, 4], the run's window":     second(r.IHVPCombine(ctx, v, nil, nil)),
		"query (row): length of the result is 5":              second(r.Gradient(ctx, long, 1)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantCode(t, err, code(err), name)
	}
	if f.count(wire.OpQuery) != before {
		t.Error("something was sent")
	}
}

func second[T any](_ T, err error) error { return err }

// Every query is closed, in the background.
func TestQueriesAreClosed(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	v := ramp(4)
	if _, err := r.IHVP(t.Context(), make([]float32, 4), v); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Precondition(t.Context(), 1, make([]float32, 4), v); err != nil {
		t.Fatal(err)
	}
	r.c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.runs["run"].queries); n != 0 || f.counts[wire.OpClose] != 2 {
		t.Errorf("%d queries are open after %d were closed", n, f.counts[wire.OpClose])
	}
}
