package main

import (
	"fmt"
	"time"

	"mfac/coordinator"
	"mfac/wire"
)

// ownFigures are the coordinator's own time in a step: its core, whose clients and workers are
// played here, and the encoding of all that it hears and says. Only the socket is missing.
func ownFigures() []figure {
	var out []figure
	for _, c := range []struct {
		m    int
		most float64
	}{{1024, 3}, {4096, 60}} {
		name := fmt.Sprintf("own/m=%d/shards=4", c.m)
		out = append(out, figure{
			must:  true,
			lines: one(line{name: name, unit: "ms", atMost: c.most, what: "the coordinator's own time in a publish and precondition: decoding, core with m×m algebra, encoding"}),
			setup: func(e *env) (sampler, error) { return ownSampler(e, c.m) },
		}, figure{
			lines: one(line{name: name + "/algebra", unit: "ms", what: "the m×m algebra of it measured alone: replace the oldest row, solve, bound"}),
			setup: func(*env) (sampler, error) { return algebraSampler(c.m) },
		})
	}
	return out
}

// ownSteps are in one timing, so that the clock's grain does not count.
func ownSteps(m int) int { return max(2, 8192/m) }

func perStep(d time.Duration, m int) []float64 {
	return []float64{1e3 * d.Seconds() / float64(ownSteps(m))}
}

func ownSampler(e *env, m int) (sampler, error) {
	e.dropBeds()
	p, err := newPlay(m, 4)
	if err != nil {
		return sampler{}, err
	}
	return sampler{run: func() ([]float64, error) {
		p.spent = 0
		for range ownSteps(m) {
			if err := p.train(); err != nil {
				return nil, err
			}
		}
		return perStep(p.spent, m), nil
	}}, nil
}

func algebraSampler(m int) (sampler, error) {
	alg, err := newAlgebra(m)
	if err != nil {
		return sampler{}, err
	}
	return sampler{run: func() ([]float64, error) {
		d, err := timed(func() error {
			for range ownSteps(m) {
				if err := alg.step(); err != nil {
					return err
				}
			}
			return nil
		})
		return perStep(d, m), err
	}}, nil
}

// play is a coordinator's core with its clients and workers, whose numbers are made up.
type play struct {
	core   *coordinator.Core
	spec   wire.RunSpec
	epoch  wire.Epoch
	rows   map[wire.Slot]wire.Attempt
	last   coordinator.Token
	step   wire.Step
	spent  time.Duration
	calls  []coordinator.Call
	sends  []coordinator.Send
	saving bool
	err    error
}

func newPlay(m, shards int) (*play, error) {
	spec := wire.RunSpec{
		Name: "bench", Dim: int64(shards) << 20, Window: m, Spare: 2, Shards: shards, Damping: 1,
		Divisor: wire.Capacity, Store: wire.F32, Durability: wire.DurabilityMemory,
	}
	rec := coordinator.Record{Format: 1, Spec: spec, UID: 7, Takeovers: 4}
	cfg := coordinator.Config{
		Coordinator: "c0", Epoch: wire.Epoch{Incarnation: 1, Revision: 5},
		TickMS: 50, SilentMS: 1 << 30, StepMS: 1 << 30, QueryMS: 1 << 30,
	}
	for s := range shards {
		w := fmt.Sprintf("w%d", s)
		rec.Lo = append(rec.Lo, int64(s)<<20)
		rec.Placed = append(rec.Placed, coordinator.Place{Worker: w, Revision: 3})
		cfg.Workers = append(cfg.Workers, wire.Hello{Worker: w, Instance: 1, Capacity: 1 << 50})
	}
	cfg.Record = rec
	p := &play{core: coordinator.NewCore(cfg), spec: spec, epoch: cfg.Epoch, rows: map[wire.Slot]wire.Attempt{}, step: wire.Step(m)}
	for i := range m {
		p.rows[wire.Slot(i)] = wire.Attempt(i + 1)
	}
	p.in(coordinator.Tick{})
	if err := p.answerAll(); err != nil {
		return nil, err
	}
	if !p.core.Ready() {
		return nil, fmt.Errorf("the played run is not served")
	}
	return p, p.train() // the factor is made here
}

