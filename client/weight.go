package client

import "mfac/wire"

// WithWeight gives the gradient the weight w in H: F = (1/N) Σ w g gᵀ, w from wire.MinWeight to
// wire.MaxWeight; 1 without it. N stays what it is. In all but this it is as if √w·g had been published without
// a weight, of which nothing but the rounding differs: rows are stored and read back as they are, and scores are of g
// (docs/maths.md, "Weights and dampings"). In a run with a half-life it is what fades. All publishers of a step
// must say the same weight: else wire.CodeInvalid.
func WithWeight(w float64) StepOption {
	return func(c *call) error {
		if c.weight = w; w == 1 {
			c.weight = 0 // as without, on the wire too
		}
		return wire.CheckWeight("weight", w)
	}
}
