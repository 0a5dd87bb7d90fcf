package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"mfac/internal/config"
	"mfac/internal/natsx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a service that does nothing.
type fake struct {
	ready  func() error
	stop   func(ctx context.Context) error
	done   chan struct{}
	serve  error
	served chan struct{}
}

func newFake() *fake {
	return &fake{
		ready: func() error { return nil }, stop: func(context.Context) error { return nil },
		done: make(chan struct{}), served: make(chan struct{}),
	}
}

func (f *fake) Ready() error                   { return f.ready() }
func (f *fake) Stop(ctx context.Context) error { return f.stop(ctx) }
func (f *fake) Done() <-chan struct{}          { return f.done }

func (f *fake) program() Program {
	return Program{Name: "coordinator", Short: "Test", Version: "0", New: func() Instance {
		c, set := config.ForCoordinator()
		return Instance{
			Set: set, Common: &c.Common, Name: func() string { return c.Name },
			Start: func(context.Context, *nats.Conn, *zap.Logger) (Service, error) {
				close(f.served)
				return f, f.serve
			},
		}
	}}
}

// text is a writer for several goroutines.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// process is a program that runs.
type process struct {
	signals chan os.Signal
	code    chan int
	stderr  text
	addr    string // of the admin server
}

func start(t *testing.T, f *fake, url string, args ...string) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p := &process{signals: make(chan os.Signal, 2), code: make(chan int, 1), addr: l.Addr().String()}
	args = append([]string{"--admin-addr", p.addr, "--nats-url", url}, args...)
	go func() { p.code <- f.program().main(args, nil, p.signals, io.Discard, &p.stderr) }()
	return p
}

