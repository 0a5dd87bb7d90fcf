package coordinator

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"mfac/coordinator/window"
	"mfac/shard"
	"mfac/wire"
)

// query is a query pinned to a version: while it lives, no slot that it reads is used again.
type query struct {
	id       wire.QueryID
	token    callerToken
	readers  []string
	kind     string
	vectors  int
	dtype    wire.DType
	result   wire.DType
	damping  float64
	divisor  window.Divisor
	version  wire.Version
	slots    []wire.Slot // of its rows, oldest first
	mask     shard.Mask
	deadline int64 // tick

	of        wire.QueryID // the W that it reads, of a frozen run
	index     []int64      // of the columns that a column or sub-block query names
	prune     *pruning
	blocks    *blocking
	win       *window.Window // the window of its version, once the run's own has gone on
	parts     [][]float64    // a shard's dots and norms
	left      int
	coef      []byte
	bounds    []float64                   // of the float64 results; in a reply, rounded's
	size      []float64                   // what ‖x‖ is at least, of each; 0 where it isn't known
	unsettled []window.Bound              // that need the shards' norms; nil where scalars do
	then      func(*Effects, *wire.Error) // hears of a precondition's outcome
	ready     bool
	making    *making         // the factor that it waits for, if any
	job       uint64          // of its own that is under way; 0: none
	block     *subblock       // that it waits for a job's turn with; nil: it doesn't
	spectral  *spectral       // nil but for numbers of the spectrum
	values    []float64       // the answer, where it is numbers …
	row       int             // … or, where they are worked out as they are read, how many a row of the window has
	steps     []wire.Step     // of the rows that the numbers are of
	labels    []wire.Labelled // the same with their labels
	pairs     []wire.Pair
	function            // of H, other than its inverse
	checked   *checked  // nil but where residuals are asked for
	residuals []float64 // of the answers; nil likewise
	closing   bool
	waiters   []waiter

	formed *formed // nil but for what needs the form of A and is not answered yet

	phase       string // what is being done, for who waits; "" where that is plain
	done, total int64  // of the phase, or of the job that it waits for
}

// under takes note of how far a query is.
func (q *query) under(phase string, done, total int64) { q.phase, q.done, q.total = phase, done, total }

// callerToken makes a request for a query idempotent.
type callerToken struct {
	caller string
	token  uint64
}

// rounding is the error of rounding a number to a dtype: relative, and absolute below its normal
// range.
var rounding = map[wire.DType]struct{ relative, absolute float64 }{
	wire.F32:  {0x1p-24, 0x1p-150},
	wire.BF16: {0x1p-8, 0x1p-134},
	wire.F16:  {0x1p-11, 0x1p-25},
}

// newQuery pins a query to the present version, or to the rows given.
func (c *Core) newQuery(version wire.Version, rows []row, damping float64, divisor wire.Divisor, result wire.DType) *query {
	c.lastID++
	q := &query{id: wire.QueryID(c.lastID), version: version, slots: slotsOf(rows), damping: damping, result: result, vectors: 1}
	if damping == 0 {
		q.damping = c.rec.Spec.Damping
	}
	if divisor == "" {
		divisor = c.rec.Spec.Divisor
	}
	q.divisor = divisorOf(divisor)
	q.mask = shard.NewMask(c.rec.Spec.Slots())
	for _, s := range q.slots {
		q.mask.Set(int(s))
	}
	return q
}

// factor is that of the query's version, damping and divisor.
func (c *Core) factor(q *query) (*window.Factor, error) {
	w := q.win
	if w == nil {
		w = c.win
	}
	f, err := w.Factor(q.damping, q.divisor)
	if err != nil {
		return nil, unsolved(q, err)
	}
	return f, nil
}

// unsolved tells a window that can't be solved at the query's damping from a defect of ours.
func unsolved(q *query, err error) error {
	if errors.Is(err, window.ErrIllConditioned) {
		return illConditioned(q, err.Error())
	}
	return fmt.Errorf("query %d: %w", uint64(q.id), err)
}

// checkDamping refuses another damping than the run's at which Nλ overflows.
func (c *Core) checkDamping(lambda float64) error {
	if lambda == 0 {
		return nil
	}
	return wire.CheckDampingOf("damping", lambda, c.rec.Spec.Window)
}

