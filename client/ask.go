package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mfac/wire"
)

// silence is a try without an answer. Asking again is always safe.
type silence struct {
	why  string
	away bool // nobody hears the subject, so that waiting longer for the answer was no use
}

func (s *silence) Error() string { return s.why }

// expired is the end of a call's context, with what the call last heard.
type expired struct {
	cause error
	last  error
}

func (e *expired) Error() string {
	s := e.cause.Error()
	if errors.Is(e.cause, context.DeadlineExceeded) {
		s = "timeout: " + s
	}
	if e.last != nil {
		s += " (last: " + e.last.Error() + ")"
	}
	return s
}

// Unwrap has the timeout before what was last heard, so that errors.As finds that first.
func (e *expired) Unwrap() []error {
	errs := make([]error, 0, 3)
	if errors.Is(e.cause, context.DeadlineExceeded) {
		hint := ""
		if e.last != nil {
			hint = e.last.Error()
		}
		errs = append(errs, &wire.Error{Code: wire.CodeTimeout, Hint: hint})
	}
	errs = append(errs, e.cause)
	if e.last != nil {
		errs = append(errs, e.last)
	}
	return errs
}

// ended is the error of a call whose context has ended: with the first of heard, the latest first,
// that is more than that.
func ended(ctx context.Context, heard ...error) error {
	var last error
	for _, err := range heard {
		var e *expired
		switch {
		case errors.As(err, &e):
			last = e.last
		case err != nil && !errors.Is(err, ctx.Err()):
			last = err
		}
		if last != nil {
			break
		}
	}
	return &expired{cause: context.Cause(ctx), last: last}
}

// code is the wire code in an error's chain, or "".
func code(err error) wire.Code {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Which error replies of the coordinator are asked about again, until the context ends.

// whileBusy is for requests that hold for whatever epoch.
func whileBusy(c wire.Code) bool { return c == wire.CodeBusy || c == wire.CodeUnavailable }

// whileNoRoom is for those that hold for one epoch: unavailable means that it is passing.
func whileNoRoom(c wire.Code) bool { return c == wire.CodeBusy }

// ask asks the coordinator until there is an answer other than those that again names.
func ask[M wire.Message](ctx context.Context, c *Client, op string, req wire.Message, again func(wire.Code) bool) (M, error) {
	reply, _, err := askTwice[M](ctx, c, op, req, again)
	return reply, err
}

// askTwice is ask that also tells whether the request may have been carried out before the one
// that was answered.
func askTwice[M wire.Message](ctx context.Context, c *Client, op string, req wire.Message, again func(wire.Code) bool) (_ M, before bool, _ error) {
	var none M
	f, err := wire.Encode(req)
	if err != nil {
		return none, false, err
	}
	subject := c.subjects.Coordinator(op, c.name)
	pause := backoff{least: 5 * time.Millisecond, most: 500 * time.Millisecond}
	var last error
	for {
		m, err := c.try(ctx, subject, f, c.tryTimeout)
		if err == nil {
			if reply, ok := m.(M); ok {
				return reply, before, nil
			}
			return none, before, wrongType(op, m, none)
		}
		if ctx.Err() != nil {
			return none, before, ended(ctx, err, last)
		}
		var s *silence
		switch {
		case errors.As(err, &s):
			err = fmt.Errorf("no answer from a coordinator of tenant %s: %w", c.subjects.Tenant, err)
			if !s.away { // the wait was long enough
				pause.reset()
				before = true
			}
		case !again(code(err)):
			return none, before, err
		}
		last = err
		if !pause.sleep(ctx) {
			return none, before, ended(ctx, last)
		}
	}
}

func wrongType(op string, got, want wire.Message) error {
	return wire.Errorf(wire.CodeMalformed, "reply to "+op, got.Type(), want.Type())
}

// try sends one request and waits for its reply. The error is a *silence, a *wire.Error, or one
// that asking again doesn't mend.
func (c *Client) try(ctx context.Context, subject string, f wire.Frame, timeout time.Duration) (wire.Message, error) {
	tctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	reply, err := c.nc.RequestMsgWithContext(tctx, &nats.Msg{Subject: subject, Header: f.Header, Data: f.Data})
	if err != nil {
		if d := c.denied.Load(); d != nil && d.at.After(start) && strings.Contains(strings.ToLower(d.text), subject) {
			return nil, &wire.Error{Code: wire.CodeDenied, Field: "subject", Value: subject, Hint: d.text}
		}
		return nil, c.failed(ctx, err, timeout)
	}
	m, err := wire.Decode(wire.Frame{Header: reply.Header, Data: reply.Data}, "")
	if err != nil {
		return nil, &badReply{err}
	}
	if e, ok := m.(*wire.Error); ok {
		return nil, e
	}
	return m, nil
}

// badReply is a reply that can't be read or does not fit its request.
type badReply struct{ err error }

func (b *badReply) Error() string { return "reply: " + b.err.Error() }
func (b *badReply) Unwrap() error { return b.err }

// failed tells the errors of a request that passes from those that stay.
func (c *Client) failed(ctx context.Context, err error, timeout time.Duration) error {
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, nats.ErrNoResponders):
		return &silence{why: "no responders", away: true}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return &silence{why: fmt.Sprintf("none within %v", timeout)}
	case c.nc.IsClosed(), errors.Is(err, nats.ErrConnectionClosed):
		if e := c.nc.LastError(); e != nil {
			return fmt.Errorf("%w: %w", err, e)
		}
		return err
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected),
		errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrStaleConnection), !c.nc.IsConnected():
		return &silence{why: "not connected to NATS", away: true}
	}
	return err
}

// backoff is a pause that doubles from least to most, with jitter of a half.
type backoff struct{ least, most, next time.Duration }

func (b *backoff) reset() { b.next = 0 }

// sleep pauses; it reports false when ctx ended before.
func (b *backoff) sleep(ctx context.Context) bool {
	b.next = min(max(2*b.next, b.least), b.most)
	return sleep(ctx, b.next/2+rand.N(b.next/2+1))
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
