package sim

import (
	"mfac/wire"
	"mfac/worker"
)

// Ticks of both cores.
const tickMS ms = 50

// workerNode is a worker's process, or the place where it was.
type workerNode struct {
	w        *world
	name     string
	up       bool
	life     int // of the process: what an earlier one began is nothing to this one
	core     *worker.Core
	engine   *worker.Engine
	lanes    map[worker.ShardKey]*worker.Queue
	answers  map[worker.Token]packet
	last     worker.Token
	instance uint64
	asking   bool
}

func newWorkerNode(w *world, name string) *workerNode {
	n := &workerNode{w: w, name: name}
	w.bus.nodes[name] = n
	return n
}

// capacity has room for all shards at every worker, some times over.
func (n *workerNode) capacity() int64 { return 1 << 20 }

func (n *workerNode) start() {
	n.life++
	n.up, n.instance = true, n.w.rng.Uint64()
	n.core = worker.NewCore(worker.Config{ID: n.name, Instance: n.instance, Capacity: n.capacity(), Budget: n.w.shape.budget, TickMS: tickMS, GatherCols: n.w.shape.gather})
	n.engine = &worker.Engine{Threads: 1}
	n.lanes, n.answers, n.asking = map[worker.ShardKey]*worker.Queue{}, map[worker.Token]packet{}, false
	n.w.logf("%s starts", n.name)
	n.tick(n.life)
}

func (n *workerNode) tick(life int) {
	if n.life != life || !n.up {
		return
	}
	n.step(worker.Tick{})
	n.w.after(tickMS, func() { n.tick(life) })
}

// crash ends the process. All that it held is gone.
func (n *workerNode) crash() {
	if !n.up {
		return
	}
	n.w.logf("%s CRASHES", n.name)
	n.w.stats.WorkerCrashes++
	n.w.check.loses(n)
	n.up, n.core, n.engine = false, nil, nil
	n.life++
	life := n.life
	away := n.w.between(100, 5000)
	if n.w.chance(0.3) {
		away = n.w.between(5, 50)
	}
	n.w.after(away, func() {
		if n.life == life {
			n.start()
			if n.w.bus.hurtful && n.w.chance(0.4) {
				n.w.bus.replay(n.name)
			}
		}
	})
}

func (n *workerNode) take(p packet) {
	if !n.up || p.reply {
		return
	}
	n.last++
	n.answers[n.last] = p
	n.step(worker.Request{From: n.last, Caller: p.from, Msg: p.msg})
}

func (n *workerNode) step(in worker.Input) {
	over := n.w.check.over(n, in)
	e := n.core.Step(in)
	over.check(n, e)
	life := n.life
	for _, c := range e.Cancel {
		c.Cancel()
	}
	for _, j := range e.Jobs {
		l := n.lanes[j.Shard]
		if l == nil {
			l = &worker.Queue{}
			n.lanes[j.Shard] = l
		}
		l.Add(j)
		n.begin(l)
	}
	for _, s := range e.Sends {
		p, ok := n.answers[s.To]
		if !ok {
			n.w.fail("%s answers request %d twice, or one that there wasn't: %s", n.name, s.To, describe(s.Msg))
		}
		delete(n.answers, s.To)
		n.w.bus.send(packet{from: n.name, to: p.from, id: p.id, reply: true, msg: s.Msg, phase: p.phase})
	}
	if e.Hello != nil {
		for _, c := range n.w.coordinators {
			n.w.bus.send(packet{from: n.name, to: c.name, msg: e.Hello, phase: "hello"})
		}
	}
	if e.AskIncarnation {
		var inc uint64
		n.w.kv.ask(n.name, "incarnation", func() { inc = n.w.kv.incarnation }, func(ok bool) {
			if ok && n.life == life && n.up {
				n.step(worker.Incarnation{Value: inc})
			}
		})
	}
	if _, tick := in.(worker.Tick); !tick {
		n.w.check.worker(n, in)
	}
}

// begin begins the jobs of a shard that may be under way.
func (n *workerNode) begin(l *worker.Queue) {
	for {
		j, ok := l.Next()
		if !ok {
			return
		}
		n.carryOut(l, j)
	}
}

// carryOut carries out a job, at one moment some time from now.
func (n *workerNode) carryOut(l *worker.Queue, j worker.Job) {
	life := n.life
	d := n.w.between(0, 3)
	if n.w.bus.hurtful && n.w.chance(0.02) {
		d = n.w.between(20, 800)
	}
	n.w.after(d, func() {
		if n.life != life || !n.up {
			return
		}
		done := n.engine.Do(j)
		if done.Err != nil && done.Err.Code == wire.CodeInternal {
			n.w.fail("%s: job %T: %v", n.name, j.Op, done.Err)
		}
		l.Finish(j.ID)
		n.begin(l)
		n.step(done)
	})
}
