package coordinator

import (
	"fmt"

	"mfac/coordinator/window"
	"mfac/internal/selection"
	"mfac/shard"
	"mfac/wire"
)

// This file: prune and compensate queries (maths.md, "Pruning"). What the shards are asked for, one
// thing after the other, each when all have answered the one before:
//
//	the vectors and what the mask says
//	A of the free columns, where some are not free; then they score by its factor
//	counts of the scores' bits, till the k-th smallest is known; then they choose. With a pattern: the
//	scores of groups that shards share (pattern.go)
//	products of t or G_S w_S with the rows; A of the columns that are left, for the exact joint update
//	the result's coefficients

// pruning is what a query of these has beside its window.
type pruning struct {
	rule     string
	sparsity float64
	masked   bool
	only     bool // compensate
	free     int64
	count    int64          // of weights to be pruned
	win      *window.Window // of the free columns alone; nil where that is the query's
	search   *selection.Search
	pattern  wire.Pattern
	strips   []wire.Strip
	y        []float64 // products, of each row
	weights  []float64 // of the rows; nil where all are 1
}

// pruneBytes is what such a query holds: A as it comes and as a window, with a factor.
func (c *Core) pruneBytes(kind string) int64 {
	if kind != wire.KindPrune && kind != wire.KindCompensate {
		return 0
	}
	m := int64(c.rec.Spec.Window)
	return 8 * (3*m*m + int64(len(c.shards))*selection.Bins)
}

// pruneQuery begins with the vectors.
func (c *Core) pruneQuery(e *Effects, q *query, m *wire.Query) error {
	p := &pruning{rule: m.Rule, sparsity: m.Sparsity, masked: m.Masked, only: m.Kind == wire.KindCompensate, weights: c.win.Weights()}
	q.prune = p
	if p.pattern = m.Pattern(); !p.pattern.IsZero() {
		p.strips = wire.StripList(m.Payload)
		if last := p.strips[len(p.strips)-1].Lo; last >= c.rec.Spec.Dim {
			return wire.Invalid("strip", last, fmt.Sprintf("below %d, the run's columns", c.rec.Spec.Dim))
		}
	}
	vectors := 1
	if p.masked || p.only {
		vectors = 2
	}
	none := shard.NewMask(c.rec.Spec.Slots()) // Gw is of no use
	c.scatter(e, q, vectors*(c.rec.Spec.Slots()+1), func() wire.Control {
		return &wire.Prepare{Query: q.id, Vectors: vectors, DType: q.dtype, Mask: none}
	}, func(e *Effects, _ [][]float64) error {
		c.scatter(e, q, 4, func() wire.Control { return &wire.Prune{Query: q.id, Do: wire.PruneBegin, Kind: q.kind} }, func(e *Effects, parts [][]float64) error {
			return c.pruneBegun(e, q, sumInOrder(parts))
		})
		return nil
	})
	return nil
}

// pruneBegun knows how many columns are free, not to be touched, pruned already, and changed as
// prescribed.
func (c *Core) pruneBegun(e *Effects, q *query, counts []float64) error {
	p := q.prune
	p.free = int64(counts[0])
	fixed, gone, prescribed := int64(counts[1]), int64(counts[2]), int64(counts[3])
	switch {
	case p.free == 0:
		return wire.Invalid("mask", "full", "0 in one place at least: no weight is left to adapt")
	case p.only && prescribed == 0, !p.only && p.masked && fixed+gone == 0:
		return wire.Invalid("mask", "empty", "not 0 in one place at least")
	}
	if p.only {
		return c.pruneProducts(e, q)
	}
	if !p.pattern.IsZero() {
		return c.pruneScores(e, q)
	}
	d := float64(c.rec.Spec.Dim)
	p.count = wire.Zeros(p.sparsity, c.rec.Spec.Dim) - gone
	if p.count < 0 {
		return wire.Invalid("sparsity", p.sparsity, fmt.Sprintf("at least %g: of %d weights %d are pruned already", float64(gone)/d, c.rec.Spec.Dim, gone))
	}
	if p.count > p.free {
		return wire.Invalid("sparsity", p.sparsity, fmt.Sprintf("at most %g: of %d weights %d are not to be touched", float64(p.free+gone)/d, c.rec.Spec.Dim, fixed))
	}
	return c.pruneScores(e, q)
}

