package worker

import (
	"fmt"
	"math"

	"mfac/internal/dtype"
	"mfac/internal/selection"
	"mfac/shard"
	"mfac/shard/pool"
	"mfac/wire"
)

// This file: prune and compensate queries (maths.md, "Pruning"). What the coordinator asks of them
// comes in the order of Seq; the last one is answered again when it is asked again.

// pruning is what a query of these has beside its vectors.
type pruning struct {
	kind   string
	seq    uint64 // of the last request
	waiter Token
	done   *Done // nil while it is under way
}

// Prune does a part of such a query: Do says which. Numbers are as wire.Prune's.
type Prune struct {
	Query   wire.QueryID
	Do      string
	Kind    string  // of the query
	Col     int64   // the shard's first column
	Slots   []int   // gram
	I0, I1  int     // gram
	Lo, N   int64   // score: the columns
	Damping float64 // score
	Key     uint64
	Known   int
	Ties    int64
	Rule    string
	Mask    shard.Mask // dots
	Blocks  bool       // score: the diagonal is there
	Pattern wire.Pattern
	Strips  []wire.Strip // group
	Index   []int64      // choose, with a pattern: columns of the run
}

func (o Prune) use() use {
	return use{track: queryTrack, slot: -1, query: o.Query, mask: o.Mask, list: o.Slots}
}

// pruneBytes is the memory for columns beside vectors: a number and a byte each.
func pruneBytes(cols int64) int64 { return 9 * cols }

// prune does what the owner asks of a prune or compensate query.
func (c *Core) prune(e *Effects, in Request, s *shardState, m *wire.Prune) error {
	q := s.queries[m.Query]
	if q == nil {
		return unknownQuery(m.Query)
	}
	if q.prune == nil {
		if err := c.beginPruning(s, q, m); err != nil {
			return err
		}
	}
	p := q.prune
	head := m.Shard
	switch {
	case head.Seq < p.seq: // a late copy: nobody waits for its answer
		return nil
	case head.Seq == p.seq:
		p.waiter = in.From
		if p.done != nil {
			numbers(e, p.waiter, head, *p.done)
		}
		return nil
	case p.seq != 0 && p.done == nil:
		return wire.Errorf(wire.CodeBusy, "query", uint64(q.id), "done with what it was asked for before")
	}
	op := Prune{Query: q.id, Do: m.Do, Kind: p.kind, Col: s.lo, Pattern: wire.Pattern{Keep: m.Keep, Of: m.Of}, I0: m.I0, I1: m.I1, Damping: q.damping, Key: m.Key, Known: m.Known, Ties: m.Ties, Rule: m.Rule}
	var err error
	switch m.Do {
	case wire.PruneGram:
		op.Slots, err = s.checkSlots(m.Slots())
	case wire.PruneScore:
		if q.blocks != nil { // the diagonal is there
			op.Blocks = true
		} else if q.factor == nil || q.factor.left > 0 {
			err = wire.Errorf(wire.CodeConflict, "factor", "not there", "whole before scores are worked out")
		} else {
			for _, t := range q.factor.slots {
				op.Slots = append(op.Slots, int(t))
			}
		}
		op.Lo, op.N = scorePart(s.cols, m.I0, m.I1)
	case wire.PruneGroup:
		op.Strips = wire.StripList(m.Payload)
		if lo, end := op.Strips[0].Lo, op.Strips[len(op.Strips)-1].Lo; lo > s.lo || end < s.lo+s.cols {
			err = wire.Invalid("strips", fmt.Sprintf("of columns [%d, %d)", lo, end), fmt.Sprintf("of the shard's [%d, %d)", s.lo, s.lo+s.cols))
		}
	case wire.PruneChoose:
		op.Index, err = s.checkChosen(m)
	case wire.PruneDots, wire.PruneResult:
		op.Mask, err = s.checkMask(m.Mask)
	}
	if err == nil && m.Do == wire.PruneResult && len(m.Payload) != 8*s.slots {
		err = wire.Invalid("payload bytes", len(m.Payload), fmt.Sprint(8*s.slots))
	}
	if err != nil {
		return err
	}
	p.seq, p.waiter, p.done = head.Seq, in.From, nil
	if m.Do == wire.PruneResult {
		q.kind, q.vectors, q.result, q.mask, q.coef, q.hasCoef = p.kind, 1, m.Result, op.Mask, wire.Floats(m.Payload), true
		p.done = &Done{}
		numbers(e, p.waiter, head, *p.done)
		return nil
	}
	c.pruneJob(e, s, q, op)
	return nil
}

