package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"mfac/client"
	"mfac/wire"
)

// stranger speaks the protocol by hand, and not always as it should.
type stranger struct {
	t    testing.TB
	nc   *nats.Conn
	name string
	sub  wire.Subjects
}

func (c *cluster) stranger(name string) *stranger {
	c.t.Helper()
	nc := c.connect(name)
	c.t.Cleanup(nc.Close)
	return &stranger{c.t, nc, name, wire.Subjects{Tenant: "default"}}
}

// send sends a frame and returns the answer.
func (s *stranger) send(subject string, f wire.Frame) wire.Message {
	s.t.Helper()
	reply, err := s.nc.RequestMsg(&nats.Msg{Subject: subject, Header: f.Header, Data: f.Data}, 10*time.Second)
	if err != nil {
		s.t.Fatalf("%s: %v", subject, err)
	}
	m, err := wire.Decode(wire.Frame{Header: reply.Header, Data: reply.Data}, "")
	if err != nil {
		s.t.Fatalf("%s: answer: %v", subject, err)
	}
	return m
}

func (s *stranger) ask(subject string, m wire.Message) wire.Message {
	s.t.Helper()
	f, err := wire.Encode(m)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(subject, f)
}

// coordinator asks the run's coordinator, and again while it is busy.
func (s *stranger) coordinator(m wire.Message) wire.Message {
	s.t.Helper()
	var reply wire.Message
	eventually(s.t, func() error {
		reply = s.ask(s.sub.Coordinator(m.Type(), s.name), m)
		if e, ok := reply.(*wire.Error); ok && (e.Code == wire.CodeBusy || e.Code == wire.CodeUnavailable) {
			return e
		}
		return nil
	})
	return reply
}

func (s *stranger) worker(id string, m wire.Message) wire.Message {
	s.t.Helper()
	return s.ask(s.sub.Worker(id, m.Type(), s.name), m)
}

func (s *stranger) info(run string) *wire.Info {
	s.t.Helper()
	return as[*wire.Info](s.t, s.coordinator(&wire.InfoRequest{Run: run}))
}

// as is m as an M.
func as[M wire.Message](t testing.TB, m wire.Message) M {
	t.Helper()
	got, ok := m.(M)
	if !ok {
		t.Fatalf("the answer is %s %+v", m.Type(), m)
	}
	return got
}

// refusal is what an error must say: code and field exactly, and parts of the value and the limit.
type refusal struct {
	code                wire.Code
	field, value, limit string
}

func (want refusal) check(t testing.TB, got error) {
	t.Helper()
	var e *wire.Error
	if !errors.As(got, &e) {
		t.Errorf("error is %v, want %+v", got, want)
		return
	}
	if e.Code != want.code || e.Field != want.field || !strings.Contains(e.Value, want.value) || !strings.Contains(e.Limit, want.limit) {
		t.Errorf("error is %+v, want %+v", *e, want)
	}
	if e.Field == "" || e.Value == "" || e.Limit == "" {
		t.Errorf("error %+v does not say field, value and limit", *e)
	}
	if s := e.Error(); !strings.Contains(s, e.Field) || !strings.Contains(s, e.Value) {
		t.Errorf("error reads %q, without its field and value", s)
	}
}

func (want refusal) answer(t testing.TB, m wire.Message) {
	t.Helper()
	e, ok := m.(*wire.Error)
	if !ok {
		t.Errorf("answer is %s %+v, want %+v", m.Type(), m, want)
		return
	}
	want.check(t, e)
}

// state is all of a run that a refused request must leave as it was.
type state struct {
	Version wire.Version
	Steps   []wire.Step
	Answer  []uint64 // bits of H⁻¹v
	Row     []uint32 // bits of a stored row
	Runs    []string
}

// site is a cluster with a run in it that nothing bad may change.
type site struct {
	t *testing.T
	*cluster
	*stranger
	cl   *client.Client
	run  *client.Run
	v    []float64
	used map[string]int64
	was  state
}

const (
	siteDim    = 5003
	siteWindow = 4
)

