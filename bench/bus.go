package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"mfac/client"
	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/wire"
	"mfac/worker"
)

const (
	busWorkers = 2
	chunkBytes = 245760 * 4 // as the client cuts float32 columns
	inFlight   = 4          // raw requests at a time, at each worker
)

// busFigures hold publishing and fetching against raw NATS requests of as many bytes, over the
// same kind of server and as many workers.
func busFigures() []figure {
	return []figure{
		{
			name: "publish/d=4000000/m=8", what: "a gradient published and committed, against its chunks as raw NATS requests, 4 in flight a worker",
			setup: func() (func() (time.Duration, time.Duration, error), func(), error) { return busPair(4_000_000, true) },
		},
		{
			name: "fetch/d=4000000/m=8", what: "H⁻¹ of a stored step computed and fetched, against as many bytes as raw NATS answers, 4 in flight a worker",
			setup: func() (func() (time.Duration, time.Duration, error), func(), error) { return busPair(4_000_000, false) },
		},
		{
			name: "step/d=1000/m=8", what: "publish and precondition of 1,000 columns on 4 shards, against ten raw NATS requests one after the other",
			setup: stepPair,
		},
	}
}

// bed is a server, services and a client, all in this process over loopback.
type bed struct {
	server *natsx.Server
	client *client.Client
	raw    *nats.Conn
	stops  []func()
}

func newBed(ctx context.Context) (b *bed, err error) {
	b = &bed{}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.server, err = natsx.Embedded(natsx.EmbeddedOptions{}); err != nil {
		return b, err
	}
	stop := func(nc *nats.Conn, s interface{ Stop(context.Context) error }) {
		b.stops = append(b.stops, func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = s.Stop(ctx)
			nc.Close()
		})
	}
	connect := func(name string) (*nats.Conn, error) {
		return natsx.Connect(ctx, natsx.Options{URL: b.server.URL(), Name: name})
	}
	for i := range busWorkers {
		id := fmt.Sprintf("w%d", i)
		nc, err := connect(id)
		if err != nil {
			return b, err
		}
		s, err := worker.Serve(ctx, nc, worker.ServiceConfig{ID: id, Tenant: "default", Capacity: 4 << 30})
		if err != nil {
			return b, err
		}
		stop(nc, s)
		// The raw peer of a worker: it acknowledges bytes, or answers with some.
		peer, err := connect("raw-" + id)
		if err != nil {
			return b, err
		}
		part := make([]byte, chunkBytes)
		if _, err := peer.Subscribe("raw."+id, func(m *nats.Msg) {
			answer := part
			if len(m.Data) > 0 {
				answer = nil
			}
			_ = m.Respond(answer) // who asked runs into its timeout
		}); err != nil {
			return b, err
		}
		b.stops = append(b.stops, peer.Close)
	}
	nc, err := connect("c0")
	if err != nil {
		return b, err
	}
	s, err := coordinator.Serve(ctx, nc, coordinator.ServiceConfig{Name: "c0", Tenant: "default"})
	if err != nil {
		return b, err
	}
	stop(nc, s)
	if b.raw, err = connect("raw"); err != nil {
		return b, err
	}
	b.client, err = client.Connect(ctx, b.server.URL())
	return b, err
}

func (b *bed) close() {
	if b.client != nil {
		b.client.Close()
	}
	if b.raw != nil {
		b.raw.Close()
	}
	for _, f := range b.stops {
		f()
	}
	if b.server != nil {
		b.server.Shutdown()
	}
}

// rawBytes moves n bytes as raw requests, up or down, to all workers at once.
func (b *bed) rawBytes(n int64, up bool) error {
	chunks := (n/busWorkers + chunkBytes - 1) / chunkBytes
	var data []byte
	if up {
		data = make([]byte, chunkBytes)
	}
	var wg sync.WaitGroup
	errs := make(chan error, busWorkers*inFlight)
	for w := range busWorkers {
		todo := make(chan struct{}, chunks)
		for range chunks {
			todo <- struct{}{}
		}
		close(todo)
		for range inFlight {
			wg.Go(func() {
				for range todo {
					if _, err := b.raw.Request(fmt.Sprintf("raw.w%d", w), data, 10*time.Second); err != nil {
						errs <- err
						return
					}
				}
			})
		}
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// run makes a run whose window is full.
func (b *bed) run(ctx context.Context, d int64, shards int) (*client.Run, []float32, error) {
	r, err := b.client.Attach(ctx, client.RunConfig{Name: "bench", Dim: d, Window: 8, Damping: 1e-3, Shards: shards})
	if err != nil {
		return nil, nil, err
	}
	g := make([]float32, d)
	for step := range 8 {
		randomize(g)
		if _, err := r.Publish(ctx, wire.Step(step), g); err != nil {
			return nil, nil, err
		}
	}
	return r, g, nil
}

func randomize(g []float32) {
	for i := range g {
		g[i] = rand.Float32() - 0.5
	}
}

func busPair(d int64, up bool) (func() (time.Duration, time.Duration, error), func(), error) {
	ctx := context.Background()
	b, err := newBed(ctx)
	if err != nil {
		return nil, nil, err
	}
	r, g, err := b.run(ctx, d, busWorkers)
	if err != nil {
		b.close()
		return nil, nil, err
	}
	step := wire.Step(100)
	dst := make([]float32, d)
	return func() (ours, base time.Duration, err error) {
		if base, err = timed(func() error { return b.rawBytes(4*d, up) }); err != nil {
			return 0, 0, err
		}
		step++
		randomize(g)
		if up {
			ours, err = timed(func() error { _, err := r.Publish(ctx, step, g); return err })
			return ours, base, err
		}
		ours, err = timed(func() error { _, err := r.IHVPStep(ctx, dst, 7); return err })
		return ours, base, err
	}, b.close, nil
}

func stepPair() (func() (time.Duration, time.Duration, error), func(), error) {
	const d, steps = 1000, 50
	ctx := context.Background()
	b, err := newBed(ctx)
	if err != nil {
		return nil, nil, err
	}
	r, g, err := b.run(ctx, d, 4)
	if err != nil {
		b.close()
		return nil, nil, err
	}
	step := wire.Step(100)
	dst := make([]float32, d)
	one := []byte{1}
	return func() (ours, base time.Duration, err error) {
		base, err = timed(func() error {
			for range 10 * steps {
				if _, err := b.raw.Request("raw.w0", one, time.Second); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, 0, err
		}
		randomize(g)
		ours, err = timed(func() error {
			for range steps {
				step++
				if _, err := r.Precondition(ctx, step, dst, g); err != nil {
					return err
				}
			}
			return nil
		})
		return ours, base, err
	}, b.close, nil
}
