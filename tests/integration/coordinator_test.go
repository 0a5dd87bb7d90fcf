package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

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
