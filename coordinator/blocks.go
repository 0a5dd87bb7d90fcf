package coordinator

import (
	"fmt"
	"math"

	"mfac/coordinator/window"
	"mfac/shard"
	"mfac/wire"
)

// This file: queries of blocks (maths.md, "Blocks"; docs/blocks.md). A block that lies in one shard is worked out there alone; of one
// that lies in several, the coordinator sums A, one block at a time, and gives back coefficients, or the factor.

// blocking is what a query of blocks has beside its window.
type blocking struct {
	part    wire.Partition
	across  [][2]int64 // blocks [lo, hi) that lie in several shards
	error2  []float64  // of each vector: ‖x̂ − x‖² is at most …
	norm2   []float64  // … and ‖x̂‖²
	vectors int
	working bool        // the shards work their blocks out: how far they are is told by columns
	weights []float64   // of the rows; nil: all are 1
	as      [][]float64 // combinations, a number a row
	verify  bool
	norms2  []float64 // ‖v‖² where residuals are measured
	begun   bool      // of a step's own result: it is being worked out
}

// blocksBytes is what such a query holds: A of a block as it comes and as a window, with a factor.
func (c *Core) blocksBytes(block int64) int64 {
	if block == 0 {
		return 0
	}
	m := int64(c.rec.Spec.Window)
	return 8 * 4 * m * m
}

// blocksOf gives a query its blocks.
func (c *Core) blocksOf(q *query, m *wire.Query) error {
	part, err := m.Partition(c.rec.Spec.Dim)
	if err != nil {
		return err
	}
	if err := c.rec.Spec.Scales.Fit(part); err != nil {
		return err
	}
	c.cut(q, part)
	q.blocks.verify = m.Verify
	return nil
}

// cut gives a query the blocks of a partition.
func (c *Core) cut(q *query, part wire.Partition) {
	b := &blocking{weights: c.win.Weights(), part: part, vectors: q.vectors, error2: make([]float64, q.vectors), norm2: make([]float64, q.vectors)}
	for s := 1; s < len(c.rec.Lo); s++ {
		border := c.rec.Lo[s]
		if lo, hi := part.At(border - 1); hi > border {
			if n := len(b.across); n == 0 || b.across[n-1][0] != lo {
				b.across = append(b.across, [2]int64{lo, hi})
			}
		}
	}
	q.blocks = b
}

// blocksQuery begins a query for vectors, or for a diagonal.
func (c *Core) blocksQuery(e *Effects, q *query) {
	what := wire.BlocksDiag
	finish := func(e *Effects) error { return c.blocksDone(e, q) }
	if q.kind == wire.KindDiag {
		c.blocksBegin(e, q, what, func(e *Effects) error { c.blocksWork(e, q, what, finish); return nil })
		return
	}
	what = wire.BlocksSolve
	none := shard.NewMask(c.rec.Spec.Slots()) // Gv is of no use
	c.scatter(e, q, q.vectors*(c.rec.Spec.Slots()+1), func() wire.Control {
		return &wire.Prepare{Query: q.id, Vectors: q.vectors, DType: q.dtype, Mask: none}
	}, func(e *Effects, parts [][]float64) error {
		q.blocks.norms2 = sumInOrder(parts)[q.vectors*c.rec.Spec.Slots():]
		c.blocksBegin(e, q, what, func(e *Effects) error { c.blocksWork(e, q, what, finish); return nil })
		return nil
	})
}

// combineBlocks begins a query for combinations.
func (c *Core) combineBlocks(e *Effects, q *query, as [][]float64) {
	q.blocks.as = as
	for _, a := range as {
		q.blocks.norms2 = append(q.blocks.norms2, c.win.CombinationNorm2(a))
	}
	c.combinationBlocks(e, q)
}

// combinationBlocks has the combinations worked out.
func (c *Core) combinationBlocks(e *Effects, q *query) {
	c.blocksBegin(e, q, wire.BlocksCombine, func(e *Effects) error {
		c.blocksWork(e, q, wire.BlocksCombine, func(e *Effects) error { return c.blocksDone(e, q) })
		return nil
	})
}

