// Command worker holds shards of gradients and computes with them. worker --help lists its
// settings.
package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"runtime"

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
			// A pass keeps its processors for ms at a time. What comes over the bus meanwhile gets some
			// of its own, so that the system shares the cores out, at once, and not Go, in 10 ms.
			cores := runtime.GOMAXPROCS(0)
			threads := cmp.Or(w.Threads, cores)
			runtime.GOMAXPROCS(cores + threads)
			return worker.Serve(ctx, nc, worker.ServiceConfig{
				ID: w.ID, Tenant: w.Tenant, Capacity: w.Memory, Budget: w.Budget, Threads: threads, Kernel: w.Kernel, Logger: log,
			})
		},
	}
}
