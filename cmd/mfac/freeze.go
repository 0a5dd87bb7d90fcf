package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/config"
	"mfac/wire"
)

// This file: frozen runs.

func (t *tool) freezeCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "freeze NAME [--dry-run]",
		Short: "Keep a run's window as it is, and W = L⁻¹G on its workers for fast elements",
		Long: `freeze ends publishing to a run and has its workers work out W = L⁻¹G and keep it, n float64 for each column of a
window of n gradients: twice what the gradients take in float32. Then diag takes O(n) a column, and element and subblock
O(m) an element, at the run's own damping and divisor: the same bytes as before, sooner.

Says first what that takes, on each worker; --dry-run does nothing else. A worker that hasn't got the memory refuses,
and nothing has changed. The run stays frozen till mfac run thaw, or till one of its gradients is forgotten. Gives up
waiting after an hour, or --timeout: the run is frozen all the same.`,
		Args: cli.Names("NAME"),
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only print the bytes that each worker needs")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
			r, err := t.join(ctx, c, args[0])
			if err != nil {
				return err
			}
			if _, ok := ctx.Deadline(); !ok {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, long)
				defer cancel()
			}
			p, err := r.FreezePlan(ctx)
			if err != nil {
				return err
			}
			if dry {
				if err := t.print(freezePlan{args[0], p}, func(w io.Writer) {
					writePlan(w, p)
					fmt.Fprintln(w, "nothing was done: --dry-run")
				}); err != nil {
					return err
				}
				return room(p)
			}
			if p.State == wire.StateThawed && p.Rows > 0 {
				w := tabwriter.NewWriter(t.stderr, 0, 0, 2, ' ', 0)
				writePlan(w, p)
				if err := w.Flush(); err != nil {
					return err
				}
			}
			bar := t.bar("W of "+args[0], p.Columns*int64(p.Rows)*8)
			begun := time.Now()
			done, err := r.Freeze(ctx, client.WithProgress(func(done, _ int64) { _ = bar.Set64(done * int64(p.Rows) * 8) }))
			_ = bar.Finish()
			if err != nil {
				if ctx.Err() != nil {
					return fmt.Errorf("%w: the run may be frozen, mfac run thaw %s ends that", err, args[0])
				}
				return err
			}
			out := struct {
				Run     string       `json:"run"`
				Version wire.Version `json:"version"`
				Rows    int          `json:"rows"`
				Kept    int64        `json:"kept"`
				Workers int          `json:"workers"`
				Seconds float64      `json:"seconds"`
			}{args[0], done.Version, done.Rows, sum(p.Kept), len(p.Workers), time.Since(begun).Seconds()}
			return t.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "froze run %s at version %d with %s: %s kept on %s\n",
					args[0], done.Version, plural(done.Rows, "gradient"), config.FormatBytes(out.Kept), plural(out.Workers, "worker"))
			})
		})
	}
	return cmd
}

// freezePlan is what freeze --dry-run prints as JSON.
type freezePlan struct {
	Run string `json:"run"`
	wire.Frozen
}

// writePlan prints what a run's W takes.
func writePlan(w io.Writer, p wire.Frozen) {
	fmt.Fprintf(w, "W of %s × %s in float64: %s in all\n", plural(p.Rows, "gradient"), plural(p.Columns, "column"), config.FormatBytes(sum(p.Kept)))
	fmt.Fprintln(w, "WORKER\tKEEPS\tAND TO MAKE IT\tFREE")
	for i, name := range p.Workers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, config.FormatBytes(p.Kept[i]), config.FormatBytes(p.Making[i]), config.FormatBytes(p.Free[i]))
	}
}

// room refuses what a worker would refuse.
func room(p wire.Frozen) error {
	if p.State == wire.StateFrozen || p.State == wire.StateMaking { // it has it
		return nil
	}
	for i, name := range p.Workers {
		if p.Kept[i] > p.Free[i] || p.Making[i] > p.Free[i]-p.Kept[i] {
			return wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes for W on worker %s and %d while it is worked out", p.Kept[i], name, p.Making[i]),
				fmt.Sprintf("at most the %d that are free there", p.Free[i]), "give the worker more memory")
		}
	}
	return nil
}

func sum(x []int64) int64 {
	var s int64
	for _, v := range x {
		s += v
	}
	return s
}

func (t *tool) thawCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "thaw NAME",
		Short: "Let a frozen run's window change again",
		Long: `thaw lets gradients be published to a frozen run again, and gives back the memory that its workers keep W in, as soon
as the queries that read it have ended. A run that is not frozen stays as it is.`,
		Args: cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
				r, err := c.Join(ctx, args[0])
				if err != nil {
					return err
				}
				done, err := r.Thaw(ctx)
				if err != nil {
					return err
				}
				out := struct {
					Run     string       `json:"run"`
					Version wire.Version `json:"version"`
					Rows    int          `json:"rows"`
				}{args[0], done.Version, done.Rows}
				return t.print(out, func(w io.Writer) {
					fmt.Fprintf(w, "thawed run %s: version %d, %d of %d in the window\n", args[0], done.Version, done.Rows, r.Spec().Window)
				})
			})
		},
	}
}
