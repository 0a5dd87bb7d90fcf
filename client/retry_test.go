package client

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"mfac/internal/natsx"
	"mfac/wire"
)

// everything does one of each, and checks the results.
func everything(t *testing.T, r *Run, step wire.Step) {
	t.Helper()
	g, dst := ramp(dim), make([]float32, dim)
	if _, err := r.Precondition(t.Context(), step, dst, g); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst, g)
	clear(dst)
	if _, err := r.IHVP(t.Context(), dst, g); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst, g)
	if _, err := r.Steps(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Every request is answered at the third try: the second time it was done but the answer was lost.
func TestSilence(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(dim, WithTryTimeout(10*time.Millisecond), WithChunkBytes(1024))
	tries := map[string]int{}
	f.on(func(op, worker string, m wire.Message) (wire.Message, bool) {
		tries[op]++
		switch tries[op] {
		case 1:
			return nil, true
		case 2:
			f.plain(worker, m)
			return nil, true
		}
		return nil, false
	})
	everything(t, r, 1)
	for _, op := range []string{wire.OpOpen, wire.OpWait, wire.OpQuery, wire.OpResult, wire.OpSteps, wire.OpChunk, wire.OpVec, wire.OpFetch} {
		if n := f.count(op); n < 3 {
			t.Errorf("%s came %d times", op, n)
		}
	}
}

// Each passing refusal is heard a few times, in turn.
func TestPassingRefusals(t *testing.T) {
	for op, codes := range map[string][]wire.Code{
		wire.OpOpen:   {wire.CodeBusy, wire.CodeUnavailable},
		wire.OpQuery:  {wire.CodeBusy, wire.CodeUnavailable},
		wire.OpWait:   {wire.CodeBusy, wire.CodeUnavailable, wire.CodeStaleEpoch},
		wire.OpResult: {wire.CodeBusy, wire.CodeUnavailable, wire.CodeUnknownQuery, wire.CodeStaleEpoch},
		wire.OpChunk:  {wire.CodeBusy, wire.CodeNotOpen, wire.CodeUnavailable, wire.CodeUnknownShard, wire.CodeStaleEpoch},
		wire.OpVec:    {wire.CodeBusy, wire.CodeNotOpen, wire.CodeUnavailable, wire.CodeUnknownQuery, wire.CodeUnknownShard},
		wire.OpFetch:  {wire.CodeBusy, wire.CodeUnavailable, wire.CodeUnknownQuery, wire.CodeUnknownShard, wire.CodeStaleEpoch},
		wire.OpSteps:  {wire.CodeUnavailable},
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, "a", "b")
			r := f.attached(dim)
			heard := 0
			f.on(func(got, _ string, _ wire.Message) (wire.Message, bool) {
				if got != op || heard == 2*len(codes) {
					return nil, false
				}
				heard++
				return &wire.Error{Code: codes[(heard-1)/2]}, true
			})
			everything(t, r, 1)
			if heard != 2*len(codes) {
				t.Errorf("heard %d refusals", heard)
			}
		})
	}
}

// A refusal that asking again can't mend is returned at once.
func TestFinalRefusals(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(dim)
	var step wire.Step
	for op, codes := range map[string][]wire.Code{
		wire.OpOpen:   {wire.CodeNotGrowing, wire.CodeInvalid, wire.CodeUnknownRun, wire.CodeInternal},
		wire.OpChunk:  {wire.CodeNotFinite, wire.CodeConflict, wire.CodeSuperseded, wire.CodeDropped, wire.CodeInvalid},
		wire.OpWait:   {wire.CodeNotFinite, wire.CodeConflict, wire.CodeSuperseded, wire.CodeDropped},
		wire.OpQuery:  {wire.CodeBehind, wire.CodeVersionGone, wire.CodeTooLarge},
		wire.OpVec:    {wire.CodeNotFinite, wire.CodeConflict},
		wire.OpResult: {wire.CodeIllConditioned, wire.CodeVersionGone},
		wire.OpFetch:  {wire.CodeOverflow},
	} {
		for _, c := range codes {
			f.on(func(got, _ string, _ wire.Message) (wire.Message, bool) {
				return &wire.Error{Code: c, Hint: "because"}, got == op
			})
			f.mu.Lock()
			clear(f.runs["run"].open)
			f.mu.Unlock()
			var err error
			step++
			switch op {
			case wire.OpOpen, wire.OpChunk, wire.OpWait:
				_, err = r.Publish(t.Context(), step, ramp(dim))
			default:
				_, err = r.IHVP(t.Context(), make([]float32, dim), ramp(dim))
			}
			if err == nil {
				t.Errorf("%s %s: no error", op, c)
				continue
			}
			wantCode(t, err, c, "because")
		}
	}
}

