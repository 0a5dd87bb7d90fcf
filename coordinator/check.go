package coordinator

import (
	"math"

	"mfac/wire"
)

// This file: the residuals of answers, and their refinement.
//
//	verify  w = Gx, then ‖λx + GᵀWw/N − v‖, W being the rows' weights: two passes
//	refine  and then, with twice the digits in x, w = Gx, x' = x + Gᵀe with e = K⁻¹(NW⁻¹c − w), and
//	        the same for x', which is kept where that is smaller: three more, or two
//
// The shards work x out tile by tile; it is nowhere as a whole.

// checked is what a query knows of its answers while it is checked.
type checked struct {
	refine bool
	as     [][]float64 // of a combination, by age
	norms2 []float64   // ‖v‖²; of a vector query
	round  int         // of Refine
	xs     []float64   // ‖x‖² with twice the digits, of a vector query
	e      []float64   // by slot
}

// about reports whether a request is one of a check of a query.
func about(m wire.Control, id wire.QueryID) bool {
	switch m := m.(type) {
	case *wire.Apply:
		return m.Query == id
	case *wire.Residual:
		return m.Query == id
	case *wire.Refine:
		return m.Query == id
	case *wire.Blocks:
		return m.Query == id
	}
	return false
}

// check goes on from answers that every shard has the coefficients of.
func (c *Core) check(e *Effects, q *query) {
	k := q.checked
	if q.kind == wire.KindCombine {
		k.norms2 = make([]float64, q.vectors)
		for i, a := range k.as {
			k.norms2[i] = c.window(q).CombinationNorm2(a)
		}
	}
	c.measure(e, q, func(e *Effects, w, norms2, residuals []float64) {
		q.residuals = residuals
		if i := firstNonFinite(residuals); i >= 0 {
			c.refuse(e, q, wire.Errorf(wire.CodeOverflow, "residual", residuals[i], "finite", "scale the vector down"))
			return
		}
		for i := range q.bounds {
			c.closer(q, i, norms2[i])
		}
		if !k.refine {
			c.checkedAll(e, q)
			return
		}
		if q.kind == wire.KindCombine {
			c.refine(e, q, w)
			return
		}
		k.e = make([]float64, q.vectors*c.rec.Spec.Slots())
		c.sendRefine(e, q, math.MaxUint64, func(e *Effects) {
			c.apply(e, q, func(e *Effects, w, norms2 []float64) {
				k.xs = norms2
				c.refine(e, q, w)
			})
		})
	})
}

// closer is the bound of an answer whose norm has been summed by the shards.
func (c *Core) closer(q *query, i int, norm2 float64) {
	if q.unsettled == nil { // small enough
		return
	}
	if q.kind == wire.KindVector {
		norm2 *= q.damping * q.damping
	}
	b := q.unsettled[i].With(norm2)
	q.bounds[i] = min(q.bounds[i], b.Relative)
	q.size[i] = max(q.size[i], q.sizeOf(b))
}

// measure works out w = Gx, ‖x‖² and the relative residual of each answer.
func (c *Core) measure(e *Effects, q *query, then func(e *Effects, w, norms2, residuals []float64)) {
	c.apply(e, q, func(e *Effects, w, norms2 []float64) {
		slots := c.rec.Spec.Slots()
		win := c.window(q)
		n := float64(win.NOf(q.divisor))
		coef := make([]float64, q.vectors*slots)
		for i := range q.vectors {
			for j, s := range q.slots {
				coef[i*slots+int(s)] = win.Weight(j) * w[i*slots+int(s)] / n
				if q.kind == wire.KindCombine {
					coef[i*slots+int(s)] -= q.checked.as[i][j]
				}
			}
		}
		if i := firstNonFinite(coef); i >= 0 {
			c.refuse(e, q, wire.Errorf(wire.CodeOverflow, "product", coef[i], "finite", "scale the vector down"))
			return
		}
		m := &wire.Residual{Query: q.id, Vectors: q.vectors, Damping: q.damping, Payload: wire.AppendFloats(nil, coef)}
		c.sums(e, q, func() wire.Control { r := *m; return &r }, q.vectors, func(e *Effects, sum []float64) error {
			residuals := make([]float64, q.vectors)
			for i, r := range sum {
				if residuals[i] = math.Sqrt(r); r != 0 {
					residuals[i] /= math.Sqrt(q.checked.norms2[i])
				}
			}
			then(e, w, norms2, residuals)
			return nil
		})
	})
}

