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

// pairing is the flags of pairs.
type pairing struct {
	chosen
	run, out string
	u, v     *npy.File
	options  []client.QueryOption
}

func (t *tool) pairsCommand() *cobra.Command {
	var o pairing
	cmd := &cobra.Command{
		Use:   "pairs NAME u.npy v.npy [-o p.npy]",
		Short: "Work out uᵀH⁻¹v of pairs of vectors",
		Long: `Works out uᵀH⁻¹v for each row u of u.npy and the row v of the same number of v.npy. A file with one vector is paired
with each row of the other one. The same file twice gives vᵀH⁻¹v. One pass over the window for as many vectors as one
query takes; float64. -o writes the numbers, one a pair; without it they are shown. Says the version, its
gradients, and how far off the numbers can be, absolute: the largest of their bounds.`,
		Args: cli.Names("NAME", "u.npy", "v.npy"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.run = args[0]
			if err := wire.CheckName("run", o.run); err != nil {
				return err
			}
			if o.options, err = o.chosen.options(cmd.Flags()); err != nil {
				return err
			}
			if o.u, err = npy.Open(args[1]); err != nil {
				return err
			}
			defer o.u.Close()
			if o.v = o.u; args[2] != args[1] {
				if o.v, err = npy.Open(args[2]); err != nil {
					return err
				}
				defer o.v.Close()
			}
			return t.pairs(cmd, &o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.out, "out", "o", "", "`file` to write the numbers to, float64")
	o.chosen.flags(f)
	return cmd
}

// pairsShown is what pairs prints.
type pairsShown struct {
	Run     string       `json:"run"`
	Output  string       `json:"output,omitempty"`
	Version wire.Version `json:"version"`
	Rows    int          `json:"rows"`
	Values  []float64    `json:"values"`
	Bounds  []float64    `json:"bounds"` // absolute
}

func (t *tool) pairs(cmd *cobra.Command, o *pairing) error {
	if a, b := o.u.Rows(), o.v.Rows(); a != b && a != 1 && b != 1 {
		return fmt.Errorf("%s: rows is %d, must be 1 or %d, those of %s", o.v.Path(), b, a, o.u.Path())
	}
	for _, f := range []*npy.File{o.u, o.v} {
		if err := f.CheckFinite(cmd.Context(), false); err != nil {
			return err
		}
	}
	return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
		r, err := t.join(ctx, c, o.run)
		if err != nil {
			return err
		}
		for _, f := range []*npy.File{o.u, o.v} {
			if err := checkCols(f, r); err != nil {
				return err
			}
		}
		a := pairsShown{Run: o.run, Output: o.out}
		if o.u.DType() == npy.Float64 || o.v.DType() == npy.Float64 {
			err = pairAll(ctx, r, o, &a, r.Pairs64)
		} else {
			err = pairAll(ctx, r, o, &a, r.Pairs)
		}
		if err != nil {
			return err
		}
		if o.out != "" {
			if err := writeNumbers(o.out, a.Values); err != nil {
				return err
			}
		}
		return t.print(a, a.say)
	})
}

func (a pairsShown) say(w io.Writer) {
	if a.Output == "" {
		for _, x := range a.Values {
			fmt.Fprintf(w, "%.9g\n", x)
		}
	}
	fmt.Fprintf(w, "%s%s from version %d with %s, error at most %.1e\n", wrote(a.Output), plural(len(a.Values), "pair"), a.Version, plural(a.Rows, "gradient"), largest(a.Bounds))
}

// pairAll asks for as many pairs at a time as one query takes, all of them from one version.
func pairAll[T npy.Float](ctx context.Context, r *client.Run, o *pairing, a *pairsShown,
	pairs func(context.Context, [][]T, [][2]int, ...client.QueryOption) (client.Pairs, error),
) error {
	each := int64(2) // vectors a pair
	if o.u == o.v {
		each = 1
	}
	n := max(1, min(int64(r.MaxVectors()), memoryBytes/(8*r.Dim()))/each)
	count := max(o.u.Rows(), o.v.Rows())
	for lo := int64(0); lo < count; lo += n {
		k := min(n, count-lo)
		v, list, err := pairRows[T](o, lo, k)
		if err != nil {
			return err
		}
		opts := o.options
		if a.Version > 0 {
			opts = append(opts[:len(opts):len(opts)], client.WithExactly(a.Version))
		}
		p, err := pairs(ctx, v, list, opts...)
		if err != nil {
			return err
		}
		a.Version, a.Rows = p.Version, p.Rows
		a.Values, a.Bounds = append(a.Values, p.Values...), append(a.Bounds, p.Bounds...)
	}
	return nil
}

// pairRows reads the vectors of pairs lo to lo+k, each once, and says which go together.
func pairRows[T npy.Float](o *pairing, lo, k int64) (v [][]T, list [][2]int, err error) {
	read := func(f *npy.File) (first int, one bool, err error) {
		first, one = len(v), f.Rows() == 1
		from, n := lo, k
		if one {
			from, n = 0, 1
		}
		rows, err := npy.ReadRows[T](f, from, n)
		v = append(v, rows...)
		return first, one, err
	}
	at, one, err := read(o.u)
	to, other := at, one
	if err == nil && o.v != o.u {
		to, other, err = read(o.v)
	}
	if err != nil {
		return nil, nil, err
	}
	for i := range int(k) {
		p := [2]int{at + i, to + i}
		if one {
			p[0] = at
		}
		if other {
			p[1] = to
		}
		list = append(list, p)
	}
	return v, list, nil
}
