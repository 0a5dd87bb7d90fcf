// Command coordinator owns runs: it opens steps, commits gradients on all shards or none, and
// plans queries. coordinator --help lists its settings.
package main

import (
	"context"
	"io"
	"os"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mfac/cmd/internal/service"
	"mfac/coordinator"
	"mfac/internal/config"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return service.Main(service.Program{
		Name:    "coordinator",
		Short:   "Own runs of mfac: open steps, commit gradients, plan queries",
		Version: coordinator.Version,
		New:     instance,
	}, args, stdout, stderr)
}

func instance() service.Instance {
	c, set := config.ForCoordinator()
	return service.Instance{
		Set:    set,
		Common: &c.Common,
		Name:   func() string { return c.Name },
		Start: func(ctx context.Context, nc *nats.Conn, log *zap.Logger) (service.Service, error) {
			return coordinator.Serve(ctx, nc, coordinator.ServiceConfig{
				Name: c.Name, Tenant: c.Tenant, LeaseTTL: c.LeaseTTL, Silent: c.Silent,
				StepDeadline: c.StepDeadline, QueryDeadline: c.QueryDeadline, Replicas: c.Replicas, Logger: log,
			})
		},
	}
}
