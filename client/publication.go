package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"mfac/wire"
)

// publication is one gradient, or some of its columns, on the way into the window.
type publication struct {
	r        *Run
	step     wire.Step
	token    uint64
	label    string
	shared   bool // with other publishers, who send the other columns
	own      bool // the token is this call's alone: nobody else can have sent pieces on another grid
	in       input
	lo, n    int64
	pre      *wire.Precondition
	deadline time.Duration // of the step; 0: it lives while the call does
	beat     time.Duration // how often it is kept alive then
	noWait   bool
	weight   float64 // 0: 1
	queue    *queue  // the pipeline that it is in, or nil
	place    place

	epoch    wire.Epoch   // of the last open
	attempt  wire.Attempt // 0: none yet
	grid     chosen
	pieces   []piece // the same in all rounds
	acked    []bool  // of pieces, at epoch and attempt
	ackedMu  sync.Mutex
	patience time.Duration // how long a whole step may be pending before all is looked at again
}

const (
	leastNudge = 10 * time.Second
	mostNudge  = time.Minute

	// A step holds a slot, and later steps commit after it: one that was abandoned is dropped
	// after the lease, one that takes long has it renewed by being opened again.
	stepLease = 30 * time.Second
	stepBeat  = 10 * time.Second
)

// errNudge is a step that has been pending for long: what the shards have of it is looked at again.
var errNudge = errors.New("the step is pending for long")

// committed is how a publication ended well, and the placement at which it did.
type committed struct {
	*wire.WaitReply
	info *wire.Info
}

// run publishes: it opens the step, sends what is missing and waits, again and again until that
// has gone through at one epoch.
func (p *publication) run(ctx context.Context) (committed, error) {
	pause := backoff{least: 10 * time.Millisecond, most: time.Second}
	var last error
	if p.patience == 0 {
		p.patience = leastNudge
	}
	for {
		seen := p.r.info()
		done, err := p.round(ctx)
		if err == nil {
			return done, nil
		}
		if ctx.Err() != nil {
			return committed{}, ended(ctx, err, last)
		}
		last = err
		again := lost(err) || errors.Is(err, errNudge) || code(err) == wire.CodeUnknownStep // open knows more
		dropped := code(err) == wire.CodeDropped || p.shared && code(err) == wire.CodeSuperseded
		if !again && !dropped {
			return committed{}, err
		}
		p.r.c.log.Debug("publication goes on", zap.String("run", p.r.name), zap.Uint64("step", uint64(p.step)), zap.Error(err))
		if !pause.sleep(ctx) {
			return committed{}, ended(ctx, err)
		}
		info, rerr := p.r.renew(ctx, seen)
		if ctx.Err() != nil {
			return committed{}, ended(ctx, err)
		}
		if rerr != nil {
			return committed{}, rerr
		}
		if code(err) == wire.CodeNotOpen {
			if refused := p.refused(ctx, info); refused != nil {
				return committed{}, refused
			}
		}
		// A step that was dropped while the run changed hands may be opened again; one that was
		// dropped for good reason may not.
		if dropped && info.Epoch == p.epoch {
			return committed{}, err
		}
		if !keepsAcks(err) {
			p.acked = nil
		}
	}
}

// refused asks why a shard does not know the attempt any more: columns of another publisher's may have been refused, and
// the step with them. Opened anew, it would wait for theirs. nil where nobody has refused it.
func (p *publication) refused(ctx context.Context, info *wire.Info) error {
	req := &wire.Wait{Run: p.r.name, Epoch: info.Epoch, Step: p.step, Attempt: p.attempt}
	if p.attempt == 0 || info.Epoch != p.epoch {
		return nil
	}
	_, err := ask[*wire.WaitReply](ctx, p.r.c, wire.OpWait, req, whileNoRoom)
	if err == nil || lost(err) || code(err) == wire.CodeUnknownStep {
		return nil
	}
	return err
}

// keepsAcks reports whether an error leaves no doubt about pieces that were acknowledged.
func keepsAcks(err error) bool {
	var s *silence
	return errors.As(err, &s) || code(err) == wire.CodeUnavailable
}

