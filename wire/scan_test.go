package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func rep(s string, n int) string { return strings.Repeat(s, n) }

func TestScan(t *testing.T) {
	str16 := func(n int) string { return "\xda" + string([]byte{byte(n >> 8), byte(n)}) + rep("x", n) }
	for _, tt := range []struct {
		name, in string
		want     *Error // nil: passes
		text     string // part of the error's text
	}{
		{"empty map", "\x80", nil, ""},
		{"map16 empty", "\xde\x00\x00", nil, ""},
		{"map32 empty", "\xdf\x00\x00\x00\x00", nil, ""},
		{"array16", "\xdc\x00\x00", ErrMalformed, "a map"},
		{"scalars", "\x8e" + "\xa0\x00" + "\xa0\x7f" + "\xa0\xff" + "\xa0\xc0" + "\xa0\xc2" + "\xa0\xc3" +
			"\xa0\xcc1" + "\xa0\xcd12" + "\xa0\xce1234" + "\xa0\xcf12345678" +
			"\xa0\xd01" + "\xa0\xd112" + "\xa0\xd21234" + "\xa0\xd312345678", nil, ""},
		{"floats, texts", "\x88" + "\xa0\xca1234" + "\xa0\xcb12345678" + "\xa0\xa2ab" + "\xa0\xd9\x03abc" + "\xa0\xda\x00\x01a" +
			"\xa0\xdb\x00\x00\x00\x01a" + "\xa0\xc4\x01a" + "\xa0\xc5\x00\x01a", nil, ""},
		{"arrays", "\x83" + "\xa0\x92\x01\x02" + "\xa0\xdc\x00\x01\x01" + "\xa0\xdd\x00\x00\x00\x01\x01", nil, ""},
		{"keys of any type", "\x81\x92\x01\x80\x02", nil, ""},
		{"nothing", "", ErrMalformed, "empty"},
		{"nil", "\xc0", ErrMalformed, "a map"},
		{"array", "\x90", ErrMalformed, "a map"},
		{"string", "\xa1a", ErrMalformed, "a map"},
		{"trailing byte", "\x80\x00", ErrMalformed, "1 bytes too long"},
		{"two maps", "\x80\x80", ErrMalformed, "1 bytes too long"},
		{"reserved", "\x81\xa1a\xc1", ErrMalformed, "0xc1"},
		{"reserved key", "\x81\xc1\x00", ErrMalformed, "0xc1"},
		{"fixext1", "\x81\xa1a\xd4\x01\x01", ErrMalformed, "0xd4"},
		{"fixext16", "\x81\xa1a\xd8\x01" + rep("x", 16), ErrMalformed, "0xd8"},
		{"ext8", "\x81\xa1a\xc7\x01\x01x", ErrMalformed, "0xc7"},
		{"ext16", "\x81\xa1a\xc8\x00\x01\x01x", ErrMalformed, "0xc8"},
		{"ext32 huge", "\x81\xa1a\xc9\xff\xff\xff\xff\x01", ErrMalformed, "0xc9"},
		{"map cut off", "\x81", ErrMalformed, ""},
		{"value missing", "\x81\xa1a", ErrMalformed, ""},
		{"map16 head cut off", "\xde\x00", ErrMalformed, ""},
		{"uint64 cut off", "\x81\xa1a\xcf1234567", ErrMalformed, ""},
		{"fixstr too long", "\x81\xa2a", ErrMalformed, ""},
		{"str32 huge", "\x81\xa1a\xdb\xff\xff\xff\xff", ErrMalformed, "4294967295"},
		{"bin32 huge", "\x81\xa1a\xc6\x80\x00\x00\x00", ErrMalformed, "2147483648"},
		{"array32 huge", "\x81\xa1a\xdd\x80\x00\x00\x00", ErrMalformed, "2147483648"},
		{"map32 huge", "\x81\xa1a\xdf\xff\xff\xff\xff", ErrMalformed, "8589934590"},
		{"map32 huge, outermost", "\xdf\x80\x00\x00\x00", ErrMalformed, "4294967296"},
		{"array one item short", "\x81\xa1a\x92\x00", ErrMalformed, ""},
		{"depth at the limit", "\x81\xa1a" + rep("\x91", MaxDepth-1) + "\x00", nil, ""},
		{"depth over the limit", "\x81\xa1a" + rep("\x91", MaxDepth) + "\x00", ErrTooLarge, "depth"},
		{"depth in keys", rep("\x81", MaxDepth+1) + rep("\x00", MaxDepth+2), ErrTooLarge, "depth"},
		{"empty container at the limit", "\x81\xa1a" + rep("\x91", MaxDepth-1) + "\x90", nil, ""},
		{"depth over and over", "\x82\xa1a" + rep("\x91", MaxDepth-1) + "\x00\xa1b" + rep("\x91", MaxDepth-1) + "\x00", nil, ""},
		{"a million deep", rep("\x81", 1<<20), ErrTooLarge, "message bytes"},
		{"sixty thousand deep", rep("\x81", 60_000), ErrTooLarge, "depth"},
		{"items at the limit", "\x81\xa0\xdc" + string([]byte{(MaxItems - 3) >> 8, (MaxItems - 3) & 255}) + rep("\x00", MaxItems-3), nil, ""},
		{"items over the limit", "\x81\xa0\xdc" + string([]byte{(MaxItems - 2) >> 8, (MaxItems - 2) & 255}) + rep("\x00", MaxItems-2), ErrTooLarge, "items"},
		{"bytes at the limit", "\x81\xa0" + str16(MaxMeta-5), nil, ""},
		{"bytes over the limit", "\x81\xa0" + str16(MaxMeta-4), ErrTooLarge, "message bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := scan([]byte(tt.in))
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	p := mustMeta(t, goldenInfo(MaxShards))
	if n := testing.AllocsPerRun(100, func() {
		if err := scan(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The largest messages of each kind pass.
func TestScanLargest(t *testing.T) {
	name := rep("w", 63)
	list := &ListReply{More: true}
	for range MaxList {
		list.Runs = append(list.Runs, name)
	}
	status := &StatusReply{Coord: name, More: true}
	for range MaxStatus {
		status.Workers = append(status.Workers, WorkerStatus{ID: name, Instance: 1 << 63, Capacity: 1 << 60, Used: 1 << 60, Shards: 1 << 30, SilentMS: 1 << 60})
	}
	hello := &Hello{Worker: name, Instance: 1 << 63}
	for range MaxHeld {
		hello.Held = append(hello.Held, Held{name, 1 << 63, MaxShards - 1, 1 << 63})
	}
	wait := &WaitReply{State: StateCommitted, Bounds: make([]float64, MaxVectors)}
	for _, m := range []Message{goldenInfo(MaxShards), list, status, hello, wait} {
		p := mustMeta(t, m)
		if err := scan(p); err != nil {
			t.Errorf("%s of %d bytes: %v", m.Type(), len(p), err)
		}
		if _, err := Encode(m); err != nil {
			t.Error(err)
		}
	}
}

// goldenInfo is an Info with the longest names and as many shards, each on a worker of its own.
func goldenInfo(shards int) *Info {
	name := rep("w", 59)
	m := &Info{
		Spec: RunSpec{Name: name, Dim: MaxDim, Window: MaxWindow, Spare: MaxSpare, Shards: shards, Damping: 1e-5, Divisor: Capacity,
			Store: F32, Durability: DurabilityMemory, Layout: rep("0a", 32)},
		UID: 1 << 63, Epoch: Epoch{1 << 63, 1 << 63}, State: StateReady, Version: 1 << 63, Coord: name,
	}
	for s := range shards {
		m.Lo = append(m.Lo, MaxDim/int64(shards)*int64(s))
		m.Owner = append(m.Owner, s)
		m.Workers = append(m.Workers, fmt.Sprintf("%s-%03d", name, s))
	}
	return m
}

func mustMeta(t testing.TB, m Message) []byte {
	t.Helper()
	p, err := msgpack.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refScan is scan as one would write it without a thought for the stack: it returns the rest after
// one item.
func refScan(p []byte, depth int, items *int) ([]byte, bool) {
	if *items++; len(p) == 0 || *items > MaxItems {
		return nil, false
	}
	c, p := p[0], p[1:]
	length := func(n int) (int, bool) {
		if len(p) < n {
			return 0, false
		}
		var b [8]byte
		copy(b[8-n:], p)
		p = p[n:]
		return int(binary.BigEndian.Uint64(b[:])), true
	}
	skip := func(n int, ok bool) ([]byte, bool) {
		if !ok || n > len(p) {
			return nil, false
		}
		return p[n:], true
	}
	list := func(n int, ok bool) ([]byte, bool) {
		if !ok || n > 0 && depth == MaxDepth {
			return nil, false
		}
		for range n {
			if p, ok = refScan(p, depth+1, items); !ok {
				return nil, false
			}
		}
		return p, true
	}
	pairs := func(n int, ok bool) ([]byte, bool) { return list(2*n, ok) }
	switch {
	case c < 0x80, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		return p, true
	case c < 0x90:
		return pairs(int(c&15), true)
	case c < 0xa0:
		return list(int(c&15), true)
	case c < 0xc0:
		return skip(int(c&31), true)
	}
	switch c {
	case 0xcc, 0xd0:
		return skip(1, true)
	case 0xcd, 0xd1:
		return skip(2, true)
	case 0xca, 0xce, 0xd2:
		return skip(4, true)
	case 0xcb, 0xcf, 0xd3:
		return skip(8, true)
	case 0xc4, 0xd9:
		return skip(length(1))
	case 0xc5, 0xda:
		return skip(length(2))
	case 0xc6, 0xdb:
		return skip(length(4))
	case 0xdc:
		return list(length(2))
	case 0xdd:
		return list(length(4))
	case 0xde:
		return pairs(length(2))
	case 0xdf:
		return pairs(length(4))
	}
	return nil, false
}

func refScanAll(p []byte) bool {
	if len(p) == 0 || len(p) > MaxMeta || p[0]&0xf0 != 0x80 && p[0] != 0xde && p[0] != 0xdf {
		return false
	}
	items := 0
	rest, ok := refScan(p, 0, &items)
	return ok && len(rest) == 0
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{
		"", "\x80", "\x81\xa1a\x01", "\x81\xa1a\xdd\x80\x00\x00\x00", "\xdf\xff\xff\xff\xff", rep("\x81", 100), "\x81\xa1a" + rep("\x91", 7) + "\x00",
		"\x81\xa1a\xc1", "\x81\xa1a\xd4\x00\x00", "\x83\xa1a\xcb12345678\xa1b\xc4\x02xy\xa1c\xdc\x00\x02\x01\x02", "\x81\xa1a\xdb\x00\x00\x00\x02xy",
		"\x81\xa0\xdc\x20\x00" + rep("\x00", 8192),
	} {
		f.Add([]byte(s))
	}
	f.Add(mustMeta(f, goldenInfo(3)))
	f.Fuzz(func(t *testing.T, p []byte) {
		err := scan(p)
		if (err == nil) != refScanAll(p) {
			t.Fatalf("scan says %v, the reference %v", err, refScanAll(p))
		}
		if err != nil {
			return
		}
		if err := msgpack.NewDecoder(bytes.NewReader(p)).Skip(); err != nil { // msgpack finds it whole too
			t.Fatal(err)
		}
	})
}
