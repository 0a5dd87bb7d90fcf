package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/npy"
	"mfac/wire"
)

// This file: F v, H v and samples.

func (t *tool) fvpCommand() *cobra.Command {
	return t.productCommand(wire.KindFisher, "fvp", "Multiply vectors by the empirical Fisher F",
		`Writes F v to out.npy, of the shape of v.npy: one vector, or a vector a row. F = GᵀG/N, G being the window's
gradients and N its capacity, or their number where the run's divisor, or --divisor, is count.

Refused where v is all but orthogonal to the gradients: no digit of F v is sure then.`)
}

func (t *tool) hvpCommand() *cobra.Command {
	return t.productCommand(wire.KindHessian, "hvp", "Multiply vectors by H = F + λI",
		`Writes H v = F v + λv to out.npy, of the shape of v.npy: one vector, or a vector a row. F is that of "mfac fvp", λ the
run's damping or --damping.`)
}

func (t *tool) productCommand(kind, use, short, what string) *cobra.Command {
	o := asking{of: kind, hasVec: true}
	cmd := &cobra.Command{
		Use:   use + " NAME v.npy -o out.npy",
		Short: short,
		Long: what + `

Results are float32, computed in float64 and rounded once; --float64 leaves them as they are. All rows of a file are
answered from the same version of the window. Says the version, its rows, and a bound of the relative error in the
2-norm. --wire and --result are those of "mfac ihvp".`,
		Args: cli.Names("NAME", "v.npy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run, o.in = args[0], args[1]
			if err := o.checkCommon(cmd); err != nil {
				return err
			}
			return t.ihvp(cmd, &o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.out, "out", "o", "", "`file` to write (required)")
	if kind != wire.KindFisher {
		f.Float64Var(&o.damping, "damping", 0, "`λ` in place of the run's")
	}
	o.commonFlags(cmd)
	f.StringVar(&o.wire, "wire", "", "`dtype` in which vectors are sent: f32, f64, bf16 or f16 (default the file's)")
	return cmd
}

// commonFlags adds the flags of every query that is no ihvp.
func (o *asking) commonFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.divisor, "divisor", "", "`N` in place of the run's: capacity or count")
	f.BoolVar(&o.wide, "float64", false, "float64 results")
	f.StringVar(&o.result, "result", "", "`dtype` in which results are fetched: f32, f64, bf16 or f16 (default that of the output)")
	f.Uint64Var(&o.atLeast, "at-least", 0, "refuse to answer from a version below `V`")
	f.IntVar(&o.minRows, "min-rows", 0, "refuse to answer from fewer than `n` gradients")
	o.wholeFlag(f)
}

// sampling is the flags of sample.
type sampling struct {
	asking
	seed         uint64
	count, first int64
}

func (t *tool) sampleCommand() *cobra.Command {
	var o sampling
	cmd := &cobra.Command{
		Use:   "sample NAME --seed S --count K -o out.npy",
		Short: "Draw samples from N(0, H⁻¹)",
		Long: `Writes K samples from the normal distribution of mean 0 and covariance H⁻¹ to out.npy, one a row.

A sample depends on the seed and its number, 0 to K − 1 or from --first on, on the window, λ and N, and on where the
run's shards have their borders: it is the same bytes whatever the number of workers and whatever else is drawn with
it. Results are float32, computed in float64 and rounded once; --float64 leaves them as they are. All samples are of
the same version of the window.`,
		Args: cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run = args[0]
			if err := o.check(cmd); err != nil {
				return err
			}
			return t.sample(cmd, &o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.out, "out", "o", "", "`file` to write (required)")
	f.Uint64Var(&o.seed, "seed", 0, "seed `S` (required)")
	f.Int64Var(&o.count, "count", 1, "draw `K` samples")
	f.Int64Var(&o.first, "first", 0, "`number` of the first sample")
	f.Float64Var(&o.damping, "damping", 0, "`λ` in place of the run's")
	o.commonFlags(cmd)
	return cmd
}

func (o *sampling) check(cmd *cobra.Command) error {
	if err := cli.Required(cmd.Flags(), "out", "seed"); err != nil {
		return err
	}
	if o.count < 1 || o.count > wire.MaxSamples {
		return wire.Invalid("count", o.count, fmt.Sprintf("in [1, %d]", int64(wire.MaxSamples)))
	}
	if most := wire.MaxSamples - o.count; o.first < 0 || o.first > most {
		return wire.Invalid("first", o.first, fmt.Sprintf("in [0, %d] with a count of %d", most, o.count))
	}
	return o.checkCommon(cmd)
}

func (t *tool) sample(cmd *cobra.Command, o *sampling) error {
	return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
		r, err := t.join(ctx, c, o.run)
		if err != nil {
			return err
		}
		a := answered{Run: o.run, Output: o.out, Vectors: o.count, Dim: r.Dim()}
		dtype := npy.Float32
		if o.wide {
			dtype = npy.Float64
		}
		a.DType = dtype.String()
		w, err := npy.Create(o.out, dtype, o.count, a.Dim)
		if err != nil {
			return err
		}
		defer w.Close()
		progress, end := t.working("sample " + o.run)
		defer end()
		o.options = append(o.options, progress)
		if o.wide {
			err = drawTo(ctx, drawing[float64]{r, r.Samples64, r.SampleTo64}, o, w, &a)
		} else {
			err = drawTo(ctx, drawing[float32]{r, r.Samples, r.SampleTo}, o, w, &a)
		}
		end()
		if err == nil {
			err = w.Commit()
		}
		if err != nil {
			return err
		}
		return t.print(a, a.say)
	})
}

// drawing is the samples of a run in one type of numbers.
type drawing[T npy.Float] struct {
	run  *client.Run
	many func(ctx context.Context, dst [][]T, seed uint64, first int64, opts ...client.QueryOption) (client.Answer, error)
	one  func(ctx context.Context, sink client.Sink[T], seed uint64, number int64, opts ...client.QueryOption) (client.Answer, error)
}

func drawTo[T npy.Float](ctx context.Context, q drawing[T], o *sampling, w *npy.Writer, a *answered) error {
	return batches(a, int64(q.run.MaxVectors()), 8*a.Dim, func(lo, n int64) error {
		if n == 1 {
			part, err := q.one(ctx, npy.Out[T](w, lo), o.seed, o.first+lo, o.at(a)...)
			a.add(part)
			return err
		}
		dst := matrix[T](n, a.Dim)
		part, err := q.many(ctx, dst, o.seed, o.first+lo, o.at(a)...)
		if err != nil {
			return err
		}
		a.add(part)
		return npy.WriteRows(w, lo, dst)
	})
}
