package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mfac/internal/script"
	"mfac/internal/selection"
	"mfac/wire"
)

// TestScripts plays testdata. A script drives a core: it is every client and every worker, whose
// numbers it gives, so that the window's algebra is the real one. The run is "digits", of 16
// columns in two shards, on workers w1 and w2, with a window of 2 and 2 spare slots, unless the
// script says otherwise.
//
// Attempts and queries are written as the number of the owner that made them, which is that of its
// epoch here, and their own number there, 5.1; rows as slot:step:attempt. A directive that answers
// calls answers all of the named kind that fit and have not been answered, with "first" the earliest
// alone; with "again", those that have been answered.
func TestScripts(t *testing.T) {
	script.Run(t, "testdata/*.txt", func(t *testing.T) func(*script.Cmd) string {
		p := &player{t: t}
		return p.do
	})
}

type player struct {
	t        *testing.T
	core     *Core
	cfg      Config
	alive    map[string]wire.Hello
	calls    []*made
	attempts map[wire.Step]wire.Attempt // that were told last
	query    wire.QueryID               // the last one that was told
	last     Token
	callers  map[Token]string
	jobs     []Job // that have not been run
	out      strings.Builder
}

// made is a call that the core made.
type made struct {
	worker   string
	msg      wire.Control
	answered bool
}

func (p *player) do(c *script.Cmd) string {
	p.out.Reset()
	switch do, ok := directives[c.Name]; {
	case c.Name == "run", c.Name == "serving":
		do(p, c)
	case p.core == nil:
		c.Fail("there is no run yet")
	case ok:
		do(p, c)
	default:
		if m := p.message(c); m != nil {
			p.request(c, m)
		} else {
			c.Fail("%s is no directive", c.Name)
		}
	}
	return collapse(p.out.String())
}

// collapse shows lines that come again and again once.
func collapse(text string) string {
	lines := strings.SplitAfter(text, "\n")
	var out strings.Builder
	for i := 0; i < len(lines); {
		n := 1
		for i+n < len(lines) && lines[i+n] == lines[i] {
			n++
		}
		if out.WriteString(lines[i]); n > 2 {
			fmt.Fprintf(&out, "… %d times\n", n)
		} else if n == 2 {
			out.WriteString(lines[i])
		}
		i += n
	}
	return out.String()
}

// directives that are not clients' messages.
var directives map[string]func(*player, *script.Cmd)

