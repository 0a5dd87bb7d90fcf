package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/zap"

	"mfac/internal/rpc"
	"mfac/shard/kernel"
	"mfac/shard/pool"
	"mfac/wire"
)

// ServiceConfig is how a worker is run.
type ServiceConfig struct {
	ID       string // a token of subjects; the connection's inbox prefix must be _INBOX.<ID>
	Tenant   string
	Capacity int64  // bytes for rows and staged vectors
	Budget   int64  // bytes in flight; 0 is 32 MiB
	Threads  int    // that a pass may use; 0 is GOMAXPROCS
	Kernel   string // see kernel.ByName; empty is the fastest of this CPU
	Logger   *zap.Logger
}

const (
	tick          = 50 * time.Millisecond
	inboxLength   = 4096            // inputs; past it, a caller hears busy at once
	forgetAnswers = 2 * time.Minute // who has waited longer has asked again
	defaultBudget = 32 << 20
)

// Version of the services, as NATS micro shows it.
const Version = "0.1.0"

// Service is a worker at work.
type Service struct {
	cfg    ServiceConfig
	nc     *nats.Conn
	js     jetstream.JetStream
	log    *zap.Logger
	sub    wire.Subjects
	svc    micro.Service
	inbox  chan any
	cancel context.CancelCauseFunc
	done   chan struct{}
	wg     sync.WaitGroup // jobs and questions under way
	jobs   atomic.Int64   // not yet taken note of by the core

	// loop alone touches what follows.
	core    *Core
	engine  *Engine
	pool    *pool.Pool
	kernel  *kernel.Variant
	lanes   map[ShardKey]*lane
	answers map[Token]answer
	last    Token
}

// answer is a request that waits: where its answer goes, not its payload, which is the budget's.
type answer struct {
	reply string
	born  time.Time
}

// lane carries out the jobs of one shard, as its queue lets them.
type lane struct {
	core   *Core
	engine *Engine

	mu    sync.Mutex
	queue Queue
}

// jobDone is a job's outcome, of a generation of the core: a core that was replaced has no jobs.
type jobDone struct {
	core *Core
	Done
}

// Serve starts a worker on a connection and returns when it is subscribed. Stop ends it; the
// connection stays the caller's.
func Serve(ctx context.Context, nc *nats.Conn, cfg ServiceConfig) (*Service, error) {
	if err := wire.CheckName("worker id", cfg.ID); err != nil {
		return nil, err
	}
	if err := wire.CheckName("tenant", cfg.Tenant); err != nil {
		return nil, err
	}
	if cfg.Capacity <= 0 {
		return nil, wire.Invalid("memory", cfg.Capacity, "> 0 bytes")
	}
	if cfg.Budget == 0 {
		cfg.Budget = defaultBudget
	}
	if cfg.Budget < wire.MaxPayload {
		return nil, wire.Invalid("budget", cfg.Budget, fmt.Sprintf("at least %d bytes, one chunk", wire.MaxPayload))
	}
	variant, err := kernel.ByName(cfg.Kernel)
	if err != nil {
		return nil, fmt.Errorf("worker %s: %w", cfg.ID, err)
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("worker %s: %w", cfg.ID, err)
	}
	runCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &Service{
		cfg: cfg, nc: nc, js: js, log: cfg.Logger.With(zap.String("worker", cfg.ID)), sub: wire.Subjects{Tenant: cfg.Tenant},
		inbox: make(chan any, inboxLength), cancel: cancel, done: make(chan struct{}), kernel: variant,
	}
	s.pool = startPool(cfg.Threads)
	s.fresh()
	go s.loop(runCtx)
	if err := s.subscribe(); err != nil {
		cancel(err)
		<-s.done
		return nil, fmt.Errorf("worker %s: %w", cfg.ID, err)
	}
	s.log.Info("worker started", zap.Int64("memory", cfg.Capacity), zap.String("kernel", variant.Name()))
	return s, nil
}

// startPool gives workers threads of their own only where a thread has memory of its own: elsewhere
// waking one costs a step more than it gains.
func startPool(threads int) *pool.Pool {
	if memoryNodes() > 1 {
		return pool.StartThreads(threads)
	}
	return pool.Start(threads)
}

