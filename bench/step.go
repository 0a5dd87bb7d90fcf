package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"mfac/coordinator/window"
	"mfac/shard"
	"mfac/shard/kernel"
)

// stepFigures hold a training step, publish and precondition as one, against what it can't do
// without, measured raw in the same run.
func stepFigures() []figure {
	var out []figure
	for _, c := range []struct {
		d int64
		m int
	}{{1_000_000, 32}, {1_000_000, 256}, {25_000_000, 32}} {
		name := fmt.Sprintf("step/d=%d/m=%d", c.d, c.m)
		out = append(out, figure{
			must: true,
			lines: []line{
				{name: name, atMost: 1.15, what: "publish and precondition as one step, to raw NATS up + a plain reading of G + raw NATS down + another reading, one after the other"},
				{name: name + "/passes", what: "the same, with our own passes in place of plain reading"},
				{name: name + "/apart", what: "publish, then H⁻¹ of that step, to the one step: what overlapping and one call gain"},
			},
			lacks: func(*env) string {
				if why := lacksCores(2); why != "" {
					return why
				}
				return lacksMemory(4*c.d*int64(c.m+12) + 2<<30)
			},
			setup: func(e *env) (sampler, error) {
				return withBed(e, busWorkers, func(b *bed) (sampler, error) { return stepSampler(b, c.d, c.m) })
			},
		})
	}
	return append(out, controlFigure())
}

func withBed(e *env, workers int, f func(*bed) (sampler, error)) (sampler, error) {
	b, err := newBed(e, workers)
	if err != nil {
		return sampler{}, err
	}
	s, err := f(b)
	if err != nil {
		b.close()
		return s, err
	}
	inner := s.close
	s.close = func() {
		if inner != nil {
			inner()
		}
		b.close()
	}
	return s, nil
}

func stepSampler(b *bed, d int64, m int) (sampler, error) {
	r, x, err := b.full("bench", d, m, busWorkers, 1e-3)
	if err != nil {
		return sampler{}, err
	}
	bus, err := b.busOf(4 * d)
	if err != nil {
		return sampler{}, err
	}
	// Reading is in proportion to the bytes: a region of fixed size stands for G.
	rows, err := newRows(shard.F32, m, min(d, b.e.regionBytes()/int64(4*m)/shard.TileCols*shard.TileCols))
	if err != nil {
		return sampler{}, err
	}
	scale := float64(d) / float64(rows.cols)
	store, err := rows.store(kernel.Best(), 2)
	if err != nil {
		rows.close()
		return sampler{}, err
	}
	plain := b.e.bestRead(2, rows.region)
	dst := make([]float32, d)
	// A short step is repeated, whatever the clock's grain and the scheduler's moods.
	reps := 1
	if d <= 1_000_000 {
		reps = 5
	}
	var parts [5][]float64 // up, read, down, dots, combine
	var ours busy
	train := func() error {
		step := b.next()
		_, err := r.Precondition(b.e.ctx, step, dst, x.row(uint64(step), d))
		return err
	}
	one := func() ([]float64, error) {
		if err := bus.measure(b); err != nil {
			return nil, err
		}
		read, _ := timed(func() error { readWith(plain, 2, rows.region); return nil })
		dots, err := timed(rows.dots(store))
		if err != nil {
			return nil, err
		}
		combine, err := timed(rows.combine(store))
		if err != nil {
			return nil, err
		}
		took, err := ours.timed(train)
		if err != nil {
			return nil, err
		}
		step := b.next()
		apart, err := timed(func() error {
			if _, err := r.Publish(b.e.ctx, step, x.row(uint64(step), d)); err != nil {
				return err
			}
			_, err := r.IHVPStep(b.e.ctx, dst, step)
			return err
		})
		if err != nil {
			return nil, err
		}
		v := []float64{bus.tUp.Seconds(), scale * read.Seconds(), bus.tDown.Seconds(), scale * dots.Seconds(), scale * combine.Seconds()}
		for i := range parts {
			parts[i] = append(parts[i], v[i])
		}
		return []float64{
			took.Seconds() / (v[0] + v[1] + v[2] + v[1]),
			took.Seconds() / (v[0] + v[3] + v[2] + v[4]),
			apart.Seconds() / took.Seconds(),
		}, nil
	}
	return sampler{
		sides: []side{
			{"raw-up", func() error { return b.rawMove(bus.n, bus.up, true) }}, {"raw-down", func() error { return b.rawMove(bus.n, bus.down, false) }},
			{"step", train},
		},
		run: func() ([]float64, error) {
			var all [3][]float64
			for range reps {
				v, err := one()
				if err != nil {
					return nil, err
				}
				for i := range all {
					all[i] = append(all[i], v[i])
				}
			}
			return []float64{median(all[0]), median(all[1]), median(all[2])}, nil
		},
		notes: func() []string {
			ms := func(i int) float64 { return 1e3 * median(parts[i]) }
			return []string{
				fmt.Sprintf("up %.3g ms, reading %.3g, down %.3g, reading %.3g; the step: %s", ms(0), ms(1), ms(2), ms(1), &ours),
				fmt.Sprintf("dots %.3g ms, combine %.3g", ms(3), ms(4)), "",
			}
		},
		close: rows.close,
	}, nil
}

