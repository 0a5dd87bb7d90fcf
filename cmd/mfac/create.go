package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/config"
	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/wire"
)

// creation is the flags of run create.
type creation struct {
	spec             wire.RunSpec
	divisor, store   string
	layout           string
	dryRun           bool
	workers          int
	tensors          []wire.Tensor
	shardsAreWorkers bool
	fades            bool
	dampings         []string // of tensors, NAME=λ
	byTensor         map[string]float64
	blocking
}

func (t *tool) createCommand() *cobra.Command {
	var o creation
	cmd := &cobra.Command{
		Use:   "create NAME --dim D --window M --damping L",
		Short: "Make a run, or join one that is the same",
		Long: `Makes a run of H = λI + 1/N Σ g gᵀ over the last M gradients of D numbers each. Where one of that name
exists, it is joined if it is the same, its shards and spares apart; else the error says what differs.

A layout is a JSON array of the tensors that the parameters are: [{"name": "w", "shape": [3, 4]}, …].
Shard borders fall on tensors' borders where they can. Tensors may have dampings of their own; where a
question names another damping than L they change by the same factor. Such a run does not answer everything.

With --blocks all that can be is answered by the diagonal blocks of H, unless a question says otherwise: --blocks whole.`,
		Args: cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			required := []string{"window", "damping"}
			if o.layout == "" {
				required = append([]string{"dim"}, required...)
			}
			if err := cli.Required(cmd.Flags(), required...); err != nil {
				return err
			}
			if !cmd.Flags().Changed("dim") {
				var err error
				if o.spec.Dim, err = layoutDim(o.layout); err != nil {
					return err
				}
			}
			o.spec.Name = args[0]
			o.fades = cmd.Flags().Changed("half-life")
			o.shardsAreWorkers = !cmd.Flags().Changed("shards")
			if err := o.check(cmd.Flags().Changed("workers")); err != nil {
				return err
			}
			if o.dryRun && o.workers > 0 { // no cluster needed
				return t.dryRun(o, o.workers)
			}
			return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
				if o.dryRun {
					return t.dryRunLive(ctx, c, o)
				}
				return t.create(ctx, c, o)
			})
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Int64Var(&o.spec.Dim, "dim", 0, "`d`, the numbers of a gradient (required, unless --layout has them)")
	f.IntVar(&o.spec.Window, "window", 0, "`m`, the gradients to keep (required)")
	f.Float64Var(&o.spec.Damping, "damping", 0, "the `λ` of H (required)")
	f.IntVar(&o.spec.Shards, "shards", 0, "`n`umber of parts that the columns are cut into (default one for each worker)")
	f.StringVar(&o.divisor, "divisor", string(wire.Capacity), "`N`: capacity (the window's) or count (of the gradients in it)")
	f.StringVar(&o.layout, "layout", "", "JSON `file` of the tensors")
	f.StringSliceVar(&o.dampings, "damping-per-tensor", nil, "`NAME=λ,…`, of tensors that have dampings of their own (with --layout)")
	f.StringVar(&o.blocking.blocks, "blocks", "", "answer by the diagonal blocks of H: tensor, one a tensor, or `B` columns, never across a tensor's border (default the whole of H)")
	f.BoolVar(&o.across, "across", false, "blocks of B columns whatever the tensors are")
	f.StringVar(&o.store, "store", string(wire.F32), "`dtype` in which gradients are kept: f32, or bf16 or f16 in half the memory")
	f.StringVar(&o.spec.Durability, "durability", wire.DurabilityMemory, "`what` gradients survive: memory (nothing)")
	f.Float64Var(&o.spec.HalfLife, "half-life", 0, "`T`, steps after which a gradient counts half (default none: all count alike)")
	f.IntVar(&o.spec.Spare, "spare", wire.DefaultSpare, "`n`umber of slots for gradients that are being published")
	f.BoolVar(&o.dryRun, "dry-run", false, "only print the bytes that a worker and a step take")
	f.IntVar(&o.workers, "workers", 0, "with --dry-run: for this `n`umber of workers (default those of the cluster)")
	return cmd
}