// fresh begins with nothing: at the start, and after a broken invariant. A new instance number
// tells coordinators that what the worker held is gone.
func (s *Service) fresh() {
	s.core = NewCore(Config{
		ID: s.cfg.ID, Instance: rand.Uint64(), Capacity: s.cfg.Capacity, Budget: s.cfg.Budget, TickMS: tick.Milliseconds(),
	})
	s.engine = &Engine{Pool: s.pool, Threads: s.cfg.Threads, Kernel: s.kernel}
	s.lanes = map[ShardKey]*lane{}
	s.answers = map[Token]answer{}
}

func (s *Service) subscribe() error {
	svc, err := micro.AddService(s.nc, micro.Config{
		Name: "mfac-worker", Version: Version, Description: "holds shards of gradients and computes with them",
		Metadata: map[string]string{"id": s.cfg.ID, "tenant": s.cfg.Tenant, "protocol": wire.Protocol}, QueueGroupDisabled: true,
	})
	if err != nil {
		return err
	}
	s.svc = svc
	accept := func(string) func(rpc.Request) error { return s.accept }
	data := "mfac." + s.cfg.Tenant + ".w." + s.cfg.ID + "."
	ctl := "mfac." + s.cfg.Tenant + ".ctl." + s.cfg.ID + "."
	err = rpc.Endpoints(svc, data, []string{wire.OpChunk, wire.OpVec, wire.OpFetch}, s.log, accept)
	if err == nil {
		err = rpc.Endpoints(svc, ctl, []string{
			wire.OpAdopt, wire.OpInstall, wire.OpGram, wire.OpSlotLabels, wire.OpReshape, wire.OpStage, wire.OpProducts, wire.OpCommit, wire.OpEvict, wire.OpDrop,
			wire.OpPrepare, wire.OpCoef, wire.OpNorms, wire.OpPairs, wire.OpApply, wire.OpResidual, wire.OpRefine, wire.OpFactor, wire.OpColumns, wire.OpHold, wire.OpWhiten, wire.OpRecall, wire.OpPrune, wire.OpBlocks, wire.OpCloseQuery, wire.OpRelease,
		}, s.log, accept)
	}
	if err == nil {
		err = s.nc.Flush()
	}
	if err != nil {
		_ = svc.Stop()
	}
	return err
}

// accept hands a request to the loop, or says busy at once.
func (s *Service) accept(r rpc.Request) error {
	select {
	case s.inbox <- r:
		return nil
	default:
		return wire.Errorf(wire.CodeBusy, "requests waiting", inboxLength, fmt.Sprintf("below %d", inboxLength))
	}
}

// Ready is nil when the worker is connected and serves.
func (s *Service) Ready() error {
	select {
	case <-s.done:
		return errors.New("stopped")
	default:
	}
	if !s.nc.IsConnected() {
		return fmt.Errorf("not connected to NATS: %v", s.nc.Status())
	}
	return nil
}

// Done is closed when the worker has stopped.
func (s *Service) Done() <-chan struct{} { return s.done }

// Stop takes no more requests, finishes the jobs under way as far as ctx lets it, and waits for
// the worker's goroutines.
func (s *Service) Stop(ctx context.Context) error {
	err := s.svc.Stop()
	for (s.jobs.Load() > 0 || len(s.inbox) > 0) && ctx.Err() == nil {
		select {
		case <-time.After(tick / 10):
		case <-s.done:
		case <-ctx.Done():
		}
	}
	s.cancel(errStopped)
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return err
}

var errStopped = errors.New("worker stopped")

// loop alone steps the core.
func (s *Service) loop(ctx context.Context) {
	defer close(s.done)
	defer s.pool.Stop()
	defer s.wg.Wait()
	t := time.NewTicker(tick)
	defer t.Stop()
	s.step(ctx, Tick{})
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.step(ctx, Tick{})
			s.sweep()
		case in := <-s.inbox:
			switch in := in.(type) {
			case rpc.Request:
				s.last++
				s.answers[s.last] = answer{in.Reply(), time.Now()}
				s.step(ctx, Request{From: s.last, Caller: in.Caller, Msg: in.Msg})
			case jobDone:
				if in.core == s.core {
					s.step(ctx, in.Done)
				}
				s.jobs.Add(-1)
			case Incarnation:
				s.step(ctx, in)
			}
		}
	}
}

