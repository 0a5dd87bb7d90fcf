package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mfac/client"
	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/wire"
	"mfac/worker"
)

// This file: `go run ./bench prune`, what pruning moves over the coordinator, whatever d. It is quoted in
// docs/benchmarks.md.

type pruneOptions struct {
	dim           int64
	rows, workers int
}

// mostMoved is what pruning may move over the coordinator, with everything else that it says meanwhile.
const mostMoved = 1_000_000

// pruneResult is what `go run ./bench prune` counts.
type pruneResult struct {
	Dim           int64
	Rows, Workers int
	Rules         []pruneRule
}

// pruneRule has the bytes of the coordinator's connection, both ways.
type pruneRule struct {
	What         string
	Zeros, Bytes uint64
}

func (p pruneResult) table() string {
	var b strings.Builder
	b.WriteString("| | weights that are 0 | bytes over the coordinator |\n|---|---|---|\n")
	for _, r := range p.Rules {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", r.What, r.Zeros, r.Bytes)
	}
	return b.String()
}

// pruning counts and prints, and writes the pages anew.
func pruning(ctx context.Context, o pruneOptions, stdout io.Writer) error {
	res, err := pruneTraffic(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "d = %d, %d gradients, %d workers\n\n%s", res.Dim, res.Rows, res.Workers, res.table())
	for _, r := range res.Rules {
		if r.Bytes > mostMoved {
			err = errors.Join(err, fmt.Errorf("prune: %s moves %d bytes over the coordinator, must be ≤ %d", r.What, r.Bytes, mostMoved))
		}
	}
	return errors.Join(err, save("prune", res), writePages())
}

// pruneTraffic prunes by each rule and by a pattern.
func pruneTraffic(ctx context.Context, o pruneOptions) (res pruneResult, err error) {
	server, err := natsx.Embedded(natsx.EmbeddedOptions{})
	if err != nil {
		return res, err
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
			return res, err
		}
		s, err := worker.Serve(ctx, nc, worker.ServiceConfig{ID: id, Tenant: "default", Capacity: 20 << 30})
		if err := serve(nc, s, err); err != nil {
			return res, err
		}
	}
	nc, err := connect("c0")
	if err != nil {
		return res, err
	}
	s, err := coordinator.Serve(ctx, nc, coordinator.ServiceConfig{Name: "c0", Tenant: "default"})
	if err := serve(nc, s, err); err != nil {
		return res, err
	}
	c, err := client.Connect(ctx, server.URL())
	if err != nil {
		return res, err
	}
	defer c.Close()
	for heard := 0; heard < o.workers; time.Sleep(50 * time.Millisecond) {
		w, err := c.Workers(ctx)
		if err != nil {
			return res, err
		}
		heard = len(w)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	r, err := c.Attach(ctx, client.RunConfig{Name: "pruned", Dim: o.dim, Window: o.rows, Damping: 1, Shards: o.workers, Spare: 1})
	if err != nil {
		return res, err
	}
	for step := range o.rows {
		if _, err := r.PublishFrom(ctx, wire.Step(step), generator{uint64(step)}, client.WithStepDeadline(10*time.Minute)); err != nil {
			return res, err
		}
	}
	w, dst := make([]float32, o.dim), make([]float32, o.dim)
	g := generator{uint64(o.rows)}
	if err := g.ReadColumns(w, 0); err != nil {
		return res, err
	}
	res = pruneResult{Dim: o.dim, Rows: o.rows, Workers: o.workers}
	for _, p := range []struct {
		what string
		client.Pruning
	}{
		{"summed, 90 %", client.Pruning{Sparsity: 0.9, Rule: wire.RuleSummed}},
		{"joint, 90 %", client.Pruning{Sparsity: 0.9, Rule: wire.RuleJoint}},
		{"summed, 2:4", client.Pruning{Pattern: wire.Pattern{Keep: 2, Of: 4}, Rule: wire.RuleSummed}},
	} {
		before := nc.Stats()
		if _, err := r.Prune(ctx, dst, w, p.Pruning); err != nil {
			return res, err
		}
		after := nc.Stats()
		moved := after.InBytes - before.InBytes + after.OutBytes - before.OutBytes
		zeros := uint64(0)
		for _, x := range dst {
			if x == 0 {
				zeros++
			}
		}
		res.Rules = append(res.Rules, pruneRule{p.what, zeros, moved})
	}
	return res, c.Delete(ctx, "pruned")
}
