package worker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mfac/internal/script"
	"mfac/wire"
)

// TestScripts plays testdata. A script drives a core and a real Engine: a run "digits" whose
// shards have eight columns each and six slots, unless the script says otherwise. Jobs are carried
// out as soon as they are issued, but after "hold": then "release" carries out the next ones.
//
// Epochs are written as revisions of incarnation 1, or in full; slots of rows as
// slot:step:attempt. Answers to the coordinator show the Seq that they echo where the script
// gives one.
func TestScripts(t *testing.T) {
	script.Run(t, "testdata/*.txt", func(t *testing.T) func(*script.Cmd) string {
		p := &player{t: t}
		p.worker(&script.Cmd{})
		return p.do
	})
}

const digits = "digits"

type player struct {
	t       *testing.T
	core    *Core
	engine  *Engine
	epoch   wire.Epoch // of the last adopt
	seq     uint64
	shown   map[uint64]bool // seqs that the script gave
	last    Token
	callers map[Token]string
	jobs    []Job
	hold    bool
	hello   bool // is shown
	stop    bool // the worker does not read the incarnation
	out     strings.Builder
}

func (p *player) do(c *script.Cmd) string {
	p.out.Reset()
	if do, ok := directives[c.Name]; ok {
		do(p, c)
	} else if m := p.message(c); m != nil {
		p.request(c, m)
	} else {
		c.Fail("%s is no directive", c.Name)
	}
	p.check()
	return p.out.String()
}

// directives that are not messages.
var directives = map[string]func(*player, *script.Cmd){
	"worker": (*player).worker,
	"tick": func(p *player, c *script.Cmd) {
		n, err := strconv.Atoi(c.Word())
		if err != nil {
			c.Fail("%w", err)
		}
		for i := range n {
			before := p.out.Len()
			p.step(Tick{})
			if text := p.out.String(); len(text) > before && n > 1 {
				p.out.Reset()
				fmt.Fprintf(&p.out, "%stick %d: %s", text[:before], i+1, text[before:])
			}
		}
	},
	"many-closed": func(p *player, c *script.Cmd) { // from query 1000 on, and says nothing of them
		for i := range parseUint(c, c.Word()) {
			p.request(c, &wire.CloseQuery{Shard: wire.Shard{Run: digits, Epoch: p.epoch}, Query: wire.QueryID(1000 + i)})
		}
		p.out.Reset()
	},
	"hello": func(p *player, _ *script.Cmd) {
		for p.hello = true; p.hello; {
			p.step(Tick{})
		}
	},
	"incarnation": func(p *player, c *script.Cmd) { p.step(Incarnation{parseUint(c, c.Word())}) },
	"unread":      func(p *player, _ *script.Cmd) { p.stop = true },
	"hold":        func(p *player, _ *script.Cmd) { p.hold = true },
	"release-jobs": func(p *player, c *script.Cmd) {
		n := len(p.jobs)
		if w := c.Word(); w != "" {
			n = int(parseUint(c, w))
		} else {
			p.hold = false
		}
		for ; n > 0 && len(p.jobs) > 0; n-- {
			p.job()
		}
	},
	"fail-job": func(p *player, c *script.Cmd) {
		if len(p.jobs) == 0 {
			c.Fail("no jobs")
			return
		}
		j := p.jobs[0]
		p.jobs = p.jobs[1:]
		p.printf("job failed: %s\n", describeJob(j))
		p.step(Done{Job: j.ID, Err: wire.Errorf(wire.Code(c.Word()), "", "", "", "as the script says")})
	},
	"many": func(p *player, c *script.Cmd) { // shards of a run each, and says nothing of them
		for i := range parseUint(c, c.Word()) {
			p.request(c, &wire.Adopt{Shard: wire.Shard{Run: fmt.Sprintf("r%02d", i), Epoch: p.epoch}, Instance: 1, UID: 7, Placed: 5, Cols: 1, Slots: 2, Store: wire.F32})
		}
		p.out.Reset()
	},
	"state": func(p *player, _ *script.Cmd) { p.state() },
	"row": func(p *player, c *script.Cmd) {
		raw := p.engine.Row(ShardKey{digits, int(c.Int("shard", 0))}, int(c.Int("slot", 0)))
		p.printf("%s\n", floats(wire.F32, raw))
	},
}

