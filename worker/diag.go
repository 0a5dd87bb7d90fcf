package worker

import (
	"fmt"
	"slices"
	"unsafe"

	"mfac/shard"
	"mfac/shard/pool"
	"mfac/wire"
)

// This file: the factor of a diagonal query, and columns of the rows.

// factor is what has come of a diagonal query's L.
type factor struct {
	slots  []wire.Slot // of the rows, in L's order
	left   int64       // numbers that are not there yet
	pieces map[int64]*factorPiece
}

// factorPiece is numbers of L, by the first one, that are there or being written.
type factorPiece struct {
	n      int64
	done   bool
	waiter Token
	seq    uint64
}

// Ops of a factor.
type (
	// NewFactor makes room for the L of a query, of the rows in Slots.
	NewFactor struct {
		Query wire.QueryID
		Slots []int
	}
	// WriteFactor keeps numbers of it, from Lo on.
	WriteFactor struct {
		Query   wire.QueryID
		Lo      int64
		Numbers []float64
	}
	// ReadColumns reads columns of the rows of Mask: each is slots floats.
	ReadColumns struct {
		Cols []int64
		Mask shard.Mask
		Of   wire.QueryID // of the W that it holds, in place of the rows
	}
)

func (o NewFactor) use() use { return use{track: vecTrack, slot: -1, query: o.Query, ends: true} }

func (o WriteFactor) use() use { return use{track: vecTrack, slot: -1, query: o.Query} }

func (o ReadColumns) use() use { return use{track: queryTrack, slot: -1, mask: o.Mask, from: o.Of} }

// squareBytes is the memory of an L of n rows: a square, of which half is used.
func squareBytes(n int) int64 { return 8 * int64(n) * int64(n) }

// factor takes a piece of a query's L; the first one makes the query.
func (c *Core) factor(e *Effects, in Request, s *shardState, m *wire.Factor) error {
	if slices.Contains(s.closed, m.Query) {
		return unknownQuery(m.Query)
	}
	q := s.queries[m.Query]
	if q == nil {
		var err error
		if q, err = c.newFactor(e, s, m, nil); err != nil {
			return err
		}
	} else if q.prune != nil && q.factor == nil {
		if _, err := c.newFactor(e, s, m, q); err != nil {
			return err
		}
	}
	slots, err := m.Slots()
	if err != nil {
		return err
	}
	if q.factor == nil || !slices.Equal(slots, q.factor.slots) || m.Damping != q.damping || m.Result != q.result {
		return wire.Errorf(wire.CodeConflict, "query", uint64(m.Query), "with the rows, damping and result that it has")
	}
	if q.poison != nil {
		return q.poison
	}
	f := q.factor
	for lo, p := range f.pieces {
		if lo == m.Lo && p.n == m.N {
			if p.done {
				e.send(in.From, &wire.OK{Seq: m.Seq})
			} else {
				p.waiter, p.seq = in.From, m.Seq
			}
			return nil
		}
		if m.Lo < lo+p.n && lo < m.Lo+m.N {
			return wire.Errorf(wire.CodeConflict, "numbers", fmt.Sprintf("[%d, %d)", m.Lo, m.Lo+m.N), "equal to a piece that has come, or apart from all")
		}
	}
	p := &factorPiece{n: m.N, waiter: in.From, seq: m.Seq}
	f.pieces[m.Lo] = p
	c.queryJob(e, s, q, WriteFactor{Query: q.id, Lo: m.Lo, Numbers: m.Numbers()}, func(e *Effects, d Done) {
		if q.poison == nil {
			q.poison = d.Err
		}
		if q.poison != nil {
			err := *q.poison
			err.Seq = p.seq
			e.send(p.waiter, &err)
			return
		}
		p.done = true
		f.left -= p.n
		q.hasCoef = f.left == 0 && q.prune == nil && q.kept == nil
		e.send(p.waiter, &wire.OK{Seq: p.seq})
	})
	return nil
}

// newFactor makes room for the L of a query, and the query where it is nil: a diagonal one.
func (c *Core) newFactor(e *Effects, s *shardState, m *wire.Factor, q *query) (*query, error) {
	slots, err := m.Slots()
	if err != nil {
		return nil, err
	}
	list, err := s.slotsOf(slots)
	if err != nil {
		return nil, err
	}
	mask, err := s.checkMask(shard.MaskOf(s.slots, list...))
	if err != nil {
		return nil, err
	}
	bytes := squareBytes(len(list))
	if free := c.cfg.Capacity - c.used; bytes > free {
		return nil, wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes for the factor of a query on shard %d", bytes, s.index),
			fmt.Sprintf("at most the %d bytes free on worker %s", free, c.cfg.ID))
	}
	n := int64(len(list))
	if q == nil {
		q = &query{id: m.Query, kind: wire.KindDiag, vectors: 1, mask: mask}
		s.queries[q.id] = q
	}
	q.mask = mask // of a prune too: its factor is made of these rows
	q.damping, q.result = m.Damping, m.Result
	q.factor = &factor{slots: slots, left: n * (n + 1) / 2, pieces: map[int64]*factorPiece{}}
	q.vecBytes += bytes
	c.used += bytes
	c.queryJob(e, s, q, NewFactor{Query: q.id, Slots: list}, func(_ *Effects, d Done) { q.poison = d.Err })
	return q, nil
}

