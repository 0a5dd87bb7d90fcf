package worker

import (
	"cmp"
	"fmt"
	"slices"

	"mfac/shard"
	"mfac/wire"
)

// This file: a query, from prepare to close.

// checkMask checks that a query reads rows of this shard's window. A row that was evicted since
// the query's version counts: its slot is not used again while the query lives.
func (s *shardState) checkMask(mask []byte) (shard.Mask, error) {
	if len(mask) != (s.slots+7)/8 {
		return nil, wire.Invalid("mask bytes", len(mask), fmt.Sprint((s.slots+7)/8))
	}
	m := shard.Mask(slices.Clone(mask))
	for t := s.slots; t < 8*len(m); t++ {
		if m[t/8]>>(t%8)&1 != 0 {
			return nil, wire.Invalid("mask", fmt.Sprintf("slot %d", t), fmt.Sprintf("below %d", s.slots))
		}
	}
	for t := range s.slots {
		if m.Has(t) && !s.filled[wire.Slot(t)] {
			return nil, lostShard(s) // zeros, or another row, must not be taken for the row
		}
	}
	return m, nil
}

// prepare makes room for a query's vectors.
func (c *Core) prepare(e *Effects, in Request, s *shardState, m *wire.Prepare) error {
	if slices.Contains(s.closed, m.Query) {
		return unknownQuery(m.Query)
	}
	q := s.queries[m.Query]
	if q == nil {
		mask, err := s.checkMask(m.Mask)
		if err != nil {
			return err
		}
		if m.Vectors > wire.MaxVectorsFor(s.slots) {
			return wire.Invalid("vectors", m.Vectors, fmt.Sprintf("at most %d with %d slots", wire.MaxVectorsFor(s.slots), s.slots))
		}
		kind := cmp.Or(m.Kind, wire.KindVector)
		each := s.cols * int64(m.DType.Size())
		if kind == wire.KindSample { // they are made anew for each pass
			each = 0
		}
		if free := c.cfg.Capacity - c.used; each > 0 && int64(m.Vectors) > free/each {
			return wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes for the vectors of a query on shard %d", int64(m.Vectors)*each, s.index),
				fmt.Sprintf("at most the %d bytes free on worker %s", free, c.cfg.ID))
		}
		q = &query{id: m.Query, kind: kind, vectors: m.Vectors, dtype: m.DType, mask: mask, vecBytes: int64(m.Vectors) * each}
		for range m.Vectors {
			if wire.Sent(kind) {
				q.slices = append(q.slices, slice{lo: s.lo, cols: s.cols})
			}
		}
		s.queries[q.id] = q
		c.used += q.vecBytes
		c.queryJob(e, s, q, NewVectors{Query: q.id, Vectors: m.Vectors, DType: m.DType, Kind: kind, Seed: m.Seed, First: m.First, Lo: s.lo}, func(e *Effects, d Done) {
			if d.Err != nil {
				q.poison = d.Err
				c.progressQuery(e, s, q)
			}
		})
	}
	q.waiter, q.seq = in.From, m.Seq
	c.progressQuery(e, s, q)
	return nil
}

func unknownQuery(id wire.QueryID) *wire.Error {
	return wire.Errorf(wire.CodeUnknownQuery, "query", uint64(id), "open on this shard", "it was closed, or its coordinator changed")
}

// vec admits columns of a query's vector.
func (c *Core) vec(e *Effects, in Request, m *wire.Vec) error {
	s, err := c.held(m.Run, m.Shard, m.Epoch)
	if err != nil {
		return err
	}
	q := s.queries[m.Query]
	if q == nil {
		if slices.Contains(s.closed, m.Query) {
			return unknownQuery(m.Query)
		}
		return c.park(in, int64(len(m.Payload)), wire.Errorf(wire.CodeNotOpen, "query", uint64(m.Query), "open on this shard", "send the chunk again in a moment"))
	}
	if m.Index >= len(q.slices) {
		return wire.Invalid("index", m.Index, fmt.Sprintf("below the query's %d vectors", len(q.slices)))
	}
	if m.DType != q.dtype {
		return wire.Invalid("dtype", m.DType, string(q.dtype)+", as the query says")
	}
	w := write{
		lo: m.Lo, n: m.N, dtype: m.DType, sum: m.Sum, want: m.Want, payload: m.Payload, slice: &q.slices[m.Index],
		op:       WriteVector{Query: q.id, Index: m.Index, Lo: m.Lo - s.lo, Col: m.Lo, Payload: m.Payload, Sum: m.Sum},
		poison:   &q.poison,
		staged:   q.have,
		columns:  s.cols * int64(len(q.slices)),
		gather:   &q.gather,
		progress: func(e *Effects) { c.progressQuery(e, s, q) },
	}
	return c.write(e, in, s, w)
}

