package main

import (
	"fmt"

	"mfac/wire"
)

const busWorkers = 2

// busFigures hold publishing and fetching against raw NATS requests of as many bytes, over the
// same server and as many workers.
func busFigures() []figure {
	var out []figure
	for _, d := range []int64{4_000_000, 25_000_000} {
		l := func(what, name string) line {
			l := line{
				name: fmt.Sprintf("%s/d=%d/m=8", name, d),
				what: what + ", against as many bytes as raw NATS requests, at their best chunk size and as many in flight",
			}
			if d == 25_000_000 {
				l.atLeast = 0.85
			}
			return l
		}
		out = append(out, figure{
			must: d == 25_000_000,
			lines: []line{
				l("a gradient published and committed", "publish"), l("H⁻¹ of a stored step computed and fetched", "fetch"),
				{name: fmt.Sprintf("publish/d=%d/m=8/touched", d), what: "the same, against raw NATS whose ends sum the bytes and copy them to where they stay"},
				{name: fmt.Sprintf("fetch/d=%d/m=8/touched", d), what: "the same"},
			},
			lacks: func(*env) string { return lacksMemory(90*d + 2<<30) },
			setup: func(e *env) (sampler, error) { return busPair(e, d) },
		})
	}
	return out
}

func busPair(e *env, d int64) (sampler, error) {
	b, err := newBed(e, busWorkers)
	if err != nil {
		return sampler{}, err
	}
	s, err := busSampler(b, d)
	if err != nil {
		b.close()
	}
	return s, err
}

func busSampler(b *bed, d int64) (sampler, error) {
	r, x, err := b.full("bench", d, 8, busWorkers, 1e-3)
	if err != nil {
		return sampler{}, err
	}
	var size [2]int
	var rate [2][]float64
	var raw, own [2]busy
	for i, up := range []bool{true, false} {
		if size[i], err = b.bestSize(4*d, up); err != nil {
			return sampler{}, err
		}
	}
	dst := make([]float32, d)
	touched, err := newTouched(b, 4*d)
	if err != nil {
		return sampler{}, err
	}
	publish := func() error { step := b.next(); _, err := r.Publish(b.e.ctx, step, x.row(uint64(step), d)); return err }
	fetch := func() error { _, err := r.IHVPStep(b.e.ctx, dst, wire.Step(b.used)); return err }
	up := func() error { return b.rawMove(4*d, size[0], true) }
	down := func() error { return b.rawMove(4*d, size[1], false) }
	return sampler{
		sides: []side{{"raw-up", up}, {"publish", publish}, {"raw-down", down}, {"fetch", fetch}},
		run: func() ([]float64, error) {
			out := make([]float64, 4)
			for i, of := range []struct{ raw, ours func() error }{{up, publish}, {down, fetch}} {
				base, err := raw[i].timed(of.raw)
				if err != nil {
					return nil, err
				}
				took, err := own[i].timed(of.ours)
				if err != nil {
					return nil, err
				}
				both, err := timed(func() error { return touched.move(size[i], i == 0) })
				if err != nil {
					return nil, err
				}
				out[i], out[2+i] = base.Seconds()/took.Seconds(), both.Seconds()/took.Seconds()
				rate[i] = append(rate[i], float64(4*d)/base.Seconds()/1e9)
			}
			return out, nil
		},
		notes: func() []string {
			var out []string
			for i := range size {
				out = append(out, fmt.Sprintf("raw: %.2f GB/s in chunks of %s, %s; ours: %s", median(rate[i][warmups:]), chunkName(size[i]), &raw[i], &own[i]))
			}
			return append(out, "", "")
		},
		close: b.close,
	}, nil
}
