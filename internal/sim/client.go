package sim

import (
	"iter"
	"runtime/debug"

	"mfac/wire"
)

// client is a client's process, a coroutine: it blocks in request and sleep, and the world goes on.
type client struct {
	w       *world
	name    string
	doing   string
	resume  func() (struct{}, bool)
	stop    func()
	yield   func(struct{}) bool
	done    bool
	pending map[uint64]*asked
	info    *wire.Info
}

// asked is a request that waits for its reply.
type asked struct {
	reply wire.Message
	batch *batch
}

// batch is requests that are waited for together.
type batch struct {
	left  int
	awake bool
}

// killed ends a client's coroutine.
type killed struct{}

// requestMS is how long a client waits for a reply, before it asks again.
const requestMS ms = 2000

// spawn starts a client.
func (w *world) spawn(name string, body func(*client)) *client {
	c := &client{w: w, name: name, pending: map[uint64]*asked{}}
	w.bus.nodes[name] = c
	w.clients = append(w.clients, c)
	c.resume, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		defer func() {
			c.done = true
			switch p := recover(); p.(type) {
			case nil, killed:
			case failed:
				panic(p)
			default:
				panic(failed{"panic: " + describePanic(p) + string(debug.Stack())})
			}
		}()
		body(c)
	})
	w.after(1, c.wake)
	return c
}

func (c *client) wake() {
	if !c.done {
		c.resume()
	}
}

// kill ends a client wherever it is.
func (c *client) kill() {
	c.done = true
	c.stop()
}

// park lets the world go on until somebody wakes the client.
func (c *client) park() {
	if !c.yield(struct{}{}) {
		panic(killed{})
	}
}

func (c *client) sleep(d ms) {
	c.w.after(d, c.wake)
	c.park()
}

func (c *client) take(p packet) {
	a := c.pending[p.id]
	if a == nil || !p.reply || c.done {
		return
	}
	delete(c.pending, p.id)
	a.reply = p.msg
	if a.batch.left--; a.batch.left == 0 && !a.batch.awake {
		a.batch.awake = true
		c.wake()
	}
}

// want is a request to a node; to nobody in particular, it goes to all coordinators.
type want struct {
	to  string
	msg wire.Message
}

// ask sends requests, and waits until all are answered, or for requestMS. What was not answered
// is nil.
func (c *client) ask(wants ...want) []wire.Message {
	b := &batch{left: len(wants)}
	list := make([]*asked, len(wants))
	ids := make([]uint64, len(wants))
	for i, m := range wants {
		list[i], ids[i] = &asked{batch: b}, c.w.bus.id()
		c.pending[ids[i]] = list[i]
		p := packet{from: c.name, to: m.to, id: ids[i], msg: m.msg, phase: phaseOf(m.msg)}
		if m.to != "" {
			c.w.bus.send(p)
			continue
		}
		for _, n := range c.w.coordinators { // all hear it, the owner answers
			p.to = n.name
			c.w.bus.send(p)
		}
	}
	c.w.after(requestMS, func() {
		if !b.awake {
			b.awake = true
			c.wake()
		}
	})
	c.park()
	out := make([]wire.Message, len(wants))
	for i := range list {
		delete(c.pending, ids[i])
		out[i] = list[i].reply
	}
	return out
}

// owner asks the run's coordinator.
func (c *client) owner(m wire.Message) wire.Message { return c.ask(want{"", m})[0] }

// attach gets the run's info, until it is ready or the time is up.
func (c *client) attach(until ms) bool {
	c.info = nil
	for c.w.now < until {
		if m, ok := c.owner(&wire.InfoRequest{Run: runName}).(*wire.Info); ok && m.State == wire.StateReady {
			c.info = m
			c.w.check.newest = max(c.w.check.newest, m.Newest)
			return true
		}
		c.sleep(c.w.between(50, 300))
	}
	return false
}

func (c *client) workerOf(s int) string { return c.info.Workers[c.info.Owner[s]] }

// span is columns of a shard.
type span struct {
	shard int
	lo, n int64
}

// grid cuts the columns [lo, hi) into chunks, none across a shard's border, always the same.
func (c *client) grid(lo, hi, chunk int64) []span {
	var out []span
	for s := range c.info.Lo {
		first, n := c.info.Range(s)
		for at := first; at < first+n; at += chunk {
			end := min(at+chunk, first+n)
			if a, b := max(at, lo), min(end, hi); a < b {
				out = append(out, span{s, a, b - a})
			}
		}
	}
	return out
}