// When the run changes hands, a publication goes on: staged columns that the new owner keeps are
// not sent again, others are, to where the shards are now.
func TestTakeover(t *testing.T) {
	for name, keep := range map[string]bool{"kept": true, "lost": false} {
		for _, at := range []int{1, 5, 12, 21} {
			t.Run(name+strconv.Itoa(at), func(t *testing.T) {
				f := newFake(t, "a", "b", "c")
				r := f.attached(dim)
				n := 0
				f.on(func(op, _ string, m wire.Message) (wire.Message, bool) {
					if op == wire.OpChunk {
						if n++; n == at {
							f.takeover(keep)
						}
					}
					return nil, false
				})
				g, dst := ramp(dim), make([]float32, dim)
				if _, err := r.Precondition(t.Context(), 1, dst, g); err != nil {
					t.Fatal(err)
				}
				wantTwice(t, dst, g)
				if n := f.count(wire.OpOpen); n != 2 {
					t.Errorf("opened %d times", n)
				}
				if sent := f.count(wire.OpChunk); keep && at == 21 && sent > 21+7 { // one shard is 7 chunks
					t.Errorf("%d chunks were sent", sent)
				}
			})
		}
	}
}

// The last acknowledgements are lost and a new owner commits the step: it is not published twice.
func TestCommittedByTheNextOwner(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(8, WithTryTimeout(20*time.Millisecond))
	n := 0
	f.on(func(op, worker string, m wire.Message) (wire.Message, bool) {
		if op != wire.OpChunk {
			return nil, false
		}
		if n++; n == 2 {
			f.plain(worker, m)
			f.takeover(true)
			return nil, true
		}
		return nil, false
	})
	c, err := r.Publish(t.Context(), 1, ramp(8))
	if err != nil || c.Version != 1 {
		t.Fatalf("commit is %v, %v", c, err)
	}
	// Without an attempt of ours, not_growing is what it says.
	_, err = r.Publish(t.Context(), 1, ramp(8))
	wantCode(t, err, wire.CodeNotGrowing)
}

// An attempt that the coordinator has forgotten is opened again, to find out.
func TestForgotten(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(8)
	forgotten := false
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
		if op != wire.OpWait || forgotten {
			return nil, false
		}
		forgotten = true
		return &wire.Error{Code: wire.CodeUnknownStep}, true
	})
	if c, err := r.Publish(t.Context(), 1, ramp(8)); err != nil || c.Version != 1 {
		t.Errorf("commit is %v, %v", c, err)
	}
}

// A step that was dropped while the run changed hands is opened again.
func TestDroppedByATakeover(t *testing.T) {
	for _, c := range []wire.Code{wire.CodeDropped, wire.CodeSuperseded} {
		f := newFake(t, "a")
		r := f.attached(8)
		dropped := false
		f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
			if op != wire.OpWait || dropped {
				return nil, false
			}
			dropped = true
			f.takeover(false)
			run := f.runs["run"]
			run.rows, run.info.Newest, run.info.Version = nil, 0, 0
			return &wire.Error{Code: c}, true
		})
		if _, err := r.PublishColumns(t.Context(), 1, 0, ramp(8)); err != nil {
			t.Errorf("%s: %v", c, err)
		}
		if n := f.count(wire.OpOpen); n != 2 {
			t.Errorf("%s: opened %d times", c, n)
		}
		f.nc.Close()
	}
}

// A pipeline goes on in the order of its steps when the run changes hands.
func TestPipelineTakeover(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(dim)
	n, last := 0, wire.Step(0)
	f.on(func(op, _ string, m wire.Message) (wire.Message, bool) {
		if op == wire.OpChunk {
			if n++; n%40 == 15 {
				f.takeover(n%80 == 15)
				last = 0
			}
		}
		if o, ok := m.(*wire.Open); ok && len(f.runs["run"].open) == 0 {
			if o.Step < last {
				t.Errorf("step %d was opened after %d", o.Step, last)
			}
			last = o.Step
		}
		return nil, false
	})
	rows := make([][]float32, 6)
	for i := range rows {
		rows[i] = ramp(dim)
	}
	commits, err := r.PublishMany(t.Context(), 1, rows)
	if err != nil || commits[5].Version != 6 {
		t.Fatalf("commits are %v, %v", commits, err)
	}
}

