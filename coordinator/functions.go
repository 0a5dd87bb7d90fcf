package coordinator

import (
	"math"

	"mfac/coordinator/window"
	"mfac/internal/normal"
	"mfac/wire"
)

// This file: F v, H v and samples.

// function is what only such a query has.
type function struct {
	seed  uint64
	first int64
	drawn []wire.Step // of a sample's rows, oldest first
}

// sampleQuery begins samples: the shards make z.
func (c *Core) sampleQuery(e *Effects, q *query, m *wire.Query) {
	q.dtype, q.seed, q.first = wire.F64, m.Seed, m.First
	for _, r := range c.rows {
		q.drawn = append(q.drawn, r.Step)
	}
	c.prepare(e, q)
}

func (q *query) prepareMessage() *wire.Prepare {
	m := &wire.Prepare{Query: q.id, Vectors: q.vectors, DType: q.dtype, Mask: q.mask, Seed: q.seed, First: q.first}
	if q.kind != wire.KindVector && wire.Prepared(q.kind) {
		m.Kind = q.kind
	}
	return m
}

// multiplied goes on with what is to be made of Gv.
func (c *Core) multiplied(e *Effects, q *query) error {
	switch q.kind {
	case wire.KindFisher, wire.KindHessian:
		return c.product(e, q)
	case wire.KindSample:
		return c.factored(e, q, func(e *Effects) error { return c.sample(e, q) })
	case wire.KindScores:
		return c.factored(e, q, func(e *Effects) error { return c.scores(e, q) })
	case wire.KindPairs:
		return c.pairs(e, q)
	case wire.KindInvSqrt, wire.KindLikelihood:
		return c.hasProducts(e, q)
	}
	return c.solve(e, q)
}

// window is that of the query's version.
func (c *Core) window(q *query) *window.Window {
	if q.win != nil {
		return q.win
	}
	return c.win
}

// product works out c = WGv/N, of which F v is Gᵀc and H v is λv + Gᵀc: no factor is needed.
func (c *Core) product(e *Effects, q *query) error {
	w := c.window(q)
	n, scale := float64(w.NOf(q.divisor)), q.damping
	if q.kind == wire.KindFisher {
		scale = 0
	}
	return c.eachVector(e, q, func(x, y []float64, _ int, norm2 float64) (window.Bound, error) {
		for j := range x {
			x[j] = w.Weight(j) * y[j] / n
		}
		return w.ProductBound(x, y, q.divisor, scale, norm2)
	})
}

// sample works out c = K⁻¹(Gz − √(Nλ)W^-½u), u by seed and step (maths.md, "Scalars alone").
func (c *Core) sample(e *Effects, q *query) error {
	f, err := c.factor(q)
	if err != nil {
		return err
	}
	if q.win != nil {
		defer q.win.Forget()
	}
	roots := make([]float64, len(q.slots))
	for j := range roots {
		roots[j] = math.Sqrt(float64(f.N()) * q.damping / c.window(q).Weight(j))
	}
	u := make([]float64, len(q.slots))
	rhs := make([]float64, len(q.slots))
	return c.eachVector(e, q, func(x, y []float64, i int, norm2 float64) (window.Bound, error) {
		src := normal.Source{Seed: q.seed, Index: uint32(q.first + int64(i)), Domain: normal.Steps}
		for j, step := range q.drawn {
			u[j] = src.At(uint64(step))
			rhs[j] = math.FMA(-roots[j], u[j], y[j])
		}
		if err := f.SolveTo(x, rhs); err != nil {
			return window.Bound{}, err
		}
		return f.SampleBound(x, y, u, norm2)
	})
}

// eachVector has solve set x to the coefficients of each vector, by age, y being G times that vector
// and norm2 its squared norm, and sends them to the shards.
func (c *Core) eachVector(e *Effects, q *query, solve func(x, y []float64, i int, norm2 float64) (window.Bound, error)) error {
	sum := sumInOrder(q.parts)
	q.parts = nil
	if i := firstNonFinite(sum); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "product", sum[i], "finite", "scale the vector down")
	}
	slots := c.rec.Spec.Slots()
	coef := make([]float64, q.vectors*slots)
	x, y := make([]float64, len(q.slots)), make([]float64, len(q.slots))
	for i := range q.vectors {
		q.gather(y, sum[i*slots:])
		b, err := solve(x, y, i, sum[q.vectors*slots+i])
		if err != nil {
			return unsolved(q, err)
		}
		q.scatter(coef[i*slots:], x)
		c.bounded(q, b)
	}
	if i := firstNonFinite(coef); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "coefficient", coef[i], "finite", "scale the vector down")
	}
	c.solved(e, q, coef)
	return nil
}

// gather sets x, by age, to numbers by slot; scatter is the other way.
func (q *query) gather(x, bySlot []float64) {
	for j, s := range q.slots {
		x[j] = bySlot[s]
	}
}

func (q *query) scatter(bySlot, x []float64) {
	for j, s := range q.slots {
		bySlot[s] = x[j]
	}
}
