package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/zap"

	"mfac/internal/rpc"
	"mfac/wire"
)

// ServiceConfig is how a coordinator is run. Zero durations take defaults.
type ServiceConfig struct {
	Name          string // a token of subjects; the connection's inbox prefix must be _INBOX.<Name>
	Tenant        string
	LeaseTTL      time.Duration // how long a run is unowned after its coordinator died; 15 s
	Silent        time.Duration // a worker that is silent for so long is lost; 15 s
	StepDeadline  time.Duration // an incomplete step is dropped after so long; 1 min
	QueryDeadline time.Duration // an open query is closed after so long; 2 min
	Replicas      int           // of the KV buckets; 1
	Logger        *zap.Logger
}

// Version of the services, as NATS micro shows it.
const Version = "0.1.0"

const (
	tick         = 50 * time.Millisecond
	inboxLength  = 4096
	kvTimeout    = 5 * time.Second
	mostCreates  = 16 // at a time
	mostLayouts  = 16
	mostUnknowns = 64
	unknownDelay = 300 * time.Millisecond
	orphanAfter  = 30 * time.Second // a shard of a run that nobody knows is released after so long
)

// Service is a coordinator at work: it takes the leases of runs that nobody owns and owns them.
type Service struct {
	cfg         ServiceConfig
	nc          *nats.Conn
	log         *zap.Logger
	sub         wire.Subjects
	js          jetstream.JetStream
	runs        jetstream.KeyValue
	leases      jetstream.KeyValue
	incarnation atomic.Uint64 // of the bucket of leases, as last read
	instance    string        // random, in lease values: tells ours from another process's of our name
	started     time.Time
	svc         micro.Service
	hellos      *nats.Subscription
	cancel      context.CancelCauseFunc
	ctx         context.Context
	done        chan struct{}
	wg          sync.WaitGroup
	working     chan struct{} // has the one job that is run
	making      chan struct{} // the same of brief jobs
	creates     chan struct{} // slots for requests that ask KV: none takes those of another kind
	layouts     chan struct{}
	unknowns    chan struct{} // each held for unknownDelay
	creating    sync.Mutex    // one run at a time, so that no two take the same memory

	mu      sync.Mutex
	known   map[string]bool   // runs that have a record
	records map[string]Record // of those, as last heard of …
	strange map[string]bool   // … and those of which that is not understood
	synced  bool              // known is complete
	owners  map[string]*owner
	workers map[string]heard
	orphans map[orphan]time.Time // since when
}

// orphan is a shard that a worker holds of a run that nobody knows.
type orphan struct {
	worker string
	wire.Held
}

// heard is a worker's last heartbeat.
type heard struct {
	wire.Hello
	at     time.Time
	former uint64                  // the instance before this one
	since  time.Time               // this instance was heard first
	told   map[wire.Held]time.Time // what it holds, by its last heartbeats: one names only so many
}

// hear takes a worker's next heartbeat.
func (h *heard) hear(hello wire.Hello, now time.Time) {
	if h.Instance != hello.Instance || h.told == nil {
		h.since, h.told = now, map[wire.Held]time.Time{}
	}
	h.Hello, h.at = hello, now
	if hello.Shards <= len(hello.Held) {
		clear(h.told)
	}
	for _, held := range hello.Held {
		h.told[held] = now
	}
	for held, at := range h.told {
		if now.Sub(at) > h.cycle() {
			delete(h.told, held)
		}
	}
}

// mostCycle is how long what a worker has told is remembered at most.
const mostCycle = time.Minute

// cycle is how long a worker takes to name all that it holds, and two heartbeats more.
func (h *heard) cycle() time.Duration {
	return min(time.Duration(h.Shards/wire.MaxHeld+3)*helloEvery, mostCycle)
}

// missing reports whether a worker has told all that it holds, and this shard is not among it.
func (h *heard) missing(held wire.Held, now time.Time) bool {
	_, told := h.told[held]
	all := h.Shards <= len(h.Held) || now.Sub(h.since) >= h.cycle() && h.cycle() < mostCycle
	return all && !told
}

