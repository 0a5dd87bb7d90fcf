package main

import (
	"context"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/npy"
	"mfac/wire"
)

// changing is the flags of prune and compensate.
type changing struct {
	run, in, out string
	sparsity     float64
	pattern      string
	want         wire.Pattern
	rule         string
	steps        int
	mask         string
	damping      float64
	divisor      string
	wide         bool
	minRows      int
	options      []client.QueryOption
	blocking
}

func (t *tool) pruneCommand() *cobra.Command {
	var o changing
	cmd := &cobra.Command{
		Use:   "prune NAME w.npy (--sparsity S | --pattern N:M) -o out.npy",
		Short: "Set the weights that matter least to 0, and adapt the others",
		Long: `Writes the weights of w.npy to out.npy, ⌊S·d⌋ of the run's d as zeros: those with the lowest scores
w²/(2[H⁻¹]ii), equal ones by index. The others are adapted:

  --rule summed  w − H⁻¹t, where ti = wi/[H⁻¹]ii for the pruned weights: as M-FAC and WoodFisher do
  --rule joint   the least increase of the quadratic for these weights: at high sparsity it trusts
                 the quadratic further than it may hold

With --pattern N:M in place of --sparsity, at most N of each M consecutive weights are not 0, as in the 2:4 of
sparse tensor cores: groups lie along the last dimension of each tensor of the run's layout, from the start
of each row. What is left at its end is a group too, of which N may stay. Without a layout all is one row.

With --mask keep.npy, a number or bool for each weight, of any dtype: 0 where it may be pruned, 1 where it is
not to be touched, -1 where it was pruned before, which counts towards S·d. H is that of the first ones alone
then. With a pattern, a group with no 0 in the mask is left as it is: so a mask of ones takes a tensor out.

--blocks replaces H by its diagonal blocks; --blocks tensor by one a tensor, --blocks B by ones of B columns.

Results are float32, worked out in float64 and rounded once; --float64 leaves them as they are. Says how
many weights of each tensor are 0, where the run has a layout.`,
		Args: cli.Names("NAME", "w.npy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run, o.in = args[0], args[1]
			f := cmd.Flags()
			if f.Changed("sparsity") == f.Changed("pattern") {
				return cli.UsageError("one of --sparsity and --pattern must be given")
			}
			if err := o.check(f); err != nil {
				return err
			}
			if f.Changed("pattern") {
				var err error
				if o.want, err = wire.ParsePattern(o.pattern); err != nil {
					return err
				}
				if o.steps > 1 {
					return cli.UsageError("--steps goes with --sparsity alone")
				}
			}
			if err := wire.CheckSparsity(o.sparsity); err != nil {
				return err
			}
			if err := wire.CheckRule(o.rule); err != nil {
				return err
			}
			if o.steps < 1 || o.steps > 1000 {
				return wire.Invalid("steps", o.steps, "in [1, 1000]")
			}
			return t.change(cmd, &o, true)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	o.files(f)
	f.Float64Var(&o.sparsity, "sparsity", 0, "part `S` of all weights that are to be 0, in [0, 1)")
	f.StringVar(&o.pattern, "pattern", "", "leave at most N of each M consecutive weights, `N:M` (1 <= N < M <= 64)")
	f.StringVar(&o.rule, "rule", wire.RuleSummed, "`rule` by which the others are adapted: summed or joint")
	f.IntVar(&o.steps, "steps", 1, "prune in `T` steps with the same gradients, each leaving the same part of what is left")
	f.StringVar(&o.mask, "mask", "", "`file` that says which weights are not to be touched, and which were pruned before")
	o.blocking.flags(f)
	o.flags(f)
	return cmd
}

func (t *tool) compensateCommand() *cobra.Command {
	var o changing
	cmd := &cobra.Command{
		Use:   "compensate NAME delta.npy --fixed mask.npy -o out.npy",
		Short: "Change the other weights for the best, some being changed as prescribed",
		Long: `Writes to out.npy the change of all weights that raises the quadratic least when those where mask.npy
is 1 change as delta.npy says, as quantisation does: delta there, and −Gᵀ(NλI + A)⁻¹ G_S delta_S where it
is 0, with A = GGᵀ of these columns. delta.npy does not count there. The mask has any dtype, bool too.

Results are float32, worked out in float64 and rounded once; --float64 leaves them as they are.`,
		Args: cli.Names("NAME", "delta.npy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run, o.in = args[0], args[1]
			f := cmd.Flags()
			if err := cli.Required(f, "fixed"); err != nil {
				return err
			}
			if err := o.check(f); err != nil {
				return err
			}
			return t.change(cmd, &o, false)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	o.files(f)
	f.StringVar(&o.mask, "fixed", "", "`file` with 1 where the change is prescribed, 0 elsewhere (required)")
	o.wholeFlag(f)
	o.flags(f)
	return cmd
}

func (o *changing) files(f *pflag.FlagSet) {
	f.StringVarP(&o.out, "out", "o", "", "`file` to write (required)")
}

func (o *changing) flags(f *pflag.FlagSet) {
	f.Float64Var(&o.damping, "damping", 0, "`λ` in place of the run's")
	f.StringVar(&o.divisor, "divisor", "", "`N` in place of the run's: capacity or count")
	f.BoolVar(&o.wide, "float64", false, "float64 results")
	f.IntVar(&o.minRows, "min-rows", 0, "refuse to answer from fewer than `n` gradients")
}

// check checks the command line, before anything is read or asked.
func (o *changing) check(f *pflag.FlagSet) error {
	if err := cli.Required(f, "out"); err != nil {
		return err
	}
	if err := wire.CheckName("run", o.run); err != nil {
		return err
	}
	h, err := hessian(f, o.damping, o.divisor)
	if err != nil {
		return err
	}
	blocks, err := o.blocking.queryOptions()
	if err != nil {
		return err
	}
	o.options = append(append(o.options, h...), blocks...)
	if o.minRows < 0 || o.minRows > wire.MaxWindow {
		return wire.Invalid("min-rows", o.minRows, fmt.Sprintf("in [0, %d]", wire.MaxWindow))
	}
	o.options = append(o.options, client.WithMinRows(o.minRows))
	return nil
}

// changed is what prune and compensate print.
type changed struct {
	Run     string         `json:"run"`
	Output  string         `json:"output"`
	Dim     int64          `json:"dim"`
	DType   string         `json:"dtype"`
	Version wire.Version   `json:"version"`
	Rows    int            `json:"rows"`
	Zeros   int64          `json:"zeros"`
	Change  float64        `json:"change"` // ‖out − w‖/‖w‖ of the weights that are not 0; of a compensation ‖out‖
	Tensors []tensorChange `json:"tensors,omitempty"`
}

// tensorChange is what became of one tensor.
type tensorChange struct {
	Name   string  `json:"name"`
	Size   int64   `json:"size"`
	Zeros  int64   `json:"zeros"`
	Change float64 `json:"change"`
}

func (t *tool) change(cmd *cobra.Command, o *changing, prune bool) error {
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
		if in.Rows() != 1 {
			return fmt.Errorf("%s: rows is %d, must be 1", in.Path(), in.Rows())
		}
		mask, err := readMask(o.mask, r, prune)
		if err != nil {
			return err
		}
		layout, err := r.Layout(ctx)
		if err != nil {
			return err
		}
		ctx, cancel := patiently(ctx)
		defer cancel()
		a := changed{Run: o.run, Output: o.out, Dim: r.Dim()}
		o.options = append(o.options, client.WithPhases(t.phases(o.run)))
		// float64 weights are sent as they are, also where the result is float32.
		if o.wide || in.DType() == npy.Float64 {
			err = changeTo(ctx, o, in, mask, layout, &a, prune, r.Prune64, r.Compensate64)
		} else {
			err = changeTo(ctx, o, in, mask, layout, &a, prune, r.Prune, r.Compensate)
		}
		if err != nil {
			return err
		}
		return t.print(a, func(w io.Writer) { a.write(w, prune) })
	})
}

func (a *changed) write(w io.Writer, prune bool) {
	from := fmt.Sprintf("from version %d with %s", a.Version, plural(a.Rows, "gradient"))
	if !prune {
		fmt.Fprintf(w, "wrote %s: a change of %d %s of norm %.3g, %s\n", a.Output, a.Dim, a.DType, a.Change, from)
		return
	}
	fmt.Fprintf(w, "wrote %s: %d of %d %s are 0, the others changed by %.3g, %s\n", a.Output, a.Zeros, a.Dim, a.DType, a.Change, from)
	if len(a.Tensors) == 0 {
		return
	}
	fmt.Fprintln(w, "tensor\tsize\tzeros\tsparsity\tchange")
	for _, t := range a.Tensors {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.1f%%\t%.3g\n", t.Name, t.Size, t.Zeros, 100*float64(t.Zeros)/float64(t.Size), t.Change)
	}
}

// readMask reads a file of 0, 1 and, of a prune, -1.
func readMask(path string, r *client.Run, prune bool) ([]int8, error) {
	if path == "" {
		return nil, nil
	}
	least := int8(wire.MaskFree)
	if prune {
		least = wire.MaskPruned
	}
	return npy.ReadMask(path, r.Dim(), least)
}

type (
	pruneOf[T npy.Float]      func(ctx context.Context, dst, w []T, p client.Pruning, opts ...client.QueryOption) (client.Answer, error)
	compensateOf[T npy.Float] func(ctx context.Context, dst, delta []T, fixed []bool, opts ...client.QueryOption) (client.Answer, error)
)

// changeTo asks, and writes the file.
func changeTo[T npy.Float](ctx context.Context, o *changing, in *npy.File, mask []int8, layout []wire.Tensor, a *changed, prune bool, p pruneOf[T], c compensateOf[T]) error {
	rows, err := npy.ReadRows[T](in, 0, 1)
	if err != nil {
		return err
	}
	dtype := npy.Float32
	if o.wide {
		dtype = npy.Float64
	}
	w, err := npy.Create(o.out, dtype, a.Dim)
	if err != nil {
		return err
	}
	defer w.Close()
	v, dst := rows[0], make([]T, len(rows[0]))
	var answer client.Answer
	if prune {
		answer, err = p(ctx, dst, v, client.Pruning{Sparsity: o.sparsity, Rule: o.rule, Pattern: o.want, Mask: mask, Steps: o.steps}, o.options...)
	} else {
		fixed := make([]bool, len(mask))
		for j, m := range mask {
			fixed[j] = m == wire.MaskFixed
		}
		answer, err = c(ctx, dst, v, fixed, o.options...)
	}
	if err != nil {
		return err
	}
	if err := npy.WriteRows(w, 0, [][]T{dst}); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	a.DType, a.Version, a.Rows = dtype.String(), answer.Version, answer.Rows
	if !prune {
		for j := range v {
			v[j] = 0 // a change is of what is not there
		}
		layout = nil
	}
	all := changeOf("", dst, v)
	a.Zeros, a.Change = all.Zeros, all.Change
	for _, t := range layout {
		a.Tensors = append(a.Tensors, changeOf(t.Name, dst[t.Offset:t.Offset+t.Size()], v[t.Offset:]))
	}
	return nil
}

// changeOf counts zeros, and how much the others have changed: relative to w, unless that is 0.
func changeOf[T npy.Float](name string, dst, w []T) tensorChange {
	c := tensorChange{Name: name, Size: int64(len(dst))}
	var change, norm float64
	for j, x := range dst {
		if x == 0 {
			c.Zeros++
			continue
		}
		d := float64(x) - float64(w[j])
		change += d * d
		norm += float64(w[j]) * float64(w[j])
	}
	if norm == 0 {
		norm = 1
	}
	c.Change = math.Sqrt(change / norm)
	return c
}
