package demo

import (
	"context"
	"errors"
	"math"
	"testing"
)

// doubleRun answers 2g to every gradient, and err where it is set.
type doubleRun struct {
	Run
	steps []uint64
	err   error
}

func (r *doubleRun) Precondition(_ context.Context, step uint64, dst, g []float32) error {
	r.steps = append(r.steps, step)
	for i, v := range g {
		dst[i] = 2 * v
	}
	return r.err
}

// Each optimizer takes three steps with the gradients 1, −2, 0.5 from 0, against its
// formula in float64.
func TestOptimizersFollowTheirFormulas(t *testing.T) {
	const tol = 1e-6 // float32
	gradients := []float64{1, -2, 0.5}
	lrs := []float64{0.1, 0.2, 0.05}
	for _, c := range []struct {
		name string
		opt  optimizer
		next func(t int, g float64, state *[2]float64) float64 // w's change for lr = 1
	}{
		{"sgd", &sgd{momentum: 0.9}, func(_ int, g float64, s *[2]float64) float64 {
			s[0] = 0.9*s[0] + g
			return s[0]
		}},
		{"adam", &adam{beta1: 0.9, beta2: 0.999, eps: 1e-3}, func(t int, g float64, s *[2]float64) float64 {
			s[0] = 0.9*s[0] + 0.1*g
			s[1] = 0.999*s[1] + 0.001*g*g
			m, v := s[0]/(1-math.Pow(0.9, float64(t))), s[1]/(1-math.Pow(0.999, float64(t)))
			return m / (math.Sqrt(v) + 1e-3)
		}},
		{"mfac", &mfac{run: &doubleRun{}, momentum: 0.9}, func(_ int, g float64, s *[2]float64) float64 {
			s[0] = 0.9*s[0] + 0.1*2*g
			return s[0]
		}},
	} {
		w, want, state := []float32{0}, 0.0, [2]float64{}
		for i, g := range gradients {
			if err := c.opt.step(context.Background(), i+1, lrs[i], w, []float32{float32(g)}); err != nil {
				t.Fatal(err)
			}
			want -= lrs[i] * c.next(i+1, g, &state)
			if !(math.Abs(float64(w[0])-want) <= tol) {
				t.Errorf("%s: w is %v after step %d, want %v", c.name, w[0], i+1, want)
			}
		}
	}
}

func TestFailedPreconditionMovesNothing(t *testing.T) {
	refused := errors.New("refused")
	run := &doubleRun{err: refused}
	w := []float32{1}
	err := (&mfac{run: run, momentum: 0.9}).step(context.Background(), 7, 1, w, []float32{3})
	if !errors.Is(err, refused) || w[0] != 1 {
		t.Errorf("error %v and w %v, want %v and 1", err, w[0], refused)
	}
	if len(run.steps) != 1 || run.steps[0] != 7 {
		t.Errorf("published as steps %v, want [7]", run.steps)
	}
}