func init() {
	directives = map[string]func(*player, *script.Cmd){
		"run":     (*player).run,
		"serving": (*player).serving,
		"tick":    (*player).tick,
		"hello":   (*player).hello,
		"saved":   func(p *player, _ *script.Cmd) { p.step(Saved{}) },
		"job": func(p *player, c *script.Cmd) { // runs the earliest job, or breaks it
			if len(p.jobs) == 0 {
				c.Fail("no job waits")
				return
			}
			j := p.jobs[0]
			p.jobs = p.jobs[1:]
			if c.Has("broken") {
				p.step(Done{j.ID, errors.New("as the script says")})
			} else {
				p.step(Done{j.ID, j.Run(func() bool { return false })})
			}
		},
		"underway": func(p *player, c *script.Cmd) { // how far the earliest job is
			p.step(Underway{p.jobs[0].ID, int64(parseID(c, c.Word())), int64(parseID(c, c.Word()))})
		},
		"stop":    func(p *player, c *script.Cmd) { p.perform(p.core.Stop(c.Word())) },
		"deleted": func(p *player, _ *script.Cmd) { p.perform(p.core.Deleted()) },
		"state":   func(p *player, _ *script.Cmd) { p.state() },
		"many-rows": func(p *player, c *script.Cmd) { // adopts a window of so many
			var rows []wire.Row
			for i := range parseID(c, c.Word()) {
				rows = append(rows, wire.Row{Slot: wire.Slot(i), Step: wire.Step(i + 1), Attempt: wire.Attempt(i + 1)})
			}
			p.answer(c, wire.OpAdopt, func(m wire.Control) wire.Message {
				return &wire.Adopted{Shard: *m.Head(), Version: 1, Payload: wire.AppendRows(nil, rows)}
			})
		},
		"numbers-block": func(p *player, c *script.Cmd) { // a block of the identity
			p.answer(c, wire.OpGram, func(m wire.Control) wire.Message {
				g := m.(*wire.Gram)
				var x []float64
				for i := g.I0; i < g.I1; i++ {
					x = append(append(x, make([]float64, i)...), 1)
				}
				return &wire.Numbers{Shard: *m.Head(), Count: len(x), Payload: wire.AppendFloats(nil, x)}
			})
		},
		"many-waits": func(p *player, c *script.Cmd) { // for step 1; who is told is counted
			for range parseID(c, c.Word()) {
				p.request(c, &wire.Wait{Run: "digits", Epoch: p.cfg.Epoch, Step: 1, Attempt: p.attempts[1]})
			}
		},
		"query-bytes": func(p *player, c *script.Cmd) { // that the core allows
			p.core.queryBytes = int64(parseID(c, c.Word()))
		},
		"inline-rows": func(p *player, c *script.Cmd) { // up to which the core makes factors between two inputs
			p.core.cfg.InlineRows = int(parseID(c, c.Word()))
		},
		"pinned": func(p *player, _ *script.Cmd) { p.printf("%d windows kept\n", p.core.Inspect().Pinned) },
		"many-rows-asked": func(p *player, c *script.Cmd) { // "quiet" shows what does not open one
			for i := range parseID(c, c.Word()) {
				p.request(c, &wire.Query{Run: "digits", Token: i, Kind: wire.KindRow, Vectors: 1, Result: wire.F32, Payload: wire.AppendUint64s(nil, []uint64{1})})
			}
			if c.Has("quiet") {
				lines := slices.DeleteFunc(strings.SplitAfter(p.out.String(), "\n"), func(l string) bool {
					return strings.HasPrefix(l, "call") || strings.HasPrefix(l, "send client: query=")
				})
				p.out.Reset()
				p.out.WriteString(strings.Join(lines, ""))
			}
		},
		"late-ok": func(p *player, c *script.Cmd) { p.step(Reply{&wire.OK{Seq: parseID(c, c.Word())}}) },
		"ok": func(p *player, c *script.Cmd) {
			p.answer(c, c.Word(), func(m wire.Control) wire.Message { return &wire.OK{Seq: m.Head().Seq} })
		},
		"error": func(p *player, c *script.Cmd) {
			code, epoch := wire.Code(c.Word()), wire.Epoch{}
			if s := c.Str("has", ""); s != "" {
				epoch = parseEpoch(c, s)
			}
			p.answer(c, c.Word(), func(m wire.Control) wire.Message {
				return &wire.Error{Code: code, Hint: "as the script says", Seq: m.Head().Seq, Epoch: epoch}
			})
		},
		"adopted": func(p *player, c *script.Cmd) {
			version, rows := wire.Version(c.Int("version", 0)), wire.AppendRows(nil, parseRows(c, "rows"))
			var staged []wire.Staged
			for _, s := range c.List("staged") {
				text, whole := strings.CutSuffix(s, "w")
				text, token, _ := strings.Cut(text, "/")
				r := parseRow(c, text)
				st := wire.Staged{Slot: r.Slot, Step: r.Step, Attempt: r.Attempt, Whole: whole, Weight: r.Weight}
				if token != "" {
					st.Token = parseID(c, token)
				}
				staged = append(staged, st)
			}
			p.answer(c, wire.OpAdopt, func(m wire.Control) wire.Message {
				return &wire.Adopted{Shard: *m.Head(), Version: version, Staged: staged, Labels: int(c.Int("labels", 0)), Payload: rows}
			})
		},
		"slot-labels": func(p *player, c *script.Cmd) { // step:label, those that are given alone
			var list []wire.Labelled
			for _, s := range c.List("of") {
				step, label, _ := strings.Cut(s, ":")
				list = append(list, wire.Labelled{Step: wire.Step(parseID(c, step)), Label: label})
			}
			p.answer(c, wire.OpSlotLabels, func(m wire.Control) wire.Message {
				return &wire.SlotLabelsReply{Shard: *m.Head(), N: len(list), Payload: wire.AppendLabels(nil, list)}
			})
		},
		"products": func(p *player, c *script.Cmd) {
			to := wire.OpStage
			if c.Has("multiply") {
				to = wire.OpProducts
			}
			var list []wire.Product
			for _, s := range c.List("vals") {
				slot, value, _ := strings.Cut(s, ":")
				slot, attempt, given := strings.Cut(slot, "@")
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					c.Fail("%w", err)
				}
				pr := wire.Product{Slot: wire.Slot(parseID(c, slot)), Value: v}
				if pr.Attempt = p.attemptIn(pr.Slot); given {
					pr.Attempt = wire.Attempt(parseID(c, attempt))
				}
				list = append(list, pr)
			}
			p.answer(c, to, func(m wire.Control) wire.Message {
				reply := &wire.Products{Shard: *m.Head(), Payload: wire.AppendProducts(nil, list)}
				switch m := m.(type) {
				case *wire.Stage:
					reply.Step, reply.Attempt = m.Step, m.Attempt
				case *wire.Multiply:
					reply.Step, reply.Attempt = m.Step, m.Attempt
				}
				return reply
			})
		},
		"counts": func(p *player, c *script.Cmd) { // of a prune's bins
			x := make([]float64, selection.Bins)
			for _, s := range c.List("bins") {
				var bin, n int
				if _, err := fmt.Sscanf(s, "%d:%d", &bin, &n); err != nil {
					c.Fail("bins: %w", err)
					return
				}
				x[bin] = float64(n)
			}
			p.answer(c, "prune", func(m wire.Control) wire.Message {
				return &wire.Numbers{Shard: *m.Head(), Count: len(x), Payload: wire.AppendFloats(nil, x)}
			})
		},
		"numbers": func(p *player, c *script.Cmd) {
			x := c.Floats("vals")
			p.answer(c, c.Word(), func(m wire.Control) wire.Message {
				return &wire.Numbers{Shard: *m.Head(), Count: len(x), Payload: wire.AppendFloats(nil, x)}
			})
		},
	}
}

