package demo

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// smallData is read once for all tests: a small part of MNIST.
var smallData = sync.OnceValues(func() (Data, error) {
	dir, err := FindMNIST("")
	if err != nil {
		return Data{}, err
	}
	d, err := LoadMNIST(dir, 1, 1500, 500)
	d.Test = d.Test.Slice(0, 2000)
	return d, err
})

// compareSmall is compare with smallData.
func compareSmall(ctx context.Context, t *testing.T, cluster Cluster, opts Options, progress io.Writer) (Result, error) {
	t.Helper()
	d, err := smallData()
	if err != nil {
		t.Fatal(err)
	}
	return compare(ctx, cluster, opts.withDefaults(), d, progress)
}

// small is a demo of a second.
func small(t *testing.T) Options {
	return Options{
		Seed: 1, Steps: 100, Batch: 50, Hidden: []int{12}, Train: 1500, Held: 500, Window: 32,
		PlotPath: filepath.Join(t.TempDir(), "plot.png"),
	}
}

func TestCompare(t *testing.T) {
	ctx := context.Background()
	opts := small(t)
	var cluster Dense
	var progress bytes.Buffer
	res, err := compareSmall(ctx, t, &cluster, opts, &progress)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Score{"mfac": res.Optimizers.MFAC, "sgd": res.Optimizers.SGD, "adam": res.Optimizers.Adam} {
		// Far from the figures of the whole demo, farther from the 0.1 of a guess.
		if !(s.Accuracy > 0.6 && s.Accuracy < 1) || !(s.Loss > 0 && s.Loss < 1) || !(s.MsPerStep > 0) {
			t.Errorf("%s: %+v", name, s)
		}
		if s.StepsTo90 != nil && (*s.StepsTo90 < lookEarly || *s.StepsTo90 > opts.Steps) {
			t.Errorf("%s: 90 %% at step %d", name, *s.StepsTo90)
		}
	}
	if res.Check.Rows != 32 || res.DenseError != 0 { // Dense answers with the reference itself
		t.Errorf("check is %+v, want 32 rows and no error", res.Check)
	}
	if len(cluster.runs) != 0 {
		t.Errorf("runs left behind: %v", cluster.runs)
	}
	if lines := strings.Count(progress.String(), "\n"); lines != 1+3+3+3 {
		t.Errorf("%d lines of progress, want 10:\n%s", lines, progress.String())
	}
	f, err := os.Open(res.Plot)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if img, err := png.Decode(f); err != nil || img.Bounds().Dx() < 800 {
		t.Errorf("the plot is no PNG of a good size: %v", err)
	}

	// The same seed, the same result but for the times.
	again, err := compareSmall(ctx, t, &cluster, opts, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Result{&res, &again} {
		for _, s := range []*Score{&r.Optimizers.MFAC, &r.Optimizers.SGD, &r.Optimizers.Adam} {
			s.MsPerStep = 0
		}
	}
	if diff := cmp.Diff(res, again); diff != "" {
		t.Errorf("another result (-first +second):\n%s", diff)
	}
}

// stoppingCluster fails, or cancels, at a run's third gradient.
type stoppingCluster struct {
	Dense
	stop func() error
}

func (c *stoppingCluster) NewRun(ctx context.Context, name string, dim int64, layout []Tensor, window int, damping float64) (Run, error) {
	run, err := c.Dense.NewRun(ctx, name, dim, layout, window, damping)
	return &stoppingRun{run, c.stop}, err
}

func (c *stoppingCluster) DeleteRun(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.Dense.DeleteRun(ctx, name)
}

type stoppingRun struct {
	Run
	stop func() error
}

func (r *stoppingRun) Precondition(ctx context.Context, step uint64, dst, g []float32) error {
	if step == 3 {
		if err := r.stop(); err != nil {
			return err
		}
	}
	return r.Run.Precondition(ctx, step, dst, g)
}

func TestCompareLeavesNoRunBehind(t *testing.T) {
	refused := errors.New("refused")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, c := range []struct {
		name string
		stop func() error
		want error
	}{
		{"a refused gradient", func() error { return refused }, refused},
		{"a cancelled context", func() error { cancel(); return nil }, context.Canceled},
	} {
		cluster := &stoppingCluster{stop: c.stop}
		_, err := compareSmall(ctx, t, cluster, small(t), io.Discard)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		if len(cluster.runs) != 0 {
			t.Errorf("%s: runs left behind: %v", c.name, cluster.runs)
		}
	}
}

// The way through Compare itself, as short as it gets.
func TestCompareReadsMNIST(t *testing.T) {
	opts := small(t)
	opts.Steps, opts.Train, opts.Held = 1, 60, 20
	var progress bytes.Buffer
	res, err := Compare(context.Background(), &Dense{}, opts, &progress)
	if err != nil {
		t.Fatal(err)
	}
	if s := res.Setup; s.Train != 60 || s.Held != 20 || s.Test != 10_000 || res.Elapsed <= 0 {
		t.Errorf("%+v in %v, want 60, 20 and 10000 images", s, res.Elapsed)
	}
	if !strings.HasPrefix(progress.String(), "MNIST: 60 images to train on, 20 held out, 10000 to test (") {
		t.Errorf("progress is %q", progress.String())
	}
}

func TestCompareRefusesBeforeItTrains(t *testing.T) {
	for _, c := range []struct {
		want string
		set  func(*Options)
	}{
		{"steps is -1, must be at least 1", func(o *Options) { o.Steps = -1 }},
		{"window is -2, must be at least 1", func(o *Options) { o.Window = -2 }},
		{"a hidden layer has size 0", func(o *Options) { o.Hidden = []int{3, 0} }},
		{"batch is 1501, must be at most the 1500 images", func(o *Options) { o.Batch = 1501 }},
		{"damping is -1, must be > 0", func(o *Options) { o.Damping = -1 }},
		{"damping is NaN, must be > 0", func(o *Options) { o.Damping = math.NaN() }},
		{"damping is +Inf, must be > 0", func(o *Options) { o.Damping = math.Inf(1) }},
		{"must end in .png", func(o *Options) { o.PlotPath = "plot.pdf" }},
		{"there is no folder", func(o *Options) { o.PlotPath = filepath.Join(o.PlotPath, "nowhere", "plot.png") }},
		{"MNIST files not found", func(o *Options) { o.MNISTDir = t.TempDir() }},
	} {
		opts := small(t)
		c.set(&opts)
		if _, err := Compare(context.Background(), &Dense{}, opts, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// TestDemoIsShort guards the time that the demo is promised to take by what it does: nearly all of it is
// M-FAC's steps, of 23 ms at most on two cores, of which others used three quarters (load 7), so that
// 900 of them are half a minute.
func TestDemoIsShort(t *testing.T) {
	const most = 1000
	o := Options{}.withDefaults()
	if n := len(mfacRates) * o.Steps; n > most {
		t.Errorf("%d learning rates × %d steps = %d steps of M-FAC, want at most %d", len(mfacRates), o.Steps, n, most)
	}
	// What a step costs goes with these.
	if d := NewNet(append(append([]int{pixels}, o.Hidden...), classes)...).Dim(); d*o.Window > 33_000*128 {
		t.Errorf("%d parameters × %d gradients, want at most 33,000 × 128", d, o.Window)
	}
	if o.Batch > 250 {
		t.Errorf("%d images in a batch, want at most 250", o.Batch)
	}
}

func TestDefaultsAreThoseOfTheDemo(t *testing.T) {
	want := Options{
		Steps: 300, Batch: 250, Hidden: []int{40, 20}, Train: 10_000, Held: 5_000, Window: 128, Damping: 1e-3,
		Name: "demo", PlotPath: "mfac-demo.png",
	}
	if diff := cmp.Diff(want, Options{}.withDefaults()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(mfacRates) != len(sgdRates) || len(sgdRates) != len(adamRates) {
		t.Error("the grids differ in size")
	}
}