// check checks all that can be checked here.
func (o *creation) check(workersGiven bool) error {
	o.spec.Divisor, o.spec.Store = wire.Divisor(o.divisor), wire.DType(o.store)
	if o.fades {
		if err := wire.CheckHalfLife("half-life", o.spec.HalfLife); err != nil {
			return err
		}
	}
	spec := o.spec
	if o.shardsAreWorkers {
		spec.Shards = 1
	}
	if err := spec.Validate(); err != nil {
		return err
	}
	switch {
	case workersGiven && !o.dryRun:
		return cli.UsageError("--workers goes with --dry-run")
	case workersGiven && o.workers < 1:
		return wire.Invalid("workers", o.workers, ">= 1")
	}
	var err error
	if o.byTensor, err = tensorDampings(o.dampings); err != nil {
		return err
	}
	if o.across && o.blocks == "" {
		return cli.UsageError("--across goes with --blocks B")
	}
	if o.blocks != "" {
		if o.spec.Blocks, err = o.blocking.of(); err != nil {
			return err
		}
	}
	if o.layout == "" {
		switch {
		case len(o.dampings) > 0:
			return cli.UsageError("--damping-per-tensor goes with --layout")
		case o.spec.Blocks == wire.BlockingTensor:
			return cli.UsageError("--blocks tensor goes with --layout")
		}
		return nil
	}
	if o.tensors, err = readLayout(o.layout, o.spec.Dim); err != nil {
		return err
	}
	o.spec.Layout = wire.LayoutHash(wire.CanonicalLayout(o.tensors))
	return nil
}

func (t *tool) create(ctx context.Context, c *client.Client, o creation) error {
	s := o.spec
	r, err := c.Attach(ctx, client.RunConfig{
		Name: s.Name, Dim: s.Dim, Window: s.Window, Damping: s.Damping, Divisor: s.Divisor, Layout: o.tensors,
		Shards: s.Shards, Spare: s.Spare, Store: s.Store, Durability: s.Durability, HalfLife: s.HalfLife, TensorDamping: o.byTensor, Blocks: s.Blocks,
	})
	if err != nil {
		return differing(ctx, c, err, o)
	}
	info, err := settled(ctx, r)
	if err != nil {
		return err
	}
	v := viewOf(info)
	v.Placement = placement(info)
	return t.print(v, func(w io.Writer) {
		fmt.Fprintf(w, "run %s: %s in %s, the last %s, damping %g, %s\n",
			v.Name, plural(v.Dim, "column"), plural(v.Shards, "shard"), plural(v.Window, "gradient"), v.Damping, v.State)
	})
}

// tensorDampings reads NAME=λ, of which NAME may have an = in it.
func tensorDampings(list []string) (map[string]float64, error) {
	out := map[string]float64{}
	for _, s := range list {
		i := strings.LastIndexByte(s, '=')
		if i < 1 {
			return nil, wire.Invalid("--damping-per-tensor", strconv.Quote(s), "NAME=λ")
		}
		v, err := strconv.ParseFloat(s[i+1:], 64)
		if err != nil {
			return nil, wire.Invalid("--damping-per-tensor", strconv.Quote(s), "NAME=λ, λ a number")
		}
		if err := wire.CheckDamping("damping of "+s[:i], v); err != nil {
			return nil, err
		}
		if _, twice := out[s[:i]]; twice {
			return nil, wire.Invalid("--damping-per-tensor", strconv.Quote(s[:i]), "named once")
		}
		out[s[:i]] = v
	}
	return out, nil
}

// differing says which tensor differs, where the layout of a run that exists does.
func differing(ctx context.Context, c *client.Client, err error, o creation) error {
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.CodeExists || e.Field != "layout" {
		return err
	}
	r, joined := c.Join(ctx, o.spec.Name)
	if joined != nil {
		return err
	}
	theirs, read := r.Layout(ctx)
	if read != nil {
		return err
	}
	return fmt.Errorf("%w: %s", err, firstDifference(o.tensors, theirs))
}

// firstDifference compares two layouts, ours with that of the run that exists.
func firstDifference(ours, theirs []wire.Tensor) string {
	show := func(list []wire.Tensor, i int) string {
		if i >= len(list) {
			return "none"
		}
		return fmt.Sprintf("%s %v at %d", list[i].Name, list[i].Shape, list[i].Offset)
	}
	i := 0
	for i < len(ours) && i < len(theirs) && show(ours, i) == show(theirs, i) {
		i++
	}
	return fmt.Sprintf("tensor %d is %s, must be %s", i, show(ours, i), show(theirs, i))
}