// Serve starts a coordinator on a connection and returns when it is subscribed. Stop ends it; the
// connection stays the caller's.
func Serve(ctx context.Context, nc *nats.Conn, cfg ServiceConfig) (*Service, error) {
	if err := wire.CheckName("coordinator name", cfg.Name); err != nil {
		return nil, err
	}
	if err := wire.CheckName("tenant", cfg.Tenant); err != nil {
		return nil, err
	}
	setDefault(&cfg.LeaseTTL, 15*time.Second)
	setDefault(&cfg.Silent, 15*time.Second)
	setDefault(&cfg.StepDeadline, time.Minute)
	setDefault(&cfg.QueryDeadline, 2*time.Minute)
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	if cfg.LeaseTTL < leastLeaseTTL {
		return nil, wire.Invalid("lease TTL", cfg.LeaseTTL, fmt.Sprintf("at least %v", leastLeaseTTL))
	}
	if cfg.Silent < 4*helloEvery {
		return nil, wire.Invalid("silent", cfg.Silent, fmt.Sprintf("at least %v", 4*helloEvery))
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	s := &Service{
		cfg: cfg, nc: nc, log: cfg.Logger.With(zap.String("coordinator", cfg.Name)), sub: wire.Subjects{Tenant: cfg.Tenant},
		instance: fmt.Sprintf("%016x", rand.Uint64()), done: make(chan struct{}), working: make(chan struct{}, 1), making: make(chan struct{}, 1), creates: make(chan struct{}, mostCreates),
		layouts: make(chan struct{}, mostLayouts), unknowns: make(chan struct{}, mostUnknowns),
		known: map[string]bool{}, records: map[string]Record{}, strange: map[string]bool{}, owners: map[string]*owner{}, workers: map[string]heard{}, orphans: map[orphan]time.Time{},
	}
	if err := s.buckets(ctx); err != nil {
		return nil, fmt.Errorf("coordinator %s: %w", cfg.Name, err)
	}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.started = time.Now()
	watch, err := s.runs.WatchAll(s.ctx)
	if err == nil {
		err = s.subscribe()
	}
	if err != nil {
		s.cancel(err)
		return nil, fmt.Errorf("coordinator %s: %w", cfg.Name, err)
	}
	go s.loop(watch)
	s.log.Info("coordinator started", zap.String("incarnation", fmt.Sprintf("%x", s.incarnation.Load())))
	return s, nil
}

// helloEvery is how often workers are heard of.
const helloEvery = 500 * time.Millisecond

const leastLeaseTTL = time.Second

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// buckets makes or finds the KV buckets.
func (s *Service) buckets(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var err error
	if s.js, err = jetstream.New(s.nc); err != nil {
		return err
	}
	s.runs, err = s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: s.sub.RunsBucket(), Description: "mfac: runs and their placement", Replicas: s.cfg.Replicas, History: 1,
	})
	if err != nil {
		return fmt.Errorf("make bucket %s (is JetStream on?): %w", s.sub.RunsBucket(), err)
	}
	leases, err := rpc.CreateLeases(ctx, s.js, s.sub.LeasesBucket(), s.cfg.LeaseTTL, s.cfg.Replicas, rand.Uint64()|1)
	if err != nil {
		return err
	}
	// The bucket's TTL is what ends a lease. Were it shorter than ours, leases would run out before
	// they are renewed.
	if leases.TTL < leastLeaseTTL {
		return fmt.Errorf("bucket %s: %w", s.sub.LeasesBucket(), wire.Invalid("TTL", leases.TTL, fmt.Sprintf("at least %v", leastLeaseTTL)))
	}
	if leases.TTL != s.cfg.LeaseTTL {
		s.log.Warn("the bucket of leases was made with another TTL, which holds",
			zap.Duration("holds", leases.TTL), zap.Duration("setting", s.cfg.LeaseTTL))
	}
	s.leases, s.cfg.LeaseTTL = leases, leases.TTL
	s.incarnation.Store(leases.Incarnation)
	return nil
}

func (s *Service) subscribe() error {
	svc, err := micro.AddService(s.nc, micro.Config{
		Name: "mfac-coordinator", Version: Version, Description: "owns runs: commits gradients, answers IHVP queries",
		Metadata: map[string]string{"name": s.cfg.Name, "tenant": s.cfg.Tenant, "protocol": wire.Protocol}, QueueGroupDisabled: true,
	})
	if err != nil {
		return err
	}
	s.svc = svc
	prefix := "mfac." + s.cfg.Tenant + ".c."
	err = rpc.Endpoints(svc, prefix, []string{
		wire.OpDelete, wire.OpInfo, wire.OpLayout, wire.OpOpen, wire.OpWait, wire.OpQuery, wire.OpResult, wire.OpClose, wire.OpSteps, wire.OpValues,
		wire.OpForget, wire.OpSet, wire.OpLabels, wire.OpResize, wire.OpFreeze, wire.OpFrozen,
	}, s.log, func(string) func(rpc.Request) error { return s.toOwner })
	if err == nil {
		err = rpc.Endpoints(svc, prefix, []string{wire.OpCreate, wire.OpList, wire.OpStatus}, s.log,
			func(string) func(rpc.Request) error { return s.anyone }, micro.WithEndpointQueueGroup("c"))
	}
	if err == nil {
		s.hellos, err = s.nc.Subscribe(s.sub.Hello("*"), s.onHello)
	}
	if err == nil {
		err = s.nc.Flush()
	}
	if err != nil {
		_ = svc.Stop()
	}
	return err
}

