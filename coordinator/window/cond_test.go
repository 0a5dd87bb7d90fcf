package window

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/floats"
)

// TestSplitInverse: where one row is another's double beside rows of other sizes, and L no longer knows
// how nearly dependent they are, ‖SK⁻¹S‖ is still bounded, and by little more than it is.
func TestSplitInverse(t *testing.T) {
	split, worst := 0, 0.0
	for i := range 1500 {
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		n := 2 + rng.IntN(12)
		damping := math.Pow(10, -12+6*rng.Float64())
		c := makeCase(uint64(i), "sizes and twice", "random", "unit", n, 0, 20+rng.IntN(60), damping, Count)
		w, g := c.feed(t), c.inWindow()
		f, err := w.Factor(c.damping, Count)
		if errors.Is(err, ErrIllConditioned) {
			continue
		}
		must(t, err)
		f.measure()
		s := make([]float64, n)
		w.diagonalTo(s, f.z.shift)
		certain := floats.Max(s) / f.z.shift
		for i := range s {
			s[i] = math.Sqrt(s[i])
		}
		if off := 2 * w.inverseNorm(f.z, s, s, 0) * float64(n+8) * epsilon; off < 0.5 {
			continue
		}
		// The truth, by inverse iteration with the exact K. It is a lower bound.
		truth, ref := 1.0, newExact(g, f.N(), c.damping)
		x := normal(rng, n, 1)
		for range 30 {
			floats.Scale(1/floats.Norm(x, 2), x)
			b := make([]*big.Float, n)
			for i := range x {
				b[i] = num(x[i] * s[i])
			}
			ref.solve(b)
			for i := range x {
				v, _ := b[i].Float64()
				x[i] = v * s[i]
			}
			truth = floats.Norm(x, 2)
		}
		if !(f.z.inverse >= truth*(1-1e-6)) { // the iteration's own rounding is far less
			t.Errorf("case %d: ‖SK⁻¹S‖ is %g, the bound %g", i, truth, f.z.inverse)
		}
		if f.z.inverse < certain/100 {
			split++
		}
		worst = max(worst, f.z.inverse/truth)
	}
	t.Logf("split helps in %d cases; at most %.3g times too much", split, worst)
	// Twice for the halves, twice for Lanczos; the rest is for rows that are no doubles, and longer.
	if split < 40 || worst > 10 {
		t.Errorf("split helps in %d cases, and is at worst %g times too much", split, worst)
	}
}
