package main

import (
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"mfac/shard"
)

func itoa(n int) string { return strconv.Itoa(n) }

// regionBytes is the size of G: several times any last-level cache of a small machine.
const regionBytes = 256 << 20

// kernelFigures hold the passes over G against reading its memory from end to end.
func kernelFigures() []figure {
	var out []figure
	for _, m := range []int{16, 64, 256, 1024} {
		for _, threads := range []int{1, 2} {
			for _, op := range []string{"dots", "combine"} {
				out = append(out, figure{
					name:  op + "/m=" + itoa(m) + "/threads=" + itoa(threads),
					what:  op + " over G in float32 with float64 sums, against a plain loop that reads as many bytes",
					setup: func() (func() (time.Duration, time.Duration, error), func(), error) { return passPair(op, m, threads) },
				})
			}
		}
	}
	return out
}

func passPair(op string, m, threads int) (func() (time.Duration, time.Duration, error), func(), error) {
	cols := int64(regionBytes / 4 / m)
	cfg := shard.Config{Slots: m, Cols: cols, Threads: threads}
	bytes, err := shard.Bytes(cfg)
	if err != nil {
		return nil, nil, err
	}
	region := make([]float32, bytes/4+16)
	for uintptr(unsafe.Pointer(&region[0]))%64 != 0 {
		region = region[1:]
	}
	region = region[:bytes/4]
	for i := range region {
		region[i] = float32(i%1000) / 1000
	}
	cfg.Region = unsafe.Slice((*byte)(unsafe.Pointer(&region[0])), bytes)
	store, err := shard.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	v, y, c := make([]float64, cols), make([]float64, m), make([]float64, m)
	for i := range v {
		v[i] = float64(i % 7)
	}
	for i := range c {
		c[i] = float64(i%5) + 1
	}
	mask := shard.FullMask(m)
	const part = 245760 // columns of a result are asked for in chunks
	dst := make([]float64, part)
	pass := func() error { return store.Dots(y, []shard.Vector{shard.Float64s(v)}, mask) }
	if op == "combine" {
		pass = func() error {
			for lo := int64(0); lo < cols; lo += part {
				hi := min(lo+part, cols)
				if err := store.Combine(dst[:hi-lo], c, mask, lo, hi); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return func() (ours, base time.Duration, err error) {
		base, _ = timed(func() error { readAll(region, threads); return nil })
		ours, err = timed(pass)
		return ours, base, err
	}, func() { runtime.KeepAlive(region) }, nil
}

// sink keeps the compiler from dropping the loops.
var sink atomic.Uint64

// readAll reads memory with as many goroutines, eight words at a time.
func readAll(p []float32, threads int) {
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&p[0])), len(p)/2)
	var wg sync.WaitGroup
	sums := make([]uint64, threads)
	for t := range threads {
		part := words[t*len(words)/threads : (t+1)*len(words)/threads]
		wg.Go(func() {
			var a, b, c, d uint64
			for len(part) >= 8 {
				q := (*[8]uint64)(part)
				a += q[0] + q[4]
				b += q[1] + q[5]
				c += q[2] + q[6]
				d += q[3] + q[7]
				part = part[8:]
			}
			sums[t] = a + b + c + d
		})
	}
	wg.Wait()
	for _, s := range sums {
		sink.Add(s)
	}
}