// pruneScores has the shards score, by the factor of the free columns.
func (c *Core) pruneScores(e *Effects, q *query) error {
	if q.blocks != nil {
		c.pruneBlocks(e, q)
		return nil
	}
	if !q.prune.masked {
		return c.factored(e, q, func(e *Effects) error { return c.pruneFactor(e, q) })
	}
	c.pruneGram(e, q, func(e *Effects) error { return c.pruneFactor(e, q) })
	return nil
}

// pruneGram makes p.win of the columns that are free.
func (c *Core) pruneGram(e *Effects, q *query, then func(*Effects) error) {
	var packed []float64
	n := len(q.slots)
	slots := wire.AppendSlots(nil, q.slots)
	var next func(e *Effects, i0 int) error
	next = func(e *Effects, i0 int) error {
		q.under("gram", int64(triangle(i0)), int64(triangle(n)))
		if i0 == n {
			win, err := window.New(c.rec.Spec.Window, q.damping, q.divisor)
			if err == nil {
				err = win.Load(packed, n)
			}
			if err == nil {
				err = win.SetWeights(q.prune.weights)
			}
			if err != nil {
				return fmt.Errorf("query %d: %w", uint64(q.id), err)
			}
			q.prune.win = win
			return then(e)
		}
		i1 := i0 + 1
		for i1 < n && 8*(triangle(i1+1)-triangle(i0)) <= wire.MaxPayload {
			i1++
		}
		c.scatter(e, q, triangle(i1)-triangle(i0), func() wire.Control {
			return &wire.Prune{Query: q.id, Do: wire.PruneGram, I0: i0, I1: i1, Payload: slots}
		}, func(e *Effects, parts [][]float64) error {
			packed = append(packed, sumInOrder(parts)...)
			return next(e, i1)
		})
		return nil
	}
	if err := next(e, 0); err != nil {
		c.refuse(e, q, wire.AsError(err))
	}
}

// pruneFactorOf is the factor of the free columns.
func (c *Core) pruneFactorOf(q *query) (*window.Factor, error) {
	if q.prune.win == nil {
		return c.factor(q)
	}
	f, err := q.prune.win.Factor(q.damping, q.divisor)
	if err != nil {
		return nil, unsolved(q, err)
	}
	return f, nil
}

// pruneFactor sends the factor, by which the shards score.
func (c *Core) pruneFactor(e *Effects, q *query) error {
	f, err := c.pruneFactorOf(q)
	if err != nil {
		return err
	}
	b, err := f.DiagonalBound(q.prune.free)
	if err != nil {
		return unsolved(q, err)
	}
	if err := limit(q, b.Relative); err != nil {
		return err
	}
	return c.sendFactor(e, q, f)
}

// partProducts is how many products a shard works out, some seconds' worth, before it tells that it has.
const partProducts = 1 << 33

// pruneScore follows when the factor is there. Large shards score in parts, which a client hears of.
func (c *Core) pruneScore(e *Effects, q *query) {
	p := q.prune
	p.search = selection.New(p.count)
	most := int64(0) // columns of a shard
	for s := range c.shards {
		lo, hi := c.rangeOf(s)
		most = max(most, hi-lo)
	}
	n := float64(len(q.slots))
	parts := int(min(1+float64(most)*n*n/2/partProducts, wire.MaxScoreParts))
	if q.blocks != nil { // the diagonal is there
		parts = 1
	}
	var next func(e *Effects, part int) error
	next = func(e *Effects, part int) error {
		q.under("scores", int64(part), int64(parts))
		if part == parts {
			if !p.pattern.IsZero() {
				return c.pruneGroups(e, q)
			}
			return c.pruneSearch(e, q)
		}
		c.scatter(e, q, 0, func() wire.Control {
			m := &wire.Prune{Query: q.id, Do: wire.PruneScore}
			if parts > 1 {
				m.I0, m.I1 = part, parts
			}
			return m
		}, func(e *Effects, _ [][]float64) error { return next(e, part+1) })
		return nil
	}
	if err := next(e, 0); err != nil {
		c.refuse(e, q, wire.AsError(err))
	}
}