// in steps the core and encodes what it says, on the clock.
func (p *play) in(in coordinator.Input) {
	t := time.Now()
	e := p.core.Step(in)
	for _, c := range e.Calls {
		if _, err := wire.Encode(c.Msg); err != nil {
			p.err = err
		}
	}
	for _, s := range e.Sends {
		if _, err := wire.Encode(s.Msg); err != nil {
			p.err = err
		}
	}
	p.spent += time.Since(t)
	p.calls, p.sends = append(p.calls, e.Calls...), append(p.sends, e.Sends...)
	p.saving = p.saving || e.Save != nil
	if e.Restart != "" || e.Lost != "" {
		p.err = fmt.Errorf("the core restarts: %s%s", e.Restart, e.Lost)
	}
}

// hear gives the core a message that came over the wire.
func (p *play) hear(m wire.Message, request bool) {
	f, err := wire.Encode(m)
	if err != nil {
		p.err = err
		return
	}
	t := time.Now()
	m, err = wire.Decode(f, m.Type())
	p.spent += time.Since(t)
	if err != nil {
		p.err = err
		return
	}
	if request {
		p.last++
		p.in(coordinator.Request{From: p.last, Caller: "client", Msg: m})
		return
	}
	p.in(coordinator.Reply{Msg: m})
}

// answerAll plays the workers until the core asks no more.
func (p *play) answerAll() error {
	for len(p.calls) > 0 || p.saving {
		calls := p.calls
		p.calls = nil
		for _, c := range calls {
			p.hear(p.answer(c.Msg), false)
		}
		if p.saving {
			p.saving = false
			p.in(coordinator.Saved{})
		}
		if p.err != nil {
			return p.err
		}
	}
	return nil
}

// answer is a worker's.
func (p *play) answer(c wire.Control) wire.Message {
	head := *c.Head()
	switch m := c.(type) {
	case *wire.Adopt:
		var rows []wire.Row
		for i := range p.spec.Window {
			rows = append(rows, wire.Row{Slot: wire.Slot(i), Step: wire.Step(i + 1), Attempt: wire.Attempt(i + 1)})
		}
		return &wire.Adopted{Shard: head, Version: wire.Version(p.spec.Window), Payload: wire.AppendRows(nil, rows)}
	case *wire.Gram:
		var x []float64
		for i := m.I0; i < m.I1; i++ {
			for j := range i {
				x = append(x, 0.01*float64((i*7+j*13)%17-8))
			}
			x = append(x, 5)
		}
		return &wire.Numbers{Shard: head, Count: len(x), Payload: wire.AppendFloats(nil, x)}
	case *wire.Stage:
		list := []wire.Product{{Slot: m.Slot, Attempt: m.Attempt, Value: 5}}
		for slot := range wire.Slot(p.spec.Slots()) {
			if a, ok := p.rows[slot]; ok && slot != m.Slot {
				list = append(list, wire.Product{Slot: slot, Attempt: a, Value: 0.01 * float64((int(slot)*7+int(m.Step))%17-8)})
			}
		}
		return &wire.Products{Shard: head, Step: m.Step, Attempt: m.Attempt, Payload: wire.AppendProducts(nil, list)}
	case *wire.Commit:
		if m.Evict {
			delete(p.rows, m.EvictSlot)
		}
		p.rows[m.Slot] = m.Attempt
		return &wire.OK{Seq: head.Seq}
	case *wire.Norms:
		return &wire.Numbers{Shard: head, Count: 1, Payload: wire.AppendFloats(nil, []float64{1})}
	default:
		return &wire.OK{Seq: head.Seq}
	}
}

// train is a step of a client: open, chunks (not here), wait, fetch (not here), close.
func (p *play) train() error {
	p.step++
	p.sends = nil
	p.hear(&wire.Open{Run: p.spec.Name, Step: p.step, Token: 1, Precondition: &wire.Precondition{Result: wire.F32}}, true)
	if p.err != nil {
		return p.err
	}
	open, ok := p.sends[0].Msg.(*wire.OpenReply)
	if !ok {
		return fmt.Errorf("open answered by %+v", p.sends[0].Msg)
	}
	p.hear(&wire.Wait{Run: p.spec.Name, Epoch: p.epoch, Step: p.step, Attempt: open.Attempt}, true)
	p.sends = nil
	if err := p.answerAll(); err != nil {
		return err
	}
	if len(p.sends) != 1 {
		return fmt.Errorf("%d answers after a commit", len(p.sends))
	}
	done, ok := p.sends[0].Msg.(*wire.WaitReply)
	if !ok || done.State != wire.StateCommitted || done.Refused != nil {
		return fmt.Errorf("wait answered by %+v", p.sends[0].Msg)
	}
	p.hear(&wire.Close{Run: p.spec.Name, Epoch: p.epoch, Query: done.Query}, true)
	return p.answerAll()
}