// busRates are the times that the raw side takes for n bytes.
type busRates struct {
	n          int64
	up, down   int // chunk sizes
	tUp, tDown time.Duration
}

func (b *bed) busOf(n int64) (*busRates, error) {
	r := &busRates{n: n}
	var err error
	if r.up, err = b.bestSize(n, true); err == nil {
		r.down, err = b.bestSize(n, false)
	}
	return r, err
}

func (r *busRates) measure(b *bed) error {
	var err error
	if r.tUp, err = timed(func() error { return b.rawMove(r.n, r.up, true) }); err == nil {
		r.tDown, err = timed(func() error { return b.rawMove(r.n, r.down, false) })
	}
	return err
}

const (
	controlRows, controlShards = 1024, 4
	controlDim                 = 16 * controlShards
)

// controlFigure is what a step takes besides its bytes, its passes and the m×m algebra.
func controlFigure() figure {
	return figure{
		must: true,
		lines: []line{
			{
				name: fmt.Sprintf("control/m=%d/shards=%d", controlRows, controlShards), unit: "ms", atMost: 1,
				what: "a step of hardly any columns, less its chunks as raw NATS, its passes, its m×m algebra, and two raw scatter-gathers of the sizes of its control messages",
			},
		},
		setup: func(e *env) (sampler, error) { return withBed(e, busWorkers, controlSampler) },
	}
}

func controlSampler(b *bed) (sampler, error) {
	const m, shards, d = controlRows, controlShards, int64(controlDim)
	r, x, err := b.full("bench", d, m, shards, 1)
	if err != nil {
		return sampler{}, err
	}
	gather, err := newGatherer(b, shards)
	if err != nil {
		return sampler{}, err
	}
	algebra, err := newAlgebra(m)
	if err != nil {
		return sampler{}, err
	}
	rows, err := newRows(shard.F32, m, d/shards)
	if err != nil {
		return sampler{}, err
	}
	store, err := rows.store(kernel.Best(), 0)
	if err != nil {
		rows.close()
		return sampler{}, err
	}
	dots, combine := rows.dots(store), rows.combine(store)
	dst := make([]float32, d)
	const steps = 20
	each := func(f func() error) (float64, error) {
		t, err := timed(func() error {
			for range steps {
				if err := f(); err != nil {
					return err
				}
			}
			return nil
		})
		return 1e3 * t.Seconds() / steps, err
	}
	train := func() error {
		step := b.next()
		_, err := r.Precondition(b.e.ctx, step, dst, x.row(uint64(step), d))
		return err
	}
	var parts [6][]float64
	return sampler{
		sides: []side{{"step", train}},
		run: func() ([]float64, error) {
			var v [6]float64
			for i, f := range []func() error{
				train,
				func() error { // its chunks, a shard each
					if err := gather.round(4*int(d)/shards, 0); err != nil {
						return err
					}
					return gather.round(8, 4*int(d)/shards)
				},
				func() error {
					for range shards {
						if err := dots(); err != nil {
							return err
						}
						if err := combine(); err != nil {
							return err
						}
					}
					return nil
				},
				algebra.step,
				func() error { return gather.round(stageBytes, productBytes*m) },
				func() error { return gather.round(8*m, okBytes) },
			} {
				var err error
				if v[i], err = each(f); err != nil {
					return nil, err
				}
				parts[i] = append(parts[i], v[i])
			}
			return []float64{v[0] - v[1] - v[2] - v[3] - v[4] - v[5]}, nil
		},
		notes: func() []string {
			var med [6]float64
			for i := range med {
				med[i] = median(parts[i][warmups:])
			}
			return []string{fmt.Sprintf("step %.2f ms, chunks %.2f, passes %.2f, algebra %.2f, scatter-gathers %.2f and %.2f", med[0], med[1], med[2], med[3], med[4], med[5])}
		},
		close: rows.close,
	}, nil
}

