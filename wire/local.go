package wire

import (
	"bytes"
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// This file: maps that don't go over NATS, as those between a program and the agent beside it.

var shapes sync.Map // of a type: its *shape

// DecodeMap decodes p, one msgpack map of at most so many bytes, into the struct that v points to, after
// the checks that Decode makes of a message: nothing is allocated for what is only declared, no number is
// changed to fit its field. Unknown keys are skipped, and lists of many numbers must be binary: a map
// has at most MaxItems items. The error is an *Error, malformed, invalid or too_large.
func DecodeMap(p []byte, most int, v any) error {
	if err := scanUpTo(p, most); err != nil {
		return err
	}
	t := reflect.TypeOf(v)
	s, ok := shapes.Load(t)
	if !ok {
		s, _ = shapes.LoadOrStore(t, shapeOf(t))
	}
	if _, err := s.(*shape).check(p, 0); err != nil {
		return err
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(p))
	if err := dec.Decode(v); err != nil {
		return Errorf(CodeMalformed, "message", "not a map of the documented types", "one", "%v", err)
	}
	return nil
}
