package worker

import (
	"errors"
	"fmt"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/pool"
	"mfac/wire"
)

// This file: queries of blocks (maths.md, "Blocks"; docs/blocks.md). What the coordinator asks of them comes in the order of Seq; the
// last one is answered again when it is asked again.

// kindBlocks is the kind of a query of blocks that is no prune, from begin on.
const kindBlocks = "blocks"

// blocking is what a query of blocks has.
type blocking struct {
	sequence
	part   wire.Partition
	slots  []int // of the rows, oldest first
	lambda float64
	n      int
	k      int // results

	weights []float64 // of the rows; nil: all are 1
	combine bool      // of combinations: there are no vectors
}

// sequence is requests of a query that come one after the other.
type sequence struct {
	seq    uint64 // of the last request
	waiter Token
	done   *Done // nil while it is under way
}

// Blocks does a part of such a query: Do and What say which. Numbers are as wire.Blocks'. Columns count from the shard's first.
type Blocks struct {
	Query   wire.QueryID
	Do      string
	What    string
	Col     int64 // the shard's first column
	Vectors int
	Spec    shard.BlockSpec
	Blocks  []shard.Block // work
	Part    shard.Block   // gram, dots, finish
	I0, I1  int           // gram
	Lo      int64         // factor
	Numbers []float64     // factor, finish
	Prune   bool
	Cols    []int64 // elements
}

func (o Blocks) use() use {
	return use{track: queryTrack, slot: -1, query: o.Query, list: o.Spec.Slots}
}

// blocksBytes is the memory of such a query that lasts: its results, and the L of a block in several shards.
func blocksBytes(cols int64, vectors, rows int) int64 {
	if vectors == 0 {
		return 0
	}
	return 8*cols*int64(vectors) + squareBytes(rows)
}

// blockWorkBytes is what it takes beside while a block is worked out: A, K and its factor.
func blockWorkBytes(rows int) int64 { return squareBytes(rows) * 5 / 2 }

// blocks does what the owner asks of a query of blocks.
func (c *Core) blocks(e *Effects, in Request, s *shardState, m *wire.Blocks) error {
	q := s.queries[m.Query]
	if q == nil || q.blocks == nil {
		var err error
		if q, err = c.beginBlocks(s, q, m); err != nil {
			return err
		}
	}
	b := q.blocks
	head := m.Shard
	switch {
	case head.Seq < b.seq: // a late copy: nobody waits for its answer
		return nil
	case head.Seq == b.seq:
		b.waiter = in.From
		if b.done != nil {
			numbers(e, b.waiter, head, *b.done)
		}
		return nil
	case b.seq != 0 && b.done == nil:
		return wire.Errorf(wire.CodeBusy, "query", uint64(q.id), "done with what it was asked for before")
	}
	op := Blocks{
		Query: q.id, Do: m.Do, What: m.What, Col: s.lo, Vectors: b.k, I0: m.I0, I1: m.I1, Lo: m.Lo, Prune: q.prune != nil,
		Spec: shard.BlockSpec{Slots: b.slots, Lambda: b.lambda, N: b.n, Weights: b.weights}, Part: shard.Block{Lo: m.Lo - s.lo, Hi: m.Hi - s.lo},
	}
	if err := s.checkBlocks(b, q, m); err != nil {
		return err
	}
	b.seq, b.waiter, b.done = head.Seq, in.From, nil
	switch m.Do {
	case wire.BlocksResult:
		if q.prune != nil {
			q.kind, q.vectors = q.prune.kind, 1
		}
		q.result, q.hasCoef = m.Result, true
		b.done = &Done{}
		numbers(e, b.waiter, head, *b.done)
		return nil
	case wire.BlocksElements:
		op.Cols = wire.Indices(m.Payload)
		for i := range op.Cols {
			op.Cols[i] -= s.lo
		}
	case wire.BlocksFactor, wire.BlocksFinish:
		op.Numbers = wire.Floats(m.Payload)
	case wire.BlocksWork:
		op.Numbers = wire.Floats(m.Payload)
		count := 2 * b.k
		if m.What == wire.BlocksResidual {
			count = b.k
		}
		c.blocksWork(e, s, q, op, s.lo, make([]float64, count))
		return nil
	}
	c.queryJob(e, s, q, op, func(e *Effects, d Done) { b.finish(e, s, d) })
	return nil
}

