package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"mfac/client"
	"mfac/wire"
)

// streamed is what a client's process says of its memory, in bytes.
type streamed struct {
	Before, Live int64 // of the heap, after a collection: before the calls, and the most during them
	Columns      int64 // that the sinks were given
}

// meter collects the heap now and then, when a chunk passes, and keeps the most that lives then.
type meter struct {
	mu            sync.Mutex
	seen          int
	live, columns int64
}

func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (m *meter) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen++; m.seen%5 == 0 {
		m.live = max(m.live, live())
	}
}

// meteredSource is noise, meteredSink goes nowhere.
type meteredSource struct {
	noise
	m *meter
}

func (s meteredSource) ReadColumns(dst []float32, lo int64) error {
	s.m.look()
	return s.noise.ReadColumns(dst, lo)
}

type meteredSink struct{ m *meter }

func (s meteredSink) WriteColumns(src []float32, _ int64) error {
	s.m.look()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.columns += int64(len(src))
	return nil
}

// streams is the main of a client's process: it joins a run, publishes, asks and does both at once from
// sources to sinks, and writes what it took.
func streams(url, name string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	m := &meter{}
	err := func() error {
		c, err := client.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer c.Close()
		r, err := c.Join(ctx, name)
		if err != nil {
			return err
		}
		out := streamed{Before: live()}
		if _, err := r.PublishFrom(ctx, 1, meteredSource{1, m}); err != nil {
			return err
		}
		if _, err := r.IHVPFrom(ctx, meteredSink{m}, meteredSource{2, m}); err != nil {
			return err
		}
		if _, err := r.PreconditionFrom(ctx, 3, meteredSink{m}, meteredSource{3, m}); err != nil {
			return err
		}
		out.Live, out.Columns = m.live, m.columns
		return json.NewEncoder(os.Stdout).Encode(out)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestStreamingClient: a client that streams holds the chunks in flight, not its vectors. It is a process of its
// own, whose heap holds nothing else.
func TestStreamingClient(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: this sends 500 MB through the bus")
	}
	if raceDetector {
		t.Skip("-race: the detector takes memory of its own")
	}
	const (
		d      = 24_000_001
		vector = 4 * d
		chunk  = wire.MaxPayload
		// A call has 8 chunks in flight, each once in a buffer of the call, once in those of NATS on
		// its way out or in, and once as the result of decoding.
		most = 24 * chunk
	)
	if most*3 > vector {
		t.Fatalf("a vector has %d bytes, which is not much more than %d", vector, most)
	}
	c := start(t, shape{workers: 2, capacity: 2 << 30})
	r := c.attach(c.client(), client.RunConfig{Name: "stream", Dim: d, Window: 2, Damping: 1e-3, Shards: 2, Spare: 1})
	cmd := exec.CommandContext(within(t, 2*time.Minute), os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"=client", nameEnv+"=stream", urlEnv+"="+c.server.URL())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	p, err := cmd.Output()
	if err != nil {
		t.Fatalf("the client's process: %v: %s", err, stderr.String())
	}
	var got streamed
	if err := json.Unmarshal(p, &got); err != nil {
		t.Fatalf("the client's process says %q: %v", p, err)
	}
	t.Logf("vectors of %d MiB; the heap holds %d KiB before, at most %d KiB during the calls", vector/mib, got.Before>>10, got.Live>>10)
	if got.Live-got.Before > most {
		t.Errorf("%d bytes live beside the %d of before, want at most %d", got.Live-got.Before, got.Before, most)
	}
	if got.Columns != 2*d {
		t.Errorf("the sinks had %d columns, want %d", got.Columns, 2*d)
	}
	w, err := r.Steps(soon(t))
	if err != nil || len(w.Steps) != 2 {
		t.Errorf("the window has %v, %v", w.Steps, err)
	}
}
