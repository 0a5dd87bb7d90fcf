package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"mfac/client"
	"mfac/wire"
)

// deployed are a nats-server, coordinators and workers, each a process of its own.
type deployed struct {
	t       *testing.T
	dir     string // of binaries, logs and the server's store
	port    string
	running map[string]*daemon
}

type daemon struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when err is set
	err  error
}

// How soon services notice that one of them is gone, in these tests, and how long a call may go
// on that meets it.
const (
	leaseTTL     = 2 * time.Second
	silent       = 2 * time.Second
	callDeadline = 20 * time.Second
)

// deploy builds the binaries.
func deploy(t *testing.T) *deployed {
	t.Helper()
	p := &deployed{t: t, dir: t.TempDir(), port: loopbackPort(t), running: map[string]*daemon{}}
	for name, pkg := range map[string]string{
		"nats-server": "github.com/nats-io/nats-server/v2", "coordinator": "mfac/cmd/coordinator", "worker": "mfac/cmd/worker",
	} {
		args := []string{"build", "-o", filepath.Join(p.dir, name)}
		if raceDetector && name != "nats-server" {
			args = append(args, "-race")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // nothing may be in the build cache
		out, err := exec.CommandContext(ctx, "go", append(args, pkg)...).CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
	}
	t.Cleanup(func() {
		logs, err := filepath.Glob(filepath.Join(p.dir, "*.log"))
		if err != nil || len(logs) == 0 {
			t.Errorf("the processes' logs: %v, %v", logs, err)
		}
		for _, name := range logs { // the detector's report: a process that is killed has no exit code
			if log, err := os.ReadFile(name); err != nil || bytes.Contains(log, []byte("DATA RACE")) {
				t.Errorf("%s: %v\n%s", filepath.Base(name), err, log[:min(len(log), 8000)])
			}
		}
	})
	t.Cleanup(func() {
		for name, q := range p.running {
			p.kill(name)
			if log, err := os.ReadFile(q.log); err == nil && t.Failed() {
				t.Logf("the end of what %s logged:\n%s", name, log[max(0, len(log)-4000):])
			}
		}
	})
	return p
}

// loopbackPort is a port of the loopback that nobody listens on.
func loopbackPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func (p *deployed) url() string { return "nats://127.0.0.1:" + p.port }

func (p *deployed) start(name, binary string, args ...string) {
	p.t.Helper()
	q := &daemon{name: name, cmd: exec.Command(filepath.Join(p.dir, binary), args...), log: filepath.Join(p.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(q.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	q.cmd.Dir, q.cmd.Stdout, q.cmd.Stderr = p.dir, log, log
	q.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir} // no setting of who runs the test
	if err := q.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		q.err = q.cmd.Wait()
		close(q.done)
	}()
	p.running[name] = q
}

func (p *deployed) nats() {
	p.t.Helper()
	p.start("nats", "nats-server", "--addr", "127.0.0.1", "--port", p.port, "--jetstream", "--store_dir", filepath.Join(p.dir, "store"))
}

func (p *deployed) coordinator(name string) {
	p.t.Helper()
	p.start(name, "coordinator", "--name", name, "--nats-url", p.url(), "--admin-addr", "off",
		"--lease-ttl", leaseTTL.String(), "--silent", silent.String())
}

func (p *deployed) worker(id string) {
	p.t.Helper()
	p.start(id, "worker", "--worker-id", id, "--nats-url", p.url(), "--admin-addr", "off", "--memory", "64MiB", "--threads", "1")
}

// kill ends a process as a power cut does.
func (p *deployed) kill(name string) {
	p.t.Helper()
	q := p.running[name]
	delete(p.running, name)
	if err := q.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("kill %s: %v", name, err)
	}
	<-q.done
}

// terminate asks a process to end, which it must do well and soon.
func (p *deployed) terminate(name string) {
	p.t.Helper()
	q := p.running[name]
	if err := q.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("SIGTERM to %s: %v", name, err)
	}
	select {
	case <-q.done:
		delete(p.running, name)
		if q.err != nil {
			p.t.Errorf("%s after SIGTERM: %v", name, q.err)
		}
	case <-time.After(10 * time.Second):
		p.t.Errorf("%s runs on 10 s after SIGTERM", name)
		p.kill(name)
	}
}