func (p *publication) round(ctx context.Context) (committed, error) {
	info, whole, err := p.open(ctx)
	if err != nil {
		if code(err) == wire.CodeNotGrowing && p.attempt != 0 {
			return p.settle(ctx, err)
		}
		return committed{}, err
	}
	if p.deadline == 0 {
		defer p.keepAlive(ctx)()
	}
	start := time.Now()
	plain, err := p.send(ctx, info, whole)
	if err != nil {
		return committed{}, err
	}
	if p.noWait {
		return committed{&wire.WaitReply{}, info}, nil
	}
	done, err := p.wait(ctx, info)
	if err == nil && plain {
		p.grid.took(time.Since(start))
	}
	return done, err
}

func (p *publication) open(ctx context.Context) (*wire.Info, []int, error) {
	if err := p.queue.await(ctx, p); err != nil {
		return nil, nil, err
	}
	reply, err := ask[*wire.OpenReply](ctx, p.r.c, wire.OpOpen, p.opening(ctx), whileBusy)
	if err != nil {
		return nil, nil, err
	}
	if p.epoch != reply.Epoch || p.attempt != reply.Attempt {
		p.acked = nil
	}
	if p.pre != nil {
		p.r.read(reply.Attempt, p.attempt)
	}
	p.epoch, p.attempt = reply.Epoch, reply.Attempt
	p.queue.opened(p)
	info, err := p.r.at(ctx, reply.Epoch)
	if err == nil {
		err = p.queue.check(ctx, p)
	}
	return info, reply.Whole, err
}

// tickedMS is how much sooner a coordinator, whose clock ticks, may drop a step than it was told.
const tickedMS = 200

func (p *publication) opening(ctx context.Context) *wire.Open {
	ms := p.deadline.Milliseconds()
	if p.deadline == 0 {
		ms = min(millisLeft(ctx)+tickedMS, stepLease.Milliseconds())
	}
	return &wire.Open{Run: p.r.name, Step: p.step, Token: p.token, DeadlineMS: clampMillis(ms), Precondition: p.pre, Label: p.label, Weight: p.weight}
}

// millisLeft is what is left of a call's context.
func millisLeft(ctx context.Context) int64 {
	t, _ := ctx.Deadline() // it has one
	return clampMillis(time.Until(t).Milliseconds())
}

// clampMillis makes a deadline one that the protocol can say; 0 would be its default.
func clampMillis(ms int64) int64 { return min(max(1, ms), wire.MaxDeadlineMS) }

