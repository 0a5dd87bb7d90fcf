//go:build linux

package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/vmihailenco/msgpack/v5"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"mfac/client"
	"mfac/internal/cluster"
	"mfac/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts an agent with a cluster of its own, and stops it at the end of the test.
func serve(t *testing.T, o Options) Ready {
	t.Helper()
	o.Dir = t.TempDir()
	ready := make(chan Ready, 1)
	o.Ready = func(r Ready) error { ready <- r; return nil }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(o.Dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	select {
	case r := <-ready:
		return r
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	panic("unreachable")
}

func withCluster() Options {
	return Options{Version: "test", Cluster: &cluster.Options{Workers: 2, Capacity: 64 << 20}}
}

// program is the other side: what the Python package does.
type program struct {
	t    *testing.T
	u    *net.UnixConn
	id   uint64
	mu   sync.Mutex
	wait map[uint64]chan said
	end  chan struct{} // closed when the agent has closed the connection
	last said          // with id 0
}

type said struct {
	ID       uint64             `msgpack:"id"`
	OK       msgpack.RawMessage `msgpack:"ok"`
	Error    *failure           `msgpack:"error"`
	Progress []int64            `msgpack:"progress"`
}

func dial(t *testing.T, socket string) *program {
	t.Helper()
	u, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, u: u, wait: map[uint64]chan said{}, end: make(chan struct{})}
	go p.read()
	t.Cleanup(func() { _ = u.Close(); <-p.end })
	return p
}

func (p *program) read() {
	defer close(p.end)
	for {
		var head [4]byte
		if _, err := io.ReadFull(p.u, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(p.u, body); err != nil {
			return
		}
		var s said
		if err := msgpack.Unmarshal(body, &s); err != nil {
			p.t.Errorf("reply: %v", err)
			return
		}
		p.mu.Lock()
		ch := p.wait[s.ID]
		if s.ID == 0 {
			p.last = s
		}
		p.mu.Unlock()
		if ch != nil {
			ch <- s
		}
	}
}

type m = map[string]any

// start sends a request, with descriptors beside it.
func (p *program) start(op string, args m, fds ...int) (uint64, chan said) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id++
	req := m{"id": p.id, "op": op}
	for k, v := range args {
		req[k] = v
	}
	body, err := msgpack.Marshal(req)
	if err != nil {
		p.t.Fatal(err)
	}
	ch := make(chan said, 1000)
	p.wait[p.id] = ch
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := p.u.WriteMsgUnix(append(frame, body...), oob, nil); err != nil {
		p.t.Fatal(err)
	}
	return p.id, ch
}

// result waits for the reply after those of progress.
func (p *program) result(ch chan said) (s said, progress [][]int64) {
	p.t.Helper()
	for {
		select {
		case s = <-ch:
		case <-p.end:
			p.t.Fatalf("the connection has ended: %+v", p.last.Error)
		case <-time.After(time.Minute):
			p.t.Fatal("no reply")
		}
		if s.Progress == nil {
			return s, progress
		}
		progress = append(progress, s.Progress)
	}
}

// do is a request that succeeds. into gets what came, unless nil.
func (p *program) do(into any, op string, args m, fds ...int) {
	p.t.Helper()
	_, ch := p.start(op, args, fds...)
	s, _ := p.result(ch)
	if s.Error != nil {
		p.t.Fatalf("%s: %+v", op, *s.Error)
	}
	if into != nil {
		if err := msgpack.Unmarshal(s.OK, into); err != nil {
			p.t.Fatalf("%s: %v", op, err)
		}
	}
}

// refused is a request that fails with that code and field.
func (p *program) refused(code wire.Code, field, op string, args m, fds ...int) *failure {
	p.t.Helper()
	_, ch := p.start(op, args, fds...)
	s, _ := p.result(ch)
	if s.Error == nil || s.Error.Code != code || s.Error.Field != field || s.Error.Message == "" {
		p.t.Fatalf("%s: %+v, want %s of %s", op, s.Error, code, field)
	}
	return s.Error
}

func (p *program) greet() *program {
	p.t.Helper()
	p.do(nil, "hello", m{"protocol": Protocol, "version": "test"})
	p.do(nil, "connect", nil)
	return p
}

// shared is a buffer of the program's.
type shared struct {
	p    *program
	fd   int
	id   uint64
	mem  []byte
	next int64
}

// share makes a buffer: a memfd, sealed or not.
func (p *program) share(id uint64, size int64, seal bool) *shared {
	p.t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		p.t.Fatal(err)
	}
	if seal {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
			p.t.Fatal(err)
		}
	}
	mem, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = unix.Munmap(mem); _ = unix.Close(fd) })
	p.do(nil, "buffer", m{"buffer": id, "size": size}, fd)
	return &shared{p: p, fd: fd, id: id, mem: mem}
}

