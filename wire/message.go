package wire

import "strconv"

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

// makers makes an empty message of each type, for Decode.
var makers = map[string]func() Message{}

func register(make func() Message) struct{} {
	makers[make().Type()] = make
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

// Validate implements Message.
func (e *Error) Validate() error {
	if e.Code == "" {
		return Invalid("code", `""`, "a code")
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

// checkLen checks a payload's length.
func checkLen(payload []byte, want int64) error {
	if int64(len(payload)) != want {
		return Invalid("payload bytes", len(payload), itoa(want))
	}
	return nil
}

// checkChunk checks a chunk of numbers: its columns, dtype, length and checksum field.
func checkChunk(lo, n int64, t DType, payload []byte) error {
	if err := CheckRange(lo, n, MaxDim); err != nil {
		return err
	}
	size := int64(t.Size())
	if size == 0 {
		return Invalid("dtype", t, "f32 or f64")
	}
	if n > MaxPayload/size {
		return Errorf(CodeTooLarge, "columns of a chunk", n, "at most "+itoa(MaxPayload/size))
	}
	return checkLen(payload, n*size)
}

func checkShard(run string, shard int) error {
	if err := CheckName("run", run); err != nil {
		return err
	}
	if shard < 0 || shard >= MaxShards {
		return Invalid("shard", shard, "in [0, "+itoa(MaxShards)+")")
	}
	return nil
}

func checkEpoch(e Epoch) error {
	if e.IsZero() {
		return Invalid("epoch", e, "not zero")
	}
	return nil
}