// apply works out w = Gx and ‖x‖² of each answer.
func (c *Core) apply(e *Effects, q *query, then func(e *Effects, w, norms2 []float64)) {
	slots := c.rec.Spec.Slots()
	message := func() wire.Control { return &wire.Apply{Query: q.id, Damping: q.damping} }
	c.sums(e, q, message, q.vectors*(slots+1), func(e *Effects, sum []float64) error {
		then(e, sum[:q.vectors*slots], sum[q.vectors*slots:])
		return nil
	})
}

// refine works out e from w = Gx, and keeps x + Gᵀe where its residual is smaller.
func (c *Core) refine(e *Effects, q *query, w []float64) {
	k, slots := q.checked, c.rec.Spec.Slots()
	f, err := c.factor(q)
	if err != nil {
		c.refuse(e, q, wire.AsError(err))
		return
	}
	coef := wire.Floats(q.coef)
	k.e = make([]float64, q.vectors*slots)
	n := len(q.slots)
	ci, wi, ei := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range q.vectors {
		q.gather(ci, coef[i*slots:])
		q.gather(wi, w[i*slots:])
		var a []float64
		if k.as != nil {
			a = k.as[i]
		}
		if err := f.RefineTo(ei, ci, a, wi); err != nil || firstNonFinite(ei) >= 0 {
			clear(ei) // what overflows makes nothing better
		}
		q.scatter(k.e[i*slots:], ei)
	}
	c.sendRefine(e, q, math.MaxUint64, func(e *Effects) {
		c.measure(e, q, func(e *Effects, _, norms2, residuals []float64) { c.keep(e, q, norms2, residuals) })
	})
}

// keep decides which answers stay refined.
func (c *Core) keep(e *Effects, q *query, norms2, residuals []float64) {
	f, err := c.factor(q)
	if err != nil {
		c.refuse(e, q, wire.AsError(err))
		return
	}
	k, slots := q.checked, c.rec.Spec.Slots()
	coef := wire.Floats(q.coef)
	ci, ei := make([]float64, len(q.slots)), make([]float64, len(q.slots))
	which := uint64(0)
	for i, r := range residuals {
		if !(r < q.residuals[i]) { // NaN is not
			continue
		}
		q.gather(ci, coef[i*slots:])
		q.gather(ei, k.e[i*slots:])
		b, err := f.RefinedCombinationBound(ci, ei, norms2[i])
		if q.kind == wire.KindVector {
			b, err = f.RefinedBound(ci, ei, k.norms2[i], k.xs[i], norms2[i])
		}
		if err != nil {
			c.refuse(e, q, wire.AsError(unsolved(q, err)))
			return
		}
		which |= 1 << i
		q.residuals[i], q.bounds[i], q.size[i] = r, b.Relative, q.sizeOf(b)
	}
	if which == 1<<q.vectors-1 {
		c.checkedAll(e, q)
		return
	}
	c.sendRefine(e, q, which, func(e *Effects) { c.checkedAll(e, q) })
}

// sendRefine tells the shards which answers are refined by Gᵀe.
func (c *Core) sendRefine(e *Effects, q *query, which uint64, then func(*Effects)) {
	q.checked.round++
	q.left = len(c.shards)
	payload := wire.AppendFloats(nil, q.checked.e)
	for s := range c.shards {
		m := &wire.Refine{Query: q.id, Vectors: q.vectors, Round: q.checked.round, Which: which, Payload: payload}
		c.call(e, s, m, func(e *Effects, m wire.Message) {
			if c.queries[q.id] != q || q.closing {
				return
			}
			if _, ok := m.(*wire.OK); !ok {
				c.refuse(e, q, m)
				return
			}
			if q.left--; q.left == 0 {
				then(e)
			}
		})
	}
}

// checkedAll answers a query whose answers are checked, or refuses it for their bounds.
func (c *Core) checkedAll(e *Effects, q *query) {
	if q.win != nil { // others may have the same one, at other dampings
		q.win.Forget()
	}
	q.unsettled = nil
	for _, b := range q.bounds {
		if err := limit(q, b); err != nil {
			c.refuse(e, q, err)
			return
		}
	}
	c.answer(e, q)
}
