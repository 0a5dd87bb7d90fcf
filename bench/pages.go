package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Where results are kept between commands, and what is made of them. From the repository's root.
const (
	resultsDir = "bench/results"
	docsDir    = "docs"
)

// measured is the table, as kept in bench/results/table.json.
type measured struct {
	Machine string   `json:"machine"`
	BLAS    string   `json:"blas"`
	Kernels []string `json:"kernels"`
	Results []result `json:"results"`
}

func save(name string, v any) error {
	p, err := marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(resultsDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(resultsDir, name+".json"), p, 0o644)
}

// recall reads what save wrote; false where nothing was.
func recall(name string, v any) (bool, error) {
	p, err := os.ReadFile(filepath.Join(resultsDir, name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(p, v)
	}
	return err == nil, err
}

func saveTable(e *env, results []result) error {
	m := measured{Machine: machineName(), Kernels: kernelNames(), Results: results}
	if e.py != nil {
		m.BLAS = e.py.desc
	}
	if err := save("table", m); err != nil {
		return err
	}
	return writePages()
}

// writePages makes docs/benchmarks.md, docs/scaling.md and their plots from the results there are.
func writePages() error {
	if _, err := os.Stat(docsDir); err != nil {
		return fmt.Errorf("run from the repository's root: %w", err)
	}
	var t *measured
	var g *grown
	var b *billionResult
	var p *pruneResult
	if err := errors.Join(recallTo("table", &t), recallTo("grow", &g), recallTo("billion", &b), recallTo("prune", &p)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(docsDir, "benchmarks.md"), benchmarksPage(t, g, b, p), 0o644); err != nil {
		return err
	}
	if t != nil {
		if err := plotPasses(filepath.Join(docsDir, "bench-passes.svg"), t.Results); err != nil {
			return err
		}
	}
	if g == nil {
		return nil
	}
	for _, c := range g.Curves {
		if err := plotCurve(filepath.Join(docsDir, curveFile(c)), c); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(docsDir, "scaling.md"), scalingPage(g), 0o644)
}

func recallTo[T any](name string, to **T) error {
	v := new(T)
	ok, err := recall(name, v)
	if ok {
		*to = v
	}
	return err
}

func curveFile(c curve) string { return "bench-" + c.Axis + ".svg" }

// benchmarksPage is docs/benchmarks.md. What there are no results of is left out.
func benchmarksPage(t *measured, g *grown, b *billionResult, p *pruneResult) []byte {
	var w strings.Builder
	w.WriteString("# Benchmarks\n\nMade by `go run ./bench`, which measures all anew; not edited by hand.\n")
	if t != nil {
		tableSection(&w, t)
	}
	if g != nil {
		growSection(&w, g)
	}
	if b != nil {
		fmt.Fprintf(&w, `
## A billion parameters

`+"`go run ./bench billion`"+`: d = %s, %d gradients in %s and a spare slot (%s), on %d worker processes, with a nats-server and
a coordinator, each a process of its own. The client makes its gradients column by column and keeps nothing of the
results, so it never holds a vector. On %s.

%s`, power(float64(b.Dim)), b.Rows, b.Store, siBytes(float64(b.StoreSize)), b.Workers, b.Machine, b.table())
	}
	if p != nil {
		fmt.Fprintf(&w, `
## What pruning moves over the coordinator

`+"`go run ./bench prune`"+`: d = %s, %d gradients over %d workers: all that goes over the coordinator's connection, both ways,
with acknowledgements, leases and heartbeats. At most %d bytes is asked for.

%s`, power(float64(p.Dim)), p.Rows, p.Workers, mostMoved, p.table())
	}
	return []byte(w.String())
}

func tableSection(w *strings.Builder, t *measured) {
	runs := 0
	for _, r := range t.Results {
		runs = max(runs, r.Runs)
	}
	fmt.Fprintf(w, `
Each figure is a ratio within one run: ours and a baseline do the same work in turn, %d times after %d for warming up; the
ratio is the baseline's time to ours, so 1 is as fast and more is faster, unless the text says "to". Median and spread of the
pairs. Memory is touched before and in huge pages for both sides, G is at least four times the last-level cache unless a
size is given, the collector runs between the timings. Times alone are given where the limit is one.

On %s.`, runs, warmups, t.Machine)
	fmt.Fprintf(w, " Kernels: %s.", strings.Join(t.Kernels, ", "))
	if t.BLAS != "" {
		fmt.Fprintf(w, " Against %s.", t.BLAS)
	}
	w.WriteString("\n\n| figure | measured | spread | asked | what |\n|---|---|---|---|---|\n")
	for _, r := range t.Results {
		what := r.What
		if r.Note != "" {
			what += "; " + r.Note
		}
		if r.absent() {
			what += ": " + r.Reason
		}
		mark := ""
		if r.short() {
			mark = " **short**"
		}
		fmt.Fprintf(w, "| %s | %s%s | %s | %s | %s |\n", r.Name, r.median(), mark, r.spread(), r.asked(), what)
	}
	w.WriteString("\n![passes against the read bandwidth](bench-passes.svg)\n")
}

func growSection(w *strings.Builder, g *grown) {
	fmt.Fprintf(w, `
## How cost grows

The time of a training step (publish and precondition as one) against one size at a time, everything in one process on
%s. The line is the model of [scaling.md](scaling.md): bytes over the measured rates of memory and bus, one after the
other, scatter-gathers by the number of shards, m×m algebra.
`, g.Machine)
	for _, c := range g.Curves {
		fmt.Fprintf(w, "\n![step time against %s](%s)\n", c.Axis, curveFile(c))
	}
}

// power writes 1000000000 as 1e9.
func power(x float64) string {
	s := fmt.Sprintf("%.3g", x)
	return strings.Replace(strings.Replace(s, "e+0", "e", 1), "e+", "e", 1)
}
