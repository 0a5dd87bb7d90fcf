package natsx

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func embedded(t *testing.T, o EmbeddedOptions) *Server {
	t.Helper()
	s, err := Embedded(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func TestEmbeddedRemovesItsStoreAlone(t *testing.T) {
	s := embedded(t, EmbeddedOptions{})
	temp := s.temp
	nc, err := Connect(t.Context(), Options{URL: s.URL(), Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(&nats.KeyValueConfig{Bucket: "b"}); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	s.Shutdown()
	s.Shutdown()
	if _, err := os.Stat(temp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary store is still there: %v", err)
	}

	dir := t.TempDir()
	embedded(t, EmbeddedOptions{StoreDir: dir}).Shutdown()
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a store that was given is gone: %v", err)
	}
}

func TestEmbeddedSaysWhyItFails(t *testing.T) {
	if _, err := Embedded(EmbeddedOptions{Configure: func(o *server.Options) { o.MaxPayload = 1 << 30; o.MaxPending = 1 << 20 }}); err == nil {
		t.Error("no error for options that contradict each other")
	}
}

func TestConnect(t *testing.T) {
	s := embedded(t, EmbeddedOptions{MaxPayload: 1 << 16})
	nc, err := Connect(t.Context(), Options{URL: s.URL(), Name: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if inbox := nc.NewInbox(); !strings.HasPrefix(inbox, "_INBOX.alice.") {
		t.Errorf("inbox is %s", inbox)
	}
	if got := nc.MaxPayload(); got != 1<<16 {
		t.Errorf("max payload is %d", got)
	}
	o := nc.Opts
	if o.ReconnectBufSize != -1 || o.MaxReconnect != -1 || o.ReconnectWait != reconnectWait || o.PingInterval != pingInterval || o.AsyncErrorCB == nil {
		t.Errorf("options are %+v", o)
	}
}

func TestConnectGivesUp(t *testing.T) {
	var said []string
	start := time.Now()
	_, err := Connect(t.Context(), Options{URL: "nats://alice:secret@127.0.0.1:1", Name: "a", Timeout: 3200 * time.Millisecond,
		Waiting: func(m string) { said = append(said, m) }})
	if err == nil || !strings.Contains(err.Error(), "no connection within 3.2s") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error is %v", err)
	}
	if d := time.Since(start); d > 6*time.Second {
		t.Errorf("took %v", d)
	}
	if len(said) != 1 || said[0] != "no NATS at nats://alice:xxxxx@127.0.0.1:1 yet, trying for 0 s more" {
		t.Errorf("said %q", said)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx, Options{URL: "nats://127.0.0.1:1", Name: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestConnectWaitsForAServer(t *testing.T) {
	first := embedded(t, EmbeddedOptions{})
	url, port := first.URL(), first.ns.Addr().(interface{ String() string }).String()
	first.Shutdown()
	time.AfterFunc(300*time.Millisecond, func() {
		var n int
		for _, c := range port[strings.LastIndexByte(port, ':')+1:] {
			n = 10*n + int(c-'0')
		}
		s, err := Embedded(EmbeddedOptions{Port: n})
		if err == nil {
			t.Cleanup(s.Shutdown)
		}
	})
	nc, err := Connect(t.Context(), Options{URL: url, Name: "a", Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestConnectRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"name":     {Name: "A.b"},
		"no key":   {Name: "a", TLSCert: "x"},
		"no seed":  {Name: "a", NKeySeed: filepath.Join(t.TempDir(), "none")},
		"no CA":    {Name: "a", TLSCA: filepath.Join(t.TempDir(), "none")},
		"no creds": {Name: "a", Creds: filepath.Join(t.TempDir(), "none"), URL: "nats://127.0.0.1:1", Timeout: 100 * time.Millisecond},
	} {
		if _, err := Connect(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// An nkey user that may publish to "ok" alone: others are denied, which only the handler hears.
func TestNKeyAndDeniedSubjects(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	file := filepath.Join(t.TempDir(), "user.nk")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	s := embedded(t, EmbeddedOptions{Configure: func(o *server.Options) {
		o.Nkeys = []*server.NkeyUser{{Nkey: public, Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"ok"}}}}}
	}})
	if _, err := Connect(t.Context(), Options{URL: s.URL(), Name: "a", Timeout: 2 * time.Second}); err == nil || !strings.Contains(strings.ToLower(err.Error()), "authorization") {
		t.Errorf("without a key: %v", err)
	}
	core, logs := observer.New(zap.WarnLevel)
	heard := make(chan error, 1)
	nc, err := Connect(t.Context(), Options{URL: s.URL(), Name: "a", NKeySeed: file, Log: zap.New(core), OnError: func(err error) { heard <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Publish("denied", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-heard:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("heard %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nothing was heard")
	}
	if logs.FilterMessage("NATS error").Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"nats://h:4222":                       "nats://h:4222",
		"nats://u:p@h:4222, nats://token@i:1": "nats://u:xxxxx@h:4222,nats://xxxxx@i:1",
		"h:4222":                              "h:4222",
		"tls://u:p@[::1]:4222":                "tls://u:xxxxx@[::1]:4222",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}
