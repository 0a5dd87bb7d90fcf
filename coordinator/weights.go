package coordinator

import (
	"math"

	"mfac/wire"
)

// weightsOf is the weights of rows, oldest first: what their publishers said, and how far each has
// faded since the newest of them in a run with a half-life. By the newest that is there, so that a window
// that has forgotten it answers as if it had never been. Nil where all are 1.
func (c *Core) weightsOf(rows []row) []float64 {
	ws, ones := make([]float64, len(rows)), true
	for i, r := range rows {
		ws[i] = wire.OrOne(r.Weight) * c.rec.Spec.Fade(uint64(rows[len(rows)-1].Step-r.Step))
		ones = ones && ws[i] == 1
	}
	if ones {
		return nil
	}
	return ws
}

// checkScales refuses what is not answered yet in a run whose columns have dampings of their own. With
// scales A is GR⁻¹Gᵀ, products are GR⁻¹v and squared norms vᵀR⁻¹v: shards see to that, and so do they
// divide what is answered. So all that follows from these is right as it is, in the norm of R. Of F v and H v
// nothing is divided: GᵀGv/N and λRv + GᵀGv/N, in the norm of R⁻¹.
func (c *Core) checkScales(m *wire.Query) error {
	if c.rec.Spec.Scales == "" {
		return nil
	}
	if m.Block != 0 {
		return wire.Errorf(wire.CodeUnsupported, "block", min(m.Block, c.rec.Spec.Dim), "left out", "a run with dampings of its tensors does not answer by blocks yet")
	}
	switch m.Kind {
	case wire.KindVector, wire.KindFisher, wire.KindHessian, wire.KindCombine, wire.KindRow, wire.KindSample, wire.KindDiag, wire.KindColumn, wire.KindSubblock,
		wire.KindPrune, wire.KindCompensate, wire.KindScores, wire.KindPairs, wire.KindInfluence, wire.KindSelf:
		return nil
	}
	return wire.Errorf(wire.CodeUnsupported, "kind", m.Kind, "vector, fisher, hessian, combine, row, sample, diag, column, subblock, prune, compensate, scores, pairs, influence or self",
		"a run with dampings of its tensors does not answer the others yet")
}

// absolute is the norm of what a column that is off by x everywhere is off by: that of R, of F v and H v that of R⁻¹.
func (c *Core) absolute(q *query, x float64) float64 {
	r := c.rec.Spec.Scales.Most()
	if q.kind == wire.KindFisher || q.kind == wire.KindHessian {
		r = 1 / c.rec.Spec.Scales.Least()
	}
	return x * math.Sqrt(float64(c.rec.Spec.Dim)*r)
}

// rootScales are the roots of the scales of columns; nil where all are 1.
func (c *Core) rootScales(index []int64) []float64 {
	if c.rec.Spec.Scales == "" {
		return nil
	}
	roots := c.rec.Spec.Scales.At(index...)
	for i, r := range roots {
		roots[i] = math.Sqrt(r)
	}
	return roots
}