// run makes a core, which does nothing yet.
func (p *player) run(c *script.Cmd) {
	shards := int(c.Int("shards", 2))
	spec := wire.RunSpec{
		Name: "digits", Dim: 8 * int64(shards), Window: int(c.Int("window", 2)), Spare: int(c.Int("spare", 2)), Shards: shards,
		Damping: c.Float("damping", 1), Divisor: wire.Divisor(c.Str("divisor", "capacity")), Store: wire.F32, Durability: wire.DurabilityMemory,
		HalfLife: c.Float("half_life", 0), Blocks: wire.Blocking(strings.ReplaceAll(c.Str("blocks", ""), "_", " ")),
	}
	epoch := wire.Epoch{Incarnation: 1, Revision: uint64(c.Int("epoch", 5))}
	rec := Record{Format: recordFormat, Spec: spec, UID: 7, Placed: make([]Place, shards), Floor: wire.Version(c.Int("floor", 0)), Takeovers: epoch.Revision - 1}
	for s := range shards {
		rec.Lo = append(rec.Lo, 8*int64(s))
		rec.Placed[s] = Place{fmt.Sprintf("w%d", s%2+1), 3}
	}
	if c.Has("new") {
		rec.Placed, rec.Takeovers = make([]Place, shards), 0
	}
	if s := c.Str("newest", ""); s != "" {
		step := wire.Step(parseID(c, s))
		rec.Newest = &step
	}
	if s := c.Str("change", ""); s != "" { // of the client with token 9: version/rows
		rec.Change = &Change{Caller: "client", Token: 9}
		if _, err := fmt.Sscanf(s, "%d/%d", &rec.Change.Version, &rec.Change.Rows); err != nil {
			c.Fail("change: %w", err)
		}
	}
	if s := c.Str("frozen", ""); s != "" { // by the client with that token
		rec.Freeze = &Freezing{Caller: "client", Token: parseID(c, s)}
	}
	for s, text := range c.List("placed") {
		w, rev, _ := strings.Cut(text, "@")
		rec.Placed[s] = Place{w, parseID(c, rev)}
	}
	var starts []int64
	for _, s := range c.List("tensors") { // their first columns
		starts = append(starts, int64(parseID(c, s)))
	}
	if len(starts) > 0 {
		rec.Spec.Layout = strings.Repeat("0", 64)
	}
	p.query, p.jobs = 0, nil
	p.alive, p.calls, p.callers, p.attempts = map[string]wire.Hello{}, nil, map[Token]string{}, map[wire.Step]wire.Attempt{}
	p.cfg = Config{Coordinator: "c1", Record: rec, Epoch: epoch, TickMS: 50, SilentMS: 2000, StepMS: 10_000, QueryMS: 5000, Starts: starts}
	workers := "w1,w2"
	if c.Has("alone") {
		workers = ""
	}
	for _, w := range strings.Split(c.Str("workers", workers), ",") {
		if w != "" {
			p.alive[w] = wire.Hello{Worker: w, Instance: 1, Capacity: 1 << 20}
			p.cfg.Workers = append(p.cfg.Workers, p.alive[w])
		}
	}
	p.core = NewCore(p.cfg)
}

