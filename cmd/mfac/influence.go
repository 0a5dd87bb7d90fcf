package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/wire"
)

// influencing is the flags of influence.
type influencing struct {
	chosen
	ranking
	run       string
	self, loo bool
	options   []client.QueryOption
}

func (t *tool) influenceCommand() *cobra.Command {
	var o influencing
	cmd := &cobra.Command{
		Use:   "influence NAME [-o m.npy] [--self | --loo] [--top K]",
		Short: "Show how the stored gradients bear on each other: gᵀH⁻¹g",
		Long: `Shows how the gradients in the window bear on each other, from the products that the coordinator has: no
pass over them, float64.

  -o m.npy   writes g_iᵀH⁻¹g_j for all pairs of gradients, a row for each i
  --self     shows g_iᵀH⁻¹g_i of each gradient, the largest first; -o writes a number a gradient. So it
             does where neither -o nor --loo is given
  --loo      the same with the gradient itself left out of H, N as it is (leave-one-out)

Says the version, its gradients, and how far off the numbers can be, absolute: the largest bound of one
number, or of a row of the matrix in the 2-norm.`,
		Args: cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.run = args[0]
			if o.self && o.loo {
				return cli.UsageError("--self and --loo exclude each other")
			}
			if err := cmp.Or(wire.CheckName("run", o.run), o.check()); err != nil {
				return err
			}
			if o.options, err = o.chosen.options(cmd.Flags()); err != nil {
				return err
			}
			return t.influence(cmd, &o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&o.self, "self", false, "each gradient on itself")
	f.BoolVar(&o.loo, "loo", false, "each gradient on itself, left out of H")
	o.ranking.flags(f, "the numbers")
	o.chosen.flags(f)
	return cmd
}

// influenceShown is what the command prints.
type influenceShown struct {
	Run     string       `json:"run"`
	Output  string       `json:"output,omitempty"`
	Of      string       `json:"of"` // self, loo or all
	Version wire.Version `json:"version"`
	Rows    int          `json:"rows"`
	Bound   float64      `json:"bound"` // the largest, absolute
	Top     []scored     `json:"top,omitempty"`
}

func (t *tool) influence(cmd *cobra.Command, o *influencing) error {
	return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
		r, err := t.join(ctx, c, o.run)
		if err != nil {
			return err
		}
		a := influenceShown{Run: o.run, Output: o.out, Of: "all"}
		if o.out != "" && !o.self && !o.loo {
			err = o.matrix(ctx, r, &a)
		} else {
			err = o.each(ctx, r, &a)
		}
		if err != nil {
			return err
		}
		return t.print(a, func(w io.Writer) {
			showRanked(w, a.Top, a.Of)
			fmt.Fprintf(w, "%s%s of version %d, error at most %.1e\n", wrote(a.Output), plural(a.Rows, "gradient"), a.Version, a.Bound)
		})
	})
}

// matrix writes the influence of all on all.
func (o *influencing) matrix(ctx context.Context, r *client.Run, a *influenceShown) error {
	in, err := r.Influence(ctx, o.options...)
	if err != nil {
		return err
	}
	a.Version, a.Rows, a.Bound = in.Version, len(in.Steps), largest(in.Bounds)
	return o.write(in.Values, false)
}

// each ranks the gradients by their influence on themselves.
func (o *influencing) each(ctx context.Context, r *client.Run, a *influenceShown) error {
	in, err := r.SelfInfluence(ctx, o.options...)
	if err != nil {
		return err
	}
	x, bounds := in.Self, in.SelfBound
	if a.Of = "self"; o.loo {
		a.Of, x, bounds = "loo", in.Out, in.OutBound
	}
	a.Version, a.Rows, a.Bound = in.Version, len(in.Steps), largest(bounds)
	a.Top = rank(in.Steps, in.Labels, x, o.top)
	return o.write([][]float64{x}, true)
}

func largest(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	return slices.Max(x)
}