func illConditioned(q *query, why string) *wire.Error {
	return wire.Errorf(wire.CodeIllConditioned, "window", fmt.Sprintf("version %d", q.version), "solvable at damping "+fmt.Sprint(q.damping), "%s; a larger damping helps", why)
}

// limit refuses a query whose bound is too large.
func limit(q *query, bound float64) *wire.Error {
	if bound <= wire.MaxErrorRate { // NaN fails this
		return nil
	}
	if q.kind == wire.KindFisher {
		return wire.Errorf(wire.CodeIllConditioned, "error bound", fmt.Sprintf("%.3g", bound), fmt.Sprintf("at most %g", wire.MaxErrorRate),
			"the vector is all but orthogonal to the gradients: F v could be wrong by that much, relative")
	}
	return wire.Errorf(wire.CodeIllConditioned, "error bound", fmt.Sprintf("%.3g", bound), fmt.Sprintf("at most %g", wire.MaxErrorRate),
		"the answer at damping %g could be wrong by that much, relative; a larger damping helps", q.damping)
}

// pins reports whether a query still needs the factor of its version.
func (q *query) pins() bool {
	if q.block != nil && q.job != 0 { // the job has one of its own
		return false
	}
	if readsWindow(q.kind) || q.making != nil {
		return !q.closing
	}
	if q.blocks != nil { // they have windows of their own
		return false
	}
	return (q.checked != nil || needsWindow(q.kind) && q.coef == nil) && !q.ready && !q.closing
}

// needsWindow reports whether queries of a kind need the factor of their version later than at once, till
// they are ready.
func needsWindow(kind string) bool {
	switch kind {
	case wire.KindScores, wire.KindPairs, wire.KindColumn, wire.KindSubblock, wire.KindPrune:
		return true
	}
	return wire.Prepared(kind)
}

// count is how many numbers the answer has.
func (q *query) count() int64 {
	if q.row > 0 {
		return int64(q.row) * int64(len(q.slots))
	}
	return int64(len(q.values))
}

// snapshotBytes is what a version that queries pin takes: A, a factor of the run's own, and one at
// another damping while it is in use.
func (c *Core) snapshotBytes() int64 {
	m := int64(c.rec.Spec.Window)
	return 24 * m * m
}

// bytes is what a query holds till it is answered: the shards' products, their sum, coefficients.
func (c *Core) bytes(kind string, vectors int, checked bool) int64 {
	each := 8 * int64(vectors) * int64(c.rec.Spec.Slots()+1)
	switch {
	case checked: // and what it refines
		return each * int64(len(c.shards)+7)
	case wire.Prepared(kind):
		return each * int64(len(c.shards)+2)
	case kind == wire.KindInvSqrt, kind == wire.KindLikelihood: // and the form
		m := int64(c.rec.Spec.Window)
		return each*int64(len(c.shards)+4) + 8*m*m
	case kind == wire.KindLeaveOut: // and Q
		m := int64(c.rec.Spec.Window)
		return 16*m*m + 8*m*wire.LikelihoodNumbers*wire.MaxTuned
	case kind == wire.KindScores: // and the scores
		return each * int64(len(c.shards)+4)
	case kind == wire.KindPairs: // and uᵀv of each pair
		return each*int64(len(c.shards)+4) + 8*wire.MaxPairs*int64(len(c.shards)+2)
	case kind == wire.KindInfluence, kind == wire.KindSelf: // a factor at a damping of its own
		return 8 * int64(c.rec.Spec.Window) * int64(c.rec.Spec.Window)
	case kind == wire.KindCombine:
		return each
	}
	return 0
}

