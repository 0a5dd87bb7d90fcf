package sim

import "mfac/wire"

// question is what a client asks, with all that the reference needs to answer it.
type question struct {
	kind     string
	vectors  [][]float64 // as the shards see them
	dtype    wire.DType
	result   wire.DType
	damping  float64 // 0: the run's
	divisor  wire.Divisor
	steps    []wire.Step
	coef     [][]float64
	columns  []int64 // of H⁻¹
	rule     string  // of a prune
	sparsity float64
	block    int64        // columns of a block; 0: the whole of H …
	unsaid   bool         // … the run's: the question does not say
	whole    bool         // said, in a run of blocks
	pattern  wire.Pattern // in place of sparsity
	strips   []wire.Strip
	atLeast  wire.Version
	exactly  wire.Version
	minRows  int
	pairs    []wire.Pair
	dampings []float64
	after    wire.Version // versions that had been told when it was asked
	function
}

// tinyDamping, at a row of the window, leaves so little that its bound takes a further pass.
const tinyDamping = 1e-10

// querier asks questions while the faults last.
func (c *client) querier() {
	w := c.w
	for w.now < w.shape.quiet {
		if w.chance(0.1) {
			c.doing = "query scalars"
			c.scalars(w.chance(0.2), w.now+15_000)
			c.sleep(w.between(0, 500))
		}
		q := c.question()
		c.doing = "query " + q.kind
		slow := []ms{0, 0, 200, 1500}[w.rng.IntN(4)]
		abandon := w.chance(0.1)
		c.query(q, slow, abandon, w.now+15_000)
		c.sleep(w.between(0, 500))
	}
}

func (c *client) question() *question {
	w := c.w
	q := &question{result: oneOf(w, dtypes), dtype: oneOf(w, dtypes)}
	if w.chance(0.3) {
		q.damping = w.shape.damping * []float64{0.5, 3}[w.rng.IntN(2)]
	}
	if w.chance(0.3) {
		q.divisor = []wire.Divisor{wire.Capacity, wire.Count}[w.rng.IntN(2)]
	}
	if w.chance(0.2) {
		q.atLeast = w.check.told
	}
	if w.chance(0.1) {
		q.minRows = 1 + w.rng.IntN(w.shape.window)
	}
	if w.chance(0.1) {
		q.exactly = w.check.told
	}
	steps := w.check.window(w.check.told)
	switch r := w.rng.Float64(); {
	case r < 0.55 || len(steps) == 0:
		q.kind = wire.KindVector
		if len(steps) > 0 && w.chance(0.2) { // scalars alone can't bound what is left of it
			q.damping, q.divisor, q.result, q.dtype = tinyDamping, "", wire.F64, oneOf(w, []wire.DType{wire.F32, wire.F64})
			p := w.check.attempts[steps[w.rng.IntN(len(steps))].Attempt]
			q.vectors = append(q.vectors, w.check.stored(p.row))
			break
		}
		for range 1 + w.rng.IntN(2) {
			v := make([]float64, w.shape.dim)
			for i := range v {
				v[i] = nearest(w.rng.NormFloat64(), q.dtype)
			}
			q.vectors = append(q.vectors, v)
		}
	case r < 0.75:
		q.kind = wire.KindCombine
		for _, s := range steps {
			if len(q.steps) == 0 || w.chance(0.5) {
				q.steps = append(q.steps, s.Step)
			}
		}
		for range 1 + w.rng.IntN(2) {
			a := make([]float64, len(q.steps))
			for i := range a {
				a[i] = w.rng.NormFloat64()
			}
			q.coef = append(q.coef, a)
		}
	case r < 0.81: // numbers, which lie at the coordinator
		q.kind, q.result = wire.KindScores, wire.F64
		v := make([]float64, w.shape.dim)
		for i := range v {
			v[i] = nearest(w.rng.NormFloat64(), q.dtype)
		}
		q.vectors = append(q.vectors, v)
	case r < 0.85:
		q.kind = wire.KindDiag
	case r < 0.9:
		q.kind = wire.KindColumn
		if w.chance(0.5) {
			q.kind, q.result = wire.KindSubblock, wire.F64
		}
		for range 1 + w.rng.IntN(2) {
			q.columns = append(q.columns, int64(w.rng.IntN(int(w.shape.dim))))
		}
	case r < 0.95:
		w.prune(q)
	default:
		q.kind, q.result, q.damping, q.divisor = wire.KindRow, wire.F32, 0, ""
		q.steps = []wire.Step{steps[w.rng.IntN(len(steps))].Step}
	}
	q.vary(w)
	q.tune(w)
	q.inBlocks(w)
	return q
}

