package coordinator

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"mfac/internal/script"
	"mfac/wire"
)

func exampleRecord() Record {
	newest := wire.Step(1 << 53)
	return Record{
		Format: recordFormat,
		Spec: wire.RunSpec{
			Name: "digits", Dim: 100, Window: 16, Spare: 2, Shards: 3, Damping: 1e-5, Divisor: wire.Capacity,
			Store: wire.F32, Durability: wire.DurabilityMemory, Layout: strings.Repeat("0f", 32),
		},
		UID:       math.MaxUint64, // more than a float64 in another language's JSON can hold
		Lo:        []int64{0, 40, 80},
		Placed:    []Place{{"w1", 2}, {"w2", 4}, {"w1", 2}},
		Floor:     versionReserve + 7,
		Takeovers: 4,
		Epoch:     wire.Epoch{Incarnation: 0xabc, Revision: 9},
		Newest:    &newest,
		Freeze:    &Freezing{Caller: "client", Token: math.MaxUint64, Thawed: true},
	}
}

// The record is what stays of a run between versions of this program.
func TestRecordGolden(t *testing.T) {
	raw, err := exampleRecord().Encode()
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	script.Golden(t, "testdata/record.golden.json", pretty.Bytes())
	got, err := DecodeRecord(pretty.Bytes())
	if err != nil || !reflect.DeepEqual(got, exampleRecord()) {
		t.Errorf("read back: %+v, %v", got, err)
	}
}

// A run that has just been made is nowhere, and knows no step.
func TestRecordNew(t *testing.T) {
	r := exampleRecord()
	r.Placed, r.Newest, r.Epoch, r.Takeovers = make([]Place, 3), nil, wire.Epoch{}, 0
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeRecord(raw); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("read back: %+v, %v", got, err)
	}
}

func TestDecodeRecordErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Record)
		want *wire.Error
		text string
	}{
		{"format of a later version", func(r *Record) { r.Format = 2 }, wire.ErrUnsupported, "record format is 2, must be 1"},
		{"spec", func(r *Record) { r.Spec.Damping = 0 }, wire.ErrInvalid, "damping is 0"},
		{"no borders", func(r *Record) { r.Lo = nil }, wire.ErrInvalid, "shards in record is 0, must be 3"},
		{"places for other shards", func(r *Record) { r.Placed = r.Placed[:2] }, wire.ErrInvalid, "shards in record"},
		{"columns before the first shard", func(r *Record) { r.Lo[0] = 1 }, wire.ErrInvalid, "first shard border is 1, must be 0"},
		{"borders not growing", func(r *Record) { r.Lo[2] = 40 }, wire.ErrInvalid, "shard border is 40"},
		{"border beyond dim", func(r *Record) { r.Lo[2] = 100 }, wire.ErrInvalid, "shard border is 100"},
		{"border so far that it wraps", func(r *Record) { r.Lo[1] = math.MinInt64 }, wire.ErrInvalid, "shard border is 0"},
		{"who froze it, no name", func(r *Record) { r.Freeze.Caller = "*" }, wire.ErrInvalid, `caller in record is "*"`},
		{"worker that is no name", func(r *Record) { r.Placed[1].Worker = "w.>" }, wire.ErrInvalid, `worker in record is "w.>"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := exampleRecord()
			tt.edit(&r)
			raw, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeRecord(raw); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
	if _, err := DecodeRecord([]byte("{")); err == nil || !strings.Contains(err.Error(), "read run record") {
		t.Errorf("half a record: %v", err)
	}
}

// Whatever is read is a record that a takeover can begin with, and that reads the same again.
func FuzzRecord(f *testing.F) {
	raw, err := exampleRecord().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(bytes.Replace(raw, []byte("100"), []byte("1125899906842624"), 1))
	f.Add(bytes.Replace(raw, []byte("[0,40,80]"), []byte("[0,-9223372036854775808,80]"), 1))
	f.Add([]byte(`{"format":1,"placed":[null]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := DecodeRecord(p)
		if err != nil {
			return
		}
		var at, bytes int64
		for s := range r.Lo {
			lo, n := r.columns(s)
			if lo != at || n < 1 {
				t.Fatalf("shard %d is [%d, %d+%d), the one before ends at %d", s, lo, lo, n, at)
			}
			at += n
			if bytes = r.shardBytes(s); bytes < n || bytes < int64(r.Spec.Slots()) {
				t.Fatalf("shard %d takes %d bytes", s, bytes)
			}
		}
		if at != r.Spec.Dim {
			t.Fatalf("shards end at %d of %d", at, r.Spec.Dim)
		}
		q, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeRecord(q)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v reads as %+v, %v", r, again, err)
		}
	})
}

