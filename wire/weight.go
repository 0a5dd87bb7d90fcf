package wire

import (
	"fmt"
	"math"
)

// This file: weights of gradients (maths.md, "Weights and dampings").

// Limits of weights: their squares and reciprocals are far from the ends of float64.
const (
	MinWeight = 1e-150
	MaxWeight = 1e150

	// maxFade is how many half-lives a gradient fades at most.
	maxFade = 500
)

// CheckWeight checks the weight of a gradient.
func CheckWeight(field string, w float64) error {
	if !(w > 0) || math.IsInf(w, 1) { // NaN fails the first
		return Invalid(field, w, "> 0 and finite")
	}
	if w < MinWeight || w > MaxWeight {
		return Invalid(field, w, fmt.Sprintf("in [%g, %g]", MinWeight, MaxWeight))
	}
	return nil
}

// CheckHalfLife checks the half-life of a run's gradients, in steps.
func CheckHalfLife(field string, t float64) error {
	if !(t > 0) || math.IsInf(t, 1) {
		return Invalid(field, t, "> 0 and finite")
	}
	return nil
}

// OrOne is a weight of a message, where 0 stands for 1.
func OrOne(w float64) float64 {
	if w == 0 {
		return 1
	}
	return w
}

// checkWeight checks a weight in a message, where 0 stands for 1.
func checkWeight(w float64) error {
	if w == 0 {
		return nil
	}
	return CheckWeight("weight", w)
}

// Fade is what is left of a gradient of the given age, in steps, in a run with a half-life, 2^(−age/T),
// but not below 2⁻⁵⁰⁰; 1 without one.
func (s RunSpec) Fade(age uint64) float64 {
	if s.HalfLife == 0 {
		return 1
	}
	return math.Exp2(-min(float64(age)/s.HalfLife, maxFade))
}
