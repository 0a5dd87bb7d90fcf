package coordinator

import (
	"fmt"
	"math"

	"mfac/coordinator/window"
	"mfac/shard"
	"mfac/wire"
)

// This file: diagonal, columns and sub-blocks of H⁻¹ (maths.md, "Elements, diagonal, columns").

const (
	// factorWindow is how many pieces of a factor are on their way to one shard.
	factorWindow = 4

	// blockProducts is the most products that a sub-block may take: about a second, in which nothing
	// else of the run is answered.
	blockProducts = 1 << 32
)

// diagBytes is what a diagonal, or a query of so many indices, holds till it is answered: the factor;
// columns of G as they came and by row; and the block.
func (c *Core) diagBytes(kind string, indices int) int64 {
	m, slots, q := int64(c.rec.Spec.Window), int64(c.rec.Spec.Slots()), int64(indices)
	switch kind {
	case wire.KindDiag:
		return 8 * (m * (m + 1) / 2)
	case wire.KindColumn:
		return 8 * 3 * q * (slots + 1)
	case wire.KindSubblock:
		return 8 * (2*q*slots + q*q)
	}
	return 0
}

// diagQuery sends the factor to the shards.
func (c *Core) diagQuery(e *Effects, q *query) error {
	return c.factored(e, q, func(e *Effects) error { return c.diagonal(e, q) })
}

func (c *Core) diagonal(e *Effects, q *query) error {
	f, err := c.factor(q)
	if err != nil {
		return err
	}
	b, err := f.DiagonalBound(c.rec.Spec.Dim)
	if err != nil {
		return unsolved(q, err)
	}
	if err := limit(q, b.Relative); err != nil {
		return err
	}
	c.bounded(q, b)
	q.unsettled = nil
	if k := c.keptFor(q); k != nil {
		c.recall(e, q, k)
		return nil
	}
	return c.sendFactor(e, q, f)
}

// sendFactor gives every shard a query's factor.
func (c *Core) sendFactor(e *Effects, q *query, f *window.Factor) error {
	n := len(q.slots)
	l := make([]float64, n*(n+1)/2)
	if err := f.PackedTo(l); err != nil {
		return unsolved(q, err)
	}
	q.parts, q.left = [][]float64{l}, len(c.shards)
	for s := range c.shards {
		send := &factorTo{c: c, q: q, shard: s}
		for range factorWindow {
			send.next(e)
		}
	}
	return nil
}

// factorTo sends a factor to one shard, some pieces at a time.
type factorTo struct {
	c     *Core
	q     *query
	shard int
	lo    int64 // of the next piece
	open  int   // pieces on their way
	all   bool  // have been sent
}

func (t *factorTo) next(e *Effects) {
	if t.all {
		return
	}
	c, q := t.c, t.q
	l := q.parts[0]
	n := min(int64(len(l))-t.lo, wire.MaxFactorPiece(len(q.slots)))
	m := &wire.Factor{
		Query: q.id, Rows: len(q.slots), Lo: t.lo, N: n, Damping: q.damping, Result: q.result,
		Payload: wire.AppendFloats(wire.AppendSlots(nil, q.slots), l[t.lo:t.lo+n]),
	}
	t.lo += n
	t.open++
	t.all = t.lo == int64(len(l))
	c.call(e, t.shard, m, func(e *Effects, m wire.Message) {
		if c.queries[q.id] != q || q.closing {
			return
		}
		if _, ok := m.(*wire.OK); !ok {
			c.refuse(e, q, m)
			return
		}
		t.open--
		if t.next(e); t.open > 0 {
			return
		}
		if q.left--; q.left == 0 {
			q.parts = nil
			if q.prune != nil {
				c.pruneScore(e, q)
				return
			}
			c.answer(e, q)
		}
	})
}

// columnsQuery gathers columns of G, or of the W of a frozen run, from the shards that hold them. A column of
// H⁻¹ is made of G's, whose rows are half as long to read as W's or less.
func (c *Core) columnsQuery(e *Effects, q *query, index []int64) error {
	spec := c.rec.Spec
	for _, j := range index {
		if j >= spec.Dim {
			return wire.Invalid("index", j, fmt.Sprintf("in [0, %d), the run's columns", spec.Dim))
		}
	}
	if q.kind == wire.KindSubblock {
		k := c.keptFor(q)
		if err := c.checkBlock(len(q.slots), len(index), k != nil); err != nil {
			return err
		}
		if k != nil {
			q.of = k.id
		}
	}
	q.index = index
	slots := spec.Slots()
	q.parts = [][]float64{make([]float64, len(index)*(slots+1))} // a query's products and norms, as in prepare
	most := wire.MaxColumnsFor(slots)
	for s := range c.shards {
		var at []int // in index
		for i, j := range index {
			if lo, hi := c.rangeOf(s); j >= lo && j < hi {
				at = append(at, i)
			}
		}
		for ; len(at) > 0; at = at[min(most, len(at)):] {
			c.columns(e, q, s, at[:min(most, len(at))])
		}
	}
	return nil
}

