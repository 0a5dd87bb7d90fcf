package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/npy"
	"mfac/wire"
)

// This file: diagonal, columns, elements and sub-blocks of H⁻¹.

// long is how long a diagonal may take: as long as a query may live.
const long = time.Hour

// inverse is the flags of these commands.
type inverse struct {
	run, out string
	damping  float64
	divisor  string
	wide     bool // float64 results
	result   string
	atLeast  uint64
	minRows  int
	options  []client.QueryOption
	blocking
}

// flags are those of all of them; vector, those whose result is of length d.
func (o *inverse) flags(f *pflag.FlagSet, vector bool) {
	f.SortFlags = false
	if vector {
		f.StringVarP(&o.out, "out", "o", "", "`file` to write (required)")
	}
	f.Float64Var(&o.damping, "damping", 0, "`λ` in place of the run's")
	f.StringVar(&o.divisor, "divisor", "", "`N` in place of the run's: capacity or count")
	if vector {
		f.BoolVar(&o.wide, "float64", false, "float64 results")
		f.StringVar(&o.result, "result", "", "`dtype` in which results are fetched: f32, f64, bf16 or f16 (default that of the output)")
	}
	f.Uint64Var(&o.atLeast, "at-least", 0, "refuse to answer from a version below `V`")
	f.IntVar(&o.minRows, "min-rows", 0, "refuse to answer from fewer than `n` gradients")
}

// check checks the flags, before anything is asked.
func (o *inverse) check(f *pflag.FlagSet) error {
	if err := wire.CheckName("run", o.run); err != nil {
		return err
	}
	h, err := hessian(f, o.damping, o.divisor)
	if err != nil {
		return err
	}
	o.options = append(o.options, h...)
	blocks, err := o.blocking.queryOptions()
	if err != nil {
		return err
	}
	o.options = append(o.options, blocks...)
	if f.Changed("result") {
		if err := wire.CheckDType("result", wire.DType(o.result)); err != nil {
			return err
		}
		o.options = append(o.options, client.WithResult(wire.DType(o.result)))
	}
	if o.minRows < 0 || o.minRows > wire.MaxWindow {
		return wire.Invalid("min-rows", o.minRows, fmt.Sprintf("in [0, %d]", wire.MaxWindow))
	}
	o.options = append(o.options, client.WithMinRows(o.minRows))
	if o.atLeast > 0 {
		o.options = append(o.options, client.WithAtLeast(wire.Version(o.atLeast)))
	}
	return nil
}

// index reads a column's index from the command line.
func index(name, text string) (int64, error) {
	j, err := strconv.ParseInt(text, 10, 64)
	if err != nil || j < 0 {
		return 0, cli.UsageError("%s is %s, must be a whole number, at least 0", name, text)
	}
	return j, nil
}

// of says where an answer comes from.
func of(a client.Answer) string {
	return fmt.Sprintf("from version %d with %s", a.Version, plural(a.Rows, "gradient"))
}

// writtenShown is what diag, column and subblock print.
type writtenShown struct {
	Run     string       `json:"run"`
	Output  string       `json:"output"`
	Shape   []int64      `json:"shape"`
	DType   string       `json:"dtype"`
	Version wire.Version `json:"version"`
	Rows    int          `json:"rows"`
	Bound   float64      `json:"bound"`
}

