// Package integration tests the whole over a real bus: an embedded nats-server, a coordinator and
// workers as they are deployed, and the client SDK.
package integration

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"mfac/client"
	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is a nats-server, coordinators and workers in this process, each on a connection of its
// own.
type cluster struct {
	t       testing.TB
	server  *natsx.Server
	log     *zap.Logger
	workers map[string]*node
	coords  map[string]*node
}

// node is a service and its connection.
type node struct {
	nc      *nats.Conn
	service interface{ Stop(context.Context) error }
}

type shape struct {
	workers  int
	capacity int64
	threads  int
}

func start(t testing.TB, s shape) *cluster {
	t.Helper()
	log := zap.NewNop()
	if os.Getenv("MFAC_TEST_LOG") != "" {
		log = zaptest.NewLogger(t)
	}
	server, err := natsx.Embedded(natsx.EmbeddedOptions{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, server: server, log: log, workers: map[string]*node{}, coords: map[string]*node{}}
	t.Cleanup(func() {
		for name := range c.coords {
			c.stopCoordinator(name)
		}
		for id := range c.workers {
			c.stopWorker(id)
		}
		server.Shutdown()
	})
	if s.capacity == 0 {
		s.capacity = 1 << 30
	}
	for i := range s.workers {
		c.startWorker(fmt.Sprintf("w%d", i), s.capacity, s.threads)
	}
	c.startCoordinator("c0")
	return c
}

func (c *cluster) connect(name string) *nats.Conn {
	c.t.Helper()
	nc, err := natsx.Connect(context.Background(), natsx.Options{URL: c.server.URL(), Name: name, Log: c.log})
	if err != nil {
		c.t.Fatal(err)
	}
	return nc
}

func (c *cluster) startWorker(id string, capacity int64, threads int) {
	c.t.Helper()
	nc := c.connect(id)
	s, err := worker.Serve(context.Background(), nc, worker.ServiceConfig{ID: id, Tenant: "default", Capacity: capacity, Threads: threads, Logger: c.log})
	if err != nil {
		c.t.Fatal(err)
	}
	c.workers[id] = &node{nc, s}
}

func (c *cluster) startCoordinator(name string) {
	c.t.Helper()
	nc := c.connect(name)
	s, err := coordinator.Serve(context.Background(), nc, coordinator.ServiceConfig{
		Name: name, Tenant: "default", LeaseTTL: 2 * time.Second, Silent: 2 * time.Second, Logger: c.log,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.coords[name] = &node{nc, s}
}

func (c *cluster) stop(n *node) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.service.Stop(ctx); err != nil {
		c.t.Errorf("stop: %v", err)
	}
	n.nc.Close()
}

func (c *cluster) stopWorker(id string) {
	c.t.Helper()
	c.stop(c.workers[id])
	delete(c.workers, id)
}

func (c *cluster) stopCoordinator(name string) {
	c.t.Helper()
	c.stop(c.coords[name])
	delete(c.coords, name)
}

// client attaches to the cluster.
func (c *cluster) client(opts ...client.Option) *client.Client {
	c.t.Helper()
	cl, err := client.Connect(context.Background(), c.server.URL(), opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	return cl
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
