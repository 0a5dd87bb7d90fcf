package sim

import (
	"mfac/wire"
)

// packet is a message on its way from one node to another: a request, or the reply to one.
type packet struct {
	from, to string
	id       uint64 // of the request
	reply    bool
	msg      wire.Message
	phase    string // what it is part of
}

// node takes packets.
type node interface {
	take(p packet)
}

// bus carries packets.
type bus struct {
	w       *world
	nodes   map[string]node
	last    uint64
	cut     map[[2]string]bool // a partition: packets from one to another are lost
	hurtful bool
	recent  map[string][]packet // the last requests that each worker took
}

// mostRecent is how many of them are kept.
const mostRecent = 64

func (b *bus) init(w *world) {
	b.w, b.nodes, b.cut, b.recent = w, map[string]node{}, map[[2]string]bool{}, map[string][]packet{}
}

// id names a request.
func (b *bus) id() uint64 {
	b.last++
	return b.last
}

// send puts a packet on its way.
func (b *bus) send(p packet) {
	w := b.w
	w.stats.Packets++
	if w.shape.codec {
		p.msg = b.coded(p.msg)
	} else {
		p.msg = copyOf(p.msg)
	}
	if !b.hurtful {
		b.deliver(p, w.between(1, 4))
		return
	}
	if b.cut[[2]string{p.from, p.to}] {
		w.coverage.count("partition", p.phase)
		w.logf("%s→%s %s: cut off", p.from, p.to, describe(p.msg))
		return
	}
	if w.chance(w.shape.loss) {
		w.coverage.count("loss", p.phase)
		w.logf("%s→%s %s: lost", p.from, p.to, describe(p.msg))
		return
	}
	d := w.between(1, 6)
	if w.chance(w.shape.slow) {
		d = w.between(10, 400)
		w.coverage.count("reorder", p.phase)
		if w.chance(0.2) {
			d = w.between(1000, 6000)
			w.coverage.count("delay", p.phase)
		}
	}
	b.deliver(p, d)
	if w.chance(w.shape.double) {
		w.coverage.count("duplicate", p.phase)
		d := w.between(1, 100)
		if w.chance(0.3) {
			d = w.between(1000, 9000)
		}
		b.deliver(p, d)
	}
}

func (b *bus) deliver(p packet, d ms) {
	b.w.after(d, func() {
		if b.hurtful && b.cut[[2]string{p.from, p.to}] {
			b.w.coverage.count("partition", p.phase)
			return
		}
		n := b.nodes[p.to]
		if n == nil {
			return
		}
		if b.hurtful {
			b.w.faults.before(p)
			b.keep(p)
		}
		b.w.logf("%s→%s %s", p.from, p.to, describe(p.msg))
		n.take(p)
		if b.hurtful {
			b.w.faults.after(p)
		}
	})
}

// keep remembers a request, for replay.
func (b *bus) keep(p packet) {
	if _, ok := b.nodes[p.to].(*workerNode); !ok || p.reply {
		return
	}
	list := append(b.recent[p.to], p)
	b.recent[p.to] = list[max(0, len(list)-mostRecent):]
}

// replay sends a worker late copies of what it has taken, some of them, in order.
func (b *bus) replay(to string) {
	list := b.recent[to]
	share := []float64{0.1, 0.5, 1}[b.w.rng.IntN(3)]
	b.w.logf("REPLAY to %s", to)
	for i, p := range list[b.w.rng.IntN(len(list)+1):] {
		if b.w.chance(share) {
			b.w.coverage.count("duplicate", p.phase)
			p.msg = copyOf(p.msg)
			b.deliver(p, ms(i)/4)
		}
	}
}

// coded takes a message through the codec. The bytes are copied, as a network would.
func (b *bus) coded(m wire.Message) wire.Message {
	f, err := wire.Encode(m)
	if err != nil {
		b.w.fail("%s can't be encoded: %v", m.Type(), err)
	}
	f.Data = append([]byte(nil), f.Data...)
	out, err := wire.Decode(f, "")
	if err != nil {
		b.w.fail("%s can't be decoded: %v\n%+v", m.Type(), err, m)
	}
	return out
}

// phaseOf is the phase of the protocol that a request, with its reply, is part of.
func phaseOf(m wire.Message) string {
	switch m := m.(type) {
	case *wire.InfoRequest:
		return "info"
	case *wire.Open:
		return "open"
	case *wire.Wait:
		return "wait"
	case *wire.Query, *wire.Result:
		return "query"
	case *wire.Close, *wire.CloseQuery:
		return "close"
	case *wire.Stage, *wire.Multiply:
		return "stage"
	case *wire.Fetch, *wire.Chunk, *wire.Vec, *wire.Commit, *wire.Drop, *wire.Prepare, *wire.Coef, *wire.Norms,
		*wire.Adopt, *wire.Install, *wire.Gram, *wire.Release, *wire.Hello:
		return m.Type()
	}
	return ""
}
