package main

import (
	"context"
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

	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/internal/npy"
	"mfac/worker"
)

// secured is a NATS server that asks for certificates, and maybe more, with a coordinator and a worker.
type secured struct {
	t         *testing.T
	dir       string
	authority *x509.Certificate
	key       *ecdsa.PrivateKey
	url       string
}

// file writes a secret.
func (s *secured) file(name string, p []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	s.check(os.WriteFile(path, p, 0o600))
	return path
}

func (s *secured) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// issue writes name.pem, signed by the authority, by itself if there is none yet, and name.key.
func (s *secured) issue(name string, serial int64) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.check(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if s.authority == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
		s.authority, s.key = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, s.authority, &key.PublicKey, s.key)
	s.check(err)
	s.file(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	der, err = x509.MarshalECPrivateKey(key)
	s.check(err)
	s.file(name+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// secure starts the server, and services with the same rights as the tool's.
func secure(t *testing.T, configure func(s *secured, o *server.Options) natsx.Options) *secured {
	t.Helper()
	s := &secured{t: t, dir: t.TempDir()}
	for i, name := range []string{"ca", "server", "client"} {
		s.issue(name, int64(i+1))
	}
	at := func(name string) string { return filepath.Join(s.dir, name) }
	conf := s.file("nats.conf", fmt.Appendf(nil, "tls {\n cert_file: %q\n key_file: %q\n ca_file: %q\n verify: true\n}\n", at("server.pem"), at("server.key"), at("ca.pem")))
	var o natsx.Options
	ns, err := natsx.Embedded(natsx.EmbeddedOptions{StoreDir: t.TempDir(), Configure: func(so *server.Options) {
		if err := so.ProcessConfigFile(conf); err != nil {
			t.Error(err)
		}
		so.Host, so.Port = "127.0.0.1", server.RANDOM_PORT
		o = configure(s, so)
	}})
	s.check(err)
	t.Cleanup(ns.Shutdown)
	s.url = ns.URL()
	o.URL, o.TLSCA, o.TLSCert, o.TLSKey = s.url, at("ca.pem"), at("client.pem"), at("client.key")
	ctx := context.Background()
	stop := func(f func(context.Context) error) {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			s.check(f(ctx))
		})
	}
	connect := func(name string) *nats.Conn {
		o.Name = name
		nc, err := natsx.Connect(ctx, o)
		s.check(err)
		t.Cleanup(nc.Close)
		return nc
	}
	w, err := worker.Serve(ctx, connect("w1"), worker.ServiceConfig{ID: "w1", Tenant: "default", Capacity: 1 << 20})
	s.check(err)
	stop(w.Stop)
	c, err := coordinator.Serve(ctx, connect("c1"), coordinator.ServiceConfig{Name: "c1", Tenant: "default"})
	s.check(err)
	stop(c.Stop)
	return s
}

// tool runs a command line as it is typed.
func (s *secured) tool(flags, line string) (code int, stdout, stderr string) {
	var out, err strings.Builder
	code = run(append(strings.Fields(line), strings.Fields("--server "+s.url+" "+flags)...), &out, &err)
	return code, out.String(), err.String()
}

// session makes a run, publishes and asks, with these flags.
func (s *secured) session(flags string) {
	s.t.Helper()
	w, err := npy.Create("g.npy", npy.Float32, 3)
	s.check(err)
	s.check(npy.Out[float32](w, 0).WriteColumns([]float32{0, 3, 0}, 0))
	s.check(w.Commit())
	s.check(w.Close())
	for _, c := range []struct{ line, want string }{
		{"run create digits --dim 3 --window 1 --damping 1", "run digits: 3 columns"},
		{"publish digits --step 4 g.npy", "published step 4 of run digits: version 1, 1 of 1 in the window"},
		{"ihvp digits --step 4 -o out.npy", "out.npy"},
		{"status", "1 worker, 1 run"},
	} {
		if code, stdout, stderr := s.tool(flags, c.line); code != 0 || !strings.Contains(stdout, c.want) {
			s.t.Errorf("%s: code %d, stdout %q, want …%s…; stderr %q", c.line, code, stdout, c.want, stderr)
		}
	}
	f, err := npy.Open("out.npy")
	s.check(err)
	defer f.Close()
	x, err := npy.ReadRows[float64](f, 0, 1)
	s.check(err)
	if want := float64(float32(3.0 / (1 + 3*3))); x[0][0] != 0 || x[0][1] != want || x[0][2] != 0 {
		s.t.Errorf("out.npy holds %v, want [0 %v 0]", x[0], want)
	}
}