func TestQueryLost(t *testing.T) {
	for _, where := range []string{wire.OpVec, wire.OpResult, wire.OpFetch} {
		f := newFake(t, "a", "b")
		r := f.attached(dim)
		n, tokens := 0, map[uint64]bool{}
		f.on(func(op, _ string, m wire.Message) (wire.Message, bool) {
			if q, ok := m.(*wire.Query); ok {
				tokens[q.Token] = true
			}
			if op == where {
				if n++; n == 1 || n == 5 {
					f.takeover(false)
				}
			}
			return nil, false
		})
		dst := make([]float32, dim)
		if _, err := r.IHVP(t.Context(), dst, ramp(dim)); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		wantTwice(t, dst, ramp(dim))
		if len(tokens) < 2 {
			t.Errorf("%s: %d tokens", where, len(tokens))
		}
		f.nc.Close()
	}
}

// A chunk that was changed on its way is sent again.
func TestSpoiltChunks(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(dim)
	n := map[int64]int{}
	f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
		if c, ok := m.(*wire.Chunk); ok {
			n[c.Lo]++
			return wire.Errorf(wire.CodeMalformed, "checksum", 1, "2"), n[c.Lo] == 1 || c.Step == 2
		}
		return nil, false
	})
	everything(t, r, 1)
	_, err := r.Publish(t.Context(), 2, ramp(dim))
	wantCode(t, err, wire.CodeMalformed, "checksum is 1, must be 2")
}

// A reply that is not one to the request is asked for again, and is an error if it stays so.
func TestWrongReplies(t *testing.T) {
	part := func(f *fake, worker string, m wire.Message) *wire.Part {
		p, ok := f.plain(worker, m).(*wire.Part)
		if !ok {
			return &wire.Part{}
		}
		return p
	}
	for name, wrong := range map[string]func(f *fake, worker string, m wire.Message) wire.Message{
		"checksum": func(f *fake, w string, m wire.Message) wire.Message { p := part(f, w, m); p.Sum++; return p },
		"columns":  func(f *fake, w string, m wire.Message) wire.Message { p := part(f, w, m); p.Lo++; return p },
		"number": func(f *fake, w string, m wire.Message) wire.Message {
			p := part(f, w, m)
			p.N--
			p.Payload = p.Payload[:4*p.N]
			p.Sum = wire.Checksum(p.Payload)
			return p
		},
		"length":  func(f *fake, w string, m wire.Message) wire.Message { p := part(f, w, m); p.N++; return p },
		"type":    func(f *fake, w string, m wire.Message) wire.Message { return &wire.Ack{Columns: 1} },
		"a query": func(f *fake, w string, m wire.Message) wire.Message { return &wire.OK{} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, "a", "b")
			r := f.attached(dim)
			for _, times := range []int{1, 1 << 30} {
				n := 0
				f.on(func(op, worker string, m wire.Message) (wire.Message, bool) {
					if op != wire.OpFetch || n == times {
						return nil, false
					}
					n++
					return wrong(f, worker, m), true
				})
				dst := make([]float32, dim)
				_, err := r.IHVP(t.Context(), dst, ramp(dim))
				switch {
				case times == 1 && err == nil:
					wantTwice(t, dst, ramp(dim))
				case times == 1:
					t.Error(err)
				case err == nil || errors.Is(err, wire.ErrTimeout):
					t.Errorf("error is %v", err)
				}
			}
			f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) { return &wire.OK{}, op == wire.OpQuery })
			_, err := r.IHVP(t.Context(), make([]float32, dim), ramp(dim))
			wantCode(t, err, wire.CodeMalformed, "reply to query is ok, must be query.reply")
		})
	}
}

