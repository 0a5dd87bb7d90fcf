package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/wire"
)

// pinning is the flags of what is asked of a window alone.
type pinning struct {
	divisor string
	atLeast uint64
	minRows int
	blocking
}

func (p *pinning) flags(f *pflag.FlagSet) {
	f.StringVar(&p.divisor, "divisor", "", "`N` in place of the run's: capacity or count")
	f.Uint64Var(&p.atLeast, "at-least", 0, "refuse to answer from a version below `V`")
	f.IntVar(&p.minRows, "min-rows", 0, "refuse to answer from fewer than `n` gradients")
}

func (p *pinning) options() ([]client.QueryOption, error) {
	var opts []client.QueryOption
	if p.divisor != "" {
		if d := wire.Divisor(p.divisor); d != wire.Capacity && d != wire.Count {
			return nil, wire.Invalid("divisor", d, "capacity or count")
		}
		opts = append(opts, client.WithDivisor(wire.Divisor(p.divisor)))
	}
	if p.minRows < 0 || p.minRows > wire.MaxWindow {
		return nil, wire.Invalid("min-rows", p.minRows, fmt.Sprintf("in [0, %d]", wire.MaxWindow))
	}
	blocks, err := p.blocking.queryOptions()
	if err != nil {
		return nil, err
	}
	return append(append(opts, client.WithMinRows(p.minRows), client.WithAtLeast(wire.Version(p.atLeast))), blocks...), nil
}

func (t *tool) scalarsCommand() *cobra.Command {
	var p pinning
	var dampings string
	cmd := &cobra.Command{
		Use:   "scalars NAME [--damping 1e-8:1e-1:log8 | --damping a,b,c]",
		Short: "Show log det H, tr H⁻¹, the effective dimension and more, at one λ or many",
		Long: `Shows numbers of H = F + λI, and of K = GGᵀ + NλI, at each λ:

  log det H      of all d columns
  tr H⁻¹
  dimension      tr FH⁻¹, how many directions the gradients have that λ does not drown
  λ min, λ max   the extreme eigenvalues of H
  cond H, cond K

and the trace of F and its norms. Workers take no part: the run's coordinator has the products of the
gradients with each other. A number is followed by what it may be off by where that shows.

--blocks shows them for each diagonal block of H: --blocks tensor for each tensor, --blocks B for blocks of B
columns; then for the H that has these blocks alone. For these the workers multiply the gradients anew.`,
		Args: cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wire.CheckName("run", args[0]); err != nil {
				return err
			}
			var list []float64
			if cmd.Flags().Changed("damping") {
				var err error
				if list, err = parseDampings(dampings); err != nil {
					return err
				}
			}
			opts, err := p.options()
			if err != nil {
				return err
			}
			return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
				r, err := t.join(ctx, c, args[0])
				if err != nil {
					return err
				}
				if p.blocks != whole && (p.blocks != "" || r.Spec().Blocks != "") {
					return t.blockScalars(ctx, r, list, opts)
				}
				progress, end := t.working("scalars " + args[0])
				defer end()
				s, err := r.Scalars(ctx, list, append(opts, progress)...)
				end()
				if err != nil {
					return err
				}
				return t.print(s, func(w io.Writer) { writeScalars(w, s) })
			})
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&dampings, "damping", "", "`λ`, or several: a,b,c or low:high:logN, N at equal ratios (default the run's)")
	p.blocking.flags(f)
	p.flags(f)
	return cmd
}

// blockNumbers is what scalars prints of blocks.
type blockNumbers struct {
	Blocks []client.BlockScalars `json:"blocks"`
	All    client.Scalars        `json:"all"`
}

func (t *tool) blockScalars(ctx context.Context, r *client.Run, dampings []float64, opts []client.QueryOption) error {
	ctx, cancel := patiently(ctx)
	defer cancel()
	progress, end := t.working("scalars " + r.Spec().Name)
	defer end()
	list, err := r.BlockScalars(ctx, dampings, nil, append(opts, progress)...)
	end()
	if err != nil {
		return err
	}
	b := blockNumbers{list, client.SumBlocks(list)}
	return t.print(b, func(w io.Writer) {
		fmt.Fprintf(w, "version %d with %s, N = %g\n", b.All.Version, plural(b.All.Rows, "gradient"), b.All.N)
		fmt.Fprintln(w, "TENSOR\tCOLUMNS\tTR F\t‖F‖\tDAMPING\tLOG DET H\tTR H⁻¹\tDIMENSION\tλ MIN\tλ MAX")
		row := func(name, cols string, s client.Scalars) {
			for _, x := range s.At {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%g", name, cols, estimate(s.Trace), estimate(s.Frobenius), x.Damping)
				for _, e := range []client.Estimate{x.LogDet, x.TraceInverse, x.EffectiveDim, x.Smallest, x.Largest} {
					fmt.Fprintf(w, "\t%s", estimate(e))
				}
				fmt.Fprintln(w)
			}
		}
		for _, x := range b.Blocks {
			row(cmp.Or(x.Tensor, "-"), fmt.Sprintf("%d:%d", x.Lo, x.Hi), x.Scalars)
		}
		row("all", fmt.Sprintf("0:%d", r.Dim()), b.All)
	})
}

func writeScalars(w io.Writer, s client.Scalars) {
	fmt.Fprintf(w, "version %d with %s, N = %g\n", s.Version, plural(s.Rows, "gradient"), s.N)
	fmt.Fprintf(w, "tr F = %s, ‖F‖ = %s (Frobenius), %s (spectral)\n\n", estimate(s.Trace), estimate(s.Frobenius), estimate(s.Spectral))
	fmt.Fprintln(w, "DAMPING\tLOG DET H\tTR H⁻¹\tDIMENSION\tλ MIN\tλ MAX\tCOND H\tCOND K")
	for _, x := range s.At {
		fmt.Fprintf(w, "%g", x.Damping)
		for _, e := range []client.Estimate{x.LogDet, x.TraceInverse, x.EffectiveDim, x.Smallest, x.Largest, x.CondH, x.CondK} {
			fmt.Fprintf(w, "\t%s", estimate(e))
		}
		fmt.Fprintln(w)
	}
}

// estimate shows a number in six digits, and its bound where they may be wrong.
func estimate(e client.Estimate) string {
	if e.Error <= 5e-7*math.Abs(e.Value) {
		return fmt.Sprintf("%.6g", e.Value)
	}
	return fmt.Sprintf("%.6g ± %.1g", e.Value, e.Error)
}
