package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"mfac/client"
	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/worker"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.newKey()
	a.file = a.write("ca.pem", "CERTIFICATE", a.sign(a.cert, &a.key.PublicKey))
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return k
}

func (a *authority) sign(c *x509.Certificate, key *ecdsa.PublicKey) []byte {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// issue writes a certificate for name, on the loopback, and its key.
func (a *authority) issue(name string, use x509.ExtKeyUsage) (cert, key string) {
	a.t.Helper()
	k := a.newKey()
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}, &k.PublicKey)), a.write(name+".key", "EC PRIVATE KEY", der)
}

// secure starts a server of whose configuration docs/operations.md shows the tls block.
func (a *authority) secure(configure func(*server.Options)) *natsx.Server {
	a.t.Helper()
	cert, key := a.issue("server", x509.ExtKeyUsageServerAuth)
	conf := filepath.Join(a.dir, "nats.conf")
	text := fmt.Sprintf("tls {\n cert_file: %q\n key_file: %q\n ca_file: %q\n verify: true\n}\n", cert, key, a.file)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	s, err := natsx.Embedded(natsx.EmbeddedOptions{StoreDir: a.t.TempDir(), Configure: func(o *server.Options) {
		if err := o.ProcessConfigFile(conf); err != nil {
			a.t.Error(err)
		}
		o.Host, o.Port = "127.0.0.1", server.RANDOM_PORT
		configure(o)
	}})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(s.Shutdown)
	return s
}

// serveAndAsk runs a worker, a coordinator and a client on connections of these options, publishes
// a gradient and asks.
func serveAndAsk(t *testing.T, o natsx.Options) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	connect := func(name string) *nats.Conn {
		t.Helper()
		o := o
		o.Name = name
		nc, err := natsx.Connect(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	w, err := worker.Serve(ctx, connect("w1"), worker.ServiceConfig{ID: "w1", Tenant: "default", Capacity: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Stop(within(t, 10*time.Second)) })
	c, err := coordinator.Serve(ctx, connect("c1"), coordinator.ServiceConfig{Name: "c1", Tenant: "default"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(within(t, 10*time.Second)) })

	opts := []client.Option{client.WithTLS(o.TLSCA, o.TLSCert, o.TLSKey)}
	if o.Creds != "" {
		opts = append(opts, client.WithCreds(o.Creds))
	}
	if o.NKeySeed != "" {
		opts = append(opts, client.WithNKey(o.NKeySeed))
	}
	cl, err := client.Connect(ctx, o.URL, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	r, err := cl.Attach(ctx, client.RunConfig{Name: "small", Dim: 3, Window: 1, Damping: 1})
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, 3)
	if _, err := r.Precondition(ctx, 1, x, []float32{0, 3, 0}); err != nil {
		t.Fatal(err)
	}
	check32(t, "precondition", x, []float64{0, 3.0 / (1 + 3*3), 0})
}

// options are those of a client that has a certificate of the authority's.
func (a *authority) options(s *natsx.Server) natsx.Options {
	cert, key := a.issue("client", x509.ExtKeyUsageClientAuth)
	return natsx.Options{URL: s.URL(), TLSCA: a.file, TLSCert: cert, TLSKey: key}
}

func writeSecret(t *testing.T, name string, p []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTLS(t *testing.T) {
	a := newAuthority(t, "ours")
	serveAndAsk(t, a.options(a.secure(func(*server.Options) {})))
}

// TestTLSRefuses has connections fail for what they show or trust: the error says what it is.
func TestTLSRefuses(t *testing.T) {
	a, b := newAuthority(t, "ours"), newAuthority(t, "theirs")
	s := a.secure(func(*server.Options) {})
	good, other := a.options(s), b.options(s)
	for _, c := range []struct {
		name string
		o    natsx.Options
		want string // or, where the server hangs up before its reason is read, hungUp
	}{
		{"no authority", natsx.Options{}, "certificate signed by unknown authority"},
		{"another authority", natsx.Options{TLSCA: other.TLSCA, TLSCert: good.TLSCert, TLSKey: good.TLSKey}, "certificate signed by unknown authority"},
		{"no certificate", natsx.Options{TLSCA: good.TLSCA}, "certificate required"},
		// The server names the authorities that it trusts: a certificate of another one isn't sent.
		{"certificate of another authority", natsx.Options{TLSCA: good.TLSCA, TLSCert: other.TLSCert, TLSKey: other.TLSKey}, "certificate required"},
		{"another's key", natsx.Options{TLSCA: good.TLSCA, TLSCert: good.TLSCert, TLSKey: other.TLSKey}, "private key does not match public key"},
		{"no key", natsx.Options{TLSCA: good.TLSCA, TLSCert: good.TLSCert}, "go together"},
		{"no file", natsx.Options{TLSCA: good.TLSCA + ".none"}, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.URL, c.o.Name, c.o.Timeout = s.URL(), "a", time.Second
			nc, err := natsx.Connect(within(t, 10*time.Second), c.o)
			if err == nil {
				nc.Close()
			}
			const hungUp = "does the server ask for a certificate that it trusts?"
			if err == nil || !strings.Contains(err.Error(), c.want) && !(c.want == "certificate required" && strings.Contains(err.Error(), hungUp)) {
				t.Errorf("error is %v, want one of %q", err, c.want)
			}
		})
	}
}

func TestTLSWithNKey(t *testing.T) {
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

	o.NKeySeed, o.Name, o.Timeout = "", "a", time.Second
	if _, err := natsx.Connect(within(t, 10*time.Second), o); err == nil || !strings.Contains(strings.ToLower(err.Error()), "authorization") {
		t.Errorf("without the nkey: %v", err)
	}
}

func TestTLSWithCreds(t *testing.T) {
	key := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		t.Helper()
		k, err := create()
		if err != nil {
			t.Fatal(err)
		}
		public, err := k.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return k, public
	}
	operator, operatorKey := key(nkeys.CreateOperator)
	_, systemKey := key(nkeys.CreateAccount)
	account, accountKey := key(nkeys.CreateAccount)
	user, userKey := key(nkeys.CreateUser)

	accounts := &server.MemAccResolver{}
	for _, k := range []string{systemKey, accountKey} {
		claims := jwt.NewAccountClaims(k)
		if k == accountKey {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: 2, Consumer: -1}
		}
		token, err := claims.Encode(operator)
		if err != nil {
			t.Fatal(err)
		}
		if err := accounts.Store(k, token); err != nil {
			t.Fatal(err)
		}
	}
	token, err := jwt.NewUserClaims(userKey).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, "ours")
	o := a.options(a.secure(func(o *server.Options) {
		o.TrustedKeys, o.SystemAccount, o.AccountResolver = []string{operatorKey}, systemKey, accounts
	}))
	o.Creds = writeSecret(t, "user.creds", creds)
	serveAndAsk(t, o)
}
