package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"mfac/internal/rpc"
	"mfac/wire"
)

// This file: requests that any coordinator answers.

// background answers a request that asks KV, off the subscription's goroutine; only as many at a
// time as there are slots.
func (s *Service) background(slots chan struct{}, r rpc.Request, f func(context.Context, rpc.Request) (wire.Message, error)) error {
	select {
	case slots <- struct{}{}:
	default:
		return wire.Errorf(wire.CodeBusy, "requests under way", cap(slots), fmt.Sprintf("below %d", cap(slots)))
	}
	s.wg.Go(func() {
		defer func() { <-slots }()
		ctx, cancel := context.WithTimeout(s.ctx, kvTimeout)
		defer cancel()
		m, err := f(ctx, r)
		if err != nil {
			m = wire.AsError(err)
		}
		if m != nil {
			rpc.Respond(r, m, s.log)
		}
	})
	return nil
}

func (s *Service) anyone(r rpc.Request) error {
	switch m := r.Msg.(type) {
	case *wire.Create:
		return s.background(s.creates, r, s.create)
	case *wire.List:
		s.mu.Lock()
		synced := s.synced
		s.mu.Unlock()
		if !synced {
			return wire.Errorf(wire.CodeUnavailable, "runs", "being read", "read", "the coordinator has just started")
		}
		rpc.Respond(r, s.list(m.After), s.log)
	case *wire.Status:
		if err := s.hearing(); err != nil {
			return err
		}
		rpc.Respond(r, s.status(m.After), s.log)
	}
	return nil
}

// hearing is an error while a coordinator that has just started can't have heard of every worker:
// what it knows of them decides into how many shards a run is cut, for good.
func (s *Service) hearing() error {
	if time.Since(s.started) < helloEvery+helloEvery/4 {
		return wire.Errorf(wire.CodeUnavailable, "workers", "being heard of", "heard of", "the coordinator has just started")
	}
	return nil
}

// unknown answers for a run that this coordinator has not heard of. Another one may have made it
// a moment ago: so not at once, and after asking KV.
func (s *Service) unknown(ctx context.Context, r rpc.Request) (wire.Message, error) {
	select {
	case <-time.After(unknownDelay):
	case <-ctx.Done():
		return nil, nil
	}
	name := runOf(r.Msg)
	_, err := s.runs.Get(ctx, recordPrefix+name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, unknownRun(name)
	}
	return nil, nil // its owner answers, or nobody can: the client asks again
}

// layout reads a run's layout. It is kept by the run's UID, so that who makes another run of the
// name at the same time, or deletes the one before, can't touch it.
func (s *Service) layout(ctx context.Context, r rpc.Request) (wire.Message, error) {
	name := runOf(r.Msg)
	rec, err := s.record(ctx, name)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, unknownRun(name)
	}
	if rec.Spec.Layout == "" {
		return &wire.Layout{}, nil
	}
	entry, err := s.runs.Get(ctx, layoutKey(name, rec.UID))
	if err != nil {
		return nil, wire.Errorf(wire.CodeUnavailable, "layout", name, "read", "%v", err)
	}
	return &wire.Layout{Payload: entry.Value()}, nil
}

// startsOf are the first columns of a layout's tensors, for a run of blocks; nil where they don't matter.
func (s *Service) startsOf(ctx context.Context, rec *Record) ([]int64, error) {
	if rec.Spec.Blocks == "" || rec.Spec.Layout == "" {
		return nil, nil
	}
	entry, err := s.runs.Get(ctx, layoutKey(rec.Spec.Name, rec.UID))
	if err != nil {
		return nil, err
	}
	tensors, err := wire.ParseLayout(entry.Value(), rec.Spec.Dim)
	if err != nil {
		return nil, err
	}
	return startsIn(tensors), nil
}

func startsIn(tensors []wire.Tensor) (starts []int64) {
	for _, t := range tensors {
		starts = append(starts, t.Offset)
	}
	return starts
}

func layoutKey(run string, uid uint64) string {
	return fmt.Sprintf("%s%s.%016x", layoutPrefix, run, uid)
}

