//go:build unix

package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/vmihailenco/msgpack/v5"

	"mfac/internal/agent"
	"mfac/wire"
)

// agentReply is what an agent says of runs or of an error.
type agentReply struct {
	ID uint64 `msgpack:"id"`
	OK struct {
		Runs []string `msgpack:"runs"`
		Name string   `msgpack:"name"`
	} `msgpack:"ok"`
	Error *struct {
		Code    wire.Code `msgpack:"code"`
		Message string    `msgpack:"message"`
	} `msgpack:"error"`
}

// askAgent asks over a socket, as docs/agent.md says.
func askAgent(t *testing.T, u net.Conn, request map[string]any) agentReply {
	t.Helper()
	body, err := msgpack.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(u, size[:]); err != nil {
		t.Fatal(err)
	}
	body = make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(u, body); err != nil {
		t.Fatal(err)
	}
	var r agentReply
	if err := msgpack.Unmarshal(body, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAgentSecurely has a program connect by TLS with a certificate, an nkey and a name of its own, through
// an agent; and be refused without the nkey, or where the certificate is missing.
func TestAgentSecurely(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, "ours")
	o := a.options(a.secure(func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} }))
	o.NKeySeed = writeSecret(t, "user.nk", seed)
	serveAndAsk(t, o)

	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan agent.Ready, 1), make(chan error, 1)
	go func() {
		ended <- agent.Run(ctx, agent.Options{Version: "test", Dir: t.TempDir(), Ready: func(r agent.Ready) error { ready <- r; return nil }})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var r agent.Ready
	select {
	case r = <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(errors.Join(errors.New("the agent has ended"), err))
	}
	u, err := net.Dial("unix", r.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if got := askAgent(t, u, map[string]any{"id": 1, "op": "hello", "protocol": agent.Protocol}); got.Error != nil {
		t.Fatalf("hello: %+v", got.Error)
	}
	connect := map[string]any{"id": 2, "op": "connect", "url": o.URL, "tls_ca": o.TLSCA, "tls_cert": o.TLSCert, "tls_key": o.TLSKey, "connect_ms": 1000}
	if got := askAgent(t, u, connect); got.Error == nil || got.Error.Code != wire.CodeUnavailable || !strings.Contains(strings.ToLower(got.Error.Message), "authorization") {
		t.Errorf("without the nkey: %+v", got.Error)
	}
	connect["nkey"] = o.NKeySeed
	delete(connect, "tls_cert")
	if got := askAgent(t, u, connect); got.Error == nil || !strings.Contains(got.Error.Message, "go together") {
		t.Errorf("without the certificate: %+v", got.Error)
	}
	connect["tls_cert"], connect["connect_ms"], connect["name"] = o.TLSCert, 20_000, "trainer"
	if got := askAgent(t, u, connect); got.Error != nil || got.OK.Name != "trainer" {
		t.Fatalf("connect: %+v", got)
	}
	if got := askAgent(t, u, map[string]any{"id": 3, "op": "runs"}); got.Error != nil || !slices.Equal(got.OK.Runs, []string{"small"}) {
		t.Errorf("runs: %+v", got)
	}
}
