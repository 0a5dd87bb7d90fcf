package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"text/tabwriter"
	"time"
)

// This file: `mfac demo forget`. A network is trained on images, some of which are forgotten then: their
// rows leave the window, and one Newton step on the loss of the others is taken. What it is held against is
// the network trained anew without them (docs/demos.md).

// ForgetRun is the part of an M-FAC client's run that Forget needs.
type ForgetRun interface {
	// PublishMany publishes rows as steps first, first+1, …
	PublishMany(ctx context.Context, first uint64, rows [][]float32) error
	// Forget takes steps out of the window and returns how many rows are left.
	Forget(ctx context.Context, steps []uint64) (rows int, err error)
	// IHVP64 sets dst = H⁻¹v and returns the cluster's bound of the relative error in the 2-norm.
	IHVP64(ctx context.Context, dst, v []float64) (bound float64, err error)
}

// ForgetCluster makes runs, of the divisor `count`: N = rows in the window; and deletes them.
type ForgetCluster interface {
	NewForgetRun(ctx context.Context, name string, dim int64, layout []Tensor, window int, damping float64) (ForgetRun, error)
	DeleteRun(ctx context.Context, name string) error
}

// ForgetOptions are those of Forget. What is zero gets the default in brackets.
type ForgetOptions struct {
	Seed        uint64  // of the first repetition; the others count up from it
	Repetitions int     // [3]
	Images      int     // to train on, each a row of the window [500]
	Forget      int     // images to forget [a twentieth: 25]
	Hidden      []int   // size of the hidden layer, 0 for none, of each network [0 and 16: 1,570 and 12,594 parameters]
	Steps       int     // of each training [400]
	Decay       float64 // weight decay μ, λ too [0.1]
	MNISTDir    string  // folder of the MNIST files [see FindMNIST]
}

func (o ForgetOptions) withDefaults() ForgetOptions {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.Repetitions, 3)
	set(&o.Images, 500)
	set(&o.Forget, max(1, o.Images/20))
	set(&o.Steps, 400)
	if o.Hidden == nil {
		o.Hidden = []int{0, 16}
	}
	if o.Decay == 0 {
		o.Decay = 0.1
	}
	return o
}

func (o ForgetOptions) check() error {
	for _, v := range []struct {
		name             string
		value, low, high int
	}{
		{"repetitions", o.Repetitions, 1, 100}, {"images", o.Images, 2, 4096}, {"forget", o.Forget, 1, o.Images - 1}, {"steps", o.Steps, 1, 1_000_000},
	} {
		if v.value < v.low || v.value > v.high {
			return fmt.Errorf("%s is %d, must be in [%d, %d]", v.name, v.value, v.low, v.high)
		}
	}
	for _, h := range o.Hidden {
		if h < 0 || h > 1000 {
			return fmt.Errorf("hidden is %d, must be in [0, 1000]", h)
		}
	}
	if !(o.Decay > 0 && o.Decay <= 1) { // NaN fails
		return fmt.Errorf("decay is %v, must be in (0, 1]", o.Decay)
	}
	return nil
}

// What Forget trains on and how: two digits, told apart by a network that is trained on all images at
// once by gradient descent with momentum, with a weight decay μ that is also λ.
const (
	forgetZero, forgetOne = 3, 8
	forgetRate            = 0.02
)

const streamForget = 201 // of random numbers, beside those of train.go

// Forget runs the demonstration for each seed. A line a repetition goes to progress, which may be nil.
// The runs it makes are deleted before it returns.
func Forget(ctx context.Context, cluster ForgetCluster, o ForgetOptions, progress io.Writer) (ForgetResult, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return ForgetResult{}, err
	}
	if progress == nil {
		progress = io.Discard
	}
	start := time.Now()
	dir, err := FindMNIST(o.MNISTDir)
	if err != nil {
		return ForgetResult{}, err
	}
	res := ForgetResult{Images: o.Images, Forgotten: o.Forget, Steps: o.Steps, Damping: o.Decay}
	for _, hidden := range o.Hidden {
		net := NewNet(pixels, 2)
		if hidden > 0 {
			net = NewNet(pixels, hidden, 2)
		}
		for k := range o.Repetitions {
			f := forgetting{o: o, net: net, seed: o.Seed + uint64(k)}
			rep, err := f.repeat(ctx, cluster, dir)
			if err != nil {
				return ForgetResult{}, fmt.Errorf("network %s, seed %d: %w", net, f.seed, err)
			}
			res.Repetitions = append(res.Repetitions, rep)
			fmt.Fprintf(progress, "network %s, seed %d: %.3f of the distance is left (%.1f s so far)\n",
				net, rep.Seed, rep.Left(), time.Since(start).Seconds())
		}
	}
	res.Elapsed = time.Since(start)
	return res, nil
}

// forgetting is the demonstration for one seed.
type forgetting struct {
	o    ForgetOptions
	net  *Net
	seed uint64
}

