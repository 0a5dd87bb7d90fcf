package integration

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mfac/client"
	"mfac/wire"
)

// Here: messages that are none, to every endpoint of live services. That a process with little
// memory survives the worst of them is shown in package wire.

// endpoint is a subject that a service hears, and a good request to it.
type endpoint struct {
	subject string
	good    wire.Message
}

// endpoints are those of the coordinator and of worker w0, for the client's name and a run.
func (s *site) endpoints(run string) []endpoint {
	info := s.info(run)
	head := wire.Shard{Seq: 1, Run: run, Epoch: info.Epoch}
	one := payload32([]float32{1})
	spec := info.Spec
	spec.Name = "foreign"
	var list []endpoint
	for _, m := range []wire.Message{
		&wire.Create{Spec: spec}, &wire.Delete{Run: run}, &wire.InfoRequest{Run: run}, &wire.LayoutRequest{Run: run}, &wire.List{}, &wire.Status{},
		&wire.Open{Run: run, Step: 40}, &wire.Wait{Run: run, Epoch: info.Epoch, Step: 30},
		&wire.Query{Run: run, Token: 3, Kind: wire.KindVector, Vectors: 1, DType: wire.F32, Result: wire.F32},
		&wire.Result{Run: run, Epoch: info.Epoch, Query: 1}, &wire.Close{Run: run, Epoch: info.Epoch, Query: 1}, &wire.StepsRequest{Run: run}, &wire.LabelsRequest{Run: run},
		&wire.Forget{Run: run, Token: 5, Payload: wire.AppendUint64s(nil, []wire.Step{999})}, &wire.Set{Run: run, Token: 6, Damping: info.Spec.Damping}, &wire.Resize{Run: run, Token: 8, Window: info.Spec.Window},
		&wire.Values{Run: run, Epoch: info.Epoch, Query: 1, N: 1}, &wire.Freeze{Run: run, Token: 7, Thaw: true}, &wire.FrozenRequest{Run: run},
	} {
		list = append(list, endpoint{s.sub.Coordinator(m.Type(), s.name), m})
	}
	for _, m := range []wire.Message{
		&wire.Chunk{Run: run, Epoch: info.Epoch, Step: 40, N: 1, DType: wire.F32, Sum: wire.Checksum(one), Payload: one},
		&wire.Vec{Run: run, Epoch: info.Epoch, Query: 1, N: 1, DType: wire.F32, Sum: wire.Checksum(one), Payload: one},
		&wire.Fetch{Run: run, Epoch: info.Epoch, Query: 1, N: 1, DType: wire.F32},
	} {
		list = append(list, endpoint{s.sub.Worker("w0", m.Type(), s.name), m})
	}
	mask := []byte{1}
	for _, m := range []wire.Message{
		&wire.Adopt{Shard: head, UID: info.UID, Lo: 0, Cols: 1, Slots: 6, Store: wire.F32}, &wire.Install{Shard: head}, &wire.Gram{Shard: head, I1: 1, Payload: wire.AppendSlots(nil, []wire.Slot{0})}, &wire.SlotLabels{Shard: head, Payload: wire.AppendSlots(nil, []wire.Slot{0})},
		&wire.Stage{Shard: head, Step: 40, Attempt: 1 << 40, Slot: 5}, &wire.Multiply{Shard: head, Step: 40}, &wire.Commit{Shard: head, Version: 9, Step: 40},
		&wire.Reshape{Shard: head, Version: 9, Slots: 9}, &wire.Evict{Shard: head, Version: 9, Payload: wire.AppendRows(nil, []wire.Row{{Slot: 0, Step: 40}})},
		&wire.Drop{Shard: head, Step: 40}, &wire.Prepare{Shard: head, Query: 1, Vectors: 1, DType: wire.F32, Mask: mask},
		&wire.Coef{Shard: head, Query: 1, Kind: wire.KindRow, Vectors: 1, Result: wire.F32, Mask: mask}, &wire.Norms{Shard: head, Query: 1}, &wire.DotVectors{Shard: head, Query: 1, Payload: make([]byte, 8)},
		&wire.Factor{Shard: head, Query: 1, Damping: 1, Result: wire.F32}, &wire.Columns{Shard: head, Query: 1, Mask: mask, Payload: wire.AppendIndices(nil, []int64{0})},
		&wire.Prune{Shard: head, Query: 1, Do: wire.PruneBegin, Kind: wire.KindPrune}, &wire.Prune{Shard: head, Query: 1, Do: wire.PruneResult, Result: wire.F32, Mask: mask, Payload: make([]byte, 8)},
		&wire.Blocks{Shard: head, Query: 1, Do: wire.BlocksBegin, What: wire.BlocksDiag, Vectors: 1, Damping: 1, N: 1, Size: 1, Payload: wire.BeginPayload(nil, nil, wire.Partition{Starts: []int64{0}, End: 1})},
		&wire.Blocks{Shard: head, Query: 1, Do: wire.BlocksResult, Result: wire.F32},
		&wire.Hold{Shard: head, Query: 1, Damping: 1, Payload: wire.AppendSlots(nil, []wire.Slot{0})}, &wire.Whiten{Shard: head, Query: 1, N: 1},
		&wire.Recall{Shard: head, Query: 1, Of: 2, Damping: 1, Result: wire.F32},
		&wire.CloseQuery{Shard: head, Query: 1}, &wire.Release{Shard: head, UID: info.UID},
	} {
		list = append(list, endpoint{s.sub.Control("w0", m.Type(), s.name), m})
	}
	return list
}