// rangeOf is the columns [lo, hi) of shard s.
func (c *Core) rangeOf(s int) (lo, hi int64) {
	if s+1 < len(c.rec.Lo) {
		return c.rec.Lo[s], c.rec.Lo[s+1]
	}
	return c.rec.Lo[s], c.rec.Spec.Dim
}

// checkBlock checks the size of a sub-block, of which W is there or has to be solved for.
func (c *Core) checkBlock(rows, indices int, white bool) error {
	if need := c.diagBytes(wire.KindSubblock, indices); need > c.queryBytes {
		return wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes for a sub-block of %d indices", need, indices),
			fmt.Sprintf("at most %d, the coordinator's for queries", c.queryBytes), "ask for smaller ones")
	}
	n, q := float64(rows), float64(indices)
	solved := n
	if white {
		solved = 0
	}
	if n > 0 && n*q*(solved+q)/2 > blockProducts {
		most := (math.Sqrt(solved*solved+8*blockProducts/n) - solved) / 2
		return wire.Errorf(wire.CodeTooLarge, "indices", indices, fmt.Sprintf("at most %d with %d gradients", int(most), rows), "ask for smaller sub-blocks")
	}
	return nil
}

// columns asks a shard for the columns at some places of q.index.
func (c *Core) columns(e *Effects, q *query, s int, at []int) {
	slots := c.rec.Spec.Slots()
	index := make([]int64, len(at))
	for i, k := range at {
		index[i] = q.index[k]
	}
	q.left++
	m := &wire.Columns{Query: q.id, Mask: q.mask, Of: q.of, Payload: wire.AppendIndices(nil, index)}
	c.call(e, s, m, func(e *Effects, m wire.Message) {
		if c.queries[q.id] != q || q.closing {
			return
		}
		num, ok := m.(*wire.Numbers)
		if !ok {
			c.refuse(e, q, m)
			return
		}
		if want := len(at) * slots; num.Count != want {
			c.restart(e, fmt.Sprintf("shard %d answers %d numbers, not %d", s, num.Count, want))
			return
		}
		got := wire.Floats(num.Payload)
		for i, k := range at {
			copy(q.parts[0][k*slots:(k+1)*slots], got[i*slots:])
		}
		if q.left--; q.left > 0 {
			return
		}
		if err := c.gathered(e, q); err != nil {
			c.refuse(e, q, wire.AsError(err))
		}
	})
}

// gathered goes on when all columns are there. A column of H⁻¹ is H⁻¹e_j: Ge_j is that column of G.
func (c *Core) gathered(e *Effects, q *query) error {
	if q.kind == wire.KindSubblock {
		return c.factored(e, q, func(e *Effects) error { return c.subblock(e, q) })
	}
	slots := c.rec.Spec.Slots()
	for i, r := range c.rec.Spec.Scales.At(q.index...) {
		for j := range slots { // products are with R⁻¹e_j, see checkScales
			q.parts[0][i*slots+j] /= r
		}
		q.parts[0][q.vectors*slots+i] = 1 / r // ‖e_j‖²
	}
	return c.solve(e, q)
}

// subblock works out [H⁻¹]_QQ.
func (c *Core) subblock(e *Effects, q *query) error {
	f, err := c.factor(q)
	if err != nil {
		return err
	}
	if q.win != nil {
		defer q.win.Forget()
	}
	slots, count := c.rec.Spec.Slots(), len(q.index)
	ld := (count + shard.SolveCols - 1) / shard.SolveCols * shard.SolveCols
	w := make([]float64, len(q.slots)*ld)
	for i, s := range q.slots {
		for k := range q.index {
			w[i*ld+k] = q.parts[0][k*slots+int(s)]
		}
	}
	q.parts = nil
	if q.of == 0 {
		l, ldl, err := f.Lower()
		if err != nil {
			return unsolved(q, err)
		}
		shard.SolveLower(w, l, ldl, len(q.slots), ld)
	}
	q.of = 0 // W is read
	roots := c.rootScales(q.index)
	for k, r := range roots {
		for i := range q.slots {
			w[i*ld+k] /= r
		}
	}
	block := make([]float64, count*count)
	bound, err := f.SubblockTo(block, w, ld, q.index)
	if err != nil {
		return unsolved(q, err)
	}
	if roots != nil {
		bound += 4 * 0x1p-52 // of what follows
	}
	for k, r := range roots {
		for i := range q.index {
			block[i*count+k] /= r * roots[i]
		}
	}
	if err := limit(q, bound); err != nil {
		return err
	}
	if i := firstNonFinite(block); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "element", block[i], "finite", "a larger damping helps")
	}
	q.bounds, q.size = []float64{bound}, []float64{0}
	c.leave(e, q, block)
	return nil
}
