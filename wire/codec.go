package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// Headers of a frame.
const (
	HeaderProtocol = "Mfac-Protocol"
	HeaderType     = "Mfac-Type"
	HeaderMeta     = "Mfac-Meta"
)

// Frame is a message as NATS carries it.
type Frame struct {
	Header map[string][]string
	Data   []byte
}

// Encode makes a message's frame. A bulk payload is not copied: the frame's Data is the payload.
func Encode(m Message) (Frame, error) {
	meta, err := msgpack.Marshal(m)
	if err != nil {
		return Frame{}, fmt.Errorf("encode %s: %w", m.Type(), err)
	}
	if len(meta) > MaxMeta {
		return Frame{}, Errorf(CodeTooLarge, "message bytes", len(meta), fmt.Sprintf("at most %d", MaxMeta))
	}
	h := map[string][]string{HeaderProtocol: {Protocol}, HeaderType: {m.Type()}}
	b, ok := m.(Bulk)
	if !ok {
		return Frame{Header: h, Data: meta}, nil
	}
	data := *b.Body()
	if len(data) > MaxPayload {
		return Frame{}, Errorf(CodeTooLarge, "payload bytes", len(data), fmt.Sprintf("at most %d", MaxPayload))
	}
	h[HeaderMeta] = []string{base64.RawURLEncoding.EncodeToString(meta)}
	return Frame{Header: h, Data: data}, nil
}

// Decode reads a frame. want is the type that a request's subject names; "" takes the one of the
// header. The payload of a bulk message is f.Data itself, not a copy. Nothing is allocated for
// what the message only declares, and no number is changed to fit its field (doc.go has the
// steps). The error is an *Error: malformed, protocol, too_large, or what Validate says.
func Decode(f Frame, want string) (Message, error) {
	if p := first(f.Header, HeaderProtocol); p != Protocol {
		return nil, Errorf(CodeProtocol, "protocol", fmt.Sprintf("%q", p), Protocol)
	}
	typ := first(f.Header, HeaderType)
	if want != "" && typ != "" && typ != want {
		return nil, Errorf(CodeMalformed, "type", typ, want+", as the subject says")
	}
	if want == "" {
		want = typ
	}
	t, ok := types[want]
	if !ok {
		return nil, Errorf(CodeMalformed, "type", fmt.Sprintf("%q", want), "a type of this protocol")
	}
	m := t.empty()
	meta := f.Data
	if b, ok := m.(Bulk); ok {
		if len(f.Data) > MaxPayload {
			return nil, Errorf(CodeTooLarge, "payload bytes", len(f.Data), fmt.Sprintf("at most %d", MaxPayload))
		}
		text := first(f.Header, HeaderMeta)
		if base64.RawURLEncoding.DecodedLen(len(text)) > MaxMeta {
			return nil, Errorf(CodeTooLarge, "message bytes", len(text), fmt.Sprintf("at most %d", MaxMeta))
		}
		var err error
		if meta, err = base64.RawURLEncoding.DecodeString(text); err != nil {
			return nil, Errorf(CodeMalformed, HeaderMeta, text, "base64url without padding")
		}
		*b.Body() = f.Data
	}
	if err := scan(meta); err != nil {
		return nil, err
	}
	if _, err := t.shape.check(meta, 0); err != nil {
		return nil, err
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(meta))
	if err := dec.Decode(m); err != nil {
		return nil, Errorf(CodeMalformed, "message", want, "a msgpack map of the documented types", "%v", err)
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

func first(h map[string][]string, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}