// worker starts a worker that holds nothing and knows the incarnation.
func (p *player) worker(c *script.Cmd) {
	cfg := Config{
		ID: c.Str("id", "w1"), Instance: 1, Capacity: c.Int("memory", 1<<20), Budget: c.Int("budget", 1<<20), TickMS: c.Int("tick", 50), GatherCols: c.Int("gather", 0),
	}
	p.core, p.engine = NewCore(cfg), &Engine{Threads: 1}
	p.callers, p.shown, p.jobs, p.hold, p.stop, p.hello = map[Token]string{}, map[uint64]bool{}, nil, false, c.Has("unread"), false
	p.epoch = wire.Epoch{Incarnation: 1, Revision: 5}
	p.step(Tick{})
	p.out.Reset()
}

func (p *player) printf(format string, args ...any) { fmt.Fprintf(&p.out, format, args...) }

// request gives the core a message as it comes over the wire.
func (p *player) request(c *script.Cmd, m wire.Message) {
	f, err := wire.Encode(m)
	if err == nil {
		m, err = wire.Decode(f, m.Type())
	}
	if err != nil {
		c.Fail("the message would not be let in: %w", err)
		return
	}
	from := "client"
	if _, ok := m.(wire.Control); ok {
		from = "coordinator"
	}
	p.last++
	p.callers[p.last] = c.Str("from", from)
	p.step(Request{From: p.last, Caller: p.callers[p.last], Msg: m})
}

// step steps the core, shows the effects and carries out jobs.
func (p *player) step(in Input) {
	e := p.core.Step(in)
	for _, a := range e.Cancel {
		a.Cancel()
		for _, j := range p.jobs {
			if j.Abort == a {
				p.printf("cancel: %s\n", describeJob(j))
			}
		}
	}
	for _, j := range e.Jobs {
		if p.hold {
			p.printf("job waits: %s\n", describeJob(j))
		}
		p.jobs = append(p.jobs, j)
	}
	for _, s := range e.Sends {
		name, ok := p.callers[s.To]
		if !ok {
			p.t.Errorf("request %d is answered twice, or there was none: %s", s.To, p.describe(s.Msg))
		}
		delete(p.callers, s.To)
		f, err := wire.Encode(s.Msg)
		if err == nil {
			_, err = wire.Decode(f, "")
		}
		if err != nil {
			p.t.Errorf("%s can't be sent: %v", p.describe(s.Msg), err)
		}
		p.printf("send %s: %s\n", name, p.describe(s.Msg))
	}
	if e.Hello != nil && p.hello {
		h := e.Hello
		p.hello = false
		held := make([]string, len(h.Held))
		for i, h := range h.Held {
			held[i] = fmt.Sprintf("%s/%d(uid %d, placed %d)", h.Run, h.Shard, h.UID, h.Placed)
		}
		if n := len(held); n > 4 {
			held = []string{held[0], held[1], fmt.Sprintf("… %d …", n-4), held[n-2], held[n-1]}
		}
		p.printf("hello %s: used=%d/%d shards=%d held=%s\n", h.Worker, h.Used, h.Capacity, h.Shards, held)
	}
	if e.AskIncarnation {
		p.printf("ask incarnation\n")
		if !p.stop {
			p.step(Incarnation{1})
		}
	}
	for !p.hold && len(p.jobs) > 0 {
		p.job()
	}
}

// job carries out the first job.
func (p *player) job() {
	j := p.jobs[0]
	p.jobs = p.jobs[1:]
	p.printf("job: %s\n", describeJob(j))
	p.step(p.engine.Do(j))
}

// check checks what holds always: the memory that the core counts is that of its shards and
// queries, and the bytes in flight come to none when nothing is under way.
func (p *player) check() {
	in := p.core.Inspect()
	var used int64
	for _, s := range in.Shards {
		used += s.Bytes
		for _, q := range s.Queries {
			used += q.Bytes
		}
	}
	if in.Used != used {
		p.t.Errorf("%d bytes used, %d of shards and queries", in.Used, used)
	}
	for name, r := range p.core.runs {
		if len(r.shards) == 0 {
			p.t.Errorf("run %s is kept without a shard", name)
		}
	}
	if in.Jobs == 0 && len(p.core.parked) == 0 && in.InFlight != 0 {
		p.t.Errorf("%d bytes in flight and no job", in.InFlight)
	}
	if in.Jobs != len(p.jobs) {
		p.t.Errorf("%d jobs awaited, %d issued", in.Jobs, len(p.jobs))
	}
}

