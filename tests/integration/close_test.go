package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"mfac/client"
	"mfac/wire"
)

// A process leaves a query open and dies: what reads the rows waits, until one that goes on under its name closes all
// that the name has open. Another name's queries stay.
func TestCloseQueries(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	dead, other := c.stranger("trainer"), c.stranger("other")
	g := gradients(5, 8, 1000)
	run := c.attach(c.client(), client.RunConfig{Name: "left", Dim: 1000, Window: 2, Damping: 1, Spare: 1, Shards: 2})
	if _, err := run.PublishMany(soon(t), 1, g[:2]); err != nil {
		t.Fatal(err)
	}
	ask := func(s *stranger, step wire.Step) wire.QueryID {
		t.Helper()
		return as[*wire.QueryReply](t, s.coordinator(&wire.Query{
			Run: "left", Token: uint64(step), Kind: wire.KindRow, Vectors: 1, Result: wire.F32, DeadlineMS: 600_000,
			Payload: wire.AppendUint64s(nil, []wire.Step{step}),
		})).Query
	}
	ask(dead, 1)
	kept := ask(other, 2)
	if _, err := run.Publish(soon(t), 3, g[2]); err != nil { // in the spare slot
		t.Fatal(err)
	}
	if _, err := run.Publish(within(t, time.Second), 4, g[3]); !errors.Is(err, wire.ErrTimeout) || !errors.Is(err, wire.ErrBusy) {
		t.Fatalf("a step where row 1 is being read: %v, want a timeout that says busy", err)
	}
	again := c.attach(c.client(client.WithName("trainer")), client.RunConfig{Name: "left", Dim: 1000, Window: 2, Damping: 1})
	if err := again.CloseQueries(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Publish(soon(t), 4, g[3]); err != nil {
		t.Fatal(err)
	}
	if m, ok := other.coordinator(&wire.Result{Run: "left", Epoch: other.info("left").Epoch, Query: kept}).(*wire.ResultReply); !ok || m.State != wire.StateReady {
		t.Errorf("the other's query: %+v", m)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := again.CloseQueries(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}
