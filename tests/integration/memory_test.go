package integration

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/worker"
)

// A service in a process of its own is this test's binary with these in its environment.
const (
	roleEnv     = "MFAC_TEST_ROLE" // worker or coordinator
	nameEnv     = "MFAC_TEST_NAME"
	urlEnv      = "MFAC_TEST_URL"
	capacityEnv = "MFAC_TEST_CAPACITY"
)

// serve is the main of such a process: the service, until SIGTERM.
func serve(role string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	name := os.Getenv(nameEnv)
	nc, err := natsx.Connect(ctx, natsx.Options{URL: os.Getenv(urlEnv), Name: name})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer nc.Close()
	var service interface{ Stop(context.Context) error }
	switch role {
	case "worker":
		var capacity int64
		if capacity, err = strconv.ParseInt(os.Getenv(capacityEnv), 10, 64); err == nil {
			service, err = worker.Serve(ctx, nc, worker.ServiceConfig{ID: name, Tenant: "default", Capacity: capacity})
		}
	case "coordinator":
		service, err = coordinator.Serve(ctx, nc, coordinator.ServiceConfig{Name: name, Tenant: "default"})
	default:
		err = fmt.Errorf("role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := service.Stop(end); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