func (q *question) outputs() int {
	if q.prunes() || q.kind == wire.KindSubblock {
		return 1
	}
	return max(len(q.vectors), len(q.coef), len(q.columns), q.samples, 1)
}

func (q *question) message(token uint64) *wire.Query {
	block := q.block
	if q.unsaid {
		block = 0
	}
	m := &wire.Query{
		Run: runName, Token: token, Kind: q.kind, Vectors: q.outputs(), Result: q.result, Damping: q.damping, Divisor: q.divisor,
		AtLeast: q.atLeast, Exactly: q.exactly, MinRows: q.minRows, Block: block, Whole: q.whole,
	}
	if q.extra(m) {
		q.put(m)
		return m
	}
	switch q.kind {
	case wire.KindVector, wire.KindFisher, wire.KindHessian, wire.KindSample, wire.KindScores:
	case wire.KindCombine:
		m.Steps = len(q.steps)
		m.Payload = wire.AppendUint64s(nil, q.steps)
		for _, a := range q.coef {
			m.Payload = wire.AppendFloats(m.Payload, a)
		}
	case wire.KindDiag:
	case wire.KindPrune, wire.KindCompensate:
		m.DType, m.Rule, m.Sparsity, m.Masked = q.dtype, q.rule, q.sparsity, len(q.vectors) > 1
		if !q.pattern.IsZero() {
			m.Sparsity, m.Keep, m.Of, m.Payload = 0, q.pattern.Keep, q.pattern.Of, wire.AppendStrips(nil, q.strips)
		}
	case wire.KindColumn, wire.KindSubblock:
		m.Payload = wire.AppendIndices(nil, q.columns)
	default:
		m.Payload = wire.AppendUint64s(nil, q.steps)
	}
	q.put(m)
	return m
}

// query asks until it has an answer, the question is refused, or the time is up.
func (c *client) query(q *question, slow ms, abandon bool, until ms) (answered bool) {
	w := c.w
	for w.now < until {
		if c.info == nil && !c.attach(until) {
			return false
		}
		token := w.rng.Uint64()
		q.after = w.check.told
		var r *wire.QueryReply
		for r == nil && w.now < until {
			switch m := c.owner(q.message(token)).(type) {
			case *wire.QueryReply:
				r = m
			case *wire.Error:
				switch m.Code {
				case wire.CodeBusy, wire.CodeUnavailable:
					c.sleep(w.between(20, 200))
				case wire.CodeBehind:
					if q.atLeast == 0 && q.exactly == 0 {
						w.fail("V6 %s without at_least is behind: %v", q.kind, m)
					}
					if w.chance(0.5) {
						return false
					}
					c.sleep(200)
				case wire.CodeTooFewRows, wire.CodeVersionGone, wire.CodeUnknownStep, wire.CodeIllConditioned, wire.CodeUnknownQuery:
					return false
				default:
					w.fail("query %s is answered %s: %v", q.kind, m.Code, m)
				}
			}
		}
		if r == nil {
			return false
		}
		if r.Epoch != c.info.Epoch {
			if c.info = nil; !c.attach(until) {
				return false
			}
			if r.Epoch != c.info.Epoch {
				continue
			}
		}
		code := c.answer(q, r, slow, abandon, until)
		if abandon && w.chance(0.5) {
			return false // it ends at its deadline
		}
		if code == "" || code != wire.CodeTimeout {
			closing := &wire.Close{Run: runName, Epoch: r.Epoch, Query: r.Query}
			if abandon { // as one that goes on under the name of one that has died
				closing.Query = 0
			}
			c.owner(closing)
		}
		switch code {
		case "":
			return true
		case wire.CodeStaleEpoch, wire.CodeUnknownQuery, wire.CodeUnknownShard, wire.CodeTimeout, wire.CodeUnavailable:
			c.info = nil
		case wire.CodeVersionGone, wire.CodeIllConditioned, wire.CodeDropped:
			return false
		case wire.CodeOverflow:
			if q.result == wire.F16 { // it ends at 65504
				return false
			}
			fallthrough
		default:
			w.fail("%s query %d is answered %s", q.kind, uint64(r.Query), code)
		}
	}
	return false
}