// finish answers the last request.
func (b *blocking) finish(e *Effects, s *shardState, d Done) {
	b.done = &d
	numbers(e, b.waiter, wire.Shard{Seq: b.seq, Run: s.run, Epoch: s.adopted, Shard: s.index}, d)
}

const (
	blockProducts = 1 << 30 // of a job: hundreds of ms
	mostBlocks    = 1 << 14 // of a job
)

// blocksWork works out the blocks in the shard from column at on, some at a time: other queries' jobs come in between. sums has
// what came of those before.
func (c *Core) blocksWork(e *Effects, s *shardState, q *query, op Blocks, at int64, sums []float64) {
	op.Blocks = nil
	n, work := int64(len(op.Spec.Slots)), int64(0)
	for at < s.lo+s.cols && len(op.Blocks) < mostBlocks && work < blockProducts {
		lo, hi := q.blocks.part.At(at)
		if lo >= s.lo && hi <= s.lo+s.cols {
			op.Blocks = append(op.Blocks, shard.Block{Lo: lo - s.lo, Hi: hi - s.lo})
			order := min(hi-lo, n)
			work += (order + 1) * (hi - lo) * (n + 1)
		}
		at = hi
	}
	c.queryJob(e, s, q, op, func(e *Effects, d Done) {
		for i, x := range d.Floats {
			sums[i] += x
		}
		if d.Err == nil && at < s.lo+s.cols {
			c.blocksWork(e, s, q, op, at, sums)
			return
		}
		d.Floats = sums
		q.blocks.finish(e, s, d)
	})
}

// checkBlocks checks a request against the query and the shard.
func (s *shardState) checkBlocks(b *blocking, q *query, m *wire.Blocks) error {
	n, k := len(b.slots), b.k
	if m.Do == wire.BlocksBegin && b.seq != 0 {
		return wire.Errorf(wire.CodeConflict, "query", uint64(q.id), "begun once")
	}
	if m.What == wire.BlocksJoint && q.prune == nil {
		return wire.Invalid("what", m.What, "solve or diag, of a query that is no prune")
	}
	if m.What == wire.BlocksResidual {
		if q.prune != nil || !b.combine && q.slices == nil {
			return wire.Invalid("what", m.What, "left out but for vectors and combinations")
		}
	} else if (m.What == wire.BlocksCombine) != b.combine && m.What != "" {
		return wire.Invalid("what", m.What, "combine, of a query that is of combinations, and of no other")
	}
	if m.What == wire.BlocksSolve && q.prune == nil && q.slices == nil {
		return wire.Invalid("what", m.What, "diag, of a query without vectors")
	}
	switch m.Do {
	case wire.BlocksWork, wire.BlocksDots, wire.BlocksFinish, wire.BlocksFactor, wire.BlocksResult:
		if k == 0 {
			return wire.Invalid("do", m.Do, "gram, elements or inner, of a query without results")
		}
	}
	switch m.Do {
	case wire.BlocksGram, wire.BlocksDots, wire.BlocksFinish, wire.BlocksElements, wire.BlocksInner:
		if m.Lo < s.lo || m.Hi > s.lo+s.cols {
			return wire.Invalid("columns", fmt.Sprintf("[%d, %d)", m.Lo, m.Hi), fmt.Sprintf("within the shard's [%d, %d)", s.lo, s.lo+s.cols))
		}
	}
	switch {
	case m.Do == wire.BlocksGram && m.I1 > n:
		return wire.Invalid("rows", fmt.Sprintf("[%d, %d)", m.I0, m.I1), fmt.Sprintf("within [0, %d)", n))
	case m.Do == wire.BlocksInner && m.Hi-m.Lo > int64(n):
		return wire.Invalid("columns", fmt.Sprintf("[%d, %d)", m.Lo, m.Hi), fmt.Sprintf("at most the %d rows", n))
	case m.Do == wire.BlocksFactor && m.Lo+int64(len(m.Payload)/8) > int64(n)*int64(n+1)/2:
		return wire.Invalid("numbers", m.Lo+int64(len(m.Payload)/8), fmt.Sprintf("at most %d", n*(n+1)/2))
	case m.Do == wire.BlocksDots && b.combine && m.What != wire.BlocksResidual:
		return wire.Invalid("do", m.Do, "of a query with vectors")
	case m.Do == wire.BlocksWork && !b.combine && len(m.Payload) > 0:
		return wire.Invalid("payload bytes", len(m.Payload), "0 but of combinations")
	case (m.Do == wire.BlocksFinish && m.What != wire.BlocksDiag || m.Do == wire.BlocksWork && b.combine) && len(m.Payload) != 8*n*k:
		return wire.Invalid("payload bytes", len(m.Payload), fmt.Sprint(8*n*k))
	}
	return nil
}

