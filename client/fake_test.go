package client

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"mfac/internal/natsx"
	"mfac/wire"
)

var natsServer *natsx.Server

func TestMain(m *testing.M) {
	s, err := natsx.Embedded(natsx.EmbeddedOptions{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	natsServer = s
	code := m.Run()
	s.Shutdown()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// fake speaks the services' side of the protocol for one tenant: a coordinator and all workers.
// Its H⁻¹ is 2. It answers each request in a goroutine, so that what is in flight shows.
type fake struct {
	t        *testing.T
	nc       *nats.Conn
	subjects wire.Subjects

	mu       sync.Mutex
	wg       sync.WaitGroup
	hook     func(op, worker string, m wire.Message) (reply wire.Message, handled bool) // under mu
	delay    time.Duration                                                              // of chunks, vecs and fetches
	credit   func(worker string, want int64) (bytes, ms int64)
	workers  []string
	runs     map[string]*fakeRun
	counts   map[string]int
	inFlight map[string]int // of bulk at each worker
	peak     map[string]int
	chunks   []*wire.Chunk // all that came, in order
}

type fakeRun struct {
	info    wire.Info
	layout  []byte
	rows    []wire.Step
	labels  map[wire.Step]string // that the steps were opened with
	grads   map[wire.Step][]float32
	open    map[wire.Step]*fakeStep
	done    map[wire.Attempt]*wire.WaitReply
	queries map[wire.QueryID]*fakeQuery
	next    uint64
}

type fakeStep struct {
	attempt wire.Attempt
	token   uint64
	got     map[int64]int64 // columns by their first
	g       []float32
	pre     *wire.Precondition
}

type fakeQuery struct {
	wire.Query
	version wire.Version
	rows    int
	v       [][]float64
	got     map[[2]int64]int64 // columns by vector and first one
	result  [][]float64
}

func (q *fakeQuery) whole(dim int64) bool {
	var have int64
	for _, n := range q.got {
		have += n
	}
	return have == dim*int64(q.Vectors)
}

func newFake(t *testing.T, workers ...string) *fake {
	t.Helper()
	nc, err := natsx.Connect(t.Context(), natsx.Options{URL: natsServer.URL(), Name: "fake"})
	if err != nil {
		t.Fatal(err)
	}
	tenant := strings.ToLower(strings.NewReplacer("/", "-", "#", "-").Replace(t.Name()))
	f := &fake{
		t: t, nc: nc, subjects: wire.Subjects{Tenant: tenant[:min(len(tenant), 60)]}, workers: workers,
		credit: func(string, int64) (int64, int64) { return 0, 0 },
		runs:   map[string]*fakeRun{}, counts: map[string]int{}, inFlight: map[string]int{}, peak: map[string]int{},
	}
	for _, subject := range []string{f.subjects.Coordinator("*", "*"), f.subjects.Worker("*", "*", "*")} {
		if _, err := nc.Subscribe(subject, f.receive); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.nc.Close()
		f.wg.Wait()
	})
	return f
}

func (f *fake) client(opts ...Option) *Client {
	f.t.Helper()
	opts = append([]Option{WithTenant(f.subjects.Tenant), WithChunkBytes(64), WithTryTimeout(200 * time.Millisecond)}, opts...)
	c, err := Connect(f.t.Context(), natsServer.URL(), opts...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

// attached is a run of dim columns, whose shards are one on each worker.
func (f *fake) attached(dim int64, opts ...Option) *Run {
	f.t.Helper()
	r, err := f.client(opts...).Attach(f.t.Context(), RunConfig{Name: "run", Dim: dim, Window: 4, Damping: 1, Shards: len(f.workers)})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// on sets the hook; nil takes it away.
func (f *fake) on(hook func(op, worker string, m wire.Message) (wire.Message, bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

func (f *fake) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[op]
}

func (f *fake) receive(msg *nats.Msg) {
	parts := strings.Split(msg.Subject, ".")
	worker, op := "", parts[3]
	if parts[2] == "w" {
		worker, op = parts[3], parts[4]
	}
	m, err := wire.Decode(wire.Frame{Header: msg.Header, Data: msg.Data}, op)
	if err == nil {
		err = wire.CheckReply(msg.Subject, msg.Reply)
	}
	if err != nil {
		f.t.Errorf("%s: %v", msg.Subject, err)
		return
	}
	f.wg.Go(func() {
		if reply := f.answer(worker, op, m); reply != nil {
			frame, err := wire.Encode(reply)
			if err != nil {
				f.t.Error(err)
			}
			_ = msg.RespondMsg(&nats.Msg{Header: frame.Header, Data: frame.Data})
		}
	})
}

func (f *fake) answer(worker, op string, m wire.Message) wire.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[op]++
	if worker != "" {
		f.inFlight[worker]++
		f.peak[worker] = max(f.peak[worker], f.inFlight[worker])
		if c, ok := m.(*wire.Chunk); ok {
			f.chunks = append(f.chunks, c)
		}
		if f.delay > 0 {
			f.mu.Unlock()
			time.Sleep(f.delay)
			f.mu.Lock()
		}
		f.inFlight[worker]--
	}
	if f.hook != nil {
		if reply, handled := f.hook(op, worker, m); handled {
			return reply
		}
	}
	return f.plain(worker, m)
}

// plain is the answer of services that are well.
func (f *fake) plain(worker string, m wire.Message) wire.Message {
	reply, err := f.serve(worker, m)
	if err != nil {
		return err
	}
	return reply
}

func (f *fake) serve(worker string, m wire.Message) (wire.Message, *wire.Error) {
	switch m := m.(type) {
	case *wire.Status:
		reply := &wire.StatusReply{Coord: "fake"}
		for _, w := range f.workers {
			if w > m.After {
				reply.Workers = append(reply.Workers, wire.WorkerStatus{ID: w})
				reply.More = w != f.workers[len(f.workers)-1]
				break // one a reply
			}
		}
		return reply, nil
	case *wire.List:
		reply := &wire.ListReply{}
		names := make([]string, 0, len(f.runs))
		for name := range f.runs {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			if name > m.After {
				reply.Runs, reply.More = []string{name}, i < len(names)-1
				break
			}
		}
		return reply, nil
	case *wire.Create:
		return f.create(m)
	}
	r := f.runs[runOf(m)]
	if r == nil {
		return nil, wire.Errorf(wire.CodeUnknownRun, "run", runOf(m), "one that exists")
	}
	if e := epochOf(m); !e.IsZero() && e != r.info.Epoch {
		return nil, &wire.Error{Code: wire.CodeStaleEpoch, Epoch: r.info.Epoch}
	}
	switch m := m.(type) {
	case *wire.InfoRequest:
		info := r.info
		return &info, nil
	case *wire.LayoutRequest:
		return &wire.Layout{Payload: r.layout}, nil
	case *wire.StepsRequest:
		return &wire.Steps{Version: r.info.Version, Rows: len(r.rows), Payload: wire.AppendUint64s(nil, r.rows)}, nil
	case *wire.LabelsRequest:
		var list []wire.Labelled
		for _, s := range r.rows {
			list = append(list, wire.Labelled{Step: s, Label: r.labels[s]})
		}
		list = list[m.From:]
		return &wire.Labels{Version: r.info.Version, Rows: len(r.rows), From: m.From, N: len(list), Payload: wire.AppendLabels(nil, list)}, nil
	case *wire.Delete:
		if m.UID != r.info.UID {
			return nil, wire.Errorf(wire.CodeUnknownRun, "uid", m.UID, fmt.Sprint(r.info.UID))
		}
		delete(f.runs, m.Run)
		return &wire.OK{}, nil
	}
	return f.work(r, worker, m)
}

func (f *fake) create(m *wire.Create) (wire.Message, *wire.Error) {
	if r := f.runs[m.Spec.Name]; r != nil {
		if field, mine, theirs := m.Spec.Differs(r.info.Spec); field != "" {
			return nil, wire.Errorf(wire.CodeExists, field, mine, fmt.Sprint(theirs))
		}
		info := r.info
		return &info, nil
	}
	if len(f.workers) == 0 {
		return nil, &wire.Error{Code: wire.CodeNoWorkers}
	}
	r := &fakeRun{
		layout: m.Payload, labels: map[wire.Step]string{}, grads: map[wire.Step][]float32{}, open: map[wire.Step]*fakeStep{},
		done: map[wire.Attempt]*wire.WaitReply{}, queries: map[wire.QueryID]*fakeQuery{},
		info: wire.Info{Spec: m.Spec, UID: uint64(len(f.runs) + 1), Epoch: wire.Epoch{Incarnation: 7, Revision: 1}, State: wire.StateReady, Workers: f.workers},
	}
	for s := range m.Spec.Shards {
		r.info.Lo = append(r.info.Lo, m.Spec.Dim*int64(s)/int64(m.Spec.Shards))
		r.info.Owner = append(r.info.Owner, s%len(f.workers))
	}
	f.runs[m.Spec.Name] = r
	info := r.info
	return &info, nil
}

// takeover gives a run a new epoch and moves every shard on by a worker; queries are lost.
// Staged columns are lost too unless they are kept.
func (f *fake) takeover(keep bool) {
	r := f.runs["run"]
	r.info.Epoch.Revision++
	r.info.Owner = slices.Clone(r.info.Owner)
	for s := range r.info.Owner {
		r.info.Owner[s] = (r.info.Owner[s] + 1) % len(r.info.Workers)
	}
	clear(r.queries)
	if !keep {
		clear(r.open)
	}
}

func runOf(m wire.Message) string {
	switch m := m.(type) {
	case *wire.InfoRequest:
		return m.Run
	case *wire.LayoutRequest:
		return m.Run
	case *wire.StepsRequest:
		return m.Run
	case *wire.LabelsRequest:
		return m.Run
	case *wire.Delete:
		return m.Run
	case *wire.Open:
		return m.Run
	case *wire.Wait:
		return m.Run
	case *wire.Query:
		return m.Run
	case *wire.Result:
		return m.Run
	case *wire.Close:
		return m.Run
	case *wire.Chunk:
		return m.Run
	case *wire.Vec:
		return m.Run
	case *wire.Fetch:
		return m.Run
	}
	return ""
}

func epochOf(m wire.Message) wire.Epoch {
	switch m := m.(type) {
	case *wire.Result:
		return m.Epoch
	case *wire.Close:
		return m.Epoch
	case *wire.Chunk:
		return m.Epoch
	case *wire.Vec:
		return m.Epoch
	case *wire.Fetch:
		return m.Epoch
	}
	return wire.Epoch{}
}