// products is how many products a column of a query's result takes, at 16 to a byte of a row that is
// read: they come from the cache.
func (q *query) products() int64 {
	if q.kind != wire.KindDiag {
		return 0
	}
	if q.of != 0 { // W is read
		return 8 * int64(q.rows)
	}
	n := int64(len(q.factor.slots))
	return n * n / 16
}

// columns reads columns of the rows.
func (c *Core) columns(e *Effects, in Request, s *shardState, m *wire.Columns) error {
	if slices.Contains(s.closed, m.Query) {
		return unknownQuery(m.Query)
	}
	mask, err := s.checkMask(m.Mask)
	if err != nil {
		return err
	}
	cols := wire.Indices(m.Payload)
	if most := wire.MaxColumnsFor(s.slots); len(cols) > most {
		return wire.Invalid("columns", len(cols), fmt.Sprintf("at most %d with %d slots", most, s.slots))
	}
	for i, j := range cols {
		if j < s.lo || j >= s.lo+s.cols {
			return wire.Invalid("index", j, fmt.Sprintf("within the shard's [%d, %d)", s.lo, s.lo+s.cols))
		}
		cols[i] -= s.lo
	}
	op := ReadColumns{Cols: cols, Mask: mask}
	if m.Of != 0 {
		if _, err := s.keptOf(m.Of); err != nil {
			return err
		}
		op = ReadColumns{Cols: cols, Of: m.Of}
	}
	head := m.Shard
	if s.again(head.Seq, in.From) {
		return nil
	}
	c.job(e, s, op, nil, func(e *Effects, d Done) { numbers(e, s.finish(head.Seq), head, d) })
	return nil
}

// square is the L of a query on one shard, with zeros above the diagonal.
type square struct {
	slots  []int
	l      []float64
	memory *region
}

// floatsOf is memory of zeros, aligned as newRegion's, as numbers.
func floatsOf(p []byte) []float64 {
	return unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(p))), len(p)/8)
}

func (n *numbersOf) newFactor(op NewFactor) error {
	memory, err := newRegion(squareBytes(len(op.Slots)))
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.factors[op.Query] = square{op.Slots, floatsOf(memory.bytes), memory}
	return nil
}

func (n *numbersOf) factorOf(id wire.QueryID) (square, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f, ok := n.factors[id]
	if !ok {
		return square{}, unknownQuery(id)
	}
	return f, nil
}

func (n *numbersOf) writeFactor(op WriteFactor) error {
	f, err := n.factorOf(op.Query)
	if err != nil {
		return err
	}
	f.write(op.Lo, op.Numbers)
	return nil
}

// write keeps numbers of L from number lo on.
func (f square) write(lo int64, x []float64) {
	rows := len(f.slots)
	row, at := 0, lo
	for at > int64(row) { // the row in which number Lo is
		at -= int64(row) + 1
		row++
	}
	for ; len(x) > 0 && row < rows; row, at = row+1, 0 {
		k := copy(f.l[row*rows+int(at):row*rows+row+1], x)
		x = x[k:]
	}
}

func (n *numbersOf) readColumns(op ReadColumns, abort *pool.Cancel) (Done, error) {
	out := make([]float64, len(op.Cols)*n.store.Slots())
	if op.Of != 0 {
		w, err := n.whiteOf(op.Of)
		if err != nil {
			return Done{}, err
		}
		return Done{Floats: out}, n.store.For(pool.Query, abort).WhiteColumns(out, op.Cols, w.w, w.slots)
	}
	return Done{Floats: out}, n.store.For(pool.Query, abort).Columns(out, op.Cols, op.Mask)
}

// freeFactor gives a query's L back. n.mu is held.
func (n *numbersOf) freeFactor(id wire.QueryID) {
	if f, ok := n.factors[id]; ok {
		delete(n.factors, id)
		f.memory.free()
	}
}

// units are the vectors that are 1 in one of cols each.
func units(n int64, cols []int64) []shard.Vector {
	out := make([]shard.Vector, len(cols))
	for i, j := range cols {
		out[i] = shard.Unit(n, j)
	}
	return out
}
