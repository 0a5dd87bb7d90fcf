package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"mfac/internal/cluster"
	"mfac/internal/config"
	"mfac/wire"
)

func (t *tool) upCommand() *cobra.Command {
	var o cluster.Options
	var memory string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start NATS, a coordinator and workers in one process, until Ctrl-C",
		Long: `Starts NATS, a coordinator and workers in this process and waits for clients, until Ctrl-C. NATS listens on
127.0.0.1 alone. What the cluster holds is gone when it ends.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("workers") && o.Workers < 1 {
				return wire.Invalid("workers", o.Workers, ">= 1")
			}
			if memory != "" {
				n, err := config.ParseBytes(memory)
				if err != nil || n < 1 {
					return wire.Invalid("memory", memory, "a size in bytes, as 8GiB or 512MiB")
				}
				o.Capacity = n
			}
			o.Tenant, o.Logger = t.tenant, t.logger(verbose)
			return t.up(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&o.Workers, "workers", cluster.DefaultWorkers, "`n`umber of workers")
	f.IntVar(&o.Port, "port", 4222, "`port` of NATS on 127.0.0.1; 0: any free one")
	f.StringVar(&memory, "memory", "", "`bytes` of each worker, as 2GiB (default half of what is available, shared)")
	f.StringVar(&o.StoreDir, "store-dir", "", "`folder` of NATS' files (default a temporary one)")
	f.BoolVarP(&verbose, "verbose", "v", false, "log to stderr")
	return cmd
}

// upView is what up prints when the cluster is there.
type upView struct {
	Server   string   `json:"server"`
	Workers  []string `json:"workers"`
	Capacity int64    `json:"worker_capacity"`
}

func (t *tool) up(ctx context.Context, o cluster.Options) (err error) {
	c, err := cluster.Start(ctx, o)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	v := upView{c.URL(), c.Workers(), c.Capacity()}
	if err := t.print(v, func(w io.Writer) { t.next(w, v) }); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-c.Failed():
		return errors.New("a service has stopped by itself: --verbose says why")
	}
}

// next says that the cluster is there, and what to type next.
func (t *tool) next(w io.Writer, v upView) {
	flags := withServer(v.Server)
	if t.tenant != "default" {
		flags += " --tenant " + t.tenant
	}
	mfac := invocation()
	fmt.Fprintf(w, `mfac is up at %s: a coordinator and %s with %s each. Ctrl-C ends it, and what it holds.

Next, in another terminal:

  %[4]s%[5]s run create digits --dim 1000 --window 32 --damping 1e-3
  %[4]s%[5]s publish digits grads.npy         # a gradient a row: float32 or float64, 1000 columns
  %[4]s%[5]s ihvp digits v.npy -o out.npy     # out = H⁻¹v
  %[4]s%[5]s status
`, v.Server, plural(len(v.Workers), "worker"), config.FormatBytes(v.Capacity), mfac, flags)
}

// logger logs to stderr: errors, or with verbose all.
func (t *tool) logger(verbose bool) *zap.Logger {
	level := zapcore.ErrorLevel
	if verbose {
		level = zapcore.InfoLevel
	}
	ec := zap.NewDevelopmentEncoderConfig()
	ec.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(ec), zapcore.Lock(zapcore.AddSync(t.stderr)), level))
}
