package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/npy"
	"mfac/wire"
)

// chosen is the flags that choose H and the window of it that is asked.
type chosen struct {
	damping float64
	divisor string
	atLeast uint64
	minRows int
	blocking
}

func (o *chosen) flags(f *pflag.FlagSet) {
	f.Float64Var(&o.damping, "damping", 0, "`λ` in place of the run's")
	f.StringVar(&o.divisor, "divisor", "", "`N` in place of the run's: capacity or count")
	f.Uint64Var(&o.atLeast, "at-least", 0, "refuse to answer from a version below `V`")
	f.IntVar(&o.minRows, "min-rows", 0, "refuse to answer from fewer than `n` gradients")
	o.wholeFlag(f)
}

// options checks the flags, before anything is read or asked.
func (o *chosen) options(f *pflag.FlagSet) ([]client.QueryOption, error) {
	opts, err := hessian(f, o.damping, o.divisor)
	if err != nil {
		return nil, err
	}
	if o.minRows < 0 || o.minRows > wire.MaxWindow {
		return nil, wire.Invalid("min-rows", o.minRows, fmt.Sprintf("in [0, %d]", wire.MaxWindow))
	}
	blocks, err := o.blocking.queryOptions()
	if err != nil {
		return nil, err
	}
	opts = append(append(opts, client.WithMinRows(o.minRows)), blocks...)
	if o.atLeast > 0 {
		opts = append(opts, client.WithAtLeast(wire.Version(o.atLeast)))
	}
	return opts, nil
}

// hessian checks --damping and --divisor, where they are given, and makes them options of a query.
func hessian(f *pflag.FlagSet, damping float64, divisor string) ([]client.QueryOption, error) {
	var opts []client.QueryOption
	if f.Changed("damping") {
		if err := wire.CheckDamping("damping", damping); err != nil {
			return nil, err
		}
		opts = append(opts, client.WithDamping(damping))
	}
	if f.Changed("divisor") {
		d := wire.Divisor(divisor)
		if d != wire.Capacity && d != wire.Count {
			return nil, wire.Invalid("divisor", d, "capacity or count")
		}
		opts = append(opts, client.WithDivisor(d))
	}
	return opts, nil
}

// ranking is the flags of what is shown.
type ranking struct {
	out string
	top int
}

func (o *ranking) flags(f *pflag.FlagSet, what string) {
	f.StringVarP(&o.out, "out", "o", "", "`file` to write "+what+" to, float64, in the order of \"mfac run steps\"")
	f.IntVar(&o.top, "top", 10, "show the `K` of largest magnitude")
}

func (o *ranking) check() error {
	if o.top < 0 || o.top > wire.MaxWindow {
		return wire.Invalid("top", o.top, fmt.Sprintf("in [0, %d]", wire.MaxWindow))
	}
	return nil
}

// scored is a step and its number.
type scored struct {
	Step  wire.Step `json:"step"`
	Label string    `json:"label,omitempty"`
	Score float64   `json:"score"`
}

// rank is the k steps of largest magnitude, the older first where they are equal.
func rank(steps []wire.Step, labels []string, x []float64, k int) []scored {
	list := make([]scored, len(x))
	for i := range x {
		list[i] = scored{steps[i], labelOf(labels, i), x[i]}
	}
	slices.SortStableFunc(list, func(a, b scored) int { return -cmp.Compare(math.Abs(a.Score), math.Abs(b.Score)) })
	return list[:min(k, len(list))]
}

// write writes numbers to the file that -o names, if any: one row of them as a vector where flat.
func (o *ranking) write(rows [][]float64, flat bool) error {
	if o.out == "" {
		return nil
	}
	cols := 0
	if len(rows) > 0 {
		cols = len(rows[0])
	}
	if cols == 0 {
		return fmt.Errorf("%s is not written: there are no gradients in the window", o.out)
	}
	shape := []int64{int64(len(rows)), int64(cols)}
	if flat {
		shape = shape[1:]
	}
	w, err := npy.Create(o.out, npy.Float64, shape...)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := npy.WriteRows(w, 0, rows); err != nil {
		return err
	}
	return w.Commit()
}

// scoring is the flags of scores.
type scoring struct {
	chosen
	ranking
	run, in string
	options []client.QueryOption
}

