package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// This file: `mfac demo influence`. Some training images get a wrong label, a network is trained on all,
// and the images are ranked by self-influence gᵀH⁻¹g, g being an image's gradient at the end and H the
// Fisher of other images (docs/demos.md).

// InfluenceRun is the part of an M-FAC client's run that Influence needs.
type InfluenceRun interface {
	// PublishMany publishes rows as steps first, first+1, …
	PublishMany(ctx context.Context, first uint64, rows [][]float32) error
	// LeaveOneOut returns gᵀ(H − ggᵀ/N)⁻¹g of each gradient in the window, oldest first: H without
	// that gradient. Bounds are of the error of each, absolute.
	LeaveOneOut(ctx context.Context) (values, bounds []float64, err error)
	// Forms returns vᵀH⁻¹v of each vector, at most MaxVectors, with absolute bounds.
	Forms(ctx context.Context, v [][]float32) (values, bounds []float64, err error)
	MaxVectors() int
}

// InfluenceCluster makes runs and deletes them.
type InfluenceCluster interface {
	NewInfluenceRun(ctx context.Context, name string, dim int64, layout []Tensor, window int, damping float64) (InfluenceRun, error)
	DeleteRun(ctx context.Context, name string) error
}

// InfluenceOptions are those of Influence. What is zero gets the default in brackets.
type InfluenceOptions struct {
	Seed        uint64  // of the first repetition; the others count up from it
	Repetitions int     // [3]
	Images      int     // to train on and to rank [3,000]
	Window      int     // gradients in H, those of the first images [1,000]
	Wrong       float64 // share of the images with a wrong label [0.05]
	Epochs      int     // of training [10]
	Damping     float64 // λ as a share of the mean squared norm of the window's gradients [1e-3]
	Hidden      []int   // sizes of the hidden layers [40, 20: 32,430 parameters]
	MNISTDir    string  // folder of the MNIST files [see FindMNIST]
	PlotPath    string  // where the plot goes, an SVG [mfac-influence.svg]
}

func (o InfluenceOptions) withDefaults() InfluenceOptions {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.Repetitions, 3)
	set(&o.Images, 3000)
	set(&o.Window, min(1000, max(1, o.Images/2)))
	set(&o.Epochs, 10)
	if o.Wrong == 0 {
		o.Wrong = 0.05
	}
	if o.Damping == 0 {
		o.Damping = 1e-3
	}
	if o.Hidden == nil {
		o.Hidden = []int{40, 20}
	}
	if o.PlotPath == "" {
		o.PlotPath = "mfac-influence.svg"
	}
	return o
}

// influenceBatch is the size of a mini-batch, influenceRate Adam's learning rate.
const (
	influenceBatch = 100
	influenceRate  = 0.002
)

// mnistTraining is how many training images MNIST has.
const mnistTraining = 60_000

func (o InfluenceOptions) check() error {
	for _, v := range []struct {
		name             string
		value, low, high int
	}{
		{"repetitions", o.Repetitions, 1, 100}, {"images", o.Images, 20, mnistTraining - 1},
		{"window", o.Window, 1, min(o.Images, 4096)}, {"epochs", o.Epochs, 1, 10_000},
	} {
		if v.value < v.low || v.value > v.high {
			return fmt.Errorf("%s is %d, must be in [%d, %d]", v.name, v.value, v.low, v.high)
		}
	}
	for _, h := range o.Hidden {
		if h < 1 {
			return fmt.Errorf("a hidden layer has size %d, must be at least 1", h)
		}
	}
	if !(o.Wrong > 0 && o.Wrong < 1) || o.wrong() < 1 { // NaN fails
		return fmt.Errorf("wrong is %v, must be in (0, 1) and at least one image of %d", o.Wrong, o.Images)
	}
	if !(o.Damping > 0 && o.Damping <= 1e6) {
		return fmt.Errorf("damping is %v, must be in (0, 1e6]", o.Damping)
	}
	return checkPlotPath(o.PlotPath, ".svg")
}

// wrong is the number of images with a wrong label.
func (o InfluenceOptions) wrong() int { return int(math.Round(o.Wrong * float64(o.Images))) }

func checkPlotPath(path, ext string) error {
	if !strings.EqualFold(filepath.Ext(path), ext) {
		return fmt.Errorf("plot is %s, must end in %s", path, ext)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fmt.Errorf("plot is %s: there is no folder %s", path, filepath.Dir(path))
	}
	return nil
}

// Streams of random numbers of Influence, beside those of train.go.
const (
	streamWrong = iota + 101
)