// blocksBegin tells every shard what blocks there are.
func (c *Core) blocksBegin(e *Effects, q *query, what string, then func(*Effects) error) {
	b := q.blocks
	c.scatterTo(e, q, c.everyShard(), 0, func(s int) wire.Control {
		lo, hi := c.rangeOf(s)
		return &wire.Blocks{
			Query: q.id, Do: wire.BlocksBegin, What: what, Vectors: b.vectors, Damping: q.damping, N: c.divideBy(q), Size: b.part.Size, Rows: len(q.slots), Weights: b.weights != nil,
			Payload: wire.BeginPayload(q.slots, b.weights, b.part.Within(lo, hi)),
		}
	}, func(e *Effects, _ [][]float64) error { return then(e) })
}

// divideBy is N of F = GᵀG/N; 1 where there is no row, and it doesn't matter.
func (c *Core) divideBy(q *query) int {
	if q.divisor == window.Count {
		return max(1, len(q.slots))
	}
	return c.rec.Spec.Window
}

// blocksWork has the shards work out their blocks, then does those that lie in several.
func (c *Core) blocksWork(e *Effects, q *query, what string, then func(*Effects) error) {
	b := q.blocks
	var payload []byte
	for _, a := range b.as {
		payload = wire.AppendFloats(payload, a)
	}
	phase := ""
	switch {
	case q.prune != nil && what == wire.BlocksDiag:
		phase = "scores"
	case q.prune != nil:
		phase = "update"
	}
	q.under(phase, 0, c.rec.Spec.Dim)
	b.working = true
	c.scatterTo(e, q, c.everyShard(), 2*b.vectors, func(int) wire.Control {
		return &wire.Blocks{Query: q.id, Do: wire.BlocksWork, What: what, Payload: payload}
	}, func(e *Effects, parts [][]float64) error {
		b.working = false
		for i, x := range sumInOrder(parts) {
			if i%2 == 0 {
				b.error2[i/2] = x
			} else {
				b.norm2[i/2] = x
			}
		}
		return c.blocksAcross(e, q, what, 0, then)
	})
}

// blocksAcross does the blocks that lie in several shards, from number i on, one after the other.
func (c *Core) blocksAcross(e *Effects, q *query, what string, i int, then func(*Effects) error) error {
	b := q.blocks
	if i == len(b.across) {
		return then(e)
	}
	a := c.acrossOf(q, what, b.across[i][0], b.across[i][1])
	a.then = func(e *Effects) error { return c.blocksAcross(e, q, what, i+1, then) }
	return a.gram(e, 0)
}

// across is a block in several shards.
type across struct {
	c      *Core
	q      *query
	what   string
	lo, hi int64
	shards []int
	scale  float64   // of λ
	lambda float64   // the block's own
	packed []float64 // A
	then   func(*Effects) error

	loaded   func(*Effects, *window.Window) error // what becomes of A …
	factored func(*Effects, *window.Factor) error // … or of its factor, if that isn't what is asked for
}

func (c *Core) acrossOf(q *query, what string, lo, hi int64) *across {
	a := &across{c: c, q: q, what: what, lo: lo, hi: hi, shards: c.shardsOf(lo, hi), scale: c.scaleOf(lo)}
	a.lambda = q.damping * a.scale
	return a
}

// ask asks the shards of the block.
func (a *across) ask(e *Effects, want int, m wire.Blocks, then func(*Effects, []float64) error) {
	a.c.scatterTo(e, a.q, a.shards, want, func(s int) wire.Control {
		own := m
		own.Query = a.q.id
		if m.Do != wire.BlocksFactor {
			lo, hi := a.c.rangeOf(s)
			own.Lo, own.Hi = max(lo, a.lo), min(hi, a.hi)
		}
		return &own
	}, func(e *Effects, parts [][]float64) error { return then(e, sumInOrder(parts)) })
}