// room refuses a query for which there is no memory beside the others that are being answered. One
// version and one query there is room for, however large.
func (c *Core) room(m *wire.Query) error {
	versions, held := map[wire.Version]bool{}, int64(0)
	if c.kept != nil {
		held += 8 * int64(len(c.kept.l))
	}
	if len(c.subblocks) > 0 { // one has a window of its own
		held += c.snapshotBytes()
	}
	for _, q := range c.queries {
		if q.pins() {
			versions[q.version] = true
		}
		held += 8 * int64(len(q.values))
		if (!q.ready || readsWindow(q.kind)) && !q.closing {
			held += c.bytes(q.kind, q.vectors, q.checked != nil) + c.diagBytes(q.kind, len(q.index)) + c.pruneBytes(q.kind)
			if q.blocks != nil {
				held += c.blocksBytes(q.blocks.part.Size)
			}
		}
	}
	if most := max(1, c.queryBytes/c.snapshotBytes()); (needsWindow(m.Kind) || readsWindow(m.Kind) || m.Verify || m.Refine || m.Damping != 0 || m.Divisor != "") && !versions[c.version] && int64(len(versions)) >= most {
		return wire.Errorf(wire.CodeBusy, "versions with vectors under way", len(versions), fmt.Sprintf("below %d, each of which keeps its window", most), "ask again when one is answered")
	}
	if need := c.bytes(m.Kind, m.Vectors, m.Verify || m.Refine) + c.diagBytes(m.Kind, len(m.Payload)/8-m.Starts) + c.pruneBytes(m.Kind) + c.blocksBytes(m.Block); held > 0 && need > c.queryBytes-held {
		return wire.Errorf(wire.CodeBusy, "bytes of queries under way", held+need, fmt.Sprintf("at most %d", c.queryBytes), "ask again when one is answered")
	}
	return nil
}

// snapshot keeps the window for queries that still need its factor, before it changes.
func (c *Core) snapshot() {
	c.spectra.form = nil // queries that need it have it
	var w *window.Window
	for _, id := range sortedKeys(c.queries) {
		q := c.queries[id]
		if q.win == nil && q.pins() {
			if w == nil {
				w = c.win.Clone()
			}
			q.win = w
		}
	}
}

// precondition makes the query H⁻¹g for the newest row of the window, which has it already. Nil
// with the reason, where the answer would be too uncertain.
func (c *Core) precondition(o *openStep, rows []row) (*query, *wire.Error) {
	q := c.newQuery(c.version+1, rows, o.pre.Damping, o.pre.Divisor, o.pre.Result)
	q.kind, q.readers = wire.KindCombine, o.readers
	q.deadline = c.deadlineOf(o.life, c.cfg.StepMS, maxQueryMS)
	if c.part != nil && !o.pre.Whole {
		return c.preconditionBlocks(q), nil
	}
	a := make([]float64, len(rows))
	a[len(a)-1] = 1
	if err := c.combine(q, [][]float64{a}); err != nil {
		return nil, wire.AsError(err)
	}
	return q, nil
}

// combine works out the coefficients of H⁻¹Gᵀa for each a: N K⁻¹a.
func (c *Core) combine(q *query, as [][]float64) error {
	f, err := c.factor(q)
	if err != nil {
		return err
	}
	slots := c.rec.Spec.Slots()
	coef := make([]float64, len(as)*slots)
	n := make([]float64, len(q.slots))
	for i, a := range as {
		if err := f.CombinationTo(n, a); err != nil {
			return unsolved(q, err)
		}
		for j, s := range q.slots {
			coef[i*slots+int(s)] = n[j]
		}
		b, err := f.CombinationBoundOf(n)
		if err != nil {
			return unsolved(q, err)
		}
		c.bounded(q, b)
	}
	c.settle(q)
	if i := firstNonFinite(coef); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "coefficient", coef[i], "finite", "scale the combination down")
	}
	q.coef = wire.AppendFloats(nil, coef)
	return nil
}