// scorePart is the columns of part i of n; all where n is 0.
func scorePart(cols int64, i, n int) (lo, count int64) {
	if n == 0 {
		return 0, cols
	}
	at := func(i int) int64 { // whole blocks, of which cols/n·n and the rest each fit
		if i == n {
			return cols
		}
		return (cols/int64(n)*int64(i) + cols%int64(n)*int64(i)/int64(n)) / diagCols * diagCols
	}
	lo = at(i)
	return lo, at(i+1) - lo
}

// pruneJob does what was asked. Scores are worked out some columns at a time: other queries' jobs come
// in between.
func (c *Core) pruneJob(e *Effects, s *shardState, q *query, op Prune) {
	end := op.Lo + op.N
	if op.Do == wire.PruneScore && !op.Blocks {
		op.N = min(op.N, max(1, pruneProducts/int64(len(q.factor.slots)*len(q.factor.slots)+1)/diagCols)*diagCols)
	}
	c.queryJob(e, s, q, op, func(e *Effects, d Done) {
		if op.Lo += op.N; d.Err == nil && op.Lo < end {
			op.N = end - op.Lo
			c.pruneJob(e, s, q, op)
			return
		}
		q.prune.done = &d
		numbers(e, q.prune.waiter, wire.Shard{Seq: q.prune.seq, Run: s.run, Epoch: s.adopted, Shard: s.index}, d)
	})
}

const (
	pruneProducts = 1 << 30 // of a job that scores: hundreds of ms
	diagCols      = 64      // columns that are solved for together
)

// beginPruning makes a query whose vectors are there one of pruning.
func (c *Core) beginPruning(s *shardState, q *query, m *wire.Prune) error {
	if m.Do != wire.PruneBegin || q.kind != wire.KindVector || q.dots == nil || q.hasCoef {
		return wire.Errorf(wire.CodeConflict, "query", uint64(m.Query), "whole, and begun first")
	}
	want := "1 or 2"
	if m.Kind == wire.KindCompensate {
		want = "2"
	}
	if q.vectors > 2 || q.vectors < 2 && m.Kind == wire.KindCompensate {
		return wire.Invalid("vectors", q.vectors, want)
	}
	bytes := pruneBytes(s.cols)
	if free := c.cfg.Capacity - c.used; bytes > free {
		return wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes for the scores of a query on shard %d", bytes, s.index),
			fmt.Sprintf("at most the %d bytes free on worker %s", free, c.cfg.ID))
	}
	c.used += bytes
	q.vecBytes += bytes
	q.prune = &pruning{kind: m.Kind}
	return nil
}

// checkSlots checks that a list names rows of the window.
func (s *shardState) checkSlots(slots []wire.Slot) ([]int, error) {
	list := make([]int, len(slots))
	for i, t := range slots {
		if list[i] = int(t); list[i] >= s.slots {
			return nil, wire.Invalid("slot", t, fmt.Sprintf("below %d", s.slots))
		}
	}
	_, err := s.checkMask(shard.MaskOf(s.slots, list...))
	return list, err
}

// What becomes of a column.
const (
	free   byte = iota // it may be pruned, and is adapted
	fixed              // stays as it is
	gone               // was pruned before
	chosen             // is pruned, or changed as prescribed
	states
)

// pruned is the numbers of a query of pruning.
type pruned struct {
	state  []byte    // a column
	x      []float64 // a column: [H⁻¹]_jj, then what the rows are multiplied with
	memory *region
	strips []wire.Strip // of a pattern
}

func (n *numbersOf) prunedOf(id wire.QueryID) (pruned, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.pruned[id]
	if !ok {
		return pruned{}, unknownQuery(id)
	}
	return p, nil
}

// freePruned gives a query's numbers back. n.mu is held.
func (n *numbersOf) freePruned(id wire.QueryID) {
	if p, ok := n.pruned[id]; ok {
		delete(n.pruned, id)
		p.memory.free()
	}
}

