package client

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"mfac/internal/natsx"
	"mfac/wire"
)

// wantCode checks an error's code, and that its text has all of parts.
func wantCode(t *testing.T, err error, want wire.Code, parts ...string) {
	t.Helper()
	if !errors.Is(err, &wire.Error{Code: want}) {
		t.Errorf("error is %v, want %s", err, want)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error is %q, without %q", err, p)
		}
	}
}

func ramp(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i%1000) + 1
	}
	return v
}

func wantTwice[T, U Float](t *testing.T, dst []T, v []U) {
	t.Helper()
	for i := range dst {
		if float64(dst[i]) != 2*float64(v[i]) {
			t.Fatalf("column %d is %v, want %v", i, dst[i], 2*v[i])
		}
	}
}

func TestConnectOptions(t *testing.T) {
	for name, opt := range map[string]Option{
		"name":        WithName("A"),
		"tenant":      WithTenant("a.b"),
		"chunk bytes": WithChunkBytes(4),
		"too large":   WithChunkBytes(wire.MaxPayload + 1),
		"try timeout": WithTryTimeout(0),
		"timeout":     WithConnectTimeout(-time.Second),
	} {
		_, err := Connect(t.Context(), server0(), opt)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantCode(t, err, wire.CodeInvalid)
	}
	c, err := Connect(t.Context(), server0())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if wire.CheckName("name", c.Name()) != nil || c.chunkBytes != DefaultChunkBytes || c.tryTimeout != defaultTryTimeout {
		t.Errorf("defaults are %+v", c)
	}
}

func server0() string { return natsServer.URL() }