func firstNonFinite(x []float64) int {
	return slices.IndexFunc(x, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}

// query opens a query at the present version.
func (c *Core) query(e *Effects, in Request, m *wire.Query) error {
	key := callerToken{in.Caller, m.Token}
	if id, ok := c.tokens[key]; ok {
		q := c.queries[id]
		e.send(in.From, &wire.QueryReply{Query: id, Epoch: c.epoch, Version: q.version, Rows: len(q.slots)})
		return nil
	}
	if err, ok := c.ended.get(key); ok {
		return err
	}
	if c.part != nil {
		own, err := m.AsRun(*c.part)
		if err != nil {
			return err
		}
		m = own
	}
	if err := c.checkScales(m); err != nil {
		return err
	}
	if err := c.checkDamping(m.Damping); err != nil {
		return err
	}
	if m.Exactly != 0 && m.Exactly < c.version {
		return wire.Errorf(wire.CodeVersionGone, "exactly", uint64(m.Exactly), fmt.Sprint(uint64(c.version)), "the window has gone on")
	}
	if want := max(m.AtLeast, m.Exactly); want > c.version {
		return wire.Errorf(wire.CodeBehind, "version", uint64(c.version), fmt.Sprintf("at least %d", want))
	}
	if m.MinRows > len(c.rows) {
		return wire.Errorf(wire.CodeTooFewRows, "rows", len(c.rows), fmt.Sprintf("at least %d", m.MinRows))
	}
	if most := wire.MaxVectorsFor(c.rec.Spec.Slots()); m.Vectors > most {
		return wire.Errorf(wire.CodeTooLarge, "vectors", m.Vectors, fmt.Sprintf("at most %d in one query of this run", most))
	}
	if len(c.queries) >= maxQueries {
		return wire.Errorf(wire.CodeBusy, "queries", len(c.queries), fmt.Sprintf("below %d", maxQueries))
	}
	if err := c.room(m); err != nil {
		return err
	}
	q := c.newQuery(c.version, c.rows, m.Damping, m.Divisor, m.Result)
	q.token, q.readers, q.kind, q.vectors, q.dtype = key, []string{in.Caller}, m.Kind, m.Vectors, m.DType
	q.deadline = c.deadlineOf(m.DeadlineMS, c.cfg.QueryMS, maxQueryMS)
	switch m.Kind { // numbers outlive the mask: who forgets a row must find them
	case wire.KindScores, wire.KindPairs, wire.KindSubblock, wire.KindInfluence, wire.KindSelf, wire.KindLeaveOut:
		q.steps, q.labels = c.Steps(), c.labels()
	}
	var err error
	if (m.Verify || m.Refine) && m.Block == 0 {
		q.checked = &checked{refine: m.Refine}
	}
	if m.Block != 0 {
		if err := c.blocksOf(q, m); err != nil {
			return err
		}
		rest := *m
		rest.Payload = m.Payload[:len(m.Payload)-8*m.Starts]
		m = &rest
	}
	switch m.Kind {
	case wire.KindVector, wire.KindFisher, wire.KindHessian, wire.KindScores, wire.KindPairs:
		if m.Kind == wire.KindPairs {
			q.pairs = wire.PairList(m.Payload)
		}
		if q.blocks != nil {
			c.blocksQuery(e, q)
			break
		}
		c.prepare(e, q)
	case wire.KindSample:
		c.sampleQuery(e, q, m)
	case wire.KindInfluence, wire.KindSelf:
		err = c.influenceQuery(e, q)
	case wire.KindCombine:
		err = c.combineQuery(e, q, m)
	case wire.KindRow:
		err = c.rowQuery(e, q, wire.Uint64s[wire.Step](m.Payload)[0])
	case wire.KindDiag:
		if q.blocks != nil {
			c.blocksQuery(e, q)
			break
		}
		err = c.diagQuery(e, q)
	case wire.KindColumn, wire.KindSubblock:
		if q.blocks != nil {
			err = c.elementsQuery(e, q, wire.Indices(m.Payload))
			break
		}
		err = c.columnsQuery(e, q, wire.Indices(m.Payload))
	case wire.KindPrune, wire.KindCompensate:
		err = c.pruneQuery(e, q, m)
	case wire.KindScalars, wire.KindSpectrum:
		if q.blocks != nil {
			err = c.blockScalars(e, q, wire.Floats(m.Payload))
			break
		}
		err = c.spectralQuery(e, q, m)
	case wire.KindInvSqrt, wire.KindLikelihood, wire.KindLeaveOut:
		err = c.formQuery(e, q, m)
	}
	if err != nil {
		return err
	}
	c.queries[q.id] = q
	c.tokens[key] = q.id
	e.send(in.From, &wire.QueryReply{Query: q.id, Epoch: c.epoch, Version: q.version, Rows: len(q.slots)})
	return nil
}

// indexOf is the row of a step, by age.
func (c *Core) indexOf(step wire.Step) (int, error) {
	i, ok := slices.BinarySearchFunc(c.rows, step, func(r row, step wire.Step) int { return cmp.Compare(r.Step, step) })
	if !ok {
		return 0, wire.Errorf(wire.CodeUnknownStep, "step", uint64(step), "in the window of "+c.rec.Spec.Name, "it has left the window or never was in it")
	}
	return i, nil
}

func (c *Core) combineQuery(e *Effects, q *query, m *wire.Query) error {
	steps := wire.Uint64s[wire.Step](m.Payload[:8*m.Steps])
	a := wire.Floats(m.Payload[8*m.Steps:])
	if i := firstNonFinite(a); i >= 0 {
		return wire.Errorf(wire.CodeNotFinite, "coefficient", a[i], "finite", "of step %d", steps[i%m.Steps])
	}
	at := make([]int, len(steps))
	for j, step := range steps {
		var err error
		if at[j], err = c.indexOf(step); err != nil {
			return err
		}
	}
	as := make([][]float64, m.Vectors)
	for i := range as {
		as[i] = make([]float64, len(c.rows))
		for j, r := range at {
			as[i][r] += a[i*m.Steps+j]
		}
	}
	for _, a := range as {
		if i := firstNonFinite(a); i >= 0 {
			return wire.Errorf(wire.CodeOverflow, "coefficient", a[i], "finite", "of step %d, which the combination names more than once", c.rows[i].Step)
		}
	}
	if q.checked != nil {
		q.checked.as = as
	}
	if q.blocks != nil {
		c.combineBlocks(e, q, as)
		return nil
	}
	return c.factored(e, q, func(e *Effects) error {
		if err := c.combine(q, as); err != nil {
			return err
		}
		c.sendCoef(e, q)
		return nil
	})
}

func (c *Core) rowQuery(e *Effects, q *query, step wire.Step) error {
	i, err := c.indexOf(step)
	if err != nil {
		return err
	}
	q.mask = shard.MaskOf(c.rec.Spec.Slots(), int(c.rows[i].Slot))
	q.bounds = []float64{0}
	c.sendCoef(e, q)
	return nil
}

// prepare asks every shard for its part of Gv, which comes when the client has sent v.
func (c *Core) prepare(e *Effects, q *query) {
	ask := func() wire.Control { return q.prepareMessage() }
	c.scatter(e, q, q.vectors*(c.rec.Spec.Slots()+1), ask, func(e *Effects, parts [][]float64) error {
		q.parts = parts
		return c.multiplied(e, q)
	})
}

// refuse ends a query with an error of a shard, or of its numbers.
func (c *Core) refuse(e *Effects, q *query, m wire.Message) {
	err, ok := m.(*wire.Error)
	if !ok {
		err = wire.Errorf(wire.CodeInternal, "answer", m.Type(), "one of the protocol")
	}
	refused := *err
	refused.Seq = 0
	c.closeQuery(e, q, &refused)
}

// solve works out c = K⁻¹ Σ y, with the bound of the answer's error (maths.md, "How wrong an
// answer can be"), and sends it to the shards.
func (c *Core) solve(e *Effects, q *query) error {
	return c.factored(e, q, func(e *Effects) error { return c.solveNow(e, q) })
}

func (c *Core) solveNow(e *Effects, q *query) error {
	f, err := c.factor(q)
	if err != nil {
		return err
	}
	if q.win != nil && q.checked == nil { // others may have the same one, at other dampings
		defer q.win.Forget()
	}
	sum := sumInOrder(q.parts)
	q.parts = nil
	if i := firstNonFinite(sum); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "product", sum[i], "finite", "scale the vector down")
	}
	slots := c.rec.Spec.Slots()
	coef := make([]float64, q.vectors*slots)
	y := make([]float64, len(q.slots))
	x := make([]float64, len(q.slots))
	for i := range q.vectors {
		for j, s := range q.slots {
			y[j] = sum[i*slots+int(s)]
		}
		if err := f.SolveTo(x, y); err != nil {
			return unsolved(q, err)
		}
		for j, s := range q.slots {
			coef[i*slots+int(s)] = x[j]
		}
		b, err := f.VectorBound(x, y, sum[q.vectors*slots+i])
		if err != nil {
			return unsolved(q, err)
		}
		c.bounded(q, b)
	}
	if i := firstNonFinite(coef); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "coefficient", coef[i], "finite", "scale the vector down")
	}
	if q.checked != nil {
		q.checked.norms2 = slices.Clone(sum[q.vectors*slots:])
	}
	c.solved(e, q, coef)
	return nil
}

