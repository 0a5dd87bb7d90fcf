package client

import (
	"context"
	"slices"
	"sync"
	"time"
)

// link is the flow control to one worker, shared by all calls of a client. Without credit one
// chunk may be in flight; with credit, and until it expires, so many bytes of chunks and of
// results asked for. Who waits is served in turn.
type link struct {
	mu     sync.Mutex
	bytes  int64 // in flight
	chunks int   // in flight
	credit int64
	until  time.Time // when credit expires
	wanted int64     // bytes that calls in progress have yet to send or fetch
	queue  []*turn
}

type turn struct {
	bytes int64
	come  chan struct{} // closed when it has come
}

// grant is the credit that a reply gives.
type grant struct {
	bytes  int64
	period time.Duration
}

// What a worker can't give more of, whatever it says.
const (
	mostCredit     = 1 << 30
	mostCreditTime = time.Minute
)

func grantOf(bytes, ms int64) *grant {
	return &grant{
		bytes:  min(max(bytes, 0), mostCredit),
		period: time.Duration(min(max(ms, 0), mostCreditTime.Milliseconds())) * time.Millisecond,
	}
}

// acquire waits until bytes may be in flight besides the others.
func (l *link) acquire(ctx context.Context, bytes int64) error {
	l.mu.Lock()
	if len(l.queue) == 0 && l.fits(bytes) {
		l.take(bytes)
		l.mu.Unlock()
		return nil
	}
	t := &turn{bytes: bytes, come: make(chan struct{})}
	l.queue = append(l.queue, t)
	l.mu.Unlock()
	select {
	case <-t.come:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-t.come: // at the same moment
		l.give(bytes)
	default:
		l.queue = slices.DeleteFunc(l.queue, func(q *turn) bool { return q == t })
	}
	l.serve() // whoever stood behind it may fit
	return ctx.Err()
}

// release says that bytes are not in flight any more, and what credit the reply gave, if one came.
func (l *link) release(bytes int64, g *grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.give(bytes)
	if g != nil {
		l.credit, l.until = g.bytes, time.Now().Add(g.period)
	}
	l.serve()
}

// slow takes the credit away: the worker has said that it is busy.
func (l *link) slow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.credit = 0
}

// want adds to the bytes yet to be sent, and returns them.
func (l *link) want(bytes int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted += bytes
	return l.wanted
}

func (l *link) fits(bytes int64) bool {
	return l.chunks == 0 || l.bytes+bytes <= l.credit && time.Now().Before(l.until)
}

func (l *link) take(bytes int64) { l.bytes += bytes; l.chunks++ }
func (l *link) give(bytes int64) { l.bytes -= bytes; l.chunks-- }

func (l *link) serve() {
	for len(l.queue) > 0 && l.fits(l.queue[0].bytes) {
		l.take(l.queue[0].bytes)
		close(l.queue[0].come)
		l.queue = l.queue[1:]
	}
}
