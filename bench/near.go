package main

import (
	"fmt"
	"time"

	"mfac/shard"
	"mfac/shard/kernel"
)

// nearFigures hold what the kernels do with a panel that lies in the first cache, where memory is no
// limit, against a loop that makes numbers float64, multiplies and adds them, and does nothing else:
// the roofline of what is computed.
func nearFigures() []figure {
	var out []figure
	for _, dtype := range []shard.DType{shard.F32, shard.F16, shard.BF16} {
		for _, op := range []string{"dots", "combine"} {
			out = append(out, figure{
				lines: one(line{
					name: fmt.Sprintf("near/%s/%s", op, dtype),
					what: fmt.Sprintf("%s of a panel in %s in the first cache, with its vector or result in float32, kernel avx512, one thread, against a loop that converts, multiplies and adds alone", op, dtype),
				}),
				lacks: func(*env) string { return lacksKernel("avx512") },
				setup: func(*env) (sampler, error) { return nearPair(op, dtype) },
			})
		}
	}
	return out
}

const (
	nearSlots = kernel.PanelSlots
	nearPanel = 16 << 10 // bytes; with its vector or result in float64 and float32 far from filling the first cache
	nearTime  = 2 * time.Millisecond
)

func nearPair(op string, dtype shard.DType) (sampler, error) {
	k, err := kernel.ByName("avx512")
	if err != nil {
		return sampler{}, err
	}
	cols := nearPanel / nearSlots / dtype.Size()
	region, err := mapRegion(int64(nearPanel + 4*cols))
	if err != nil {
		return sampler{}, err
	}
	rows, x := region[:nearPanel], region[nearPanel:][:4*cols]
	for i := range rows {
		rows[i] = byte(i) & 0x3f // small positive numbers in every dtype
	}
	g := kernel.Tiles{G: rows, DType: dtype, Slots: nearSlots, Lines: cols / dtype.LineCols(), N: 1, Stride: nearPanel, Near: true}
	if dtype == shard.F16 {
		g.Exp = make([]int16, nearSlots)
	}
	var w kernel.Scratch
	y, mask := make([]float64, nearSlots), []byte{1<<nearSlots - 1}
	pass := func() bool { return k.DotsTiles(&w, y, g, x, mask) }
	if op == "combine" {
		pass = func() bool { done, _ := k.CombineTiles(&w, x, g, y, mask, nil, 0); return done }
	}
	once, _ := timed(func() error { converts[dtype](&rows[0], nearPanel); return nil })
	reps := repeat(once, nearTime)
	loop := func() error {
		for range reps {
			converts[dtype](&rows[0], nearPanel)
		}
		return nil
	}
	own := func() error {
		for range reps {
			if !pass() {
				return fmt.Errorf("kernel %s has no %s of tiles in %s", k.Name(), op, dtype)
			}
		}
		return nil
	}
	var rate []float64
	return sampler{
		sides: []side{{"ours", own}, {"loop", loop}},
		run: func() ([]float64, error) {
			base, _ := timed(loop)
			ours, err := timed(own)
			rate = append(rate, float64(reps*nearPanel)/base.Seconds()/1e9)
			return []float64{base.Seconds() / ours.Seconds()}, err
		},
		notes: func() []string { return []string{fmt.Sprintf("the loop: %.0f GB/s", median(rate[warmups:]))} },
		close: func() { unmapRegion(region) },
	}, nil
}