// take is room for numbers, and the view of it.
func take[T float32 | float64 | int8](s *shared, dtype string, rows, cols int) ([][]T, m) {
	var x T
	size := int64(unsafe.Sizeof(x))
	s.next = (s.next + 63) / 64 * 64
	off := s.next
	s.next += size * int64(rows*cols)
	all := unsafe.Slice((*T)(unsafe.Pointer(&s.mem[off])), rows*cols)
	out := make([][]T, rows)
	for i := range out {
		out[i] = all[i*cols:][:cols:cols]
	}
	return out, m{"buffer": s.id, "offset": off, "dtype": dtype, "rows": rows, "cols": cols}
}

const (
	dim    = 3001 // not a multiple of anything
	window = 5
	lambda = 1e-3
)

// number is the same numbers each time, of no pattern.
func number(i, j int) float64 {
	x := uint64(i*7919+j+1) * 0x9e3779b97f4a7c15
	x ^= x >> 29
	return float64(int64(x>>12))/(1<<51) - 1
}

// filled has window rows of gradients in it.
func filled(t *testing.T, p *program, s *shared, name string) (handle uint64) {
	t.Helper()
	var run struct {
		Run        uint64    `msgpack:"run"`
		MaxVectors int       `msgpack:"max_vectors"`
		Info       wire.Info `msgpack:"info"`
	}
	p.do(&run, "attach", m{"name": name, "dim": dim, "window": window, "damping": lambda})
	if run.Info.Spec.Dim != dim || run.MaxVectors < 1 || run.Info.UID == 0 {
		t.Fatalf("attached to %+v", run)
	}
	rows, view := take[float32](s, "f32", window+1, dim)
	for i := range rows {
		for j := range rows[i] {
			rows[i][j] = float32(number(i, j))
		}
	}
	var commits struct {
		Versions []byte  `msgpack:"versions"`
		Rows     []int64 `msgpack:"rows"`
	}
	p.do(&commits, "publish", m{"run": run.Run, "step": 10, "in": view})
	if len(commits.Rows) != window+1 || commits.Rows[window] != window || wire.Uint64s[wire.Version](commits.Versions)[window] == 0 {
		t.Fatalf("commits %+v", commits)
	}
	return run.Run
}

// equal compares what the agent has written with what the client writes.
func equal[T float32 | float64](t *testing.T, what string, got, want [][]T) {
	t.Helper()
	for i := range want {
		for j := range want[i] {
			if got[i][j] != want[i][j] || want[i][j] != want[i][j] {
				t.Fatalf("%s: number %d of vector %d is %v, not %v", what, j, i, got[i][j], want[i][j])
			}
		}
	}
}

func made[T any](rows, cols int) [][]T {
	x := make([][]T, rows)
	for i := range x {
		x[i] = make([]T, cols)
	}
	return x
}

// Each query through the agent gives the bytes that the Go client gives, in memory that is mapped and in
// memory that is not.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	r := serve(t, withCluster())
	for name, seal := range map[string]bool{"mapped": true, "copied": false} {
		t.Run(name, func(t *testing.T) { sameBytes(t, r, name, seal) })
	}
}

