package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"mfac/client"
	"mfac/internal/cluster"
	"mfac/internal/demo"
)

// What the demonstrations find with a cluster is what they find with answers worked out densely.
func TestDemosAreWhatDenseAnswersGive(t *testing.T) {
	ctx := context.Background()
	c, err := cluster.Start(ctx, cluster.Options{Workers: 3, Capacity: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	}()
	cl, err := client.Connect(ctx, c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()

	// Weights are float32 and so are logits, and a step may be rounded to the neighbour: 6e-8 of a logit, over
	// a distance that is a thousandth of one or more.
	const tolerance = 1e-4
	same := cmp.Options{cmpopts.EquateApprox(tolerance, 0), cmpopts.IgnoreFields(demo.Repetition{}, "Bound"), cmpopts.IgnoreFields(demo.Forgetting{}, "Bound"),
		cmpopts.IgnoreFields(demo.InfluenceResult{}, "Elapsed"), cmpopts.IgnoreFields(demo.ForgetResult{}, "Elapsed")}

	influence := demo.InfluenceOptions{Seed: 1, Repetitions: 2, Images: 150, Window: 50, Hidden: []int{8}, PlotPath: filepath.Join(t.TempDir(), "p.svg")}
	got, err := demo.Influence(ctx, demoCluster{cl}, influence, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := demo.Influence(ctx, &demo.DenseRuns{}, influence, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("influence (-dense +cluster):\n%s", diff)
	}
	for _, r := range got.Repetitions {
		if !(r.Bound > 0 && r.Bound < 1e-6) {
			t.Errorf("seed %d: the largest bound is %v, want above 0 and small", r.Seed, r.Bound)
		}
	}

	forget := demo.ForgetOptions{Seed: 1, Repetitions: 1, Images: 60, Steps: 100, Hidden: []int{0, 5}}
	gone, err := demo.Forget(ctx, demoCluster{cl}, forget, nil)
	if err != nil {
		t.Fatal(err)
	}
	dense, err := demo.Forget(ctx, &demo.DenseRuns{}, forget, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dense, gone, same); diff != "" {
		t.Errorf("forget (-dense +cluster):\n%s", diff)
	}

	prune := demo.PruneOptions{Seed: 1, Train: 300, Held: 100, Window: 20, Epochs: 10, Steps: 3, Sparsities: []float64{0.5, 0.95}, Hidden: []int{6}, Damping: 1e-3,
		PlotPath: filepath.Join(t.TempDir(), "p.svg")}
	pruned, err := demo.Prune(ctx, demoCluster{cl}, prune, nil)
	if err != nil {
		t.Fatal(err)
	}
	densely, err := demo.Prune(ctx, &demo.DenseRuns{}, prune, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Both round the same float64 weights to float32 but where they differ by some ε: an image may fall to the other side.
	if diff := cmp.Diff(densely, pruned, cmpopts.EquateApprox(0, 2e-4), cmpopts.IgnoreFields(demo.PruneResult{}, "Elapsed")); diff != "" {
		t.Errorf("prune (-dense +cluster):\n%s", diff)
	}
}