// frame is msgpack as a frame of an endpoint, in the place where its messages have theirs.
func (e endpoint) frame(msgpack string) wire.Frame {
	f := wire.Frame{Header: map[string][]string{wire.HeaderProtocol: {wire.Protocol}, wire.HeaderType: {e.good.Type()}}, Data: []byte(msgpack)}
	if _, bulk := e.good.(wire.Bulk); bulk {
		f.Header[wire.HeaderMeta] = []string{base64.RawURLEncoding.EncodeToString(f.Data)}
		f.Data = nil
	}
	return f
}

func (e endpoint) encode(t *testing.T) wire.Frame {
	t.Helper()
	f, err := wire.Encode(e.good)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestHostileMessages sends what would end a process that had msgpack decode it, messages cut off
// at every length, too large ones, and those of another version, to every endpoint. Each is
// answered with a clear error, and nothing has changed.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	deep := func(item string) string { // a million levels in a message, as many as fit in a header
		return "\x81\xa1x" + strings.Repeat(item, 1_000_000/len(item)) + "\x00"
	}
	hostile := map[string]string{
		"array of 2³¹": "\x81\xa3run\xdd\x80\x00\x00\x00", "array of 2³²-1": "\x81\xa1x\xdd\xff\xff\xff\xff",
		"map of 2³¹": "\x81\xa3run\xdf\x80\x00\x00\x00", "map of 2³²-1 outermost": "\xdf\xff\xff\xff\xff",
		"string of 2³²-1": "\x81\xa3run\xdb\xff\xff\xff\xff", "binary of 2³²-1": "\x81\xa3run\xc6\xff\xff\xff\xff",
		"mask of 2³²-1": "\x81\xa4mask\xc6\xff\xff\xff\xff", "list of 2³¹ structs": "\x81\xa4keep\xdd\x80\x00\x00\x00",
		"extension": "\x81\xa3run\xc9\xff\xff\xff\xff\x01", "a million arrays deep": deep("\x91"), "a million maps deep": deep("\x81"),
		"a name of many maps": deep("\x81\xa1x"), "nil": "\xc0", "an array": "\x90", "nothing": "", "two maps": "\x80\x80",
		"text": "hello", "zeros": strings.Repeat("\x00", 1000), "a field of another type": "\x81\xa3run\x05",
		"an epoch of another type": "\x82\xa3run\xa5ghost\xa5epoch\xa1x",
	}
	for _, e := range s.endpoints("bad") {
		t.Run(e.good.Type(), func(t *testing.T) {
			refused := func(what string, f wire.Frame, codes ...wire.Code) {
				t.Helper()
				m, ok := s.send(e.subject, f).(*wire.Error)
				if !ok || !slices.Contains(codes, m.Code) || m.Field == "" || m.Limit == "" {
					t.Errorf("%s: the answer is %+v, want an error of %v", what, m, codes)
				}
			}
			for name, msgpack := range hostile {
				f := e.frame(msgpack)
				for len(f.Header[wire.HeaderMeta]) > 0 && len(f.Header[wire.HeaderMeta][0]) > 1_000_000 { // past NATS' own limit nothing arrives
					f = e.frame(msgpack[:700_000])
				}
				switch name {
				case "nil", "an array", "text", "zeros", "nothing", "two maps":
					refused(name, f, wire.CodeMalformed)
				case "a field of another type", "an epoch of another type": // skipped where the message has no such field
					if t := e.good.Type(); t != wire.OpList && t != wire.OpStatus {
						refused(name, f, wire.CodeMalformed, wire.CodeInvalid, wire.CodeUnknownRun)
					}
				default:
					refused(name, f, wire.CodeMalformed, wire.CodeTooLarge, wire.CodeInvalid)
				}
			}
			whole := e.encode(t)
			msgpack := string(whole.Data)
			if h := whole.Header[wire.HeaderMeta]; len(h) > 0 {
				p, err := base64.RawURLEncoding.DecodeString(h[0])
				if err != nil {
					t.Fatal(err)
				}
				msgpack = string(p)
			}
			for n := range len(msgpack) {
				refused(fmt.Sprintf("cut off after %d bytes", n), e.frame(msgpack[:n]), wire.CodeMalformed)
			}
			refused("too long", e.frame(msgpack+"\xc0"), wire.CodeMalformed)

			change := func(f func(h map[string][]string)) wire.Frame {
				g := e.encode(t)
				f(g.Header)
				return g
			}
			refused("protocol 2", change(func(h map[string][]string) { h[wire.HeaderProtocol] = []string{"2"} }), wire.CodeProtocol)
			refused("no protocol", change(func(h map[string][]string) { delete(h, wire.HeaderProtocol) }), wire.CodeProtocol)
			refused("no headers", wire.Frame{Data: whole.Data}, wire.CodeProtocol)
			refused("another type", change(func(h map[string][]string) { h[wire.HeaderType] = []string{"hello"} }), wire.CodeMalformed)
			if _, bulk := e.good.(wire.Bulk); bulk {
				refused("no meta", change(func(h map[string][]string) { delete(h, wire.HeaderMeta) }), wire.CodeMalformed)
				refused("meta that is not base64", change(func(h map[string][]string) { h[wire.HeaderMeta] = []string{"*"} }), wire.CodeMalformed)
				refused("large meta", e.frame("\x81\xa1x\xc6\x00\x01\x00\x00"+strings.Repeat("\x00", 1<<16)), wire.CodeTooLarge)
				f := e.encode(t)
				f.Data = make([]byte, wire.MaxPayload+1)
				refused("large payload", f, wire.CodeTooLarge)
			} else {
				refused("large message", e.frame("\x81\xa1x\xc6\x00\x01\x00\x00"+strings.Repeat("\x00", 1<<16)), wire.CodeTooLarge)
			}
		})
	}
	s.unchanged(t)
	s.memory()
}