func (q *query) have() int64 {
	var n int64
	for i := range q.slices {
		n += q.slices[i].have
	}
	return n
}

func (q *query) whole() bool {
	for i := range q.slices {
		if !q.slices[i].whole() {
			return false
		}
	}
	return q.poison == nil
}

// progressQuery answers the coordinator's prepare once there is something to say.
func (c *Core) progressQuery(e *Effects, s *shardState, q *query) {
	switch {
	case s.queries[q.id] != q:
	case q.poison != nil:
		err := *q.poison
		err.Seq = q.seq
		e.send(q.waiter, &err)
		q.waiter = 0
	case q.dots != nil:
		head := wire.Shard{Seq: q.seq, Run: s.run, Epoch: s.adopted, Shard: s.index}
		numbers(e, q.waiter, head, Done{Floats: q.dots})
		q.waiter = 0
	case q.gather.working:
	case q.whole():
		op := Dots{Query: q.id, Mask: q.mask, Cols: q.gather.take(), Begun: q.gather.begun}
		c.queryJob(e, s, q, op, func(e *Effects, d Done) {
			q.gather.working, q.dots, q.poison = false, d.Floats, d.Err
			c.progressQuery(e, s, q)
		})
	case q.gather.cols >= c.cfg.GatherCols:
		op := AccumulateDots{Query: q.id, Mask: q.mask, Cols: q.gather.take()}
		q.gather.begun = true
		c.queryJob(e, s, q, op, func(e *Effects, d Done) {
			q.gather.working, q.poison = false, d.Err
			c.progressQuery(e, s, q)
		})
	}
}

// coef gives a query its coefficients; a combination and a row begin with them.
func (c *Core) coef(s *shardState, m *wire.Coef) error {
	if slices.Contains(s.closed, m.Query) {
		return unknownQuery(m.Query)
	}
	q := s.queries[m.Query]
	if q != nil && q.kind != m.Kind {
		return wire.Errorf(wire.CodeConflict, "kind", m.Kind, q.kind+", as the query is")
	}
	if q != nil && q.hasCoef {
		return nil
	}
	mask, err := s.checkMask(m.Mask)
	if err != nil {
		return err
	}
	want := 8 * m.Vectors * s.slots
	if m.Kind == wire.KindColumn {
		want += 8 * m.Vectors
	}
	if m.Kind != wire.KindRow && len(m.Payload) != want {
		return wire.Invalid("payload bytes", len(m.Payload), fmt.Sprint(want))
	}
	switch {
	case wire.Prepared(m.Kind):
		if q == nil {
			return unknownQuery(m.Query)
		}
		if q.dots == nil || q.vectors != m.Vectors {
			return wire.Errorf(wire.CodeConflict, "query", uint64(m.Query), "whole, with as many vectors")
		}
	default:
		if m.Kind == wire.KindRow && mask.Count() != 1 {
			return wire.Invalid("mask", mask.Count(), "one slot for a row")
		}
		q = &query{id: m.Query, kind: m.Kind, vectors: m.Vectors, mask: mask}
		s.queries[q.id] = q
	}
	q.result, q.damping, q.hasCoef, q.coef = m.Result, m.Damping, true, wire.Floats(m.Payload)
	if m.Kind == wire.KindColumn {
		n := m.Vectors * s.slots
		q.coef, q.ones = q.coef[:n], wire.Indices(m.Payload[8*n:])
		for i := range q.ones {
			q.ones[i] -= s.lo
		}
	}
	return nil
}

// norms works out ‖v − Gᵀc‖², or ‖Gᵀc‖² of a combination, for a bound that scalars can't settle.
func (c *Core) norms(e *Effects, in Request, s *shardState, m *wire.Norms) error {
	q := s.queries[m.Query]
	if q == nil || !q.hasCoef || q.kind == wire.KindRow || q.kind == wire.KindDiag || q.prune != nil || q.blocks != nil {
		return unknownQuery(m.Query)
	}
	head := m.Shard
	if s.again(head.Seq, in.From) {
		return nil
	}
	c.queryJob(e, s, q, Residuals{Step: q.step, Query: q.id, Kind: q.kind, Vectors: q.vectors, Damping: q.damping, Coef: q.coef, Mask: q.mask, Ones: q.ones}, func(e *Effects, d Done) { numbers(e, s.finish(head.Seq), head, d) })
	return nil
}

