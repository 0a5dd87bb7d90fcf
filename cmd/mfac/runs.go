package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/config"
	"mfac/wire"
)

// placed is a shard and where it is.
type placed struct {
	Shard   int    `json:"shard"`
	Lo      int64  `json:"lo"`
	Columns int64  `json:"columns"`
	Worker  string `json:"worker"`
}

// runView is a run as it is shown. A run that does not answer has a name and a state alone.
type runView struct {
	wire.RunSpec
	State       string        `json:"state"`
	Version     wire.Version  `json:"version"`
	Rows        int           `json:"rows"`
	Newest      *wire.Step    `json:"newest_step"` // null without rows
	Cond        *float64      `json:"condition"`   // null: not known, or infinite
	Open        int           `json:"open_steps"`
	Queries     int           `json:"queries"`
	Lost        int           `json:"lost_rows"`
	Coordinator string        `json:"coordinator"`
	Epoch       string        `json:"epoch"`
	Frozen      string        `json:"frozen,omitempty"`
	Kept        int64         `json:"kept,omitempty"` // bytes of W
	Placement   []placed      `json:"placement,omitempty"`
	Tensors     []wire.Tensor `json:"tensors,omitempty"`

	infinite bool // the condition
}

func viewOf(info wire.Info) runView {
	v := runView{
		RunSpec: info.Spec, State: info.State, Version: info.Version, Rows: info.Rows, Open: info.Open,
		Queries: info.Queries, Lost: info.Lost, Coordinator: info.Coord, Epoch: info.Epoch.String(),
		Frozen: info.Frozen, Kept: info.Kept,
	}
	if info.Rows > 0 {
		v.Newest = &info.Newest
	}
	if info.Cond > 0 && !math.IsInf(info.Cond, 1) { // JSON has no Inf
		v.Cond = &info.Cond
	}
	v.infinite = math.IsInf(info.Cond, 1)
	return v
}

func placement(info wire.Info) []placed {
	var list []placed
	for s, w := range info.Owner {
		lo, n := info.Range(s)
		list = append(list, placed{s, lo, n, info.Workers[w]})
	}
	return list
}

func (v runView) newest() string {
	if v.Newest == nil {
		return "-"
	}
	return strconv.FormatUint(uint64(*v.Newest), 10)
}

func (v runView) cond() string {
	switch {
	case v.infinite:
		return "inf"
	case v.Cond == nil:
		return "-"
	}
	return fmt.Sprintf("%.2g", *v.Cond)
}

func (t *tool) runCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "run", Short: "Make, list, show, set, resize, freeze and remove runs"}
	cmd.AddCommand(t.createCommand(), t.lsCommand(), t.showCommand(), t.rmCommand(), t.stepsCommand(), t.setCommand(), t.resizeCommand(), t.freezeCommand(), t.thawCommand())
	return cmd
}

func (t *tool) lsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the runs",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
				runs, err := views(ctx, c)
				if err != nil {
					return err
				}
				return t.print(runs, func(w io.Writer) { writeRuns(w, runs) })
			})
		},
	}
}

func writeRuns(w io.Writer, runs []runView) {
	fmt.Fprintln(w, "RUN\tDIM\tWINDOW\tVERSION\tNEWEST\tDAMPING\tCONDITION\tSHARDS\tSTATE")
	for _, r := range runs {
		state := r.State
		if r.Lost > 0 {
			state += fmt.Sprintf(", %s lost", plural(r.Lost, "row"))
		}
		if r.Frozen != "" {
			state += ", frozen"
		}
		fmt.Fprintf(w, "%s\t%d\t%d/%d\t%d\t%s\t%g\t%s\t%d\t%s\n",
			r.Name, r.Dim, r.Rows, r.Window, r.Version, r.newest(), r.Damping, r.cond(), r.Shards, state)
	}
}

// Of asking all runs how they stand.
const (
	atOnce     = 8               // runs asked
	runTimeout = 5 * time.Second // for a run to answer
)

// views are all runs, in order of their names. One that doesn't answer, as while it is taken over,
// is there with that for a state.
func views(ctx context.Context, c *client.Client) ([]runView, error) {
	names, err := c.Runs(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]*runView, len(names))
	room := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, name := range names {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			list[i] = view(ctx, c, name)
		})
	}
	wg.Wait()
	runs := make([]runView, 0, len(list)) // [] rather than null
	for _, v := range list {
		if v != nil { // was removed since
			runs = append(runs, *v)
		}
	}
	return runs, context.Cause(ctx)
}

func view(ctx context.Context, c *client.Client, name string) *runView {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	info, err := status(ctx, c, name)
	if errors.Is(err, wire.ErrUnknownRun) {
		return nil
	}
	if err != nil {
		return &runView{RunSpec: wire.RunSpec{Name: name}, State: "no answer"}
	}
	v := viewOf(info)
	return &v
}

