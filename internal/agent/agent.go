//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"mfac/internal/cluster"
	"mfac/wire"
)

const (
	maxSocketPath = 100 // of 108 bytes, or 104 on a Mac
	lookEvery     = 250 * time.Millisecond
)

// Why an agent ends.
var (
	errEnding = errors.New("the agent is ending")
	errParent = errors.New("its parent has ended")
	errIdle   = errors.New("nobody is connected")
	errFailed = errors.New("a service of the cluster has stopped by itself")
)

type agent struct {
	Options
	log   *zap.Logger
	url   string // of the cluster, or ""
	ctx   context.Context
	end   context.CancelCauseFunc
	conns sync.WaitGroup

	mu    sync.Mutex
	count int
	idle  *time.Timer
}

// Run is an agent, until ctx ends, its parent has ended, or nobody has been connected for the time of grace:
// these are no errors.
func Run(ctx context.Context, o Options) (err error) {
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	a := &agent{Options: o, log: o.Log}
	a.ctx, a.end = context.WithCancelCause(ctx)
	defer a.end(errEnding)
	stop, err := a.watchParent()
	if err != nil {
		return err
	}
	defer stop()
	dir, err := folder(o.Dir)
	if err != nil {
		return fmt.Errorf("folder of the socket: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.Cluster != nil {
		of := *o.Cluster
		if of.StoreDir == "" {
			of.StoreDir = filepath.Join(dir, "nats")
		}
		c, err := cluster.Start(a.ctx, of)
		if err != nil {
			if a.ctx.Err() != nil {
				return nil
			}
			return err
		}
		defer func() { _ = c.Stop() }() // it is gone, however it went
		a.url = c.URL()
		done := make(chan struct{})
		defer close(done)
		go func() {
			select {
			case <-c.Failed():
				a.end(errFailed)
			case <-done:
			}
		}()
	}
	return a.listen(ctx, filepath.Join(dir, "agent.sock"))
}

// folder makes the folder that the socket is in, which nobody else may enter.
func folder(base string) (string, error) {
	const pattern = "mfac-agent-"
	if base == "" {
		base = os.TempDir()
	}
	if len(base)+len(pattern)+len("/0123456789/agent.sock") > maxSocketPath {
		base = "/tmp" // a socket's path has to be short
	}
	return os.MkdirTemp(base, pattern)
}

func (a *agent) listen(ctx context.Context, path string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen at %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return err
	}
	defer context.AfterFunc(a.ctx, func() { _ = l.Close() })() // which ends the loop
	a.mu.Lock()
	a.idle = time.AfterFunc(a.Grace, func() { a.end(errIdle) })
	a.mu.Unlock()
	defer a.idle.Stop()
	if a.Ready != nil {
		if err := a.Ready(Ready{Protocol: Protocol, Version: a.Version, Socket: path, URL: a.url, PID: os.Getpid()}); err != nil {
			_ = l.Close()
			return fmt.Errorf("tell where the socket is: %w", err)
		}
	}
	for {
		u, err := l.AcceptUnix()
		if err != nil {
			a.end(fmt.Errorf("accept a connection: %w", err)) // unless it is ending
			cause := context.Cause(a.ctx)
			a.log.Info("agent ends", zap.NamedError("cause", cause))
			_ = l.Close()
			a.conns.Wait()
			if ctx.Err() != nil || errors.Is(cause, errParent) || errors.Is(cause, errIdle) {
				return nil
			}
			return cause
		}
		a.come()
		a.conns.Go(func() {
			defer a.gone()
			newConn(a, u).serve()
		})
	}
}

// come and gone count connections: without one the time of grace runs.
func (a *agent) come() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count++
	a.idle.Stop()
}

func (a *agent) gone() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count--; a.count == 0 {
		a.idle.Reset(a.Grace)
	}
}

// watchParent ends the agent when its parent has. The pipe alone would not do: a process that the parent
// has forked holds it open.
func (a *agent) watchParent() (stop func(), _ error) {
	if a.Alive != nil {
		go func() { // reads until its end, which is that of the process where the parent outlives it
			_, _ = io.Copy(io.Discard, a.Alive)
			a.end(errParent)
		}()
	}
	if a.Parent == 0 {
		return func() {}, nil
	}
	if os.Getppid() != a.Parent {
		return nil, wire.Invalid("parent", a.Parent, fmt.Sprintf("%d, the agent's parent: has it ended?", os.Getppid()))
	}
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if os.Getppid() != a.Parent {
					a.end(errParent)
					return
				}
			}
		}
	}()
	return func() { close(done) }, nil
}
