// Package cluster runs NATS, a coordinator and workers in one process, as they would be deployed:
// each has a connection of its own. It is for `mfac up`, `mfac demo` and tests.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mfac/client"
	"mfac/coordinator"
	"mfac/internal/config"
	"mfac/internal/natsx"
	"mfac/worker"
)

// DefaultWorkers is how many workers a cluster has that doesn't say.
const DefaultWorkers = 4

const (
	maxWorkers     = 64
	connectTimeout = 10 * time.Second
	readyTimeout   = 20 * time.Second
	stopTimeout    = 5 * time.Second
)

// Options says what a cluster is. What is zero takes its default.
type Options struct {
	Workers  int         // DefaultWorkers
	Port     int         // of NATS on 127.0.0.1; 0: any free one
	Capacity int64       // bytes a worker; 0: half of what is available to the process, shared
	Threads  int         // that a worker's passes may use; 0: GOMAXPROCS
	Tenant   string      // default
	StoreDir string      // of NATS' files; "": a temporary one
	Logger   *zap.Logger // nil logs nothing
	// Coordinator changes the coordinator's configuration, say its deadlines for a test, or is nil.
	Coordinator func(*coordinator.ServiceConfig)
}

// Cluster is a cluster at work.
type Cluster struct {
	server   *natsx.Server
	stops    []func(ctx context.Context) error // in the order of starting
	conns    []*nats.Conn
	workers  []string
	capacity int64
	failed   chan struct{}
	watch    sync.WaitGroup
	quit     chan struct{}
	stop     sync.Once
	err      error
}

// stopper is a service.
type stopper interface {
	Stop(ctx context.Context) error
	Done() <-chan struct{}
}

// Start starts a cluster and returns when the coordinator has heard of all workers, so that runs
// can be created. Who starts it stops it.
func Start(ctx context.Context, o Options) (_ *Cluster, err error) {
	if o.Workers == 0 {
		o.Workers = DefaultWorkers
	}
	if o.Workers < 1 || o.Workers > maxWorkers {
		return nil, fmt.Errorf("workers is %d, must be in [1, %d]", o.Workers, maxWorkers)
	}
	if o.Capacity == 0 {
		o.Capacity = config.AvailableMemory() / 2 / int64(o.Workers)
	}
	cores := processors()
	o.Threads = cmp.Or(o.Threads, cores)
	// Passes get processors of their own (cmd/worker says why).
	if n := cores + o.Workers*o.Threads; n > runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(n)
	}
	if o.Tenant == "" {
		o.Tenant = "default"
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if err := free(o.Port); err != nil {
		return nil, err
	}
	c := &Cluster{capacity: o.Capacity, failed: make(chan struct{}), quit: make(chan struct{})}
	if c.server, err = natsx.Embedded(natsx.EmbeddedOptions{Port: o.Port, StoreDir: o.StoreDir, Log: o.Logger.Named("nats")}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.coordinator(ctx, o); err != nil {
		return nil, err
	}
	for i := range o.Workers {
		if err := c.worker(ctx, o, "w"+strconv.Itoa(i+1)); err != nil {
			return nil, err
		}
	}
	return c, c.await(ctx, o.Tenant)
}

// processors is GOMAXPROCS as it was before the first cluster.
var processors = sync.OnceValue(func() int { return runtime.GOMAXPROCS(0) })

// free reports whether the port can be had: NATS itself takes ten seconds to say so.
func free(port int) error {
	if port == 0 {
		return nil
	}
	if port < 1 || port > 65535 {
		return fmt.Errorf("port is %d, must be in [1, 65535]", port)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port %d of 127.0.0.1 can't be used: %w", port, err)
	}
	return l.Close()
}

func (c *Cluster) connect(ctx context.Context, name string, log *zap.Logger) (*nats.Conn, error) {
	nc, err := natsx.Connect(ctx, natsx.Options{URL: c.URL(), Name: name, Timeout: connectTimeout, Log: log})
	if err == nil {
		c.conns = append(c.conns, nc)
	}
	return nc, err
}

func (c *Cluster) coordinator(ctx context.Context, o Options) error {
	cfg := coordinator.ServiceConfig{Name: "coordinator", Tenant: o.Tenant, Logger: o.Logger.Named("coordinator")}
	if o.Coordinator != nil {
		o.Coordinator(&cfg)
	}
	nc, err := c.connect(ctx, cfg.Name, cfg.Logger)
	if err != nil {
		return err
	}
	s, err := coordinator.Serve(ctx, nc, cfg)
	if err != nil {
		return err
	}
	c.add(s)
	return nil
}

func (c *Cluster) worker(ctx context.Context, o Options, id string) error {
	cfg := worker.ServiceConfig{ID: id, Tenant: o.Tenant, Capacity: o.Capacity, Threads: o.Threads, Logger: o.Logger.Named("worker")}
	nc, err := c.connect(ctx, id, cfg.Logger)
	if err != nil {
		return err
	}
	s, err := worker.Serve(ctx, nc, cfg)
	if err != nil {
		return err
	}
	c.workers = append(c.workers, id)
	c.add(s)
	return nil
}

// add takes a service that has started, and watches it.
func (c *Cluster) add(s stopper) {
	c.stops = append(c.stops, s.Stop)
	c.watch.Add(1)
	go func() {
		defer c.watch.Done()
		select {
		case <-s.Done():
			select {
			case c.failed <- struct{}{}: // somebody listens to Failed
			case <-c.quit:
			}
		case <-c.quit:
		}
	}()
}

// await waits until the coordinator has heard of all workers.
func (c *Cluster) await(ctx context.Context, tenant string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	cl, err := client.Connect(ctx, c.URL(), client.WithName("cluster"), client.WithTenant(tenant))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		heard, err := cl.Workers(ctx)
		if err != nil {
			return fmt.Errorf("wait for the workers: %w", err)
		}
		if len(heard) >= len(c.workers) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the workers: the coordinator has heard of %d of %d: %w", len(heard), len(c.workers), context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// URL is where clients connect.
func (c *Cluster) URL() string { return c.server.URL() }

// Workers are the ids of the workers.
func (c *Cluster) Workers() []string { return slices.Clone(c.workers) }

// Capacity is the bytes of each worker.
func (c *Cluster) Capacity() int64 { return c.capacity }

// Failed yields a value for each service that stops by itself.
func (c *Cluster) Failed() <-chan struct{} { return c.failed }

// Stop stops all, the workers first, and waits until nothing is left. What they held is gone.
// Calling it again returns what the first call did.
func (c *Cluster) Stop() error {
	c.stop.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		close(c.quit)
		var errs []error
		for _, stop := range slices.Backward(c.stops) {
			errs = append(errs, stop(ctx))
		}
		for _, nc := range c.conns {
			nc.Close()
		}
		c.watch.Wait()
		c.server.Shutdown()
		c.err = errors.Join(errs...)
	})
	return c.err
}
