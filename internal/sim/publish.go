package sim

import (
	"fmt"
	"math"

	"mfac/wire"
)

// publication is a gradient under a token, as one or more clients send it.
type publication struct {
	step     wire.Step
	token    uint64
	label    string // of every other one
	by       string
	row      []float32 // what is sent, which both as and float32 can say
	as       wire.DType
	others   [][]float32 // what may be in the window too: a conflict that came first
	hopeless bool        // never to be committed
	attempts []wire.Attempt
	bad      int64 // a column whose chunk is sent wrong, in the manner's way
}

func (p *publication) String() string {
	return fmt.Sprintf("step %d token %x of %s", p.step, p.token, p.by)
}

// gradient makes a row: of moderate numbers, sometimes close to another or mostly zero.
func (w *world) gradient() []float32 {
	row := make([]float32, w.shape.dim)
	scale := math.Exp(w.rng.NormFloat64())
	for i := range row {
		row[i] = float32(scale * w.rng.NormFloat64())
	}
	return row
}

// publication makes a gradient for a step.
func (c *client) publication(step wire.Step) *publication {
	p := &publication{step: step, token: c.w.rng.Uint64() | 1, by: c.name, as: oneOf(c.w, rowDTypes), bad: c.w.rng.Int64N(c.w.shape.dim)}
	if p.token&2 != 0 {
		p.label = fmt.Sprintf("%x", p.token)
	}
	p.row = rounded(c.w.gradient(), p.as)
	c.w.check.knows(p)
	return p
}

// How a publication is sent.
type manner struct {
	lo, hi    int64 // columns that this client sends
	chunk     int64
	plain     bool // sent in float32, whatever the publication's dtype
	pre       *wire.Precondition
	dieAfter  int  // chunks, 0: never
	poison    bool // a NaN in one chunk, or what the store can't keep
	conflict  bool // one chunk again with other bytes, or in another dtype
	overlap   bool // a chunk across two others
	patience  ms
	deadline  ms // of the step, 0: the run's
	fetchSlow ms
}

func (c *client) usual() manner {
	return manner{hi: c.w.shape.dim, chunk: []int64{3, 7, 16, 100}[c.w.rng.IntN(4)], plain: c.w.chance(0.5), patience: 25_000}
}

// outcome of a publication, as its client sees it.
type outcome struct {
	committed *wire.WaitReply
	err       wire.Code
}

// publisher publishes step after step while the faults last.
func (c *client) publisher(index, of int) {
	w := c.w
	style := w.rng.IntN(3)
	for k := 1; w.now < w.shape.quiet; k++ {
		if c.info == nil && !c.attach(w.shape.quiet) {
			return
		}
		var step wire.Step
		switch style {
		case 0: // every publisher steps of its own
			step = w.check.newest + wire.Step(of)
			for int(step)%of != index {
				step++
			}
		case 1: // whatever comes next: publishers meet at the same step
			step = w.check.newest + 1 + wire.Step(w.rng.IntN(2))
		default:
			step = w.check.newest + wire.Step(1+w.rng.IntN(3))
		}
		if w.chance(0.05) { // somebody who is behind
			step = 1 + wire.Step(w.rng.Int64N(int64(w.check.newest)+1))
		}
		p := c.publication(step)
		m := c.usual()
		r := w.rng.Float64()
		switch {
		case r < 0.04:
			m.poison = true
		case r < 0.08:
			m.conflict = true
		case r < 0.12:
			m.overlap = true
		case r < 0.22:
			m.dieAfter = 1 + w.rng.IntN(6)
		case r < 0.42:
			m.pre = &wire.Precondition{Result: oneOf(w, dtypes), Whole: w.shape.blockOf() > 0 && w.chance(0.2)}
			m.fetchSlow = []ms{0, 300}[w.rng.IntN(2)]
		}
		c.doing = p.String()
		switch {
		case r >= 0.9 && w.shape.dim > 1: // data-parallel: another rank sends the other half
			half := 1 + w.rng.Int64N(w.shape.dim-1)
			other := m
			m.hi, other.lo = half, half
			other.plain = w.chance(0.5)
			rank := w.spawn(c.name+"r", func(o *client) { o.publish(p, other) })
			c.publish(p, m)
			for !rank.done {
				c.sleep(50)
			}
		default:
			out := c.publish(p, m)
			if m.dieAfter > 0 && out.committed == nil { // comes back with other bytes
				c.sleep(w.between(10, 3000))
				m.dieAfter = 0
				c.publish(c.publication(step), m)
			}
		}
		c.sleep(w.between(0, 400))
	}
}