func (t *tool) scoresCommand() *cobra.Command {
	var o scoring
	cmd := &cobra.Command{
		Use:   "scores NAME v.npy [-o s.npy] [--top K]",
		Short: "Score every stored gradient against vectors: gᵀH⁻¹v",
		Long: `Scores every gradient g in the window against the vector v, or each vector of a file with several, a row
each: gᵀH⁻¹v, its influence on v. One pass over the window, float64. Shows steps and scores, the
largest magnitude first; -o writes all of them, a number a gradient, or a row of these a vector. Says
the version, its gradients, and a bound of the relative error in the 2-norm of a vector's scores.

A vector that is orthogonal to all gradients has no scores that rounding errors leave anything of: it is
refused, as is any with a bound above 0.001. A larger damping helps against the second.`,
		Args: cli.Names("NAME", "v.npy"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.run, o.in = args[0], args[1]
			if err := cmp.Or(wire.CheckName("run", o.run), o.check()); err != nil {
				return err
			}
			if o.options, err = o.chosen.options(cmd.Flags()); err != nil {
				return err
			}
			return t.scores(cmd, &o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	o.ranking.flags(f, "all scores")
	o.chosen.flags(f)
	return cmd
}

// scores is what the command prints.
type scoresShown struct {
	Run     string       `json:"run"`
	Output  string       `json:"output,omitempty"`
	Version wire.Version `json:"version"`
	Rows    int          `json:"rows"`
	Bounds  []float64    `json:"bounds"` // one a vector
	Top     [][]scored   `json:"top"`    // of each vector

	scores [][]float64
}

func (t *tool) scores(cmd *cobra.Command, o *scoring) error {
	in, err := npy.Open(o.in)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := in.CheckFinite(cmd.Context(), false); err != nil {
		return err
	}
	return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
		r, err := t.join(ctx, c, o.run)
		if err != nil {
			return err
		}
		if err := checkCols(in, r); err != nil {
			return err
		}
		a := scoresShown{Run: o.run, Output: o.out}
		if in.DType() == npy.Float64 {
			err = scoreAll(ctx, r, o, in, &a, r.ScoresFrom64, r.Scores64)
		} else {
			err = scoreAll(ctx, r, o, in, &a, r.ScoresFrom, r.Scores)
		}
		if err != nil {
			return err
		}
		if err := o.write(a.scores, in.Dims() == 1); err != nil {
			return err
		}
		return t.print(a, func(w io.Writer) {
			for k, list := range a.Top {
				if len(a.Top) > 1 {
					fmt.Fprintf(w, "row %d\n", k)
				}
				showRanked(w, list, "score")
			}
			fmt.Fprintf(w, "%s%s against %s of version %d, error at most %.1e\n", wrote(a.Output),
				plural(len(a.Top), "vector"), plural(a.Rows, "gradient"), a.Version, slices.Max(a.Bounds))
		})
	})
}

func showRanked(w io.Writer, list []scored, what string) {
	head, labelled := "step\t"+what, slices.ContainsFunc(list, func(s scored) bool { return s.Label != "" })
	if labelled {
		head += "\tlabel"
	}
	if len(list) > 0 {
		fmt.Fprintln(w, head)
	}
	for _, s := range list {
		fmt.Fprintf(w, "%d\t%.6g", s.Step, s.Score)
		if labelled {
			fmt.Fprintf(w, "\t%s", s.Label)
		}
		fmt.Fprintln(w)
	}
}

func wrote(out string) string {
	if out == "" {
		return ""
	}
	return "wrote " + out + ": "
}

// scoreAll asks for as many vectors at a time as one query takes, all of them from one version.
func scoreAll[T npy.Float](ctx context.Context, r *client.Run, o *scoring, in *npy.File, a *scoresShown,
	from func(context.Context, client.Source[T], ...client.QueryOption) (client.Scores, error),
	all func(context.Context, [][]T, ...client.QueryOption) (client.Scores, error),
) error {
	n := max(1, min(int64(r.MaxVectors()), memoryBytes/(8*r.Dim())))
	for lo := int64(0); lo < in.Rows(); lo += n {
		opts := o.options
		if lo > 0 && a.Version > 0 {
			opts = append(opts[:len(opts):len(opts)], client.WithExactly(a.Version))
		}
		var s client.Scores
		var err error
		if k := min(n, in.Rows()-lo); k == 1 {
			s, err = from(ctx, npy.Row[T](in, lo), opts...)
		} else {
			var v [][]T
			if v, err = npy.ReadRows[T](in, lo, k); err == nil {
				s, err = all(ctx, v, opts...)
			}
		}
		if err != nil {
			return err
		}
		a.Version, a.Rows, a.Bounds = s.Version, s.Rows, append(a.Bounds, s.Bounds...)
		for _, x := range s.Scores {
			a.scores, a.Top = append(a.scores, x), append(a.Top, rank(s.Steps, s.Labels, x, o.top))
		}
	}
	return nil
}
