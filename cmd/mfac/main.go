// Command mfac is the tool of mfac: it starts a cluster for trying, makes runs, publishes
// gradients and asks for inverse Hessian-vector products. mfac --help says how.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"mfac/cmd/internal/cli"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	t := &tool{stdout: stdout, stderr: stderr}
	return cli.Execute(ctx, t.command(), args, stdout, stderr)
}