// publish follows the client's rules of the protocol until the step is committed, refused or
// given up.
func (c *client) publish(p *publication, m manner) (out outcome) {
	w := c.w
	until := w.now + m.patience
	var last *wire.OpenReply // the last one
	allAcked := false
	for w.now < until {
		if c.info == nil && !c.attach(until) {
			return out
		}
		switch r := c.owner(&wire.Open{Run: runName, Step: p.step, Token: p.token, DeadlineMS: m.deadline, Precondition: m.pre, Label: p.label, Weight: p.weight()}).(type) {
		case *wire.OpenReply:
			w.check.opened(p, r)
			last = r
		case *wire.Error:
			switch r.Code {
			case wire.CodeNotGrowing:
				if allAcked && last != nil { // a new owner may have finished it
					return c.await(p, m, last, until)
				}
				c.info = nil // it says which step is the newest
				out.err = r.Code
				return out
			case wire.CodeBusy, wire.CodeUnavailable, wire.CodeFrozen:
				c.sleep(w.between(20, 200))
				continue
			case wire.CodeInvalid: // another precondition
				out.err = r.Code
				return out
			default:
				w.fail("open of %v is answered %s: %v", p, r.Code, r)
			}
		default:
			c.info = nil
			continue
		}
		if last.Epoch != c.info.Epoch {
			if c.info = nil; !c.attach(until) {
				return out
			}
			if last.Epoch != c.info.Epoch {
				continue
			}
		}
		code, died := c.chunks(p, m, last, until)
		switch {
		case died:
			w.logf("%s dies in the middle of %v", c.name, p)
			return out
		case code == wire.CodeStaleEpoch || code == wire.CodeUnknownShard || code == wire.CodeTimeout:
			c.info = nil
			continue
		case code != "":
			out.err = code
			return out
		}
		allAcked = true
		out = c.await(p, m, last, until)
		if out.committed != nil || out.err != wire.CodeStaleEpoch && out.err != wire.CodeUnavailable && out.err != wire.CodeUnknownStep {
			return out
		}
		c.info = nil
	}
	return out
}

