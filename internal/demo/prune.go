package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// This file: `mfac demo prune`. A trained network is pruned by several rules, and its accuracy is looked at
// (docs/pruning.md).

// PruneRun is the part of an M-FAC client's run that Prune needs.
type PruneRun interface {
	// PublishMany publishes rows as steps first, first+1, …
	PublishMany(ctx context.Context, first uint64, rows [][]float32) error
	// Prune sets dst to w, ⌊sparsity·d⌋ of it being 0, by "summed" or "joint", in so many steps.
	Prune(ctx context.Context, dst, w []float32, sparsity float64, rule string, steps int) error
}

// PruneCluster makes runs and deletes them.
type PruneCluster interface {
	NewPruneRun(ctx context.Context, name string, dim int64, layout []Tensor, window int, damping float64) (PruneRun, error)
	DeleteRun(ctx context.Context, name string) error
}

// PruneOptions are those of Prune. What is zero gets the default in brackets, and in the second ones that
// of Full.
type PruneOptions struct {
	Seed        uint64    // of the first repetition; the others count up from it
	Full        bool      // the table of docs/pruning.md
	Repetitions int       // [1] [3]
	Sparsities  []float64 // [0.5, 0.8, 0.9, 0.95]
	Train       int       // images to train on [10,000]
	Held        int       // images to choose options with [5,000]
	Window      int       // gradients in H, each of one training image [512] [1,024]
	Epochs      int       // of training [10]
	Steps       int       // of the rules that prune in steps [8] [16]
	Damping     float64   // λ as a share of the mean squared norm of the window's gradients [see pruneDamping]
	Hidden      []int     // sizes of the hidden layers [40, 20: 32,430 parameters]
	MNISTDir    string    // folder of the MNIST files [see FindMNIST]
	PlotPath    string    // where the plot goes, an SVG [mfac-prune.svg]
}

// pruneDamping is what was best on held-out images (docs/pruning.md).
const pruneDamping = 1e-6

func (o PruneOptions) withDefaults() PruneOptions {
	set := func(p *int, v, full int) {
		if *p == 0 {
			*p = v
			if o.Full {
				*p = full
			}
		}
	}
	set(&o.Repetitions, 1, 3)
	set(&o.Train, 10_000, 10_000)
	set(&o.Held, 5_000, 5_000)
	set(&o.Window, min(512, o.Train), min(1024, o.Train))
	set(&o.Epochs, 10, 10)
	set(&o.Steps, 8, 16)
	if o.Sparsities == nil {
		o.Sparsities = []float64{0.5, 0.8, 0.9, 0.95}
	}
	if o.Damping == 0 {
		o.Damping = pruneDamping
	}
	if o.Hidden == nil {
		o.Hidden = []int{40, 20}
	}
	if o.PlotPath == "" {
		o.PlotPath = "mfac-prune.svg"
	}
	return o
}

func (o PruneOptions) check() error {
	for _, v := range []struct {
		name             string
		value, low, high int
	}{
		{"repetitions", o.Repetitions, 1, 100}, {"train", o.Train, 1, mnistTraining - 1}, {"held", o.Held, 1, mnistTraining - o.Train},
		{"window", o.Window, 1, min(o.Train, 4096)}, {"epochs", o.Epochs, 1, 10_000}, {"steps", o.Steps, 1, 1000},
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
	for _, s := range o.Sparsities {
		if !(s > 0 && s < 1) { // NaN fails
			return fmt.Errorf("a sparsity is %v, must be in (0, 1)", s)
		}
	}
	if !(o.Damping > 0 && o.Damping <= 1e6) {
		return fmt.Errorf("damping is %v, must be in (0, 1e6]", o.Damping)
	}
	return checkPlotPath(o.PlotPath, ".svg")
}

// The rules, in the order of the table.
var pruneRules = []string{"magnitude", "diagonal Fisher", "summed", "joint", "summed, in steps", "joint, in steps"}

// Prune trains a network for each seed, prunes it by each rule and to each sparsity, writes the plot and
// returns the accuracies. A line for each goes to progress, which may be nil. The runs it makes are deleted
// before it returns.
func Prune(ctx context.Context, cluster PruneCluster, o PruneOptions, progress io.Writer) (PruneResult, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return PruneResult{}, err
	}
	if progress == nil {
		progress = io.Discard
	}
	dir, err := FindMNIST(o.MNISTDir)
	if err != nil {
		return PruneResult{}, err
	}
	net := NewNet(append(append([]int{pixels}, o.Hidden...), classes)...)
	p := pruning{o: o, net: net, dir: dir, progress: progress, start: time.Now()}
	res := PruneResult{Network: net.String(), Parameters: net.Dim(), Train: o.Train, Held: o.Held, Window: o.Window, Epochs: o.Epochs,
		Steps: o.Steps, RelativeDamping: o.Damping, Sparsities: o.Sparsities, Plot: o.PlotPath}
	fmt.Fprintf(progress, "MNIST: %d images to train on, %d held out (%s)\nnetwork: %s, %d parameters\n", o.Train, o.Held, dir, net, net.Dim())
	for k := range o.Repetitions {
		rep, err := p.repeat(ctx, cluster, o.Seed+uint64(k))
		if err != nil {
			return PruneResult{}, fmt.Errorf("seed %d: %w", o.Seed+uint64(k), err)
		}
		res.Repetitions = append(res.Repetitions, rep)
	}
	if err := writePruned(o.PlotPath, res); err != nil {
		return PruneResult{}, err
	}
	res.Elapsed = time.Since(p.start)
	return res, nil
}