// serving makes a core and brings it to service, with the rows given and A made of gram (packed,
// the same from every shard).
func (p *player) serving(c *script.Cmd) {
	p.run(c)
	rows := c.Str("rows", "")
	version := "0"
	if rows != "" {
		version = strconv.Itoa(len(strings.Split(rows, ",")))
	}
	version = c.Str("version", version)
	lines := []string{"adopted version=" + version + " rows=" + rows, "saved", "ok install"}
	if rows != "" {
		lines = append(lines, "numbers gram vals="+c.Str("gram", ""))
	}
	p.step(Tick{})
	for _, line := range lines {
		sub, err := script.Parse(line)
		if err == nil {
			directives[sub.Name](p, sub)
			err = sub.Err()
		}
		if err != nil {
			c.Fail("%s: %w", line, err)
		}
	}
	p.out.Reset()
	if !p.core.Ready() {
		c.Fail("the run is not served: %s", p.core.why)
	}
}

// tick lets time pass, with heartbeats of the workers that are not silent.
func (p *player) tick(c *script.Cmd) {
	n := 1
	if w := c.Word(); w != "" {
		n = int(parseID(c, w))
	}
	silent, quiet := c.List("silent"), c.Has("quiet") // what is sent again is not shown then
	for i := range n {
		before := p.out.Len()
		for _, w := range sortedKeys(p.alive) {
			if !slices.Contains(silent, w) {
				p.step(Hello{p.alive[w]})
			}
		}
		p.step(Tick{})
		text := p.out.String()
		old, did := text[:before], text[before:]
		if quiet {
			did = strings.Join(slices.DeleteFunc(strings.SplitAfter(did, "\n"), func(l string) bool { return strings.HasPrefix(l, "again") }), "")
		}
		if did != "" && n > 1 {
			did = fmt.Sprintf("tick %d: %s", i+1, did)
		}
		p.out.Reset()
		p.out.WriteString(old + did)
	}
}

// hello is a worker's heartbeat, with what it holds.
func (p *player) hello(c *script.Cmd) {
	h := wire.Hello{Worker: c.Word(), Instance: uint64(c.Int("instance", 1)), Capacity: c.Int("capacity", 1<<20), Used: c.Int("used", 0)}
	for _, s := range c.List("held") {
		held := wire.Held{Run: "digits", UID: 7}
		if _, err := fmt.Sscanf(s, "%d@%d", &held.Shard, &held.Placed); err != nil {
			c.Fail("held: %w", err)
		}
		held.UID = uint64(c.Int("uid", 7))
		h.Held = append(h.Held, held)
	}
	h.Shards = len(h.Held)
	p.alive[h.Worker] = h
	p.step(Hello{h})
}

func (p *player) printf(format string, args ...any) { fmt.Fprintf(&p.out, format, args...) }

func (p *player) request(c *script.Cmd, m wire.Message) {
	f, err := wire.Encode(m)
	if err == nil {
		m, err = wire.Decode(f, m.Type())
	}
	if err != nil {
		c.Fail("the message would not be let in: %w", err)
		return
	}
	p.last++
	p.callers[p.last] = c.Str("from", "client")
	p.step(Request{From: p.last, Caller: p.callers[p.last], Msg: m})
}

