package demo

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// smallInfluence is a demonstration of a second.
func smallInfluence(t *testing.T) InfluenceOptions {
	return InfluenceOptions{Seed: 1, Repetitions: 2, Images: 100, Window: 25, Epochs: 20, Hidden: []int{6},
		PlotPath: filepath.Join(t.TempDir(), "plot.svg")}
}

func TestInfluence(t *testing.T) {
	var cluster DenseRuns
	var progress bytes.Buffer
	o := smallInfluence(t)
	res, err := Influence(context.Background(), &cluster, o, &progress)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Repetitions) != 2 || res.Wrong != 5 || res.Window != 25 || res.Elapsed <= 0 {
		t.Errorf("%d repetitions, %d wrong, window %d", len(res.Repetitions), res.Wrong, res.Window)
	}
	for _, r := range res.Repetitions {
		// A network that has seen each image twenty times: far from a guess.
		if !(r.TrainAccuracy > 0.2) || !(r.Influence.AUC > 0.3 && r.Influence.AUC <= 1) || !(r.Damping > 0) || r.Bound != 0 {
			t.Errorf("seed %d: %+v", r.Seed, r)
		}
	}
	if len(cluster.live) != 0 {
		t.Errorf("runs left behind: %v", cluster.live)
	}
	if n := strings.Count(progress.String(), "\n"); n != 4 {
		t.Errorf("%d lines of progress, want 4:\n%s", n, progress.String())
	}
	if b, err := os.ReadFile(res.Plot); err != nil || !bytes.Contains(b, []byte("<svg")) {
		t.Errorf("the plot is no SVG: %v", err)
	}
}

// A large damping makes H a multiple of I, and self-influence rank as the norm does.
func TestInfluenceOfALargeDampingIsTheNorm(t *testing.T) {
	o := smallInfluence(t)
	o.Damping, o.Repetitions = 1e6, 1
	res, err := Influence(context.Background(), &DenseRuns{}, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := res.Repetitions[0]; !slices.Equal(r.Influence.Found, r.Norm.Found) {
		t.Errorf("found %v by self-influence, %v by norm", r.Influence.Found, r.Norm.Found)
	}
}

func TestInfluenceRefuses(t *testing.T) {
	for _, c := range []struct {
		want string
		set  func(*InfluenceOptions)
	}{
		{"repetitions is -1, must be in [1, 100]", func(o *InfluenceOptions) { o.Repetitions = -1 }},
		{"images is 60000, must be in [20, 59999]", func(o *InfluenceOptions) { o.Images = 60000 }},
		{"window is 101, must be in [1, 100]", func(o *InfluenceOptions) { o.Window = 101 }},
		{"epochs is -1, must be in [1, 10000]", func(o *InfluenceOptions) { o.Epochs = -1 }},
		{"wrong is 1, must be in (0, 1)", func(o *InfluenceOptions) { o.Wrong = 1 }},
		{"wrong is NaN, must be in (0, 1)", func(o *InfluenceOptions) { o.Wrong = math.NaN() }},
		{"at least one image of 100", func(o *InfluenceOptions) { o.Wrong = 1e-9 }},
		{"damping is -1, must be in (0, 1e6]", func(o *InfluenceOptions) { o.Damping = -1 }},
		{"a hidden layer has size -3", func(o *InfluenceOptions) { o.Hidden = []int{-3} }},
		{"must end in .svg", func(o *InfluenceOptions) { o.PlotPath = "plot.png" }},
		{"there is no folder", func(o *InfluenceOptions) { o.PlotPath = filepath.Join(o.PlotPath, "nowhere", "plot.svg") }},
		{"MNIST files not found", func(o *InfluenceOptions) { o.MNISTDir = t.TempDir() }},
	} {
		o := smallInfluence(t)
		c.set(&o)
		if _, err := Influence(context.Background(), &DenseRuns{}, o, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestInfluenceAndForgetLeaveNoRunBehind(t *testing.T) {
	refused := errors.New("refused")
	cluster := &DenseRuns{fail: refused}
	if _, err := Influence(context.Background(), cluster, smallInfluence(t), nil); !errors.Is(err, refused) || len(cluster.live) != 0 {
		t.Errorf("error %v, runs left behind: %v", err, cluster.live)
	}
	if _, err := Forget(context.Background(), cluster, smallForget(), nil); !errors.Is(err, refused) || len(cluster.live) != 0 {
		t.Errorf("error %v, runs left behind: %v", err, cluster.live)
	}
}
