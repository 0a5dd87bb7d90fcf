// Package integration tests the whole over a real bus: an embedded nats-server, a coordinator and
// workers as they are deployed, and the client SDK.
package integration

import (
	"cmp"
	"context"
	"errors"
	"flag"
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

// TestMain runs the tests, or is the process of one service where a test has started it as that.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(serve(role))
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("6") // most of a test is waiting: for heartbeats, leases, deadlines
	}
	goleak.VerifyTestMain(m)
}

// cluster is a nats-server, coordinators and workers in this process, each on a connection of its
// own.
type cluster struct {
	t       testing.TB
	server  *natsx.Server
	log     *zap.Logger
	shape   shape
	workers map[string]*node
	coords  map[string]*node
}

// node is a service and its connection.
type node struct {
	nc      *nats.Conn
	service interface{ Stop(context.Context) error }
}

type shape struct {
	workers     int
	capacity    int64
	threads     int
	coordinator coordinator.ServiceConfig // its durations; Name, Tenant and Logger are set
}

// calm is a coordinator as deployed, which takes nobody for dead who has only been slow: for tests in which nobody dies, but
// that see whether the run has changed hands, on a machine that may be busy.
var calm = coordinator.ServiceConfig{LeaseTTL: 15 * time.Second, Silent: 15 * time.Second}

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
	c := &cluster{t: t, server: server, log: log, shape: s, workers: map[string]*node{}, coords: map[string]*node{}}
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
	c.complete()
	return c
}

// complete waits until the coordinator has heard of all workers: runs are placed on those.
func (c *cluster) complete() {
	c.t.Helper()
	if c.shape.workers == 0 {
		return
	}
	cl, err := client.Connect(context.Background(), c.server.URL())
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	eventually(c.t, func() error {
		workers, err := cl.Workers(within(c.t, 5*time.Second))
		if err == nil && len(workers) != c.shape.workers {
			err = fmt.Errorf("%d of %d workers", len(workers), c.shape.workers)
		}
		return err
	})
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
	cfg := c.shape.coordinator
	cfg.Name, cfg.Tenant, cfg.Logger = name, "default", c.log
	cfg.LeaseTTL, cfg.Silent = cmp.Or(cfg.LeaseTTL, 2*time.Second), cmp.Or(cfg.Silent, 2*time.Second)
	s, err := coordinator.Serve(context.Background(), nc, cfg)
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

// crash cuts a service off without a word to anybody. Its goroutines end too.
func (c *cluster) crash(n *node) {
	c.t.Helper()
	n.nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.service.Stop(ctx); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		c.t.Errorf("stop after the crash: %v", err)
	}
}

func (c *cluster) crashCoordinator(name string) {
	c.t.Helper()
	c.crash(c.coords[name])
	delete(c.coords, name)
}

func (c *cluster) crashWorker(id string) {
	c.t.Helper()
	c.crash(c.workers[id])
	delete(c.workers, id)
}

// attach creates a run or joins it.
func (c *cluster) attach(cl *client.Client, cfg client.RunConfig) *client.Run {
	c.t.Helper()
	r, err := cl.Attach(within(c.t, 20*time.Second), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// eventually polls until f has no complaint, which is what time-outs say.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after 15 s: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
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