// answer sends the vectors, waits for the result and fetches it.
func (c *client) answer(q *question, r *wire.QueryReply, slow ms, abandon bool, until ms) wire.Code {
	w := c.w
	if wire.Sent(q.kind) {
		var wants []want
		for i, v := range q.vectors {
			for _, s := range c.grid(0, w.shape.dim, []int64{5, 16, 100}[w.rng.IntN(3)]) {
				b := encode(v[s.lo:s.lo+s.n], q.dtype)
				wants = append(wants, want{c.workerOf(s.shard), &wire.Vec{
					Run: runName, Epoch: r.Epoch, Query: r.Query, Index: i, Shard: s.shard, Lo: s.lo, N: s.n, DType: q.dtype, Sum: wire.Checksum(b), Payload: b,
				}})
			}
		}
		if code := c.all(wants, until, func(m wire.Message) { _ = m.(*wire.Ack) }); code != "" {
			return code
		}
	}
	var ready *wire.ResultReply
	for silent := 0; ready == nil; {
		switch m := c.owner(&wire.Result{Run: runName, Epoch: r.Epoch, Query: r.Query}).(type) {
		case *wire.ResultReply:
			silent = 0
			if m.State == wire.StateReady {
				ready = m
			}
		case *wire.Error:
			return m.Code
		default:
			if silent++; silent > 3 || w.now > until {
				return wire.CodeTimeout
			}
		}
	}
	if abandon {
		return wire.CodeDropped
	}
	if q.kind == wire.KindScores || q.kind == wire.KindSubblock {
		x, code := c.values(r, ready.Values, slow, until)
		if code == "" {
			w.check.answered(c, q, r, ready, [][]float64{x})
			c.labelsOf(r)
		}
		return code
	}
	if numbers(q.kind) {
		x, code := c.values(r, ready.Values, slow, until)
		if code == "" {
			w.check.numbers(q, r, ready, x)
		}
		return code
	}
	out, code := c.fetch(r.Epoch, r.Query, q.outputs(), q.result, slow, until)
	if code == "" {
		w.check.answered(c, q, r, ready, out)
	}
	return code
}

// all asks workers until each want is answered; take hears the answers.
func (c *client) all(wants []want, until ms, take func(wire.Message)) wire.Code {
	w := c.w
	for silent := 0; len(wants) > 0; {
		if w.now > until || silent > 3 {
			return wire.CodeTimeout
		}
		n := min(len(wants), 1+w.rng.IntN(5))
		var rest []want
		got := false
		for i, m := range c.ask(wants[:n]...) {
			switch m := m.(type) {
			case nil:
				rest = append(rest, wants[i])
			case *wire.Error:
				switch m.Code {
				case wire.CodeBusy, wire.CodeNotOpen, wire.CodeUnavailable:
					got = got || m.Code == wire.CodeBusy
					rest = append(rest, wants[i])
				default:
					return m.Code
				}
			default:
				got = true
				take(m)
			}
		}
		if silent++; got {
			silent = 0
		} else {
			c.sleep(w.between(5, 100))
		}
		wants = append(rest, wants[n:]...)
	}
	return ""
}

// values reads the numbers that a query left at the coordinator, a few at a time.
func (c *client) values(r *wire.QueryReply, count int64, slow, until ms) ([]float64, wire.Code) {
	w := c.w
	var x []float64
	for silent := 0; int64(len(x)) < count; {
		if silent > 3 || w.now > until {
			return nil, wire.CodeTimeout
		}
		if slow > 0 {
			c.sleep(w.between(0, slow))
		}
		lo := int64(len(x))
		switch m := c.owner(&wire.Values{Run: runName, Epoch: r.Epoch, Query: r.Query, Lo: lo, N: min(3, count-lo)}).(type) {
		case *wire.ValuesReply:
			if m.Lo != lo || m.N > min(3, count-lo) {
				w.fail("V6 numbers [%d, %d) of query %d, asked for those from %d", m.Lo, m.Lo+m.N, uint64(r.Query), lo)
			}
			x, silent = append(x, wire.Floats(m.Payload)...), 0
		case *wire.Error:
			return nil, m.Code
		default:
			silent++
		}
	}
	return x, ""
}

