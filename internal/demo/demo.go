package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Run is the part of an M-FAC client's run that the demo needs.
type Run interface {
	// Precondition publishes g as the gradient of step and sets dst = H⁻¹g, g being in
	// the window. dst and g have the run's length and do not overlap.
	Precondition(ctx context.Context, step uint64, dst, g []float32) error
	// IHVP64 sets dst = H⁻¹v and returns the cluster's bound of the relative error in
	// the 2-norm, 0 where it gives none.
	IHVP64(ctx context.Context, dst, v []float64) (bound float64, err error)
	// Gradients reads the rows in the window back, oldest first.
	Gradients(ctx context.Context) ([][]float32, error)
}

// Cluster makes runs and deletes them. Its runs have the divisor `capacity`: N = window.
type Cluster interface {
	NewRun(ctx context.Context, name string, dim int64, layout []Tensor, window int, damping float64) (Run, error)
	DeleteRun(ctx context.Context, name string) error
}

// Options of Compare. What is zero gets the default in brackets.
type Options struct {
	Seed     uint64  // of the weights, the split and the order of the mini-batches
	Steps    int     // of every trial [300]
	Batch    int     // images in a mini-batch [250]
	Hidden   []int   // sizes of the hidden layers [40, 20: 32,430 parameters]
	Train    int     // images to train on [10,000]
	Held     int     // images to pick learning rates with [5,000]
	Window   int     // gradients that M-FAC keeps [128]
	Damping  float64 // λ of M-FAC [1e-3]
	Name     string  // M-FAC's runs are called Name-1, Name-2, … [demo]
	MNISTDir string  // folder of the MNIST files [see FindMNIST]
	PlotPath string  // where the plot goes, a PNG [mfac-demo.png]
}

func (o Options) withDefaults() Options {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.Steps, 300)
	set(&o.Batch, 250)
	set(&o.Train, 10_000)
	set(&o.Held, 5_000)
	set(&o.Window, 128)
	if o.Hidden == nil {
		o.Hidden = []int{40, 20}
	}
	if o.Damping == 0 {
		o.Damping = 1e-3
	}
	if o.Name == "" {
		o.Name = "demo"
	}
	if o.PlotPath == "" {
		o.PlotPath = "mfac-demo.png"
	}
	return o
}

// check refuses what would fail only after the training, too.
func (o Options) check() error {
	for _, v := range []struct {
		name  string
		value int
	}{{"steps", o.Steps}, {"batch", o.Batch}, {"train", o.Train}, {"held", o.Held}, {"window", o.Window}} {
		if v.value < 1 {
			return fmt.Errorf("%s is %d, must be at least 1", v.name, v.value)
		}
	}
	for _, h := range o.Hidden {
		if h < 1 {
			return fmt.Errorf("a hidden layer has size %d, must be at least 1", h)
		}
	}
	if o.Batch > o.Train {
		return fmt.Errorf("batch is %d, must be at most the %d images to train on", o.Batch, o.Train)
	}
	if !(o.Damping > 0 && o.Damping <= 1e30) { // NaN fails
		return fmt.Errorf("damping is %v, must be > 0 and finite", o.Damping)
	}
	return checkPlotPath(o.PlotPath, ".png")
}

// The grids: three rates each, a factor of two apart, around what was best by hand. What they cost is
// kept down by TestDemoIsShort.
var (
	mfacRates = []float64{0.005, 0.01, 0.02}
	sgdRates  = []float64{0.1, 0.2, 0.4}
	adamRates = []float64{0.01, 0.02, 0.04}
)

// momentum of SGD and of the average of M-FAC's products.
const momentum = 0.9