// Ready is nil when the coordinator is connected and knows which runs there are. It may have no
// worker yet: those that start wait for it.
func (s *Service) Ready() error {
	if !s.nc.IsConnected() {
		return fmt.Errorf("not connected to NATS: %v", s.nc.Status())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced {
		return errors.New("reading which runs there are")
	}
	return nil
}

// Done is closed when the coordinator has stopped.
func (s *Service) Done() <-chan struct{} { return s.done }

var errStopped = errors.New("coordinator stopped")

// Stop takes no more requests, gives its leases back, so that another coordinator takes over at
// once, and waits for its goroutines.
func (s *Service) Stop(ctx context.Context) error {
	err := s.svc.Stop()
	s.cancel(errStopped)
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return err
}

// loop follows which runs there are and takes those that nobody owns.
func (s *Service) loop(watch jetstream.KeyWatcher) {
	defer close(s.done)
	defer s.wg.Wait()
	defer func() { _ = watch.Stop(); _ = s.hellos.Unsubscribe() }()
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case entry, ok := <-watch.Updates():
			if !ok {
				s.rewatch(&watch)
				continue
			}
			s.note(entry)
		case <-t.C:
			s.claimAll()
			s.releaseOrphans()
		}
	}
}

// rewatch begins to follow the runs anew.
func (s *Service) rewatch(watch *jetstream.KeyWatcher) {
	w, err := s.runs.WatchAll(s.ctx)
	if err != nil {
		s.log.Warn("runs not watched", zap.Error(err))
		select {
		case <-time.After(time.Second):
		case <-s.ctx.Done():
		}
		return
	}
	*watch = w
}

const (
	recordPrefix = "run."
	layoutPrefix = "layout."
)

func (s *Service) note(entry jetstream.KeyValueEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if entry == nil {
		s.synced = true
		return
	}
	name, ok := cutPrefix(entry.Key(), recordPrefix)
	if !ok {
		return
	}
	delete(s.strange, name)
	if entry.Operation() != jetstream.KeyValuePut {
		delete(s.known, name)
		delete(s.records, name)
		return
	}
	s.known[name] = true
	if rec, err := DecodeRecord(entry.Value()); err == nil {
		s.records[name] = rec
	} else {
		delete(s.records, name)
		s.strange[name] = true // until it is written anew nobody here takes its lease
		s.log.Error("record not understood: the run is not served here", zap.String("run", name), zap.Error(err))
	}
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):], true
	}
	return "", false
}

// claimAll tries to take the leases of runs that this coordinator doesn't own.
func (s *Service) claimAll() {
	if !s.nc.IsConnected() {
		return
	}
	s.mu.Lock()
	var names []string
	for name := range s.known {
		if s.owners[name] == nil && !s.strange[name] {
			names = append(names, name)
		}
	}
	s.mu.Unlock()
	slices.Sort(names)
	for _, name := range names {
		s.claim(name)
	}
}

// claim takes a run's lease, if it is free or was ours before a restart, and starts its owner.
func (s *Service) claim(name string) {
	ctx, cancel := context.WithTimeout(s.ctx, kvTimeout)
	defer cancel()
	rev, err := s.takeLease(ctx, name)
	if err != nil {
		if !errors.Is(err, errOwned) {
			s.log.Warn("lease not taken", zap.String("run", name), zap.Error(err))
			// It may have been deleted: then it is made anew, under another incarnation.
			if _, err := rpc.CreateLeases(ctx, s.js, s.sub.LeasesBucket(), s.cfg.LeaseTTL, s.cfg.Replicas, rand.Uint64()|1); err != nil {
				s.log.Warn("bucket of leases not found or made", zap.Error(err))
			}
		}
		return
	}
	o := newOwner(s, name, rev)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners[name] != nil || s.ctx.Err() != nil {
		return
	}
	s.owners[name] = o
	s.wg.Go(func() {
		o.run()
		s.mu.Lock()
		delete(s.owners, name)
		s.mu.Unlock()
	})
}

