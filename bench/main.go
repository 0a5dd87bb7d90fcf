// Command bench measures every figure that the documentation quotes, as ratios within one run:
// the machines that we have are noisy, a lone time says nothing.
//
//	go run ./bench                     all: the table, the curves, a billion parameters; the pages
//	                                   and plots in docs/ are written anew
//	go run ./bench --quick             the table of what must hold alone, in five minutes; writes nothing
//	go run ./bench --only dots/f32     figures whose name begins so; writes nothing
//	go run ./bench --json FILE         the ratios as JSON too ("-" is standard output)
//	go run ./bench --python BIN        against this Python's numpy (scipy and threadpoolctl must be there, too) and
//	                                   torch, if it has that; without, one without torch is made in the user's cache
//	go run ./bench --profile DIR       CPU profiles of what the figures of --only compare, and a table of what kinds of
//	                                   work they are
//
//	go run ./bench table               the table alone, and the pages
//	go run ./bench grow                step time against d, m, shards, workers, clients, and the pages
//	go run ./bench billion             d = 1e9 on several processes, and the pages
//	go run ./bench prune               what pruning at d = 1e7 moves over the coordinator, and the pages
//	go run ./bench pages               the pages again from the last results, nothing measured
//
// It exits with 1 if a ratio falls short of what is asked of it, and names it. What this machine
// can't measure is listed as such and counts as neither.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// options are the command line.
type options struct {
	quick   bool
	only    string
	json    string
	runs    int
	python  string
	profile string
	grow    growOptions
	billion billionOptions
	prune   pruneOptions
}

var commands = []string{"all", "table", "grow", "billion", "prune", "pages"}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := "all"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	var o options
	flags := flag.NewFlagSet("bench "+command, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.quick, "quick", false, "the table of what must hold alone, fewer runs; nothing is written but --json")
	flags.StringVar(&o.only, "only", "", "measure figures whose name begins so; nothing is written but --json")
	flags.StringVar(&o.json, "json", "", "write the ratios as JSON to this file; - is standard output")
	flags.IntVar(&o.runs, "runs", 0, "runs of each figure; 0: 11, or 5 with --quick")
	flags.StringVar(&o.python, "python", "", "the Python to measure against, with numpy, scipy, threadpoolctl, and torch if that is to be; \"\": one made in the user's cache, without torch")
	flags.StringVar(&o.profile, "profile", "", "write CPU profiles of what the figures of --only compare to this folder, and print what kinds of work they are; nothing is measured")
	flags.DurationVar(&o.grow.budget, "budget", 25*time.Minute, "grow: what is left after so long is listed as not measured")
	flags.Float64Var(&o.grow.most, "most", 1, "grow: the largest sizes, as a share of the full ones; less than 1 writes nothing")
	flags.Int64Var(&o.billion.dim, "dim", 1_000_000_000, "billion: parameters")
	flags.IntVar(&o.billion.rows, "rows", 6, "billion: gradients in the window")
	flags.IntVar(&o.billion.workers, "workers", 4, "billion: worker processes")
	flags.StringVar(&o.billion.store, "store", "bf16", "billion: dtype of the rows")
	flags.Int64Var(&o.prune.dim, "prune-dim", 10_000_000, "prune: parameters")
	flags.IntVar(&o.prune.rows, "prune-rows", 4, "prune: gradients in the window")
	flags.IntVar(&o.prune.workers, "prune-workers", 4, "prune: workers")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Usage: go run ./bench [%s] [flags]\n\nMeasures what the documentation quotes; CONTRIBUTING.md and the head of bench/main.go say more. Without a command all.\n\n", strings.Join(commands, " | "))
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if !slices.Contains(commands, command) || flags.NArg() > 0 {
		fmt.Fprintf(stderr, "bench: the commands are %s\n", strings.Join(commands, ", "))
		return 2
	}
	if o.quick || o.only != "" {
		if command != "all" && command != "table" {
			fmt.Fprintf(stderr, "bench: --quick and --only are for the table\n")
			return 2
		}
		command = "table"
	}
	if o.profile != "" && o.only == "" {
		fmt.Fprintf(stderr, "bench: --profile wants --only: it takes %s for each side of a figure\n", profileTime)
		return 2
	}
	if command == "prune" {
		return exit(stderr, pruning(ctx, o.prune, stdout))
	}
	if command == "pages" {
		return exit(stderr, writePages())
	}

	e := newEnv(ctx, o, stderr)
	defer e.close()
	if o.python != "" { // who names one wants to hear of it here, not of figures that are not there
		if why := e.lacksBLAS(); why != "" {
			fmt.Fprintf(stderr, "bench: --python %s: %s\n", o.python, why)
			return 2
		}
	}
	if o.profile != "" {
		return exit(stderr, profileAll(e, figures(), stdout))
	}
	status := 0
	if command == "all" || command == "table" {
		status = table(e, stdout)
	}
	if status != 2 && (command == "all" || command == "grow") {
		status = max(status, exit(stderr, grow(e, stdout)))
	}
	if status != 2 && (command == "all" || command == "billion") {
		status = max(status, exit(stderr, billion(e, stdout)))
	}
	if status != 2 && command == "all" {
		status = max(status, exit(stderr, pruning(ctx, o.prune, stdout)))
	}
	return status
}

func exit(stderr io.Writer, err error) int {
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// table measures the figures, prints them, and writes what is to be written.
func table(e *env, stdout io.Writer) int {
	results, err := measureAll(e, figures())
	if err != nil {
		return exit(e.stderr, err)
	}
	if len(results) == 0 {
		fmt.Fprintf(e.stderr, "bench: no figure's name begins with %q\n", e.only)
		return 2
	}
	if err := writeJSON(results, e.json, stdout); err != nil {
		return exit(e.stderr, err)
	}
	if e.json != "-" {
		if err := writeTable(stdout, results); err != nil {
			return exit(e.stderr, err)
		}
	}
	if !e.quick && e.only == "" {
		if err := saveTable(e, results); err != nil {
			return exit(e.stderr, err)
		}
	}
	return verdict(e.stderr, results)
}

// verdict names what falls short and what was not measured.
func verdict(w io.Writer, results []result) int {
	short, absent, met := 0, 0, 0
	for _, r := range results {
		switch {
		case r.absent():
			absent++
			fmt.Fprintf(w, "bench: %s: %s: %s\n", r.Name, notHere, r.Reason)
		case r.short():
			short++
			fmt.Fprintf(w, "bench: %s is %s, must be %s\n", r.Name, r.show(*r.Ratio), r.asked())
		case r.asks():
			met++
		}
	}
	fmt.Fprintf(w, "bench: %d met, %d fell short, %d %s\n", met, short, absent, notHere)
	if short > 0 {
		return 1
	}
	return 0
}

// figures are all of them. Those that share a bed stand together: only the last bed is kept.
func figures() []figure {
	return slices.Concat(
		kernelFigures(), nearFigures(), stagingFigures(), gemvFigures(), manyFigures(), gramFigures(), solveFigures(), diagFigures(),
		busFigures(), stepFigures(), ownFigures(), windowFigures(),
	)
}
