package wire

import "cmp"

// This file: H^(−½)v, and how likely gradients are under N(0, H), from which λ is chosen.

// Kinds of query that need the tridiagonal form of A at the coordinator.
const (
	KindInvSqrt = "invsqrt" // H^(−½)v for vectors that the client sends

	// Payload: dampings, float64 each, at most MaxTuned of them. Answers are numbers (Values).
	KindLikelihood = "likelihood" // of vectors h that the client sends: for each damping, for each vector, log N(h; 0, H) and its bound
	KindLeaveOut   = "leaveout"   // of each stored gradient g: for each damping, for each gradient, log N(g; 0, H − w ggᵀ/N) and its bound, w being its weight
)

// MaxTuned is the most dampings in one query for likelihoods.
const MaxTuned = 64

// LikelihoodNumbers is how many numbers there are for a vector and a damping.
const LikelihoodNumbers = 2

// checkTune checks a query of these kinds.
func (m *Query) checkTune() error {
	if m.Kind != KindLeaveOut {
		if err := CheckDType("dtype", m.DType); err != nil {
			return err
		}
	}
	if m.Kind == KindInvSqrt {
		return checkLen(m.Payload, 0)
	}
	if m.Kind == KindLeaveOut && m.Vectors != 1 {
		return Invalid("vectors", m.Vectors, "1 for "+m.Kind)
	}
	if m.Damping != 0 {
		return Invalid("damping", m.Damping, "left out of a query of kind "+m.Kind)
	}
	return cmp.Or(checkResult64(m.Result), checkDampings(m.Payload, MaxTuned))
}

// checkDampings checks a payload of 1 to most dampings.
func checkDampings(p []byte, most int) error {
	if n := len(p); n == 0 || n%8 != 0 || n > 8*most {
		return Invalid("payload bytes", n, "a multiple of 8, up to "+itoa(8*most))
	}
	for _, lambda := range Floats(p) {
		if err := CheckDamping("damping", lambda); err != nil {
			return err
		}
	}
	return nil
}