// record reads a run's record, nil where there is none.
func (s *Service) record(ctx context.Context, name string) (*Record, error) {
	entry, err := s.runs.Get(ctx, recordPrefix+name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, wire.Errorf(wire.CodeUnavailable, "run", name, "read", "%v", err)
	}
	rec, err := DecodeRecord(entry.Value())
	if err != nil {
		return nil, s.notUnderstood(name, err)
	}
	return &rec, nil
}

func unknownRun(name string) *wire.Error {
	return wire.Errorf(wire.CodeUnknownRun, "run", name, "one that exists", "mfac run ls lists them")
}

// notUnderstood is what clients hear of a run whose record this coordinator can't read.
func (s *Service) notUnderstood(name string, err error) *wire.Error {
	return wire.Errorf(wire.CodeUnsupported, "record of run", name, "one that this coordinator understands",
		"%v; start the version that wrote it, or delete the key %s of bucket %s", err, recordPrefix+name, s.sub.RunsBucket())
}

// unreadableRun answers for a run whose record this coordinator can't read, where nobody else owns
// it: a coordinator of the version that wrote it may.
func (s *Service) unreadableRun(ctx context.Context, r rpc.Request) (wire.Message, error) {
	name := runOf(r.Msg)
	if _, err := s.leases.Get(ctx, name); !errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	_, err := s.record(ctx, name)
	if err == nil { // it can be read by now, and is claimed in a moment
		s.mu.Lock()
		delete(s.strange, name)
		s.mu.Unlock()
	}
	return nil, err
}

// create makes a run's record, or joins a run of the same spec. The memory is asked for first.
func (s *Service) create(ctx context.Context, r rpc.Request) (wire.Message, error) {
	m := r.Msg.(*wire.Create)
	var tensors []wire.Tensor
	if len(m.Payload) > 0 {
		var err error
		if tensors, err = wire.ParseLayout(m.Payload, m.Spec.Dim); err != nil {
			return nil, err
		}
		if hash := wire.LayoutHash(wire.CanonicalLayout(tensors)); hash != m.Spec.Layout {
			return nil, wire.Invalid("layout", m.Spec.Layout, hash+", the hash of the layout sent")
		}
	}
	if m.Spec.Blocks != "" {
		part, err := m.Spec.Partition(startsIn(tensors))
		if err == nil {
			err = m.Spec.Scales.Fit(part)
		}
		if err != nil {
			return nil, err
		}
	}
	s.creating.Lock()
	defer s.creating.Unlock()
	if info, err := s.join(ctx, m.Spec); err != nil {
		return nil, err
	} else if info != nil {
		return info, nil
	}
	rec := &Record{
		Format: recordFormat, Spec: m.Spec, UID: rand.Uint64(), Lo: wire.Borders(m.Spec.Dim, m.Spec.Shards, tensors),
		Placed: make([]Place, m.Spec.Shards),
	}
	if err := s.fits(rec); err != nil {
		if early := s.hearing(); early != nil && !errors.Is(err, wire.ErrNoWorkers) { // who hears of none waits
			return nil, early
		}
		return nil, err
	}
	value, err := rec.Encode()
	if err != nil {
		return nil, err
	}
	if len(m.Payload) > 0 {
		if _, err := s.runs.Put(ctx, layoutKey(m.Spec.Name, rec.UID), m.Payload); err != nil {
			return nil, wire.Errorf(wire.CodeUnavailable, "layout", m.Spec.Name, "written", "%v", err)
		}
	}
	if _, err := s.runs.Create(ctx, recordPrefix+m.Spec.Name, value); err != nil {
		info, again := s.join(ctx, m.Spec) // somebody else made it just now, or this very write did after all
		if info != nil && info.UID != rec.UID || errors.Is(again, wire.ErrExists) {
			s.purgeLayout(ctx, rec)
		}
		switch {
		case again != nil:
			return nil, again
		case info != nil:
			return info, nil
		}
		return nil, wire.Errorf(wire.CodeUnavailable, "run", m.Spec.Name, "written", "%v", err)
	}
	s.mu.Lock()
	s.known[m.Spec.Name] = true
	s.records[m.Spec.Name] = *rec
	s.mu.Unlock()
	s.claim(m.Spec.Name)
	return infoOf(rec, s.cfg.Name), nil
}