func (n *numbersOf) prune(op Prune, abort *pool.Cancel) (Done, error) {
	views := n.vectorsOf(op.Query).views()
	if len(views) == 0 {
		return Done{}, unknownQuery(op.Query)
	}
	if op.Do == wire.PruneBegin {
		return n.pruneBegin(op, views, abort)
	}
	p, err := n.prunedOf(op.Query)
	if err != nil {
		return Done{}, err
	}
	store := n.store.For(pool.Query, abort)
	switch op.Do {
	case wire.PruneGram:
		out := make([]float64, op.I1*(op.I1+1)/2-op.I0*(op.I0+1)/2)
		return Done{Floats: out}, store.GramWithout(out, op.Slots, op.I0, op.I1, p.state)
	case wire.PruneScore:
		if op.Blocks {
			return Done{}, p.check(op.Col, p.x, 0, -1)
		}
		return Done{}, n.pruneScore(op, p, store)
	case wire.PruneCount:
		counts := make([]int64, selection.Bins)
		err := p.scores(store, views[0], abort, func(_ int64, _ float64, key uint64) { selection.Tally(counts, key, op.Key, op.Known) })
		out := make([]float64, len(counts)) // counts are below 2⁵³
		for i, c := range counts {
			out[i] = float64(c)
		}
		return Done{Floats: out}, err
	case wire.PruneGroup:
		p.strips = op.Strips
		n.mu.Lock()
		n.pruned[op.Query] = p
		n.mu.Unlock()
		return n.pruneGroup(op, p, views[0])
	case wire.PruneChoose:
		if !op.Pattern.IsZero() {
			return n.pruneChooseGroups(op, p, views[0], abort)
		}
		return n.pruneChoose(op, p, store, views[0], abort)
	case wire.PruneDots:
		out := make([]float64, store.Slots())
		return Done{Floats: out}, store.Dots(out, []shard.Vector{shard.Float64s(p.x)}, op.Mask)
	}
	return Done{}, wire.Invalid("do", op.Do, "one of the protocol")
}

// pruneCols is how many columns are taken at once: work of some ms between looks at whether the query
// was cancelled.
const pruneCols = 1 << 16

// each calls f for the columns of v, some at a time.
func each(store *shard.Store, v shard.Vector, abort *pool.Cancel, f func(lo int64, x []float64) error) error {
	x := make([]float64, min(pruneCols, store.Cols()))
	for lo := int64(0); lo < store.Cols(); lo += pruneCols {
		if err := abort.Err(); err != nil {
			return err
		}
		x = x[:min(pruneCols, store.Cols()-lo)]
		if err := store.Load(x, v, lo); err != nil {
			return err
		}
		if err := f(lo, x); err != nil {
			return err
		}
	}
	return nil
}

// pruneBegin makes room and looks at the mask. It answers how many columns there are of each state.
func (n *numbersOf) pruneBegin(op Prune, views []shard.Vector, abort *pool.Cancel) (Done, error) {
	cols := n.store.Cols()
	memory, err := newRegion((pruneBytes(cols) + 7) &^ 7)
	if err != nil {
		return Done{}, err
	}
	p := pruned{x: floatsOf(memory.bytes[:8*cols]), state: memory.bytes[8*cols:][:cols], memory: memory}
	n.mu.Lock()
	n.freePruned(op.Query)
	n.pruned[op.Query] = p
	n.mu.Unlock()
	if len(views) > 1 {
		err = each(n.store, views[1], abort, func(lo int64, x []float64) error {
			for j, v := range x {
				switch {
				case v == wire.MaskFree:
				case v == wire.MaskFixed && op.Kind == wire.KindCompensate:
					p.state[lo+int64(j)] = chosen
				case v == wire.MaskFixed:
					p.state[lo+int64(j)] = fixed
				case v == wire.MaskPruned && op.Kind == wire.KindPrune:
					p.state[lo+int64(j)] = gone
				case op.Kind == wire.KindCompensate:
					return wire.Invalid("mask of column "+fmt.Sprint(op.Col+lo+int64(j)), v, "0 or 1")
				default:
					return wire.Invalid("mask of column "+fmt.Sprint(op.Col+lo+int64(j)), v, "0, 1 or -1")
				}
			}
			return nil
		})
	}
	if err == nil && op.Kind == wire.KindCompensate {
		err = each(n.store, views[0], abort, func(lo int64, x []float64) error {
			for j, v := range x {
				if p.state[lo+int64(j)] == chosen {
					p.x[lo+int64(j)] = v
				}
			}
			return nil
		})
	}
	n.store.Times(p.x, 0) // products are with R⁻¹x where tensors have dampings of their own
	out := make([]float64, states)
	for _, s := range p.state {
		out[s]++
	}
	return Done{Floats: out}, err
}

