package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"mfac/client"
	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/internal/rpc"
	"mfac/wire"
	"mfac/worker"
)

// guarded is a server with deploy/permissions.conf and what runs under the users of that file.
type guarded struct {
	t      *testing.T
	server *natsx.Server
	cores  map[string]zapcore.Core
	logs   map[string]*observer.ObservedLogs // by user
}

const (
	secret     = "not-a-secret"
	serviceLog = " service" // what a service itself logs, beside its connection
)

var services = []string{"worker-1", "worker-2", "coordinator-1", "coordinator-2"}

// guard starts the server. It follows the file's recipe for a further tenant, beta, too.
func guard(t *testing.T) *guarded {
	t.Helper()
	p, err := os.ReadFile("../../deploy/permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := string(p)
	for line := range strings.Lines(conf) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "password: $"); ok {
			t.Setenv(name, secret)
		}
	}
	account, end := strings.Index(conf, "  ACME {"), strings.LastIndex(conf, "}")
	if account < 0 || end < account {
		t.Fatal("deploy/permissions.conf has no account ACME")
	}
	beta := strings.NewReplacer("ACME", "BETA", "acme", "beta", "user: ", "user: beta-").Replace(conf[account:end])
	file := filepath.Join(t.TempDir(), "permissions.conf")
	if err := os.WriteFile(file, []byte(conf[:end]+beta+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := natsx.Embedded(natsx.EmbeddedOptions{StoreDir: t.TempDir(), Configure: func(o *server.Options) {
		if err := o.ProcessConfigFile(file); err != nil {
			t.Error(err)
		}
		o.Host, o.Port = "127.0.0.1", server.RANDOM_PORT
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return &guarded{t: t, server: s, cores: map[string]zapcore.Core{}, logs: map[string]*observer.ObservedLogs{}}
}

func (g *guarded) url(user string) string {
	return strings.Replace(g.server.URL(), "://", "://"+user+":"+secret+"@", 1)
}

// log is a user's log, of which g.denied and g.dropped tell. Its connections share it.
func (g *guarded) log(user string) *zap.Logger {
	if g.logs[user] == nil {
		core, logs := observer.New(zapcore.DebugLevel)
		g.cores[user], g.logs[user] = core, logs
	}
	return zap.New(g.cores[user])
}

// connect connects a user under its own name, or under another.
func (g *guarded) connect(user, name string) *nats.Conn {
	g.t.Helper()
	nc, err := natsx.Connect(within(g.t, 10*time.Second), natsx.Options{URL: g.url(user), Name: name, Log: g.log(user)})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(nc.Close)
	return nc
}

// client connects a user's client. What is denied is an error after a try of a short time.
func (g *guarded) client(user string, opts ...client.Option) *client.Client {
	g.t.Helper()
	opts = append([]client.Option{
		client.WithName(user), client.WithTenant("acme"), client.WithLogger(g.log(user)), client.WithTryTimeout(500 * time.Millisecond),
	}, opts...)
	cl, err := client.Connect(within(g.t, 10*time.Second), g.url(user), opts...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(cl.Close)
	return cl
}

// serve starts a worker or a coordinator; the function that is returned stops it, once.
func (g *guarded) serve(user string) (stop func()) {
	g.t.Helper()
	nc := g.connect(user, user)
	log := g.log(user + serviceLog)
	var s interface{ Stop(context.Context) error }
	var err error
	if strings.HasPrefix(user, "worker") {
		s, err = worker.Serve(g.t.Context(), nc, worker.ServiceConfig{ID: user, Tenant: "acme", Capacity: 1 << 28, Logger: log})
	} else {
		s, err = coordinator.Serve(g.t.Context(), nc, coordinator.ServiceConfig{
			Name: user, Tenant: "acme", LeaseTTL: 2 * time.Second, Silent: 2 * time.Second, Logger: log,
		})
	}
	if err != nil {
		g.t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			g.t.Errorf("stop %s: %v", user, err)
		}
	}
	g.t.Cleanup(stop)
	return stop
}

// denied is what NATS has denied a user since the last call.
func (g *guarded) denied(user string) (list []string) {
	for _, e := range g.logs[user].TakeAll() {
		if err, ok := e.ContextMap()["error"].(string); ok && e.Message == "NATS error" {
			list = append(list, err)
		}
	}
	return list
}

// TestPermissions runs services and clients under the users of deploy/permissions.conf: all that
// each needs works, what it must not do is denied.
func TestPermissions(t *testing.T) {
	g := guard(t)
	stops := map[string]func(){}
	for _, user := range services {
		stops[user] = g.serve(user)
	}
	v := openVectors(t)
	grads := v.grads()
	cfg := client.RunConfig{Name: "digits", Dim: vectorsDim, Window: vectorsWindow, Damping: 0.01, Shards: 3}
	publisher, reader, operator := g.client("publisher"), g.client("reader"), g.client("operator")
	var run *client.Run

	t.Run("works", func(t *testing.T) {
		ctx := within(t, 30*time.Second)
		var err error
		if run, err = publisher.Attach(ctx, cfg); err != nil {
			t.Fatal(err)
		}
		got := make([]float64, vectorsDim)
		last := len(grads) - 1
		for i, x := range grads[:last] {
			if _, err := run.Publish(ctx, wire.Step(i), x); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := run.Precondition64(ctx, wire.Step(last), got, grads[last]); err != nil {
			t.Fatal(err)
		}
		check64(t, "publisher's precondition", got, v.f64("ihvp_last_0.01"), tolFloat64)

		// A coordinator that stops hands the run over: another one can do all that is needed for it.
		info, err := run.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		stops[info.Coord]()
		asReader, err := reader.Join(ctx, "digits")
		if err != nil {
			t.Fatal(err)
		}
		got32 := make([]float32, vectorsDim)
		if _, err := asReader.IHVP(ctx, got32, v.f32("v")); err != nil {
			t.Fatal(err)
		}
		check32(t, "reader's ihvp", got32, v.f64("ihvp_0.01"))
		if s, err := asReader.Scores(ctx, [][]float32{v.f32("v")}); err != nil || len(s.Steps) != vectorsWindow {
			t.Errorf("reader's scores are of %v, %v", s.Steps, err)
		}
		if _, err := run.SelfInfluence(ctx); err != nil {
			t.Errorf("publisher's self-influence: %v", err)
		}
		if w, err := asReader.Steps(ctx); err != nil || len(w.Steps) != vectorsWindow {
			t.Errorf("reader sees steps %v, %v", w.Steps, err)
		}
		if _, err := asReader.Layout(ctx); err != nil {
			t.Error(err)
		}
		if after, err := asReader.Status(ctx); err != nil || after.Coord == info.Coord || after.Lost != 0 {
			t.Errorf("status after the hand-over from %s: %+v, %v", info.Coord, after, err)
		}
		stops[info.Coord] = g.serve(info.Coord)

		if names, err := operator.Runs(ctx); err != nil || !slices.Equal(names, []string{"digits"}) {
			t.Errorf("operator sees runs %v, %v", names, err)
		}
		eventually(t, func() error { // the coordinator that answers may have heard of none yet
			workers, err := operator.Workers(ctx)
			if err == nil && len(workers) != 2 {
				err = fmt.Errorf("operator sees workers %v", workers)
			}
			return err
		})
		second := cfg
		second.Name = "second"
		if _, err := operator.Attach(ctx, second); err != nil {
			t.Error(err)
		}
		for _, c := range []*client.Client{publisher, operator} {
			r, err := c.Join(ctx, "second")
			if err == nil {
				_, err = r.Set(ctx, 0.25, "")
			}
			if err != nil {
				t.Error(err)
				continue
			}
			if _, err := r.Forget(ctx, 1); !errors.Is(err, wire.ErrUnknownStep) {
				t.Errorf("forget a step of an empty window: %v", err)
			}
			if _, err := r.Freeze(ctx); !errors.Is(err, wire.ErrTooFewRows) {
				t.Errorf("freeze an empty window: %v", err)
			}
			if _, err := r.FreezePlan(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := operator.Delete(ctx, "second"); err != nil {
			t.Error(err)
		}
		g.checkMicro(t)
		// What a worker asks when it meets an incarnation that it doesn't know.
		js, err := jetstream.New(g.connect("worker-1", "worker-1"))
		if err != nil {
			t.Fatal(err)
		}
		if inc, err := rpc.LeaseIncarnation(ctx, js, wire.Subjects{Tenant: "acme"}.LeasesBucket()); err != nil || inc == 0 {
			t.Errorf("worker reads incarnation %x, %v", inc, err)
		}
		for _, user := range append([]string{"publisher", "reader", "operator"}, services...) {
			if d := g.denied(user); len(d) > 0 {
				t.Errorf("%s was denied %q", user, d)
			}
		}
	})
	if t.Failed() {
		return
	}

	t.Run("denied", func(t *testing.T) {
		ctx := within(t, 30*time.Second)
		asReader, err := reader.Join(ctx, "digits")
		if err != nil {
			t.Fatal(err)
		}
		_, create := reader.Attach(ctx, cfg)
		_, publish := asReader.Publish(ctx, 100, grads[0])
		_, forget := asReader.Forget(ctx, 1)
		_, set := asReader.Set(ctx, 3, "")
		_, freeze := asReader.Freeze(ctx)
		if _, err := asReader.FreezePlan(ctx); err != nil {
			t.Error(err)
		}
		foreign := g.client("reader", client.WithTenant("beta"))
		_, tenant := foreign.Runs(ctx)
		for what, err := range map[string]error{
			"reader creates":       create,
			"reader publishes":     publish,
			"reader forgets":       forget,
			"reader sets":          set,
			"reader freezes":       freeze,
			"reader deletes":       reader.Delete(ctx, "digits"),
			"publisher deletes":    publisher.Delete(ctx, "digits"),
			"reader of a tenant":   tenant,
			"operator as a reader": func() error { _, err := g.client("operator", client.WithName("reader")).Runs(ctx); return err }(),
		} {
			// Under another's name not even the reply can be heard.
			if !errors.Is(err, wire.ErrDenied) && !strings.Contains(fmt.Sprint(err), "ermissions") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})

	t.Run("subjects", func(t *testing.T) {
		conns := map[string]*nats.Conn{}
		for _, user := range []string{"publisher", "reader", "operator", "worker-1", "coordinator-1", "beta-publisher"} {
			conns[user] = g.connect(user, strings.TrimPrefix(user, "beta-"))
		}
		clientOnly := []string{"mfac.acme.ctl.worker-1.commit.coordinator-1", "mfac.acme.hello.worker-1", "$JS.API.INFO",
			"$JS.API.STREAM.PURGE.KV_mfac_acme_runs", "$JS.API.STREAM.INFO.KV_mfac_acme_leases", "$KV.mfac_acme_runs.run.digits", "_INBOX.worker-1.x"}
		for user, subjects := range map[string][]string{
			"publisher": append([]string{"mfac.acme.c.open.reader", "mfac.acme.c.delete.publisher", "mfac.acme.w.worker-1.chunk.reader",
				"mfac.beta.c.open.publisher", "$SRV.PING", "_INBOX.reader.x"}, clientOnly...),
			"reader": append([]string{"mfac.acme.c.query.publisher", "mfac.acme.c.open.reader", "mfac.acme.c.wait.reader", "mfac.acme.c.create.reader", "mfac.acme.c.forget.reader", "mfac.acme.c.set.reader", "mfac.acme.c.freeze.reader",
				"mfac.acme.c.delete.reader", "mfac.acme.w.worker-1.chunk.reader", "$SRV.PING", "_INBOX.publisher.x"}, clientOnly...),
			"operator": append([]string{"mfac.acme.c.delete.publisher", "mfac.acme.c.open.operator", "mfac.acme.w.worker-1.chunk.operator"}, clientOnly...),
			"worker-1": {"mfac.acme.hello.worker-2", "mfac.acme.ctl.worker-2.commit.coordinator-1", "mfac.acme.ctl.worker-2.commit.worker-1",
				"mfac.acme.c.delete.worker-1", "$SRV.PING", "$JS.API.STREAM.PURGE.KV_mfac_acme_leases", "$JS.API.STREAM.INFO.KV_mfac_acme_runs",
				"$JS.API.STREAM.MSG.GET.KV_mfac_acme_leases", "$KV.mfac_acme_leases.digits"},
			"coordinator-1": {"mfac.acme.ctl.worker-1.commit.coordinator-2", "mfac.acme.hello.worker-1", "mfac.beta.ctl.worker-1.commit.coordinator-1", "$SRV.PING",
				"$JS.API.STREAM.PURGE.KV_mfac_acme_runs", "$JS.API.STREAM.DELETE.KV_mfac_acme_leases", "$JS.API.STREAM.MSG.DELETE.KV_mfac_acme_runs",
				"$JS.API.STREAM.CREATE.other"},
			"beta-publisher": {"mfac.acme.c.open.publisher", "mfac.acme.w.worker-1.chunk.publisher"},
		} {
			for _, subject := range subjects {
				if err := conns[user].Publish(subject, nil); err != nil {
					t.Fatal(err)
				}
				g.wantDenial(t, conns[user], user, "publish to", subject)
			}
		}
		for user, subjects := range map[string][]string{
			"publisher":     {">", "_INBOX.>", "_INBOX.reader.>", "mfac.acme.>", "mfac.acme.c.open.*", "$SRV.>", "$KV.>"},
			"reader":        {">", "_INBOX.*.>", "_INBOX.publisher.>", "mfac.acme.hello.*"},
			"operator":      {"_INBOX.publisher.>", "mfac.acme.c.>", "$KV.mfac_acme_runs.>"},
			"worker-1":      {"mfac.acme.w.worker-2.chunk.*", "mfac.acme.ctl.worker-2.*.*", "mfac.acme.c.open.*", "_INBOX.publisher.>", "_INBOX.worker-2.>"},
			"coordinator-1": {"mfac.acme.w.*.chunk.*", "mfac.acme.ctl.*.*.*", "_INBOX.publisher.>", "_INBOX.coordinator-2.>", "mfac.beta.c.*.*"},
		} {
			for _, subject := range subjects {
				sub, err := conns[user].SubscribeSync(subject)
				if err != nil {
					t.Fatal(err)
				}
				g.wantDenial(t, conns[user], user, "subscribe to", subject)
				_ = sub.Unsubscribe()
			}
		}
	})

	t.Run("reply subjects", func(t *testing.T) { g.checkReplies(t) })

	// After all that, the run is as it was.
	ctx := within(t, 20*time.Second)
	got := make([]float64, vectorsDim)
	if _, err := run.IHVPStep64(ctx, got, wire.Step(len(grads)-1)); err != nil {
		t.Fatal(err)
	}
	check64(t, "ihvp at the end", got, v.f64("ihvp_last_0.01"), tolFloat64)
}

func (g *guarded) wantDenial(t *testing.T, nc *nats.Conn, user, what, subject string) {
	t.Helper()
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(2 * time.Second)
	for time.Now().Before(end) {
		for _, d := range g.denied(user) {
			if strings.Contains(strings.ToLower(d), strings.ToLower(`"`+subject+`"`)) {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%s may %s %s", user, what, subject)
}

// checkMicro lists the services as `nats micro ls` does.
func (g *guarded) checkMicro(t *testing.T) {
	t.Helper()
	nc := g.connect("operator", "operator")
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		inbox := nc.NewInbox()
		sub, err := nc.SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.PublishRequest("$SRV."+verb, inbox, nil); err != nil {
			t.Fatal(err)
		}
		var names []string
		for range 4 {
			m, err := sub.NextMsg(5 * time.Second)
			if err != nil {
				break
			}
			var s struct {
				Name     string            `json:"name"`
				Metadata map[string]string `json:"metadata"`
			}
			if err := json.Unmarshal(m.Data, &s); err != nil {
				t.Error(err)
			}
			names = append(names, s.Name+" "+s.Metadata["name"]+s.Metadata["id"])
		}
		slices.Sort(names)
		want := []string{"mfac-coordinator coordinator-1", "mfac-coordinator coordinator-2", "mfac-worker worker-1", "mfac-worker worker-2"}
		if !slices.Equal(names, want) {
			t.Errorf("$SRV.%s: %q, want %q", verb, names, want)
		}
		_ = sub.Unsubscribe()
	}
}

// checkReplies names subjects as reply subjects that the caller may not publish to itself, the
// services in part may. Nothing must come of it.
func (g *guarded) checkReplies(t *testing.T) {
	nc, js := g.connect("publisher", "publisher"), g.connect("coordinator-1", "coordinator-1")
	stream, err := jetstream.New(js)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 20*time.Second)
	state := func(bucket string) (n uint64) {
		kv, err := stream.KeyValue(ctx, bucket)
		if err != nil {
			t.Fatal(err)
		}
		st, err := kv.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return st.Values()
	}
	runs, leases := state("mfac_acme_runs"), state("mfac_acme_leases")
	if runs == 0 || leases == 0 {
		t.Fatalf("%d values in the bucket of runs, %d in that of leases", runs, leases)
	}
	spy, err := g.connect("reader", "reader").SubscribeSync("_INBOX.reader.>")
	if err != nil {
		t.Fatal(err)
	}
	replies := []string{
		"$JS.API.STREAM.PURGE.KV_mfac_acme_runs", "$JS.API.STREAM.DELETE.KV_mfac_acme_leases", "$KV.mfac_acme_runs.run.digits", "$KV.mfac_acme_leases.digits",
		"mfac.acme.ctl.worker-1.release.coordinator-1", "mfac.acme.hello.worker-1", "_INBOX.reader.x", "_INBOX.publisher", "_INBOX.publisher.*", "",
	}
	before, want := g.dropped(), 0
	send := func(nc *nats.Conn, subject, reply string, f wire.Frame, heardBy int) {
		t.Helper()
		if err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Header: f.Header, Data: f.Data}); err != nil {
			t.Fatal(err)
		}
		want += heardBy
	}
	subjects := wire.Subjects{Tenant: "acme"}
	for _, reply := range replies {
		for heardBy, messages := range [][]wire.Message{
			1: {&wire.List{}, &wire.Status{}},
			2: {&wire.InfoRequest{Run: "digits"}, &wire.StepsRequest{Run: "digits"}, &wire.Open{Run: "digits", Step: 1000}},
		} {
			for _, m := range messages {
				f, err := wire.Encode(m)
				if err != nil {
					t.Fatal(err)
				}
				send(nc, subjects.Coordinator(m.Type(), "publisher"), reply, f, heardBy)
			}
		}
		malformed := wire.Frame{Data: []byte("{}")} // an error would be the answer
		send(nc, subjects.Coordinator(wire.OpList, "publisher"), reply, malformed, 1)
		send(nc, subjects.Worker("worker-1", wire.OpChunk, "publisher"), reply, malformed, 1)
		send(nc, subjects.Worker("worker-2", wire.OpFetch, "publisher"), reply, malformed, 1)
	}
	eventually(t, func() error {
		if n := g.dropped() - before; n != want {
			return fmt.Errorf("%d requests dropped, want %d", n, want)
		}
		return nil
	})
	for _, user := range services { // not so much as tried
		if d := g.denied(user); len(d) > 0 {
			t.Errorf("%s was denied %q", user, d)
		}
	}

	// micro's own handlers answer whoever may ask, which is the operator. There the rights hold.
	ask := g.connect("operator", "operator")
	for _, reply := range replies[:2] {
		if err := ask.PublishRequest("$SRV.PING", reply, nil); err != nil {
			t.Fatal(err)
		}
		for _, user := range services {
			g.wantDenial(t, ask, user, "publish to", reply)
		}
	}
	if m, err := spy.NextMsg(200 * time.Millisecond); err == nil {
		t.Errorf("a service wrote %q to a foreign inbox", m.Data)
	}
	if r, l := state("mfac_acme_runs"), state("mfac_acme_leases"); r != runs || l != leases {
		t.Errorf("%d values in the bucket of runs, %d in that of leases, want %d and %d", r, l, runs, leases)
	}
}

// dropped counts the requests that services dropped for their reply subject.
func (g *guarded) dropped() (n int) {
	for _, user := range services {
		n += g.logs[user+serviceLog].FilterMessage("request dropped").Len()
	}
	return n
}