// chunks sends the columns, some chunks at a time, in any order. It returns the code of what ends
// the attempt.
func (c *client) chunks(p *publication, m manner, open *wire.OpenReply, until ms) (code wire.Code, died bool) {
	w := c.w
	as := p.as
	if m.plain {
		as = wire.F32
	}
	var left []span
	for _, s := range c.grid(m.lo, m.hi, m.chunk) {
		whole := false
		for _, have := range open.Whole {
			whole = whole || have == s.shard
		}
		if !whole {
			left = append(left, s)
		}
	}
	w.rng.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	sent, silent := 0, 0
	for len(left) > 0 {
		if w.now >= until {
			return wire.CodeTimeout, false
		}
		n := min(len(left), 1+w.rng.IntN(4))
		var wants []want
		var spans []span
		for _, s := range left[:n] {
			row := p.row
			if holds := s.lo <= p.bad && p.bad < s.lo+s.n; m.poison && holds {
				row = append([]float32(nil), row...)
				row[p.bad] = float32(math.NaN())
				if w.shape.store == wire.BF16 && w.chance(0.5) {
					row[p.bad] = math.MaxFloat32
				}
				w.check.poisoned(p)
			}
			wants, spans = append(wants, c.chunk(p, open, s, as, row)), append(spans, s)
			if m.conflict && s.lo <= p.bad && p.bad < s.lo+s.n {
				other := append([]float32(nil), p.row...)
				again := as
				if p.as != wire.F32 && w.chance(0.5) {
					again = map[bool]wire.DType{true: wire.F32, false: p.as}[as == p.as]
				} else {
					if other[p.bad] = -other[p.bad]; other[p.bad] == 0 {
						other[p.bad] = 1
					}
					mixed := append([]float32(nil), p.row...)
					copy(mixed[s.lo:s.lo+s.n], other[s.lo:s.lo+s.n])
					p.others = append(p.others, mixed)
				}
				wants, spans = append(wants, c.chunk(p, open, s, again, other)), append(spans, span{shard: -1})
			}
			if m.overlap && s.n > 1 {
				wants, spans = append(wants, c.chunk(p, open, span{s.shard, s.lo, s.n - 1}, as, p.row)), append(spans, span{shard: -1})
			}
			sent++
		}
		if m.dieAfter > 0 && sent >= m.dieAfter {
			for _, q := range wants {
				w.bus.send(packet{from: c.name, to: q.to, id: w.bus.id(), msg: q.msg, phase: "chunk"})
			}
			return "", true
		}
		acked := map[span]bool{}
		answered := false
		for i, r := range c.ask(wants...) {
			answered = answered || r != nil
			switch r := r.(type) {
			case *wire.Ack:
				acked[spans[i]] = true
			case *wire.Error:
				switch {
				case r.Code == wire.CodeBusy, r.Code == wire.CodeNotOpen, r.Code == wire.CodeUnavailable:
				case m.overlap && r.Code == wire.CodeInvalid:
					m.overlap = false // it was the chunk, or what overlaps it, whichever came first
				default:
					return r.Code, false
				}
			}
		}
		if silent++; answered {
			silent = 0
		}
		if silent > 2 {
			return wire.CodeTimeout, false
		}
		rest := left[:0:0]
		for _, s := range left {
			if !acked[s] {
				rest = append(rest, s)
			}
		}
		if len(rest) == len(left) {
			c.sleep(w.between(5, 100))
			// Whoever waits for a slice that another epoch or attempt has made moot finds out here.
			if r, ok := c.owner(&wire.Wait{Run: runName, Epoch: open.Epoch, Step: p.step, Attempt: open.Attempt}).(*wire.Error); ok && r.Code != wire.CodeBusy {
				if r.Code == wire.CodeUnavailable || r.Code == wire.CodeUnknownStep {
					return wire.CodeStaleEpoch, false
				}
				return r.Code, false
			}
		}
		left = rest
	}
	return "", false
}

func (c *client) chunk(p *publication, open *wire.OpenReply, s span, as wire.DType, row []float32) want {
	b := encode(widened(row[s.lo:s.lo+s.n]), as)
	return want{c.workerOf(s.shard), &wire.Chunk{
		Run: runName, Epoch: open.Epoch, Step: p.step, Attempt: open.Attempt, Shard: s.shard, Lo: s.lo, N: s.n, DType: as,
		Sum: wire.Checksum(b), Want: 1 << 10, Payload: b,
	}}
}

// await asks what has become of an attempt until that is known.
func (c *client) await(p *publication, m manner, open *wire.OpenReply, until ms) (out outcome) {
	w := c.w
	silent := 0
	for w.now < until {
		switch r := c.owner(&wire.Wait{Run: runName, Epoch: open.Epoch, Step: p.step, Attempt: open.Attempt}).(type) {
		case *wire.WaitReply:
			silent = 0
			if r.State != wire.StateCommitted {
				continue
			}
			w.check.heard(c, p, open.Attempt, r)
			out.committed = r
			if r.Query != 0 && m.pre != nil {
				c.fetchPreconditioned(p, m, open.Epoch, r)
			}
			return out
		case *wire.Error:
			out.err = r.Code
			return out
		default:
			if silent++; silent > 3 {
				out.err = wire.CodeStaleEpoch
				return out
			}
		}
	}
	out.err = wire.CodeTimeout
	return out
}
