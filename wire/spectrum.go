package wire

import "cmp"

// This file: queries for numbers of the spectrum, which the coordinator answers by itself.

// Kinds of query whose answers are numbers (Values):
//
//	scalars   payload: dampings, float64 each, at most MaxDampings of them. Numbers: ScalarsHead,
//	          then ScalarsEach for each damping
//	spectrum  no payload. Numbers: what each eigenvalue may be off by, then the min(rows, d) eigenvalues of F
//	          that are not 0 for want of rows, the largest first
const (
	KindScalars  = "scalars"
	KindSpectrum = "spectrum"
)

// MaxDampings is the most dampings in one query for scalars.
const MaxDampings = 1024

// How many numbers of a scalars query are for no damping, and how many for each. All are pairs of a number and a
// bound of its error, but the first of the head, the divisor N.
const (
	ScalarsHead = 7  // N; tr F; ‖F‖ in the Frobenius norm; ‖F‖₂
	ScalarsEach = 14 // log det H; tr H⁻¹; tr FH⁻¹; the largest and smallest eigenvalue of H; cond H; cond K
)

// checkSpectrum checks a query of these kinds.
func (m *Query) checkSpectrum() error {
	if m.Vectors != 1 {
		return Invalid("vectors", m.Vectors, "1 for "+m.Kind)
	}
	if m.Damping != 0 {
		return Invalid("damping", m.Damping, "left out of a query of kind "+m.Kind)
	}
	if err := cmp.Or(checkResult64(m.Result), checkWithin("steps", m.Steps, 0, 0)); err != nil {
		return err
	}
	if m.Kind == KindSpectrum {
		return checkLen(m.Payload, 0)
	}
	return checkDampings(m.Payload, MaxDampings)
}