// onHello takes note of a worker and tells the owners.
func (s *Service) onHello(m *nats.Msg) {
	msg, err := wire.Decode(wire.Frame{Header: m.Header, Data: m.Data}, wire.OpHello)
	if err != nil {
		s.log.Debug("heartbeat not read", zap.Error(err))
		return
	}
	h := msg.(*wire.Hello)
	if h.Worker != wire.Caller(m.Subject) { // permissions bind the subject
		s.log.Debug("heartbeat under another name", zap.String("subject", m.Subject), zap.String("worker", h.Worker))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.workers[h.Worker]
	if now.Worker != "" && now.Instance != h.Instance {
		// One that restarts is heard of under a new instance for good; two alternate.
		if h.Instance == now.former {
			s.log.Error("two workers have the same id: each undoes what the other holds", zap.String("worker", h.Worker))
		}
		now.former = now.Instance
	}
	now.hear(*h, time.Now())
	s.workers[h.Worker] = now
	for _, o := range s.owners {
		o.offer(Hello{*h})
	}
	for _, held := range h.Held {
		o := orphan{h.Worker, held}
		if s.synced && !s.known[held.Run] {
			if _, ok := s.orphans[o]; !ok {
				s.orphans[o] = time.Now()
			}
		} else {
			delete(s.orphans, o)
		}
	}
}

// live lists the workers that were heard of lately.
func (s *Service) live() []wire.Hello {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []wire.Hello
	for id, h := range s.workers {
		if age := time.Since(h.at); age < s.cfg.Silent {
			out = append(out, h.Hello)
		} else if age > 10*s.cfg.Silent {
			delete(s.workers, id)
		}
	}
	slices.SortFunc(out, func(a, b wire.Hello) int {
		if a.Worker < b.Worker {
			return -1
		}
		return 1
	})
	return out
}

// releaseOrphans frees shards of runs that have ended while their worker was away. Those of a run
// whose name is another one's by now that one's owner frees.
func (s *Service) releaseOrphans() {
	s.mu.Lock()
	var due []orphan
	for o, since := range s.orphans {
		if age := time.Since(since); age > orphanAfter {
			due = append(due, o)
			delete(s.orphans, o)
		}
	}
	s.mu.Unlock()
	for _, o := range due {
		if _, err := s.runs.Get(s.ctx, recordPrefix+o.Run); !errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		}
		m := &wire.Release{UID: o.UID, Placed: o.Placed}
		m.Shard = wire.Shard{Run: o.Run, Shard: o.Held.Shard, Epoch: wire.Epoch{Incarnation: s.incarnation.Load(), Revision: 1 << 62}}
		if err := rpc.Publish(s.nc, s.sub.Control(o.worker, wire.OpRelease, s.cfg.Name), s.nc.NewInbox(), m); err != nil {
			s.log.Debug("orphan not released", zap.String("run", o.Run), zap.Error(err))
		}
	}
}

// toOwner hands a run's request to its owner, where that is this coordinator. Others keep silent:
// the owner answers. A run that nobody knows is answered for by everyone, after a moment.
func (s *Service) toOwner(r rpc.Request) error {
	name := runOf(r.Msg)
	s.mu.Lock()
	o, known, strange := s.owners[name], s.known[name], s.strange[name]
	s.mu.Unlock()
	switch {
	case r.Msg.Type() == wire.OpLayout && (o != nil || known && !strange):
		return s.background(s.layouts, r, s.layout)
	case o != nil:
		if !o.offer(r) {
			return wire.Errorf(wire.CodeBusy, "requests waiting", inboxLength, fmt.Sprintf("below %d", inboxLength))
		}
	case strange:
		return s.background(s.unknowns, r, s.unreadableRun)
	case !known:
		return s.background(s.unknowns, r, s.unknown)
	}
	return nil
}

func runOf(m wire.Message) string {
	switch m := m.(type) {
	case *wire.Delete:
		return m.Run
	case *wire.InfoRequest:
		return m.Run
	case *wire.LayoutRequest:
		return m.Run
	case *wire.Open:
		return m.Run
	case *wire.Wait:
		return m.Run
	case *wire.Query:
		return m.Run
	case *wire.Result:
		return m.Run
	case *wire.Close:
		return m.Run
	case *wire.Values:
		return m.Run
	case *wire.LabelsRequest:
		return m.Run
	case *wire.StepsRequest:
		return m.Run
	case *wire.Forget:
		return m.Run
	case *wire.Set:
		return m.Run
	case *wire.Resize:
		return m.Run
	case *wire.Freeze:
		return m.Run
	case *wire.FrozenRequest:
		return m.Run
	}
	return ""
}
