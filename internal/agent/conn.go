//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"

	"mfac/client"
	"mfac/wire"
)

const (
	maxCalls      = 1024                   // of one connection at once
	progressEvery = 100 * time.Millisecond // at most so often
	maxTimeoutMS  = wire.MaxDeadlineMS
)

// conn is a connection of the program.
type conn struct {
	a       *agent
	u       *net.UnixConn
	in      *frames
	ctx     context.Context // ends with the connection
	end     context.CancelCauseFunc
	work    sync.WaitGroup
	write   sync.Mutex
	greeted bool // only the reading goroutine looks

	mu      sync.Mutex
	client  *client.Client
	dialing bool
	taken   map[string]bool // runs that were taken over from an agent that has died; nil: none was
	runs    map[uint64]*client.Run
	lastRun uint64
	buffers map[uint64]*buffer
	calls   map[uint64]context.CancelCauseFunc
}

// call is one request being served.
type call struct {
	c    *conn
	ctx  context.Context
	head head
	body []byte
	said time.Time // when progress was told of last
}

func newConn(a *agent, u *net.UnixConn) *conn {
	c := &conn{a: a, u: u, in: newFrames(u), runs: map[uint64]*client.Run{}, buffers: map[uint64]*buffer{}, calls: map[uint64]context.CancelCauseFunc{}}
	c.ctx, c.end = context.WithCancelCause(a.ctx)
	return c
}

// serve reads requests until the connection ends, and leaves nothing behind.
func (c *conn) serve() {
	unlink := context.AfterFunc(c.ctx, func() { _ = c.u.Close() }) // ends the reading
	err := c.read()
	if c.ctx.Err() == nil {
		c.a.log.Info("connection ends", zap.Error(err))
		// What is no request has no id. The other side hears why before the connection ends.
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			c.send(&reply{Error: failed(c.ctx, err)})
		}
	}
	c.end(errEnding)
	unlink()
	_ = c.u.Close()
	c.mu.Lock()
	cl := c.client
	c.mu.Unlock()
	if cl != nil {
		cl.Close()
	}
	c.work.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		c.client.Close() // of a connect that came to its end meanwhile
	}
	for _, b := range c.buffers {
		b.close()
	}
	c.in.close()
}

// read returns why there is nothing more to read.
func (c *conn) read() error {
	for {
		p, err := c.in.next()
		if err != nil {
			return err
		}
		q := &call{c: c, body: p}
		if err := wire.DecodeMap(p, maxRequest, &q.head); err != nil {
			return err
		}
		if q.head.ID == 0 {
			return wire.Invalid("id", q.head.ID, "> 0")
		}
		if err := c.start(q); err != nil {
			return err
		}
	}
}

// start serves a request: those that are quick in their order, others beside each other.
func (c *conn) start(q *call) error {
	op, known := ops[q.head.Op]
	switch {
	case q.head.Op != "hello" && !c.greeted:
		return wire.Errorf(wire.CodeProtocol, "op", fmt.Sprintf("%q", q.head.Op), "hello, first of all")
	case !known:
		c.send(&reply{ID: q.head.ID, Error: failed(c.ctx, wire.Errorf(wire.CodeUnsupported, "op", fmt.Sprintf("%q", q.head.Op), "an op of the agent's protocol"))})
		return nil
	case q.head.TimeoutMS < 0 || q.head.TimeoutMS > maxTimeoutMS:
		c.send(&reply{ID: q.head.ID, Error: failed(c.ctx, wire.Invalid("timeout_ms", q.head.TimeoutMS, fmt.Sprintf("in [0, %d]", int64(maxTimeoutMS))))})
		return nil
	}
	if op.quick {
		q.ctx = c.ctx
		q.answer(op.serve(q))
		return nil
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	c.mu.Lock()
	_, taken := c.calls[q.head.ID]
	full := len(c.calls) >= maxCalls
	if !taken && !full {
		c.calls[q.head.ID] = cancel
	}
	c.mu.Unlock()
	if taken || full {
		cancel(nil)
		err := wire.Errorf(wire.CodeBusy, "calls", maxCalls, fmt.Sprintf("fewer than %d at once", maxCalls))
		if taken {
			err = wire.Invalid("id", q.head.ID, "of no call in progress")
		}
		c.send(&reply{ID: q.head.ID, Error: failed(c.ctx, err)})
		return nil
	}
	c.work.Go(func() {
		defer cancel(nil)
		stop := func() {}
		if q.ctx = ctx; q.head.TimeoutMS > 0 {
			q.ctx, stop = context.WithTimeout(ctx, time.Duration(q.head.TimeoutMS)*time.Millisecond)
		}
		defer stop()
		ok, err := op.serve(q)
		c.mu.Lock()
		delete(c.calls, q.head.ID)
		c.mu.Unlock()
		q.answer(ok, err)
	})
	return nil
}

func (q *call) answer(ok any, err error) {
	r := &reply{ID: q.head.ID, OK: ok, Error: failed(q.ctx, err)}
	if err == nil && ok == nil {
		r.OK = struct{}{}
	}
	q.c.send(r)
}

// send writes a reply. If it can't be written the connection ends.
func (c *conn) send(r *reply) {
	p, err := frameOf(r)
	if err == nil {
		c.write.Lock()
		_, err = c.u.Write(p)
		c.write.Unlock()
	}
	if err != nil {
		c.end(err)
	}
}

// progress tells of progress, unless it was told of just now or something else is being written. The end is always
// told of.
func (q *call) progress(done, total int64) {
	now := time.Now()
	if done < total && now.Sub(q.said) < progressEvery {
		return
	}
	if q.tell(&reply{ID: q.head.ID, Progress: []int64{done, total}}, done == total) {
		q.said = now
	}
}

// phase tells of a phase, about once a second, unless something else is being written.
func (q *call) phase(p client.Phase) {
	q.tell(&reply{ID: q.head.ID, Phase: &phase{p.Name, p.Done, p.Total, p.Step, p.Steps}}, false)
}

// tell writes word of a call under way. If it need not be told, it is left out while something else is being written.
func (q *call) tell(r *reply, must bool) bool {
	p, err := frameOf(r)
	if err != nil {
		return false
	}
	if must {
		q.c.write.Lock()
	} else if !q.c.write.TryLock() {
		return false
	}
	defer q.c.write.Unlock()
	if _, err := q.c.u.Write(p); err != nil {
		q.c.end(err)
	}
	return true
}

// run is the run of that handle.
func (c *conn) run(handle uint64) (*client.Run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.runs[handle]; r != nil {
		return r, nil
	}
	return nil, wire.Invalid("run", handle, "a handle that attach or join gave")
}

// connected is the client.
func (c *conn) connected() (*client.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		return nil, wire.Errorf(wire.CodeUnavailable, "connection", "missing", "made by connect, first of all")
	}
	return c.client, nil
}