// pruning is the demonstration.
type pruning struct {
	o        PruneOptions
	net      *Net
	dir      string
	progress io.Writer
	start    time.Time
}

func (p pruning) repeat(ctx context.Context, cluster PruneCluster, seed uint64) (_ PruneRepetition, err error) {
	data, err := LoadMNIST(p.dir, seed, p.o.Train, p.o.Held)
	if err != nil {
		return PruneRepetition{}, err
	}
	w, err := InfluenceOptions{Epochs: p.o.Epochs}.train(ctx, p.net, data.Train, seed)
	if err != nil {
		return PruneRepetition{}, err
	}
	rep := PruneRepetition{Seed: seed, Dense: p.accuracy(w, data)}
	_, rep.TrainAccuracy = p.net.Evaluate(w, data.Train)

	rows := make([][]float32, p.o.Window)
	norms := 0.0
	for i := range rows {
		rows[i] = make([]float32, p.net.Dim())
		p.net.Gradient(rows[i], w, data.Train.Slice(i, i+1))
		norms += dot(rows[i], rows[i]) / float64(p.o.Window)
	}
	if !(norms > 0) || !finite(norms) {
		return PruneRepetition{}, fmt.Errorf("the mean squared norm of the gradients is %v: the training failed", norms)
	}
	rep.Damping = p.o.Damping * norms

	name := fmt.Sprintf("prune-%d", seed)
	run, err := cluster.NewPruneRun(ctx, name, int64(p.net.Dim()), p.net.Layout(), p.o.Window, rep.Damping)
	if err != nil {
		return PruneRepetition{}, fmt.Errorf("create run %s: %w", name, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, cluster.DeleteRun(ctx, name))
	}()
	if err := run.PublishMany(ctx, 1, rows); err != nil {
		return PruneRepetition{}, err
	}
	for _, rule := range pruneRules {
		accuracies := PrunedBy{Rule: rule}
		for _, s := range p.o.Sparsities {
			x := make([]float32, len(w))
			if err := p.prune(ctx, run, x, w, rows, rule, s); err != nil {
				return PruneRepetition{}, fmt.Errorf("prune by %s to %v: %w", rule, s, err)
			}
			a := p.accuracy(x, data)
			accuracies.At = append(accuracies.At, a)
			fmt.Fprintf(p.progress, "seed %d: %g %% by %s: %.2f %% right, held out %.2f %%  (%.1f s so far)\n", seed, 100*s, rule, 100*a.Test, 100*a.Held,
				time.Since(p.start).Seconds())
		}
		rep.Rules = append(rep.Rules, accuracies)
	}
	return rep, nil
}

func (p pruning) accuracy(w []float32, data Data) Accuracy {
	var a Accuracy
	_, a.Held = p.net.Evaluate(w, data.Held)
	_, a.Test = p.net.Evaluate(w, data.Test)
	return a
}

// prune sets x to w, pruned by a rule. The first two leave the other weights as they are.
func (p pruning) prune(ctx context.Context, run PruneRun, x, w []float32, rows [][]float32, rule string, sparsity float64) error {
	switch rule {
	case "summed", "joint":
		return run.Prune(ctx, x, w, sparsity, rule, 1)
	case "summed, in steps":
		return run.Prune(ctx, x, w, sparsity, "summed", p.o.Steps)
	case "joint, in steps":
		return run.Prune(ctx, x, w, sparsity, "joint", p.o.Steps)
	}
	scores := make([]float64, len(w))
	for j, v := range w {
		scores[j] = math.Abs(float64(v))
	}
	if rule == "diagonal Fisher" {
		fisher := diagonalFisher(rows)
		for j, v := range w {
			scores[j] = float64(v) * float64(v) * fisher[j]
		}
	}
	copy(x, w)
	for _, j := range smallest(scores, int(sparsity*float64(len(w)))) {
		x[j] = 0
	}
	return nil
}

// diagonalFisher is the diagonal of (1/N)GᵀG.
func diagonalFisher(rows [][]float32) []float64 {
	f := make([]float64, len(rows[0]))
	for _, g := range rows {
		for j, x := range g {
			f[j] += float64(x) * float64(x)
		}
	}
	for j := range f {
		f[j] /= float64(len(rows))
	}
	return f
}

// smallest is the indices of the k smallest, equal ones by index.
func smallest(x []float64, k int) []int {
	order := make([]int, len(x))
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case x[i] < x[j]:
			return -1
		case x[i] > x[j]:
			return 1
		}
		return 0
	})
	return order[:k]
}
