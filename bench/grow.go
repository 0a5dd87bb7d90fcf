package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"mfac/client"
	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/wire"
)

type growOptions struct {
	most   float64
	budget time.Duration
}

// grown are the curves of step time, as kept in bench/results/grow.json.
type grown struct {
	Machine string  `json:"machine"`
	Inputs  inputs  `json:"inputs"`
	Curves  []curve `json:"curves"`
}

// curve is step time against one size, the others fixed.
type curve struct {
	Axis   string  `json:"axis"`
	Fixed  string  `json:"fixed"`
	Points []point `json:"points"`
}

// point is a step time measured, in seconds, and what the model says. Reason says why there is none.
type point struct {
	Load     load    `json:"load"`
	X        float64 `json:"x"`
	Measured float64 `json:"measured"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Model    float64 `json:"model"`
	Runs     int     `json:"runs"`
	Reason   string  `json:"reason,omitempty"`
}

const (
	growPoint = 3 * time.Second // of steps at each point
	growLeast = 5               // steps
)

// axes are the curves to measure.
func axes(most float64) []curve {
	base := load{Shards: 2, Workers: busWorkers, Clients: 1, Machines: 1, Servers: 1, Store: 4, Wire: 4}
	along := func(axis, fixed string, start load, set func(*load, float64), list ...float64) curve {
		c := curve{Axis: axis, Fixed: fixed}
		for i, x := range list {
			if i > 0 && x > most*list[len(list)-1] {
				break
			}
			l := start
			set(&l, x)
			c.Points = append(c.Points, point{Load: l, X: x})
		}
		return c
	}
	with := func(d float64, m, shards int) load {
		l := base
		l.D, l.M, l.Shards = d, m, shards
		return l
	}
	return []curve{
		along("d", "m = 8, 2 shards, 2 workers, 1 client", with(0, 8, 2), func(l *load, x float64) { l.D = x }, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8),
		along("m", "d = 1e5, 2 shards, 2 workers, 1 client", with(1e5, 0, 2), func(l *load, x float64) { l.M = int(x) }, 8, 32, 128, 512, 2048),
		along("shards", "d = 1e6, m = 32, 2 workers, 1 client", with(1e6, 32, 0), func(l *load, x float64) { l.Shards = int(x) }, 1, 2, 4, 8, 16, 32, 64),
		along("workers", "d = 4e6, m = 32, 12 shards, 1 client", with(4e6, 32, 12), func(l *load, x float64) { l.Workers = int(x) }, 1, 2, 3, 4),
		along("clients", "d = 4e6, m = 32, 4 shards, 2 workers, each client the publisher of its columns", with(4e6, 32, 4), func(l *load, x float64) { l.Clients = int(x) }, 1, 2, 4, 8, 16),
	}
}

// grow measures the curves and keeps them.
func grow(e *env, stdout io.Writer) error {
	in, err := measureInputs(e)
	if err != nil {
		return fmt.Errorf("inputs of the model: %w", err)
	}
	g := grown{Machine: machineName(), Inputs: in, Curves: axes(e.options.grow.most)}
	until := time.Now().Add(e.options.grow.budget)
	for _, c := range g.Curves {
		for i := range c.Points {
			p := &c.Points[i]
			p.Model = predict(in, p.Load).total()
			if time.Now().After(until) {
				p.Reason = fmt.Sprintf("the curves' %s were over", e.options.grow.budget)
			} else if p.Reason = lacksMemory(int64(p.Load.D*4*float64(p.Load.M+12)) + 2<<30); p.Reason == "" {
				if err := measurePoint(e, p); err != nil {
					return fmt.Errorf("%s = %g: %w", c.Axis, p.X, err)
				}
			}
			e.logf("%-8s %8.3g  %s, model %s  %s", c.Axis, p.X, siSeconds(p.Measured), siSeconds(p.Model), p.Reason)
		}
	}
	if e.options.grow.most < 1 {
		p, err := marshal(g)
		if err == nil {
			_, err = stdout.Write(p)
		}
		return err
	}
	if err := save("grow", g); err != nil {
		return err
	}
	return writePages()
}

// measurePoint times steps of a full window.
func measurePoint(e *env, p *point) error {
	b, err := newBed(e, p.Load.Workers)
	if err != nil {
		return err
	}
	defer b.close()
	d := int64(p.Load.D)
	r, x, err := b.full("grow", d, p.Load.M, p.Load.Shards, 1e-2)
	if err != nil {
		return err
	}
	ranks, stop, err := b.ranks(r, p.Load.Clients)
	if err != nil {
		return err
	}
	defer stop()
	dst := make([]float32, d)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var steps []float64
	for began := time.Now(); len(steps) < warmups+growLeast || time.Since(began) < growPoint && len(steps) < 200; {
		if len(steps)%8 == 0 || d > 1_000_000 {
			runtime.GC()
		}
		step := b.next()
		t, err := timed(func() error { return preconditionTogether(e.ctx, ranks, step, dst, x.row(uint64(step), d)) })
		if err != nil {
			return err
		}
		steps = append(steps, t.Seconds())
	}
	p.Low, p.Measured, p.High = spread(steps[warmups:])
	p.Runs = len(steps) - warmups
	return nil
}

// ranks are as many clients of a run, the first one r itself.
func (b *bed) ranks(r *client.Run, n int) ([]*client.Run, func(), error) {
	ranks := []*client.Run{r}
	var clients []*client.Client
	stop := func() {
		for _, c := range clients {
			c.Close()
		}
	}
	for range n - 1 {
		c, err := client.Connect(b.e.ctx, b.server.URL())
		if err != nil {
			stop()
			return nil, nil, err
		}
		clients = append(clients, c)
		rank, err := c.Join(b.e.ctx, r.Spec().Name)
		if err != nil {
			stop()
			return nil, nil, err
		}
		ranks = append(ranks, rank)
	}
	return ranks, stop, nil
}

// preconditionTogether is a step that each rank publishes and fetches its columns of.
func preconditionTogether(ctx context.Context, ranks []*client.Run, step wire.Step, dst, g []float32) error {
	if len(ranks) == 1 {
		_, err := ranks[0].Precondition(ctx, step, dst, g)
		return err
	}
	errs := make([]error, len(ranks))
	var wg sync.WaitGroup
	for i, r := range ranks {
		lo, hi := len(g)*i/len(ranks), len(g)*(i+1)/len(ranks)
		wg.Go(func() { _, errs[i] = r.PreconditionColumns(ctx, step, int64(lo), dst[lo:hi], g[lo:hi]) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// measureInputs are the model's, of this machine: raw rates, and two tiny runs for what a step and
// a shard cost by themselves.
func measureInputs(e *env) (inputs, error) {
	var in inputs
	threads := min(2, runtime.NumCPU())
	rows, err := newRows(shard.F32, 64, e.regionBytes()/(4*64)/shard.TileCols*shard.TileCols)
	if err != nil {
		return in, err
	}
	store, err := rows.store(kernel.Best(), threads)
	if err != nil {
		rows.close()
		return in, err
	}
	plain := e.bestRead(threads, rows.region)
	var reads, passes []float64
	dots, combine := rows.dots(store), rows.combine(store)
	for i := range 7 {
		t, _ := timed(func() error { readWith(plain, threads, rows.region); return nil })
		var both float64
		for _, f := range []func() error{dots, combine} {
			d, err := timed(f)
			if err != nil {
				rows.close()
				return in, err
			}
			both += d.Seconds()
		}
		if i > 0 {
			reads, passes = append(reads, t.Seconds()), append(passes, both/2)
		}
	}
	rows.close()
	in.Memory = float64(len(rows.region)) / median(reads)
	in.Share = median(reads) / median(passes)

	const algebraRows = 1024
	alg, err := newAlgebra(algebraRows)
	if err != nil {
		return in, err
	}
	var times []float64
	for range 7 {
		t, err := timed(alg.step)
		if err != nil {
			return in, err
		}
		times = append(times, t.Seconds())
	}
	in.Algebra = median(times) / algebraRows / algebraRows

	b, err := newBed(e, busWorkers)
	if err != nil {
		return in, err
	}
	const moved = 64 << 20
	bus, err := b.busOf(moved)
	var up, down []float64
	for i := 0; i < 7 && err == nil; i++ {
		if err = bus.measure(b); err == nil {
			up, down = append(up, bus.tUp.Seconds()), append(down, bus.tDown.Seconds())
		}
	}
	b.close()
	if err != nil {
		return in, err
	}
	in.UpRate, in.DownRate = moved/median(up), moved/median(down)

	var tiny [2]float64
	for i, shards := range []int{1, 64} {
		p := point{Load: load{D: 1024, M: 8, Shards: shards, Workers: busWorkers, Clients: 1}}
		if err := measurePoint(e, &p); err != nil {
			return in, err
		}
		tiny[i] = p.Measured
	}
	in.Shard = max(0, (tiny[1]-tiny[0])/63/2)
	in.Round = max(0, tiny[0]-2*in.Shard)
	e.logf("bench: memory %s/s, passes reach %.2f of it, bus %s/s up and %s/s down, a step %s, a shard %s a scatter-gather, algebra %s at m = 1024",
		siBytes(in.Memory), in.Share, siBytes(in.UpRate), siBytes(in.DownRate), siSeconds(in.Round), siSeconds(in.Shard), siSeconds(in.Algebra*algebraRows*algebraRows))
	return in, nil
}

func machineName() string {
	return fmt.Sprintf("%s, %d cores, %s/%s, %s", cpuModel(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
