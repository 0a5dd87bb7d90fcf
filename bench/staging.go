package main

import (
	"fmt"
	"time"

	"mfac/shard"
	"mfac/shard/kernel"
)

// copier copies memory; src and dst have the same length, a multiple of a line.
type copier struct {
	name string
	copy func(dst, src []byte)
}

// stagingFigures hold writing a row into the store against copying its bytes to one place.
func stagingFigures() []figure {
	var out []figure
	for _, dtype := range []shard.DType{shard.F32, shard.BF16, shard.F16} {
		asked := 0.0
		if dtype == shard.F32 {
			asked = 0.70
		}
		out = append(out, figure{
			must: dtype == shard.F32, runs: 9,
			lines: one(line{
				name:    "stage/" + dtype.String(),
				what:    fmt.Sprintf("rows of float32 written into a store of %s chunk by chunk, against a sequential non-temporal copy of the float32 bytes, one thread", dtype),
				atLeast: asked,
			}),
			lacks: func(*env) string {
				if len(streamCopies()) == 0 {
					return "no non-temporal stores here"
				}
				return ""
			},
			setup: func(e *env) (sampler, error) { return stagingPair(e, dtype) },
		})
	}
	return out
}

func stagingPair(e *env, dtype shard.DType) (sampler, error) {
	const m = 64
	bed, err := e.rowsOf(dtype, m, 0)
	if err != nil {
		return sampler{}, err
	}
	store, err := bed.store(kernel.Best(), 1)
	if err != nil {
		return sampler{}, err
	}
	// Both write all rows once, so that nothing written is still in a cache.
	to, err := mapRegion(4 * bed.cols * m)
	if err != nil {
		return sampler{}, err
	}
	clear(to)
	plain := func(c copier) time.Duration {
		d, _ := timed(func() error {
			for t := range m {
				c.copy(to[4*bed.cols*int64(t):][:4*bed.cols], bed.row(t))
			}
			return nil
		})
		return d
	}
	var best copier
	var least time.Duration
	for _, c := range streamCopies() {
		plain(c)
		if d := plain(c); best.copy == nil || d < least {
			best, least = c, d
		}
	}
	p := pair(func() (ours, base time.Duration, err error) {
		base = plain(best)
		ours, err = timed(func() error {
			for t := range m {
				row := bed.row(t)
				for lo := int64(0); lo < bed.cols; lo += partCols {
					if err := store.Write(t, lo, row[4*lo:4*min(lo+partCols, bed.cols)], shard.F32); err != nil {
						return err
					}
				}
			}
			return nil
		})
		return ours, base, err
	}, func() { unmapRegion(to) })
	p.notes = func() []string { return []string{"copy with " + best.name} }
	return p, nil
}
