package wire

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
)

// Message is anything that travels. Its msgpack fields are its meta; a Bulk message has a payload
// of raw little-endian numbers besides.
type Message interface {
	// Type is the word in the Mfac-Type header.
	Type() string
	// Validate checks what the message alone can tell: names, ranges, lengths.
	Validate() error
}

// Bulk is a message with a payload. Body points at the field that holds it; the payload is never
// copied: it lies in the received frame.
type Bulk interface {
	Message
	Body() *[]byte
}

// types has what Decode needs to know of each type: how to make an empty message, and what its
// msgpack must look like.
var types = map[string]messageType{}

type messageType struct {
	empty func() Message
	shape *shape
}

func register(empty func() Message) struct{} {
	m := empty()
	types[m.Type()] = messageType{empty, shapeOf(reflect.TypeOf(m))}
	return struct{}{}
}

// OK is the reply that says no more than that.
type OK struct {
	Seq uint64 `msgpack:"seq,omitempty"`
}

// Type implements Message.
func (*OK) Type() string { return "ok" }

// Validate implements Message.
func (*OK) Validate() error { return nil }

// Type implements Message.
func (*Error) Type() string { return "error" }

// codeRule is what a code looks like: one that is not known here comes from a later version.
var codeRule = regexp.MustCompile(`^[a-z][a-z_]{0,31}$`)

// Validate implements Message.
func (e *Error) Validate() error {
	if !codeRule.MatchString(string(e.Code)) {
		return Invalid("code", strconv.Quote(string(e.Code)), codeRule.String())
	}
	return nil
}

var (
	_ = register(func() Message { return new(OK) })
	_ = register(func() Message { return new(Error) })
)

// itoa writes a whole number, uint64 above 2⁶³ too.
func itoa[T ~int | ~int64 | ~uint64](n T) string {
	if n < 0 {
		return strconv.FormatInt(int64(n), 10)
	}
	return strconv.FormatUint(uint64(n), 10)
}

// checkWithin checks that lo <= n <= hi.
func checkWithin[T ~int | ~int32 | ~int64](field string, n, lo, hi T) error {
	if n < lo || n > hi {
		return Invalid(field, n, fmt.Sprintf("in [%d, %d]", lo, hi))
	}
	return nil
}

// checkCount checks that a number of things is none, or at most so many.
func checkCount(field string, n, most int) error { return checkWithin(field, n, 0, most) }

// checkFinite checks float64 numbers.
func checkFinite(field string, p []byte) error {
	for i := 0; i+8 <= len(p); i += 8 {
		if bits := binary.LittleEndian.Uint64(p[i:]); bits>>52&0x7ff == 0x7ff {
			return Errorf(CodeNotFinite, field, fmt.Sprintf("%v at %d", math.Float64frombits(bits), i/8), "finite")
		}
	}
	return nil
}

// checkLen checks a payload's length.
func checkLen(payload []byte, want int64) error {
	if int64(len(payload)) != want {
		return Invalid("payload bytes", len(payload), itoa(want))
	}
	return nil
}

// checkChunk checks a chunk of numbers: its columns, dtype, length and checksum field.
func checkChunk(lo, n int64, t DType, payload []byte) error {
	if err := cmp.Or(CheckRange(lo, n, MaxDim), CheckDType("dtype", t)); err != nil {
		return err
	}
	size := int64(t.Size())
	if n > MaxPayload/size {
		return Errorf(CodeTooLarge, "columns of a chunk", n, "at most "+itoa(MaxPayload/size))
	}
	return checkLen(payload, n*size)
}

func checkShard(run string, shard int) error {
	if err := CheckName("run", run); err != nil {
		return err
	}
	return checkWithin("shard", shard, 0, MaxShards-1)
}

func checkEpoch(e Epoch) error {
	if e.IsZero() {
		return Invalid("epoch", e, "not zero")
	}
	return nil
}
