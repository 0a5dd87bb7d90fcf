package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"mfac/shard/kernel"
)

// env is one run of the command: what the machine is, and what figures share.
type env struct {
	options
	ctx    context.Context
	stderr io.Writer
	runs   int
	began  time.Time

	llc   int64        // bytes of the last-level cache
	reads map[int]loop // the fastest plain read loop of so many threads, once known
	rows  *rowsBed     // the last one
	gemv  *gemvBed     // the last one
	py    *python      // nil: not started yet, or not to be had
	pyErr error        // why not
	tried bool         // to start it

	profileTime time.Duration // for which --profile repeats a side
	junk        []byte
}

func newEnv(ctx context.Context, o options, stderr io.Writer) *env {
	e := &env{options: o, ctx: ctx, stderr: stderr, runs: o.runs, began: time.Now(), profileTime: profileTime, llc: lastLevelCache(), reads: map[int]loop{}}
	if e.runs == 0 {
		e.runs = 11
		if o.quick {
			e.runs = 5
		}
	}
	e.logf("bench: %s, %d cores, last-level cache %d MiB, kernels %s", cpuModel(), runtime.NumCPU(), e.llc>>20, strings.Join(kernelNames(), " "))
	return e
}

func (e *env) logf(format string, args ...any) { fmt.Fprintf(e.stderr, format+"\n", args...) }

func (e *env) close() {
	e.dropBeds()
	if e.py != nil {
		e.py.close()
	}
	e.logf("bench: took %s", time.Since(e.began).Round(time.Second))
}

// dropBeds gives back the memory of what figures share, before others need it.
func (e *env) dropBeds() {
	if e.rows != nil {
		e.rows.close()
		e.rows = nil
	}
	if e.gemv != nil {
		e.gemv.close()
		e.gemv = nil
	}
}

// regionBytes is the size of G where a figure is about memory: four times the last-level cache.
func (e *env) regionBytes() int64 { return max(4*e.llc, 128<<20) }

// kernelNames are the variants that this CPU runs.
func kernelNames() []string {
	var names []string
	for _, v := range kernel.Variants() {
		names = append(names, v.Name())
	}
	return names
}

// lacksKernel says why a variant can't be measured, "" if it can.
func lacksKernel(name string) string {
	if _, err := kernel.ByName(name); err != nil {
		return "the CPU or this build has no kernel " + name
	}
	return ""
}

// lacksCores says why so many threads can't be measured.
func lacksCores(n int) string {
	if runtime.NumCPU() < n || runtime.GOMAXPROCS(0) < n {
		return fmt.Sprintf("fewer than %d cores", n)
	}
	return ""
}

// lastLevelCache is as Linux says, or 32 MiB.
func lastLevelCache() int64 {
	var most int64
	for i := range 8 {
		p, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu0/cache/index%d/size", i))
		if err != nil {
			break
		}
		most = max(most, cacheSize(string(p)))
	}
	if most == 0 {
		return 32 << 20
	}
	return most
}

// cacheSize reads "32768K"; 0 where it can't.
func cacheSize(s string) int64 {
	s = strings.TrimSpace(s)
	unit := int64(1)
	switch {
	case strings.HasSuffix(s, "K"):
		unit, s = 1<<10, strings.TrimSuffix(s, "K")
	case strings.HasSuffix(s, "M"):
		unit, s = 1<<20, strings.TrimSuffix(s, "M")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n * unit
}

// cpuModel is the processor's name as Linux says it.
func cpuModel() string {
	p, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for l := range strings.Lines(string(p)) {
			if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

// availableMemory is the bytes that Linux says can be had, 0 where it doesn't.
func availableMemory() int64 {
	p, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(p)) {
		if rest, ok := strings.CutPrefix(l, "MemAvailable:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// lacksMemory says why a figure that needs so many bytes can't be measured.
func lacksMemory(need int64) string {
	if have := availableMemory(); have != 0 && have < need {
		return fmt.Sprintf("%.1f GiB of memory free, %.1f needed", float64(have)/(1<<30), float64(need)/(1<<30))
	}
	return ""
}