// settled waits a little until the run's shards are on workers: most often they are at once.
func settled(ctx context.Context, r *client.Run) (wire.Info, error) {
	end := time.Now().Add(settleTimeout)
	for {
		info, err := r.Status(ctx)
		if err != nil || info.State == wire.StateReady || time.Now().After(end) {
			return info, err
		}
		select {
		case <-ctx.Done():
			return info, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

const settleTimeout = 5 * time.Second

// plan is what --dry-run prints.
type plan struct {
	Run          string `json:"run"`
	Dim          int64  `json:"dim"`
	Window       int    `json:"window"`
	Spare        int    `json:"spare"`
	Store        string `json:"store"`
	Shards       int    `json:"shards"`
	Workers      int    `json:"workers"`
	BytesWorker  int64  `json:"bytes_per_worker"` // the most that any takes
	BytesTotal   int64  `json:"bytes_total"`
	BytesStep    int64  `json:"bytes_per_step"`
	BytesPrecond int64  `json:"bytes_per_preconditioned_step"`
}

func (t *tool) dryRunLive(ctx context.Context, c *client.Client, o creation) error {
	workers, err := c.Workers(ctx)
	if err != nil {
		return err
	}
	if len(workers) == 0 {
		return wire.Errorf(wire.CodeNoWorkers, "workers", 0, "at least 1", "start one, or say --workers")
	}
	if err := t.dryRun(o, len(workers)); err != nil {
		return err
	}
	return fits(o, workers)
}

// fits refuses what the coordinator would refuse: each shard goes to the worker with the most room.
func fits(o creation, workers []wire.WorkerStatus) error {
	s := o.spec
	if o.shardsAreWorkers {
		s.Shards = int(min(int64(len(workers)), s.Dim, wire.MaxShards))
	}
	info := wire.Info{Spec: s, Lo: wire.Borders(s.Dim, s.Shards, o.tensors)}
	var total, free int64
	rooms := make([]int64, len(workers))
	for i, w := range workers {
		rooms[i] = max(0, w.Capacity-w.Used)
		free += rooms[i]
	}
	short, need, room := -1, int64(0), int64(0)
	for i := range s.Shards {
		_, cols := info.Range(i)
		n, err := shard.Bytes(shard.Config{Slots: s.Slots(), Cols: cols})
		if err != nil {
			return err
		}
		total += n
		best := 0
		for w := range rooms {
			if rooms[w] > rooms[best] {
				best = w
			}
		}
		if rooms[best] < n && short < 0 {
			short, need, room = i, n, rooms[best]
		}
		rooms[best] -= n
	}
	if short < 0 {
		return nil
	}
	return wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes (%s × %s × 4)", total, plural(s.Slots(), "slot"), plural(s.Dim, "column")),
		fmt.Sprintf("at most the %d bytes that are free on %s, %d of them for shard %d, of which the roomiest has %d", free, plural(len(workers), "worker"), need, short, room),
		"add workers, or give them more memory")
}

// dryRun prints what a run would take. The shards go to workers as the coordinator puts them on
// workers that are alike and empty: each to the one with the least so far.
func (t *tool) dryRun(o creation, workers int) error {
	s := o.spec
	if o.shardsAreWorkers {
		s.Shards = int(min(int64(workers), s.Dim, wire.MaxShards))
	}
	p := plan{
		Run: s.Name, Dim: s.Dim, Window: s.Window, Spare: s.Spare, Store: string(s.Store), Shards: s.Shards, Workers: workers,
		BytesStep: 4 * s.Dim, BytesPrecond: 8 * s.Dim,
	}
	info := wire.Info{Spec: s, Lo: wire.Borders(s.Dim, s.Shards, o.tensors)}
	load := make([]int64, min(workers, s.Shards))
	for i := range s.Shards {
		_, cols := info.Range(i)
		n, err := shard.Bytes(shard.Config{Slots: s.Slots(), Cols: cols, DType: dtype.Of(s.Store)})
		if err != nil {
			return err
		}
		least := 0
		for w := range load {
			if load[w] < load[least] {
				least = w
			}
		}
		load[least] += n
		p.BytesTotal += n
		p.BytesWorker = max(p.BytesWorker, load[least])
	}
	return t.print(p, func(w io.Writer) {
		size := func(n int64) string { return fmt.Sprintf("%d\t(%s)", n, config.FormatBytes(n)) }
		fmt.Fprintf(w, "bytes a worker	%s	at most: %s × %s × %d (%s) in %s on %s\n",
			size(p.BytesWorker), plural(s.Slots(), "slot"), plural(s.Dim, "column"), s.Store.Size(), s.Store, plural(s.Shards, "shard"), plural(workers, "worker"))
		fmt.Fprintf(w, "bytes in all\t%s\n", size(p.BytesTotal))
		fmt.Fprintf(w, "bytes a step\t%s\tsent to publish a gradient in f32; with its preconditioned one %d; in bf16 or f16 half\n", size(p.BytesStep), p.BytesPrecond)
		fmt.Fprintf(w, "nothing was made: --dry-run\n")
	})
}
