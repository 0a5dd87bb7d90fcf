package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/pprof/profile"
)

// side is one of the works that a figure compares, where this process does it.
type side struct {
	name string // a file's, too
	run  func() error
}

// profileTime is how long a side is repeated under the profiler, which looks a hundred times a second
// at what each busy core does.
const profileTime = 5 * time.Second

// mostGarbage is how much a side leaves behind before the collector runs.
const mostGarbage = 1 << 30

// profileAll writes a CPU profile of each side of the figures that the user asked for, to be read with
// go tool pprof, and prints what kinds of work they are.
func profileAll(e *env, all []figure, stdout io.Writer) error {
	if err := os.MkdirAll(e.profile, 0o755); err != nil {
		return err
	}
	found := false
	for _, f := range all {
		if !slices.ContainsFunc(f.lines, func(l line) bool { return strings.HasPrefix(l.name, e.only) }) {
			continue
		}
		if err := e.ctx.Err(); err != nil {
			return err
		}
		columns, err := profileFigure(e, f)
		if err == nil && len(columns) > 0 {
			found = true
			err = writeProfile(stdout, f.lines[0].name, columns)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.lines[0].name, err)
		}
	}
	if !found {
		return fmt.Errorf("of no figure whose name begins with %q is there a profile", e.only)
	}
	return nil
}

func profileFigure(e *env, f figure) ([]profiled, error) {
	name := f.lines[0].name
	if f.lacks != nil {
		if why := f.lacks(e); why != "" {
			e.logf("bench: %s: %s: %s", name, notHere, why)
			return nil, nil
		}
	}
	s, err := f.setup(e)
	if err != nil {
		return nil, err
	}
	if s.close != nil {
		defer s.close()
	}
	var columns []profiled
	if s.sides == nil {
		s.sides = []side{{"both", func() error { _, err := s.run(); return err }}}
	}
	for _, side := range s.sides {
		p, err := profileSide(side, e.profileTime)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(e.profile, strings.ReplaceAll(name+"/"+side.name, "/", "_")+".pprof")
		if err := os.WriteFile(file, p.raw, 0o644); err != nil {
			return nil, err
		}
		e.logf("bench: %s", file)
		columns = append(columns, p)
	}
	return columns, nil
}

// profiled is what a side takes, each time.
type profiled struct {
	name  string
	raw   []byte             // the profile
	kinds map[string]float64 // core-seconds
	cores float64            // the same in all, as the system counts
	took  float64            // seconds by the clock
}

// profileSide repeats a side under the profiler. The collector runs between, seldom, and is none of its kinds.
func profileSide(s side, d time.Duration) (profiled, error) {
	out := profiled{name: s.name, kinds: map[string]float64{}}
	for range warmups {
		if err := s.run(); err != nil {
			return out, err
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	most := heap() + mostGarbage
	var raw bytes.Buffer
	if err := pprof.StartCPUProfile(&raw); err != nil {
		return out, err
	}
	times := 0
	var spent busy
	for began := time.Now(); time.Since(began) < d; {
		if heap() > most {
			runtime.GC()
		}
		if _, err := spent.timed(func() error {
			for began := time.Now(); time.Since(began) < leastTime; times++ { // short work more than once
				if err := s.run(); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			pprof.StopCPUProfile()
			return out, err
		}
	}
	pprof.StopCPUProfile()
	p, err := profile.ParseData(raw.Bytes())
	if err != nil {
		return out, err
	}
	each := func(x float64) float64 { return x / float64(times) }
	for _, x := range p.Sample {
		if kind := kindOf(stack(x)); kind != "" {
			out.kinds[kind] += each(1e-9 * float64(x.Value[len(x.Value)-1]))
		}
	}
	for i := range spent.took {
		out.took, out.cores = out.took+each(spent.took[i]), out.cores+each(spent.cores[i])
	}
	out.raw = raw.Bytes()
	return out, nil
}

// heap is the bytes in use, garbage among them.
func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// stack is the functions of a sample, the one that was running first.
func stack(x *profile.Sample) []string {
	var names []string
	for _, l := range x.Location {
		for _, in := range l.Line {
			names = append(names, in.Function.Name)
		}
	}
	return names
}

// writeProfile prints the kinds in milliseconds, what takes most first.
func writeProfile(w io.Writer, name string, columns []profiled) error {
	total := map[string]float64{}
	for _, c := range columns {
		for k, x := range c.kinds {
			total[k] += x
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what string, f func(profiled) float64) {
		fmt.Fprint(t, what)
		for _, c := range columns {
			fmt.Fprintf(t, "\t%.3g", 1e3*f(c))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintf(t, "%s, core-ms each time", name)
	for _, c := range columns {
		fmt.Fprintf(t, "\t%s", c.name)
	}
	fmt.Fprintln(t)
	for _, k := range slices.SortedFunc(maps.Keys(total), func(a, b string) int {
		return cmp.Or(cmp.Compare(total[b], total[a]), cmp.Compare(a, b))
	}) {
		row(k, func(p profiled) float64 { return p.kinds[k] })
	}
	row("in all", func(p profiled) float64 {
		all := 0.0
		for _, x := range p.kinds {
			all += x
		}
		return all
	})
	row("in all, as the system counts", func(p profiled) float64 { return p.cores })
	row("by the clock, ms", func(p profiled) float64 { return p.took })
	return t.Flush()
}
