package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"mfac/internal/rpc"
	"mfac/wire"
)

// lease is the value of a lease key.
type lease struct {
	Coordinator string `json:"coordinator"`
	Instance    string `json:"instance"`
}

var errOwned = errors.New("somebody else owns the run")

// takeLease makes a run's lease ours and returns the revision at which it became so: the epoch.
// A lease that is held under our name by an instance before this one is taken over, so that a
// coordinator which restarts under its name waits for nothing. Safety is in the epoch, not here.
func (s *Service) takeLease(ctx context.Context, run string) (uint64, error) {
	value, err := json.Marshal(lease{s.cfg.Name, s.instance})
	if err != nil {
		return 0, err
	}
	rev, err := s.leases.Create(ctx, run, value)
	if err == nil {
		return rev, nil
	}
	entry, again := s.leases.Get(ctx, run)
	if again != nil {
		return 0, err
	}
	var l lease
	if json.Unmarshal(entry.Value(), &l) != nil || l.Coordinator != s.cfg.Name {
		return 0, errOwned
	}
	return s.leases.Update(ctx, run, value, entry.Revision())
}

// epochOf is the epoch of a lease taken at a revision. The bucket may have been made anew since this
// process started: its incarnation is read, and then that the lease is still there.
func (s *Service) epochOf(ctx context.Context, run string, revision uint64) (wire.Epoch, error) {
	inc, err := rpc.IncarnationOf(ctx, s.leases)
	if err != nil {
		return wire.Epoch{}, err
	}
	entry, err := s.leases.Get(ctx, run)
	if err != nil {
		return wire.Epoch{}, fmt.Errorf("read the lease again: %w", err)
	}
	if entry.Revision() != revision {
		return wire.Epoch{}, errOwned
	}
	s.incarnation.Store(inc)
	return wire.Epoch{Incarnation: inc, Revision: revision}, nil
}

// owner runs one run's core: a goroutine, its inbox, its lease.
type owner struct {
	s         *Service
	name      string
	log       *zap.Logger
	inbox     chan any // rpc.Request, Hello
	replies   *nats.Subscription
	replyTo   string
	revision  uint64 // of the lease, as last written
	record    uint64 // revision of the record
	rec       Record // as read last
	core      *Core
	answers   map[Token]answer
	last      Token
	deletes   []Token
	jobs      map[uint64]context.CancelFunc
	working   sync.WaitGroup
	lost      string
	renewed   time.Time
	restarted int
}

// answer is a request that waits: where its answer goes, not its payload.
type answer struct {
	reply string
	born  time.Time
}

const forgetAnswers = 2 * time.Minute

func newOwner(s *Service, name string, revision uint64) *owner {
	return &owner{
		s: s, name: name, revision: revision, log: s.log.With(zap.String("run", name)),
		inbox: make(chan any, inboxLength), answers: map[Token]answer{}, jobs: map[uint64]context.CancelFunc{}, renewed: time.Now(),
	}
}

// offer hands over an input, or says that there is no room.
func (o *owner) offer(in any) bool {
	select {
	case o.inbox <- in:
		return true
	default:
		return false
	}
}

