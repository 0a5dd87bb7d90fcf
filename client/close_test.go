package client

import (
	"testing"
	"time"

	"mfac/internal/natsx"
	"mfac/wire"
)

// The word that a query is done with gets through where NATS is away for longer than a few tries take: else the
// version would be held until the query's deadline.
func TestCloseWhileNATSIsAway(t *testing.T) {
	s, port := serverOf(t)
	defer func() { s.Shutdown() }()
	f := newFake(t, "a")
	r := f.attached(dim)
	s.Shutdown()
	for deadline := time.Now().Add(10 * time.Second); r.c.nc.IsConnected(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still connected")
		}
	}
	r.close(r.info(), 7)
	time.Sleep(500 * time.Millisecond) // five tries, or six
	var err error
	if s, err = natsx.Embedded(natsx.EmbeddedOptions{StoreDir: t.TempDir(), Port: port}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); f.count(wire.OpClose) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the coordinator hears nothing")
		}
	}
	r.c.Close()
	f.nc.Close()
}