// answer gives the core a reply to each call of a kind.
func (p *player) answer(c *script.Cmd, kind string, reply func(wire.Control) wire.Message) {
	index := c.Int("shard", -1)
	step, query := wire.Step(c.Int("step", 0)), wire.QueryID(0)
	if s := c.Str("query", ""); s != "" {
		query = wire.QueryID(parseID(c, s))
	}
	again, first, other := c.Has("again"), c.Has("first"), c.Str("epoch", "")
	found := false
	for _, call := range slices.Clone(p.calls) {
		m := call.msg
		if m.Type() != kind || index >= 0 && m.Head().Shard != int(index) || call.answered != again ||
			step != 0 && stepOf(m) != step || query != 0 && queryOf(m) != query || first && found {
			continue
		}
		found, call.answered = true, true
		r := reply(m)
		if ctl, ok := r.(wire.Control); ok && other != "" {
			ctl.Head().Epoch = parseEpoch(c, other)
		}
		f, err := wire.Encode(r)
		if err == nil {
			r, err = wire.Decode(f, "")
		}
		if err != nil {
			c.Fail("the reply would not be let in: %w", err)
			return
		}
		p.step(Reply{r})
	}
	if !found {
		c.Fail("no such call of kind %q waits for an answer", kind)
	}
}

func stepOf(m wire.Message) wire.Step {
	switch m := m.(type) {
	case *wire.Stage:
		return m.Step
	case *wire.Multiply:
		return m.Step
	case *wire.Commit:
		return m.Step
	case *wire.Drop:
		return m.Step
	}
	return 0
}

func queryOf(m wire.Message) wire.QueryID {
	switch m := m.(type) {
	case *wire.Prepare:
		return m.Query
	case *wire.Coef:
		return m.Query
	case *wire.Norms:
		return m.Query
	case *wire.Apply:
		return m.Query
	case *wire.Residual:
		return m.Query
	case *wire.Refine:
		return m.Query
	case *wire.Factor:
		return m.Query
	case *wire.Columns:
		return m.Query
	case *wire.Hold:
		return m.Query
	case *wire.Whiten:
		return m.Query
	case *wire.Recall:
		return m.Query
	case *wire.Prune:
		return m.Query
	case *wire.Blocks:
		return m.Query
	case *wire.DotVectors:
		return m.Query
	case *wire.CloseQuery:
		return m.Query
	}
	return 0
}

// attemptIn is the attempt whose row a slot holds, as the core sees it.
func (p *player) attemptIn(slot wire.Slot) wire.Attempt {
	in := p.core.Inspect()
	for _, r := range in.Rows {
		if r.Slot == slot {
			return r.Attempt
		}
	}
	for _, o := range in.Open {
		if o.Slot == slot {
			return o.Attempt
		}
	}
	return 0
}

func (p *player) step(in Input) { p.perform(p.core.Step(in)) }

// perform shows effects.
func (p *player) perform(e Effects) {
	if e.Save != nil {
		raw, err := e.Save.Encode()
		if err == nil {
			_, err = DecodeRecord(raw)
		}
		if err != nil {
			p.t.Errorf("the record can't be read back: %v", err)
		}
		p.printf("save placed=%s floor=%d takeovers=%d", list(e.Save.Placed, func(p Place) string { return fmt.Sprintf("%s@%d", p.Worker, p.Revision) }), e.Save.Floor, e.Save.Takeovers)
		if n := e.Save.Newest; n != nil {
			p.printf(" newest=%d", *n)
		}
		if ch := e.Save.Change; ch != nil {
			if m := e.Save.Spec.Window; m != p.cfg.Record.Spec.Window {
				p.printf(" window=%d", m)
			}
			p.printf(" damping=%g divisor=%s change=%s/%d:%d/%d", e.Save.Spec.Damping, e.Save.Spec.Divisor, ch.Caller, ch.Token, ch.Version, ch.Rows)
		}
		if f := e.Save.Freeze; f != nil {
			p.printf(" freeze=%s/%d", f.Caller, f.Token)
			if f.Thawed {
				p.printf("(thawed)")
			}
		}
		p.printf("\n")
	}
	for _, j := range e.Jobs {
		p.jobs = append(p.jobs, j)
		p.printf("job %s\n", id(wire.QueryID(j.ID)))
	}
	for _, j := range e.Stops {
		p.printf("stop job %s\n", id(wire.QueryID(j)))
	}
	for _, call := range e.Calls {
		p.encodes(call.Msg)
		again := slices.ContainsFunc(p.calls, func(m *made) bool { return m.msg.Head().Seq == call.Msg.Head().Seq })
		if again {
			p.printf("again %s: %s\n", call.Worker, describe(call.Msg))
			continue
		}
		p.calls = append(p.calls, &made{worker: call.Worker, msg: call.Msg})
		p.printf("call %s: %s\n", call.Worker, describe(call.Msg))
	}
	for _, s := range e.Sends {
		name, ok := p.callers[s.To]
		if !ok {
			p.t.Errorf("request %d is answered twice, or there was none: %s", s.To, describe(s.Msg))
		}
		delete(p.callers, s.To)
		p.encodes(s.Msg)
		switch m := s.Msg.(type) {
		case *wire.OpenReply:
			for _, o := range p.core.open {
				if o.attempt == m.Attempt {
					p.attempts[o.step] = m.Attempt
				}
			}
		case *wire.QueryReply:
			p.query = m.Query
		case *wire.WaitReply:
			p.query = max(p.query, m.Query)
		}
		p.printf("send %s: %s\n", name, describe(s.Msg))
	}
	for _, n := range e.Notes {
		p.printf("note: %s %v\n", n.Text, n.Steps)
	}
	if e.Delete {
		p.printf("delete\n")
	}
	if e.Restart != "" {
		p.printf("restart: %s\n", e.Restart)
	}
	if e.Lost != "" {
		p.printf("lost: %s\n", e.Lost)
	}
}

