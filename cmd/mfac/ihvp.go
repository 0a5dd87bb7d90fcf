package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/npy"
	"mfac/wire"
)

// memoryBytes is the most that vectors and results of one query of several may take here. A single
// vector is read and written in pieces.
const memoryBytes = 512 << 20

// asking is the flags of ihvp.
type asking struct {
	run, in, out    string
	step            uint64
	combine         string
	damping         float64
	divisor         string
	wide            bool // float64 results
	wire, result    string
	atLeast         uint64
	minRows         int
	hasStep, hasVec bool
	verify, refine  bool
	of              string // the kind of a query for vectors; "": vector
	blocking
	options []client.QueryOption
}

func (t *tool) ihvpCommand() *cobra.Command {
	var o asking
	cmd := &cobra.Command{
		Use:   "ihvp NAME (v.npy | --step K | --combine a.npy) -o out.npy",
		Short: "Multiply vectors, or stored gradients, by H⁻¹",
		Long: `Writes H⁻¹v to out.npy, of the shape of the input: for

  v.npy            one vector, or a vector a row
  --step K         the stored gradient of step K
  --combine a.npy  Σ a_k g_k over the window's gradients: as many coefficients as "mfac run steps NAME"
                   lists steps, in that order; or several such combinations, one a row

Results are float32, computed in float64 and rounded once; --float64 leaves them as they are. All rows
of a file are answered from the same version of the window. Says the version, its rows, and a bound of
the relative error in the 2-norm.

With --wire the vectors are sent, and with --result the results fetched, in another dtype: bf16 and f16
take half of f32's bytes. The file's dtype stays as it is. The bound has the rounding of results in it; that
of vectors is not an error: the answer is that for the vectors as they were sent.

--blocks replaces H by its diagonal blocks; --blocks tensor by one a tensor, --blocks B by ones of B columns.

--verify measures the relative residual ‖Hx − v‖/‖v‖ of each answer x in float64, by two more passes over the window;
with --blocks H is that of the blocks.
--refine refines each answer once, x + H⁻¹(v − Hx), and keeps what has the smaller residual, by five more passes, of
which three take some ten times as long: for what is refused because its error could be large. Not with --blocks.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return cli.Names("NAME")(nil, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run = args[0]
			if len(args) == 2 {
				o.in, o.hasVec = args[1], true
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			return t.ihvp(cmd, &o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.out, "out", "o", "", "`file` to write (required)")
	f.Uint64Var(&o.step, "step", 0, "multiply the stored gradient of step `K`")
	f.StringVar(&o.combine, "combine", "", "multiply combinations of the stored gradients, of the coefficients in `a.npy`")
	f.Float64Var(&o.damping, "damping", 0, "`λ` in place of the run's")
	f.StringVar(&o.divisor, "divisor", "", "`N` in place of the run's: capacity or count")
	f.BoolVar(&o.wide, "float64", false, "float64 results")
	f.StringVar(&o.wire, "wire", "", "`dtype` in which vectors are sent: f32, f64, bf16 or f16 (default the file's)")
	f.StringVar(&o.result, "result", "", "`dtype` in which results are fetched: f32, f64, bf16 or f16 (default that of the output)")
	f.Uint64Var(&o.atLeast, "at-least", 0, "refuse to answer from a version below `V`")
	f.IntVar(&o.minRows, "min-rows", 0, "refuse to answer from fewer than `n` gradients")
	o.blocking.flags(f)
	f.BoolVar(&o.verify, "verify", false, "measure the residuals")
	f.BoolVar(&o.refine, "refine", false, "refine the answers, and measure the residuals")
	return cmd
}

// check checks the command line, before anything is read or asked.
func (o *asking) check(cmd *cobra.Command) error {
	f := cmd.Flags()
	o.hasStep = f.Changed("step")
	given := 0
	for _, is := range []bool{o.hasVec, o.hasStep, f.Changed("combine")} {
		if is {
			given++
		}
	}
	if given != 1 {
		return cli.UsageError("one of v.npy, --step and --combine must be given, not %d", given)
	}
	if o.blocks != "" && o.blocks != whole && o.refine {
		return cli.UsageError("--blocks goes without --refine")
	}
	if o.verify {
		o.options = append(o.options, client.WithVerify())
	}
	if o.refine {
		o.options = append(o.options, client.WithRefine())
	}
	return o.checkCommon(cmd)
}

// checkCommon checks the flags that all commands with asking have, where they have them.
func (o *asking) checkCommon(cmd *cobra.Command) error {
	f := cmd.Flags()
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
	if f.Changed("wire") {
		if !o.hasVec {
			return cli.UsageError("--wire goes with v.npy")
		}
		if err := wire.CheckDType("wire", wire.DType(o.wire)); err != nil {
			return err
		}
		o.options = append(o.options, client.WithWire(wire.DType(o.wire)))
	}
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

// answered is what ihvp prints.
type answered struct {
	Run     string       `json:"run"`
	Output  string       `json:"output"`
	Vectors int64        `json:"vectors"`
	Dim     int64        `json:"dim"`
	DType   string       `json:"dtype"`
	Version wire.Version `json:"version"`
	Rows    int          `json:"rows"`
	Bound   float64      `json:"bound"`  // the largest
	Bounds  []float64    `json:"bounds"` // one a vector

	Residuals []float64 `json:"residuals,omitempty"` // one a vector, where they are asked for
}

// add takes the answer to some of the vectors.
func (a *answered) add(part client.Answer) {
	a.Version, a.Rows = part.Version, part.Rows
	a.Bounds = append(a.Bounds, part.Bounds...)
	a.Bound = max(a.Bound, part.Bound())
	a.Residuals = append(a.Residuals, part.Residuals...)
}

func (t *tool) ihvp(cmd *cobra.Command, o *asking) error {
	var in *npy.File
	var err error
	switch {
	case o.hasVec:
		in, err = npy.Open(o.in)
	case !o.hasStep:
		in, err = npy.Open(o.combine)
	}
	if err != nil {
		return err
	}
	if in != nil {
		defer in.Close()
		if err := in.CheckFinite(cmd.Context(), false); err != nil {
			return err
		}
	}
	return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
		r, err := t.join(ctx, c, o.run)
		if err != nil {
			return err
		}
		if o.hasVec {
			if err := checkCols(in, r); err != nil {
				return err
			}
		}
		ctx, cancel := o.blocking.patiently(ctx, cmd, r)
		defer cancel()
		progress, end := t.working(cmd.Name() + " " + o.run)
		defer end()
		o.options = append(o.options, progress)
		a, err := o.answer(ctx, r, in)
		end()
		if err != nil {
			return err
		}
		return t.print(a, a.say)
	})
}

// say is the answer in words.
func (a *answered) say(w io.Writer) {
	fmt.Fprintf(w, "wrote %s: %s of %d %s, from version %d with %s, error at most %.1e\n",
		a.Output, plural(int(a.Vectors), "vector"), a.Dim, a.DType, a.Version, plural(a.Rows, "gradient"), a.Bound)
	switch {
	case len(a.Residuals) == 1:
		fmt.Fprintf(w, "relative residual %.1e\n", a.Residuals[0])
	case len(a.Residuals) > 1:
		fmt.Fprintf(w, "relative residuals from %.1e to %.1e\n", slices.Min(a.Residuals), slices.Max(a.Residuals))
	}
}

// answer asks, and writes the file.
func (o *asking) answer(ctx context.Context, r *client.Run, in *npy.File) (answered, error) {
	a := answered{Run: o.run, Output: o.out, Vectors: 1, Dim: r.Dim()}
	dtype, shape := npy.Float32, []int64{a.Dim}
	if o.wide {
		dtype = npy.Float64
	}
	a.DType = dtype.String()
	if in != nil {
		if a.Vectors = in.Rows(); in.Dims() == 2 {
			shape = []int64{in.Rows(), a.Dim}
		}
	}
	w, err := npy.Create(o.out, dtype, shape...)
	if err != nil {
		return a, err
	}
	defer w.Close()
	// A float64 vector is multiplied as it is: rounded first, its error would grow with the
	// condition of H.
	if o.wide || o.hasVec && in.DType() == npy.Float64 {
		err = answerTo(ctx, wide(r, o.of), o, in, w, &a)
	} else {
		err = answerTo(ctx, single(r, o.of), o, in, w, &a)
	}
	if err != nil {
		return a, err
	}
	fetched64 := o.result == "" || o.result == string(wire.F64)
	if !o.wide && o.hasVec && in.DType() == npy.Float64 && fetched64 {
		for i := range a.Bounds { // rounded here, once
			a.Bounds[i] += roundOff * (1 + a.Bounds[i])
		}
		a.Bound += roundOff * (1 + a.Bound)
	}
	return a, w.Commit()
}

// roundOff is the most that rounding to float32 changes a number, relative to it.
const roundOff = 1.0 / (1 << 24)

// api is the queries of a run in one type of numbers.
type api[T npy.Float] struct {
	run      *client.Run
	vectors  func(ctx context.Context, dst, v [][]T, opts ...client.QueryOption) (client.Answer, error)
	from     func(ctx context.Context, sink client.Sink[T], src client.Source[T], opts ...client.QueryOption) (client.Answer, error)
	combines func(ctx context.Context, dst [][]T, steps []wire.Step, coef [][]float64, opts ...client.QueryOption) (client.Answer, error)
}

// single and wide are those of a kind of query for vectors.
func single(r *client.Run, kind string) api[float32] {
	switch kind {
	case wire.KindFisher:
		return api[float32]{run: r, vectors: r.FisherVecs, from: r.FisherVecFrom}
	case wire.KindHessian:
		return api[float32]{run: r, vectors: r.HessianVecs, from: r.HessianVecFrom}
	case wire.KindInvSqrt:
		return api[float32]{run: r, vectors: r.InvSqrts, from: r.InvSqrtFrom}
	}
	return api[float32]{r, r.IHVPs, r.IHVPFrom, r.IHVPCombines}
}

func wide(r *client.Run, kind string) api[float64] {
	switch kind {
	case wire.KindFisher:
		return api[float64]{run: r, vectors: r.FisherVecs64, from: r.FisherVecFrom64}
	case wire.KindHessian:
		return api[float64]{run: r, vectors: r.HessianVecs64, from: r.HessianVecFrom64}
	case wire.KindInvSqrt:
		return api[float64]{run: r, vectors: r.InvSqrts64, from: r.InvSqrtFrom64}
	}
	return api[float64]{r, r.IHVPs64, r.IHVPFrom64, r.IHVPCombines64}
}

func answerTo[T npy.Float](ctx context.Context, q api[T], o *asking, in *npy.File, w *npy.Writer, a *answered) error {
	if !o.hasVec {
		return combineTo(ctx, q, o, in, w, a)
	}
	return batches(a, int64(q.run.MaxVectors()), 16*a.Dim, func(lo, n int64) error {
		opts := o.at(a)
		if n == 1 {
			part, err := q.from(ctx, npy.Out[T](w, lo), npy.Row[T](in, lo), opts...)
			a.add(part)
			return err
		}
		v, err := npy.ReadRows[T](in, lo, n)
		if err != nil {
			return err
		}
		dst := matrix[T](n, a.Dim)
		part, err := q.vectors(ctx, dst, v, opts...)
		if err != nil {
			return err
		}
		a.add(part)
		return npy.WriteRows(w, lo, dst)
	})
}

func combineTo[T npy.Float](ctx context.Context, q api[T], o *asking, in *npy.File, w *npy.Writer, a *answered) error {
	steps, coef := []wire.Step{wire.Step(o.step)}, [][]float64{{1}}
	if !o.hasStep {
		window, err := q.run.Steps(ctx)
		if err != nil {
			return err
		}
		if steps = window.Steps; len(steps) == 0 {
			return fmt.Errorf("run %s has no gradients to combine yet", o.run)
		}
		if in.Cols() != int64(len(steps)) {
			return fmt.Errorf("%s: columns is %d, must be %d, the gradients in the window (mfac run steps %s lists them)",
				in.Path(), in.Cols(), len(steps), o.run)
		}
		if coef, err = npy.ReadRows[float64](in, 0, in.Rows()); err != nil {
			return err
		}
	}
	return batches(a, int64(q.run.MaxVectors()), 8*a.Dim, func(lo, n int64) error {
		dst := matrix[T](n, a.Dim)
		part, err := q.combines(ctx, dst, steps, coef[lo:lo+n], o.at(a)...)
		if err != nil {
			return err
		}
		a.add(part)
		return npy.WriteRows(w, lo, dst)
	})
}

// at is the options of the next query: those after the first are answered from its version.
func (o *asking) at(a *answered) []client.QueryOption {
	if len(a.Bounds) == 0 || a.Version == 0 { // version 0 has no rows to pin
		return o.options
	}
	return append(o.options[:len(o.options):len(o.options)], client.WithExactly(a.Version))
}

// batches calls f for as many vectors at a time as one query takes and memory has room for.
func batches(a *answered, most, bytes int64, f func(lo, n int64) error) error {
	n := max(1, min(most, memoryBytes/bytes))
	for lo := int64(0); lo < a.Vectors; lo += n {
		if err := f(lo, min(n, a.Vectors-lo)); err != nil {
			if lo > 0 {
				return fmt.Errorf("vectors from row %d on: %w", lo, err)
			}
			return err
		}
	}
	return nil
}

func matrix[T npy.Float](rows, cols int64) [][]T {
	m := make([][]T, rows)
	for i := range m {
		m[i] = make([]T, cols)
	}
	return m
}