func (p *player) state() {
	in := p.core.Inspect()
	p.printf("used=%d inflight=%d\n", in.Used, in.InFlight)
	for _, s := range in.Shards {
		p.printf("%s/%d: epoch=%v installed=%v version=%d rows=%s staged=%s queries=%s\n", s.Key.Run, s.Key.Index, s.Adopted, s.Installed, s.Version,
			list(s.Live, describeRow), list(s.Staged, describeStaged),
			list(s.Queries, func(q InspectedQuery) string { return fmt.Sprintf("%d%v", q.ID, slotsOf(q.Mask)) }))
	}
}

// message makes the message that a directive names, nil where it names none.
func (p *player) message(c *script.Cmd) wire.Message {
	index := int(c.Int("shard", 0))
	lo, hi := c.Range("cols", int64(8*index), int64(8*index+8))
	slots := int(c.Int("slots", 6))
	step, attempt, query := wire.Step(c.Int("step", 0)), wire.Attempt(c.Int("attempt", 0)), wire.QueryID(c.Int("query", 0))
	slot, version, vectors := wire.Slot(c.Int("slot", 0)), wire.Version(c.Int("version", 0)), int(c.Int("vectors", 1))
	want := c.Int("want", 0)
	epoch := p.epoch
	if s := c.Str("epoch", ""); s != "" {
		epoch = parseEpoch(c, s)
	}
	run := c.Str("run", digits)
	head := wire.Shard{Seq: uint64(c.Int("seq", 0)), Run: run, Epoch: epoch, Shard: index}
	if p.shown[head.Seq] = true; head.Seq == 0 {
		p.seq++
		head.Seq = 1000 + p.seq
	}
	dtype, result := wire.DType(c.Str("dtype", "f32")), wire.DType(c.Str("result", "f64"))
	payload := func() []byte {
		x := c.Floats("vals")
		if len(x) == 1 {
			x = slices.Repeat(x, int(hi-lo))
		}
		return encode(dtype, x)
	}
	sum := func(p []byte) uint32 {
		if c.Has("damaged") {
			return wire.Checksum(p) + 1
		}
		return wire.Checksum(p)
	}
	switch c.Name {
	case "adopt":
		if epoch.Incarnation == p.core.incarnation && (epoch.Incarnation != p.epoch.Incarnation || epoch.Revision > p.epoch.Revision) {
			p.epoch = epoch
		}
		return &wire.Adopt{Shard: head, Instance: uint64(c.Int("instance", 1)), UID: uint64(c.Int("uid", 7)), Placed: uint64(c.Int("placed", 5)), Lo: lo, Cols: hi - lo, Slots: slots, Store: wire.DType(c.Str("store", "f32"))}
	case "install":
		m := &wire.Install{Shard: head, Version: version, Payload: wire.AppendRows(nil, parseRows(c, "rows"))}
		for _, r := range parseRows(c, "keep") {
			m.Keep = append(m.Keep, wire.Staged{Slot: r.Slot, Step: r.Step, Attempt: r.Attempt, Weight: r.Weight})
		}
		return m
	case "gram":
		of := parseSlots(c, "of")
		i0, i1 := c.Range("block", 0, int64(len(of)))
		return &wire.Gram{Shard: head, I0: int(i0), I1: int(i1), Payload: wire.AppendSlots(nil, of)}
	case "stage":
		return &wire.Stage{Shard: head, Step: step, Attempt: attempt, Slot: slot, Token: uint64(c.Int("token", 0)), Label: c.Str("label", ""), Weight: c.Float("weight", 0)}
	case "reshape":
		return &wire.Reshape{Shard: head, Version: version, Slots: int(c.Int("to", 0)), Payload: wire.AppendRows(nil, parseRows(c, "rows"))}
	case "slot-labels":
		return &wire.SlotLabels{Shard: head, Payload: wire.AppendSlots(nil, parseSlots(c, "of"))}
	case "multiply":
		return &wire.Multiply{Shard: head, Step: step, Attempt: attempt, Payload: wire.AppendSlots(nil, parseSlots(c, "with"))}
	case "commit":
		m := &wire.Commit{Shard: head, Version: version, Step: step, Attempt: attempt, Slot: slot, Query: query}
		if s := c.Str("evict", ""); s != "" {
			if n, err := fmt.Sscanf(s, "%d:%d", &m.EvictSlot, &m.EvictStep); n != 2 {
				c.Fail("evict: %w", err)
			}
			m.Evict = true
		}
		if query != 0 {
			m.Result, m.Payload = result, wire.AppendFloats(nil, c.Floats("coef"))
		}
		return m
	case "evict":
		return &wire.Evict{Shard: head, Version: version, Payload: wire.AppendRows(nil, parseRows(c, "rows"))}
	case "drop":
		return &wire.Drop{Shard: head, Step: step, Attempt: attempt}
	case "prepare":
		return &wire.Prepare{Shard: head, Query: query, Vectors: vectors, DType: dtype, Mask: parseMask(c, slots), Kind: c.Str("kind", ""), Seed: uint64(c.Int("of-seed", 0)), First: c.Int("first", 0)}
	case "coef":
		m := &wire.Coef{Shard: head, Query: query, Kind: c.Str("kind", wire.KindVector), Vectors: vectors, Result: result, Mask: parseMask(c, slots)}
		if m.Damping = c.Float("damping", 0); m.Damping == 0 && wire.Prepared(m.Kind) {
			m.Damping = 1
		}
		m.Payload = wire.AppendFloats(nil, c.Floats("coef"))
		if m.Kind == wire.KindColumn {
			m.Payload = wire.AppendIndices(m.Payload, parseIndices(c, "at"))
		}
		return m
	case "factor":
		of, l := parseSlots(c, "of"), c.Floats("l")
		return &wire.Factor{Shard: head, Query: query, Rows: len(of), Lo: c.Int("lo", 0), N: int64(len(l)), Damping: c.Float("damping", 1), Result: result,
			Payload: wire.AppendFloats(wire.AppendSlots(nil, of), l)}
	case "columns":
		return &wire.Columns{Shard: head, Query: query, Mask: parseMask(c, slots), Of: wire.QueryID(c.Int("of", 0)), Payload: wire.AppendIndices(nil, parseIndices(c, "at"))}
	case "keep":
		return &wire.Hold{Shard: head, Query: query, Damping: c.Float("damping", 1), Payload: wire.AppendSlots(nil, parseSlots(c, "of"))}
	case "whiten":
		return &wire.Whiten{Shard: head, Query: query, Lo: lo, N: hi - lo}
	case "recall":
		return &wire.Recall{Shard: head, Query: query, Of: wire.QueryID(c.Int("of", 0)), Damping: c.Float("damping", 1), Result: result}
	case "prune":
		m := &wire.Prune{
			Shard: head, Query: query, Do: c.Word(), Kind: c.Str("kind", ""), Rule: c.Str("rule", ""), Known: int(c.Int("known", 0)), Ties: c.Int("ties", 0),
			Key: parseUint(c, c.Str("key", "0")),
		}
		switch m.Do {
		case wire.PruneGram:
			of := parseSlots(c, "of")
			m.I1, m.Payload = len(of), wire.AppendSlots(nil, of)
		case wire.PruneScore:
			m.I0, m.I1 = int(c.Int("i0", 0)), int(c.Int("i1", 0))
		case wire.PruneGroup:
			m.Keep, m.Of, m.Payload = 2, 4, wire.AppendStrips(nil, parseStrips(c))
		case wire.PruneChoose:
			if c.Has("groups") {
				m.Keep, m.Of, m.Payload = 2, 4, wire.AppendIndices(nil, parseIndices(c, "at"))
			}
		case wire.PruneDots:
			m.Mask = parseMask(c, slots)
		case wire.PruneResult:
			m.Mask, m.Result, m.Payload = parseMask(c, slots), result, wire.AppendFloats(nil, c.Floats("coef"))
		}
		return m
	case "blocks":
		m := &wire.Blocks{Shard: head, Query: query, Do: c.Word(), What: c.Str("what", ""), Result: result}
		switch m.Do {
		case wire.BlocksBegin:
			of, starts := parseSlots(c, "of"), parseIndices(c, "starts")
			m.Vectors, m.Damping, m.N, m.Size, m.Rows = vectors, c.Float("damping", 1), int(c.Int("n", 2)), c.Int("size", 3), len(of)
			weights := c.Floats("weights")
			m.Weights = weights != nil
			m.Payload = wire.BeginPayload(of, weights, wire.Partition{Starts: starts, End: c.Int("end", 16), Size: m.Size})
		case wire.BlocksWork:
			m.Payload = wire.AppendFloats(nil, c.Floats("coef"))
		case wire.BlocksGram, wire.BlocksDots, wire.BlocksFinish:
			m.Lo, m.Hi = c.Range("cols", lo, hi)
			m.I1, m.Payload = int(c.Int("rows", 2)), wire.AppendFloats(nil, c.Floats("coef"))
		case wire.BlocksElements, wire.BlocksInner:
			m.Lo, m.Hi = c.Range("cols", lo, hi)
			m.Payload = wire.AppendIndices(nil, parseIndices(c, "at"))
		case wire.BlocksFactor:
			m.Lo, m.Payload = c.Int("lo", 0), wire.AppendFloats(nil, c.Floats("l"))
		}
		return m
	case "apply":
		return &wire.Apply{Shard: head, Query: query, Damping: c.Float("damping", 1)}
	case "residual":
		return &wire.Residual{Shard: head, Query: query, Vectors: vectors, Damping: c.Float("damping", 1), Payload: wire.AppendFloats(nil, c.Floats("w"))}
	case "refine":
		return &wire.Refine{Shard: head, Query: query, Vectors: vectors, Round: int(c.Int("round", 1)), Which: uint64(c.Int("which", 1)), Payload: wire.AppendFloats(nil, c.Floats("e"))}
	case "norms":
		return &wire.Norms{Shard: head, Query: query}
	case "pairs":
		var pairs []wire.Pair
		for _, s := range c.List("of") {
			var r wire.Pair
			if _, err := fmt.Sscanf(s, "%d:%d", &r.U, &r.V); err != nil {
				c.Fail("pairs: %w", err)
			}
			pairs = append(pairs, r)
		}
		return &wire.DotVectors{Shard: head, Query: query, Payload: wire.AppendPairs(nil, pairs)}
	case "close":
		return &wire.CloseQuery{Shard: head, Query: query}
	case "release":
		return &wire.Release{Shard: head, UID: uint64(c.Int("uid", 7)), Placed: uint64(c.Int("placed", 5))}
	case "chunk":
		b := payload()
		return &wire.Chunk{Run: run, Epoch: epoch, Step: step, Attempt: attempt, Shard: index, Lo: lo, N: hi - lo, DType: dtype, Sum: sum(b), Want: want, Payload: b}
	case "vec":
		b := payload()
		return &wire.Vec{Run: run, Epoch: epoch, Query: query, Index: int(c.Int("index", 0)), Shard: index, Lo: lo, N: hi - lo, DType: dtype, Sum: sum(b), Want: want, Payload: b}
	case "fetch":
		return &wire.Fetch{Run: run, Epoch: epoch, Query: query, Index: int(c.Int("index", 0)), Shard: index, Lo: lo, N: hi - lo, DType: result, Want: want}
	case "answer": // no request at all
		return &wire.Adopted{Shard: head}
	case "ask-info": // no request to a worker
		return &wire.InfoRequest{Run: run}
	}
	return nil
}

// parseStrips reads strips=lo:len,….
func parseStrips(c *script.Cmd) (strips []wire.Strip) {
	for _, s := range c.List("strips") {
		var x wire.Strip
		if _, err := fmt.Sscanf(s, "%d:%d", &x.Lo, &x.Len); err != nil {
			c.Fail("strips: %w", err)
		}
		strips = append(strips, x)
	}
	return strips
}