func (p *player) encodes(m wire.Message) {
	f, err := wire.Encode(m)
	if err == nil {
		_, err = wire.Decode(f, "")
	}
	if err != nil {
		p.t.Errorf("%s can't be sent: %v", describe(m), err)
	}
}

func (p *player) state() {
	in := p.core.Inspect()
	p.printf("%s version=%d newest=%d rows=%s", in.Phase, in.Version, in.Newest, list(in.Rows, describeRow))
	if in.Committing != 0 {
		p.printf(" committing=%d", in.Committing)
	}
	p.printf(" open=%s queries=%s calls=%d\n", list(in.Open, func(o InspectedStep) string {
		s := describeStaged(o.Staged)
		if o.Dropping {
			s += "(dropping)"
		}
		return s
	}), list(in.Queries, func(q InspectedQuery) string {
		s := fmt.Sprintf("%s%v", id(q.ID), slotList(q.Mask))
		if q.Closing {
			s += "(closing)"
		}
		return s
	}), in.Calls)
}

// message makes a client's message, nil where the directive names none.
func (p *player) message(c *script.Cmd) wire.Message {
	const run = "digits"
	step, token := wire.Step(c.Int("step", 0)), uint64(c.Int("token", 0))
	damping, divisor, result := c.Float("damping", 0), wire.Divisor(c.Str("divisor", "")), wire.DType(c.Str("result", "f64"))
	deadline := c.Int("deadline", 0)
	epoch, query := p.cfg.Epoch, p.query
	if s := c.Str("epoch", ""); s != "" {
		epoch = parseEpoch(c, s)
	}
	if s := c.Str("query", ""); s != "" {
		query = wire.QueryID(parseID(c, s))
	}
	switch c.Name {
	case "open":
		m := &wire.Open{Run: run, Step: step, Token: token, DeadlineMS: deadline, Label: c.Str("label", ""), Weight: c.Float("weight", 0)}
		if c.Has("precondition") {
			m.Precondition = &wire.Precondition{Damping: damping, Divisor: divisor, Result: result, Whole: c.Has("whole")}
		}
		return m
	case "wait":
		attempt := p.attempts[step]
		if s := c.Str("attempt", ""); s != "" {
			attempt = wire.Attempt(parseID(c, s))
		}
		return &wire.Wait{Run: run, Epoch: epoch, Step: step, Attempt: attempt}
	case "vector", "combine", "row", "fisher", "hessian", "sample", "diag", "column", "subblock", "prune", "compensate",
		"scores", "pairs", "influence", "self", "scalars", "spectrum",
		"invsqrt", "likelihood", "leaveout":
		m := &wire.Query{
			Run: run, Token: token, Kind: c.Name, Vectors: int(c.Int("vectors", 1)), Result: result, Damping: damping, Divisor: divisor,
			AtLeast: wire.Version(c.Int("at_least", 0)), Exactly: wire.Version(c.Int("exactly", 0)), MinRows: int(c.Int("min_rows", 0)), DeadlineMS: deadline,
			Verify: c.Has("verify"), Refine: c.Has("refine"), Seed: uint64(c.Int("seed", 0)), First: c.Int("first", 0), Whole: c.Has("whole"),
		}
		switch c.Name {
		case "vector", "fisher", "hessian", "scores", "invsqrt":
			m.DType = wire.F32
		case "likelihood", "leaveout":
			m.DType, m.Payload = wire.F32, wire.AppendFloats(nil, c.Floats("dampings"))
		case "prune":
			m.DType, m.Sparsity, m.Rule, m.Masked = wire.F32, c.Float("sparsity", 0.5), c.Str("rule", wire.RuleSummed), c.Has("masked")
			if s := c.Str("pattern", ""); s != "" {
				pattern, err := wire.ParsePattern(s)
				if err != nil {
					c.Fail("pattern: %w", err)
				}
				m.Sparsity, m.Keep, m.Of, m.Payload = 0, pattern.Keep, pattern.Of, wire.AppendStrips(nil, parseStrips(c))
			}
		case "compensate":
			m.DType, m.Masked = wire.F32, true
		case "pairs":
			m.DType = wire.F32
			for _, s := range c.List("of") {
				var r wire.Pair
				if _, err := fmt.Sscanf(s, "%d:%d", &r.U, &r.V); err != nil {
					c.Fail("pairs: %w", err)
				}
				m.Payload = wire.AppendPairs(m.Payload, []wire.Pair{r})
			}
		case "combine":
			steps := c.List("steps")
			m.Steps = len(steps)
			for _, s := range steps {
				m.Payload = wire.AppendUint64s(m.Payload, []uint64{parseID(c, s)})
			}
			m.Payload = wire.AppendFloats(m.Payload, c.Floats("coef"))
		case "scalars":
			m.Payload = wire.AppendFloats(nil, c.Floats("dampings"))
		case "row":
			m.Result, m.Payload = wire.F32, wire.AppendUint64s(nil, []wire.Step{step})
		case "column", "subblock":
			for _, s := range c.List("at") {
				m.Payload = wire.AppendUint64s(m.Payload, []uint64{parseID(c, s)})
			}
			if c.Name == "column" {
				m.Vectors = len(m.Payload) / 8
			}
		}
		if m.Block = c.Int("block", 0); m.Block > 0 {
			for _, s := range c.List("starts") {
				m.Starts++
				m.Payload = wire.AppendUint64s(m.Payload, []uint64{parseID(c, s)})
			}
		}
		return m
	case "result":
		return &wire.Result{Run: run, Epoch: epoch, Query: query}
	case "forget":
		m := &wire.Forget{Run: run, Token: token}
		for _, s := range c.List("steps") {
			m.Payload = wire.AppendUint64s(m.Payload, []uint64{parseID(c, s)})
		}
		return m
	case "set":
		return &wire.Set{Run: run, Token: token, Damping: damping, Divisor: divisor}
	case "resize":
		return &wire.Resize{Run: run, Token: token, Window: int(c.Int("window", 0))}
	case "freeze":
		return &wire.Freeze{Run: run, Token: token, Thaw: c.Has("thaw")}
	case "frozen":
		return &wire.FrozenRequest{Run: run}
	case "values":
		return &wire.Values{Run: run, Epoch: epoch, Query: query, Lo: c.Int("lo", 0), N: c.Int("n", 1)}
	case "close":
		if c.Has("all") {
			query = 0
		}
		return &wire.Close{Run: run, Epoch: epoch, Query: query}
	case "steps":
		m := &wire.StepsRequest{Run: run}
		if s := c.Str("query", ""); s != "" {
			m.Query = query
		}
		return m
	case "labels":
		m := &wire.LabelsRequest{Run: run, Version: wire.Version(c.Int("version", 0)), From: int(c.Int("row", 0))}
		if s := c.Str("query", ""); s != "" {
			m.Query = query
		}
		return m
	case "info":
		return &wire.InfoRequest{Run: run}
	case "delete":
		return &wire.Delete{Run: run, UID: uint64(c.Int("uid", 0))}
	case "list": // no request to a run's owner
		return &wire.List{}
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