// refused sees that a command with these flags fails in time, and what it says.
func (s *secured) refused(flags string, want ...string) {
	s.t.Helper()
	code, stdout, stderr := s.tool(flags, "status --timeout 1s")
	for _, w := range want {
		if strings.Contains(stderr, w) && code == 1 && stdout == "" && strings.HasPrefix(stderr, "mfac: ") {
			return
		}
	}
	s.t.Errorf("status %s: code %d, stdout %q, stderr %q, want one of %q", flags, code, stdout, stderr, want)
}

// TestSecure runs the tool as typed against servers that ask who it is: by a certificate, by an nkey and by
// JWT credentials beside it.
func TestSecure(t *testing.T) {
	const certificate = "--tls-ca ca.pem --tls-cert client.pem --tls-key client.key"
	t.Run("tls", func(t *testing.T) {
		s := secure(t, func(*secured, *server.Options) natsx.Options { return natsx.Options{} })
		t.Chdir(s.dir)
		s.session(certificate)
		s.refused("", "certificate signed by unknown authority")
		s.refused("--tls-ca ca.pem", "certificate required", "a certificate that it trusts")
		s.refused("--tls-ca ca.pem --tls-cert client.pem --tls-key server.key", "private key does not match public key")
		s.refused("--tls-ca no.pem", "no.pem: no such file")
	})
	t.Run("nkey", func(t *testing.T) {
		s := secure(t, func(s *secured, o *server.Options) natsx.Options {
			user, public := s.pair(nkeys.CreateUser)
			seed, err := user.Seed()
			s.check(err)
			_, stranger := s.pair(nkeys.CreateUser)
			s.file("stranger.nk", []byte(stranger))
			o.Nkeys = []*server.NkeyUser{{Nkey: public}}
			return natsx.Options{NKeySeed: s.file("user.nk", seed)}
		})
		t.Chdir(s.dir)
		s.session(certificate + " --nkey user.nk")
		s.refused(certificate, "uthorization")
		s.refused(certificate+" --nkey stranger.nk", "stranger.nk")
		s.refused(certificate+" --nkey no.nk", "no.nk: no such file")
	})
	t.Run("creds", func(t *testing.T) {
		s := secure(t, func(s *secured, o *server.Options) natsx.Options {
			operator, operatorKey := s.pair(nkeys.CreateOperator)
			_, systemKey := s.pair(nkeys.CreateAccount)
			account, accountKey := s.pair(nkeys.CreateAccount)
			user, userKey := s.pair(nkeys.CreateUser)
			accounts := &server.MemAccResolver{}
			for _, k := range []string{systemKey, accountKey} {
				claims := jwt.NewAccountClaims(k)
				if k == accountKey {
					claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: 2, Consumer: -1}
				}
				token, err := claims.Encode(operator)
				s.check(err)
				s.check(accounts.Store(k, token))
			}
			token, err := jwt.NewUserClaims(userKey).Encode(account)
			s.check(err)
			seed, err := user.Seed()
			s.check(err)
			creds, err := jwt.FormatUserConfig(token, seed)
			s.check(err)
			o.TrustedKeys, o.SystemAccount, o.AccountResolver = []string{operatorKey}, systemKey, accounts
			return natsx.Options{Creds: s.file("user.creds", creds)}
		})
		t.Chdir(s.dir)
		s.session(certificate + " --creds user.creds")
		s.refused(certificate, "uthorization")
		s.refused(certificate+" --creds no.creds", "no.creds")
	})
}

func (s *secured) pair(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	s.t.Helper()
	k, err := create()
	s.check(err)
	public, err := k.PublicKey()
	s.check(err)
	return k, public
}
