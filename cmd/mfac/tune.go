package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/npy"
	"mfac/wire"
)

// This file: H^(−½)v, and λ chosen by how likely gradients are.

func (t *tool) invSqrtCommand() *cobra.Command {
	return t.productCommand(wire.KindInvSqrt, "invsqrt", "Multiply vectors by H^(−½)",
		`Writes H^(−½)v to out.npy, of the shape of v.npy: one vector, or a vector a row. H^(−½) is the symmetric root:
applied twice it gives H⁻¹v. λ is the run's damping or --damping.

The run's coordinator needs the eigenvalues of the gradients' products first, seconds in a window of 2048 and more.
Refused where λ is so small that it is lost among the rounding errors of these products.`)
}

// tuning is the flags of tune.
type tuning struct {
	pinning
	run, holdout, dampings string
	loo                    bool
	list                   []float64
	options                []client.QueryOption
}

func (t *tool) tuneCommand() *cobra.Command {
	var o tuning
	cmd := &cobra.Command{
		Use:   "tune NAME [--loo | --holdout h.npy] [--damping 1e-8:1e-1:log8 | --damping a,b,c]",
		Short: "Rank λ by how well H predicts gradients that are not in it",
		Long: `Ranks dampings by the mean, over gradients h, of log N(h; 0, H), the logarithm of the normal density of mean 0
and covariance H = F + λI, in nats: −½(d log 2π + log det H + hᵀH⁻¹h).

  --loo             of the gradients in the window, each left out of H (the default): no pass over them
  --holdout h.npy   of the gradients in the file, two or more, one a row: one pass over the window for as many
                    as one query takes

Says the mean and its standard error, and by how much it is below the best one's, with the standard error of that
difference, gradient by gradient: what is not below by some of these is as good. BEST is the best of the list; if it is the
first or the last one, look further.

This is a criterion for a model of the gradients, not for what H⁻¹ is used for: docs/damping.md says when it misleads.`,
		Args: cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.run = args[0]
			if err := wire.CheckName("run", o.run); err != nil {
				return err
			}
			if o.loo && o.holdout != "" {
				return cli.UsageError("--loo and --holdout exclude each other")
			}
			if o.list, err = parseDampings(o.dampings); err != nil {
				return err
			}
			if len(o.list) > client.MaxTuned {
				return wire.Invalid("dampings", len(o.list), fmt.Sprintf("in [1, %d]", client.MaxTuned))
			}
			if o.options, err = o.pinning.options(); err != nil {
				return err
			}
			return t.tune(cmd, &o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&o.loo, "loo", false, "the window's gradients, each left out")
	f.StringVar(&o.holdout, "holdout", "", "`file` .npy of gradients, one a row")
	f.StringVar(&o.dampings, "damping", "1e-8:1e-1:log8", "`λ`s: a,b,c or low:high:logN, N at equal ratios")
	o.wholeFlag(f)
	o.pinning.flags(f)
	return cmd
}

// tuned is what tune prints.
type tuned struct {
	Run     string `json:"run"`
	Holdout string `json:"holdout,omitempty"`
	client.Tuning
	Damping float64 `json:"damping"` // the best
}

func (t *tool) tune(cmd *cobra.Command, o *tuning) error {
	var in *npy.File
	if o.holdout != "" {
		var err error
		if in, err = npy.Open(o.holdout); err != nil {
			return err
		}
		defer in.Close()
		if in.Rows() < 2 {
			return fmt.Errorf("%s: rows is %d, must be at least 2, for a standard error", in.Path(), in.Rows())
		}
		if err := in.CheckFinite(cmd.Context(), false); err != nil {
			return err
		}
	}
	return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
		r, err := t.join(ctx, c, o.run)
		if err != nil {
			return err
		}
		progress, end := t.working("tune " + o.run)
		defer end()
		options := append(o.options, progress)
		var l client.Likelihoods
		switch {
		case in == nil:
			l, err = r.LeaveOneOut(ctx, o.list, options...)
		case in.Cols() != r.Dim():
			err = checkCols(in, r)
		case in.DType() == npy.Float64:
			err = heldOut(ctx, r, in, o.list, options, &l, r.LikelihoodsFrom64, r.Likelihoods64)
		default:
			err = heldOut(ctx, r, in, o.list, options, &l, r.LikelihoodsFrom, r.Likelihoods)
		}
		if err != nil {
			return err
		}
		end()
		ranked, err := l.Rank()
		if err != nil {
			return err
		}
		v := tuned{Run: o.run, Holdout: o.holdout, Tuning: ranked, Damping: ranked.At[ranked.Best].Damping}
		return t.print(v, v.say)
	})
}

// heldOut asks for as many gradients at a time as one query takes, all of them from one version.
func heldOut[T npy.Float](ctx context.Context, r *client.Run, in *npy.File, dampings []float64, opts []client.QueryOption, l *client.Likelihoods,
	from func(context.Context, []float64, client.Source[T], ...client.QueryOption) (client.Likelihoods, error),
	all func(context.Context, []float64, [][]T, ...client.QueryOption) (client.Likelihoods, error),
) error {
	n := max(1, min(int64(r.MaxVectors()), memoryBytes/(8*r.Dim())))
	for lo := int64(0); lo < in.Rows(); lo += n {
		now := opts
		if l.Version > 0 {
			now = append(opts[:len(opts):len(opts)], client.WithExactly(l.Version))
		}
		var part client.Likelihoods
		var err error
		if k := min(n, in.Rows()-lo); k == 1 {
			part, err = from(ctx, dampings, npy.Row[T](in, lo), now...)
		} else {
			var v [][]T
			if v, err = npy.ReadRows[T](in, lo, k); err == nil {
				part, err = all(ctx, dampings, v, now...)
			}
		}
		if err == nil {
			err = l.Append(part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v tuned) say(w io.Writer) {
	what := plural(v.Gradients, "held-out gradient")
	if v.LeftOut {
		what = plural(v.Gradients, "gradient") + " of it, each left out"
	}
	fmt.Fprintf(w, "version %d with %s, log N(h; 0, H) of %s\n\n", v.Version, plural(v.Rows, "gradient"), what)
	fmt.Fprintln(w, "DAMPING\tMEAN\tSTD ERROR\tBELOW BEST\tSTD ERROR\t")
	for i, x := range v.At {
		mark := ""
		if i == v.Best {
			mark = "best"
		}
		fmt.Fprintf(w, "%g\t%s\t%.3g\t%.6g\t%.3g\t%s\n", x.Damping, estimate(client.Estimate{Value: x.Mean, Error: x.Bound}), x.StdErr, x.Below, x.BelowError, mark)
	}
}