// gram sums A from row i0 on, then goes on.
func (a *across) gram(e *Effects, i0 int) error {
	n := len(a.q.slots)
	if i0 == n {
		win, err := window.New(a.c.rec.Spec.Window, a.lambda, a.q.divisor)
		if err == nil {
			err = win.Load(a.packed, n)
		}
		if err == nil {
			err = win.SetWeights(a.q.blocks.weights)
		}
		a.packed = nil
		if err != nil {
			return fmt.Errorf("query %d: %w", uint64(a.q.id), err)
		}
		if a.loaded != nil {
			return a.loaded(e, win)
		}
		return a.factor(e, win)
	}
	i1 := i0 + 1
	for i1 < n && 8*(triangle(i1+1)-triangle(i0)) <= wire.MaxPayload {
		i1++
	}
	a.ask(e, triangle(i1)-triangle(i0), wire.Blocks{Do: wire.BlocksGram, What: a.what, I0: i0, I1: i1}, func(e *Effects, part []float64) error {
		a.packed = append(a.packed, part...)
		return a.gram(e, i1)
	})
	return nil
}

// factor makes the factor of A, beside the core where that takes long, and goes on.
func (a *across) factor(e *Effects, win *window.Window) error {
	c, q := a.c, a.q
	if win.Len() <= c.cfg.InlineRows {
		f, err := win.Factor(a.lambda, q.divisor)
		if err != nil {
			return unsolved(q, err)
		}
		return a.solve(e, f)
	}
	c.queryJob(e, q, Job{Brief: true, Run: func(func() bool) any {
		f, err := win.Factor(a.lambda, q.divisor)
		if err != nil {
			return err
		}
		return f
	}}, func(e *Effects, result any) error {
		f, ok := result.(*window.Factor)
		if !ok {
			err, _ := result.(error)
			return unsolved(q, err)
		}
		return a.solve(e, f)
	})
	return nil
}

// solve goes on with the factor.
func (a *across) solve(e *Effects, f *window.Factor) error {
	switch {
	case a.factored != nil:
		return a.factored(e, f)
	case a.what == wire.BlocksDiag:
		return a.diag(e, f)
	case a.what == wire.BlocksCombine:
		return a.combine(e, f)
	}
	return a.dots(e, f)
}

// combine works out the coefficients of combinations.
func (a *across) combine(e *Effects, f *window.Factor) error {
	q := a.q
	n, k := len(q.slots), q.blocks.vectors
	coef, off := make([]float64, k*n), make([]float64, k)
	for i, x := range q.blocks.as {
		c := coef[i*n : (i+1)*n]
		if err := f.CombinationTo(c, x); err != nil {
			return unsolved(q, err)
		}
		bound, err := f.CombinationBoundOf(c)
		if err != nil {
			return unsolved(q, err)
		}
		off[i] = bound.Numerator
	}
	if i := firstNonFinite(coef); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "coefficient", coef[i], "finite", "scale the combination down")
	}
	return a.finish(e, wire.AppendFloats(nil, coef), off)
}

// dots solves for the vectors, and has the shards work out the result.
func (a *across) dots(e *Effects, f *window.Factor) error {
	n, k, q := len(a.q.slots), a.q.blocks.vectors, a.q
	a.ask(e, k*(n+1), wire.Blocks{Do: wire.BlocksDots, What: a.what}, func(e *Effects, sum []float64) error {
		if i := firstNonFinite(sum); i >= 0 {
			return wire.Errorf(wire.CodeOverflow, "product", sum[i], "finite", "scale the vector down")
		}
		coef, off := make([]float64, k*n), make([]float64, k)
		for i := range k {
			x, y := coef[i*n:(i+1)*n], sum[i*n:(i+1)*n]
			if err := f.SolveTo(x, y); err != nil {
				return unsolved(q, err)
			}
			if a.what == wire.BlocksJoint {
				continue
			}
			bound, err := f.VectorBound(x, y, sum[k*n+i])
			if err != nil {
				return unsolved(q, err)
			}
			off[i] = bound.Numerator / a.lambda
		}
		if i := firstNonFinite(coef); i >= 0 {
			return wire.Errorf(wire.CodeOverflow, "coefficient", coef[i], "finite", "scale the vector down")
		}
		return a.finish(e, wire.AppendFloats(nil, coef), off)
	})
	return nil
}

// diag gives the shards the factor, and has them work out the diagonal.
func (a *across) diag(e *Effects, f *window.Factor) error {
	n := len(a.q.slots)
	bound, err := f.DiagonalBound(a.hi - a.lo)
	if err != nil {
		return unsolved(a.q, err)
	}
	l := make([]float64, n*(n+1)/2)
	if err := f.PackedTo(l); err != nil {
		return unsolved(a.q, err)
	}
	return a.send(e, l, 0, bound.Numerator/a.lambda)
}

