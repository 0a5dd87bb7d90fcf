package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/config"
	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/wire"
)

// resizedView is what resize prints.
type resizedView struct {
	Run     string       `json:"run"`
	Window  int          `json:"window"`
	Was     int          `json:"was"`
	Version wire.Version `json:"version"`
	Rows    int          `json:"rows"`
	Bytes   int64        `json:"bytes"` // of rows on all workers, and before
	Before  int64        `json:"bytes_before"`
}

func (t *tool) resizeCommand() *cobra.Command {
	var window int
	cmd := &cobra.Command{
		Use:   "resize NAME --window M",
		Short: "Give a run a window of another size",
		Long: `resize gives a live run a window of M gradients. Where that is fewer than it has the oldest leave; those
that stay keep every bit. It waits for the steps that are being published, and holds others off until
it is done; queries that are open are asked anew by their clients. Says how many bytes the rows take on
all workers, and took. A worker that has no room for its part refuses, and the run stays what it was.

With the divisor "capacity" N is M from then on.`,
		Args: cli.Names("NAME"),
	}
	cmd.Flags().IntVar(&window, "window", 0, "`M`, the gradients that the window holds")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := wire.CheckWindow("window", window); err != nil {
			return err
		}
		return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
			r, err := t.join(ctx, c, args[0])
			if err != nil {
				return err
			}
			before, err := r.Status(ctx)
			if err != nil {
				return err
			}
			done, err := r.Resize(ctx, window)
			if err != nil {
				return err
			}
			v := resizedView{Run: args[0], Window: window, Was: before.Spec.Window, Version: done.Version, Rows: done.Rows, Before: bytesOf(&before, before.Spec.Window), Bytes: bytesOf(&before, window)}
			return t.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "run %s: window %d, was %d; version %d, %s; %s of rows on all workers, before %s\n",
					v.Run, v.Window, v.Was, v.Version, plural(v.Rows, "gradient"), config.FormatBytes(v.Bytes), config.FormatBytes(v.Before))
			})
		})
	}
	return cmd
}

// bytesOf is what the rows of a run take on all workers with a window of m.
func bytesOf(info *wire.Info, m int) (bytes int64) {
	spec := info.Spec
	spec.Window = m
	for s := range info.Lo {
		_, cols := info.Range(s)
		n, err := shard.Bytes(shard.Config{Slots: spec.Slots(), Cols: cols, DType: dtype.Of(spec.Store)})
		if err != nil { // no shard of a run is so large
			return 0
		}
		bytes += n
	}
	return bytes
}