// fetch gets all columns of a query's results.
func (c *client) fetch(epoch wire.Epoch, id wire.QueryID, outputs int, dtype wire.DType, slow, until ms) ([][]float64, wire.Code) {
	w := c.w
	out := make([][]float64, outputs)
	for i := range out {
		out[i] = make([]float64, w.shape.dim)
		for _, s := range c.grid(0, w.shape.dim, 16) {
			if slow > 0 {
				c.sleep(w.between(0, slow))
			}
			m := want{c.workerOf(s.shard), &wire.Fetch{Run: runName, Epoch: epoch, Query: id, Index: i, Shard: s.shard, Lo: s.lo, N: s.n, DType: dtype}}
			code := c.all([]want{m}, until, func(m wire.Message) {
				p := m.(*wire.Part)
				if p.Lo != s.lo || p.N != s.n || p.DType != dtype || p.Sum != wire.Checksum(p.Payload) {
					w.fail("V6 a part of other columns, dtype or bytes: %s", describe(p))
				}
				copy(out[i][s.lo:], decode(p.Payload, dtype))
			})
			if code != "" {
				return nil, code
			}
		}
	}
	return out, ""
}

// fetchPreconditioned fetches what came with a commit, and closes it.
func (c *client) fetchPreconditioned(p *publication, m manner, epoch wire.Epoch, r *wire.WaitReply) {
	q := &question{kind: wire.KindCombine, result: m.pre.Result, steps: []wire.Step{p.step}, coef: [][]float64{{1}}}
	if !m.pre.Whole {
		q.block = c.w.shape.blockOf()
	}
	out, code := c.fetch(epoch, r.Query, 1, m.pre.Result, m.fetchSlow, c.w.now+5000)
	if code == "" {
		c.w.check.answered(c, q, &wire.QueryReply{Query: r.Query, Epoch: epoch, Version: r.Version, Rows: r.Rows},
			&wire.ResultReply{State: wire.StateReady, Version: r.Version, Rows: r.Rows, Bounds: r.Bounds}, out)
	}
	c.owner(&wire.Close{Run: runName, Epoch: epoch, Query: r.Query})
}

// last is the step and the query that must succeed when the faults are over.
func (c *client) last() {
	w := c.w
	// A freeze that was refused may have been frozen by a late copy since, under another owner.
	if r, code := c.until(&wire.Freeze{Run: runName, Token: w.rng.Uint64(), Thaw: true}, w.now+60_000); r == nil {
		w.fail("V10 the run is not thawed: %q", code)
	}
	for {
		if c.info == nil && !c.attach(w.now+60_000) {
			continue
		}
		step := w.check.newest + 1
		p := c.publication(step)
		m := c.usual()
		m.patience = 60_000
		c.doing = "last " + p.String()
		out := c.publish(p, m)
		if out.committed == nil {
			if out.err == wire.CodeNotGrowing { // a step that was left whole came first
				c.info = nil
				c.sleep(100)
				continue
			}
			w.fail("V10 the last step came to %q", out.err)
		}
		q := &question{kind: wire.KindRow, result: wire.F32, steps: []wire.Step{step}, atLeast: out.committed.Version, minRows: 1}
		if !c.query(q, 0, false, w.now+30_000) {
			w.fail("V10 the last row could not be read")
		}
		// Not of a step: one that was left whole may evict it. Not one that may be refused.
		for q = c.question(); q.kind != wire.KindVector || q.damping == tinyDamping || q.result == wire.F16; q = c.question() {
		}
		q.atLeast, q.exactly, q.minRows = 0, 0, 0
		if !c.query(q, 0, false, w.now+30_000) {
			w.fail("V10 the last %s query was not answered", q.kind)
		}
		return
	}
}