func (p *deployed) client() *client.Client {
	p.t.Helper()
	// Chunks of one tile, so that a step has several for each shard.
	c, err := client.Connect(within(p.t, callDeadline), p.url(), client.WithConnectTimeout(callDeadline), client.WithChunkBytes(4096))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

// feeder publishes the gradients over and over, and knows what must be in the window.
type feeder struct {
	t       *testing.T
	run     *client.Run
	grads   [][]float32
	next    wire.Step
	commits map[wire.Step]client.Commit
	newest  client.Commit
}

func (p *feeder) gradient(step wire.Step) []float32 { return p.grads[int(step)%len(p.grads)] }

// committed takes note of a commit: versions grow, so that nothing is committed twice.
func (p *feeder) committed(step wire.Step, c client.Commit) {
	p.t.Helper()
	if c.Version <= p.newest.Version {
		p.t.Errorf("step %d is in version %d, after version %d", step, c.Version, p.newest.Version)
	}
	if _, ok := p.commits[step]; ok || step != p.next {
		p.t.Errorf("step %d is committed, want step %d", step, p.next)
	}
	p.commits[step], p.newest, p.next = c, c, step+1
}

func (p *feeder) publish(n int) {
	p.t.Helper()
	for range n {
		c, err := p.run.Publish(within(p.t, callDeadline), p.next, p.gradient(p.next))
		if err != nil {
			p.t.Fatalf("publish: %v", err)
		}
		p.committed(p.next, c)
	}
}

// publishWhile publishes while f is going on, and for some steps before and after. Beside it
// reader asks.
func (p *feeder) publishWhile(reader *client.Run, v []float32, f func()) {
	p.t.Helper()
	p.publish(2)
	started, over := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	var err error
	wg.Go(func() {
		dst := make([]float32, len(v))
		var last client.Answer
		for {
			select {
			case <-over:
				return
			default:
			}
			a, err := reader.IHVP(within(p.t, callDeadline), dst, v)
			if err != nil {
				p.t.Errorf("ask: %v", err)
				return
			}
			if a.Version < last.Version {
				p.t.Errorf("an answer at version %d after one at %d", a.Version, last.Version)
			}
			last = a
		}
	})
	wg.Go(func() {
		begun := p.next
		for first := true; ; first = false {
			var c client.Commit
			if c, err = p.run.Publish(within(p.t, callDeadline), p.next, p.gradient(p.next)); err != nil {
				err = fmt.Errorf("step %d, %d since the beginning: %w", p.next, p.next-begun, err)
			} else {
				p.committed(p.next, c)
			}
			if first {
				close(started)
			}
			select {
			case <-over:
				return
			default:
			}
			if err != nil {
				return
			}
		}
	})
	<-started
	f()
	close(over)
	wg.Wait()
	if err != nil {
		p.t.Fatalf("publish: %v", err)
	}
	p.publish(2)
}

// publishInHalves has two ranks publish the next step, between whose parts f goes on. The first
// rank's chunks are staged then, and it waits for the commit.
func (p *feeder) publishInHalves(ranks [2]*client.Run, f func()) {
	p.t.Helper()
	ctx := within(p.t, callDeadline)
	step, g := p.next, p.gradient(p.next)
	const border = vectorsDim / 2 // in the middle of the second shard of three
	if _, err := ranks[0].PublishColumns(ctx, step, 0, g[:border], client.WithoutWait()); err != nil {
		p.t.Fatalf("stage columns: %v", err)
	}
	var commits [2]client.Commit
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { commits[0], errs[0] = ranks[0].PublishColumns(ctx, step, 0, g[:border]) })
	time.Sleep(50 * time.Millisecond) // it is waiting; where not yet, that changes nothing
	f()
	commits[1], errs[1] = ranks[1].PublishColumns(ctx, step, border, g[border:])
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		p.t.Fatalf("publish columns: %v", err)
	}
	if commits[0] != commits[1] {
		p.t.Errorf("the ranks hear of %+v and %+v", commits[0], commits[1])
	}
	p.committed(step, commits[0])
}

