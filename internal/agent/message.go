//go:build unix

package agent

import (
	"context"
	"errors"

	"mfac/client"
	"mfac/wire"
)

// head is what every request has.
type head struct {
	ID        uint64 `msgpack:"id"`
	Op        string `msgpack:"op"`
	TimeoutMS int64  `msgpack:"timeout_ms"` // 0: client.DefaultDeadline
	Progress  bool   `msgpack:"progress"`   // whether to tell of progress
	Phases    bool   `msgpack:"phases"`     // whether to tell of phases
}

// reply is an answer to a request, or word of its progress. Beside an error OK has what was done all the same.
type reply struct {
	ID       uint64   `msgpack:"id"`
	OK       any      `msgpack:"ok,omitempty"`
	Error    *failure `msgpack:"error,omitempty"`
	Progress []int64  `msgpack:"progress,omitempty"` // done, total
	Phase    *phase   `msgpack:"phase,omitempty"`
}

// phase is client.Phase.
type phase struct {
	Name  string `msgpack:"name"`
	Done  int64  `msgpack:"done"`
	Total int64  `msgpack:"total"`
	Step  int    `msgpack:"step"`
	Steps int    `msgpack:"steps"`
}

// failure is an error: the parts of a wire.Error, and the whole of it as a text.
type failure struct {
	Code    wire.Code `msgpack:"code"`
	Field   string    `msgpack:"field,omitempty"`
	Value   string    `msgpack:"value,omitempty"`
	Limit   string    `msgpack:"limit,omitempty"`
	Hint    string    `msgpack:"hint,omitempty"`
	Message string    `msgpack:"message"`
}

// Codes that the agent has besides those of the wire.
const (
	codeCancelled wire.Code = "cancelled" // by a cancel
	codeClosed    wire.Code = "closed"    // the connection or the agent is ending
)

var errCancelled = errors.New("the call was cancelled")

// failed tells an error of a call.
func failed(ctx context.Context, err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Message: err.Error()}
	var e *wire.Error
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errCancelled):
		f.Code, f.Message = codeCancelled, errCancelled.Error()
	case errors.Is(cause, errEnding), errors.Is(err, client.ErrClosed):
		f.Code = codeClosed
	case errors.As(err, &e):
		f.Code, f.Field, f.Value, f.Limit, f.Hint = e.Code, e.Field, e.Value, e.Limit, e.Hint
	case errors.Is(err, context.DeadlineExceeded):
		f.Code = wire.CodeTimeout
	default:
		f.Code = wire.CodeInternal
	}
	return f
}

// unavailable gives a code to an error of connecting, which has none where it is NATS'.
func unavailable(err error) error {
	var e *wire.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &connectError{err}
}

type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() []error {
	return []error{&wire.Error{Code: wire.CodeUnavailable}, e.err}
}
