package sim

import (
	"math"

	"mfac/wire"
)

// This file: weights of gradients. The reference knows rows times the roots of their weights, which are powers of
// two here, so that they have no rounding.

// weight is a publication's in H, 0 for 1: by its token, so that all who send it say the same.
func (p *publication) weight() float64 { return []float64{0, 0, 4, 0.25}[p.token>>8%4] }

// halfLife is the run's: in some, a gradient counts a quarter for each step.
func (s shape) halfLife() float64 {
	if s.dim%4 == 0 {
		return 0.5
	}
	return 0
}

// roots are those of what the rows of a window weigh.
func (k *checker) roots(rows []wire.Row) []float64 {
	out := make([]float64, len(rows))
	for i, r := range rows {
		w := wire.OrOne(k.attempts[r.Attempt].weight())
		if k.w.shape.halfLife() != 0 {
			w *= math.Pow(4, -float64(rows[len(rows)-1].Step-r.Step))
		}
		out[i] = math.Sqrt(w)
	}
	return out
}

// times is root·x, a copy.
func times(root float64, x []float64) []float64 {
	out := make([]float64, len(x))
	for j, v := range x {
		out[j] = root * v
	}
	return out
}