// keepAlive opens the step again now and then, until stop is called: joining it puts its deadline
// off. What goes wrong is for send and wait to find out.
func (p *publication) keepAlive(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for sleep(ctx, p.beat) {
			_, _ = ask[*wire.OpenReply](ctx, p.r.c, wire.OpOpen, p.opening(ctx), func(wire.Code) bool { return false })
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// send sends the pieces that the shards have not acknowledged. plain is whether these were all, and
// went through at once.
func (p *publication) send(ctx context.Context, info *wire.Info, whole []int) (plain bool, _ error) {
	first := p.pieces == nil
	if first {
		p.grid = chosen{bytes: p.r.c.chunkBytes}
		if p.own {
			p.grid = p.r.c.choose(wire.OpChunk, p.n*int64(p.in.dtype().Size()))
		}
		p.pieces = cut(info, p.lo, p.n, 1, p.grid.bytes, p.in.dtype())
	}
	if p.acked == nil {
		p.acked = make([]bool, len(p.pieces))
	}
	for _, s := range whole {
		for i, piece := range p.pieces {
			if piece.shard == s {
				p.acked[i] = true
			}
		}
	}
	skip := append([]bool(nil), p.acked...)
	t := p.r.upload(info, p.pieces, p.in, wire.OpChunk,
		func(c piece, payload []byte) wire.Message {
			return &wire.Chunk{Run: p.r.name, Epoch: p.epoch, Step: p.step, Attempt: p.attempt, Shard: c.shard,
				Lo: c.lo, N: c.n, DType: p.in.dtype(), Payload: payload}
		},
		func(m wire.Message, sum uint32, want int64) { c := m.(*wire.Chunk); c.Sum, c.Want = sum, want })
	t.skip = skip
	t.sent = func(i int) {
		p.ackedMu.Lock()
		defer p.ackedMu.Unlock()
		p.acked[i] = true
	}
	err := t.run(ctx)
	return first && len(whole) == 0 && !t.again.Load(), err
}

// wait polls until the step is committed.
func (p *publication) wait(ctx context.Context, info *wire.Info) (committed, error) {
	req := &wire.Wait{Run: p.r.name, Epoch: info.Epoch, Step: p.step, Attempt: p.attempt}
	since := time.Now()
	for {
		asked := time.Now()
		reply, err := ask[*wire.WaitReply](ctx, p.r.c, wire.OpWait, req, whileNoRoom)
		if err != nil {
			return committed{}, err
		}
		if reply.State != wire.StatePending {
			return committed{reply, info}, nil
		}
		if time.Since(since) > p.patience {
			p.patience = min(2*p.patience, mostNudge)
			return committed{}, errNudge
		}
		if !leisurely(ctx, asked) {
			return committed{}, ended(ctx, nil)
		}
	}
}

// leisurely pauses before the next poll if the last one, asked then, was not the long poll that it
// should have been.
func leisurely(ctx context.Context, asked time.Time) bool {
	const shortPoll, pollPause = 100 * time.Millisecond, 50 * time.Millisecond
	return time.Since(asked) >= shortPoll || sleep(ctx, pollPause)
}

// settle asks what became of the attempt when a step that was opened before can't be opened any
// more: a new owner may have committed it. notGrowing is the answer if not.
func (p *publication) settle(ctx context.Context, notGrowing error) (committed, error) {
	info, err := p.r.renew(ctx, nil)
	if err != nil {
		return committed{}, err
	}
	done, err := p.wait(ctx, info)
	switch {
	case err == nil, ctx.Err() != nil, lost(err), errors.Is(err, errNudge):
		return done, err
	case code(err) == wire.CodeSuperseded: // why it is not above the newest: another's is committed
		return committed{}, err
	}
	return committed{}, fmt.Errorf("%w (attempt %d before: %w)", notGrowing, p.attempt, err)
}

// queue keeps the publications of a pipeline in the order of their steps: one is opened, at
// whatever epoch, when the one before it is open there or is over. A nil queue keeps no order.
type queue struct {
	mu      sync.Mutex
	changed chan struct{} // closed and made anew at each change
}

// place is where a publication stands in a queue, whose lock guards it.
type place struct {
	prev   *publication
	openAt wire.Epoch // where it was opened last
	over   bool
}

// await waits until p may be opened, as far as is known.
func (q *queue) await(ctx context.Context, p *publication) error {
	return q.follow(ctx, p, func() (wire.Epoch, error) { return p.r.info().Epoch, nil })
}

// check waits, after p was opened, until the one before it is open at the same epoch. It need not
// be if the run changed hands in between, and then it must not be overtaken.
func (q *queue) check(ctx context.Context, p *publication) error {
	return q.follow(ctx, p, func() (wire.Epoch, error) {
		if now := p.r.info().Epoch; now != p.epoch {
			return now, &wire.Error{Code: wire.CodeStaleEpoch, Epoch: now}
		}
		return p.epoch, nil
	})
}

// follow waits until the publication before p is over or open at an epoch.
func (q *queue) follow(ctx context.Context, p *publication, epoch func() (wire.Epoch, error)) error {
	if q == nil {
		return nil
	}
	const lookAgain = 50 * time.Millisecond // the run's epoch may change without a word here
	for {
		e, err := epoch()
		if err != nil {
			return err
		}
		q.mu.Lock()
		prev := p.place.prev
		// A run that is being started has no epoch yet, and nothing is open at that.
		ready := prev == nil || prev.place.over || prev.place.openAt == e && !e.IsZero()
		changed := q.changed
		q.mu.Unlock()
		if ready {
			return nil
		}
		t := time.NewTimer(lookAgain)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return ended(ctx)
		}
	}
}

func (q *queue) opened(p *publication) {
	if q != nil {
		q.set(func() { p.place.openAt = p.epoch })
	}
}

func (q *queue) ended(p *publication) { q.set(func() { p.place.over, p.place.prev = true, nil }) }

func (q *queue) set(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
	close(q.changed)
	q.changed = make(chan struct{})
}