// check checks that the window is what was published from step first on, at most what it has room
// for, bit by bit, and that answers are those of this window.
func (p *feeder) check(when string, first wire.Step, v []float32) {
	p.t.Helper()
	ctx := within(p.t, callDeadline)
	w, err := p.run.Steps(ctx)
	if err != nil {
		p.t.Fatalf("%s: %v", when, err)
	}
	var want []wire.Step
	for s := max(int(first), int(p.next)-vectorsWindow); s < int(p.next); s++ {
		want = append(want, wire.Step(s))
	}
	if !slices.Equal(w.Steps, want) {
		p.t.Fatalf("%s: steps %v, want %v", when, w.Steps, want)
	}
	if w.Version != p.newest.Version {
		p.t.Errorf("%s: version %d, the newest commit was %d", when, w.Version, p.newest.Version)
	}
	rows := make([][]float32, len(want))
	for i, s := range want {
		rows[i] = make([]float32, vectorsDim)
		if _, err := p.run.Gradient(ctx, rows[i], s, client.WithExactly(w.Version)); err != nil {
			p.t.Fatalf("%s: read step %d: %v", when, s, err)
		}
		if !bytes.Equal(bitsOf(rows[i]), bitsOf(p.gradient(s))) {
			p.t.Fatalf("%s: step %d is not what was published", when, s)
		}
	}
	v64 := make([]float64, len(v))
	for i, x := range v {
		v64[i] = float64(x)
	}
	got := make([]float64, vectorsDim)
	a, err := p.run.IHVP64(ctx, got, v64, client.WithExactly(w.Version))
	if err != nil {
		p.t.Fatalf("%s: %v", when, err)
	}
	if a.Rows != len(want) {
		p.t.Errorf("%s: an answer from %d rows, want %d", when, a.Rows, len(want))
	}
	exact := woodbury(p.t, rows, processDamping, v64)
	check64(p.t, when, got, exact, tolFloat64)
	var diff, norm float64
	for i := range exact {
		diff, norm = math.Hypot(diff, got[i]-exact[i]), math.Hypot(norm, exact[i])
	}
	if bound := a.Bound()*norm + 1e-13*norm; !(diff <= bound) { // 1e-13: of the reference
		p.t.Errorf("%s: off by %g, more than the bound %g", when, diff, bound)
	}
}