func (t *tool) diagCommand() *cobra.Command {
	var o inverse
	cmd := &cobra.Command{
		Use:   "diag NAME -o d.npy",
		Short: "Write the diagonal of H⁻¹",
		Long: `Writes the diagonal of H⁻¹ to d.npy, a vector of the run's dim. The workers work it out for their columns
in float64, m²/2 products a column, and round it once to float32; --float64 leaves it as it is. Gives up after
an hour, or --timeout. Says the version, its gradients, and a bound of the relative error in the 2-norm.

--blocks replaces H by its diagonal blocks; --blocks tensor by one a tensor, --blocks B by ones of B columns.`,
		Args: cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run = args[0]
			bar := t.bar("diag "+o.run, -1)
			return t.vector(cmd, &o, long, func(ctx context.Context, r *client.Run, w *npy.Writer) (client.Answer, error) {
				size := npy.Float32.Size()
				if o.wide {
					size = npy.Float64.Size()
				}
				bar.ChangeMax64(r.Dim() * size)
				opts := append(o.options, client.WithProgress(func(done, _ int64) { _ = bar.Set64(done * size) }))
				defer func() { _ = bar.Finish() }()
				if o.wide {
					return r.DiagTo64(ctx, npy.Out[float64](w, 0), opts...)
				}
				return r.DiagTo(ctx, npy.Out[float32](w, 0), opts...)
			})
		},
	}
	o.flags(cmd.Flags(), true)
	o.blocking.flags(cmd.Flags())
	return cmd
}

func (t *tool) columnCommand() *cobra.Command {
	var o inverse
	cmd := &cobra.Command{
		Use:   "column NAME J -o c.npy",
		Short: "Write a column of H⁻¹",
		Long: `Writes column J of H⁻¹, counted from 0, to c.npy, a vector of the run's dim: H⁻¹ of the vector that is 1 at J.
Results are float32, computed in float64 and rounded once; --float64 leaves them as they are. Says the version, its
gradients, and a bound of the relative error in the 2-norm.`,
		Args: cli.Names("NAME", "J"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run = args[0]
			j, err := index("J", args[1])
			if err != nil {
				return err
			}
			return t.vector(cmd, &o, unbounded, func(ctx context.Context, r *client.Run, w *npy.Writer) (client.Answer, error) {
				progress, end := t.working("column " + o.run)
				defer end()
				opts := append(o.options, progress)
				if o.wide {
					return r.ColumnTo64(ctx, npy.Out[float64](w, 0), j, opts...)
				}
				return r.ColumnTo(ctx, npy.Out[float32](w, 0), j, opts...)
			})
		},
	}
	o.flags(cmd.Flags(), true)
	o.wholeFlag(cmd.Flags())
	return cmd
}

// vector has ask write a vector of the run's dim to the output.
func (t *tool) vector(cmd *cobra.Command, o *inverse, most time.Duration, ask func(context.Context, *client.Run, *npy.Writer) (client.Answer, error)) error {
	if err := cli.Required(cmd.Flags(), "out"); err != nil {
		return err
	}
	if err := o.check(cmd.Flags()); err != nil {
		return err
	}
	return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
		r, err := t.join(ctx, c, o.run)
		if err != nil {
			return err
		}
		if most != unbounded {
			var cancel context.CancelFunc
			ctx, cancel = patiently(ctx)
			defer cancel()
		}
		dtype := npy.Float32
		if o.wide {
			dtype = npy.Float64
		}
		w, err := npy.Create(o.out, dtype, r.Dim())
		if err != nil {
			return err
		}
		defer w.Close()
		a, err := ask(ctx, r, w)
		if err != nil {
			return err
		}
		if err := w.Commit(); err != nil {
			return err
		}
		return t.wrote(writtenShown{Run: o.run, Output: o.out, Shape: []int64{r.Dim()}, DType: dtype.String()}, a, "")
	})
}

// wrote says what was written.
func (t *tool) wrote(v writtenShown, a client.Answer, bound string) error {
	v.Version, v.Rows, v.Bound = a.Version, a.Rows, a.Bound()
	return t.print(v, func(w io.Writer) {
		shape := fmt.Sprint(v.Shape[0])
		if len(v.Shape) == 2 {
			shape += fmt.Sprintf(" × %d", v.Shape[1])
		}
		fmt.Fprintf(w, "wrote %s: %s %s, %s, error at most %.1e%s\n", v.Output, shape, v.DType, of(a), v.Bound, bound)
	})
}

// relativeTo is what errors of elements are relative to.
const relativeTo = " of √(H⁻¹ᵢᵢ H⁻¹ⱼⱼ)"

