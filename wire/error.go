package wire

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Code is what went wrong, as a stable word. docs/protocol.md lists what a client does on each.
type Code string

// The codes. Those marked (retry) mean: the same request may succeed later.
const (
	CodeInvalid        Code = "invalid"         // a field is out of its range
	CodeMalformed      Code = "malformed"       // the message can't be decoded
	CodeProtocol       Code = "protocol"        // another version of the protocol
	CodeDenied         Code = "denied"          // the reply subject is not the caller's
	CodeUnsupported    Code = "unsupported"     // a value that is named but not built
	CodeUnknownRun     Code = "unknown_run"     // no such run
	CodeUnknownStep    Code = "unknown_step"    // the step is not in the window
	CodeUnknownQuery   Code = "unknown_query"   // no such query, or not any more
	CodeUnknownShard   Code = "unknown_shard"   // the worker does not hold the shard (retry, after info)
	CodeExists         Code = "exists"          // the run exists and differs
	CodeStaleEpoch     Code = "stale_epoch"     // the epoch is not the current one (retry, after info)
	CodeNotGrowing     Code = "not_growing"     // the step is not above the newest one
	CodeNotOpen        Code = "not_open"        // the step is not open here (retry)
	CodeSuperseded     Code = "superseded"      // another publisher opened the step anew
	CodeConflict       Code = "conflict"        // other bytes for columns that were sent already
	CodeNotFinite      Code = "not_finite"      // NaN or Inf
	CodeOverflow       Code = "overflow"        // a number does not fit its dtype
	CodeFrozen         Code = "frozen"          // the run is frozen
	CodeBusy           Code = "busy"            // no room now (retry)
	CodeUnavailable    Code = "unavailable"     // the run is being taken over or a worker is away (retry)
	CodeDropped        Code = "dropped"         // the step was dropped at its deadline
	CodeBehind         Code = "behind"          // the window has not reached the version asked for
	CodeTooFewRows     Code = "too_few_rows"    // the window has fewer rows than asked for
	CodeVersionGone    Code = "version_gone"    // the version asked for is not held any more
	CodeIllConditioned Code = "ill_conditioned" // the bound of the error is above the limit
	CodeTooLarge       Code = "too_large"       // more than the limit
	CodeNoWorkers      Code = "no_workers"      // no worker to place shards on (retry)
	CodeTimeout        Code = "timeout"         // no answer before the caller's deadline (client side)
	CodeInternal       Code = "internal"        // a broken invariant: a defect of ours
)

// Error is an error that travels: it names the field, the value and the limit.
type Error struct {
	Code  Code   `msgpack:"code" json:"code"`
	Field string `msgpack:"field,omitempty" json:"field,omitempty"`
	Value string `msgpack:"value,omitempty" json:"value,omitempty"`
	Limit string `msgpack:"limit,omitempty" json:"limit,omitempty"`
	Hint  string `msgpack:"hint,omitempty" json:"hint,omitempty"`
	// Epoch is the current epoch, where the code is stale_epoch and the answerer knows it.
	Epoch Epoch `msgpack:"epoch,omitempty" json:"epoch,omitzero"`
	// Seq echoes the request's, where it had one.
	Seq uint64 `msgpack:"seq,omitempty" json:"-"`
}

// Error reads "damping is -1, must be > 0 and finite: hint (invalid)".
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.Field != "" && e.Limit != "":
		fmt.Fprintf(&b, "%s is %s, must be %s", e.Field, e.Value, e.Limit)
	case e.Field != "":
		fmt.Fprintf(&b, "%s %s: %s", e.Field, e.Value, strings.ReplaceAll(string(e.Code), "_", " "))
	default:
		b.WriteString(strings.ReplaceAll(string(e.Code), "_", " "))
	}
	if e.Hint != "" {
		b.WriteString(": ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Is reports whether target is an *Error of the same code, for errors.Is.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Temporary reports whether the same request may succeed later.
func (e *Error) Temporary() bool {
	switch e.Code {
	case CodeBusy, CodeUnavailable, CodeNotOpen, CodeNoWorkers, CodeStaleEpoch, CodeUnknownShard:
		return true
	}
	return false
}

// Targets for errors.Is.
var (
	ErrInvalid        = &Error{Code: CodeInvalid}
	ErrMalformed      = &Error{Code: CodeMalformed}
	ErrProtocol       = &Error{Code: CodeProtocol}
	ErrDenied         = &Error{Code: CodeDenied}
	ErrUnsupported    = &Error{Code: CodeUnsupported}
	ErrUnknownRun     = &Error{Code: CodeUnknownRun}
	ErrUnknownStep    = &Error{Code: CodeUnknownStep}
	ErrUnknownQuery   = &Error{Code: CodeUnknownQuery}
	ErrUnknownShard   = &Error{Code: CodeUnknownShard}
	ErrExists         = &Error{Code: CodeExists}
	ErrStaleEpoch     = &Error{Code: CodeStaleEpoch}
	ErrNotGrowing     = &Error{Code: CodeNotGrowing}
	ErrNotOpen        = &Error{Code: CodeNotOpen}
	ErrSuperseded     = &Error{Code: CodeSuperseded}
	ErrConflict       = &Error{Code: CodeConflict}
	ErrNotFinite      = &Error{Code: CodeNotFinite}
	ErrOverflow       = &Error{Code: CodeOverflow}
	ErrFrozen         = &Error{Code: CodeFrozen}
	ErrBusy           = &Error{Code: CodeBusy}
	ErrUnavailable    = &Error{Code: CodeUnavailable}
	ErrDropped        = &Error{Code: CodeDropped}
	ErrBehind         = &Error{Code: CodeBehind}
	ErrTooFewRows     = &Error{Code: CodeTooFewRows}
	ErrVersionGone    = &Error{Code: CodeVersionGone}
	ErrIllConditioned = &Error{Code: CodeIllConditioned}
	ErrTooLarge       = &Error{Code: CodeTooLarge}
	ErrNoWorkers      = &Error{Code: CodeNoWorkers}
	ErrTimeout        = &Error{Code: CodeTimeout}
	ErrInternal       = &Error{Code: CodeInternal}
)

// Errorf makes an error of the given code: field is value, must be limit.
func Errorf(code Code, field string, value any, limit string, hint ...any) *Error {
	e := &Error{Code: code, Field: printable(field, maxValue), Value: printable(value, maxValue), Limit: limit}
	if len(hint) > 0 {
		e.Hint = printable(fmt.Sprintf(fmt.Sprint(hint[0]), hint[1:]...), maxHint)
	}
	return e
}

// Invalid makes a CodeInvalid error: field is value, must be limit.
func Invalid(field string, value any, limit string) *Error {
	return Errorf(CodeInvalid, field, value, limit)
}

// AsError returns the *Error in err's chain; any other error becomes CodeInternal.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Hint: printable(err.Error(), maxHint)}
}

// Most bytes of the parts of an error that a stranger may have had a hand in.
const (
	maxValue = 100
	maxHint  = 400
)

// printable keeps what a stranger sent short, on one line and valid UTF-8.
func printable(v any, most int) string {
	s := fmt.Sprint(v)
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}