func bitsOf(x []float32) []byte {
	p := make([]byte, 0, 4*len(x))
	for _, v := range x {
		b := math.Float32bits(v)
		p = append(p, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
	}
	return p
}

const processDamping = 0.01

// woodbury is (λI + GᵀG/m)⁻¹v in float64 by gonum, for a window of m = vectorsWindow:
// (v − Gᵀ(GGᵀ + mλI)⁻¹Gv)/λ.
func woodbury(t *testing.T, rows [][]float32, lambda float64, v []float64) []float64 {
	t.Helper()
	x := mat.NewVecDense(len(v), slices.Clone(v))
	if n := len(rows); n > 0 {
		g := mat.NewDense(n, len(v), nil)
		for i, r := range rows {
			for j, e := range r {
				g.Set(i, j, float64(e))
			}
		}
		k := mat.NewSymDense(n, nil)
		k.SymOuterK(1, g)
		for i := range n {
			k.SetSym(i, i, k.At(i, i)+vectorsWindow*lambda)
		}
		var chol mat.Cholesky
		if !chol.Factorize(k) {
			t.Fatal("the reference's matrix is not positive definite")
		}
		var b, z mat.VecDense
		b.MulVec(g, x)
		if err := chol.SolveVecTo(&z, &b); err != nil {
			t.Fatal(err)
		}
		var y mat.VecDense
		y.MulVec(g.T(), &z)
		x.SubVec(x, &y)
	}
	x.ScaleVec(1/lambda, x)
	return x.RawVector().Data
}

// TestProcesses has nats-server, coordinators and workers killed and restarted in mid-step. What
// was lost is dropped on all shards and said, nothing else is lost, nothing is committed twice,
// answers are exact for the window that is left, and callers need do nothing about it.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: this builds three programs, and takes half a minute")
	}
	p := deploy(t)
	p.nats()
	p.coordinator("c1")
	for _, id := range []string{"w1", "w2", "w3"} {
		p.worker(id)
	}
	v := openVectors(t)
	vec := v.f32("v")
	cfg := client.RunConfig{Name: "digits", Dim: vectorsDim, Window: vectorsWindow, Damping: processDamping, Shards: 3}
	var ranks [2]*client.Run
	eventually(t, func() error { // so that each has one shard
		workers, err := p.client().Workers(within(t, callDeadline))
		if err == nil && len(workers) != 3 {
			err = fmt.Errorf("%d workers", len(workers))
		}
		return err
	})
	for i := range ranks {
		r, err := p.client().Attach(within(t, callDeadline), cfg)
		if err != nil {
			t.Fatal(err)
		}
		ranks[i] = r
	}
	pub := &feeder{t: t, run: ranks[0], grads: v.grads(), commits: map[wire.Step]client.Commit{}}
	status := func(lost int) wire.Info {
		t.Helper()
		info, err := pub.run.Status(within(t, callDeadline))
		if err != nil {
			t.Fatal(err)
		}
		if info.Lost != lost {
			t.Errorf("status says that %d rows were lost, want %d", info.Lost, lost)
		}
		return info
	}
	began := time.Now()
	phase := func(what string) {
		t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what)
	}

	phase("published")
	pub.publish(vectorsWindow + 3)
	pub.check("before all", 0, vec)

	phase("a worker is killed between the chunks of a step, and restarted")
	middle := status(0).Workers[status(0).Owner[1]] // it has chunks of the first rank, and waits for more
	step := pub.next
	pub.publishInHalves(ranks, func() { p.kill(middle); p.worker(middle) })
	pub.check("after a worker was killed", step, vec)
	status(vectorsWindow)

	phase("a worker is killed while steps are published, and stays away")
	var gone wire.Step
	other := "w1"
	if other == middle {
		other = "w2"
	}
	pub.publishWhile(ranks[1], vec, func() {
		gone = pub.next // no step before this one can be left
		p.kill(other)
		time.Sleep(2 * silent)
	})
	w, err := pub.run.Steps(within(t, callDeadline))
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Steps) == 0 || w.Steps[0] < gone {
		t.Fatalf("steps %v after the worker that held a slice of those before %d was killed", w.Steps, gone)
	}
	if info, err := pub.run.Status(within(t, callDeadline)); err != nil || info.Lost == 0 {
		t.Errorf("status says that %d rows were lost, %v", info.Lost, err)
	}
	pub.check("with two workers", w.Steps[0], vec)
	p.worker(other)

	phase("the coordinator is killed between the chunks of a step, and restarted")
	first := w.Steps[0]
	pub.publish(5)
	pub.publishInHalves(ranks, func() { p.kill("c1"); p.coordinator("c1") })
	pub.check("after the coordinator was killed", first, vec)
	status(0)

	phase("the coordinator is killed while steps are published; another one takes over")
	pub.publishWhile(ranks[1], vec, func() {
		p.kill("c1")
		p.coordinator("c2")
		time.Sleep(leaseTTL + time.Second)
	})
	pub.check("under another coordinator", first, vec)
	if info := status(0); info.Coord != "c2" {
		t.Errorf("the run is with %s, want c2", info.Coord)
	}

	phase("nats-server is killed while steps are published, and restarted")
	pub.publishWhile(ranks[1], vec, func() {
		p.kill("nats")
		time.Sleep(300 * time.Millisecond)
		p.nats()
		time.Sleep(time.Second)
	})
	pub.check("after nats-server was killed", first, vec)
	status(0)

	phase("the coordinator is asked to end: another one takes over at once")
	p.coordinator("c3")
	pub.publishWhile(ranks[1], vec, func() { p.terminate("c2") })
	pub.check("after the coordinator ended", first, vec)

	phase("all are asked to end")
	for _, name := range []string{"w1", "c3", "w2", "w3"} {
		p.terminate(name)
	}
	phase("done")
}