// fetch computes columns of a result.
func (c *Core) fetch(e *Effects, in Request, m *wire.Fetch) error {
	s, err := c.held(m.Run, m.Shard, m.Epoch)
	if err != nil {
		return err
	}
	q := s.queries[m.Query]
	if q == nil || !q.hasCoef {
		return unknownQuery(m.Query)
	}
	if m.Index >= q.vectors {
		return wire.Invalid("index", m.Index, fmt.Sprintf("below the query's %d vectors", q.vectors))
	}
	if m.DType != q.result {
		return wire.Invalid("dtype", m.DType, string(q.result)+", as the query says")
	}
	if m.Lo < s.lo || m.N > s.cols || m.Lo-s.lo > s.cols-m.N {
		return wire.Invalid("columns", fmt.Sprintf("[%d, %d)", m.Lo, m.Lo+m.N), fmt.Sprintf("within the shard's [%d, %d)", s.lo, s.lo+s.cols))
	}
	key := fetchKey{m.Index, m.Lo, m.N}
	if waiters, ok := q.fetching[key]; ok { // asked again before it is worked out: that is done once
		if len(waiters) >= mostWaiters {
			c.refuse(e, waiters[0].Request, tooManyWait())
			waiters = waiters[1:]
		}
		q.fetching[key] = append(waiters, fetchWaiter{in, m.Want})
		return nil
	}
	rows := int64(s.slots)
	if q.kind == wire.KindRow {
		rows = 1
	}
	bytes, work := m.N*int64(m.DType.Size()), m.N*(rows*int64(s.store.Size())+q.products())
	if c.work >= maxWork {
		return wire.Errorf(wire.CodeBusy, "bytes of rows to be read", c.work, fmt.Sprintf("below %d", int64(maxWork)), "ask again in a moment")
	}
	if err := c.flow.admit(bytes); err != nil {
		return err
	}
	c.work += work
	if q.fetching == nil {
		q.fetching = map[fetchKey][]fetchWaiter{}
	}
	q.fetching[key] = []fetchWaiter{{in, m.Want}}
	op := Compute{
		Step: q.step, Query: q.id, Kind: q.kind, Index: m.Index, Damping: q.damping, Coef: q.coef, Mask: q.mask,
		Refined: q.refined, Lo: m.Lo - s.lo, N: m.N, Col: m.Lo, DType: m.DType, Ones: q.ones, From: q.of,
	}
	c.queryJob(e, s, q, op, func(e *Effects, d Done) {
		c.flow.inflight -= bytes
		c.work -= work
		waiters := q.fetching[key]
		delete(q.fetching, key)
		for _, w := range waiters {
			if d.Err != nil {
				c.refuse(e, w.Request, d.Err)
				continue
			}
			p := &wire.Part{Lo: m.Lo, N: m.N, DType: m.DType, Sum: d.Sum, Payload: d.Payload}
			p.Credit, p.CreditMS = c.credit(w.Caller, w.want)
			e.send(w.From, p)
		}
		if d.Payload != nil {
			e.Recycle = append(e.Recycle, d.Payload)
		}
	})
	return nil
}

// fetchKey names columns of a result.
type fetchKey struct {
	index int
	lo, n int64
}

type fetchWaiter struct {
	Request
	want int64
}

// closeQuery ends a query for good: a late copy of what made it can't make it again.
func (c *Core) closeQuery(e *Effects, s *shardState, id wire.QueryID) {
	if q := s.queries[id]; q != nil {
		c.dropQuery(e, s, q)
	}
	if !slices.Contains(s.closed, id) {
		s.closed = append(s.closed, id)
		if len(s.closed) > closedMemory {
			s.closed = slices.Delete(s.closed, 0, 1)
		}
	}
}

func (c *Core) dropQuery(e *Effects, s *shardState, q *query) {
	delete(s.queries, q.id)
	for _, id := range sortedKeys(q.aborts) {
		e.Cancel = append(e.Cancel, q.aborts[id])
	}
	if wire.Prepared(q.kind) || q.factor != nil || q.prune != nil || q.kept != nil || q.blocks != nil {
		c.used -= q.vecBytes
		free := FreeVectors{Query: q.id}
		if q.kept != nil {
			for _, t := range q.kept.slots {
				free.Slots = append(free.Slots, int(t))
			}
		}
		c.job(e, s, free, nil, func(*Effects, Done) {})
	}
}
