package wire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// Any header and body is decoded, or refused with an error of the wire; what is decoded is encoded
// to something that is decoded to the same.
func FuzzDecode(f *testing.F) {
	for _, ex := range examples() {
		frame, err := Encode(ex.msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ex.msg.Type(), first(frame.Header, HeaderMeta), frame.Data)
	}
	for _, typ := range sortedTypes() { // bodies that are valid in no type
		f.Add(typ, "gA", []byte("\x80"))
		f.Add(typ, "_____w", []byte("\xdf\xff\xff\xff\xff"))
	}
	f.Fuzz(func(t *testing.T, typ, meta string, body []byte) {
		m, err := Decode(Frame{Header: map[string][]string{HeaderProtocol: {Protocol}, HeaderType: {typ}, HeaderMeta: {meta}}, Data: body}, "")
		checkDecoded(t, m, err)
	})
}

// FuzzDecodeMeta has the fuzzer write msgpack rather than base64.
func FuzzDecodeMeta(f *testing.F) {
	names := sortedTypes()
	for _, ex := range examples() {
		f.Add(uint8(slices.Index(names, ex.msg.Type())), mustMeta(f, ex.msg), payloadOf(ex.msg))
	}
	f.Fuzz(func(t *testing.T, typ uint8, meta, payload []byte) {
		m, err := Decode(frameOf(names[int(typ)%len(names)], meta, payload), "")
		checkDecoded(t, m, err)
	})
}

func checkDecoded(t *testing.T, m Message, err error) {
	t.Helper()
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || e.Code == CodeInternal || m != nil {
			t.Fatalf("%v, %T: %v", m, err, err)
		}
		if strings.Contains(e.Hint, "msgpack:") {
			t.Fatalf("the shape passed what msgpack does not: %v", err)
		}
		if len(e.Error()) > 1500 {
			t.Fatalf("an error of %d bytes", len(e.Error()))
		}
		return
	}
	a, err := Encode(m)
	if err != nil {
		if errors.Is(err, ErrTooLarge) { // numbers in fewer bytes than ours
			return
		}
		t.Fatal(err)
	}
	again, err := Decode(a, m.Type())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Encode(again)
	if err != nil || !bytes.Equal(a.Data, b.Data) || first(a.Header, HeaderMeta) != first(b.Header, HeaderMeta) {
		t.Fatalf("%+v became %+v (%v)", m, again, err)
	}
}

func FuzzRows(f *testing.F) {
	f.Add(AppendRows(nil, exRows))
	f.Add([]byte{1, 2, 3})
	f.Add(bytes.Repeat([]byte{0xff}, rowBytes))
	f.Fuzz(func(t *testing.T, p []byte) {
		rows := Rows(p)
		if got := AppendRows(nil, rows); !bytes.Equal(got, p[:len(p)/rowBytes*rowBytes]) {
			t.Fatalf("%x became %x", p, got)
		}
		if checkRows(p) != nil {
			return
		}
		for i, r := range rows {
			if r.Slot < 0 || r.Slot >= maxSlots || slices.IndexFunc(rows, func(o Row) bool { return o.Slot == r.Slot }) != i {
				t.Fatalf("row %d is %+v", i, r)
			}
		}
	})
}

func FuzzProducts(f *testing.F) {
	f.Add(AppendProducts(nil, []Product{{0, 7, -0.5}, {3, 8, math.Inf(1)}}))
	f.Add([]byte{0, 0, 0, 128})
	f.Add(make([]byte, 2*productBytes))
	f.Fuzz(func(t *testing.T, p []byte) {
		list := ProductList(p)
		if got := AppendProducts(nil, list); !bytes.Equal(got, p[:len(p)/productBytes*productBytes]) {
			t.Fatalf("%x became %x", p, got)
		}
		if err := (&Products{Shard: exShard, Payload: p}).Validate(); err == nil && (len(p)%productBytes != 0 || len(list) > maxSlots) {
			t.Fatalf("%d products from %d bytes", len(list), len(p))
		}
	})
}

func FuzzSlotList(f *testing.F) {
	f.Add(AppendSlots(nil, []Slot{0, 3, maxSlots - 1}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, p []byte) {
		slots, err := SlotList(p)
		if err != nil {
			return
		}
		if !bytes.Equal(AppendSlots(nil, slots), p) || len(slots) > maxSlots {
			t.Fatalf("%x became %v", p, slots)
		}
		for _, s := range slots {
			if s < 0 || s >= maxSlots {
				t.Fatalf("slot %d", s)
			}
		}
	})
}

func FuzzFloats(f *testing.F) {
	f.Add(AppendFloats(nil, []float64{1, math.NaN(), math.Inf(-1)}))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, p []byte) {
		whole := p[:len(p)/8*8]
		if got := AppendFloats(nil, Floats(p)); !bytes.Equal(got, whole) {
			t.Fatalf("%x became %x", p, got)
		}
		if got := AppendUint64s(nil, Uint64s[Step](p)); !bytes.Equal(got, whole) {
			t.Fatalf("%x became %x", p, got)
		}
		finite := !slices.ContainsFunc(Floats(p), func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
		if (checkFinite("x", p) == nil) != finite {
			t.Fatalf("%x: %v", p, checkFinite("x", p))
		}
	})
}

func FuzzCheckReply(f *testing.F) {
	f.Add("mfac.demo.c.info.alice", "_INBOX.alice.abc.1")
	f.Add("mfac.demo.c.info.alice", "$JS.API.STREAM.PURGE.X")
	f.Add("mfac.demo.c.info.alice", "_INBOX.alice..")
	f.Fuzz(func(t *testing.T, subject, reply string) {
		if CheckReply(subject, reply) == nil && (!strings.HasPrefix(reply, "_INBOX."+Caller(subject)+".") || strings.Contains(reply, "..") || strings.ContainsAny(reply, " *>\r\n\x00")) {
			t.Fatalf("%q may be answered at %q", subject, reply)
		}
	})
}

// What base64 takes that is not quite base64url without padding does no harm, but is not ours.
func TestMetaIsBase64URL(t *testing.T) {
	f, err := Encode(exampleOf(t, "chunk"))
	if err != nil {
		t.Fatal(err)
	}
	meta, err := base64.RawURLEncoding.Strict().DecodeString(first(f.Header, HeaderMeta))
	if err != nil || scan(meta) != nil {
		t.Errorf("%v, %v", err, scan(meta))
	}
}
