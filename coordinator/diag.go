package coordinator

import (
	"fmt"
	"math"
	"slices"

	"mfac/coordinator/window"
	"mfac/shard"
	"mfac/wire"
)

// This file: diagonal, columns and sub-blocks of H⁻¹ (maths.md, "Elements, diagonal, columns").

const (
	// factorWindow is how many pieces of a factor are on their way to one shard.
	factorWindow = 4

	// blockProducts is the most products that a sub-block may take: about a second.
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
	n, solved := float64(rows), float64(rows)
	if white {
		solved = 0
	}
	if n > 0 && blockProductsOf(rows, indices, white) > blockProducts {
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
		return c.subblock(e, q)
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

// blockProductsOf is how many products a sub-block takes, of which W is there or has to be solved for.
func blockProductsOf(rows, indices int, white bool) float64 {
	n, q := float64(rows), float64(indices)
	if white {
		return n * q * q / 2
	}
	return n * q * (n + q) / 2
}

// subblock works out [H⁻¹]_QQ, at once or by a job.
func (c *Core) subblock(e *Effects, q *query) error {
	b := &subblock{index: q.index, slots: q.slots, white: q.of != 0, roots: c.rootScales(q.index), damping: q.damping, divisor: q.divisor}
	b.gather(q.parts[0], c.rec.Spec.Slots())
	q.parts, q.of, q.mask = nil, 0, shard.NewMask(c.rec.Spec.Slots()) // no row is read any more, nor W
	if !c.inlineBlock(b) {
		q.block = b
		c.subblocks = append(c.subblocks, q)
		c.nextSubblock(e)
		return nil
	}
	return c.factored(e, q, func(e *Effects) error {
		if q.win != nil {
			defer q.win.Forget()
		}
		return c.subblockDone(e, q, b, b.work(c.window(q)))
	})
}

// inlineBlock reports whether a sub-block is worked out at once: it takes no longer than a factor that is made at once.
func (c *Core) inlineBlock(b *subblock) bool {
	inline := float64(max(c.cfg.InlineRows, 0))
	return blockProductsOf(len(b.slots), len(b.index), b.white) <= inline*inline*inline/3
}

// nextSubblock begins the next job. One at a time has a window of its own, in which it makes the factor too; the others
// wait for their turn and have copied nothing yet.
func (c *Core) nextSubblock(e *Effects) {
	if len(c.subblocks) == 0 || c.subblocks[0].job != 0 {
		return
	}
	q := c.subblocks[0]
	b, own := q.block, c.window(q).Clone()
	c.queryJob(e, q, Job{Brief: true, Run: func(func() bool) any { return b.work(own) }}, func(e *Effects, result any) error {
		c.leaveSubblocks(e, q)
		return c.subblockDone(e, q, b, result)
	})
}

// leaveSubblocks takes a query from those that wait, and lets the next one go.
func (c *Core) leaveSubblocks(e *Effects, q *query) {
	if q.block != nil {
		q.block = nil
		c.subblocks = slices.DeleteFunc(c.subblocks, func(w *query) bool { return w == q })
		c.nextSubblock(e)
	}
}

// subblock is what a sub-block is worked out of.
type subblock struct {
	index   []int64
	slots   []wire.Slot
	white   bool // w has W's columns
	roots   []float64
	damping float64
	divisor window.Divisor

	w     []float64 // columns of G or W, by row
	ld    int
	block []float64
	bound float64
}

// gather puts columns as they came, one after the other, into rows.
func (b *subblock) gather(columns []float64, slots int) {
	b.ld = (len(b.index) + shard.SolveCols - 1) / shard.SolveCols * shard.SolveCols
	b.w = make([]float64, len(b.slots)*b.ld)
	for i, s := range b.slots {
		for k := range b.index {
			b.w[i*b.ld+k] = columns[k*slots+int(s)]
		}
	}
}

// work works the block out, or says why not.
func (b *subblock) work(win *window.Window) any {
	f, err := win.Factor(b.damping, b.divisor)
	if err != nil {
		return err
	}
	return b.workWith(f)
}

func (b *subblock) workWith(f *window.Factor) any {
	if !b.white {
		l, ldl, err := f.Lower()
		if err != nil {
			return err
		}
		shard.SolveLower(b.w, l, ldl, len(b.slots), b.ld)
	}
	count := len(b.index)
	for k, r := range b.roots {
		for i := range b.slots {
			b.w[i*b.ld+k] /= r
		}
	}
	b.block = make([]float64, count*count)
	var err error
	if b.bound, err = f.SubblockTo(b.block, b.w, b.ld, b.index); err != nil {
		return err
	}
	if b.roots != nil {
		b.bound += 4 * 0x1p-52 // of what follows
	}
	for k, r := range b.roots {
		for i := range count {
			b.block[i*count+k] /= r * b.roots[i]
		}
	}
	return nil
}

// subblockDone answers with the block, or with the error that working it out came to.
func (c *Core) subblockDone(e *Effects, q *query, b *subblock, result any) error {
	if err, ok := result.(error); ok {
		return unsolved(q, err)
	}
	if err := limit(q, b.bound); err != nil {
		return err
	}
	if i := firstNonFinite(b.block); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "element", b.block[i], "finite", "a larger damping helps")
	}
	q.bounds, q.size = []float64{b.bound}, []float64{0}
	c.leave(e, q, b.block)
	return nil
}