// Influence runs the demonstration for each seed, writes the plot and returns what it found. A line
// a repetition goes to progress, which may be nil. The runs it makes are deleted before it returns.
func Influence(ctx context.Context, cluster InfluenceCluster, o InfluenceOptions, progress io.Writer) (InfluenceResult, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return InfluenceResult{}, err
	}
	if progress == nil {
		progress = io.Discard
	}
	start := time.Now()
	dir, err := FindMNIST(o.MNISTDir)
	if err != nil {
		return InfluenceResult{}, err
	}
	net := NewNet(append(append([]int{pixels}, o.Hidden...), classes)...)
	res := InfluenceResult{Images: o.Images, Wrong: o.wrong(), Window: o.Window, Epochs: o.Epochs,
		RelativeDamping: o.Damping, Network: net.String(), Parameters: net.Dim(), Plot: o.PlotPath}
	fmt.Fprintf(progress, "MNIST: %d images to train on, %d of them with a wrong label (%s)\nnetwork: %s, %d parameters\n",
		o.Images, o.wrong(), dir, net, net.Dim())
	for k := range o.Repetitions {
		rep, err := o.repeat(ctx, cluster, net, dir, o.Seed+uint64(k))
		if err != nil {
			return InfluenceResult{}, fmt.Errorf("seed %d: %w", o.Seed+uint64(k), err)
		}
		res.Repetitions = append(res.Repetitions, rep)
		fmt.Fprintf(progress, "seed %d: self-influence finds %d of %d, gradient norm %d, loss %d  (%.1f s so far)\n", rep.Seed,
			rep.Influence.hits(), o.wrong(), rep.Norm.hits(), rep.Loss.hits(), time.Since(start).Seconds())
	}
	if err := writeRecall(o.PlotPath, res); err != nil {
		return InfluenceResult{}, err
	}
	res.Elapsed = time.Since(start)
	return res, nil
}

// repeat is the demonstration for one seed.
func (o InfluenceOptions) repeat(ctx context.Context, cluster InfluenceCluster, net *Net, dir string, seed uint64) (_ Repetition, err error) {
	held := min(1000, mnistTraining-o.Images)
	data, err := LoadMNIST(dir, seed, o.Images, held)
	if err != nil {
		return Repetition{}, err
	}
	wrong := mislabel(data.Train.Y, o.wrong(), seed)
	w, err := o.train(ctx, net, data.Train, seed)
	if err != nil {
		return Repetition{}, err
	}
	rep := Repetition{Seed: seed}
	_, rep.TrainAccuracy = net.Evaluate(w, data.Train)
	_, rep.HeldAccuracy = net.Evaluate(w, data.Held)

	var loss, norms []float64 // norms: squared
	each := func(lo, hi int) [][]float32 {
		rows := make([][]float32, hi-lo)
		for i := range rows {
			rows[i] = make([]float32, net.Dim())
			loss = append(loss, net.Gradient(rows[i], w, data.Train.Slice(lo+i, lo+i+1)))
			norms = append(norms, dot(rows[i], rows[i]))
		}
		return rows
	}
	window := each(0, o.Window)
	mean := sum(norms) / float64(o.Window)
	if !(mean > 0) || !finite(mean) {
		return Repetition{}, fmt.Errorf("the mean squared norm of the gradients is %v: the training failed", mean)
	}
	rep.Damping = o.Damping * mean

	name := fmt.Sprintf("influence-%d", seed)
	run, err := cluster.NewInfluenceRun(ctx, name, int64(net.Dim()), net.Layout(), o.Window, rep.Damping)
	if err != nil {
		return Repetition{}, fmt.Errorf("create run %s: %w", name, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, cluster.DeleteRun(ctx, name))
	}()
	if err := run.PublishMany(ctx, 1, window); err != nil {
		return Repetition{}, err
	}
	influence, bounds, err := run.LeaveOneOut(ctx)
	if err != nil {
		return Repetition{}, err
	}
	for lo := o.Window; lo < o.Images; {
		hi := min(o.Images, lo+run.MaxVectors())
		values, errs, err := run.Forms(ctx, each(lo, hi))
		if err != nil {
			return Repetition{}, err
		}
		influence, bounds, lo = append(influence, values...), append(bounds, errs...), hi
	}
	if len(influence) != o.Images || len(bounds) != o.Images {
		return Repetition{}, fmt.Errorf("%d influences with %d bounds, want %d of each", len(influence), len(bounds), o.Images)
	}
	for i, b := range bounds {
		rep.Bound = math.Max(rep.Bound, b/influence[i]) // NaN stays
	}
	rep.Influence, rep.Norm, rep.Loss = rank(influence, wrong), rank(norms, wrong), rank(loss, wrong)
	return rep, nil
}

// mislabel gives n labels, drawn by the seed, another value, and says which.
func mislabel(y []uint8, n int, seed uint64) []bool {
	rng := rand.New(rand.NewPCG(seed, streamWrong))
	wrong := make([]bool, len(y))
	for _, i := range rng.Perm(len(y))[:n] {
		wrong[i] = true
		y[i] = uint8((int(y[i]) + 1 + rng.IntN(classes-1)) % classes)
	}
	return wrong
}

// train trains by Adam, with the learning rate constant.
func (o InfluenceOptions) train(ctx context.Context, net *Net, s Images, seed uint64) ([]float32, error) {
	w, g := net.Init(seed), make([]float32, net.Dim())
	size := min(influenceBatch, s.Len())
	from, opt := newBatches(s, size, seed), &adam{beta1: 0.9, beta2: 0.999, eps: 1e-8}
	for t := 1; t <= o.Epochs*(s.Len()/size); t++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		net.Gradient(g, w, from.next())
		if err := opt.step(ctx, t, influenceRate, w, g); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func sum(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v
	}
	return s
}