// solved sends the shards the coefficients of vectors.
func (c *Core) solved(e *Effects, q *query, coef []float64) {
	q.coef = wire.AppendFloats(nil, coef)
	if q.kind == wire.KindColumn {
		q.coef = wire.AppendIndices(q.coef, q.index)
	}
	if q.checked == nil {
		q.win = nil
	}
	c.settle(q)
	c.sendCoef(e, q)
}

// bounded takes note of a vector's bound.
func (c *Core) bounded(q *query, b window.Bound) {
	q.unsettled = append(q.unsettled, b)
	q.bounds = append(q.bounds, b.Relative)
	q.size = append(q.size, q.sizeOf(b))
}

// sizeOf is what ‖x‖ is at least. A bound speaks of ‖λx‖, but of a combination.
func (q *query) sizeOf(b window.Bound) float64 {
	switch q.kind {
	case wire.KindVector, wire.KindColumn, wire.KindDiag:
		return b.NormLow / q.damping
	case wire.KindSample, wire.KindInvSqrt: // … a sample's, of ‖√λ x‖
		return b.NormLow / math.Sqrt(q.damping)
	}
	return b.NormLow
}

// settle forgets what a further pass would need, where scalars alone show every bound to be
// within the limit.
func (c *Core) settle(q *query) {
	for _, b := range q.bounds {
		if limit(q, b) != nil {
			return
		}
	}
	q.unsettled = nil
}

