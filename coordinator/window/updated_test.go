package window

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// Updates don't drift: when every row has been replaced, LLᵀ is off from K by what random rounding errors of
// so many updates come to, not by half of ε each, which is what math.Hypot would do.
func TestUpdatesDoNotDrift(t *testing.T) {
	const n = 200
	for _, size := range []float64{0.01, 1, 1e2, 1e4, 1e6} {
		c := makeCase(3, "random", "random", "unit", n, n, 100, 1, Capacity)
		c.damping = c.dot(c.rows[0], c.rows[0]) / n * size
		w := c.feed(t)
		worst := 0.0
		for r := 0; r < n; r += 7 {
			s := num(0)
			for _, v := range w.own.l[r*w.own.ld:][:r+1] {
				s.Add(s, num(0).Mul(num(v), num(v)))
			}
			k := num(w.At(r, r))
			k.Add(k, num(w.own.shift))
			off, _ := s.Quo(s.Sub(s, k), k).Float64()
			worst = max(worst, math.Abs(off)/epsilon)
		}
		t.Logf("Nλ of %g A_ii: K_ii is off by %.2g ε", size, worst)
		if worst > 3*math.Sqrt(n) { // three standard deviations of n errors of ε each; they are smaller
			t.Errorf("Nλ of %g A_ii: after %d updates K_ii is off by %.3g ε", size, n, worst)
		}
	}
}

// A row's influence on itself is within its bounds when its row of L has gone through many updates.
func TestSelfInfluenceUpdated(t *testing.T) {
	worst := 0.0
	for i := range 400 {
		rng := rand.New(rand.NewPCG(uint64(i), 99))
		n := []int{1, 2, 5, 12, 30}[rng.IntN(5)]
		before := []int{n, 3 * n, 10 * n}[rng.IntN(3)]
		c := makeCase(uint64(i), rowKinds[i%len(rowKinds)], "random", "unit", n, before, 30, math.Pow(10, -4+8*rng.Float64()), Capacity)
		w, g := c.feed(t), c.inWindow()
		f, err := w.Factor(c.damping, Capacity)
		if errors.Is(err, ErrIllConditioned) {
			continue
		}
		must(t, err)
		ref, divisor := c.exact(f.N()), num(float64(f.N()))
		for r := range min(n, 3) {
			y, x := bigs(make([]float64, n)), bigs(g[r])
			for k := range g {
				y[k] = ref.dot(ref.g[k], x)
			}
			ref.solve(y)
			want := y[r].Mul(y[r], divisor)
			self, bound, out, outBound, err := f.SelfInfluence(r)
			must(t, err)
			rest := num(1)
			left := num(0).Quo(want, rest.Sub(rest, num(0).Quo(want, divisor)))
			used := max(ratio(offOf(self, want), bound), ratio(offOf(out, left), outBound))
			if worst = max(worst, used); !(used <= 1) {
				t.Errorf("case %d, row %d of %d after %d others: error/bound %.3g", i, r, n, before, used)
			}
		}
	}
	t.Logf("error/bound at most %.2g", worst)
}