// run owns the run until the service stops, the lease is lost or the run is deleted.
func (o *owner) run() {
	o.replyTo = o.s.nc.NewInbox()
	var err error
	o.replies, err = o.s.nc.Subscribe(o.replyTo, func(m *nats.Msg) {
		if msg, err := wire.Decode(wire.Frame{Header: m.Header, Data: m.Data}, ""); err == nil {
			select {
			case o.inbox <- Reply{msg}:
			case <-o.s.ctx.Done():
			}
		} else {
			o.log.Debug("reply not read", zap.Error(err))
		}
	})
	if err != nil {
		o.log.Warn("replies not heard", zap.Error(err))
		return
	}
	defer func() { _ = o.replies.Unsubscribe() }()
	defer o.drain()
	defer o.working.Wait()
	defer o.stopJobs()
	if !o.begin(o.revision) {
		return
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	for o.lost == "" {
		select {
		case <-o.s.ctx.Done():
			o.perform(o.core.Stop("its coordinator is stopping"))
			o.giveBack()
			return
		case <-t.C:
			o.step(Tick{})
			o.sweep()
			o.renew()
		case in := <-o.inbox:
			switch in := in.(type) {
			case rpc.Request:
				if time.Since(o.renewed) > o.s.cfg.LeaseTTL && !o.write() {
					// This process has slept: somebody else may own the run by now.
					rpc.Respond(in, wire.Errorf(wire.CodeUnavailable, "run", o.name, "served here", "its coordinator has lost touch"), o.log)
					continue
				}
				o.last++
				o.answers[o.last] = answer{in.Reply(), time.Now()}
				if _, ok := in.Msg.(*wire.Delete); ok {
					o.deletes = append(o.deletes, o.last)
				}
				o.step(Request{From: o.last, Caller: in.Caller, Msg: in.Msg})
				o.deletes = nil // answered, or not this run's
			case Done:
				o.stopJob(in.Job)
				o.step(in)
			case Input:
				o.step(in)
			}
		}
	}
	o.perform(o.core.Stop(o.lost))
	o.log.Info("run let go", zap.String("why", o.lost))
}

// drain answers requests that came while the owner was ending.
func (o *owner) drain() {
	err := wire.Errorf(wire.CodeUnavailable, "run", o.name, "served here", "its coordinator has just let it go")
	for {
		select {
		case in := <-o.inbox:
			if r, ok := in.(rpc.Request); ok {
				rpc.Respond(r, err, o.log)
			}
		default:
			for _, a := range o.answers {
				o.answer(a, err)
			}
			return
		}
	}
}

func (o *owner) answer(a answer, m wire.Message) { rpc.Answer(o.s.nc, a.reply, m, o.log) }

// begin reads the record and starts a core at the epoch of this revision.
func (o *owner) begin(revision uint64) bool {
	ctx, cancel := context.WithTimeout(o.s.ctx, kvTimeout)
	defer cancel()
	entry, err := o.s.runs.Get(ctx, recordPrefix+o.name)
	if err != nil {
		o.log.Warn("record not read", zap.Error(err))
		o.giveBack()
		return false
	}
	rec, err := DecodeRecord(entry.Value())
	if err != nil {
		o.log.Error("record not understood: the run is not served here", zap.Error(err))
		o.s.mu.Lock()
		o.s.strange[o.name] = true
		o.s.mu.Unlock()
		o.giveBack()
		return false
	}
	starts, err := o.s.startsOf(ctx, &rec)
	if err != nil {
		o.log.Warn("layout not read", zap.Error(err))
		o.giveBack()
		return false
	}
	epoch, err := o.s.epochOf(ctx, o.name, revision)
	if err != nil {
		o.log.Warn("lease lost", zap.Error(err))
		return false
	}
	o.record, o.rec = entry.Revision(), rec
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	var had []wire.Step
	var carried *Carried
	if o.core != nil {
		had, carried = o.core.Steps(), o.core.Carried()
	}
	o.core = NewCore(Config{
		Had: had, Carried: carried, Starts: starts,
		Coordinator: o.s.cfg.Name, Record: rec, Epoch: epoch,
		Workers: o.s.live(), TickMS: ms(tick), SilentMS: ms(o.s.cfg.Silent), StepMS: ms(o.s.cfg.StepDeadline), QueryMS: ms(o.s.cfg.QueryDeadline),
	})
	o.log.Info("run taken", zap.Stringer("epoch", epoch))
	return true
}

// step steps the core and carries out the effects. A core that breaks an invariant is replaced:
// neither a panic nor a wrong number leaves, and the shards hold what is needed to go on.
func (o *owner) step(in Input) {
	var e Effects
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = wire.Errorf(wire.CodeInternal, "", "", "", "%v", p)
			}
		}()
		e = o.core.Step(in)
		return nil
	}()
	if err != nil {
		o.log.Error("core broken, taking the run anew", zap.Error(err), zap.Stack("stack"))
		for _, a := range o.answers {
			o.answer(a, wire.AsError(err))
		}
		o.answers = map[Token]answer{}
		o.restart("a broken invariant")
		return
	}
	o.perform(e)
}

func (o *owner) perform(e Effects) {
	if e.Save != nil {
		o.save(e.Save)
	}
	for _, j := range e.Jobs {
		o.work(j)
	}
	for _, id := range e.Stops {
		o.stopJob(id)
	}
	for _, c := range e.Calls {
		if err := rpc.Publish(o.s.nc, o.s.sub.Control(c.Worker, c.Msg.Type(), o.s.cfg.Name), o.replyTo, c.Msg); err != nil {
			o.log.Debug("call not sent", zap.String("worker", c.Worker), zap.Error(err)) // it is sent again
		}
	}
	for _, m := range e.Sends {
		if a, ok := o.answers[m.To]; ok {
			delete(o.answers, m.To)
			o.answer(a, m.Msg)
		}
	}
	for _, n := range e.Notes {
		steps := make([]uint64, len(n.Steps))
		for i, s := range n.Steps {
			steps[i] = uint64(s)
		}
		o.log.Warn(n.Text, zap.Uint64s("steps", steps))
	}
	switch {
	case e.Delete:
		o.delete()
	case e.Lost != "":
		o.lost = e.Lost
	case e.Restart != "":
		o.restart(e.Restart)
	}
}