// rounded is the bounds with the rounding of the results. That is the client's choice: no bound is
// refused for it.
func (c *Core) rounded(q *query) []float64 {
	r, ok := rounding[q.result]
	if !ok {
		return q.bounds
	}
	out := slices.Clone(q.bounds)
	for i, b := range out {
		if b == 0 { // 0, or a row: nothing is rounded
			continue
		}
		out[i] += r.relative * (1 + b)
		if size := q.size[i]; size > 0 {
			out[i] += min(c.absolute(q, r.absolute)/size, 1) // all zeros are off by 1
		}
	}
	return out
}

// sendCoef gives the shards the coefficients. Where scalars could not settle the bound, the
// shards sum ‖v − Gᵀc‖² in one more pass, and it is settled by that.
func (c *Core) sendCoef(e *Effects, q *query) {
	q.left = len(c.shards)
	for s := range c.shards {
		m := &wire.Coef{Query: q.id, Kind: q.kind, Vectors: q.vectors, Result: q.result, Mask: q.mask, Payload: q.coef}
		if wire.Prepared(q.kind) && q.kind != wire.KindFisher || q.kind == wire.KindColumn {
			m.Damping = q.damping
		}
		if q.kind == wire.KindInvSqrt {
			m.Kind, m.Damping = wire.KindVector, math.Sqrt(q.damping)
		}
		c.call(e, s, m, func(e *Effects, m wire.Message) {
			if c.queries[q.id] != q || q.closing {
				return
			}
			if _, ok := m.(*wire.OK); !ok {
				c.refuse(e, q, m)
				return
			}
			if q.left--; q.left > 0 {
				return
			}
			if q.checked != nil {
				c.check(e, q)
				return
			}
			c.settled(e, q)
		})
	}
}

// settled answers a query, after one more pass where its bounds need that.
func (c *Core) settled(e *Effects, q *query) {
	if q.unsettled != nil {
		c.norms(e, q)
		return
	}
	c.answer(e, q)
}

// norms settles bounds by one more pass.
func (c *Core) norms(e *Effects, q *query) {
	ask := func() wire.Control { return &wire.Norms{Query: q.id} }
	c.sums(e, q, ask, q.vectors, func(e *Effects, sum []float64) error {
		for i, b := range q.unsettled {
			closer := b.With(sum[i])
			q.bounds[i] = min(b.Relative, closer.Relative)
			q.size[i] = max(q.size[i], q.sizeOf(closer))
			if err := limit(q, q.bounds[i]); err != nil {
				return err
			}
		}
		c.answer(e, q)
		return nil
	})
}

