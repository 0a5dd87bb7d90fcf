package demo

import (
	"context"
	"math"
)

// optimizer moves weights against gradients; step is called with t = 1, 2, …
type optimizer interface {
	step(ctx context.Context, t int, lr float64, w, g []float32) error
}

// sgd is SGD with momentum: v ← μv + g, w ← w − lr·v.
type sgd struct {
	momentum float32
	v        []float32
}

func (o *sgd) step(_ context.Context, _ int, lr float64, w, g []float32) error {
	if o.v == nil {
		o.v = make([]float32, len(w))
	}
	for i := range w {
		o.v[i] = o.momentum*o.v[i] + g[i]
		w[i] -= float32(lr) * o.v[i]
	}
	return nil
}

// adam is Adam with bias correction (Kingma and Ba, algorithm 1).
type adam struct {
	beta1, beta2, eps float64
	m, v              []float32
}

func (o *adam) step(_ context.Context, t int, lr float64, w, g []float32) error {
	if o.m == nil {
		o.m, o.v = make([]float32, len(w)), make([]float32, len(w))
	}
	b1, b2 := float32(o.beta1), float32(o.beta2)
	// lr·m̂/(√v̂ + ε), with the corrections taken out of the loop.
	root := math.Sqrt(1 - math.Pow(o.beta2, float64(t)))
	rate := float32(lr * root / (1 - math.Pow(o.beta1, float64(t))))
	eps := float32(o.eps * root)
	for i, gi := range g {
		o.m[i] = b1*o.m[i] + (1-b1)*gi
		o.v[i] = b2*o.v[i] + (1-b2)*gi*gi
		w[i] -= rate * o.m[i] / (float32(math.Sqrt(float64(o.v[i]))) + eps)
	}
	return nil
}

// mfac is M-FAC as its authors' optimizer does it: the gradient goes into the
// window, is multiplied by H⁻¹, and an average of the products moves the weights:
// v ← μv + (1−μ)H⁻¹g, w ← w − lr·v.
type mfac struct {
	name     string // of the run
	run      Run
	momentum float32
	v, x     []float32
	last     []float32 // the newest gradient
}

func (o *mfac) step(ctx context.Context, t int, lr float64, w, g []float32) error {
	if o.v == nil {
		o.v, o.x = make([]float32, len(w)), make([]float32, len(w))
	}
	o.last = append(o.last[:0], g...)
	if err := o.run.Precondition(ctx, uint64(t), o.x, g); err != nil {
		return err
	}
	for i := range w {
		o.v[i] = o.momentum*o.v[i] + (1-o.momentum)*o.x[i]
		w[i] -= float32(lr) * o.v[i]
	}
	return nil
}