// save writes the record by compare-and-set. A write that timed out may have happened: it is read
// again and compared.
func (o *owner) save(rec *Record) {
	value, err := rec.Encode()
	if err != nil {
		o.lost = err.Error()
		return
	}
	ctx, cancel := context.WithTimeout(o.s.ctx, kvTimeout)
	defer cancel()
	rev, err := o.s.runs.Update(ctx, recordPrefix+o.name, value, o.record)
	if err != nil {
		entry, again := o.s.runs.Get(ctx, recordPrefix+o.name)
		if again != nil || string(entry.Value()) != string(value) {
			o.log.Warn("record not written", zap.Error(err))
			o.restart("the record could not be written")
			return
		}
		rev = entry.Revision()
	}
	o.record = rev
	o.step(Saved{})
}

// restart takes the lease again, which makes a new epoch, and starts a new core.
func (o *owner) restart(why string) {
	if o.lost != "" {
		return
	}
	o.log.Warn("run taken over anew", zap.String("why", why))
	o.stopJobs()
	if o.restarted++; o.restarted > 1 && time.Since(o.renewed) < tick { // not in a tight circle
		select {
		case <-time.After(4 * tick):
		case <-o.s.ctx.Done():
		}
	}
	if !o.write() || !o.begin(o.revision) {
		if o.lost == "" {
			o.lost = why
		}
	}
}

// renew writes the lease again in good time. Where that fails for its whole life, the run is let
// go: somebody else may own it.
func (o *owner) renew() {
	if o.lost == "" && time.Since(o.renewed) > o.s.cfg.LeaseTTL/3 {
		o.write()
	}
}

// write writes the lease: it is ours at a new revision, or lost.
func (o *owner) write() bool {
	ctx, cancel := context.WithTimeout(o.s.ctx, min(kvTimeout, o.s.cfg.LeaseTTL/3))
	defer cancel()
	value, err := json.Marshal(lease{o.s.cfg.Name, o.s.instance})
	if err == nil {
		var rev uint64
		if rev, err = o.s.leases.Update(ctx, o.name, value, o.revision); err == nil {
			o.revision, o.renewed = rev, time.Now()
			return true
		}
	}
	if entry, again := o.s.leases.Get(ctx, o.name); again == nil {
		if string(entry.Value()) == string(value) { // the write that failed has happened
			o.revision, o.renewed = entry.Revision(), time.Now()
			return true
		}
		o.lost = "another coordinator has the lease"
		return false
	} else if errors.Is(again, jetstream.ErrKeyNotFound) || errors.Is(again, jetstream.ErrBucketNotFound) {
		o.lost = "the lease has run out"
		return false
	}
	if time.Since(o.renewed) > o.s.cfg.LeaseTTL {
		o.lost = fmt.Sprintf("the lease could not be renewed: %v", err)
	}
	return false
}

// giveBack deletes the lease, so that another coordinator takes over at once.
func (o *owner) giveBack() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.s.ctx), time.Second)
	defer cancel()
	if err := o.s.leases.Delete(ctx, o.name, jetstream.LastRevision(o.revision)); err != nil {
		o.log.Debug("lease not given back", zap.Error(err))
	}
}

// delete ends the run: first the record, which is what makes it a run. Only as this owner knows it:
// the name may be another run's by now.
func (o *owner) delete() {
	ctx, cancel := context.WithTimeout(o.s.ctx, kvTimeout)
	defer cancel()
	err := o.s.runs.Purge(ctx, recordPrefix+o.name, jetstream.LastRevision(o.record))
	if err != nil {
		if _, again := o.s.runs.Get(ctx, recordPrefix+o.name); errors.Is(again, jetstream.ErrKeyNotFound) {
			err = nil // it has happened after all
		}
	}
	if err != nil {
		for _, t := range o.deletes {
			if a, ok := o.answers[t]; ok {
				delete(o.answers, t)
				o.answer(a, wire.Errorf(wire.CodeUnavailable, "run", o.name, "deleted", "%v", err))
			}
		}
		return
	}
	o.s.mu.Lock()
	delete(o.s.known, o.name)
	delete(o.s.records, o.name)
	o.s.mu.Unlock()
	o.s.purgeLayout(ctx, &o.rec)
	o.perform(o.core.Deleted())
	for _, t := range o.deletes {
		if a, ok := o.answers[t]; ok {
			delete(o.answers, t)
			o.answer(a, &wire.OK{})
		}
	}
	o.giveBack()
	o.lost = "deleted"
}

// sweep forgets requests that nobody waits for any more.
func (o *owner) sweep() {
	for t, a := range o.answers {
		if time.Since(a.born) > forgetAnswers {
			delete(o.answers, t)
		}
	}
}
