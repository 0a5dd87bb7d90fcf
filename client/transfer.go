package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"mfac/wire"
)

// piece is columns [lo, lo+n) of vector index, all in one shard: what one message carries.
type piece struct {
	shard, index int
	lo, n        int64
}

// cut cuts columns [lo, lo+n) of k vectors along the shards' borders and, inside each shard, along
// a grid that starts at its first column, so that a retry sends the very same pieces.
func cut(info *wire.Info, lo, n int64, k int, chunkBytes int, t wire.DType) []piece {
	cols := int64(max(1, chunkBytes/t.Size()))
	if cols > tileColumns {
		cols -= cols % tileColumns
	}
	hi := lo + n
	var pieces []piece
	for s := range info.Lo {
		first, width := info.Range(s)
		from, to := max(lo, first), min(hi, first+width)
		for index := range k {
			for a := from; a < to; {
				b := min(to, first+((a-first)/cols+1)*cols)
				pieces = append(pieces, piece{shard: s, index: index, lo: a, n: b - a})
				a = b
			}
		}
	}
	return pieces
}

const (
	leastPause   = 500 * time.Microsecond
	mostPause    = 250 * time.Millisecond
	patience     = time.Second // with a worker that hasn't heard yet of the step or the query
	mostSilent   = 2           // tries without an answer, then the placement is asked for
	mostBadReply = 3           // payloads that came spoilt, either way, and replies that can't be read
)

// job is how one piece is sent or fetched.
type job struct {
	// send makes one try; want goes into the message.
	send func(ctx context.Context, timeout time.Duration, want int64) (*grant, error)
	// done gives back what the job holds.
	done func()
}

// transfer is many pieces to or from their workers.
type transfer struct {
	c      *Client
	info   *wire.Info
	pieces []piece
	skip   []bool // pieces that need nothing, or nil
	size   int64  // bytes of a number
	window int    // the most pieces in flight at one worker, whatever its credit
	down   bool   // results: from their workers
	start  func(p piece) (job, error)
	sent   func(i int) // told of each piece that is through, or nil

	lost   atomic.Pointer[wire.Error] // a number that the wire's dtype can't say, of a piece that was sent
	again  atomic.Bool                // whether a piece was sent or asked for more than once
	cancel context.CancelFunc
	mu     sync.Mutex
	err    error // the first one
}

// fail stops the transfer.
func (t *transfer) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	t.cancel()
}

// run sends or fetches all pieces. The first error stops the rest and is returned when they have
// stopped.
func (t *transfer) run(ctx context.Context) error {
	byWorker := make([][]int, len(t.info.Workers))
	for i, p := range t.pieces {
		if t.skip == nil || !t.skip[i] {
			w := t.info.Owner[p.shard]
			byWorker[w] = append(byWorker[w], i)
		}
	}
	ctx, t.cancel = context.WithCancel(ctx)
	defer t.cancel()
	var wg sync.WaitGroup
	for w, list := range byWorker {
		if len(list) > 0 {
			wg.Go(func() { t.feed(ctx, t.c.link(t.info.Workers[w]), list) })
		}
	}
	wg.Wait()
	if t.err == nil && ctx.Err() != nil {
		return ended(ctx, nil)
	}
	// Another piece, or another try, may hear what came of it first: that there is no such query any more.
	if l := t.lost.Load(); l != nil && (code(t.err) == wire.CodeNotFinite || code(t.err) == wire.CodeUnknownQuery) {
		return l
	}
	return t.err
}

// timed is run, whose time tells how good the size of its pieces is.
func (t *transfer) timed(ctx context.Context, grid chosen) error {
	start := time.Now()
	err := t.run(ctx)
	if err == nil && !t.again.Load() {
		grid.took(time.Since(start))
	}
	return err
}

// feed starts the pieces of one worker in order, each when it may be in flight.
func (t *transfer) feed(ctx context.Context, l *link, list []int) {
	way := &l.up
	if t.down {
		way = &l.down
	}
	var left, largest int64
	for _, i := range list {
		left += t.pieces[i].n * t.size
		largest = max(largest, t.pieces[i].n*t.size)
	}
	l.want(left)
	defer func() { l.want(-left) }()

	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, t.window)
	for _, i := range list {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return
		}
		p := t.pieces[i]
		j, err := t.start(p)
		if err != nil {
			t.fail(err)
			return
		}
		bytes := p.n * t.size
		s, err := l.acquire(ctx, way, size{bytes, largest})
		if err != nil {
			j.done()
			return
		}
		left -= bytes
		want := l.want(-bytes)
		wg.Go(func() {
			defer func() { <-room }()
			defer j.done()
			if err := t.piece(ctx, l, way, j, s, want); err != nil {
				t.fail(err)
			} else if t.sent != nil {
				t.sent(i)
			}
		})
	}
}

