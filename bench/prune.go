package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"mfac/client"
	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/wire"
	"mfac/worker"
)

// This file: `go run ./bench prune`, what pruning moves over the coordinator, whatever d. It is quoted in
// docs/pruning.md.

type pruneOptions struct {
	dim           int64
	rows, workers int
}

// mostMoved is what pruning may move over the coordinator, with everything else that it says meanwhile.
const mostMoved = 1_000_000

// pruneTraffic prunes by each rule and by a pattern, and prints the bytes of the coordinator's connection,
// both ways.
func pruneTraffic(ctx context.Context, o pruneOptions, stdout io.Writer) (err error) {
	server, err := natsx.Embedded(natsx.EmbeddedOptions{})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	var stops []func() error
	defer func() {
		for i := len(stops) - 1; i >= 0; i-- {
			err = errors.Join(err, stops[i]())
		}
	}()
	connect := func(name string) (*nats.Conn, error) {
		return natsx.Connect(ctx, natsx.Options{URL: server.URL(), Name: name})
	}
	serve := func(nc *nats.Conn, s interface{ Stop(context.Context) error }, err error) error {
		if err != nil {
			nc.Close()
			return err
		}
		stops = append(stops, func() error {
			defer nc.Close()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return s.Stop(ctx)
		})
		return nil
	}
	for i := range o.workers {
		id := fmt.Sprintf("w%d", i)
		nc, err := connect(id)
		if err != nil {
			return err
		}
		s, err := worker.Serve(ctx, nc, worker.ServiceConfig{ID: id, Tenant: "default", Capacity: 20 << 30})
		if err := serve(nc, s, err); err != nil {
			return err
		}
	}
	nc, err := connect("c0")
	if err != nil {
		return err
	}
	s, err := coordinator.Serve(ctx, nc, coordinator.ServiceConfig{Name: "c0", Tenant: "default"})
	if err := serve(nc, s, err); err != nil {
		return err
	}
	c, err := client.Connect(ctx, server.URL())
	if err != nil {
		return err
	}
	defer c.Close()
	for heard := 0; heard < o.workers; time.Sleep(50 * time.Millisecond) {
		w, err := c.Workers(ctx)
		if err != nil {
			return err
		}
		heard = len(w)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	r, err := c.Attach(ctx, client.RunConfig{Name: "pruned", Dim: o.dim, Window: o.rows, Damping: 1, Shards: o.workers, Spare: 1})
	if err != nil {
		return err
	}
	for step := range o.rows {
		if _, err := r.PublishFrom(ctx, wire.Step(step), generator{uint64(step)}, client.WithStepDeadline(10*time.Minute)); err != nil {
			return err
		}
	}
	w, dst := make([]float32, o.dim), make([]float32, o.dim)
	g := generator{uint64(o.rows)}
	if err := g.ReadColumns(w, 0); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "d = %d, %d gradients, %d workers\n\n| | zeros | bytes over the coordinator | s |\n|---|---|---|---|\n", o.dim, o.rows, o.workers)
	for _, p := range []struct {
		what string
		client.Pruning
	}{
		{"summed, 90 %", client.Pruning{Sparsity: 0.9, Rule: wire.RuleSummed}},
		{"joint, 90 %", client.Pruning{Sparsity: 0.9, Rule: wire.RuleJoint}},
		{"summed, 2:4", client.Pruning{Pattern: wire.Pattern{Keep: 2, Of: 4}, Rule: wire.RuleSummed}},
	} {
		before, start := nc.Stats(), time.Now()
		if _, err := r.Prune(ctx, dst, w, p.Pruning); err != nil {
			return err
		}
		took, after := time.Since(start), nc.Stats()
		moved := after.InBytes - before.InBytes + after.OutBytes - before.OutBytes
		zeros := 0
		for _, x := range dst {
			if x == 0 {
				zeros++
			}
		}
		fmt.Fprintf(stdout, "| %s | %d | %d | %.1f |\n", p.what, zeros, moved, took.Seconds())
		if moved > mostMoved {
			err = errors.Join(err, fmt.Errorf("prune: %s moves %d bytes over the coordinator, must be ≤ %d", p.what, moved, mostMoved))
		}
	}
	return errors.Join(err, c.Delete(ctx, "pruned"))
}
