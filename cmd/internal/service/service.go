// Package service is what the coordinator's and the worker's programs have in common: settings,
// log, admin server, connection, signals.
//
// The main path, Main: read the settings; serve the admin port; connect to NATS, retrying; start
// the service; wait for a signal; let the service drain.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"mfac/cmd/internal/cli"
	"mfac/internal/config"
	"mfac/internal/natsx"
	"mfac/wire"
)

// Service is a coordinator or a worker at work.
type Service interface {
	Ready() error                   // nil, or why not
	Stop(ctx context.Context) error // drains
	Done() <-chan struct{}          // closed when it has stopped by itself
}

// Program is a program of one service.
type Program struct {
	Name, Short, Version string
	// New returns the settings, to be loaded, and what to do with them then.
	New func() Instance
}

// Instance is a program's settings and how it is started with them.
type Instance struct {
	Set    *config.Set
	Common *config.Common
	Name   func() string // in NATS
	Start  func(ctx context.Context, nc *nats.Conn, log *zap.Logger) (Service, error)
}

// Main runs the program's command line and returns its exit code: 0 after a signal and a complete
// drain, 1 when it could not start, stopped by itself, did not drain in time, or got a second
// signal, 2 for a command line that it doesn't know.
func Main(p Program, args []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	return p.main(args, os.Environ(), signals, stdout, stderr)
}

func (p Program) main(args, environ []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	in := p.New()
	root := &cobra.Command{
		Use:   p.Name,
		Short: p.Short,
		Long: p.Short + `.

Each setting can be given as a flag, by the variable in [brackets], or in the YAML file of --config
under the flag's name with _ for - (lease_ttl: 20s). A flag goes before a variable, a variable
before the file. SIGTERM drains; a second one ends the program at once.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.run(cmd.Context(), in, environ, signals, stderr) },
	}
	in.Set.Flags(root.PersistentFlags())
	root.Flags().SortFlags, root.PersistentFlags().SortFlags = false, false
	root.AddCommand(
		&cobra.Command{
			Use:   "healthcheck",
			Short: "Ask the running " + p.Name + " of this host whether it is ready; exit 0 or 1",
			Long: "Asks /readyz at admin_addr, with the same settings as the running " + p.Name + `. For a container's health
check, where there is no shell.`,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if _, err := in.Set.Load(environ); err != nil {
					return err
				}
				return healthcheck(cmd.Context(), in.Common.AdminAddr)
			},
		},
		&cobra.Command{
			Use:   "version",
			Short: "Print the version",
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), p.Name, cli.BuildOf(p.Version, wire.Protocol))
				return err
			},
		},
	)
	return cli.Execute(context.Background(), root, args, stdout, stderr)
}

// run runs the service until a signal; a second signal ends it at once, whatever it is doing.
func (p Program) run(ctx context.Context, in Instance, environ []string, signals <-chan os.Signal, stderr io.Writer) error {
	warnings, err := in.Set.Load(environ)
	if err != nil {
		return err
	}
	log := logger(in.Common, stderr)
	defer log.Sync()
	for _, w := range warnings {
		log.Warn(w)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	result := make(chan error, 1)
	go func() { result <- p.serve(ctx, in, log) }()
	for first := true; ; first = false {
		select {
		case err := <-result:
			if err != nil {
				log.Error("stopped", zap.Error(err))
				return cli.Told(err)
			}
			log.Info("stopped")
			return nil
		case sig := <-signals:
			if !first {
				log.Warn("second signal: stopping at once", zap.Stringer("signal", sig))
				return cli.Told(errSecond)
			}
			log.Info("draining", zap.Stringer("signal", sig), zap.Duration("at most", in.Common.DrainTimeout))
			stop(errSignal)
		}
	}
}

var (
	errSignal = errors.New("stopped by a signal")
	errSecond = errors.New("stopped by a second signal")
)

// serve starts all, waits for the end of ctx and drains.
func (p Program) serve(ctx context.Context, in Instance, log *zap.Logger) (err error) {
	c := in.Common
	admin, err := listen(c.AdminAddr, log)
	if err != nil {
		return err
	}
	defer admin.close()

	url := natsx.Redact(c.NATSURL)
	admin.set(func() error { return fmt.Errorf("not connected to NATS at %s yet", url) })
	log.Info("connecting", zap.String("program", p.Name), zap.String("name", in.Name()), zap.String("nats", url))
	nc, err := natsx.Connect(ctx, natsx.Options{
		URL: c.NATSURL, Name: in.Name(),
		Creds: c.Creds, NKeySeed: c.NKey, TLSCA: c.TLSCA, TLSCert: c.TLSCert, TLSKey: c.TLSKey,
		Timeout: c.ConnectTimeout,
		Waiting: func(message string) { log.Warn(message) },
		Log:     log,
	})
	if err != nil {
		return unlessStopped(ctx, err)
	}
	defer nc.Close()

	admin.set(func() error { return errors.New("starting") })
	s, err := in.Start(ctx, nc, log)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	admin.set(s.Ready)
	select {
	case <-ctx.Done():
	case <-s.Done():
		err = errors.New("the service has stopped by itself: the log says why")
	}
	admin.set(func() error { return errors.New("draining") })
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.DrainTimeout)
	defer cancel()
	if e := s.Stop(drain); e != nil {
		err = errors.Join(err, fmt.Errorf("drain within %v: %w", c.DrainTimeout, e))
	}
	return err
}

// unlessStopped is nil where the error is that a signal came.
func unlessStopped(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSignal) {
		return nil
	}
	return err
}

func logger(c *config.Common, w io.Writer) *zap.Logger {
	ec := zap.NewProductionEncoderConfig()
	ec.EncodeTime = zapcore.ISO8601TimeEncoder
	ec.EncodeDuration = zapcore.StringDurationEncoder
	ec.TimeKey = "time"
	enc := zapcore.NewJSONEncoder(ec)
	if c.LogFormat == "console" {
		ec.EncodeLevel = zapcore.CapitalLevelEncoder
		enc = zapcore.NewConsoleEncoder(ec)
	}
	level, err := zapcore.ParseLevel(c.LogLevel)
	if err != nil {
		level = zapcore.InfoLevel // config has checked it
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), level))
}

// askTimeout bounds a health check.
const askTimeout = 2 * time.Second