func TestChunksFitTheServer(t *testing.T) {
	small, err := natsx.Embedded(natsx.EmbeddedOptions{MaxPayload: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer small.Shutdown()
	c, err := Connect(t.Context(), small.URL())
	if err != nil {
		t.Fatal(err)
	}
	if c.chunkBytes != 60<<10 {
		t.Errorf("chunks of %d bytes", c.chunkBytes)
	}
	c.Close()
	_, err = Connect(t.Context(), small.URL(), WithChunkBytes(64<<10))
	wantCode(t, err, wire.CodeInvalid, "max_payload is 65536")
}

func TestWithConn(t *testing.T) {
	nc, err := natsx.Connect(t.Context(), natsx.Options{URL: server0(), Name: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c, err := Connect(t.Context(), "", WithConn(nc))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name() != "alice" {
		t.Errorf("name is %s", c.Name())
	}
	c.Close()
	if nc.IsClosed() {
		t.Error("Close closed a connection that is not its own")
	}
	_, err = Connect(t.Context(), "", WithConn(nc), WithName("bob"))
	wantCode(t, err, wire.CodeInvalid, "inbox prefix is _INBOX.alice")

	plain, err := nats.Connect(server0())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, err = Connect(t.Context(), "", WithConn(plain))
	wantCode(t, err, wire.CodeInvalid, "nats.CustomInboxPrefix")
}

func TestConnectGivesUp(t *testing.T) {
	_, err := Connect(t.Context(), "nats://127.0.0.1:1", WithConnectTimeout(50*time.Millisecond))
	if err == nil || !strings.Contains(err.Error(), "connect to NATS at nats://127.0.0.1:1: no connection within 50ms") {
		t.Errorf("error is %v", err)
	}
}

func TestRunsAndWorkers(t *testing.T) {
	f := newFake(t, "a", "b", "c")
	c := f.client()
	for _, name := range []string{"x", "z", "y"} {
		if _, err := c.Attach(t.Context(), RunConfig{Name: name, Dim: 2, Window: 4}); err != nil {
			t.Fatal(err)
		}
	}
	if runs, err := c.Runs(t.Context()); err != nil || !slices.Equal(runs, []string{"x", "y", "z"}) {
		t.Errorf("runs are %v, %v", runs, err)
	}
	workers, err := c.Workers(t.Context())
	if err != nil || len(workers) != 3 || workers[2].ID != "c" {
		t.Errorf("workers are %v, %v", workers, err)
	}
	if err := c.Delete(t.Context(), "y"); err != nil {
		t.Error(err)
	}
	wantCode(t, c.Delete(t.Context(), "y"), wire.CodeUnknownRun, "delete run y")
	lost := false
	f.on(func(op, worker string, m wire.Message) (wire.Message, bool) {
		if op != wire.OpDelete || lost {
			return nil, false
		}
		lost = true
		f.plain(worker, m)
		return nil, true
	})
	if err := c.Delete(t.Context(), "z"); err != nil {
		t.Errorf("deleted, but the answer was lost: %v", err)
	}
	lost = false
	f.on(func(op, worker string, m wire.Message) (wire.Message, bool) { // and somebody else made another "x" at once
		if op != wire.OpDelete || lost {
			return nil, false
		}
		lost = true
		was := f.runs["x"].info
		f.plain(worker, m)
		was.UID += 100
		f.runs["x"] = &fakeRun{info: was}
		return nil, true
	})
	if err := c.Delete(t.Context(), "x"); err != nil {
		t.Errorf("deleted, but the answer was lost and there is another run: %v", err)
	}
	wantCode(t, c.Delete(t.Context(), "Y"), wire.CodeInvalid)
	_, err = c.Join(t.Context(), "y")
	wantCode(t, err, wire.CodeUnknownRun, "join run y")
	r, err := c.Join(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Spec(); s.Shards != 2 || s.Damping != DefaultDamping || s.Spare != wire.DefaultSpare || s.Divisor != wire.Capacity {
		t.Errorf("spec is %+v", s) // as many shards as workers, but no more than columns
	}
}

func TestAttachRefuses(t *testing.T) {
	f := newFake(t, "a")
	c := f.client()
	good := RunConfig{Name: "run", Dim: 10, Window: 4, Damping: 0.5}
	if _, err := c.Attach(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*RunConfig){
		"dim is 11, must be 10":           func(c *RunConfig) { c.Dim = 11 },
		"window is 5, must be 4":          func(c *RunConfig) { c.Window = 5 },
		"damping is 0.25, must be 0.5":    func(c *RunConfig) { c.Damping = 0.25 },
		"divisor is count, must be":       func(c *RunConfig) { c.Divisor = wire.Count },
		"layout is 3b8b04d0, must be":     func(c *RunConfig) { c.Layout = []wire.Tensor{{Name: "w", Shape: []int64{10}}} },
		"name is \"R\", must be":          func(c *RunConfig) { c.Name = "R" },
		"damping is NaN, must be":         func(c *RunConfig) { c.Damping = math.NaN() },
		"shards is 11, must be in [1, 10": func(c *RunConfig) { c.Shards = 11 },
		"dim is 10, must be 9, the size":  func(c *RunConfig) { c.Layout = []wire.Tensor{{Name: "w", Shape: []int64{3, 3}}} },
		"shape of tensor \"w\" is [0]":    func(c *RunConfig) { c.Layout = []wire.Tensor{{Name: "w", Shape: []int64{0}}} },
	} {
		cfg := good
		change(&cfg)
		_, err := c.Attach(t.Context(), cfg)
		if strings.HasPrefix(name, "layout") {
			name = "layout is "
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error is %v, want %s", err, name)
		}
	}
	good.Shards, good.Spare = 3, 9 // they are taken as they are
	if _, err := c.Attach(t.Context(), good); err != nil {
		t.Error(err)
	}
}

// A coordinator that joins a run although it differs is not believed.
func TestAttachChecksTheReply(t *testing.T) {
	f := newFake(t, "a")
	f.attached(10)
	f.on(func(op, _ string, m wire.Message) (wire.Message, bool) {
		if op != wire.OpCreate {
			return nil, false
		}
		info := f.runs["run"].info
		return &info, true
	})
	_, err := f.client().Attach(t.Context(), RunConfig{Name: "run", Dim: 10, Window: 4, Damping: 2})
	wantCode(t, err, wire.CodeExists, "damping is 2, must be 1, as in the run that exists")
	_, err = f.client().Attach(t.Context(), RunConfig{Name: "other", Dim: 10, Window: 4, Damping: 1})
	wantCode(t, err, wire.CodeMalformed)
}

func TestLayout(t *testing.T) {
	f := newFake(t, "a")
	c := f.client()
	tensors := []wire.Tensor{{Name: "w", Shape: []int64{2, 3}}, {Name: "scale"}, {Name: "b<1>", Shape: []int64{2}}}
	r, err := c.Attach(t.Context(), RunConfig{Name: "run", Window: 4, Layout: tensors})
	if err != nil {
		t.Fatal(err)
	}
	if r.Dim() != 9 {
		t.Errorf("dim is %d", r.Dim())
	}
	got, err := r.Layout(t.Context())
	if err != nil || len(got) != 3 || got[1].Offset != 6 || got[2].Offset != 7 || got[2].Name != "b<1>" {
		t.Errorf("layout is %v, %v", got, err)
	}
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
		return &wire.Layout{Payload: []byte("[]")}, op == wire.OpLayout
	})
	_, err = r.Layout(t.Context())
	wantCode(t, err, wire.CodeMalformed)
}

// While there is no worker, Attach waits.
func TestAttachWaitsForWorkers(t *testing.T) {
	f := newFake(t)
	time.AfterFunc(250*time.Millisecond, func() {
		f.mu.Lock()
		f.workers = []string{"a", "b"}
		f.mu.Unlock()
	})
	r, err := f.client().Attach(t.Context(), RunConfig{Name: "run", Dim: 10, Window: 4})
	if err != nil {
		t.Fatal(err)
	}
	if r.Spec().Shards != 2 {
		t.Errorf("%d shards", r.Spec().Shards)
	}
}

func TestStatusAndSteps(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(100)
	for s := wire.Step(1); s <= 6; s++ {
		if _, err := r.Publish(t.Context(), s, ramp(100)); err != nil {
			t.Fatal(err)
		}
	}
	w, err := r.Steps(t.Context())
	if err != nil || w.Version != 6 || !slices.Equal(w.Steps, []wire.Step{3, 4, 5, 6}) {
		t.Errorf("window is %v, %v", w, err)
	}
	info, err := r.Status(t.Context())
	if err != nil || info.Newest != 6 || info.Rows != 4 {
		t.Errorf("status is %+v, %v", info, err)
	}
	f.mu.Lock()
	f.runs["run"].info.UID++
	f.mu.Unlock()
	_, err = r.Status(t.Context())
	wantCode(t, err, wire.CodeUnknownRun, "attach again")
}

func TestClose(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(10)
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) { return nil, op == wire.OpWait })
	errs := make(chan error, 2)
	go func() {
		_, err := r.Publish(context.Background(), 1, ramp(10))
		errs <- err
	}()
	for f.count(wire.OpWait) == 0 {
		time.Sleep(time.Millisecond)
	}
	var wg sync.WaitGroup
	wg.Go(r.c.Close)
	wg.Go(r.c.Close)
	wg.Wait()
	if err := <-errs; !errors.Is(err, ErrClosed) || errors.Is(err, wire.ErrTimeout) {
		t.Errorf("error is %v", err)
	}
	if _, err := r.Steps(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("error is %v", err)
	}
}

// What NATS denies is said at the first try, instead of silence until the deadline.
func TestDenied(t *testing.T) {
	s, err := natsx.Embedded(natsx.EmbeddedOptions{Configure: func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"mfac.default.c.list.u"}},
		}}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	url := strings.Replace(s.URL(), "nats://", "nats://u:p@", 1)
	c, err := Connect(t.Context(), url, WithName("u"), WithTryTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Workers(t.Context())
	wantCode(t, err, wire.CodeDenied, "mfac.default.c.status.u")
}
