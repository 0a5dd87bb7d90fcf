package integration

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mfac/client"
	"mfac/wire"
)

// TestLeaseOfTheBucket has coordinators that are told of a longer lease than the bucket was made
// with: were the bucket's TTL not to hold for them, the lease would run out before it is renewed
// and the two would take the run from each other.
func TestLeaseOfTheBucket(t *testing.T) {
	c := start(t, shape{workers: 1}) // makes the bucket with 2 s
	r := c.attach(c.client(), client.RunConfig{Name: "digits", Dim: 3, Window: 1, Damping: 1})
	c.stopCoordinator("c0")
	c.shape.coordinator.LeaseTTL = time.Hour
	c.startCoordinator("c1")
	c.startCoordinator("c2")
	before, err := r.Status(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second)
	after, err := r.Status(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if after.Epoch != before.Epoch || after.Coord != before.Coord {
		t.Errorf("the run went from %s at %v to %s at %v", before.Coord, before.Epoch, after.Coord, after.Epoch)
	}
}

// TestFreshCoordinator asks a coordinator that has just started, before it can have heard of all
// workers and read which runs there are.
func TestFreshCoordinator(t *testing.T) {
	const workers = 4
	c := start(t, shape{workers: 1})
	for i := 1; i < workers; i++ {
		time.Sleep(110 * time.Millisecond) // so that heartbeats are spread
		c.startWorker(fmt.Sprintf("w%d", i), 1<<30, 0)
	}
	cl := c.client()
	for i := range 3 {
		c.stopCoordinator("c0")
		c.startCoordinator("c0")
		r := c.attach(cl, client.RunConfig{Name: fmt.Sprintf("run%d", i), Dim: 100, Window: 1, Damping: 1})
		if got := r.Spec().Shards; got != workers {
			t.Errorf("run %d has %d shards, want one for each of %d workers", i, got, workers)
		}
		c.stopCoordinator("c0")
		c.startCoordinator("c0")
		if names, err := cl.Runs(within(t, 10*time.Second)); err != nil || len(names) != i+1 {
			t.Errorf("there are runs %v, %v, want %d", names, err, i+1)
		}
	}
}

// TestGhosts asks for a run that is not there, again and again: to find that out takes its time,
// which those who make a run and ask for a layout must not wait for.
func TestGhosts(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	cl := c.client()
	layout := []wire.Tensor{{Name: "all", Shape: []int64{100}}}
	run := c.attach(cl, client.RunConfig{Name: "first", Dim: 100, Window: 1, Damping: 1, Layout: layout})
	s := c.stranger("stranger")
	frame, err := wire.Encode(&wire.InfoRequest{Run: "ghost"})
	if err != nil {
		t.Fatal(err)
	}
	inbox := s.nc.NewInbox()
	answers, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	const asked = 100
	for range asked {
		if err := s.nc.PublishMsg(&nats.Msg{Subject: s.sub.Coordinator(wire.OpInfo, s.name), Reply: inbox, Header: frame.Header, Data: frame.Data}); err != nil {
			t.Fatal(err)
		}
	}
	heard := func() *wire.Error {
		t.Helper()
		m, err := answers.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.Decode(wire.Frame{Header: m.Header, Data: m.Data}, "")
		if err != nil {
			t.Fatal(err)
		}
		return as[*wire.Error](t, got)
	}
	if e := heard(); e.Code != wire.CodeBusy { // so all slots are taken
		t.Errorf("the first answer is %+v", e)
	}
	spec := run.Spec()
	spec.Name, spec.Layout = "second", ""
	as[*wire.Info](t, s.ask(s.sub.Coordinator(wire.OpCreate, s.name), &wire.Create{Spec: spec}))
	as[*wire.Layout](t, s.ask(s.sub.Coordinator(wire.OpLayout, s.name), &wire.LayoutRequest{Run: "first"}))
	for range asked - 1 { // all are answered
		if e := heard(); e.Code != wire.CodeUnknownRun && e.Code != wire.CodeBusy {
			t.Errorf("the ghost is %+v", e)
		}
	}
}

// TestLayoutsOfOneName has a name's run made with other layouts at the same time, by several
// coordinators, and deleted while it is made anew: its layout is always its own.
func TestLayoutsOfOneName(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	c.startCoordinator("c1")
	c.startCoordinator("c2")
	cls := []*client.Client{c.client(), c.client(), c.client()}
	time.Sleep(700 * time.Millisecond) // they have heard of the worker
	for round := range 15 {
		var all sync.WaitGroup
		for i, cl := range cls {
			all.Go(func() {
				layout := []wire.Tensor{{Name: fmt.Sprintf("tensor%d", i), Shape: []int64{100}}}
				_, err := cl.Attach(soon(t), client.RunConfig{Name: "same", Dim: 100, Window: 1, Damping: 1, Layout: layout})
				if err != nil && !errors.Is(err, wire.ErrExists) {
					t.Errorf("round %d: client %d: %v", round, i, err)
				}
			})
		}
		all.Wait()
		run, err := cls[0].Join(soon(t), "same")
		if err != nil {
			t.Fatal(err)
		}
		layout, err := run.Layout(soon(t))
		if err != nil || len(layout) != 1 || wire.LayoutHash(wire.CanonicalLayout(layout)) != run.Spec().Layout {
			t.Fatalf("round %d: the layout is %+v, %v, its hash is not %s", round, layout, err, run.Spec().Layout)
		}
		if err := cls[0].Delete(soon(t), "same"); err != nil {
			t.Fatal(err)
		}
	}
	if keys := c.keys("runs"); len(keys) != 0 {
		t.Errorf("there are no runs, but keys %v", keys)
	}
}

// TestUnreadableRecord: a run whose record the coordinator does not understand, of a later version
// perhaps, is answered for, and its lease is left to who understands it.
func TestUnreadableRecord(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1})
	cl := c.client()
	cfg := client.RunConfig{Name: "later", Dim: 100, Window: 1, Damping: 1}
	run := c.attach(cl, cfg)
	kv := c.bucket("runs")
	entry, err := kv.Get(soon(t), "run.later")
	if err != nil {
		t.Fatal(err)
	}
	c.stopCoordinator("c0")
	if _, err := kv.Put(soon(t), "run.later", []byte(`{"format":2}`)); err != nil {
		t.Fatal(err)
	}
	c.startCoordinator("c1")
	for what, err := range map[string]error{
		"status": func() error { _, err := run.Status(soon(t)); return err }(),
		"layout": func() error { _, err := run.Layout(soon(t)); return err }(),
		"create": func() error { _, err := cl.Attach(soon(t), cfg); return err }(),
		"query":  func() error { _, err := run.IHVP(soon(t), make([]float32, 100), make([]float32, 100)); return err }(),
	} {
		refusal{wire.CodeUnsupported, "record of run", "later", "understands"}.check(t, err)
		if err != nil && !strings.Contains(err.Error(), "format is 2") {
			t.Errorf("%s: the error does not say what is wrong: %v", what, err)
		}
	}
	st, err := c.bucket("leases").Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	before := st.(*jetstream.KeyValueBucketStatus).StreamInfo().State.LastSeq
	time.Sleep(2 * time.Second)
	if st, err = c.bucket("leases").Status(soon(t)); err != nil {
		t.Fatal(err)
	}
	if now := st.(*jetstream.KeyValueBucketStatus).StreamInfo().State.LastSeq; now != before {
		t.Errorf("the bucket of leases was written %d times in two seconds", now-before)
	}
	if _, err := kv.Put(soon(t), "run.later", entry.Value()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { _, err := run.Status(soon(t)); return err })
}

func (c *cluster) bucket(name string) jetstream.KeyValue {
	c.t.Helper()
	nc := c.connect("kv")
	c.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	kv, err := js.KeyValue(soon(c.t), "mfac_default_"+name)
	if err != nil {
		c.t.Fatal(err)
	}
	return kv
}

func (c *cluster) keys(bucket string) []string {
	c.t.Helper()
	keys, err := c.bucket(bucket).Keys(soon(c.t))
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		c.t.Fatal(err)
	}
	return keys
}