func (f *forgetting) repeat(ctx context.Context, cluster ForgetCluster, dir string) (Forgetting, error) {
	data, err := LoadMNIST(dir, f.seed, mnistTraining-1, 1)
	if err != nil {
		return Forgetting{}, err
	}
	all, test := twoDigits(data.Train, f.o.Images), twoDigits(data.Test, data.Test.Len())
	if all.Len() < f.o.Images {
		return Forgetting{}, fmt.Errorf("MNIST has %d images of %d and %d, %d are needed", all.Len(), forgetZero, forgetOne, f.o.Images)
	}
	gone := rand.New(rand.NewPCG(f.seed, streamForget)).Perm(all.Len())[:f.o.Forget]
	slices.Sort(gone)
	var kept []int
	for i := range all.Len() {
		if _, found := slices.BinarySearch(gone, i); !found {
			kept = append(kept, i)
		}
	}
	w, err := f.train(ctx, all)
	if err != nil {
		return Forgetting{}, err
	}
	anew, err := f.train(ctx, selected(all, kept))
	if err != nil {
		return Forgetting{}, err
	}
	step, bound, err := f.newton(ctx, cluster, w, all, gone)
	if err != nil {
		return Forgetting{}, err
	}
	after := make([]float32, len(w))
	for i := range w {
		after[i] = w[i] + float32(step[i])
	}
	rep := Forgetting{Network: f.net.String(), Seed: f.seed, Bound: bound}
	rep.Before = f.distance(w, anew, test)
	rep.After = f.distance(after, anew, test)
	forgotten := selected(all, gone)
	rep.ForgottenBefore = f.distance(w, anew, forgotten)
	rep.ForgottenAfter = f.distance(after, anew, forgotten)
	_, rep.Accuracy = f.net.Evaluate(w, test)
	_, rep.AccuracyAfter = f.net.Evaluate(after, test)
	_, rep.AccuracyAnew = f.net.Evaluate(anew, test)
	return rep, nil
}

// train returns the weights after gradient descent on mean loss + μ/2·|w|².
func (f *forgetting) train(ctx context.Context, s Images) ([]float32, error) {
	w, g := f.net.Init(f.seed), make([]float32, f.net.Dim())
	opt := &sgd{momentum: momentum}
	for t := 1; t <= f.o.Steps; t++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		f.net.Gradient(g, w, s)
		for i := range g {
			g[i] += float32(f.o.Decay) * w[i]
		}
		if err := opt.step(ctx, t, forgetRate, w, g); err != nil {
			return nil, err
		}
	}
	if !finite(dot(w, w)) {
		return nil, errors.New("the training diverged")
	}
	return w, nil
}

// newton publishes a row for each image, lets those of gone be forgotten, and returns the Newton step on
// the loss of the others. At w the gradient of the loss of all is zero, so with n images left that of
// theirs is −(1/n) Σ (g_i + μw) over those gone, and the step is H⁻¹ Σ (g_i + μw)/n.
//
// H is the Gauss–Newton matrix with the weight decay: with two classes ∂²loss/∂logits² has rank one, and an
// image's row is its gradient times √(p/(1−p)), p being the chance that the network gives the label.
func (f *forgetting) newton(ctx context.Context, cluster ForgetCluster, w []float32, all Images, gone []int) (step []float64, bound float64, err error) {
	d := f.net.Dim()
	name := fmt.Sprintf("forget-%s-%d", f.net, f.seed)
	run, err := cluster.NewForgetRun(ctx, name, int64(d), f.net.Layout(), all.Len(), f.o.Decay)
	if err != nil {
		return nil, 0, fmt.Errorf("create run %s: %w", name, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, cluster.DeleteRun(ctx, name))
	}()

	rows, v := make([][]float32, all.Len()), make([]float64, d)
	for i := range rows {
		rows[i] = make([]float32, d)
		loss := f.net.Gradient(rows[i], w, all.Slice(i, i+1))
		if _, found := slices.BinarySearch(gone, i); found {
			axpy(v, 1, rows[i])
			axpy(v, f.o.Decay, w)
		}
		scale := float32(0) // of a loss of zero, whose gradient is zero
		if miss := -math.Expm1(-loss); miss > 0 {
			scale = float32(math.Sqrt(math.Exp(-loss) / miss))
		}
		for j := range rows[i] {
			rows[i][j] *= scale
		}
	}
	if err := run.PublishMany(ctx, 1, rows); err != nil {
		return nil, 0, err
	}
	steps := make([]uint64, len(gone))
	for k, i := range gone {
		steps[k] = uint64(i) + 1
	}
	left, err := run.Forget(ctx, steps)
	if err != nil {
		return nil, 0, err
	}
	if want := all.Len() - len(gone); left != want {
		return nil, 0, fmt.Errorf("%d rows are left, want %d", left, want)
	}
	step = make([]float64, d)
	if bound, err = run.IHVP64(ctx, step, v); err != nil {
		return nil, 0, err
	}
	for i := range step {
		step[i] /= float64(left)
	}
	return step, bound, nil
}