// pruneScore works out the diagonal of H⁻¹, of columns [Lo, Lo+N).
func (n *numbersOf) pruneScore(op Prune, p pruned, store *shard.Store) error {
	f, err := n.factorOf(op.Query)
	if err != nil {
		return err
	}
	buf := make([]byte, 8*min(pruneCols, op.N))
	for lo, hi := op.Lo, op.Lo+op.N; lo < hi; lo += pruneCols {
		h := p.x[lo:min(lo+pruneCols, hi)]
		b := buf[:8*len(h)]
		bad, err := store.DiagBytes(b, shard.F64, f.l, f.slots, op.Damping, lo, lo+int64(len(h)))
		if err != nil {
			return err
		}
		copy(h, wire.Floats(b))
		if err := p.check(op.Col, h, lo, bad); err != nil {
			return err
		}
	}
	return nil
}

// check checks a diagonal h of H⁻¹ from column lo on; bad is one that is not finite, or −1. col is the shard's first column.
func (p pruned) check(col int64, h []float64, lo, bad int64) error {
	for j, x := range h {
		if at := lo + int64(j); p.state[at] == free && (at == bad || !(x > 0) || math.IsInf(2*x, 1)) {
			return wire.Errorf(wire.CodeIllConditioned, "diagonal of H⁻¹", fmt.Sprintf("%g at column %d", x, col+at), "> 0 and finite", "a larger damping helps")
		}
	}
	return nil
}

// scores calls f for each free column, with its weight w and the key of its score w²/(2[H⁻¹]_jj).
func (p pruned) scores(store *shard.Store, weights shard.Vector, abort *pool.Cancel, f func(j int64, w float64, key uint64)) error {
	return each(store, weights, abort, func(lo int64, x []float64) error {
		for j, w := range x {
			if at := lo + int64(j); p.state[at] == free {
				f(at, w, selection.Key(w*w/(2*p.x[at])))
			}
		}
		return nil
	})
}

// pruneChoose chooses the columns below Key, and the first Ties of those equal to it, and sets x to what
// the rule multiplies: w_j/[H⁻¹]_jj there, or w_j, and 0 elsewhere. It answers how many were chosen.
func (n *numbersOf) pruneChoose(op Prune, p pruned, store *shard.Store, weights shard.Vector, abort *pool.Cancel) (Done, error) {
	ties, count := op.Ties, 0
	err := p.scores(store, weights, abort, func(j int64, w float64, key uint64) {
		if key == op.Key && ties > 0 {
			ties--
		} else if key >= op.Key {
			return
		}
		p.state[j] = chosen
		count++
		if op.Rule == wire.RuleSummed {
			w /= p.x[j]
		}
		p.x[j] = w
	})
	n.clearRest(op, p)
	return Done{Floats: []float64{float64(count)}}, err
}

// clearRest leaves in x what is chosen alone. Products are with R⁻¹x where tensors have dampings of their own, which is
// as the summed rule wants it; by blocks they are with x.
func (n *numbersOf) clearRest(op Prune, p pruned) {
	for j, s := range p.state {
		if s != chosen {
			p.x[j] = 0
		}
	}
	if _, none := n.blockedOf(op.Query); none != nil && op.Rule != wire.RuleSummed {
		n.store.Times(p.x, 0)
	}
}

// prunedBytes works out columns of the result: w + Gᵀc where the column is free.
func (n *numbersOf) prunedBytes(dst []byte, op Compute, store *shard.Store) (bad int64, err error) {
	p, err := n.prunedOf(op.Query)
	if err != nil {
		return -1, err
	}
	views := n.vectorsOf(op.Query).views()
	if len(views) == 0 {
		return -1, unknownQuery(op.Query)
	}
	x, w := make([]float64, op.N), make([]float64, op.N)
	if op.Coef == nil {
		err = n.blockedChange(x, op)
	} else {
		err = store.Combine(x, op.Coef, op.Mask, op.Lo, op.Lo+op.N)
	}
	if err != nil {
		return -1, err
	}
	if err := store.Load(w, views[0], op.Lo); err != nil {
		return -1, err
	}
	compensate := op.Kind == wire.KindCompensate
	for j, s := range p.state[op.Lo:][:op.N] {
		switch {
		case s == free && !compensate:
			x[j] += w[j]
		case s == free:
		case s == fixed, s == chosen && compensate:
			x[j] = w[j]
		default:
			x[j] = 0
		}
	}
	i, err := store.RoundBytes(dst, dtype.Of(op.DType), x)
	if err != nil || i < 0 {
		return -1, err
	}
	return op.Lo + int64(i), nil
}
