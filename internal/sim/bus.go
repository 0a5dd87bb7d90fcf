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
	sent    uint64
	newest  map[[2]string]uint64 // of the packets that came from one to another, the last sent
}

// flight is what happens to a packet on its way.
type flight struct {
	sent          uint64 // which it is, of all
	delayed, copy bool
}

// mostRecent is how many of them are kept.
const mostRecent = 64

func (b *bus) init(w *world) {
	b.w, b.nodes, b.cut, b.recent, b.newest = w, map[string]node{}, map[[2]string]bool{}, map[string][]packet{}, map[[2]string]uint64{}
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
	b.sent++
	f := flight{sent: b.sent}
	if !b.hurtful {
		b.deliver(p, w.between(1, 4), f)
		return
	}
	if b.cut[[2]string{p.from, p.to}] {
		w.coverage.count("partition", p.phase)
		w.logf("%s→%s %s: cut off", p.from, p.to, describe(p.msg))
		return
	}
	loss, slow, late := w.shape.loss, w.shape.slow, 0.2
	if p.phase == "release" { // there are few
		loss, slow, late = max(loss, 0.08), 0.15, 0.5
	}
	if w.chance(loss) {
		w.coverage.count("loss", p.phase)
		w.logf("%s→%s %s: lost", p.from, p.to, describe(p.msg))
		return
	}
	d := w.between(1, 6)
	if w.chance(slow) {
		d = w.between(10, 400)
		if w.chance(late) {
			d, f.delayed = w.between(1000, 6000), true
		}
	}
	b.deliver(p, d, f)
	if w.chance(w.shape.double) {
		d := w.between(1, 100)
		if w.chance(0.3) {
			d = w.between(1000, 9000)
		}
		b.deliver(p, d, flight{copy: true})
	}
}

// up is a node that takes packets now.
func up(n node) bool {
	switch n := n.(type) {
	case *workerNode:
		return n.up
	case *coordinatorNode:
		return n.up
	case *client:
		return !n.done
	}
	return false
}

// felt counts the faults of a packet that comes: what nobody is there to take has hurt nobody.
func (b *bus) felt(p packet, f flight) {
	if !up(b.nodes[p.to]) {
		return
	}
	way := [2]string{p.from, p.to}
	switch {
	case f.copy:
		b.w.coverage.count("duplicate", p.phase)
		return
	case f.sent < b.newest[way]: // overtaken
		b.w.coverage.count("reorder", p.phase)
	default:
		b.newest[way] = f.sent
	}
	if f.delayed {
		b.w.coverage.count("delay", p.phase)
	}
}

func (b *bus) deliver(p packet, d ms, f flight) {
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
			b.felt(p, f)
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
			p.msg = copyOf(p.msg)
			b.deliver(p, ms(i)/4, flight{copy: true})
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
	case *wire.Forget, *wire.Set, *wire.Resize, *wire.Reshape, *wire.Freeze:
		return "change"
	case *wire.Query, *wire.Result, *wire.Values, *wire.LabelsRequest:
		return "query"
	case *wire.SlotLabels:
		return "gram"
	case *wire.Close, *wire.CloseQuery:
		return "close"
	case *wire.Hold, *wire.Whiten, *wire.Recall:
		return "freeze"
	case *wire.Stage, *wire.Multiply:
		return "stage"
	case *wire.Fetch, *wire.Chunk, *wire.Vec, *wire.Commit, *wire.Evict, *wire.Drop, *wire.Prepare, *wire.Coef, *wire.Norms, *wire.DotVectors,
		*wire.Apply, *wire.Residual, *wire.Refine, *wire.Factor, *wire.Columns, *wire.Prune, *wire.Blocks,
		*wire.Adopt, *wire.Install, *wire.Gram, *wire.Release, *wire.Hello:
		return m.Type()
	}
	return ""
}
