package sim

import (
	"mfac/coordinator"
	"mfac/wire"
)

// Times of the run's core. A life is the longest that a step or a query is left open.
const (
	silentMS ms = 2000
	stepMS   ms = 6000
	queryMS  ms = 8000
	maxLife  ms = 20_000
)

// coordinatorNode is a coordinator's process: what coordinator.Service does around a core, for one
// run.
type coordinatorNode struct {
	w       *world
	name    string
	up      bool
	life    int
	paused  bool
	backlog []func() // what came while it was paused

	hellos  map[string]heard
	core    *coordinator.Core
	carried *coordinator.Carried // of the core before
	epoch   wire.Epoch
	lease   uint64 // its revision, as last written
	renewed ms
	record  uint64 // revision of the record that the core was made from, or has written
	saving  int    // counts writes of the record and cores
	asking  bool   // for the lease
	answers map[coordinator.Token]packet
	last    coordinator.Token
}

type heard struct {
	hello wire.Hello
	at    ms
}

func newCoordinatorNode(w *world, name string) *coordinatorNode {
	n := &coordinatorNode{w: w, name: name}
	w.bus.nodes[name] = n
	return n
}

func (n *coordinatorNode) start() {
	n.life++
	n.up, n.paused, n.backlog, n.asking = true, false, nil, false
	n.hellos, n.answers, n.core = map[string]heard{}, map[coordinator.Token]packet{}, nil
	n.w.logf("%s starts", n.name)
	n.tick(n.life)
}

func (n *coordinatorNode) crash() {
	if !n.up {
		return
	}
	n.w.logf("%s CRASHES", n.name)
	n.w.stats.CoordinatorCrashes++
	n.up, n.core = false, nil
	n.life++
	life := n.life
	n.w.after(n.w.between(100, 6000), func() {
		if n.life == life {
			n.start()
		}
	})
}

// pause stops the process for a time: its lease may end, and it doesn't know when it wakes up.
func (n *coordinatorNode) pause(d ms) {
	if !n.up || n.paused {
		return
	}
	n.w.logf("%s is PAUSED for %d ms", n.name, d)
	n.w.stats.Pauses++
	n.paused = true
	life := n.life
	n.w.after(d, func() {
		if n.life != life {
			return
		}
		n.w.logf("%s wakes up", n.name)
		n.paused = false
		for len(n.backlog) > 0 && n.life == life && !n.paused {
			f := n.backlog[0]
			n.backlog = n.backlog[1:]
			f()
		}
	})
}

// when does f now, or when the pause is over.
func (n *coordinatorNode) when(life int, f func()) {
	switch {
	case n.life != life || !n.up:
	case n.paused:
		n.backlog = append(n.backlog, func() {
			if n.life == life {
				f()
			}
		})
	default:
		f()
	}
}

func (n *coordinatorNode) take(p packet) {
	n.when(n.life, func() {
		switch {
		case p.reply && n.core != nil:
			// To whatever core there is now: replies of an earlier one come too.
			n.step(coordinator.Reply{Msg: p.msg})
		case p.reply:
		case p.phase == "hello":
			h := *p.msg.(*wire.Hello)
			n.hellos[h.Worker] = heard{h, n.w.now}
			if n.core != nil {
				n.step(coordinator.Hello{Msg: h})
			}
		case n.core != nil:
			n.last++
			n.answers[n.last] = p
			n.step(coordinator.Request{From: n.last, Caller: p.from, Msg: p.msg})
		}
	})
}

func (n *coordinatorNode) tick(life int) {
	if n.life != life || !n.up {
		return
	}
	if n.paused { // a ticker drops what nobody hears
		n.w.after(tickMS, func() { n.tick(life) })
		return
	}
	n.w.after(tickMS, func() { n.tick(life) })
	if n.core == nil {
		if !n.asking {
			n.acquire(life)
		}
		return
	}
	n.step(coordinator.Tick{})
	if n.core == nil {
		return
	}
	if !n.w.shape.lazy && n.w.now-n.renewed >= leaseTTL {
		n.lose("the lease was not renewed in time")
		return
	}
	if n.w.now-n.renewed >= leaseTTL/3 && !n.asking {
		n.asking = true
		var ok bool
		var rev uint64
		core, epoch, lease := n.core, n.epoch, n.lease
		n.w.kv.ask(n.name, "lease", func() { rev, ok = n.w.kv.renew(n.name, epoch, lease) }, func(answered bool) {
			n.when(life, func() {
				n.asking = false
				switch {
				case n.core != core || !answered:
				case ok:
					n.lease, n.renewed = rev, n.w.now
				default:
					n.lose("the lease is another's")
				}
			})
		})
	}
}