// distance is the root of the mean square of the difference of the logits.
func (f *forgetting) distance(a, b []float32, s Images) float64 {
	total, count := 0.0, 0
	for lo := 0; lo < s.Len(); lo += evalBatch {
		part := s.Slice(lo, min(lo+evalBatch, s.Len()))
		f.net.forward(a, part)
		last := len(f.net.act) - 1
		x := slices.Clone(f.net.act[last])
		f.net.forward(b, part)
		for i, y := range f.net.act[last] {
			d := float64(x[i]) - float64(y)
			total += d * d
		}
		count += len(x)
	}
	return math.Sqrt(total / float64(count))
}

// twoDigits returns the first n images of the two digits, with labels 0 and 1.
func twoDigits(s Images, n int) Images {
	var index []int
	for i, y := range s.Y {
		if (y == forgetZero || y == forgetOne) && len(index) < n {
			index = append(index, i)
		}
	}
	out := selected(s, index)
	for i, y := range out.Y {
		out.Y[i] = 0
		if y == forgetOne {
			out.Y[i] = 1
		}
	}
	return out
}

// selected copies the images named by index.
func selected(s Images, index []int) Images {
	out := Images{X: make([]float32, 0, len(index)*pixels), Y: make([]uint8, 0, len(index))}
	for _, i := range index {
		out.X = append(out.X, s.X[i*pixels:(i+1)*pixels]...)
		out.Y = append(out.Y, s.Y[i])
	}
	return out
}

// ForgetResult is what Forget found. Its JSON is what `mfac demo forget --json` prints.
type ForgetResult struct {
	Images      int           `json:"images"`
	Forgotten   int           `json:"forgotten"`
	Steps       int           `json:"steps"`
	Damping     float64       `json:"damping"`
	Repetitions []Forgetting  `json:"repetitions"`
	Elapsed     time.Duration `json:"-"`
}

// Forgetting is what one seed gave. Distances are of the logits from those of the network trained anew, the
// root of the mean square.
type Forgetting struct {
	Network         string  `json:"network"`
	Seed            uint64  `json:"seed"`
	Before          float64 `json:"before"` // of the test images, before forgetting
	After           float64 `json:"after"`
	ForgottenBefore float64 `json:"forgotten_before"` // of the forgotten images
	ForgottenAfter  float64 `json:"forgotten_after"`
	Accuracy        float64 `json:"accuracy"`       // on the test images, before forgetting
	AccuracyAfter   float64 `json:"accuracy_after"` // after the step
	AccuracyAnew    float64 `json:"accuracy_anew"`  // of the network trained anew
	Bound           float64 `json:"bound"`          // of the relative error of H⁻¹v
}

// Left is the share of the distance on test images that is left.
func (f Forgetting) Left() float64 { return f.After / f.Before }

// WriteTable writes the table and what one must know to read it.
func (r ForgetResult) WriteTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "network\tseed\tdistance before\tafter\tleft\tforgotten images: before\tafter\tleft\taccuracy before\tafter\tanew\t")
	left, bound := map[string][]float64{}, 0.0
	var networks []string
	for _, f := range r.Repetitions {
		fmt.Fprintf(tw, "%s\t%d\t%.4f\t%.4f\t%.3f\t%.4f\t%.4f\t%.3f\t%.2f %%\t%.2f %%\t%.2f %%\t\n", f.Network, f.Seed, f.Before, f.After, f.Left(),
			f.ForgottenBefore, f.ForgottenAfter, f.ForgottenAfter/f.ForgottenBefore, 100*f.Accuracy, 100*f.AccuracyAfter, 100*f.AccuracyAnew)
		if left[f.Network] == nil {
			networks = append(networks, f.Network)
		}
		left[f.Network], bound = append(left[f.Network], f.Left()), math.Max(bound, f.Bound)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, `
Distance: of the logits from those of a network that is trained anew without the %d of %d images (MNIST,
%d against %d; root mean square; test images, and the forgotten ones), before and after forgetting.
`, r.Forgotten, r.Images, forgetZero, forgetOne)
	for _, n := range networks {
		mean, dev := meanAndDeviation(len(left[n]), func(i int) float64 { return left[n][i] })
		fmt.Fprintf(w, "Network %s: %.3f ± %.3f of it is left (mean ± standard deviation of %d seed(s)).\n", n, mean, dev, len(left[n]))
	}
	_, err := fmt.Fprintf(w, `%d steps on all images at once; weight decay and damping %v.
The largest bound of the error of H⁻¹v is %.1e of it. All of it took %.1f s.
`, r.Steps, r.Damping, bound, r.Elapsed.Seconds())
	return err
}