// newSite has the run "bad": three gradients, steps 10, 20 and 30, in a window of four, in three
// shards on two workers.
func newSite(t *testing.T) *site {
	t.Helper()
	c := start(t, shape{workers: 2, coordinator: calm})
	s := &site{t: t, cluster: c, stranger: c.stranger("stranger"), cl: c.client()}
	s.run = c.attach(s.cl, client.RunConfig{Name: "bad", Dim: siteDim, Window: siteWindow, Damping: 1e-2, Shards: 3})
	r := rand.New(rand.NewPCG(1, 2))
	for step := wire.Step(10); step <= 30; step += 10 {
		if _, err := s.run.Publish(within(t, 20*time.Second), step, normal(r, siteDim)); err != nil {
			t.Fatal(err)
		}
	}
	s.v = make([]float64, siteDim)
	for i := range s.v {
		s.v[i] = r.NormFloat64()
	}
	s.mark()
	return s
}

// mark takes the present state for what must stay.
func (s *site) mark() {
	s.t.Helper()
	s.was = s.state()
	s.settled()
	s.used = nil
	s.memory()
}

func (s *site) state() state {
	s.t.Helper()
	ctx := within(s.t, 20*time.Second)
	w, err := s.run.Steps(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	x, row := make([]float64, siteDim), make([]float32, siteDim)
	if _, err := s.run.IHVP64(ctx, x, s.v); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.run.Gradient(ctx, row, w.Steps[len(w.Steps)-1]); err != nil {
		s.t.Fatal(err)
	}
	runs, err := s.cl.Runs(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return state{w.Version, w.Steps, bits64(x), bits32(row), runs}
}

// unchanged checks that the run and the list of runs are as they were, and that nothing is left
// open.
func (s *site) unchanged(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(s.was, s.state()); diff != "" {
		t.Errorf("the run has changed (-was +is):\n%s", diff)
	}
	s.settled()
}

// settled waits until no step and no query is open.
func (s *site) settled() {
	s.t.Helper()
	eventually(s.t, func() error {
		info, err := s.run.Status(within(s.t, 10*time.Second))
		if err == nil && info.Open+info.Queries > 0 {
			err = fmt.Errorf("%d steps and %d queries are open", info.Open, info.Queries)
		}
		return err
	})
}

// memory waits until the workers' memory is what it was, and checks that they are the same
// processes as before: a worker that broke begins anew under another number.
func (s *site) memory() {
	s.t.Helper()
	first := s.used == nil
	eventually(s.t, func() error {
		list, err := s.cl.Workers(within(s.t, 10*time.Second))
		if err != nil {
			return err
		}
		now := map[string]int64{}
		for _, w := range list {
			now[fmt.Sprintf("%s-%x", w.ID, w.Instance)] = w.Used
		}
		if first {
			var rows int64 // what the shards must take
			info := s.info("bad")
			for i := range info.Lo {
				_, cols := info.Range(i)
				rows += int64(info.Spec.Slots())*((cols+15)/16*16)*4 + (cols-1)/1024*64 // a line between tiles
			}
			for _, used := range now {
				rows -= used
			}
			if rows != 0 {
				return fmt.Errorf("workers use %v, off by %d", now, rows)
			}
			s.used = now
			return nil
		}
		if diff := cmp.Diff(s.used, now); diff != "" {
			return fmt.Errorf("workers' memory (-was +is):\n%s", diff)
		}
		return nil
	})
}

func normal(r *rand.Rand, d int) []float32 {
	g := make([]float32, d)
	for i := range g {
		g[i] = float32(r.NormFloat64())
	}
	return g
}

func bits64(x []float64) []uint64 {
	out := make([]uint64, len(x))
	for i, v := range x {
		out[i] = math.Float64bits(v)
	}
	return out
}

func bits32(x []float32) []uint32 {
	out := make([]uint32, len(x))
	for i, v := range x {
		out[i] = math.Float32bits(v)
	}
	return out
}

// payload32 is x as a chunk's payload.
func payload32(x []float32) []byte {
	p := make([]byte, 0, 4*len(x))
	for _, v := range x {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(v))
	}
	return p
}

func soon(t testing.TB) context.Context {
	t.Helper()
	return within(t, 20*time.Second)
}