// piece tries until the piece is through. It holds the link when it is called, and doesn't when
// it returns.
func (t *transfer) piece(ctx context.Context, l *link, way *pace, j job, held sent, want int64) error {
	pause := backoff{least: leastPause, most: mostPause}
	timeout := t.c.tryTimeout
	var silent, bad int
	var notYet time.Time // since when the worker hasn't heard of the step or the query
	var last error
	for {
		g, err := j.send(ctx, timeout, want)
		l.release(way, held, err, g)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ended(ctx, last)
		}
		last = err
		var s *silence
		var b *badReply
		var source *sourceError
		switch {
		case errors.As(err, &source):
			return err
		case errors.As(err, &s):
			if silent++; s.away || silent >= mostSilent {
				return err
			}
			timeout = max(timeout, min(2*timeout, mostTryTimeout))
		case errors.As(err, &b), spoilt(err):
			if bad++; bad >= mostBadReply {
				return err
			}
		case code(err) == wire.CodeBusy:
			l.slow(way)
		case code(err) == wire.CodeNotOpen:
			// The coordinator's word to the worker may still be on its way.
			if notYet.IsZero() {
				notYet = time.Now()
			}
			if time.Since(notYet) > patience {
				return err
			}
		default:
			return err
		}
		if !pause.sleep(ctx) {
			return ended(ctx, err)
		}
		turn, gone := l.acquire(ctx, way, held.size)
		if gone != nil {
			return ended(ctx, err)
		}
		t.again.Store(true)
		held, want = turn, l.want(0)
	}
}

// spoilt reports whether a worker says that a payload was changed on its way.
func spoilt(err error) bool {
	var e *wire.Error
	return errors.As(err, &e) && e.Code == wire.CodeMalformed && e.Field == "checksum"
}

// upload is the transfer of an input; message makes the request for a piece and its payload, complete
// what is not known before it is sent.
func (r *Run) upload(info *wire.Info, pieces []piece, in input,
	op string, message func(p piece, payload []byte) wire.Message, complete func(m wire.Message, sum uint32, want int64)) *transfer {
	c := r.c
	t := &transfer{
		c: c, info: info, pieces: pieces, size: int64(in.dtype().Size()), window: in.window(len(info.Workers)),
	}
	t.start = func(p piece) (job, error) {
		l, err := in.load(p.index, p.lo, p.n)
		if err != nil {
			return job{}, err
		}
		if l.lost != nil {
			t.lost.CompareAndSwap(nil, l.lost)
		}
		m := message(p, l.payload)
		subject := c.subjects.Worker(info.Workers[info.Owner[p.shard]], op, c.name)
		// Just before NATS reads it too, not when it is loaded: that is up to a window of chunks
		// earlier, and it would be read from memory twice.
		sum := sync.OnceValue(func() uint32 { return wire.Checksum(l.payload) })
		return job{done: l.done, send: func(ctx context.Context, timeout time.Duration, want int64) (*grant, error) {
			complete(m, sum(), want)
			reply, err := tryFor[*wire.Ack](ctx, c, subject, op, m, timeout)
			if err != nil {
				return nil, err
			}
			if l.lost != nil {
				return nil, l.lost
			}
			return grantOf(reply.Credit, reply.CreditMS), nil
		}}, nil
	}
	return t
}

// download is the transfer of a query's result to out.
func (r *Run) download(info *wire.Info, q wire.QueryID, pieces []piece, out output) *transfer {
	c := r.c
	t := out.dtype()
	return &transfer{
		c: c, info: info, pieces: pieces, size: int64(t.Size()), window: out.window(len(info.Workers)), down: true,
		start: func(p piece) (job, error) {
			m := &wire.Fetch{Run: info.Spec.Name, Epoch: info.Epoch, Query: q, Index: p.index, Shard: p.shard, Lo: p.lo, N: p.n, DType: t}
			subject := c.subjects.Worker(info.Workers[info.Owner[p.shard]], wire.OpFetch, c.name)
			return job{done: func() {}, send: func(ctx context.Context, timeout time.Duration, want int64) (*grant, error) {
				m.Want = want
				part, err := tryFor[*wire.Part](ctx, c, subject, wire.OpFetch, m, timeout)
				if err != nil {
					return nil, err
				}
				g := grantOf(part.Credit, part.CreditMS)
				if part.Lo != p.lo || part.N != p.n || part.DType != t { // the checksum is checked already
					return g, &badReply{wire.Errorf(wire.CodeMalformed, "part",
						columnsOf(part.Lo, part.N, part.DType), columnsOf(p.lo, p.n, t))}
				}
				return g, out.store(p.index, p.lo, part.Payload)
			}}, nil
		},
	}
}

// fetch fetches the same columns of k results of a query to out.
func (r *Run) fetch(ctx context.Context, info *wire.Info, q wire.QueryID, lo, n int64, k int, out output) error {
	grid := r.c.choose(wire.OpFetch, n*int64(k)*int64(out.dtype().Size()))
	return r.download(info, q, cut(info, lo, n, k, grid.bytes, out.dtype()), out).timed(ctx, grid)
}

func columnsOf(lo, n int64, t wire.DType) string { return fmt.Sprintf("[%d, %d) %s", lo, lo+n, t) }

// tryFor is one try of a request to a worker.
func tryFor[M wire.Message](ctx context.Context, c *Client, subject, op string, req wire.Message, timeout time.Duration) (M, error) {
	var none M
	f, err := wire.Encode(req)
	if err != nil {
		return none, err
	}
	m, err := c.try(ctx, subject, f, timeout)
	if err != nil {
		return none, err
	}
	reply, ok := m.(M)
	if !ok {
		return none, &badReply{wrongType(op, m, none)}
	}
	return reply, nil
}