// fits asks whether the workers have the memory of a run that is to be made, beside that of the
// other runs: also of those whose shards a worker's last heartbeat does not tell of yet.
func (s *Service) fits(rec *Record) error {
	live := s.live()
	rooms := make([]room, len(live))
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for i, h := range live {
		rooms[i] = room{h.Worker, h.Capacity - h.Used}
	}
	for _, name := range sortedKeys(s.records) {
		other := s.records[name]
		var nowhere []int
		for shard, p := range other.Placed {
			if p.Worker == "" {
				nowhere = append(nowhere, shard)
				continue
			}
			held := wire.Held{Run: name, UID: other.UID, Shard: shard, Placed: p.Revision}
			for i, h := range live {
				if w := s.workers[h.Worker]; h.Worker == p.Worker && w.missing(held, now) {
					rooms[i].free -= other.shardBytes(shard)
				}
			}
		}
		if after := slices.Clone(rooms); len(nowhere) > 0 {
			if _, err := place(&other, nowhere, after); err == nil { // else it waits for more workers
				rooms = after
			}
		}
	}
	all := make([]int, rec.Spec.Shards)
	for i := range all {
		all[i] = i
	}
	_, err := place(rec, all, rooms)
	return err
}

// join answers for a run that exists: its info, or in what it differs. Nil where there is none.
func (s *Service) join(ctx context.Context, spec wire.RunSpec) (*wire.Info, error) {
	rec, err := s.record(ctx, spec.Name)
	if rec == nil || err != nil {
		return nil, err
	}
	if field, mine, theirs := spec.Differs(rec.Spec); field != "" {
		return nil, wire.Errorf(wire.CodeExists, field, mine, fmt.Sprint(theirs), "the run %s exists with that %s", spec.Name, field)
	}
	return infoOf(rec, s.cfg.Name), nil
}

// purgeLayout deletes the layout of a run that is no more, or never was.
func (s *Service) purgeLayout(ctx context.Context, rec *Record) {
	if rec.Spec.Layout == "" {
		return
	}
	if err := s.runs.Purge(ctx, layoutKey(rec.Spec.Name, rec.UID)); err != nil {
		s.log.Debug("layout not deleted", zap.String("run", rec.Spec.Name), zap.Error(err))
	}
}

// infoOf is what is known of a run from its record alone: it has no epoch yet.
func infoOf(rec *Record, name string) *wire.Info {
	info := &wire.Info{Spec: rec.Spec, UID: rec.UID, State: "starting", Lo: rec.Lo, Workers: []string{"-"}, Coord: name}
	info.Owner = make([]int, len(rec.Lo))
	return info
}

func (s *Service) list(after string) *wire.ListReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &wire.ListReply{}
	for name := range s.known {
		if name > after {
			m.Runs = append(m.Runs, name)
		}
	}
	slices.Sort(m.Runs)
	if len(m.Runs) > wire.MaxList {
		m.Runs, m.More = m.Runs[:wire.MaxList], true
	}
	return m
}

func (s *Service) status(after string) *wire.StatusReply {
	m := &wire.StatusReply{Coord: s.cfg.Name}
	for _, h := range s.live() {
		if h.Worker <= after {
			continue
		}
		if len(m.Workers) == wire.MaxStatus {
			m.More = true
			break
		}
		s.mu.Lock()
		at := s.workers[h.Worker].at
		s.mu.Unlock()
		m.Workers = append(m.Workers, wire.WorkerStatus{
			ID: h.Worker, Instance: h.Instance, Capacity: h.Capacity, Used: h.Used, Shards: h.Shards, SilentMS: time.Since(at).Milliseconds(),
		})
	}
	return m
}