// pruneSearch asks for counts till the k-th smallest score is known.
func (c *Core) pruneSearch(e *Effects, q *query) error {
	p := q.prune
	if !p.search.Done() {
		prefix, known := p.search.Prefix()
		q.under("selection", int64(known/selection.Bits), selection.Rounds)
		c.scatter(e, q, selection.Bins, func() wire.Control { return &wire.Prune{Query: q.id, Do: wire.PruneCount, Key: prefix, Known: known} },
			func(e *Effects, parts [][]float64) error {
				counts := make([][]int64, len(parts))
				for s, part := range parts {
					for _, x := range part {
						counts[s] = append(counts[s], int64(x))
					}
				}
				if err := p.search.Next(counts); err != nil {
					c.restart(e, fmt.Sprintf("shards count scores wrongly: %v", err))
					return nil
				}
				return c.pruneSearch(e, q)
			})
		return nil
	}
	c.scatterTo(e, q, c.everyShard(), 1, func(s int) wire.Control {
		return &wire.Prune{Query: q.id, Do: wire.PruneChoose, Key: p.search.Key(), Ties: p.search.Ties(s), Rule: p.rule}
	},
		func(e *Effects, parts [][]float64) error {
			if n := sumInOrder(parts)[0]; n != float64(p.count) {
				c.restart(e, fmt.Sprintf("shards choose %g weights, not %d", n, p.count))
				return nil
			}
			return c.pruneChosen(e, q)
		})
	return nil
}

// pruneProducts multiplies t, or the weights that are chosen, with the rows. The joint update then
// takes A of the columns that are left.
func (c *Core) pruneProducts(e *Effects, q *query) error {
	p := q.prune
	slots := c.rec.Spec.Slots()
	q.under("update", 0, 1)
	c.scatter(e, q, slots, func() wire.Control { return &wire.Prune{Query: q.id, Do: wire.PruneDots, Mask: q.mask} },
		func(e *Effects, parts [][]float64) error {
			sum := sumInOrder(parts)
			if i := firstNonFinite(sum); i >= 0 {
				return wire.Errorf(wire.CodeOverflow, "product", sum[i], "finite", "scale the weights down")
			}
			for _, s := range q.slots {
				p.y = append(p.y, sum[s])
			}
			if p.rule == wire.RuleSummed && !p.only {
				return c.pruneSolve(e, q)
			}
			p.win = nil
			c.pruneGram(e, q, func(e *Effects) error { return c.pruneSolve(e, q) })
			return nil
		})
	return nil
}

// pruneSolve works out the coefficients c of the change Gᵀc of the free weights: K⁻¹Gt/λ for the summed
// update, (NλI + A_rest)⁻¹ G_S w_S for the joint one, and its negative for prescribed changes.
func (c *Core) pruneSolve(e *Effects, q *query) error {
	p := q.prune
	f, err := c.pruneFactorOf(q)
	if err != nil {
		return err
	}
	if q.win != nil {
		defer q.win.Forget()
	}
	x := make([]float64, len(p.y))
	if err := f.SolveTo(x, p.y); err != nil {
		return unsolved(q, err)
	}
	coef := make([]float64, c.rec.Spec.Slots())
	for j, s := range q.slots {
		switch {
		case p.only:
			coef[s] = -x[j]
		case p.rule == wire.RuleSummed:
			coef[s] = x[j] / q.damping
		default:
			coef[s] = x[j]
		}
	}
	if i := firstNonFinite(coef); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "coefficient", coef[i], "finite", "scale the weights down")
	}
	payload := wire.AppendFloats(nil, coef)
	c.scatter(e, q, 0, func() wire.Control {
		return &wire.Prune{Query: q.id, Do: wire.PruneResult, Result: q.result, Mask: q.mask, Payload: payload}
	}, func(e *Effects, _ [][]float64) error {
		q.win = nil
		q.prune = nil
		c.answer(e, q)
		return nil
	})
	return nil
}