// Sizes of control messages: a stage or an acknowledgement, and a product's entry.
const (
	stageBytes   = 200
	okBytes      = 40
	productBytes = 20
)

// gatherer does raw scatter-gathers: a request to each shard's worker, and all answers, as the
// coordinator does.
type gatherer struct {
	b      *bed
	shards int
	inbox  string
	got    chan struct{}
}

func newGatherer(b *bed, shards int) (*gatherer, error) {
	g := &gatherer{b: b, shards: shards, inbox: b.raw.NewInbox(), got: make(chan struct{}, shards)}
	sub, err := b.raw.Subscribe(g.inbox, func(*nats.Msg) { g.got <- struct{}{} })
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	for w := range b.workers {
		part := make([]byte, 1<<20)
		nc, err := b.connect(fmt.Sprintf("gather-w%d", w))
		if err != nil {
			return nil, err
		}
		b.stops = append(b.stops, nc.Close)
		if _, err := nc.Subscribe(fmt.Sprintf("gather.w%d.*", w), func(m *nats.Msg) {
			var n int
			if _, err := fmt.Sscanf(m.Subject, fmt.Sprintf("gather.w%d.%%d", w), &n); err == nil {
				_ = m.Respond(part[:n])
			}
		}); err != nil {
			return nil, err
		}
		if err := nc.Flush(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// round sends so many bytes to each shard and waits for so many from each.
func (g *gatherer) round(up, down int) error {
	data := g.b.e.bytes(up)
	for s := range g.shards {
		if err := g.b.raw.PublishRequest(fmt.Sprintf("gather.w%d.%d", s%g.b.workers, down), g.inbox, data); err != nil {
			return err
		}
	}
	timeout := time.NewTimer(rawTimeout)
	defer timeout.Stop()
	for range g.shards {
		select {
		case <-g.got:
		case <-timeout.C:
			return fmt.Errorf("no answer to a raw scatter-gather within %s", rawTimeout)
		}
	}
	return nil
}

// algebra is the m×m side of a training step, alone.
type algebra struct {
	w         *window.Window
	row, a, c []float64
}

func newAlgebra(m int) (*algebra, error) {
	w, err := window.New(m, 1, window.Capacity)
	if err != nil {
		return nil, err
	}
	packed := make([]float64, 0, m*(m+1)/2)
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range m {
		for range i {
			packed = append(packed, 0.3*(rng.Float64()-0.5))
		}
		packed = append(packed, 5)
	}
	if err := w.Load(packed, m); err != nil {
		return nil, err
	}
	a := &algebra{w: w, row: make([]float64, m), a: make([]float64, m), c: make([]float64, m)}
	for i := range m {
		a.row[i] = 0.3 * (rng.Float64() - 0.5)
	}
	a.row[m-1], a.a[m-1] = 5, 1
	return a, a.step()
}

// step replaces the oldest row and works out the coefficients of H⁻¹g and their bound.
func (a *algebra) step() error {
	if err := a.w.Replace(a.row); err != nil {
		return err
	}
	f, err := a.w.Factor(1, window.Capacity)
	if err != nil {
		return err
	}
	if err := f.CombinationTo(a.c, a.a); err != nil {
		return err
	}
	_, err = f.CombinationBoundOf(a.c)
	return err
}
