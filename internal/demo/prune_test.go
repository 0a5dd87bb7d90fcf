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

// smallPrune is a demonstration of a second.
func smallPrune(t *testing.T) PruneOptions {
	return PruneOptions{Seed: 1, Repetitions: 2, Train: 300, Held: 100, Window: 12, Epochs: 10, Steps: 2, Sparsities: []float64{0.3, 0.9},
		Hidden: []int{6}, PlotPath: filepath.Join(t.TempDir(), "plot.svg")}
}

func TestPrune(t *testing.T) {
	var cluster DenseRuns
	var progress bytes.Buffer
	res, err := Prune(context.Background(), &cluster, smallPrune(t), &progress)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range res.Repetitions {
		if len(r.Rules) != len(pruneRules) || !(r.Dense.Test > 0.2) || !(r.Damping > 0) {
			t.Errorf("seed %d: %+v", r.Seed, r)
		}
		for _, rule := range r.Rules {
			// A network far from a guess, which is what it is without the least of its weights.
			if len(rule.At) != 2 || !(rule.At[0].Test > r.Dense.Test-0.1) {
				t.Errorf("seed %d, %s: %+v, %v before", r.Seed, rule.Rule, rule.At, r.Dense)
			}
		}
	}
	if len(res.Repetitions) != 2 || res.Elapsed <= 0 || len(cluster.live) != 0 {
		t.Errorf("%d repetitions, runs left behind: %v", len(res.Repetitions), cluster.live)
	}
	if n := strings.Count(progress.String(), "\n"); n != 2+2*2*len(pruneRules) {
		t.Errorf("%d lines of progress:\n%s", n, progress.String())
	}
	if b, err := os.ReadFile(res.Plot); err != nil || !bytes.Contains(b, []byte("<svg")) {
		t.Errorf("the plot is no SVG: %v", err)
	}
	var table bytes.Buffer
	if err := res.WriteTable(&table); err != nil || !strings.Contains(table.String(), "joint, 2 steps") {
		t.Errorf("%v:\n%s", err, table.String())
	}
}

// With a damping that makes H a multiple of I, the summed rule is magnitude: nothing is adapted.
func TestPruneOfALargeDampingIsMagnitude(t *testing.T) {
	o := smallPrune(t)
	o.Damping, o.Repetitions = 1e6, 1
	res, err := Prune(context.Background(), &DenseRuns{}, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := res.Repetitions[0]
	for i, name := range pruneRules {
		if i > 1 && !slices.Equal(r.Rules[i].At, r.Rules[0].At) {
			t.Errorf("%s: %v, magnitude %v", name, r.Rules[i].At, r.Rules[0].At)
		}
	}
}

func TestPruneRefuses(t *testing.T) {
	for _, c := range []struct {
		want string
		set  func(*PruneOptions)
	}{
		{"repetitions is -1, must be in [1, 100]", func(o *PruneOptions) { o.Repetitions = -1 }},
		{"train is 60000, must be in [1, 59999]", func(o *PruneOptions) { o.Train = 60000 }},
		{"held is 59701, must be in [1, 59700]", func(o *PruneOptions) { o.Held = 59701 }},
		{"window is 301, must be in [1, 300]", func(o *PruneOptions) { o.Window = 301 }},
		{"epochs is -1, must be in [1, 10000]", func(o *PruneOptions) { o.Epochs = -1 }},
		{"steps is -1, must be in [1, 1000]", func(o *PruneOptions) { o.Steps = -1 }},
		{"a sparsity is NaN, must be in (0, 1)", func(o *PruneOptions) { o.Sparsities = []float64{math.NaN()} }},
		{"damping is -1, must be in (0, 1e6]", func(o *PruneOptions) { o.Damping = -1 }},
		{"a hidden layer has size -3", func(o *PruneOptions) { o.Hidden = []int{-3} }},
		{"must end in .svg", func(o *PruneOptions) { o.PlotPath = "plot.png" }},
		{"MNIST files not found", func(o *PruneOptions) { o.MNISTDir = t.TempDir() }},
	} {
		o := smallPrune(t)
		c.set(&o)
		if _, err := Prune(context.Background(), &DenseRuns{}, o, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestPruneLeavesNoRunBehind(t *testing.T) {
	refused := errors.New("refused")
	cluster := &DenseRuns{fail: refused}
	if _, err := Prune(context.Background(), cluster, smallPrune(t), nil); !errors.Is(err, refused) || len(cluster.live) != 0 {
		t.Errorf("error %v, runs left behind: %v", err, cluster.live)
	}
}