func (p *process) ends(t *testing.T, code int, stderr string) {
	t.Helper()
	select {
	case got := <-p.code:
		if got != code || !strings.Contains(p.stderr.String(), stderr) {
			t.Errorf("code %d, want %d\nstderr %s\nwant …%s", got, code, p.stderr.String(), stderr)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("has not ended:\n%s", p.stderr.String())
	}
}

// get asks the admin server until it answers as told.
func (p *process) get(t *testing.T, path string, code int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var last string
	for range 1000 {
		resp, err := client.Get("http://" + p.addr + path)
		if err != nil {
			last = err.Error()
		} else {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if last = fmt.Sprintf("%d %s", resp.StatusCode, b); resp.StatusCode == code && strings.Contains(string(b), body) {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: %s, want %d %s", path, last, code, body)
}

func server(t *testing.T) string {
	t.Helper()
	s, err := natsx.Embedded(natsx.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s.URL()
}

// health runs the healthcheck subcommand.
func (p *process) health(f *fake) (code int, stderr string) {
	var b strings.Builder
	code = f.program().main([]string{"healthcheck"}, []string{"MFAC_ADMIN_ADDR=" + p.addr}, nil, io.Discard, &b)
	return code, b.String()
}

func TestLife(t *testing.T) {
	f := newFake()
	var mu sync.Mutex
	why := errors.New("no run yet")
	f.ready = func() error { mu.Lock(); defer mu.Unlock(); return why }
	stopping, stopped := make(chan struct{}), make(chan struct{})
	f.stop = func(context.Context) error { close(stopping); <-stopped; return nil }
	p := start(t, f, server(t))

	p.get(t, "/healthz", 200, "ok")
	p.get(t, "/readyz", 503, "no run yet")
	if code, stderr := p.health(f); code != 1 || stderr != "coordinator: not ready: no run yet\n" {
		t.Errorf("healthcheck: %d %s", code, stderr)
	}
	mu.Lock()
	why = nil
	mu.Unlock()
	p.get(t, "/readyz", 200, "ok")
	if code, stderr := p.health(f); code != 0 || stderr != "" {
		t.Errorf("healthcheck: %d %s", code, stderr)
	}
	p.get(t, "/debug/pprof/goroutine?debug=1", 200, "goroutine profile")
	p.get(t, "/debug/pprof/cmdline", 404, "")
	p.get(t, "/nothing", 404, "")

	p.signals <- syscall.SIGTERM
	<-stopping
	p.get(t, "/readyz", 503, "draining")
	p.get(t, "/healthz", 200, "ok")
	close(stopped)
	p.ends(t, 0, `"msg":"draining","signal":"terminated"`)
	if code, stderr := p.health(f); code != 1 || !strings.Contains(stderr, "refused") {
		t.Errorf("healthcheck after the end: %d %s", code, stderr)
	}
}

func TestEnds(t *testing.T) {
	url := server(t)
	t.Run("second signal", func(t *testing.T) {
		f := newFake()
		hold := make(chan struct{})
		defer close(hold)
		f.stop = func(context.Context) error { <-hold; return nil }
		p := start(t, f, url)
		<-f.served
		p.signals <- syscall.SIGINT
		p.signals <- syscall.SIGINT
		p.ends(t, 1, "second signal: stopping at once")
	})
	t.Run("drain too long", func(t *testing.T) {
		f := newFake()
		f.stop = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		p := start(t, f, url, "--drain-timeout", "50ms")
		<-f.served
		p.signals <- syscall.SIGTERM
		p.ends(t, 1, "drain within 50ms: context deadline exceeded")
	})
	t.Run("by itself", func(t *testing.T) {
		f := newFake()
		close(f.done)
		start(t, f, url).ends(t, 1, "the service has stopped by itself")
	})
	t.Run("can't start", func(t *testing.T) {
		f := newFake()
		f.serve = errors.New("no JetStream")
		start(t, f, url).ends(t, 1, "no JetStream")
	})
	t.Run("no NATS", func(t *testing.T) {
		p := start(t, newFake(), "nats://127.0.0.1:1", "--connect-timeout", "300ms")
		p.get(t, "/readyz", 503, "not connected to NATS at nats://127.0.0.1:1 yet")
		p.ends(t, 1, "connect to NATS at nats://127.0.0.1:1")
	})
	t.Run("no NATS, a message", func(t *testing.T) {
		p := start(t, newFake(), "nats://me:secret@127.0.0.1:1", "--connect-timeout", "3200ms")
		p.ends(t, 1, "no NATS at nats://me:xxxxx@127.0.0.1:1 yet, trying for")
		if strings.Contains(p.stderr.String(), "secret") {
			t.Error("the log has the password")
		}
	})
	t.Run("no NATS, a signal", func(t *testing.T) {
		p := start(t, newFake(), "nats://127.0.0.1:1")
		p.get(t, "/healthz", 200, "ok")
		p.signals <- syscall.SIGTERM
		p.ends(t, 0, `"msg":"stopped"`)
	})
	t.Run("late NATS", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		f := newFake()
		p := start(t, f, "nats://"+l.Addr().String())
		p.get(t, "/readyz", 503, "not connected")
		s, err := natsx.Embedded(natsx.EmbeddedOptions{Port: l.Addr().(*net.TCPAddr).Port})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		p.get(t, "/readyz", 200, "ok")
		p.signals <- syscall.SIGTERM
		p.ends(t, 0, "")
	})
	t.Run("admin port taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		p := start(t, newFake(), url, "--admin-addr", l.Addr().String())
		p.ends(t, 1, "each process of a host needs its own")
	})
	t.Run("admin off", func(t *testing.T) {
		f := newFake()
		p := start(t, f, url, "--admin-addr", "off", "--log-format", "console")
		<-f.served
		p.signals <- syscall.SIGTERM
		p.ends(t, 0, "\tINFO\t")
	})
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args, env []string
		code      int
		want      string
	}{
		{[]string{"--lease-ttl", "x"}, nil, 1, "coordinator: lease_ttl is x (flag --lease-ttl), must be a time"},
		{nil, []string{"MFAC_LOG_LEVEL=loud"}, 1, "coordinator: log_level is loud (MFAC_LOG_LEVEL), must be"},
		{[]string{"--memory", "1GiB"}, nil, 2, "coordinator: unknown flag: --memory"},
		{[]string{"start"}, nil, 2, `coordinator: unknown command "start"`},
		{[]string{"healthcheck", "now"}, nil, 2, `coordinator: unexpected argument "now"`},
		{[]string{"healthcheck", "--admin-addr", "off"}, nil, 1, "coordinator: admin_addr is off: there is nobody to ask"},
		{[]string{"healthcheck", "--admin-addr", "0.0.0.0:1"}, nil, 1, "127.0.0.1:1"},
		{[]string{"--config", "no.yaml"}, nil, 1, "coordinator: read settings: open no.yaml"},
	} {
		var stdout, stderr strings.Builder
		code := newFake().program().main(tt.args, tt.env, nil, &stdout, &stderr)
		if code != tt.code || stdout.Len() > 0 || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%v %v: code %d, want %d\nstdout %q\nstderr %q\nwant …%s", tt.args, tt.env, code, tt.code, stdout.String(), stderr.String(), tt.want)
		}
	}
	var stdout, stderr text
	if code := newFake().program().main([]string{"version"}, nil, nil, &stdout, &stderr); code != 0 || !strings.HasPrefix(stdout.String(), "coordinator 0, protocol 1, go") {
		t.Errorf("version: %d %s%s", code, stdout.String(), stderr.String())
	}
}

// A variable that is no setting is warned of, once the log is there.
func TestWarning(t *testing.T) {
	f := newFake()
	var stderr text
	code := f.program().main([]string{"--admin-addr", "off", "--nats-url", "nats://127.0.0.1:1", "--connect-timeout", "10ms"},
		[]string{"MFAC_LEESE_TTL=1s"}, make(chan os.Signal), io.Discard, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), `"level":"warn"`) || !strings.Contains(stderr.String(), "MFAC_LEESE_TTL is no setting") {
		t.Errorf("%d %s", code, stderr.String())
	}
}
