package window

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReadsChangeNoBits has windows with the same changes and other questions between them: all
// answer alike, to the bit (W5).
func TestReadsChangeNoBits(t *testing.T) {
	const m, d, changes = 9, 12, 60
	for _, div := range []Divisor{Capacity, Count} {
		for _, damping := range []float64{0.3, 1e-19} { // at the second some versions have no factor
			for seed := range uint64(4) {
				t.Run(fmt.Sprintf("divisor=%v/damping=%g/seed=%d", div, damping, seed), func(t *testing.T) {
					story := func(asked int) []uint64 { // asked: in so many of ten versions
						changing, asking := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, uint64(asked)))
						w, err := New(m, damping, div)
						must(t, err)
						var g [][]float64
						var answers []uint64
						next := func() []float64 {
							switch {
							case len(g) > 0 && changing.IntN(6) == 0: // the newest once more: K is singular but for Nλ
								return g[len(g)-1]
							default:
								return normal(changing, d, 1)
							}
						}
						for i := range changes {
							switch {
							case i == 25: // a takeover
								if len(g) == m {
									g = g[1:]
								}
								must(t, w.Load(packed(g), len(g)))
							case len(g) > 1 && changing.IntN(8) == 0:
								j := changing.IntN(len(g))
								must(t, w.Drop(j))
								g = append(append([][]float64(nil), g[:j]...), g[j+1:]...)
							case len(g) == m:
								x := next()
								must(t, w.Replace(row(g[1:], x)))
								g = append(g[1:], x)
							default:
								x := next()
								must(t, w.Append(row(g, x)))
								g = append(g, x)
							}
							if asking.IntN(10) < asked {
								at := w
								if asking.IntN(2) == 0 {
									at = w.Clone()
								}
								_, _ = at.Factor(damping, div)
								if asking.IntN(2) == 0 {
									_, _ = at.Factor(damping*2, Capacity)
								}
							}
							if i%20 != 19 {
								continue
							}
							for _, l := range []float64{damping, 0.7} { // what all ask
								f, err := w.Factor(l, div)
								if err != nil {
									answers = append(answers, 1)
									continue
								}
								y := make([]float64, len(g))
								for j := range y {
									y[j] = math.Cos(float64(j))
								}
								must(t, f.SolveTo(y, y))
								b, err := f.CombinationBoundOf(y)
								must(t, err)
								for _, x := range append(y, b.Relative, b.Numerator) {
									answers = append(answers, math.Float64bits(x))
								}
							}
						}
						return answers
					}
					want := story(0)
					for _, asked := range []int{1, 5, 10} {
						if diff := cmp.Diff(want, story(asked)); diff != "" {
							t.Errorf("asked in %d of ten versions (-never +asked):\n%s", asked, diff)
						}
					}
				})
			}
		}
	}
}

// TestOverridesAreGivenBack: other dampings take memory while they are asked for.
func TestOverridesAreGivenBack(t *testing.T) {
	g := gradients(5, 12, 20)
	w := loaded(t, g[:10], 11, 1, Capacity)
	for _, d := range []float64{2, 3, 4} {
		_, err := w.Factor(d, Capacity)
		must(t, err)
	}
	must(t, w.Append(row(g[:10], g[10])))
	if len(w.other) != 3 { // they may be asked for again, and have the memory then
		t.Errorf("%d overrides, want 3", len(w.other))
	}
	_, err := w.Factor(2, Capacity)
	must(t, err)
	must(t, w.Replace(row(g[1:11], g[11])))
	if len(w.other) != 1 {
		t.Errorf("%d overrides, want 1: the others were not asked for", len(w.other))
	}
	must(t, w.Drop(0))
	if len(w.other) != 0 {
		t.Errorf("%d overrides, want none", len(w.other))
	}
	_, err = w.Factor(2, Capacity)
	must(t, err)
	if w.Forget(); len(w.other) != 0 {
		t.Errorf("%d overrides after Forget", len(w.other))
	}
}
