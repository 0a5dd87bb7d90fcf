// Command worker holds shards of gradients and computes with them. worker --help lists its
// settings.
package main

import (
	"context"
	"io"
	"os"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mfac/cmd/internal/service"
	"mfac/internal/config"
	"mfac/worker"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return service.Main(service.Program{
		Name:    "worker",
		Short:   "Hold shards of gradients for mfac, and compute with them",
		Version: worker.Version,
		New:     instance,
	}, args, stdout, stderr)
}

func instance() service.Instance {
	w, set := config.ForWorker()
	return service.Instance{
		Set:    set,
		Common: &w.Common,
		Name:   func() string { return w.ID },
		Start: func(ctx context.Context, nc *nats.Conn, log *zap.Logger) (service.Service, error) {
			return worker.Serve(ctx, nc, worker.ServiceConfig{
				ID: w.ID, Tenant: w.Tenant, Capacity: w.Memory, Budget: w.Budget, Threads: w.Threads, Logger: log,
			})
		},
	}
}