// beginBlocks makes a query one of blocks: one whose vectors are there, or nil, of a diagonal.
func (c *Core) beginBlocks(s *shardState, q *query, m *wire.Blocks) (*query, error) {
	if q == nil {
		for _, id := range s.closed {
			if id == m.Query {
				return nil, unknownQuery(m.Query)
			}
		}
	}
	made := m.What == wire.BlocksDiag || m.What == wire.BlocksCombine
	begun := q != nil && q.prune != nil || q != nil && q.kind == wire.KindVector && q.dots != nil && !q.hasCoef
	if m.Do != wire.BlocksBegin || q == nil && !made || q != nil && !begun {
		return nil, wire.Errorf(wire.CodeConflict, "query", uint64(m.Query), "whole, and begun first")
	}
	if q != nil && q.prune == nil && q.vectors != m.Vectors || q != nil && q.prune != nil && m.Vectors != 1 || m.What == wire.BlocksDiag && m.Vectors > 1 {
		return nil, wire.Invalid("vectors", m.Vectors, "as many as the query has")
	}
	slots, weights, part := m.Begun()
	list, err := s.checkSlots(slots)
	if err != nil {
		return nil, err
	}
	if first := part.Starts[0]; first > s.lo || part.End < s.lo+s.cols || part.Starts[len(part.Starts)-1] >= part.End {
		return nil, wire.Invalid("columns", fmt.Sprintf("[%d, %d)", first, part.End), fmt.Sprintf("with the shard's [%d, %d)", s.lo, s.lo+s.cols))
	}
	bytes := blocksBytes(s.cols, m.Vectors, len(list)) + blockWorkBytes(len(list))
	if free := c.cfg.Capacity - c.used; bytes > free {
		return nil, wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes for the blocks of a query on shard %d", bytes, s.index),
			fmt.Sprintf("at most the %d bytes free on worker %s", free, c.cfg.ID))
	}
	if q == nil {
		q = &query{id: m.Query}
		s.queries[q.id] = q
	}
	if q.prune == nil {
		q.kind, q.vectors = kindBlocks, m.Vectors
	}
	c.used += bytes
	q.vecBytes += bytes
	q.mask = shard.MaskOf(s.slots, list...)
	q.blocks = &blocking{part: part, slots: list, lambda: m.Damping, n: m.N, k: m.Vectors, weights: weights, combine: m.What == wire.BlocksCombine}
	return q, nil
}

// blocked is the numbers of a query of blocks.
type blocked struct {
	x      [][]float64 // results
	l      []float64   // of a block in several shards
	what   string      // x is
	memory *region
}

func (n *numbersOf) blockedOf(id wire.QueryID) (blocked, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b, ok := n.blocked[id]
	if !ok {
		return blocked{}, unknownQuery(id)
	}
	return b, nil
}

// freeBlocked gives a query's numbers back. n.mu is held.
func (n *numbersOf) freeBlocked(id wire.QueryID) {
	if b, ok := n.blocked[id]; ok {
		delete(n.blocked, id)
		b.memory.free()
	}
}