// send sends L from number lo on.
func (a *across) send(e *Effects, l []float64, lo int, off float64) error {
	if lo == len(l) {
		return a.finish(e, nil, []float64{off})
	}
	hi := min(lo+wire.MaxPayload/8, len(l))
	a.ask(e, 0, wire.Blocks{Do: wire.BlocksFactor, Lo: int64(lo), Payload: wire.AppendFloats(nil, l[lo:hi])}, func(e *Effects, _ []float64) error {
		return a.send(e, l, hi, off)
	})
	return nil
}

// finish has the shards work out the block's columns. off is the bound of each vector's error, but for the last rounding.
func (a *across) finish(e *Effects, payload []byte, off []float64) error {
	b, weight := a.q.blocks, a.scale // sums are in the norm of λ
	if a.what == wire.BlocksDiag {
		weight *= weight
	}
	a.ask(e, b.vectors, wire.Blocks{Do: wire.BlocksFinish, What: a.what, Payload: payload}, func(e *Effects, norms2 []float64) error {
		for i, norm2 := range norms2 {
			x := off[i] + 2*epsilon*math.Sqrt(norm2)
			b.error2[i] += weight * x * x
			b.norm2[i] += weight * norm2
		}
		return a.then(e)
	})
	return nil
}

// epsilon is the ε of maths.md, 2⁻⁵².
const epsilon = 0x1p-52

// blocksBounds makes the bounds of the whole answer of those of its blocks: ‖x̂ − x‖² and ‖x̂‖² are sums over them. Sums of squares are
// off by some ε of themselves.
func (c *Core) blocksBounds(q *query) error {
	b := q.blocks
	for i := range b.norm2 {
		off, low := math.Sqrt(b.error2[i])*(1+32*epsilon), math.Sqrt(b.norm2[i])*(1-32*epsilon)
		relative := off / (low - off)
		switch {
		case off == 0 && b.norm2[i] == 0:
			relative = 0
		case !(low-off > 0):
			relative = math.Inf(1)
		}
		if err := limit(q, relative); err != nil {
			return err
		}
		q.bounds, q.size = append(q.bounds, relative), append(q.size, max(low-off, 0))
	}
	return nil
}

// blocksDone has the result fetched.
func (c *Core) blocksDone(e *Effects, q *query) error {
	if err := c.blocksBounds(q); err != nil {
		return err
	}
	if q.blocks.verify {
		c.blocksResiduals(e, q)
		return nil
	}
	c.blocksResult(e, q)
	return nil
}

func (c *Core) blocksResult(e *Effects, q *query) {
	c.scatterTo(e, q, c.everyShard(), 0, func(int) wire.Control {
		return &wire.Blocks{Query: q.id, Do: wire.BlocksResult, Result: q.result}
	}, func(e *Effects, _ [][]float64) error {
		q.blocks, q.prune, q.win = nil, nil, nil
		c.answer(e, q)
		return nil
	})
}

// pruneBlocks scores by the diagonal of the blocks.
func (c *Core) pruneBlocks(e *Effects, q *query) {
	q.blocks.vectors = 1
	c.blocksBegin(e, q, wire.BlocksDiag, func(e *Effects) error {
		c.blocksWork(e, q, wire.BlocksDiag, func(e *Effects) error {
			if err := c.blocksBounds(q); err != nil {
				return err
			}
			q.bounds, q.size = nil, nil // of the scores
			c.pruneScore(e, q)
			return nil
		})
		return nil
	})
}

// pruneChosen goes on when the weights that are pruned are chosen.
func (c *Core) pruneChosen(e *Effects, q *query) error {
	if q.blocks == nil {
		return c.pruneProducts(e, q)
	}
	what := wire.BlocksSolve
	if q.prune.rule == wire.RuleJoint {
		what = wire.BlocksJoint
	}
	c.blocksWork(e, q, what, func(e *Effects) error {
		c.blocksResult(e, q)
		return nil
	})
	return nil
}