func sameBytes(t *testing.T, r Ready, name string, seal bool) {
	ctx := context.Background()
	p := dial(t, r.Socket).greet()
	s := p.share(7, 4<<20, seal)
	h := filled(t, p, s, name)
	c, err := client.Connect(ctx, r.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	run, err := c.Join(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	v32, in32 := take[float32](s, "f32", 2, dim)
	v64, in64 := take[float64](s, "f64", 2, dim)
	out32, to32 := take[float32](s, "f32", 2, dim)
	out64, to64 := take[float64](s, "f64", 2, dim)
	for i := range v64 {
		for j := range v64[i] {
			v64[i][j] = number(100+i, j)
			v32[i][j] = float32(v64[i][j])
		}
	}
	want32, want64 := made[float32](2, dim), made[float64](2, dim)
	one := func(view m) m {
		w := m{}
		for k, x := range view {
			w[k] = x
		}
		w["rows"] = 1
		return w
	}
	check := func(what string, a client.Answer, err error, op string, args m) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		args["run"] = h
		var got answer
		p.do(&got, op, args)
		if got.Version != a.Version || got.Rows != a.Rows || len(got.Bounds) != len(a.Bounds) || len(got.Residuals) != len(a.Residuals) {
			t.Fatalf("%s: %+v, not %+v", what, got, a)
		}
		for i, b := range a.Bounds {
			if got.Bounds[i] != b {
				t.Fatalf("%s: bound %v, not %v", what, got.Bounds[i], b)
			}
		}
		equal(t, what, out32, want32)
		equal(t, what, out64, want64)
	}
	for op, f := range map[string]struct {
		f32 product32
		f64 product64
	}{
		"ihvp": {(*client.Run).IHVPs, (*client.Run).IHVPs64},
		"fvp":  {(*client.Run).FisherVecs, (*client.Run).FisherVecs64},
		"hvp":  {(*client.Run).HessianVecs, (*client.Run).HessianVecs64},

		"invsqrt": {(*client.Run).InvSqrts, (*client.Run).InvSqrts64},
	} {
		a, err := f.f32(run, ctx, want32, v32)
		check(op, a, err, op, m{"in": in32, "out": to32})
		a, err = f.f64(run, ctx, want64, v64)
		check(op, a, err, op, m{"in": in64, "out": to64})
	}
	a, err := run.IHVP64(ctx, want64[0], v64[0], client.WithDamping(0.5), client.WithDivisor(wire.Count), client.WithVerify(), client.WithResult(wire.F32), client.WithWire(wire.BF16), client.WithMinRows(window))
	check("options", a, err, "ihvp", m{"in": one(in64), "out": one(to64), "damping": 0.5, "divisor": "count", "verify": true, "result": "f32", "wire": "bf16", "min_rows": window})
	a, err = run.IHVP(ctx, want32[0], v32[0], client.WithRefine(), client.WithExactly(a.Version))
	check("refine", a, err, "ihvp", m{"in": one(in32), "out": one(to32), "refine": true, "exactly": a.Version})

	steps := []wire.Step{11, 13}
	a, err = run.IHVPCombines64(ctx, want64, steps, [][]float64{{1, 0}, {-2, 3.5}})
	check("combine", a, err, "combine", m{"out": to64, "steps": wire.AppendUint64s(nil, steps), "coef": wire.AppendFloats(nil, []float64{1, 0, -2, 3.5})})
	a, err = run.Gradient(ctx, want32[0], 12)
	check("gradient", a, err, "gradient", m{"out": one(to32), "step": 12})
	a, err = run.Diag(ctx, want32[0])
	check("diag", a, err, "diag", m{"out": one(to32)})
	a, err = run.Diag(ctx, want32[0], client.WithBlocksAcross(100))
	check("diag of blocks", a, err, "diag", m{"out": one(to32), "blocks": 100, "across": true})
	a, err = run.IHVPs64(ctx, want64, v64, client.WithBlocks(70))
	check("blocks", a, err, "ihvp", m{"in": in64, "out": to64, "blocks": 70})
	a, err = run.Diag64(ctx, want64[0])
	check("diag", a, err, "diag", m{"out": one(to64)})
	a, err = run.Columns64(ctx, want64, []int64{5, dim - 1})
	check("column", a, err, "column", m{"out": to64, "index": wire.AppendIndices(nil, []int64{5, dim - 1})})
	a, err = run.Samples(ctx, want32, 42, 3)
	check("sample", a, err, "sample", m{"out": to32, "seed": 42, "first": 3})

	mask, maskView := take[int8](s, "i8", 1, dim)
	mask[0][3], mask[0][9], mask[0][77] = wire.MaskFixed, wire.MaskPruned, wire.MaskFixed
	pruning := client.Pruning{Sparsity: 0.7, Rule: wire.RuleJoint, Mask: mask[0], Steps: 2}
	a, err = run.Prune64(ctx, want64[0], v64[0], pruning)
	check("prune", a, err, "prune", m{"in": one(in64), "out": one(to64), "mask": maskView, "sparsity": 0.7, "rule": "joint", "steps": 2})
	a, err = run.Prune(ctx, want32[0], v32[0], client.Pruning{Sparsity: 0.5})
	check("prune", a, err, "prune", m{"in": one(in32), "out": one(to32), "sparsity": 0.5})
	a, err = run.Prune64(ctx, want64[0], v64[0], client.Pruning{Pattern: wire.Pattern{Keep: 2, Of: 4}})
	check("pattern", a, err, "prune", m{"in": one(in64), "out": one(to64), "keep": 2, "of": 4})
	fixed := make([]bool, dim)
	for j := range fixed {
		fixed[j] = mask[0][j] != 0
	}
	a, err = run.Compensate64(ctx, want64[0], v64[0], fixed)
	check("compensate", a, err, "compensate", m{"in": one(in64), "out": one(to64), "mask": maskView})

	numbers := func(what, op string, args m, steps []wire.Step, values, bounds []float64) {
		t.Helper()
		args["run"] = h
		var got numbersReply
		p.do(&got, op, args)
		switch {
		case got.Version == 0:
			t.Fatalf("%s: no version", what)
		case !bytes.Equal(got.Steps, wire.AppendUint64s(nil, steps)):
			t.Fatalf("%s: steps %v", what, wire.Uint64s[wire.Step](got.Steps))
		case !bytes.Equal(got.Values, wire.AppendFloats(nil, values)):
			t.Fatalf("%s: %v, not %v", what, wire.Floats(got.Values), values)
		case !bytes.Equal(got.Errors, wire.AppendFloats(nil, bounds)):
			t.Fatalf("%s: bounds %v, not %v", what, wire.Floats(got.Errors), bounds)
		}
	}
	x, _, err := run.Subblock(ctx, []int64{1, 2, 3000})
	if err != nil {
		t.Fatal(err)
	}
	numbers("subblock", "subblock", m{"index": wire.AppendIndices(nil, []int64{1, 2, 3000})}, nil, x, nil)
	sc, err := run.Scores64(ctx, v64)
	if err != nil {
		t.Fatal(err)
	}
	numbers("scores", "scores", m{"in": in64}, sc.Steps, append(sc.Scores[0], sc.Scores[1]...), nil)
	pr, err := run.Pairs(ctx, v32, [][2]int{{0, 1}, {1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	numbers("pairs", "pairs", m{"in": in32, "pairs": wire.AppendIndices(nil, []int64{0, 1, 1, 1})}, nil, pr.Values, pr.Bounds)
	inf, err := run.Influence(ctx)
	if err != nil {
		t.Fatal(err)
	}
	numbers("influence", "influence", m{}, inf.Steps, wire.Floats(flat(inf.Values)), inf.Bounds)
	self, err := run.SelfInfluence(ctx)
	if err != nil {
		t.Fatal(err)
	}
	numbers("self", "self_influence", m{}, self.Steps, append(self.Self, self.Out...), append(self.SelfBound, self.OutBound...))
	sp, err := run.Spectrum(ctx)
	if err != nil {
		t.Fatal(err)
	}
	numbers("spectrum", "spectrum", m{}, nil, sp.Eigenvalues, []float64{sp.Error})
	li, err := run.Likelihoods64(ctx, []float64{1e-3, 1}, v64)
	if err != nil {
		t.Fatal(err)
	}
	numbers("likelihoods", "likelihoods", m{"in": in64, "dampings": wire.AppendFloats(nil, []float64{1e-3, 1})}, nil, wire.Floats(flat(li.Values)), wire.Floats(flat(li.Bounds)))
	if li, err = run.LeaveOneOut(ctx, nil); err != nil {
		t.Fatal(err)
	}
	numbers("left out", "likelihoods", m{}, li.Steps, li.Values[0], li.Bounds[0])
	sca, err := run.Scalars(ctx, []float64{1e-3, 1})
	if err != nil {
		t.Fatal(err)
	}
	var got numbersReply
	p.do(&got, "scalars", m{"run": h, "dampings": wire.AppendFloats(nil, []float64{1e-3, 1})})
	if v := wire.Floats(got.Values); len(v) != 4+2*7 || v[0] != sca.N || v[4] != sca.At[0].LogDet.Value || v[17] != sca.At[1].CondK.Value {
		t.Errorf("scalars: %v", v)
	}

	bs, err := run.BlockScalars(ctx, nil, client.WithBlocks(2000))
	if err != nil {
		t.Fatal(err)
	}
	got = numbersReply{}
	p.do(&got, "scalars", m{"run": h, "blocks": 2000})
	if v, e := wire.Floats(got.Values), wire.Indices(got.Steps); len(v) != 2*(4+7) || e[0] != 2000 || e[1] != dim || v[11+4] != bs[1].At[0].LogDet.Value {
		t.Errorf("scalars of blocks: %v, %v", v, e)
	}
	var named struct {
		Steps  []byte   `msgpack:"steps"`
		Labels []string `msgpack:"labels"`
	}
	if p.do(&named, "labels", m{"run": h}); named.Labels != nil {
		t.Errorf("labels %v", named.Labels)
	}

	// A gradient preconditioned: the same run of steps in a run of the client's.
	other, err := c.Attach(ctx, client.RunConfig{Name: name + "-2", Dim: dim, Window: window, Damping: lambda})
	if err != nil {
		t.Fatal(err)
	}
	rows := made[float32](window+1, dim)
	for i := range rows {
		for j := range rows[i] {
			rows[i][j] = float32(number(i, j))
		}
	}
	if _, err := other.PublishMany(ctx, 10, rows); err != nil {
		t.Fatal(err)
	}
	a, err = other.Precondition64(ctx, 99, want64[0], v32[0])
	check("precondition", a, err, "precondition", m{"in": one(in32), "out": one(to64), "step": 99})

	var commit struct {
		Version uint64 `msgpack:"version"`
		Rows    int    `msgpack:"rows"`
	}
	var plan struct {
		Frozen wire.Frozen `msgpack:"frozen"`
	}
	p.do(nil, "freeze", m{"run": h, "progress": true})
	if p.do(&plan, "frozen", m{"run": h}); plan.Frozen.State != wire.StateFrozen || plan.Frozen.Done != dim {
		t.Errorf("frozen: %+v", plan.Frozen)
	}
	p.refused(wire.CodeFrozen, "run", "publish", m{"run": h, "step": 120, "in": one(in32)})
	a, err = run.Diag(ctx, want32[0])
	check("diag of a frozen run", a, err, "diag", m{"out": one(to32)})
	p.do(nil, "freeze", m{"run": h, "thaw": true})
	_, err = other.Publish(ctx, 121, v32[1], client.WithWeight(2))
	if err != nil {
		t.Fatal(err)
	}
	p.do(nil, "publish", m{"run": h, "step": 121, "in": func() m { w := one(in32); w["offset"] = w["offset"].(int64) + 4*dim; return w }(), "weight": 2, "labels": []string{"two"}})
	if p.do(&named, "labels", m{"run": h}); len(named.Labels) != window || named.Labels[window-1] != "two" {
		t.Errorf("labels %q", named.Labels)
	}
	if p.do(&got, "influence", m{"run": h}); len(got.Labels) != window || got.Labels[window-1] != "two" {
		t.Errorf("labels of influence %q", got.Labels)
	}
	a, err = other.IHVP64(ctx, want64[0], v64[0])
	check("weights", a, err, "ihvp", m{"in": one(in64), "out": one(to64)})
	p.do(&commit, "forget", m{"run": h, "steps": wire.AppendUint64s(nil, []wire.Step{99, 121})})
	if commit.Rows != window-2 {
		t.Errorf("forgotten: %+v", commit)
	}
	if p.do(&commit, "resize", m{"run": h, "window": 9}); commit.Rows != window-2 {
		t.Errorf("resized: %+v", commit)
	}
	p.do(&commit, "set", m{"run": h, "damping": 0.25})
	var st struct {
		Info wire.Info `msgpack:"info"`
	}
	p.do(&st, "status", m{"run": h})
	if st.Info.Spec.Damping != 0.25 || st.Info.Rows != window-2 {
		t.Errorf("status %+v", st.Info)
	}
	var names struct {
		Runs []string `msgpack:"runs"`
	}
	p.do(nil, "delete", m{"name": name + "-2"})
	p.do(&names, "runs", nil)
	for _, n := range names.Runs {
		if n == name+"-2" {
			t.Errorf("runs %v", names.Runs)
		}
	}
	var list struct {
		Workers []wire.WorkerStatus `msgpack:"workers"`
	}
	if p.do(&list, "workers", nil); len(list.Workers) != 2 {
		t.Errorf("workers %v", list.Workers)
	}
	p.do(nil, "leave", m{"run": h})
	p.refused(wire.CodeInvalid, "run", "diag", m{"run": h, "out": one(to64)})
}

// What is wrong is refused with field, value and limit, and the connection goes on.
func TestRefusals(t *testing.T) {
	t.Parallel()
	r := serve(t, withCluster())
	p := dial(t, r.Socket)
	p.refused(wire.CodeProtocol, "protocol", "hello", m{"protocol": Protocol + 1, "version": "9"})
	p.do(nil, "hello", m{"protocol": Protocol})
	p.refused(wire.CodeUnavailable, "connection", "attach", m{"name": "a", "dim": 3, "window": 2})
	p.refused(wire.CodeUnavailable, "", "connect", m{"url": "nats://127.0.0.1:1", "connect_ms": 50})
	p.refused(wire.CodeInvalid, "connect timeout", "connect", m{"connect_ms": -1})
	p.do(nil, "connect", nil)
	p.refused(wire.CodeExists, "connection", "connect", nil)
	p.refused(wire.CodeUnsupported, "op", "fly", nil)
	p.refused(wire.CodeInvalid, "timeout_ms", "runs", m{"timeout_ms": -1})
	p.refused(wire.CodeMalformed, "name", "attach", m{"name": 3})
	p.refused(wire.CodeInvalid, "damping", "attach", m{"name": "a", "dim": 3, "window": 2, "damping": 0})
	p.refused(wire.CodeInvalid, "window", "attach", m{"name": "a", "dim": 3, "window": 0})
	p.refused(wire.CodeInvalid, "layout", "attach", m{"name": "a", "dim": 3, "window": 2, "layout": []byte(`[]`)})
	p.refused(wire.CodeUnknownRun, "run", "join", m{"name": "nobody"})
	s := p.share(1, 1<<20, true)
	h := filled(t, p, s, "r")
	_, in := take[float32](s, "f32", 1, dim)
	_, out := take[float32](s, "f32", 1, dim)
	but := func(view m, key string, x any) m {
		w := m{}
		for k, y := range view {
			w[k] = y
		}
		w[key] = x
		return w
	}
	for field, view := range map[string]m{
		"in.buffer": but(in, "buffer", 9), "in.offset": but(in, "offset", 1<<20-4), "in.dtype": but(in, "dtype", "f64"), "in shape": but(in, "rows", 1<<40),
	} {
		p.refused(wire.CodeInvalid, field, "ihvp", m{"run": h, "in": view, "out": out})
	}
	p.refused(wire.CodeInvalid, "in.offset", "ihvp", m{"run": h, "in": but(in, "offset", 2), "out": out})
	p.refused(wire.CodeInvalid, "in.offset", "ihvp", m{"run": h, "in": but(in, "offset", -4), "out": out})
	p.refused(wire.CodeInvalid, "in shape", "ihvp", m{"run": h, "in": but(in, "cols", -1), "out": out})
	p.refused(wire.CodeInvalid, "in", "ihvp", m{"run": h, "out": out})
	p.refused(wire.CodeInvalid, "length of the vector", "ihvp", m{"run": h, "in": but(in, "cols", 5), "out": out})
	p.refused(wire.CodeInvalid, "result", "ihvp", m{"run": h, "in": out, "out": out})
	p.refused(wire.CodeInvalid, "damping", "ihvp", m{"run": h, "in": in, "out": out, "damping": 0})
	p.refused(wire.CodeInvalid, "verify", "fvp", m{"run": h, "in": in, "out": out, "verify": true})
	p.refused(wire.CodeInvalid, "blocks", "ihvp", m{"run": h, "in": in, "out": out, "blocks": 0})
	p.refused(wire.CodeInvalid, "block", "ihvp", m{"run": h, "in": in, "out": out, "blocks": -1})
	p.refused(wire.CodeInvalid, "exactly", "ihvp", m{"run": h, "in": in, "out": out, "exactly": 0})
	p.refused(wire.CodeInvalid, "rows", "diag", m{"run": h, "out": but(out, "rows", 2)})
	p.refused(wire.CodeNotGrowing, "step", "publish", m{"run": h, "step": 3, "in": in})
	p.refused(wire.CodeUnknownStep, "step", "forget", m{"run": h, "steps": wire.AppendUint64s(nil, []wire.Step{3})})
	p.refused(wire.CodeMalformed, "steps", "forget", m{"run": h, "steps": []byte{1}})
	p.refused(wire.CodeInvalid, "step", "publish", m{"run": h, "step": -1, "in": in})
	p.refused(wire.CodeInvalid, "descriptor", "buffer", m{"buffer": 5, "size": 10})
	p.refused(wire.CodeInvalid, "buffer", "buffer", m{"buffer": 1, "size": 10}, s.fd)
	p.refused(wire.CodeInvalid, "size", "buffer", m{"buffer": 5, "size": 1 << 21}, s.fd)
	p.refused(wire.CodeInvalid, "size", "buffer", m{"buffer": 5, "size": 0}, s.fd)
	p.refused(wire.CodeInvalid, "buffer", "release", m{"buffer": 5})
	_, all := take[float32](s, "f32", 3, dim)
	_, ch := p.start("publish", m{"run": h, "step": 100, "in": all, "token": 1})
	if got, _ := p.result(ch); got.Error != nil {
		t.Fatal(got.Error)
	}
	// A row that is refused: those before it are told beside the error.
	rows, bad := take[float32](s, "f32", 3, dim)
	rows[1][5] = float32(binaryNaN())
	_, ch = p.start("publish", m{"run": h, "step": 200, "in": bad})
	got, _ := p.result(ch)
	if got.Error == nil || got.Error.Code != wire.CodeNotFinite || len(got.OK) == 0 {
		t.Fatalf("%+v", got)
	}
	p.do(nil, "ihvp", m{"run": h, "in": in, "out": out})
}

func binaryNaN() float64 { var zero float64; return zero / zero }

// Garbage closes its connection with an error. The agent and other connections live.
func TestGarbage(t *testing.T) {
	t.Parallel()
	r := serve(t, withCluster())
	good := dial(t, r.Socket).greet()
	hello, err := msgpack.Marshal(m{"id": 1, "op": "hello", "protocol": Protocol})
	if err != nil {
		t.Fatal(err)
	}
	frame := func(p []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...) }
	deep := bytes.Repeat([]byte{0x91}, 1<<20)
	for name, p := range map[string][]byte{
		"length":   {0xff, 0xff, 0xff, 0xff, 1},
		"empty":    {0, 0, 0, 0},
		"no map":   frame([]byte("GET / HTTP/1.1")),
		"deep":     frame(append([]byte{0x81, 0xa1, 'x'}, deep...)),
		"huge":     frame([]byte{0x81, 0xa1, 'x', 0xdd, 0xff, 0xff, 0xff, 0xff}),
		"no id":    frame([]byte{0x81, 0xa2, 'o', 'p', 0xa4, 'r', 'u', 'n', 's'}),
		"no hello": frame([]byte{0x82, 0xa2, 'o', 'p', 0xa4, 'r', 'u', 'n', 's', 0xa2, 'i', 'd', 1}),
		"after":    append(frame(hello), 0, 0, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			bad := dial(t, r.Socket)
			if _, err := bad.u.Write(p); err != nil {
				t.Fatal(err)
			}
			select {
			case <-bad.end:
			case <-time.After(10 * time.Second):
				t.Fatal("the connection lives")
			}
			if bad.last.Error == nil || bad.last.Error.Message == "" {
				t.Errorf("no reason: %+v", bad.last)
			}
		})
	}
	short := dial(t, r.Socket)
	_, _ = short.u.Write([]byte{0, 0, 1, 0, 0x81})
	_ = short.u.Close()
	good.do(nil, "runs", nil)
}

// A buffer that its owner cuts short is an error of the call, not the end of the agent.
func TestCutShort(t *testing.T) {
	t.Parallel()
	r := serve(t, withCluster())
	p := dial(t, r.Socket).greet()
	s := p.share(1, 1<<20, true)
	h := filled(t, p, s, "cut")
	if err := unix.Ftruncate(s.fd, 1000); !errors.Is(err, unix.EPERM) {
		t.Fatalf("a sealed buffer: %v", err)
	}
	loose := p.share(2, 1<<20, false)
	_, in := take[float32](loose, "f32", 1, dim)
	_, out := take[float32](loose, "f32", 1, dim)
	p.do(nil, "ihvp", m{"run": h, "in": in, "out": out})
	if err := unix.Ftruncate(loose.fd, 1000); err != nil {
		t.Fatal(err)
	}
	p.refused(wire.CodeInvalid, "in", "ihvp", m{"run": h, "in": in, "out": out})
	p.do(nil, "release", m{"buffer": 2})
	p.do(nil, "runs", nil)
}

// A call can be cancelled, has a deadline, tells of progress; its buffer stays while it is used.
func TestCalls(t *testing.T) {
	t.Parallel()
	r := serve(t, withCluster())
	p := dial(t, r.Socket).greet()
	s := p.share(1, 1<<20, true)
	h := filled(t, p, s, "calls")
	_, half := take[float32](s, "f32", 1, dim/2)
	// Half of the columns of a step, whose other half never comes.
	args := m{"run": h, "step": 1000, "in": half, "columns": true, "lo": 0}
	id, ch := p.start("publish", args)
	time.Sleep(100 * time.Millisecond)
	p.do(nil, "cancel", m{"call": id})
	if got, _ := p.result(ch); got.Error == nil || got.Error.Code != codeCancelled {
		t.Fatalf("cancelled: %+v", got.Error)
	}
	p.do(nil, "cancel", m{"call": id}) // again: no harm
	args["timeout_ms"] = 100
	_, ch = p.start("publish", args)
	if got, _ := p.result(ch); got.Error == nil || got.Error.Code != wire.CodeTimeout {
		t.Fatalf("timed out: %+v", got.Error)
	}
	args["timeout_ms"] = 2000
	_, ch = p.start("publish", args)
	time.Sleep(500 * time.Millisecond) // until the call has its buffer
	p.do(nil, "release", m{"buffer": 1})
	if got, _ := p.result(ch); got.Error == nil || got.Error.Code != wire.CodeTimeout {
		t.Fatalf("with its buffer released: %+v", got.Error)
	}
	p.refused(wire.CodeInvalid, "in.buffer", "publish", args)
	s = p.share(1, 1<<20, true)
	_, out := take[float32](s, "f32", 1, dim)
	_, ch = p.start("diag", m{"run": h, "out": out, "progress": true})
	got, progress := p.result(ch)
	if got.Error != nil || len(progress) == 0 || progress[len(progress)-1][0] != dim || progress[len(progress)-1][1] != dim {
		t.Fatalf("progress %v, %+v", progress, got.Error)
	}
}

// Many connections and calls at once; connections that end in the midst of calls leave nothing.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	r := serve(t, withCluster())
	first := dial(t, r.Socket).greet()
	s := first.share(1, 1<<20, true)
	filled(t, first, s, "many")
	var wg sync.WaitGroup
	for k := range 6 {
		p := dial(t, r.Socket).greet()
		b := p.share(1, 4<<20, k%2 == 0)
		var run struct {
			Run uint64 `msgpack:"run"`
		}
		p.do(&run, "join", m{"name": "many"})
		wg.Go(func() {
			var waits []chan said
			for range 8 {
				_, in := take[float32](b, "f32", 2, dim)
				_, out := take[float32](b, "f32", 2, dim)
				_, ch := p.start("ihvp", m{"run": run.Run, "in": in, "out": out})
				waits = append(waits, ch)
			}
			if k%3 == 0 {
				_ = p.u.Close()
				return
			}
			for _, ch := range waits {
				if got := <-ch; got.Error != nil {
					t.Errorf("%+v", got.Error)
				}
			}
		})
	}
	wg.Wait()
	first.do(nil, "runs", nil)
}

// The agent ends with its parent's pipe and when nobody is connected; its socket is only the user's.
func TestEnds(t *testing.T) {
	t.Parallel()
	run := func(o Options) (Ready, chan error) {
		o.Dir = t.TempDir()
		ready, ended := make(chan Ready, 1), make(chan error, 1)
		o.Ready = func(r Ready) error { ready <- r; return nil }
		go func() { ended <- Run(context.Background(), o) }()
		return <-ready, ended
	}
	wait := func(r Ready, ended chan error) {
		t.Helper()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the agent lives")
		}
		if _, err := os.Stat(filepath.Dir(r.Socket)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its folder: %v", err)
		}
	}
	alive, parent := io.Pipe()
	r, ended := run(Options{Alive: alive, Grace: time.Hour, Parent: os.Getppid()})
	for path, mode := range map[string]os.FileMode{r.Socket: 0o600, filepath.Dir(r.Socket): 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
	p := dial(t, r.Socket)
	p.do(nil, "hello", m{"protocol": Protocol})
	_ = parent.Close()
	wait(r, ended)
	<-p.end

	r, ended = run(Options{Grace: 300 * time.Millisecond})
	p = dial(t, r.Socket)
	p.do(nil, "hello", m{"protocol": Protocol})
	select {
	case err := <-ended:
		t.Fatalf("ended while somebody is connected: %v", err)
	case <-time.After(time.Second):
	}
	_ = p.u.Close()
	wait(r, ended)

	if err := Run(context.Background(), Options{Parent: 1<<30 - 1}); err == nil {
		t.Error("a parent that is none")
	}
}