func TestRecordClone(t *testing.T) {
	r := exampleRecord()
	c := r.clone()
	c.Lo[1], c.Placed[1].Worker = 41, "w3"
	if !reflect.DeepEqual(r, exampleRecord()) {
		t.Errorf("a clone shares: %+v", r)
	}
}

func TestPlace(t *testing.T) {
	rec := exampleRecord() // shards of 40, 40 and 20 columns: 18 slots × 48 or 32 × 4 bytes
	const large, small = 18 * 48 * 4, 18 * 32 * 4
	for _, tt := range []struct {
		name   string
		shards []int
		rooms  []room
		want   map[int]string
		code   *wire.Error
		text   []string
	}{
		{"on the roomiest, and on what is that then", []int{0, 1, 2}, []room{{"a", 2 * large}, {"b", 2*large + 1}}, map[int]string{0: "b", 1: "a", 2: "b"}, nil, nil},
		{"ties by name", []int{0, 1, 2}, []room{{"c", 1 << 20}, {"b", 1 << 20}, {"a", 1 << 20}}, map[int]string{0: "a", 1: "b", 2: "c"}, nil, nil},
		{"just enough", []int{0, 2}, []room{{"a", small}, {"b", large}}, map[int]string{0: "b", 2: "a"}, nil, nil},
		{"some only", []int{2}, []room{{"a", small}}, map[int]string{2: "a"}, nil, nil},
		{"nothing to place", nil, []room{{"a", 0}}, map[int]string{}, nil, nil},
		{"nobody there", []int{0}, nil, nil, wire.ErrNoWorkers, []string{"workers is 0, must be at least 1"}},
		{"too large together", []int{0, 1, 2}, []room{{"a", large + 5}, {"b", large + 6}}, nil, wire.ErrTooLarge, []string{
			"memory is 9216 bytes (18 slots × 100 columns × 4)", "at most the 6923 bytes that are free on 2 workers", "2304 of them for shard 2, of which the roomiest has 6:", "add workers",
		}},
		{"one byte too few", []int{2}, []room{{"a", small - 1}}, nil, wire.ErrTooLarge, []string{"2304 of them for shard 2, of which the roomiest has 2303"}},
		{"over its limit already", []int{2}, []room{{"a", -1}}, nil, wire.ErrTooLarge, []string{"the roomiest has -1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := place(&rec, tt.shards, tt.rooms)
			if tt.code == nil {
				if err != nil || !reflect.DeepEqual(got, tt.want) {
					t.Errorf("got %v, %v; want %v", got, err, tt.want)
				}
				return
			}
			if !errors.Is(err, tt.code) {
				t.Fatalf("got %v, %v; want %v", got, err, tt.code)
			}
			for _, text := range tt.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%v does not say %q", err, text)
				}
			}
		})
	}
}

// A run of the largest spec takes more than 2⁶³ bytes: it does not find room by wrapping.
func TestPlaceDoesNotWrap(t *testing.T) {
	rec := exampleRecord()
	rec.Spec.Dim, rec.Spec.Window, rec.Spec.Spare = wire.MaxDim, wire.MaxWindow, wire.MaxSpare
	rec.Lo = []int64{0, 1, 2}
	for _, shards := range [][]int{{2}, {0, 1, 2}} {
		_, err := place(&rec, shards, []room{{"a", 1 << 40}})
		if !errors.Is(err, wire.ErrTooLarge) || !strings.Contains(err.Error(), "9223372036854775807 bytes") {
			t.Errorf("shards %v: %v", shards, err)
		}
	}
}
