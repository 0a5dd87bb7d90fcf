package main

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// loop reads memory from end to end and does as good as nothing with it.
type loop struct {
	name string
	read func(p []byte) uint64
}

// sink keeps the compiler from dropping the loops.
var sink atomic.Uint64

// readLoops are the plain ones that this CPU can run; those of the architecture come from
// vectorLoops.
func readLoops() []loop {
	return append([]loop{{"go", readGo}, {"go, eight words", readGo8}}, vectorLoops()...)
}

func words(p []byte) []uint64 { return unsafe.Slice((*uint64)(unsafe.Pointer(&p[0])), len(p)/8) }

func readGo(p []byte) uint64 {
	var sum uint64
	for _, w := range words(p) {
		sum += w
	}
	return sum
}

func readGo8(p []byte) uint64 {
	q := words(p)
	var a, b, c, d uint64
	for ; len(q) >= 8; q = q[8:] {
		w := (*[8]uint64)(q)
		a += w[0] + w[4]
		b += w[1] + w[5]
		c += w[2] + w[6]
		d += w[3] + w[7]
	}
	return a + b + c + d
}

// lineSplit is where part i of n of a region of so many bytes begins: at whole lines.
func lineSplit(bytes int64, i, n int) int64 { return bytes / 64 * int64(i) / int64(n) * 64 }

// readWith reads regions with as many goroutines.
func readWith(l loop, threads int, regions ...[]byte) {
	if threads == 1 {
		for _, p := range regions {
			sink.Add(l.read(p))
		}
		return
	}
	var wg sync.WaitGroup
	for t := range threads {
		wg.Go(func() {
			for _, p := range regions {
				if part := p[lineSplit(int64(len(p)), t, threads):lineSplit(int64(len(p)), t+1, threads)]; len(part) > 0 {
					sink.Add(l.read(part))
				}
			}
		})
	}
	wg.Wait()
}

// bestRead is the fastest of the read loops on so many threads, found once in a run.
func (e *env) bestRead(threads int, region []byte) loop {
	if l, ok := e.reads[threads]; ok {
		return l
	}
	var best loop
	var least time.Duration
	loops := readLoops()
	times := make([]time.Duration, len(loops))
	for rep := range 6 {
		for i, l := range loops {
			t := time.Now()
			readWith(l, threads, region)
			if d := time.Since(t); rep > 0 && (times[i] == 0 || d < times[i]) {
				times[i] = d
			}
		}
	}
	for i, l := range loops {
		if best.read == nil || times[i] < least {
			best, least = l, times[i]
		}
	}
	e.logf("bench: reading %d MiB on %d threads: %.1f GB/s by the loop %q, the fastest of %d", len(region)>>20, threads, float64(len(region))/least.Seconds()/1e9, best.name, len(loops))
	e.reads[threads] = best
	return best
}
