package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// link is the flow control to one worker, shared by all calls of a client. Without credit one
// chunk may be in flight; with credit, and until it expires, so many bytes of chunks and of
// results asked for, and of these no more than keep the way busy. Who waits is served in turn, but
// passes those who wait for the other way.
type link struct {
	mu       sync.Mutex
	bytes    int64 // in flight
	chunks   int   // in flight
	credit   int64
	until    time.Time // when credit expires
	wanted   int64     // bytes that calls in progress have yet to send or fetch
	up, down pace      // of chunks and vecs, and of results
	queue    []*turn
}

// turn is one who waits to be sent by way of pace, which is the link's up or down.
type turn struct {
	pace *pace
	size size
	sent sent          // once it has come
	come chan struct{} // closed when it has come
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

// acquire waits until a chunk may be in flight besides the others.
func (l *link) acquire(ctx context.Context, p *pace, s size) (sent, error) {
	l.mu.Lock()
	t := &turn{pace: p, size: s}
	if len(l.queue) == 0 && l.fits(t) {
		l.take(t)
		l.mu.Unlock()
		return t.sent, nil
	}
	t.come = make(chan struct{})
	l.queue = append(l.queue, t)
	l.serve()
	l.mu.Unlock()
	select {
	case <-t.come:
		return t.sent, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-t.come: // at the same moment
		l.give(t.size.bytes)
		p.refused(t.sent)
	default:
		l.queue = slices.DeleteFunc(l.queue, func(q *turn) bool { return q == t })
	}
	l.serve() // whoever stood behind it may fit
	return sent{}, ctx.Err()
}

// release says that a chunk is not in flight any more, how the try ended, and what credit the reply
// gave, if one came.
func (l *link) release(p *pace, s sent, err error, g *grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.give(s.size.bytes)
	now := time.Now()
	if g != nil {
		l.credit, l.until = g.bytes, now.Add(g.period)
	}
	var none *silence
	switch {
	case err == nil:
		p.answered(now, s, slices.ContainsFunc(l.queue, func(t *turn) bool { return t.pace == p }))
	case errors.As(err, &none):
		p.lost(s)
	default:
		p.refused(s)
	}
	l.serve()
}

// slow takes the credit away: the worker has said that it is busy.
func (l *link) slow(p *pace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.credit = 0
	p.busy()
}

// want adds to the bytes yet to be sent, and returns them.
func (l *link) want(bytes int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted += bytes
	return l.wanted
}

func (l *link) fits(t *turn) bool { return l.covers(t) && t.pace.fits(time.Now(), t.size) }

// covers reports whether there is credit for a chunk.
func (l *link) covers(t *turn) bool {
	return l.chunks == 0 || l.bytes+t.size.bytes <= l.credit && time.Now().Before(l.until)
}

func (l *link) take(t *turn) {
	l.bytes += t.size.bytes
	l.chunks++
	t.sent = t.pace.send(time.Now(), t.size)
}

func (l *link) give(bytes int64) { l.bytes -= bytes; l.chunks-- }

// serve lets those go who fit. Nobody passes one who waits for credit, which is for both ways.
func (l *link) serve() {
	var full *pace // one way
	waiting := l.queue[:0]
	for i, t := range l.queue {
		switch {
		case t.pace == full:
			waiting = append(waiting, t)
		case !t.pace.fits(time.Now(), t.size) && full == nil:
			full = t.pace
			waiting = append(waiting, t)
		case !l.fits(t): // for want of credit, or both ways are full
			waiting = append(waiting, l.queue[i:]...)
			clear(l.queue[len(waiting):])
			l.queue = waiting
			return
		default:
			l.take(t)
			close(t.come)
		}
	}
	clear(l.queue[len(waiting):])
	l.queue = waiting
}
