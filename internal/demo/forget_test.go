package demo

import (
	"context"
	"math"
	"strings"
	"testing"
)

// smallForget is a demonstration of a second or two.
func smallForget() ForgetOptions {
	return ForgetOptions{Seed: 1, Repetitions: 1, Images: 80, Forget: 4, Hidden: []int{6}, Steps: 400}
}

func TestForget(t *testing.T) {
	cluster := &DenseRuns{}
	res, err := Forget(context.Background(), cluster, smallForget(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := res.Repetitions[0]
	// One image of twenty gone of few: the step still takes the most of the way on the images that it is about.
	if !(r.Before > 0 && r.Left() < 1 && r.ForgottenAfter < r.ForgottenBefore) || !(r.AccuracyAfter > 0.8) {
		t.Errorf("%+v", r)
	}
	if len(cluster.live) != 0 {
		t.Errorf("runs left behind: %v", cluster.live)
	}
}

// The rows of newton make the Gauss–Newton matrix: of a network without hidden layer, whose logits are
// linear in w, that is the Hessian of the mean loss, which the gradient's differences give.
func TestForgetRowsAreTheHessian(t *testing.T) {
	const decay = 1e-2
	net := NewNet(pixels, 2)
	f := forgetting{o: ForgetOptions{Images: 30, Decay: decay}, net: net, seed: 3}
	data, err := smallData()
	if err != nil {
		t.Fatal(err)
	}
	all := twoDigits(data.Train, 30)
	w := net.Init(3)
	cluster := &DenseRuns{}
	// With all but one image gone H is one image's; the step is H⁻¹v, so that H·step = v.
	gone := make([]int, 29)
	for i := range gone {
		gone[i] = i
	}
	step, _, err := f.newton(context.Background(), cluster, w, all, gone)
	if err != nil {
		t.Fatal(err)
	}
	const h = 1e-2 // a share of the step: float32 gradients
	g, plus, minus := make([]float32, net.Dim()), make([]float32, net.Dim()), make([]float32, net.Dim())
	v := make([]float64, net.Dim())
	for i := range gone {
		net.Gradient(g, w, all.Slice(i, i+1))
		axpy(v, 1, g)
		axpy(v, decay, w)
	}
	size := norm(step)
	a, b := make([]float32, net.Dim()), make([]float32, net.Dim())
	for i := range w {
		d := float32(h * step[i] / size)
		a[i], b[i] = w[i]+d, w[i]-d
	}
	kept := all.Slice(29, 30)
	net.Gradient(plus, a, kept)
	net.Gradient(minus, b, kept)
	off := 0.0
	for i := range v {
		product := float64(plus[i]-minus[i])*size/(2*h) + decay*step[i]
		off += (product - v[i]) * (product - v[i])
	}
	const tolerance = 2e-3 // float32 differences over 2h, and the third derivative
	if got := math.Sqrt(off) / norm(v); !(got < tolerance) {
		t.Errorf("H·step is off v by %v, want below %v", got, tolerance)
	}
}

func TestForgetRefuses(t *testing.T) {
	for _, c := range []struct {
		want string
		set  func(*ForgetOptions)
	}{
		{"repetitions is -1, must be in [1, 100]", func(o *ForgetOptions) { o.Repetitions = -1 }},
		{"images is 5000, must be in [2, 4096]", func(o *ForgetOptions) { o.Images = 5000 }},
		{"forget is 80, must be in [1, 79]", func(o *ForgetOptions) { o.Forget = 80 }},
		{"hidden is -1, must be in [0, 1000]", func(o *ForgetOptions) { o.Hidden = []int{3, -1} }},
		{"decay is -1, must be in (0, 1]", func(o *ForgetOptions) { o.Decay = -1 }},
		{"steps is -1, must be in [1, 1000000]", func(o *ForgetOptions) { o.Steps = -1 }},
		{"MNIST files not found", func(o *ForgetOptions) { o.MNISTDir = t.TempDir() }},
	} {
		o := smallForget()
		c.set(&o)
		if _, err := Forget(context.Background(), &DenseRuns{}, o, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}
