package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/npy"
	"mfac/wire"
)

// Gradients above streamBytes are sent from the file piece by piece; smaller ones are read, at most
// batchBytes at once, and several are under way at a time.
const (
	streamBytes = 16 << 20
	batchBytes  = 32 << 20
	batchRows   = 256
)

func (t *tool) publishCommand() *cobra.Command {
	var step uint64
	var as, labels string
	weight := 1.0
	cmd := &cobra.Command{
		Use:   "publish NAME [--step K] [--labels FILE] grads.npy",
		Short: "Publish gradients, a row each, as steps K, K+1, …",
		Long: `Publishes the file's rows as steps K, K+1, …; each is in the window on all workers when it counts as
published. Without --step, K is the step after the newest one: say --step where a command that
failed may be given again, as then no row can come twice.

The file is looked through first: a NaN or Inf in it, and nothing is published.

With --labels each gradient has a label, a line of the text file for each row: the id of its example, at most
256 bytes. "mfac run steps", "mfac scores" and "mfac influence" show it. An empty line is none.

With --wire bf16 or f16 half the bytes are sent, of numbers rounded to nearest. f16 ends at 65504 and
says less of what is below 6e-5. What the run keeps is another matter: "mfac run create --store".

With --weight W each counts W times in H = λI + 1/N Σ w g gᵀ, as if √W times it had been published.`,
		Args: cli.Names("NAME", "grads.npy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wire.CheckRowDType("wire", wire.DType(as)); err != nil {
				return err
			}
			if err := wire.CheckWeight("weight", weight); err != nil {
				return err
			}
			return t.publish(cmd, args[0], args[1], step, labels, client.WithWire(wire.DType(as)), client.WithWeight(weight))
		},
	}
	cmd.Flags().Uint64Var(&step, "step", 0, "`K`, the first row's step (default the one after the newest)")
	cmd.Flags().StringVar(&labels, "labels", "", "text `file` with the rows' labels, a line each")
	cmd.Flags().StringVar(&as, "wire", string(wire.F32), "`dtype` in which they are sent: f32, bf16 or f16")
	cmd.Flags().Float64Var(&weight, "weight", weight, "`W`, how much each counts in H")
	return cmd
}

// published is what publish prints.
type published struct {
	Run     string       `json:"run"`
	First   wire.Step    `json:"first_step"`
	Last    wire.Step    `json:"last_step"`
	Count   int64        `json:"published"`
	Version wire.Version `json:"version"`
	Rows    int          `json:"rows"`
}

func (t *tool) publish(cmd *cobra.Command, name, path string, step uint64, labelled string, opts ...client.PublishOption) error {
	if err := wire.CheckName("run", name); err != nil {
		return err
	}
	f, err := npy.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var labels []string
	if labelled != "" {
		if labels, err = readLabels(labelled, f.Rows()); err != nil {
			return err
		}
	}
	return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
		r, err := t.join(ctx, c, name)
		if err != nil {
			return err
		}
		if err := checkCols(f, r); err != nil {
			return err
		}
		if err := f.CheckFinite(ctx, true); err != nil {
			return err
		}
		first := wire.Step(step)
		if !cmd.Flags().Changed("step") {
			info, err := r.Status(ctx)
			if err != nil {
				return err
			}
			first = info.Newest + 1
		}
		if uint64(f.Rows()-1) > math.MaxUint64-uint64(first) {
			return wire.Invalid("step", first, fmt.Sprintf("at most %d, for %d rows", math.MaxUint64-uint64(f.Rows()-1), f.Rows()))
		}
		done, err := t.publishRows(ctx, r, f, first, labels, opts...)
		if err != nil {
			return partly(err, done, f)
		}
		return t.print(done, func(w io.Writer) {
			fmt.Fprintf(w, "published %s of run %s: version %d, %d of %d in the window\n",
				span(done.First, done.Last), name, done.Version, done.Rows, r.Spec().Window)
		})
	})
}

// publishRows publishes all rows of f, with labels where there are any. On an error it says how many were
// published before.
func (t *tool) publishRows(ctx context.Context, r *client.Run, f *npy.File, first wire.Step, labels []string, opts ...client.PublishOption) (published, error) {
	done := published{Run: r.Spec().Name, First: first}
	rowBytes := 4 * f.Cols()
	bar := t.bar("publishing", rowBytes*f.Rows())
	defer func() { _ = bar.Clear() }()
	take := func(c client.Commit) {
		done.Last = first + wire.Step(done.Count)
		done.Count++
		done.Version, done.Rows = c.Version, c.Rows
		_ = bar.Set64(done.Count * rowBytes)
	}
	for done.Count < f.Rows() {
		next := first + wire.Step(done.Count)
		with := func(n int64) []client.PublishOption { // the options of the next n rows
			if labels == nil {
				return opts
			}
			return append(opts[:len(opts):len(opts)], client.WithLabels(labels[done.Count:done.Count+n]...))
		}
		if rowBytes > streamBytes {
			c, err := r.PublishFrom(ctx, next, npy.Row[float32](f, done.Count), with(1)...)
			if err != nil {
				return done, err
			}
			take(c)
			continue
		}
		rows, err := npy.ReadRows[float32](f, done.Count, min(f.Rows()-done.Count, batchRows, batchBytes/rowBytes))
		if err != nil {
			return done, err
		}
		commits, err := r.PublishMany(ctx, next, rows, with(int64(len(rows)))...)
		for _, c := range commits {
			if c.Version == 0 { // this one and those after it were not
				break
			}
			take(c)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// partly adds to an error what was published before it.
func partly(err error, done published, f *npy.File) error {
	if done.Count == 0 {
		return err
	}
	return fmt.Errorf("%w; %s published before that, %d of %d rows", err, span(done.First, done.Last), done.Count, f.Rows())
}

func span(first, last wire.Step) string {
	if first == last {
		return fmt.Sprintf("step %d", first)
	}
	return fmt.Sprintf("steps %d to %d", first, last)
}

func checkCols(f *npy.File, r *client.Run) error {
	if f.Cols() != r.Dim() {
		return fmt.Errorf("%s: columns is %d, must be %d, the dim of run %s", f.Path(), f.Cols(), r.Dim(), r.Spec().Name)
	}
	return nil
}

// bar is a progress bar on stderr, invisible where that is no terminal.
func (t *tool) bar(what string, total int64) *progressbar.ProgressBar {
	f, ok := t.stderr.(*os.File)
	visible := ok && term.IsTerminal(int(f.Fd()))
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(t.stderr), progressbar.OptionSetVisibility(visible), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100e6), progressbar.OptionSetWidth(30))
}
