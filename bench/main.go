// Command bench measures every figure that the documentation quotes, as ratios within one run:
// the machines that we have are noisy, a lone time says nothing.
//
//	go run ./bench                     all, and docs/benchmarks.md written anew
//	go run ./bench --quick             fewer repetitions, nothing written
//	go run ./bench --only window       those whose name begins so
//	go run ./bench --json FILE         the ratios as JSON ("-" is standard output)
//
// It exits with 1 if a ratio falls short of what is asked of it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is a ratio to be measured. pair does ours and the baseline's work once each and returns
// their times; the ratio is baseline's time to ours: how many times faster we are, or what share
// of the baseline's rate we reach.
type figure struct {
	name    string
	what    string
	atLeast float64 // 0: nothing is asked
	setup   func() (pair func() (ours, baseline time.Duration, err error), cleanup func(), err error)
}

// result is a figure measured. Ratio is the median of its runs.
type result struct {
	Name    string  `json:"name"`
	What    string  `json:"what"`
	Ratio   float64 `json:"ratio"`
	AtLeast float64 `json:"at_least,omitempty"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Runs    int     `json:"runs"`
}

func (r result) short() bool { return !(r.Ratio >= r.AtLeast) }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	quick := flags.Bool("quick", false, "fewer repetitions, docs/benchmarks.md left alone")
	only := flags.String("only", "", "measure those whose name begins so")
	file := flags.String("json", "", "write the ratios as JSON to this file; - is standard output")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	runs := 11
	if *quick {
		runs = 5
	}
	var results []result
	for _, f := range slices.Concat(windowFigures(), kernelFigures(), busFigures()) {
		if !strings.HasPrefix(f.name, *only) {
			continue
		}
		r, err := measure(f, runs)
		if err != nil {
			fmt.Fprintf(stderr, "bench: %s: %v\n", f.name, err)
			return 1
		}
		fmt.Fprintf(stderr, "%-34s %6.2f  [%.2f, %.2f]\n", r.Name, r.Ratio, r.Low, r.High)
		results = append(results, r)
	}
	if len(results) == 0 {
		fmt.Fprintf(stderr, "bench: no figure's name begins with %q\n", *only)
		return 2
	}
	if err := report(results, *file, *quick || *only != "", stdout); err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	status := 0
	for _, r := range results {
		if r.short() {
			fmt.Fprintf(stderr, "bench: %s is %.3g, must be at least %.3g\n", r.Name, r.Ratio, r.AtLeast)
			status = 1
		}
	}
	return status
}

// measure runs a figure's pairs, the first uncounted.
func measure(f figure, runs int) (result, error) {
	pair, cleanup, err := f.setup()
	if err != nil {
		return result{}, err
	}
	defer cleanup()
	ratios := make([]float64, 0, runs)
	for i := range runs + 1 {
		runtime.GC()
		ours, base, err := pair()
		if err != nil {
			return result{}, err
		}
		if i > 0 {
			ratios = append(ratios, base.Seconds()/ours.Seconds())
		}
	}
	slices.Sort(ratios)
	return result{f.name, f.what, ratios[len(ratios)/2], f.atLeast, ratios[0], ratios[len(ratios)-1], len(ratios)}, nil
}

func timed(f func() error) (time.Duration, error) {
	t := time.Now()
	err := f()
	return time.Since(t), err
}

// report prints the table, and writes JSON and docs/benchmarks.md where asked.
func report(results []result, file string, partial bool, stdout io.Writer) error {
	if file != "" {
		p, err := json.MarshalIndent(results, "", "\t")
		if err != nil {
			return err
		}
		p = append(p, '\n')
		if file == "-" {
			_, err = stdout.Write(p)
			return err
		}
		if err := os.WriteFile(file, p, 0o644); err != nil {
			return err
		}
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tratio\tspread\tat least\twhat")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%.2f\t%.2f…%.2f\t%s\t%s\n", r.Name, r.Ratio, r.Low, r.High, asked(r), r.What)
	}
	if err := w.Flush(); err != nil || partial {
		return err
	}
	return os.WriteFile("docs/benchmarks.md", page(results), 0o644)
}

func asked(r result) string {
	if r.AtLeast == 0 {
		return "–"
	}
	return fmt.Sprintf("%g", r.AtLeast)
}

func page(results []result) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmarks

Made by `+"`go run ./bench`"+`, which measures them anew. Each figure is a ratio within one run: ours and a baseline do the
same work in turn, %d times; the ratio is the baseline's time to ours, so 1 is as fast and more is faster. Median and
spread of the runs, on %d cores of %s/%s with %s. Times alone are not given: they say more about the machine and the
hour than about the code.

| figure | ratio | spread | at least | what |
|---|---|---|---|---|
`, results[0].Runs, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f–%.2f | %s | %s |\n", r.Name, r.Ratio, r.Low, r.High, asked(r), r.What)
	}
	b.WriteString(`
What falls short of a share of the memory's or the bus' speed is plain Go so far: the kernels are written behind an
interface that assembly fills next.
`)
	return []byte(b.String())
}
