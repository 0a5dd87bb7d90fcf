package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mfac/client"
	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/wire"
	"mfac/worker"
)

// A service in a process of its own is this test's binary with these in its environment.
const (
	roleEnv     = "MFAC_TEST_ROLE" // worker, coordinator or client
	nameEnv     = "MFAC_TEST_NAME"
	urlEnv      = "MFAC_TEST_URL"
	capacityEnv = "MFAC_TEST_CAPACITY"
)

// serve is the main of such a process: the service, until SIGTERM.
func serve(role string) int {
	if role == "client" {
		return streams(os.Getenv(urlEnv), os.Getenv(nameEnv))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	name := os.Getenv(nameEnv)
	nc, err := natsx.Connect(ctx, natsx.Options{URL: os.Getenv(urlEnv), Name: name})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer nc.Close()
	var service interface{ Stop(context.Context) error }
	switch role {
	case "worker":
		var capacity int64
		if capacity, err = strconv.ParseInt(os.Getenv(capacityEnv), 10, 64); err == nil {
			service, err = worker.Serve(ctx, nc, worker.ServiceConfig{ID: name, Tenant: "default", Capacity: capacity})
		}
	case "coordinator":
		service, err = coordinator.Serve(ctx, nc, coordinator.ServiceConfig{Name: name, Tenant: "default"})
	default:
		err = fmt.Errorf("role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := service.Stop(end); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is a service in a process of its own.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	err bytes.Buffer
}

func startProcess(t *testing.T, url, role, name string, capacity int64) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role, nameEnv+"="+name, urlEnv+"="+url, capacityEnv+"="+strconv.FormatInt(capacity, 10))
	if role == "coordinator" {
		p.cmd.Env = append(p.cmd.Env, coordinatorGC)
	}
	p.cmd.Stderr = &p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, p.err.String())
		}
	})
	return p
}

// peak is the most memory that the process has had, in bytes.
func (p *process) peak() int64 {
	p.t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) == 3 && words[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return kib << 10
		}
	}
	p.t.Fatal("no VmHWM in /proc")
	return 0
}

// noise is a source of numbers that no memory holds: column c of gradient seed.
type noise uint64

func (s noise) ReadColumns(dst []float32, lo int64) error {
	for i := range dst {
		x := (uint64(lo) + uint64(i) + uint64(s)<<40) * 0x9e3779b97f4a7c15
		x ^= x >> 29
		dst[i] = float32(int32(x*0xbf58476d1ce4e5b9>>32)) * 0x1p-31
	}
	return nil
}

// discard is a sink that only counts.
type discard struct {
	mu   sync.Mutex
	cols int64
}

func (d *discard) WriteColumns(src []float32, _ int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cols += int64(len(src))
	return nil
}

const (
	mib = 1 << 20

	// workerBeside is what a worker may take beside 1.02 times its rows and its staged vectors.
	workerBeside = 64 * mib
	// coordinatorNoise is how far two processes of the same service may differ, with coordinatorGC,
	// so that the Go heap grows by a tenth, not to twice its size, before it is collected. A byte for each
	// column more would be as much.
	coordinatorNoise = 4 * mib
	coordinatorGC    = "GOGC=10"
)

// tensors are a layout of d columns in 200 tensors, whatever d is.
func tensors(d int64) []wire.Tensor {
	list := make([]wire.Tensor, 200)
	for i := range list {
		list[i] = wire.Tensor{Name: fmt.Sprintf("layer%d.weight", i), Shape: []int64{d / 200}, Offset: int64(i) * (d / 200)}
	}
	list[199].Shape[0] += d % 200
	return list
}

// TestMemory runs a coordinator and two workers as processes at two values of d, publishes a full
// window and a quarter of one more, asks for k vectors at once, a combination and a preconditioned step,
// with eight clients at once, and then looks at the most that each process has had.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: this publishes 1 GB through the bus")
	}
	if raceDetector {
		t.Skip("-race: the detector takes memory of its own")
	}
	if runtime.GOOS != "linux" {
		t.Skip("the peak of a process's memory is read from Linux' /proc")
	}
	const (
		window  = 32
		workers = 2
		vectors = 2
		clients = 8
	)
	coordinators := map[int64]int64{}
	dims := []int64{250_003, 4_000_037}
	for _, d := range dims {
		server, err := natsx.Embedded(natsx.EmbeddedOptions{StoreDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		// In order of creation, so that the server ends last.
		t.Cleanup(server.Shutdown)
		coord := startProcess(t, server.URL(), "coordinator", "c0", 0)
		var ws []*process
		for i := range workers {
			ws = append(ws, startProcess(t, server.URL(), "worker", fmt.Sprintf("w%d", i), 2<<30))
		}
		ctx := within(t, 2*time.Minute)
		runs := make([]*client.Run, clients)
		for i := range runs {
			cl, err := client.Connect(ctx, server.URL())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cl.Close)
			eventually(t, func() error {
				list, err := cl.Workers(ctx)
				if err == nil && len(list) < workers {
					err = fmt.Errorf("%d workers", len(list))
				}
				return err
			})
			if runs[i], err = cl.Attach(ctx, client.RunConfig{Name: "memory", Dim: d, Window: window, Damping: 1e-3, Shards: workers, Layout: tensors(d)}); err != nil {
				t.Fatal(err)
			}
		}
		r := runs[0]
		for step := range wire.Step(window + window/4) {
			if _, err := r.PublishFrom(ctx, step, noise(step)); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for i, r := range runs { // all at once: two of them with vectors
			all.Go(func() {
				sink := &discard{}
				var err error
				if i < vectors {
					_, err = r.IHVPFrom(ctx, sink, noise(100+i))
				} else {
					_, err = r.IHVPCombineTo(ctx, sink, []wire.Step{10, 19}, []float64{1, float64(i)})
				}
				if err != nil || sink.cols != d {
					t.Errorf("client %d: %d columns, %v", i, sink.cols, err)
				}
			})
		}
		all.Wait()
		if _, err := r.PreconditionFrom(ctx, window+window/4, &discard{}, noise(99)); err != nil {
			t.Fatal(err)
		}
		info, err := r.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for s := range info.Lo {
			_, cols := info.Range(s)
			name := info.Workers[info.Owner[s]]
			rows := int64(r.Spec().Slots()) * cols * 4
			limit := rows + rows/50 + vectors*cols*4 + workerBeside
			peak := ws[name[1]-'0'].peak()
			t.Logf("d = %d: worker %s with %d columns: %d MiB at most, of which %d MiB are rows; the limit is %d MiB", d, name, cols, peak/mib, rows/mib, limit/mib)
			if peak > limit {
				t.Errorf("d = %d: worker %s has had %d bytes, limit %d", d, name, peak, limit)
			}
		}
		coordinators[d] = coord.peak()
		t.Logf("d = %d: coordinator: %d MiB at most", d, coordinators[d]/mib)
	}
	if grown := coordinators[dims[1]] - coordinators[dims[0]]; grown > coordinatorNoise {
		t.Errorf("the coordinator takes %d bytes more at d = %d than at %d", grown, dims[1], dims[0])
	}
}
