package coordinator

import (
	"math"

	"mfac/internal/invariant"
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

// checkScales refuses what is not answered in a run whose columns have dampings of their own. With
// scales A is GR⁻¹Gᵀ, products are GR⁻¹v and squared norms vᵀR⁻¹v: shards see to that, and so do they
// divide what is answered. So all that follows from these is right as it is, in the norm of R. Of F v and H v
// nothing is divided: GᵀGv/N and λRv + GᵀGv/N, in the norm of R⁻¹.
func (c *Core) checkScales(m *wire.Query) error {
	if c.rec.Spec.Scales == "" {
		return nil
	}
	if m.Block != 0 && m.Kind == wire.KindScalars { // a block has one damping
		return nil
	}
	switch m.Kind {
	case wire.KindVector, wire.KindFisher, wire.KindHessian, wire.KindCombine, wire.KindRow, wire.KindSample, wire.KindDiag, wire.KindColumn, wire.KindSubblock,
		wire.KindPrune, wire.KindCompensate, wire.KindScores, wire.KindPairs, wire.KindInfluence, wire.KindSelf, wire.KindLikelihood, wire.KindLeaveOut:
		return nil
	}
	return wire.Errorf(wire.CodeUnsupported, "kind", m.Kind, "vector, fisher, hessian, combine, row, sample, diag, column, subblock, prune, compensate, scores, pairs, influence, self, likelihood or leaveout",
		"what a run with dampings of its tensors knows, GR⁻¹Gᵀ, does not say the others: docs/weights.md")
}

// absolute is the norm of what a column that is off by x everywhere is off by: that of R, of diagonals that of R², of F v and H v that of R⁻¹.
func (c *Core) absolute(q *query, x float64) float64 {
	r := c.rec.Spec.Scales.Most()
	if q.kind == wire.KindDiag { // that of R²
		r *= r
	}
	if q.kind == wire.KindFisher || q.kind == wire.KindHessian {
		r = 1 / c.rec.Spec.Scales.Least()
	}
	return x * math.Sqrt(float64(c.rec.Spec.Dim)*r)
}

// scaleOf is a block's scale of λ: of one that begins at column lo.
func (c *Core) scaleOf(lo int64) float64 { return c.rec.Spec.Scales.At(lo)[0] }

// logDetScales is log det R, and what it may be off by.
func (c *Core) logDetScales() (sum, off float64) {
	list, err := c.rec.Spec.Scales.Parse(c.rec.Spec.Dim)
	invariant.That(err == nil, "scales of a record that was checked: %v", err)
	for i, f := range list {
		end := c.rec.Spec.Dim
		if i+1 < len(list) {
			end = list[i+1].Lo
		}
		x := float64(end-f.Lo) * math.Log(f.R)
		sum += x
		off += math.Abs(x)
	}
	return sum, float64(len(list)+4) * epsilon * off
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
