package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"mfac/client"
	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/wire"
	"mfac/worker"
)

// bed is a NATS server, a coordinator, workers and clients, all in this process over loopback. So
// our side pays for server, client, coordinator and workers alike, and the raw side for server,
// client and peers.
type bed struct {
	e       *env
	server  *natsx.Server
	workers int
	client  *client.Client
	raw     *nats.Conn
	stops   []func()
	used    uint64 // steps so far
}

const (
	rawInFlight = 8         // raw requests at each worker, as many as the credit gives our client …
	rawBytes    = 24 << 20  // … of at most so many bytes
	bedPayload  = 8<<20 + 1 // of the server; our chunks stay under wire.MaxPayload
)

// rawSizes are the chunk sizes of which the raw side takes its best.
var rawSizes = []int{256 << 10, partCols * 4, 4 << 20, 8 << 20}

func newBed(e *env, workers int) (b *bed, err error) {
	e.dropBeds()
	defer debug.FreeOSMemory()
	ctx := e.ctx
	b = &bed{e: e, workers: workers}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.server, err = natsx.Embedded(natsx.EmbeddedOptions{MaxPayload: bedPayload, Configure: func(o *server.Options) { o.MaxPending = 256 << 20 }}); err != nil {
		return b, err
	}
	for i := range workers {
		id := fmt.Sprintf("w%d", i)
		nc, err := b.connect(id)
		if err != nil {
			return b, err
		}
		s, err := worker.Serve(ctx, nc, worker.ServiceConfig{ID: id, Tenant: "default", Capacity: 20 << 30})
		if err != nil {
			nc.Close()
			return b, err
		}
		b.stop(nc, s)
		if err := b.peer(id); err != nil {
			return b, err
		}
	}
	nc, err := b.connect("c0")
	if err != nil {
		return b, err
	}
	s, err := coordinator.Serve(ctx, nc, coordinator.ServiceConfig{Name: "c0", Tenant: "default"})
	if err != nil {
		nc.Close()
		return b, err
	}
	b.stop(nc, s)
	if b.raw, err = b.connect("raw"); err != nil {
		return b, err
	}
	if b.client, err = client.Connect(ctx, b.server.URL()); err != nil {
		return b, err
	}
	return b, b.await()
}

// await waits until the coordinator has heard of all workers.
func (b *bed) await() error {
	for range 500 {
		heard, err := b.client.Workers(b.e.ctx)
		if err != nil || len(heard) == b.workers {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the coordinator has not heard of %d workers", b.workers)
}

func (b *bed) connect(name string) (*nats.Conn, error) {
	return natsx.Connect(b.e.ctx, natsx.Options{URL: b.server.URL(), Name: name})
}

func (b *bed) stop(nc *nats.Conn, s interface{ Stop(context.Context) error }) {
	b.stops = append(b.stops, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
		nc.Close()
	})
}

// peer is the raw side's worker: it acknowledges bytes, and answers a request of eight bytes with
// as many as they say.
func (b *bed) peer(id string) error {
	nc, err := b.connect("raw-" + id)
	if err != nil {
		return err
	}
	b.stops = append(b.stops, nc.Close)
	part := make([]byte, bedPayload)
	up, err := nc.Subscribe("raw.up."+id, func(m *nats.Msg) {
		_ = m.Respond(nil) // who asked runs into its timeout
	})
	if err != nil {
		return err
	}
	down, err := nc.Subscribe("raw.down."+id, func(m *nats.Msg) {
		_ = m.Respond(part[:binary.LittleEndian.Uint64(m.Data)])
	})
	if err != nil {
		return err
	}
	for _, s := range []*nats.Subscription{up, down} {
		if err := s.SetPendingLimits(-1, -1); err != nil {
			return err
		}
	}
	return nc.Flush()
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
	debug.FreeOSMemory()
}

const rawTimeout = 20 * time.Second

// rawMove moves n bytes in chunks of a size as raw requests, up or down, to all workers at once.
// The bytes that go up are sent from where they lie.
func (b *bed) rawMove(n int64, size int, up bool) error {
	share := (n + int64(b.workers) - 1) / int64(b.workers)
	data := b.e.bytes(int(min(share, int64(size))))
	var wg sync.WaitGroup
	errs := make(chan error, b.workers*rawInFlight)
	for w := range b.workers {
		todo := make(chan int, share/int64(size)+1)
		for left := share; left > 0; left -= int64(size) {
			todo <- int(min(left, int64(size)))
		}
		close(todo)
		for range max(1, min(rawInFlight, rawBytes/size)) {
			wg.Go(func() {
				for bytes := range todo {
					subject, payload := fmt.Sprintf("raw.up.w%d", w), data[:bytes]
					if !up {
						subject, payload = fmt.Sprintf("raw.down.w%d", w), binary.LittleEndian.AppendUint64(nil, uint64(bytes))
					}
					if _, err := b.raw.Request(subject, payload, rawTimeout); err != nil {
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

// bestSize is the chunk size at which the raw side moves n bytes fastest.
func (b *bed) bestSize(n int64, up bool) (int, error) {
	best, least := 0, time.Duration(0)
	for rep := range 3 {
		for _, size := range rawSizes {
			d, err := timed(func() error { return b.rawMove(n, size, up) })
			if err != nil {
				return 0, err
			}
			if rep > 0 && (best == 0 || d < least) {
				best, least = size, d
			}
		}
	}
	return best, nil
}

// bytes are n that are there and have been touched.
func (e *env) bytes(n int) []byte {
	if len(e.junk) < n {
		e.junk = make([]byte, n)
		for i := range e.junk {
			e.junk[i] = byte(i)
		}
	}
	return e.junk[:n]
}

// numbers are random ones; gradients are slices of them.
type numbers []float32

func (b *bed) numbers(d int64, m int) numbers {
	x := make(numbers, d+int64(m)*rowShift)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range x {
		x[i] = rng.Float32() - 0.5
	}
	return x
}

// row is the gradient of a step: another one for as many steps as the numbers were made for.
func (x numbers) row(step uint64, d int64) []float32 {
	rows := (uint64(len(x)) - uint64(d)) / rowShift
	return x[step%rows*rowShift:][:d]
}

// full makes a run whose window is full.
func (b *bed) full(name string, d int64, m, shards int, damping float64) (*client.Run, numbers, error) {
	r, err := b.client.Attach(b.e.ctx, client.RunConfig{Name: name, Dim: d, Window: m, Damping: damping, Shards: shards})
	if err != nil {
		return nil, nil, err
	}
	x := b.numbers(d, 2*m)
	for range m {
		if _, err := r.Publish(b.e.ctx, b.next(), x.row(b.used, d)); err != nil {
			return nil, nil, err
		}
	}
	return r, x, nil
}

// next is a step that has not been.
func (b *bed) next() wire.Step {
	b.used++
	return wire.Step(b.used)
}

func chunkName(bytes int) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%.0f KB", float64(bytes)/1e3)
	}
	return fmt.Sprintf("%.0f MB", float64(bytes)/1e6)
}