func TestDeadline(t *testing.T) {
	const given = 400 * time.Millisecond
	f := newFake(t, "a")
	r := f.attached(dim, WithTryTimeout(20*time.Millisecond))
	for _, op := range []string{wire.OpOpen, wire.OpChunk, wire.OpWait, wire.OpQuery, wire.OpVec, wire.OpResult, wire.OpFetch} {
		f.on(func(got, _ string, _ wire.Message) (wire.Message, bool) { return nil, got == op })
		ctx, cancel := context.WithTimeout(t.Context(), given)
		start := time.Now()
		var err error
		switch op {
		case wire.OpOpen, wire.OpChunk, wire.OpWait:
			_, err = r.Publish(ctx, 1, ramp(dim))
		default:
			_, err = r.IHVP(ctx, make([]float32, dim), ramp(dim))
		}
		cancel()
		if d := time.Since(start); d < given-10*time.Millisecond || d > given+2*time.Second {
			t.Errorf("%s: took %v", op, d)
		}
		if !errors.Is(err, wire.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || code(err) != wire.CodeTimeout {
			t.Errorf("%s: error is %v", op, err)
		}
		if !strings.Contains(err.Error(), "none within") {
			t.Errorf("%s: error is %v", op, err)
		}
		f.mu.Lock()
		clear(f.runs["run"].open)
		f.mu.Unlock()
	}
	f.on(nil)

	ctx, cancel := context.WithCancel(t.Context())
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
		if op == wire.OpWait {
			cancel()
		}
		return nil, op == wire.OpWait
	})
	_, err := r.Publish(ctx, 2, ramp(dim))
	if !errors.Is(err, context.Canceled) || errors.Is(err, wire.ErrTimeout) {
		t.Errorf("error is %v", err)
	}

	// Nobody there at all.
	nobody, err := Connect(t.Context(), server0(), WithTenant("nobody"))
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = nobody.Runs(ctx)
	wantCode(t, err, wire.CodeTimeout, "no answer from a coordinator of tenant nobody: no responders")
}

// A pending step is looked at again after a while: what a shard has lost in silence is sent again.
func TestNudge(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(8)
	first := true
	f.on(func(op, worker string, m wire.Message) (wire.Message, bool) {
		if op == wire.OpChunk && first {
			first = false
			return f.ack(worker, 0), true // said, but not done
		}
		return nil, false
	})
	p := r.publication(1, whole(ramp(8), ""), &call{})
	p.patience = 50 * time.Millisecond
	if c, err := r.publish(t.Context(), p); err != nil || c.Version != 1 {
		t.Errorf("commit is %v, %v", c, err)
	}
}

// serverOf is a NATS server of the test's own, and its port, to be started again at.
func serverOf(t *testing.T) (*natsx.Server, int) {
	t.Helper()
	s, err := natsx.Embedded(natsx.EmbeddedOptions{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	was := natsServer
	natsServer = s
	t.Cleanup(func() { natsServer = was })
	port, err := strconv.Atoi(s.URL()[strings.LastIndexByte(s.URL(), ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return s, port
}

// NATS goes away in the middle of a publication and comes back.
func TestServerRestarts(t *testing.T) {
	s, port := serverOf(t)
	defer func() { s.Shutdown() }()
	f := newFake(t, "a", "b")
	r := f.attached(dim)
	cut := make(chan bool, 1)
	n := 0
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
		if op == wire.OpChunk {
			if n++; n == 5 {
				cut <- true
			}
		}
		return nil, false
	})
	restarted := make(chan error, 1)
	go func() {
		<-cut
		s.Shutdown()
		time.Sleep(100 * time.Millisecond)
		var err error
		s, err = natsx.Embedded(natsx.EmbeddedOptions{StoreDir: t.TempDir(), Port: port})
		restarted <- err
	}()
	everything(t, r, 1)
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	f.nc.Close()
	r.c.Close()
	if r.c.nc.Status() != nats.CLOSED {
		t.Error("the connection is open")
	}
}

// Another rank's columns are refused before this one's have come, and the shards know the step no more: it hears why, and
// does not open it anew, to wait for columns that nobody sends.
func TestRefusedMeanwhile(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(8)
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
		switch op {
		case wire.OpChunk:
			return &wire.Error{Code: wire.CodeNotOpen}, true
		case wire.OpWait:
			return &wire.Error{Code: wire.CodeNotFinite, Field: "column", Value: "5"}, true
		}
		return nil, false
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := r.PublishColumns(ctx, 1, 0, ramp(4))
	wantCode(t, err, wire.CodeNotFinite, "column 5")
	if n := f.count(wire.OpOpen); n != 1 {
		t.Errorf("opened %d times", n)
	}
}
