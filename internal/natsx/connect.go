package natsx

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mfac/wire"
)

const (
	// DefaultTimeout bounds the wait for the first connection where Options does not.
	DefaultTimeout = 30 * time.Second

	reconnectWait   = 100 * time.Millisecond
	reconnectJitter = 50 * time.Millisecond
	pingInterval    = 5 * time.Second
	dialTimeout     = 2 * time.Second
	sayEvery        = 3 * time.Second
	lookEvery       = 10 * time.Millisecond
)

// Options says where NATS is and who is calling.
type Options struct {
	URL  string // of one server, or of several with commas between; "" is nats://127.0.0.1:4222
	Name string // the caller's name, as in its subjects; its inbox is _INBOX.<Name>

	Creds    string // file of JWT credentials, or ""
	NKeySeed string // file of an nkey's seed, or ""
	TLSCA    string // file of the authorities that the server's certificate is checked against
	TLSCert  string // file of the client's certificate, and
	TLSKey   string // of its key: both or none

	Timeout time.Duration        // bounds the wait for the first connection; 0 is DefaultTimeout
	Waiting func(message string) // told every few seconds that there is no connection yet; or nil
	OnError func(err error)      // told of asynchronous errors besides Log, or nil
	Log     *zap.Logger          // nil logs nothing
}

// Connect connects, and waits for the first connection until it is there, ctx ends or o.Timeout
// has passed. Afterwards the connection reconnects by itself for ever; a message sent while it is
// away fails at once instead of being sent after its sender gave up.
func Connect(ctx context.Context, o Options) (*nats.Conn, error) {
	if err := wire.CheckName("name", o.Name); err != nil {
		return nil, err
	}
	if o.URL == "" {
		o.URL = nats.DefaultURL
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if err := checkURL(o.URL); err != nil {
		return nil, err
	}
	opts, err := o.nats()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(o.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", Redact(o.URL), err)
	}
	if err := o.await(ctx, nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to NATS at %s: %w", Redact(o.URL), err)
	}
	return nc, nil
}

// checkURL refuses schemes that nats.go would take for its own and wait for.
func checkURL(list string) error {
	for u := range strings.SplitSeq(list, ",") {
		scheme, _, ok := strings.Cut(strings.TrimSpace(u), "://")
		if !ok {
			continue
		}
		switch scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return wire.Errorf(wire.CodeInvalid, "NATS url", Redact(list), "nats://host:port, or with tls://, ws:// or wss://", "%s:// is none of them", scheme)
		}
	}
	return nil
}

// await waits for the first connection.
func (o Options) await(ctx context.Context, nc *nats.Conn) error {
	start := time.Now()
	said := start
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		switch nc.Status() {
		case nats.CONNECTED:
			return nil
		case nats.CLOSED:
			if err := nc.LastError(); err != nil {
				return err
			}
			return nats.ErrConnectionClosed
		}
		if err := nc.LastError(); refused(err) { // no use in waiting for the end of the bound
			return err
		}
		now := time.Now()
		left := o.Timeout - now.Sub(start)
		if left <= 0 {
			return fmt.Errorf("no connection within %v%w", o.Timeout, because(nc))
		}
		if o.Waiting != nil && now.Sub(said) >= sayEvery {
			said = now
			o.Waiting(fmt.Sprintf("no NATS at %s yet, trying for %d s more", Redact(o.URL), int(left.Seconds()+0.5)))
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return fmt.Errorf("no connection within %v: %w%w", time.Since(start).Round(100*time.Millisecond), context.Cause(ctx), because(nc))
			}
			return fmt.Errorf("%w%w", context.Cause(ctx), because(nc))
		case <-tick.C:
		}
	}
}

// refused reports whether the server doesn't want us.
func refused(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}

// reason is the last error of a connection, put behind another one.
type reason struct{ err error }

func (r reason) Error() string {
	if r.err == nil {
		return ""
	}
	s := r.err.Error()
	if strings.Contains(s, "closed by remote after TLS handshake") { // before its reason could be read
		s += "; does the server ask for a certificate that it trusts?"
	}
	return " (" + s + ")"
}

func (r reason) Unwrap() error { return r.err }

func because(nc *nats.Conn) error { return reason{nc.LastError()} }

// nats makes the options of nats.go. Why each: shared/design.md, "Facts about NATS".
func (o Options) nats() ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name(o.Name),
		nats.CustomInboxPrefix(wire.InboxPrefix(o.Name)),
		nats.Timeout(dialTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a connection that was good once outlives a mistake in the server's users
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(o.handleError),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				o.Log.Warn("NATS connection lost", zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			o.Log.Info("NATS connection is back", zap.String("url", nc.ConnectedUrlRedacted()))
		}),
	}
	if o.Creds != "" {
		opts = append(opts, nats.UserCredentials(o.Creds))
	}
	if o.NKeySeed != "" {
		opt, err := nats.NkeyOptionFromSeed(o.NKeySeed)
		if err != nil {
			return nil, fmt.Errorf("read nkey seed %s: %w", o.NKeySeed, err)
		}
		opts = append(opts, opt)
	}
	if o.TLSCA != "" {
		opts = append(opts, nats.RootCAs(o.TLSCA))
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return nil, errors.New("a TLS certificate and its key go together: one of them is missing")
	}
	if o.TLSCert != "" {
		opts = append(opts, nats.ClientCert(o.TLSCert, o.TLSKey))
	}
	return opts, nil
}

func (o Options) handleError(_ *nats.Conn, sub *nats.Subscription, err error) {
	fields := []zap.Field{zap.Error(err)}
	if sub != nil {
		fields = append(fields, zap.String("subject", sub.Subject))
	}
	o.Log.Warn("NATS error", fields...)
	if o.OnError != nil {
		o.OnError(err)
	}
}

// Redact is a list of server URLs without their passwords and tokens, for messages.
func Redact(urls string) string {
	list := strings.Split(urls, ",")
	for i, s := range list {
		s = strings.TrimSpace(s)
		if u, err := url.Parse(s); err == nil && u.User != nil {
			if _, ok := u.User.Password(); !ok { // a lone user name is a token
				u.User = url.User("xxxxx")
			}
			s = u.Redacted()
		}
		list[i] = s
	}
	return strings.Join(list, ",")
}