func (n *numbersOf) beginBlocks(op Blocks) error {
	if op.Vectors == 0 {
		return nil
	}
	cols, rows := n.store.Cols(), len(op.Spec.Slots)
	memory, err := newRegion(blocksBytes(cols, op.Vectors, rows))
	if err != nil {
		return err
	}
	all := floatsOf(memory.bytes)
	b := blocked{memory: memory, l: all[cols*int64(op.Vectors):]}
	for i := range int64(op.Vectors) {
		b.x = append(b.x, all[i*cols:(i+1)*cols])
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.freeBlocked(op.Query)
	n.blocked[op.Query] = b
	return nil
}

// blocks carries out a part.
func (n *numbersOf) blocks(op Blocks, abort *pool.Cancel) (Done, error) {
	if op.Do == wire.BlocksBegin {
		return Done{}, n.beginBlocks(op)
	}
	if op.Vectors == 0 {
		return n.blockNumbers(op, n.store.For(pool.Query, abort))
	}
	b, err := n.blockedOf(op.Query)
	if err != nil {
		return Done{}, err
	}
	store, spec := n.store.For(pool.Query, abort), op.Spec
	views, diag := n.vectorsOf(op.Query).views(), b.x[0]
	if op.Prune {
		p, err := n.prunedOf(op.Query)
		if err != nil {
			return Done{}, err
		}
		spec.Out = p.out(op.What)
		views, diag = []shard.Vector{shard.Float64s(p.x)}, p.x
	}
	if op.Prune && (op.Do == wire.BlocksWork || op.Do == wire.BlocksFinish) {
		n.mu.Lock()
		b.what = op.What
		n.blocked[op.Query] = b
		n.mu.Unlock()
	}
	switch op.Do {
	case wire.BlocksWork:
		d, err := workBlocks(op, spec, store, b, views, diag)
		return d, n.ill(op, err)
	case wire.BlocksGram:
		out := make([]float64, op.I1*(op.I1+1)/2-op.I0*(op.I0+1)/2)
		return Done{Floats: out}, store.PartGram(out, op.Part, spec, op.I0, op.I1)
	case wire.BlocksDots:
		if op.What == wire.BlocksResidual {
			views = viewsOf(b.x)
		}
		out := make([]float64, len(views)*(len(spec.Slots)+1))
		return Done{Floats: out}, store.PartDots(out, views, op.Part, spec, op.What == wire.BlocksJoint)
	case wire.BlocksFactor:
		square{slots: spec.Slots, l: b.l}.write(op.Lo, op.Numbers)
		return Done{}, nil
	case wire.BlocksFinish:
		d, err := finishBlocks(op, spec, store, b, views, diag)
		return d, n.ill(op, err)
	}
	return Done{}, wire.Invalid("do", op.Do, "one of the protocol")
}

// blockNumbers is of a query whose answer is numbers.
func (n *numbersOf) blockNumbers(op Blocks, store *shard.Store) (Done, error) {
	switch op.Do {
	case wire.BlocksGram:
		out := make([]float64, op.I1*(op.I1+1)/2-op.I0*(op.I0+1)/2)
		return Done{Floats: out}, store.PartGram(out, op.Part, op.Spec, op.I0, op.I1)
	case wire.BlocksInner:
		packed, _, err := store.BlockGram(op.Part, op.Spec)
		return Done{Floats: packed}, err
	case wire.BlocksElements:
		out := make([]float64, 1+len(op.Cols)*len(op.Cols))
		var err error
		out[0], err = store.BlockElements(out[1:], op.Cols, op.Part, op.Spec)
		return Done{Floats: out}, n.ill(op, err)
	}
	return Done{}, wire.Invalid("do", op.Do, "one of the protocol")
}

// viewsOf is numbers as vectors.
func viewsOf(x [][]float64) []shard.Vector {
	out := make([]shard.Vector, len(x))
	for i := range x {
		out[i] = shard.Float64s(x[i])
	}
	return out
}

func workBlocks(op Blocks, spec shard.BlockSpec, store *shard.Store, b blocked, views []shard.Vector, diag []float64) (Done, error) {
	var sums []shard.BlockSum
	var err error
	switch op.What {
	case wire.BlocksSolve:
		sums, err = store.SolveBlocks(b.x, views, spec, op.Blocks)
	case wire.BlocksCombine:
		sums, err = store.CombineBlocks(b.x, op.Numbers, spec, op.Blocks)
	case wire.BlocksResidual:
		var a []float64 // of combinations
		if len(views) == 0 {
			a = op.Numbers
		}
		residuals, err := store.ResidualBlocks(b.x, views, a, spec, op.Blocks)
		return Done{Floats: residuals}, err
	case wire.BlocksDiag:
		sums = make([]shard.BlockSum, 1)
		sums[0], err = store.DiagBlocks(diag, spec, op.Blocks)
	default:
		sums = make([]shard.BlockSum, 1)
		err = store.JointBlocks(b.x[0], views[0], spec, op.Blocks)
	}
	var d Done
	for _, s := range sums {
		d.Floats = append(d.Floats, s.Error2, s.Norm2)
	}
	return d, err
}

func finishBlocks(op Blocks, spec shard.BlockSpec, store *shard.Store, b blocked, views []shard.Vector, diag []float64) (Done, error) {
	switch op.What {
	case wire.BlocksSolve:
		norms, err := store.PartSolve(b.x, views, op.Numbers, op.Part, spec)
		return Done{Floats: norms}, err
	case wire.BlocksCombine:
		norms, err := store.PartCombine(b.x, op.Numbers, op.Part, spec)
		return Done{Floats: norms}, err
	case wire.BlocksResidual:
		residuals, err := store.PartResidual(b.x, views, op.Numbers, op.Part, spec)
		return Done{Floats: residuals}, err
	case wire.BlocksDiag:
		norm, err := store.PartDiag(diag, b.l, op.Part, spec)
		return Done{Floats: []float64{norm}}, err
	}
	return Done{Floats: []float64{0}}, store.PartChange(b.x[0], op.Numbers, op.Part, spec)
}

// ill gives a block that can't be solved its columns in the run.
func (n *numbersOf) ill(op Blocks, err error) error {
	var ill *shard.IllConditioned
	if !errors.As(err, &ill) {
		return err
	}
	return wire.Errorf(wire.CodeIllConditioned, "block", fmt.Sprintf("of columns [%d, %d)", op.Col+ill.Lo, op.Col+ill.Hi), fmt.Sprintf("solvable at damping %g", op.Spec.Lambda), "a larger damping helps")
}

// out is which columns are no part of H: of the joint update, those that are pruned too.
func (p pruned) out(what string) []byte {
	if what == wire.BlocksJoint {
		return p.state
	}
	out := make([]byte, len(p.state))
	for j, s := range p.state {
		if s == fixed || s == gone {
			out[j] = 1
		}
	}
	return out
}

// blockedBytes works out columns of the result.
func (n *numbersOf) blockedBytes(dst []byte, op Compute, store *shard.Store) (bad int64, err error) {
	b, err := n.blockedOf(op.Query)
	if err != nil {
		return -1, err
	}
	if op.Index >= len(b.x) {
		return -1, unknownQuery(op.Query)
	}
	i, err := store.RoundBytes(dst, dtype.Of(op.DType), b.x[op.Index][op.Lo:op.Lo+op.N])
	if err != nil || i < 0 {
		return -1, err
	}
	return op.Lo + int64(i), nil
}

// blockedChange sets x to columns of what the other weights of a prune change by.
func (n *numbersOf) blockedChange(x []float64, op Compute) error {
	b, err := n.blockedOf(op.Query)
	if err != nil {
		return err
	}
	copy(x, b.x[0][op.Lo:op.Lo+op.N])
	if b.what == wire.BlocksSolve { // −H⁻¹t
		for j := range x {
			x[j] = -x[j]
		}
	}
	return nil
}