// acquire takes the lease when it is free, reads the record and starts a core.
func (n *coordinatorNode) acquire(life int) {
	n.asking = true
	var epoch wire.Epoch
	var ok bool
	var rec coordinator.Record
	var rev uint64
	n.w.kv.ask(n.name, "lease", func() { epoch, ok = n.w.kv.take(n.name) }, func(answered bool) {
		if !answered || !ok {
			n.w.after(n.w.between(100, 500), func() { n.when(life, func() { n.asking = false }) })
			return
		}
		taken := n.w.now
		n.when(life, func() {
			n.w.kv.ask(n.name, "record", func() { rec, rev = n.w.kv.record, n.w.kv.recordRev }, func(answered bool) {
				n.when(life, func() {
					n.asking = false
					if answered {
						n.begin(epoch, rec, rev, taken)
					}
				})
			})
		})
	})
}

func (n *coordinatorNode) begin(epoch wire.Epoch, rec coordinator.Record, rev uint64, taken ms) {
	n.w.logf("%s owns the run at epoch %v, record %d", n.name, epoch, rev)
	n.w.stats.Takeovers++
	n.epoch, n.lease, n.renewed, n.record = epoch, epoch.Revision, taken, rev
	n.saving++
	var workers []wire.Hello
	for _, wn := range n.w.workers {
		if h, ok := n.hellos[wn.name]; ok && n.w.now-h.at < silentMS {
			workers = append(workers, h.hello)
		}
	}
	n.core = coordinator.NewCore(coordinator.Config{
		Coordinator: n.name, Record: rec, Epoch: epoch, Workers: workers, TickMS: tickMS, SilentMS: silentMS, StepMS: stepMS, QueryMS: queryMS,
		Carried:    n.carried,
		InlineRows: n.w.shape.inline,
	})
	n.carried = nil
	n.w.check.begins(n.core)
	n.w.faults.begins(n)
}

// lose stops the core.
func (n *coordinatorNode) lose(why string) {
	n.w.logf("%s lets the run go: %s", n.name, why)
	e := n.core.Stop(why)
	n.core = nil
	n.perform(nil, e)
}

func (n *coordinatorNode) step(in coordinator.Input) {
	core := n.core
	e := core.Step(in)
	n.w.check.coordinator(n, core, in, e)
	n.perform(core, e)
}

// perform carries out effects.
func (n *coordinatorNode) perform(core *coordinator.Core, e coordinator.Effects) {
	life := n.life
	if e.Save != nil {
		n.saving++
		saving, rec, from := n.saving, *e.Save, n.record
		var rev uint64
		var ok bool
		n.w.kv.ask(n.name, "record", func() { rev, ok = n.w.kv.save(rec, from) }, func(answered bool) {
			n.when(life, func() {
				switch {
				case n.core != core || n.saving != saving:
				case !answered || !ok:
					n.again("the record could not be written")
				default:
					n.record = rev
					n.step(coordinator.Saved{})
				}
			})
		})
	}
	for _, j := range e.Jobs {
		n.w.after(n.w.between(1, 2000), func() {
			n.when(life, func() {
				if n.core == core {
					n.step(coordinator.Done{Job: j.ID, Result: j.Run(func() bool { return false })})
				}
			})
		})
	}
	for _, c := range e.Calls {
		n.w.bus.send(packet{from: n.name, to: c.Worker, id: n.w.bus.id(), msg: c.Msg, phase: phaseOf(c.Msg)})
	}
	for _, s := range e.Sends {
		p, ok := n.answers[s.To]
		if !ok {
			n.w.fail("%s answers request %d twice, or one that there wasn't: %s", n.name, s.To, describe(s.Msg))
		}
		delete(n.answers, s.To)
		n.w.bus.send(packet{from: n.name, to: p.from, id: p.id, reply: true, msg: s.Msg, phase: p.phase})
	}
	for _, note := range e.Notes {
		n.w.logf("%s notes: %s %v", n.name, note.Text, note.Steps)
	}
	switch {
	case e.Lost != "":
		n.w.logf("%s has lost the run: %s", n.name, e.Lost)
		n.core = nil
	case e.Restart != "":
		n.again(e.Restart)
	}
}

// again takes the lease anew, which makes another epoch.
func (n *coordinatorNode) again(why string) {
	n.w.logf("%s takes the run anew: %s", n.name, why)
	life := n.life
	if core := n.core; core != nil {
		n.core, n.carried = nil, core.Carried()
		n.perform(nil, core.Stop(why))
	}
	n.answers = map[coordinator.Token]packet{}
	if !n.asking {
		n.asking = true
		n.w.after(n.w.between(20, 200), func() { n.when(life, func() { n.acquire(life) }) })
	}
}