// Compare trains with the three optimizers, M-FAC's gradients and products going
// through cluster, and returns what the demo reports; it writes the plot, too. A line
// for every trial goes to progress, which may be nil. The runs it makes are deleted
// before it returns, in case of an error as well.
func Compare(ctx context.Context, cluster Cluster, opts Options, progress io.Writer) (Result, error) {
	opts = opts.withDefaults()
	if err := opts.check(); err != nil {
		return Result{}, err
	}
	if progress == nil {
		progress = io.Discard
	}
	start := time.Now()
	dir, err := FindMNIST(opts.MNISTDir)
	if err != nil {
		return Result{}, err
	}
	data, err := LoadMNIST(dir, opts.Seed, opts.Train, opts.Held)
	if err != nil {
		return Result{}, err
	}
	fmt.Fprintf(progress, "MNIST: %d images to train on, %d held out, %d to test (%s)\n",
		data.Train.Len(), data.Held.Len(), data.Test.Len(), dir)
	res, err := compare(ctx, cluster, opts, data, progress)
	if err != nil {
		return Result{}, err
	}
	res.Elapsed = time.Since(start)
	return res, nil
}

// compare is Compare on data that is there, with options that are checked.
func compare(ctx context.Context, cluster Cluster, opts Options, data Data, progress io.Writer) (_ Result, err error) {
	t := newTrainer(opts, data)
	fmt.Fprintf(progress, "network: %s, %d parameters; every trial is %d steps of %d images\n",
		t.net, t.net.Dim(), opts.Steps, opts.Batch)
	runs := &runs{cluster: cluster, opts: opts, net: t.net}
	defer func() { err = errors.Join(err, runs.close(ctx)) }()
	contenders := []contender{
		{"M-FAC", mfacRates, runs.start, runs.drop},
		{"SGD", sgdRates, func(context.Context) (optimizer, error) { return &sgd{momentum: momentum}, nil }, nil},
		{"Adam", adamRates, func(context.Context) (optimizer, error) {
			return &adam{beta1: 0.9, beta2: 0.999, eps: 1e-8}, nil
		}, nil},
	}
	best := make([]*trial, len(contenders))
	for i, c := range contenders {
		if best[i], err = t.search(ctx, c, progress); err != nil {
			return Result{}, err
		}
	}

	res := Result{Setup: Setup{
		Network: t.net.String(), Parameters: t.net.Dim(), Steps: opts.Steps, Batch: opts.Batch,
		Train: opts.Train, Held: opts.Held, Test: data.Test.Len(), Window: opts.Window, Damping: opts.Damping,
	}}
	if res.Check, err = checkDense(ctx, best[0].opt.(*mfac), opts); err != nil {
		return Result{}, err
	}
	res.DenseError = res.Check.Error
	res.Optimizers = Optimizers{MFAC: t.score(best[0]), SGD: t.score(best[1]), Adam: t.score(best[2])}
	curves := make([]curve, len(contenders))
	for i, c := range contenders {
		curves[i] = curve{fmt.Sprintf("%s, lr %v", c.name, best[i].lr), best[i].loss, best[i].held}
	}
	if err := writePlot(opts.PlotPath, curves); err != nil {
		return Result{}, err
	}
	res.Plot = opts.PlotPath
	return res, nil
}

// runs are M-FAC's runs in the cluster: one a trial, of which the best is kept until
// its answer has been checked.
type runs struct {
	cluster Cluster
	opts    Options
	net     *Net
	made    int
	live    []string
}

// start makes the next run.
func (r *runs) start(ctx context.Context) (optimizer, error) {
	r.made++
	name := fmt.Sprintf("%s-%d", r.opts.Name, r.made)
	run, err := r.cluster.NewRun(ctx, name, int64(r.net.Dim()), r.net.Layout(), r.opts.Window, r.opts.Damping)
	if err != nil {
		return nil, fmt.Errorf("create run %s: %w", name, err)
	}
	r.live = append(r.live, name)
	return &mfac{name: name, run: run, momentum: momentum}, nil
}

// drop deletes the run of o.
func (r *runs) drop(ctx context.Context, o optimizer) error {
	name := o.(*mfac).name
	for i, n := range r.live {
		if n == name {
			r.live = append(r.live[:i], r.live[i+1:]...)
			break
		}
	}
	if err := r.cluster.DeleteRun(ctx, name); err != nil {
		return fmt.Errorf("delete run %s: %w", name, err)
	}
	return nil
}

// close deletes what is left, after a cancelled ctx as well.
func (r *runs) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var errs []error
	for _, name := range r.live {
		if err := r.cluster.DeleteRun(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("delete run %s: %w", name, err))
		}
	}
	r.live = nil
	return errors.Join(errs...)
}