// answer tells who waits that the result can be fetched.
func (c *Core) answer(e *Effects, q *query) {
	q.ready, q.unsettled, q.coef, q.bounds = true, nil, nil, c.rounded(q)
	q.checked = nil
	if !readsWindow(q.kind) {
		q.win = nil
	}
	for _, w := range q.waiters {
		e.send(w.to, q.reply())
	}
	q.waiters = nil
	if q.then != nil {
		q.then(e, nil)
	}
}

func (q *query) reply() *wire.ResultReply {
	return &wire.ResultReply{State: wire.StateReady, Version: q.version, Rows: len(q.slots), Bounds: q.bounds, Values: q.count(), Residuals: q.residuals}
}

// result answers a client when its query is ready.
func (c *Core) result(e *Effects, in Request, m *wire.Result) error {
	q := c.queries[m.Query]
	switch {
	case q == nil || q.closing:
		return c.notOpen(m.Query)
	case q.ready:
		e.send(in.From, q.reply())
	default:
		q.waiters = c.wait(e, q.waiters, in.From)
	}
	return nil
}

func (c *Core) closeRequest(e *Effects, in Request, m *wire.Close) error {
	if m.Query == 0 {
		c.closeAll(e, in.Caller)
	} else if q := c.queries[m.Query]; q != nil {
		c.unread(e, q, in.Caller)
	}
	e.send(in.From, &wire.OK{})
	return nil
}

// unread takes a caller from a query's readers. The last one's leaving closes it.
func (c *Core) unread(e *Effects, q *query, caller string) {
	if q.closing || !slices.Contains(q.readers, caller) {
		return
	}
	if q.readers = except(q.readers, caller); len(q.readers) == 0 {
		c.closeQuery(e, q, closed(q))
	}
}

func except(readers []string, caller string) []string {
	return slices.DeleteFunc(slices.Clone(readers), func(r string) bool { return r == caller })
}

func closed(q *query) *wire.Error {
	return wire.Errorf(wire.CodeUnknownQuery, "query", uint64(q.id), "open", "it was closed")
}

// closeAll closes all that a caller reads, and what it has asked for with steps that are not committed yet: these go
// on without.
func (c *Core) closeAll(e *Effects, caller string) {
	for _, o := range c.open {
		if o.readers = except(o.readers, caller); len(o.readers) > 0 {
			continue
		}
		if o != c.committing { // else its query is under way to the shards: settleStep closes it
			o.pre = nil
		}
	}
	for _, id := range sortedKeys(c.queries) {
		c.unread(e, c.queries[id], caller)
	}
}

// closeQuery ends a query on every shard. Its slots are free when all have answered: a fetch that
// is under way must not read a row that is written anew.
func (c *Core) closeQuery(e *Effects, q *query, why *wire.Error) {
	c.gone.put(q.id, why)
	q.closing, q.win, q.coef, q.parts, q.values, q.checked, q.prune, q.blocks = true, nil, nil, nil, nil, nil, nil, nil
	for _, w := range q.waiters {
		e.send(w.to, why)
	}
	q.waiters = nil
	if q.then != nil {
		q.then(e, why)
	}
	if q.token != (callerToken{}) { // a precondition has none
		delete(c.tokens, q.token)
		c.ended.put(q.token, why)
	}
	c.unmake(e, q)
	c.quit(e, q)
	if q.alone() { // no shard has heard of it
		delete(c.queries, q.id)
		return
	}
	c.forget(func(m wire.Control) bool {
		switch m := m.(type) {
		case *wire.Prepare:
			return m.Query == q.id
		case *wire.Coef:
			return m.Query == q.id
		case *wire.Norms:
			return m.Query == q.id
		case *wire.Factor:
			return m.Query == q.id
		case *wire.Columns:
			return m.Query == q.id
		case *wire.Prune:
			return m.Query == q.id
		case *wire.Recall:
			return m.Query == q.id
		case *wire.DotVectors:
			return m.Query == q.id
		}
		return about(m, q.id)
	})
	left := len(c.shards)
	for s := range c.shards {
		c.call(e, s, &wire.CloseQuery{Query: q.id}, func(e *Effects, m wire.Message) {
			if _, ok := m.(*wire.OK); !ok {
				c.restart(e, fmt.Sprintf("shard %d does not close query %d: %s", s, uint64(q.id), said(m)))
				return
			}
			if left--; left == 0 {
				delete(c.queries, q.id)
			}
		})
	}
}