// sweep forgets requests that nobody waits for any more, and the lanes of shards that have no jobs.
func (s *Service) sweep() {
	for key, l := range s.lanes {
		l.mu.Lock()
		idle := l.queue.Idle()
		l.mu.Unlock()
		if idle { // loop alone puts jobs in
			delete(s.lanes, key)
		}
	}
	for token, a := range s.answers {
		if time.Since(a.born) > forgetAnswers {
			delete(s.answers, token)
		}
	}
}

// step steps the core and carries out the effects. Should the core break an invariant, neither a
// panic nor a wrong number leaves: everybody hears an error and the worker begins anew, empty.
func (s *Service) step(ctx context.Context, in Input) {
	e, err := safely(func() Effects { return s.core.Step(in) })
	if err != nil {
		s.log.Error("core broken, starting anew without rows", zap.Error(err), zap.Stack("stack"))
		for _, a := range s.answers {
			rpc.Answer(s.nc, a.reply, wire.AsError(err), s.log)
		}
		s.fresh()
		return
	}
	for _, c := range e.Cancel {
		c.Cancel()
	}
	for _, j := range e.Jobs {
		s.enqueue(ctx, j)
	}
	for _, m := range e.Sends {
		if a, ok := s.answers[m.To]; ok {
			delete(s.answers, m.To)
			rpc.Answer(s.nc, a.reply, m.Msg, s.log)
		}
	}
	for _, p := range e.Recycle { // NATS has copied it
		s.engine.Recycle(p)
	}
	if e.Hello != nil && s.nc.IsConnected() {
		if err := rpc.Publish(s.nc, s.sub.Hello(s.cfg.ID), "", e.Hello); err != nil {
			s.log.Debug("heartbeat not sent", zap.Error(err))
		}
	}
	if e.AskIncarnation {
		s.wg.Go(func() { s.askIncarnation(ctx) })
	}
}

func safely(f func() Effects) (e Effects, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = wire.Errorf(wire.CodeInternal, "", "", "", "%v", p)
		}
	}()
	return f(), nil
}

func (s *Service) askIncarnation(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	inc, err := rpc.LeaseIncarnation(ctx, s.js, s.sub.LeasesBucket())
	if err != nil {
		s.log.Info("incarnation not read: is there a coordinator yet?", zap.Error(err))
		return
	}
	select {
	case s.inbox <- Incarnation{inc}:
	case <-ctx.Done():
	}
}

// enqueue puts a job into its shard's lane, and starts what may begin.
func (s *Service) enqueue(ctx context.Context, j Job) {
	l := s.lanes[j.Shard]
	if l == nil {
		l = &lane{core: s.core, engine: s.engine}
		s.lanes[j.Shard] = l
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.Add(j)
	s.jobs.Add(1)
	s.begin(ctx, l)
}

// begin starts jobs that may begin, with l.mu held.
func (s *Service) begin(ctx context.Context, l *lane) {
	for ctx.Err() == nil {
		j, ok := l.queue.Next()
		if !ok {
			return
		}
		s.wg.Go(func() { s.carryOut(ctx, l, j) })
	}
}

// carryOut carries out a job, and those that may begin because of it.
func (s *Service) carryOut(ctx context.Context, l *lane, j Job) {
	for ok := true; ok; {
		var d Done
		if _, err := safely(func() Effects { d = l.engine.Do(j); return Effects{} }); err != nil {
			s.log.Error("job failed", zap.String("run", j.Shard.Run), zap.Int("shard", j.Shard.Index), zap.Error(err))
			d = Done{Job: j.ID, Err: wire.AsError(err)}
		}
		select {
		case s.inbox <- jobDone{l.core, d}:
		case <-ctx.Done():
		}
		l.mu.Lock()
		l.queue.Finish(j.ID)
		if j, ok = l.queue.Next(); ok {
			s.begin(ctx, l)
		}
		l.mu.Unlock()
		ok = ok && ctx.Err() == nil
	}
}