// element is what element prints.
type element struct {
	Run     string       `json:"run"`
	I       int64        `json:"i"`
	J       int64        `json:"j"`
	Value   float64      `json:"value"`
	Version wire.Version `json:"version"`
	Rows    int          `json:"rows"`
	Bound   float64      `json:"bound"`
}

func (t *tool) elementCommand() *cobra.Command {
	var o inverse
	cmd := &cobra.Command{
		Use:   "element NAME I J",
		Short: "Print an element of H⁻¹",
		Long: `Prints element (I, J) of H⁻¹, counted from 0, with the version, its gradients, and a bound of the error relative to
√(H⁻¹ᵢᵢ H⁻¹ⱼⱼ): for I = J, to the element itself. Two columns of the gradients go to the coordinator, nothing else.

--blocks replaces H by its diagonal blocks; the element is 0 where I and J lie in different ones. The workers multiply
the gradients of those of I and J anew then.`,
		Args: cli.Names("NAME", "I", "J"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run = args[0]
			i, err := index("I", args[1])
			if err != nil {
				return err
			}
			j, err := index("J", args[2])
			if err != nil {
				return err
			}
			if err := o.check(cmd.Flags()); err != nil {
				return err
			}
			return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
				r, err := t.join(ctx, c, o.run)
				if err != nil {
					return err
				}
				ctx, cancel := o.blocking.patiently(ctx, cmd, r)
				defer cancel()
				progress, end := t.working("element " + o.run)
				defer end()
				x, a, err := r.Element(ctx, i, j, append(o.options, progress)...)
				end()
				if err != nil {
					return err
				}
				return t.print(element{o.run, i, j, x, a.Version, a.Rows, a.Bound()}, func(w io.Writer) {
					fmt.Fprintf(w, "%v, %s, error at most %.1e%s\n", x, of(a), a.Bound(), relativeTo)
				})
			})
		},
	}
	o.flags(cmd.Flags(), false)
	o.blocking.flags(cmd.Flags())
	return cmd
}

func (t *tool) subblockCommand() *cobra.Command {
	var o inverse
	var file string
	cmd := &cobra.Command{
		Use:   "subblock NAME --index q.npy -o b.npy",
		Short: "Write a sub-block of H⁻¹",
		Long: `Writes the rows and columns of H⁻¹ that q.npy names to b.npy, a square of float64. q.npy is 1-D, int64 or int32, of at
most 2048 indices, counted from 0, which may repeat. Their columns of the gradients go to the coordinator, nothing
else. Says the version, its gradients, and a bound of each element's error relative to √(H⁻¹ᵢᵢ H⁻¹ⱼⱼ).`,
		Args: cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run = args[0]
			if err := cli.Required(cmd.Flags(), "index", "out"); err != nil {
				return err
			}
			if err := o.check(cmd.Flags()); err != nil {
				return err
			}
			index, err := npy.ReadIndices(file, wire.MaxIndices)
			if err != nil {
				return err
			}
			return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
				r, err := t.join(ctx, c, o.run)
				if err != nil {
					return err
				}
				q := int64(len(index))
				w, err := npy.Create(o.out, npy.Float64, q, q)
				if err != nil {
					return err
				}
				defer w.Close()
				ctx, cancel := o.blocking.patiently(ctx, cmd, r)
				defer cancel()
				progress, end := t.working("subblock " + o.run)
				defer end()
				x, a, err := r.Subblock(ctx, index, append(o.options, progress)...)
				end()
				if err != nil {
					return err
				}
				rows := make([][]float64, q)
				for i := range rows {
					rows[i] = x[int64(i)*q : int64(i+1)*q]
				}
				if err := npy.WriteRows(w, 0, rows); err != nil {
					return err
				}
				if err := w.Commit(); err != nil {
					return err
				}
				return t.wrote(writtenShown{Run: o.run, Output: o.out, Shape: []int64{q, q}, DType: npy.Float64.String()}, a, relativeTo)
			})
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&file, "index", "", "`file` of the indices (required)")
	f.StringVarP(&o.out, "out", "o", "", "`file` to write (required)")
	o.flags(f, false)
	o.blocking.flags(f)
	return cmd
}