func status(ctx context.Context, c *client.Client, name string) (wire.Info, error) {
	r, err := c.Join(ctx, name)
	if err != nil {
		return wire.Info{}, err
	}
	return r.Status(ctx)
}

func (t *tool) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a run: what it is, how it stands, where its shards are",
		Args:  cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
				r, err := c.Join(ctx, args[0])
				if err != nil {
					return err
				}
				info, err := r.Status(ctx)
				if err != nil {
					return err
				}
				v := viewOf(info)
				v.Placement = placement(info)
				if v.Tensors, err = r.Layout(ctx); err != nil {
					return err
				}
				return t.print(v, v.write)
			})
		},
	}
}

func (v runView) write(w io.Writer) {
	line := func(key, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	line("run", "%s", v.Name)
	line("state", "%s", v.State)
	line("dim", "%d", v.Dim)
	line("window", "%d of %d gradients, version %d, newest step %s", v.Rows, v.Window, v.Version, v.newest())
	line("damping", "%g", v.Damping)
	line("divisor", "%s", v.Divisor)
	if v.HalfLife != 0 {
		line("half-life", "%g steps", v.HalfLife)
	}
	if v.Blocks != "" {
		line("blocks", "%s", v.Blocks)
	}
	line("condition", "%s", v.cond())
	line("store", "%s, %s, %s", v.Store, v.Durability, plural(v.Spare, "spare slot"))
	queries := plural(v.Queries, "query")
	if v.Queries != 1 {
		queries = strconv.Itoa(v.Queries) + " queries"
	}
	line("under way", "%s, %s", plural(v.Open, "step"), queries)
	if v.Frozen != "" {
		line("frozen", "%s", frozenText[v.Frozen]+", "+config.FormatBytes(v.Kept)+" of W on the workers")
	}
	if v.Lost > 0 {
		line("lost", "%s", plural(v.Lost, "row"))
	}
	line("coordinator", "%s, epoch %s", v.Coordinator, v.Epoch)
	for _, p := range v.Placement {
		line("shard "+strconv.Itoa(p.Shard), "columns [%d, %d) on %s", p.Lo, p.Lo+p.Columns, p.Worker)
	}
	for _, t := range v.Tensors {
		of := ""
		if r := v.Scales.At(t.Offset)[0]; r != 1 {
			of = fmt.Sprintf(", damping %.6g", r*v.Damping)
		}
		line("tensor", "%s %v at %d%s", t.Name, t.Shape, t.Offset, of)
	}
}

// frozenText is what a frozen run's state is in words.
var frozenText = map[string]string{wire.StateFrozen: "yes", wire.StateMaking: "W is being worked out", wire.StateWithout: "without W: mfac run freeze tries again"}

func (t *tool) rmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a run and free its memory",
		Args:  cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
				if err := c.Delete(ctx, args[0]); err != nil {
					return err
				}
				removed := struct {
					Removed string `json:"removed"`
				}{args[0]}
				return t.print(removed, func(w io.Writer) { fmt.Fprintf(w, "removed run %s\n", args[0]) })
			})
		},
	}
}

func (t *tool) stepsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "steps NAME",
		Short: "List the steps in a run's window, the oldest first, with their labels",
		Args:  cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
				r, err := c.Join(ctx, args[0])
				if err != nil {
					return err
				}
				window, err := r.Labels(ctx)
				if err != nil {
					return err
				}
				out := struct {
					Run     string       `json:"run"`
					Version wire.Version `json:"version"`
					Steps   []wire.Step  `json:"steps"`
					Labels  []string     `json:"labels,omitempty"` // "" where there is none
				}{args[0], window.Version, window.Steps, window.Labels}
				return t.print(out, func(w io.Writer) {
					for i, s := range window.Steps {
						if label := labelOf(window.Labels, i); label != "" {
							fmt.Fprintf(w, "%d\t%s\n", s, label)
						} else {
							fmt.Fprintln(w, s)
						}
					}
				})
			})
		},
	}
}

// layoutDim is how many numbers the tensors of a layout have together, as far as it can be read: readLayout checks it.
func layoutDim(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var tensors []struct{ Shape []int64 }
	if json.NewDecoder(io.LimitReader(f, 4*wire.MaxLayout)).Decode(&tensors) != nil {
		return 1, nil // which readLayout says better
	}
	dim := int64(0)
	for _, t := range tensors {
		n := wire.Tensor{Shape: t.Shape}.Size()
		if n < 0 || n > wire.MaxDim-dim {
			return wire.MaxDim, nil // so does it of what is too large or no shape
		}
		dim += n
	}
	return dim, nil
}

// readLayout reads a layout's file.
func readLayout(path string, dim int64) ([]wire.Tensor, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, 4*wire.MaxLayout)) // ParseLayout knows the limit
	if err != nil {
		return nil, err
	}
	tensors, err := wire.ParseLayout(p, dim)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return tensors, nil
}

func plural[N int | int64](n N, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.FormatInt(int64(n), 10) + " " + word + "s"
}