// spoil changes some bytes of a message.
func spoil(r *rand.Rand, e endpoint, f wire.Frame) wire.Frame {
	text := f.Data
	if h := f.Header[wire.HeaderMeta]; len(h) > 0 {
		text, _ = base64.RawURLEncoding.DecodeString(h[0])
	}
	text = slices.Clone(text)
	for range 1 + r.IntN(4) {
		text[r.IntN(len(text))] ^= 1 << r.IntN(8)
	}
	g := e.frame(string(text))
	if _, bulk := e.good.(wire.Bulk); bulk {
		g.Data = slices.Clone(f.Data)
		if len(g.Data) > 0 && r.IntN(3) == 0 {
			g.Data[r.IntN(len(g.Data))] ^= 1 << r.IntN(8)
		}
	}
	return g
}

// TestRandomMessages sends noise to every endpoint, and messages of which some bits are changed to
// those that clients have. What can be decoded by chance is done, to a run that is there for it;
// the other run doesn't change and the services go on.
func TestRandomMessages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	victim := client.RunConfig{Name: "victim", Dim: 500, Window: 2, Damping: 1, Shards: 2}
	run := s.attach(s.cl, victim)
	if _, err := run.Publish(soon(t), 1, make([]float32, 500)); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(15, 16))
	noise := func() []byte {
		p := make([]byte, r.IntN(1<<r.IntN(14)))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		return p
	}
	const each = 60
	for _, e := range s.endpoints("victim") {
		inbox, err := s.nc.SubscribeSync(s.nc.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		whole := e.encode(t)
		for i := range each {
			f := wire.Frame{Header: map[string][]string{wire.HeaderProtocol: {wire.Protocol}, wire.HeaderType: {e.good.Type()}}, Data: noise()}
			switch control := strings.Contains(e.subject, ".ctl."); {
			case i%2 == 0:
				f.Header[wire.HeaderMeta] = []string{base64.RawURLEncoding.EncodeToString(noise())}
			case !control && e.good.Type() != wire.OpDelete: // coordinators alone may send to a worker's ctl
				f = spoil(r, e, whole)
			}
			if err := s.nc.PublishMsg(&nats.Msg{Subject: e.subject, Reply: inbox.Subject, Header: f.Header, Data: f.Data}); err != nil {
				t.Fatal(err)
			}
		}
		answers, codes := 0, map[string]int{}
		for answers < each {
			m, err := inbox.NextMsg(3 * time.Second)
			if err != nil {
				break // a run that some other coordinator might own
			}
			answers++
			got, err := wire.Decode(wire.Frame{Header: m.Header, Data: m.Data}, "")
			if err != nil {
				t.Fatalf("%s: an answer that can't be read: %v", e.good.Type(), err)
			}
			what := got.Type()
			if e, ok := got.(*wire.Error); ok {
				what = string(e.Code)
			}
			codes[what]++
		}
		if codes[string(wire.CodeInternal)] > 0 || answers < each {
			t.Errorf("%s: %d answers to %d messages: %v", e.good.Type(), answers, each, codes)
		}
		t.Logf("%s: %v", e.good.Type(), codes)
	}
	runs, err := s.cl.Runs(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range runs {
		if name != "bad" {
			if err := s.cl.Delete(soon(t), name); err != nil {
				t.Error(err)
			}
		}
	}
	s.unchanged(t)
	s.memory()
}

// foreign are reply subjects that are not the stranger's own.
var foreign = []string{
	"$JS.API.STREAM.PURGE.KV_mfac_default_runs", "$JS.API.STREAM.DELETE.KV_mfac_default_runs",
	"_INBOX.other.1", "_INBOX.strangers.1", "_INBOX.stranger", "_INBOX.stranger.", "_INBOX.stranger..1", "_INBOX.stranger.*", "_INBOX.stranger.>",
	"foreign.subject", "mfac.default.c.delete.stranger", "mfac.default.hello.w0", "stranger",
}

// TestForeignReply names reply subjects that are not the caller's own in good requests, to every
// endpoint: nothing is published there, nothing is done.
func TestForeignReply(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	js, err := jetstream.New(s.nc)
	if err != nil {
		t.Fatal(err)
	}
	stream := func() uint64 {
		st, err := js.Stream(soon(t), "KV_mfac_default_runs")
		if err != nil {
			t.Fatal(err)
		}
		return st.CachedInfo().State.LastSeq
	}
	before := stream()
	endpoints := s.endpoints("bad")
	heard := make(chan *nats.Msg, 10_000)
	listener := s.connect("listener")
	t.Cleanup(listener.Close)
	for _, subject := range []string{"$JS.API.STREAM.>", "_INBOX.other.>", "_INBOX.strangers.>", "_INBOX.stranger", "_INBOX.stranger.>", "foreign.>", "stranger"} {
		if _, err := listener.ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := listener.Flush(); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, e := range endpoints {
		f := e.encode(t)
		for _, reply := range append(foreign, "") {
			if err := s.nc.PublishMsg(&nats.Msg{Subject: e.subject, Reply: reply, Header: f.Header, Data: f.Data}); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	// A message on each endpoint that is answered at once, behind the others.
	const fence = "_INBOX.stranger.fence"
	for _, e := range endpoints {
		if err := s.nc.PublishMsg(&nats.Msg{Subject: e.subject, Reply: fence}); err != nil {
			t.Fatal(err)
		}
	}
	fences := 0
	collect := func(d time.Duration) {
		for {
			select {
			case m := <-heard:
				switch {
				case m.Subject == fence:
					fences++
				case strings.HasPrefix(m.Subject, "$JS.API.STREAM.") && m.Reply != "": // the services' own, and this test's
				default:
					t.Errorf("heard on %s: %v %q", m.Subject, m.Header, m.Data)
				}
			case <-time.After(d):
				return
			}
		}
	}
	eventually(t, func() error {
		if collect(50 * time.Millisecond); fences < len(endpoints) {
			return fmt.Errorf("%d of %d endpoints have answered", fences, len(endpoints))
		}
		return nil
	})
	collect(time.Second) // what is answered late: long polls, runs that nobody knows
	if fences != len(endpoints) {
		t.Errorf("%d answers on the stranger's own subject, want %d", fences, len(endpoints))
	}
	t.Logf("%d requests with %d foreign replies to %d endpoints: silence", sent, len(foreign), len(endpoints))
	if after := stream(); after != before {
		t.Errorf("the stream of runs is at %d, was at %d", after, before)
	}
	s.unchanged(t)
	s.memory()
}
