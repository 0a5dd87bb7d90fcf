// Package rpc is what the adapters of coordinator and worker share: NATS micro requests in,
// decoded and checked, and frames out.
package rpc

import (
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/zap"

	"mfac/wire"
)

// Request is a request that is valid in itself and may be answered.
type Request struct {
	micro.Request
	Caller string
	Msg    wire.Message
}

// Handler makes the handler of an op. A request whose reply subject is not its caller's own is
// dropped before any work: to answer it at all is what it is after. One that can't be decoded is
// answered with why. accept takes the others; where it returns an error, that is the answer.
func Handler(op string, log *zap.Logger, accept func(Request) error) micro.Handler {
	return micro.HandlerFunc(func(r micro.Request) {
		if err := wire.CheckReply(r.Subject(), r.Reply()); err != nil {
			log.Debug("request dropped", zap.String("subject", r.Subject()), zap.Error(err))
			return
		}
		m, err := wire.Decode(wire.Frame{Header: r.Headers(), Data: r.Data()}, op)
		if err == nil {
			err = accept(Request{Request: r, Caller: wire.Caller(r.Subject()), Msg: m})
		}
		if err != nil {
			Respond(r, wire.AsError(err), log)
		}
	})
}

// Respond answers a request.
func Respond(r micro.Request, m wire.Message, log *zap.Logger) {
	f, ok := answer(m, log)
	if !ok {
		return
	}
	if err := r.Respond(f.Data, micro.WithHeaders(micro.Headers(f.Header))); err != nil {
		// Nothing is lost: who asked asks again.
		log.Debug("answer not sent", zap.String("subject", r.Subject()), zap.Error(err))
	}
}

// Answer answers a request of which only the reply subject was kept: one that waits must not hold
// its payload.
func Answer(nc *nats.Conn, reply string, m wire.Message, log *zap.Logger) {
	f, ok := answer(m, log)
	if !ok {
		return
	}
	if err := nc.PublishMsg(&nats.Msg{Subject: reply, Header: f.Header, Data: f.Data}); err != nil {
		log.Debug("answer not sent", zap.String("reply", reply), zap.Error(err))
	}
}

// answer makes the frame of an answer. That of an error carries micro's error headers too, for the
// standard tools.
func answer(m wire.Message, log *zap.Logger) (wire.Frame, bool) {
	f, err := wire.Encode(m)
	if err != nil {
		m = wire.AsError(err)
		if f, err = wire.Encode(m); err != nil {
			log.Error("answer not encoded", zap.Error(err))
			return f, false
		}
	}
	if e, ok := m.(*wire.Error); ok {
		// Not by r.Error: it notes the error where micro reads it when the handler returns, and
		// answers are given by other goroutines, later.
		f.Header[micro.ErrorHeader] = []string{oneLine(e.Error())}
		f.Header[micro.ErrorCodeHeader] = []string{string(e.Code)}
	}
	return f, true
}

// oneLine makes a text fit for a header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}

// Publish sends a message.
func Publish(nc *nats.Conn, subject, reply string, m wire.Message) error {
	f, err := wire.Encode(m)
	if err != nil {
		return err
	}
	return nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Header: f.Header, Data: f.Data})
}

// Endpoints adds an endpoint for each op to a service, at prefix + op + ".*".
func Endpoints(svc micro.Service, prefix string, ops []string, log *zap.Logger, accept func(op string) func(Request) error, opts ...micro.EndpointOpt) error {
	for _, op := range ops {
		o := append([]micro.EndpointOpt{micro.WithEndpointSubject(prefix + op + ".*")}, opts...)
		if err := svc.AddEndpoint(op, Handler(op, log, accept(op)), o...); err != nil {
			return err
		}
	}
	return nil
}
