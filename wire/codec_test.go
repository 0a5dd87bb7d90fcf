package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

// frameOf makes a frame of a type with msgpack of one's own.
func frameOf(typ string, meta, payload []byte) Frame {
	f := Frame{Header: map[string][]string{HeaderProtocol: {Protocol}, HeaderType: {typ}}, Data: meta}
	if _, ok := types[typ].empty().(Bulk); ok {
		f.Header[HeaderMeta] = []string{base64.RawURLEncoding.EncodeToString(meta)}
		f.Data = payload
	}
	return f
}

// fieldsOf is a message's msgpack as a generic map, for a test to change.
func fieldsOf(t testing.TB, m Message) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := msgpack.Unmarshal(mustMeta(t, m), &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

func payloadOf(m Message) []byte {
	if b, ok := m.(Bulk); ok {
		return *b.Body()
	}
	return nil
}

func exampleOf(t testing.TB, name string) Message {
	t.Helper()
	for _, ex := range examples() {
		if ex.name == name {
			return ex.msg
		}
	}
	t.Fatalf("no example %s", name)
	return nil
}

func TestDecodeFrames(t *testing.T) {
	good := func() Frame { f, _ := Encode(exampleOf(t, "chunk")); return f }
	for _, tt := range []struct {
		name string
		typ  string
		edit func(*Frame)
		want *Error
		text string
	}{
		{"as it is", "chunk", func(*Frame) {}, nil, ""},
		{"type from the header", "", func(*Frame) {}, nil, ""},
		{"type from the subject", "chunk", func(f *Frame) { delete(f.Header, HeaderType) }, nil, ""},
		{"no type at all", "", func(f *Frame) { delete(f.Header, HeaderType) }, ErrMalformed, `type is ""`},
		{"another type", "vec", func(*Frame) {}, ErrMalformed, "type is chunk, must be vec"},
		{"unknown type", "", func(f *Frame) { f.Header[HeaderType] = []string{"chunks"} }, ErrMalformed, `"chunks"`},
		{"no header", "", func(f *Frame) { f.Header = nil }, ErrProtocol, `protocol is ""`},
		{"another protocol", "", func(f *Frame) { f.Header[HeaderProtocol] = []string{"2"} }, ErrProtocol, `protocol is "2", must be 1`},
		{"no meta", "", func(f *Frame) { delete(f.Header, HeaderMeta) }, ErrMalformed, "empty"},
		{"meta not base64", "", func(f *Frame) { f.Header[HeaderMeta] = []string{"a+b/"} }, ErrMalformed, "base64url"},
		{"meta with padding", "", func(f *Frame) { f.Header[HeaderMeta] = []string{"gA=="} }, ErrMalformed, "base64url"},
		{"meta too long", "", func(f *Frame) { f.Header[HeaderMeta] = []string{rep("A", 88_000)} }, ErrTooLarge, "message bytes"},
		{"payload short", "", func(f *Frame) { f.Data = f.Data[1:] }, ErrInvalid, "payload bytes is 23, must be 24"},
		{"payload too long", "", func(f *Frame) { f.Data = make([]byte, MaxPayload+1) }, ErrTooLarge, "payload bytes is 1000001, must be at most 1000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := good()
			tt.edit(&f)
			m, err := Decode(f, tt.typ)
			if tt.want == nil {
				if err != nil || !reflect.DeepEqual(m, exampleOf(t, "chunk")) {
					t.Fatalf("%+v, %v", m, err)
				}
				if &(*m.(Bulk).Body())[0] != &f.Data[0] {
					t.Error("the payload was copied")
				}
				return
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

func TestEncodeLimits(t *testing.T) {
	if _, err := Encode(&Layout{Payload: make([]byte, MaxPayload+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("payload: %v", err)
	}
	list := &ListReply{}
	for range 2000 {
		list.Runs = append(list.Runs, rep("r", 63))
	}
	if _, err := Encode(list); !errors.Is(err, ErrTooLarge) {
		t.Errorf("message: %v", err)
	}
}

// What a field may not hold is refused with the field's name; what it may hold in another form
// than ours is the same number.
func TestDecodeFields(t *testing.T) {
	type fields = map[string]any
	for _, tt := range []struct {
		name, example, field string
		value                any
		want                 *Error
		text                 string
	}{
		{"negative step", "wait", "step", int64(-1), ErrInvalid, "step is -1, must be in [0, 18446744073709551615]"},
		{"largest step", "wait", "step", uint64(math.MaxUint64), nil, ""},
		{"step of a float", "wait", "step", 7.0, ErrMalformed, "step is a float, must be an integer"},
		{"step of a string", "wait", "step", "7", ErrMalformed, "step is a string"},
		{"step of a bool", "wait", "step", true, ErrMalformed, "step is a bool"},
		{"step of a list", "wait", "step", []int{7}, ErrMalformed, "step is an array"},
		{"step of a map", "wait", "step", fields{}, ErrMalformed, "step is a map"},
		{"step as a signed number", "wait", "step", int64(7), nil, ""},
		{"step as one byte", "wait", "step", int8(7), nil, ""},
		{"no step", "wait", "step", nil, nil, ""},
		{"slot beyond int32", "stage", "slot", int64(1) << 32, ErrInvalid, "slot is 4294967296, must be in [-2147483648, 2147483647]"},
		{"slot that wraps to 1", "stage", "slot", int64(1)<<32 + 1, ErrInvalid, "slot is 4294967297"},
		{"slot of uint64", "stage", "slot", uint64(math.MaxUint64), ErrInvalid, "slot is 18446744073709551615"},
		{"slot at the end of int32", "stage", "slot", int64(math.MaxInt32), ErrInvalid, "slot is 2147483647, must be in [0, 4159]"},
		{"shard that wraps to −1", "chunk", "shard", uint64(math.MaxUint64), ErrInvalid, "shard is 18446744073709551615"},
		{"shard negative", "chunk", "shard", -1, ErrInvalid, "shard is -1, must be in [0, 511]"},
		{"lo at the end of int64", "chunk", "lo", int64(math.MaxInt64), ErrInvalid, "columns"},
		{"lo beyond int64", "chunk", "lo", uint64(1) << 63, ErrInvalid, "lo is 9223372036854775808"},
		{"sum beyond uint32", "chunk", "sum", uint64(1) << 32, ErrInvalid, "sum is 4294967296, must be in [0, 4294967295]"},
		{"sum negative", "chunk", "sum", -1, ErrInvalid, "sum is -1"},
		{"dtype f64 of a gradient", "chunk", "dtype", "f64", ErrInvalid, "dtype is f64, must be f32, bf16 or f16"},
		{"dtype that is not there", "chunk", "dtype", "f8", ErrInvalid, "dtype is f8, must be f32, bf16 or f16"},
		{"dtype left out", "chunk", "dtype", nil, ErrInvalid, "dtype is , must be f32, bf16 or f16"},
		{"dtype in capitals", "vec", "dtype", "BF16", ErrInvalid, "dtype is BF16, must be f32, f64, bf16 or f16"},
		{"dtype of other numbers", "chunk", "dtype", "bf16", ErrInvalid, "payload bytes is 24, must be 12"},
		{"half a number", "chunk-bf16", "n", 5, ErrInvalid, "payload bytes is 12, must be 10"},
		{"too many numbers", "fetch-bf16", "n", 500_001, ErrTooLarge, "columns of a chunk is 500001, must be at most 500000"},
		{"dtype of a vector", "query", "dtype", "f8", ErrInvalid, "dtype is f8, must be f32, f64, bf16 or f16"},
		{"result", "query", "result", "f8", ErrInvalid, "result is f8, must be f32, f64, bf16 or f16"},
		{"result of a row", "query-row", "result", "bf16", ErrInvalid, "result is bf16, must be f32"},
		{"result of a precondition", "open", "precondition", fields{"result": "i8"}, ErrInvalid, "result is i8, must be f32, f64, bf16 or f16"},
		{"result of a commit", "commit", "result", "i8", ErrInvalid, "result is i8, must be f32, f64, bf16 or f16"},
		{"result of coefficients", "coef", "result", "", ErrInvalid, "result is , must be f32, f64, bf16 or f16"},
		{"dtype of what is prepared", "prepare", "dtype", "i8", ErrInvalid, "dtype is i8, must be f32, f64, bf16 or f16"},
		{"residual of a gram", "blocks-gram", "what", "residual", ErrInvalid, "what is residual, must be solve, combine, diag, joint or, but of a gram, residual"},
		{"store f64", "adopt", "store", "f64", ErrInvalid, "store is f64, must be f32, bf16 or f16"},
		{"dtype binary", "chunk", "dtype", []byte("f32"), ErrMalformed, "dtype is binary, must be a string"},
		{"dtype a number", "chunk", "dtype", 32, ErrMalformed, "dtype is an integer, must be a string"},
		{"run not UTF-8", "chunk", "run", "\xff", ErrMalformed, "run is not UTF-8"},
		{"run with a wildcard", "chunk", "run", "*", ErrInvalid, `run is "*"`},
		{"mask a string", "prepare", "mask", "\x09", ErrMalformed, "mask is a string, must be binary"},
		{"mask a list", "prepare", "mask", []int{9}, ErrMalformed, "mask is an array, must be binary"},
		{"damping a whole number", "coef", "damping", 2, nil, ""},
		{"damping float32", "coef", "damping", float32(0.5), nil, ""},
		{"damping the largest whole number", "coef", "damping", int64(1) << 53, nil, ""},
		{"damping no float64", "coef", "damping", int64(1)<<53 + 1, ErrInvalid, "damping is 9007199254740993"},
		{"damping that wraps to a negative", "coef", "damping", uint64(math.MaxUint64), ErrInvalid, "damping is 18446744073709551615"},
		{"damping negative", "coef", "damping", -2, ErrInvalid, "damping is -2, must be > 0 and finite"},
		{"damping NaN", "coef", "damping", math.NaN(), ErrInvalid, "damping is NaN"},
		{"damping infinite", "coef", "damping", math.Inf(1), ErrInvalid, "damping is +Inf"},
		{"damping a string", "coef", "damping", "1", ErrMalformed, "damping is a string, must be a number"},
		{"no damping for a vector", "coef", "damping", nil, ErrInvalid, "damping is 0"},
		{"damping NaN in a query", "query", "damping", math.NaN(), ErrInvalid, "damping is NaN"},
		{"flag a number", "commit", "evict", 1, ErrMalformed, "evict is an integer, must be true or false"},
		{"epoch a list, as array-encoded structs are", "chunk", "epoch", []any{uint64(1), uint64(2)}, ErrMalformed, "epoch is an array, must be a map"},
		{"epoch with a field of the wrong type", "chunk", "epoch", fields{"inc": "x", "rev": 1}, ErrMalformed, "epoch.inc is a string"},
		{"epoch with a key that is no string", "chunk", "epoch", map[int]int{1: 2}, ErrMalformed, "epoch.key is an integer, must be a string"},
		{"no epoch", "chunk", "epoch", nil, ErrInvalid, "epoch is 0-0, must be not zero"},
		{"list a map", "open.reply", "whole", fields{"a": 1}, ErrMalformed, "whole is a map, must be an array"},
		{"list with a string", "open.reply", "whole", []any{0, "1"}, ErrMalformed, "whole[1] is a string, must be an integer"},
		{"list with nil", "open.reply", "whole", []any{0, nil}, ErrMalformed, "whole[1] is nil, must be an integer"},
		{"list of maps with a wrong field", "install", "keep", []any{fields{"slot": 1}, fields{"slot": "1"}}, ErrMalformed, "keep[1].slot is a string"},
		{"list of maps with a wrapped field", "install", "keep", []any{fields{"slot": int64(1) << 32}}, ErrInvalid, "keep[0].slot is 4294967296"},
		{"nested", "create", "spec", fields{"dim": -1.5}, ErrMalformed, "spec.dim is a float"},
		{"the struct that is inlined", "drop", "Shard", fields{"run": "x"}, ErrMalformed, "Shard is there"},
		{"want negative", "chunk", "want", -1, ErrInvalid, "want is -1"},
		{"deadline beyond a day", "open", "deadline_ms", int64(1) << 62, ErrInvalid, "deadline_ms is 4611686018427387904"},
		{"precondition nil", "open", "precondition", nil, nil, ""},
		{"precondition infinite", "open", "precondition", fields{"result": "f32", "damping": math.Inf(1)}, ErrInvalid, "damping is +Inf"},
		{"precondition NaN", "open", "precondition", fields{"result": "f32", "damping": math.NaN()}, ErrInvalid, "damping is NaN"},
		{"unknown field, a number", "wait", "later", 1, nil, ""},
		{"unknown field, deep", "wait", "later", []any{fields{"a": []any{1.5, "x", nil, true, []byte{1}}}}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ex := exampleOf(t, tt.example)
			f := fieldsOf(t, ex)
			f[tt.field] = tt.value
			meta, err := msgpack.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Decode(frameOf(ex.Type(), meta, payloadOf(ex)), "")
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, tt.want) || !strings.HasPrefix(err.Error(), tt.text) {
				t.Fatalf("got %v, want %v: %s", err, tt.want, tt.text)
			}
		})
	}
}

func TestDecodeKeys(t *testing.T) {
	run := "\xa3run\xa6digits"
	for _, tt := range []struct {
		name, meta string
		want       *Error
		text       string
	}{
		{"one", "\x81" + run, nil, ""},
		{"key as str8", "\x81\xd9\x03run\xa6digits", nil, ""},
		{"key as bin", "\x81\xc4\x03run\xa6digits", ErrMalformed, "key is binary, must be a string"},
		{"key as nil", "\x82\xc0\x01" + run, ErrMalformed, "key is nil"},
		{"twice", "\x82" + run + run, ErrMalformed, "run is there twice, must be there once"},
		{"twice, once nil", "\x82" + run + "\xa3run\xc0", ErrMalformed, "run is there twice"},
		{"unknown key twice", "\x83\xa1x\x01\xa1x\x02" + run, nil, ""},
		{"none", "\x80", ErrInvalid, `run is ""`},
		{"array", "\x91\xa6digits", ErrMalformed, "a map"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Decode(frameOf("info", []byte(tt.meta), nil), "info")
			if tt.want == nil {
				if err != nil || !reflect.DeepEqual(m, &InfoRequest{Run: "digits"}) {
					t.Fatalf("%+v, %v", m, err)
				}
				return
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

// probe has a field of each kind that messages use.
type probe struct {
	I   int     `msgpack:"i"`
	I32 Slot    `msgpack:"i32"`
	I64 int64   `msgpack:"i64"`
	U32 uint32  `msgpack:"u32"`
	U64 Step    `msgpack:"u64"`
	F   float64 `msgpack:"f"`
}

// An integer in any of msgpack's encodings is refused, or decoded to the very same number.
func TestIntegersNeverWrap(t *testing.T) {
	s := shapeOf(reflect.TypeFor[probe]())
	rapid.Check(t, func(t *rapid.T) {
		head := rapid.SampledFrom([]byte{0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3, 0x00, 0xe0}).Draw(t, "encoding")
		bits := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 53, 1<<53 + 1, 1<<63 - 1, 1 << 63, math.MaxUint64})).Draw(t, "bits")
		raw := binary.BigEndian.AppendUint64(nil, bits)
		var item []byte
		want := new(big.Int)
		switch head {
		case 0x00:
			item = []byte{raw[7] & 0x7f}
			want.SetInt64(int64(item[0]))
		case 0xe0:
			item = []byte{raw[7] | 0xe0}
			want.SetInt64(int64(int8(item[0])))
		default:
			n := 1 << (head & 3)
			item = append([]byte{head}, raw[8-n:]...)
			want.SetBytes(raw[8-n:])
			if top := uint(8*n - 1); head >= 0xd0 && want.Bit(int(top)) == 1 {
				want.Sub(want, new(big.Int).Lsh(big.NewInt(1), top+1))
			}
		}
		name := rapid.SampledFrom([]string{"i", "i32", "i64", "u32", "u64", "f"}).Draw(t, "field")
		p := append([]byte{0x81, 0xa0 | byte(len(name))}, name...)
		p = append(p, item...)
		if err := scan(p); err != nil {
			t.Fatal(err)
		}
		fits := map[string]bool{
			"i": want.IsInt64(), "i64": want.IsInt64(), "u64": want.IsUint64(), "f": want.CmpAbs(big.NewInt(1<<53)) <= 0,
			"i32": want.IsInt64() && want.Int64() == int64(int32(want.Int64())), "u32": want.IsUint64() && want.Uint64() <= math.MaxUint32,
		}[name]
		_, err := s.check(p, 0)
		if (err == nil) != fits {
			t.Fatalf("%v into %s: %v", want, name, err)
		}
		if err != nil {
			if err.Code != CodeInvalid || err.Field != name || err.Value != want.String() {
				t.Fatalf("%v into %s: %v", want, name, err)
			}
			return
		}
		var got probe
		if err := msgpack.NewDecoder(bytes.NewReader(p)).Decode(&got); err != nil {
			t.Fatal(err)
		}
		v := new(big.Int)
		switch name {
		case "i":
			v.SetInt64(int64(got.I))
		case "i32":
			v.SetInt64(int64(got.I32))
		case "i64":
			v.SetInt64(got.I64)
		case "u32":
			v.SetUint64(uint64(got.U32))
		case "u64":
			v.SetUint64(uint64(got.U64))
		case "f":
			v, _ = new(big.Float).SetFloat64(got.F).Int(nil)
		}
		if v.Cmp(want) != 0 {
			t.Fatalf("%v into %s became %v", want, name, v)
		}
	})
}

// The keys that a shape knows are those that are encoded.
func TestShapesKnowTheKeys(t *testing.T) {
	for _, ex := range examples() {
		known := types[ex.msg.Type()].shape.fields
		for key := range fieldsOf(t, ex.msg) {
			if _, ok := known[key]; !ok {
				t.Errorf("%s: the shape doesn't know %q", ex.name, key)
			}
		}
	}
}

// TestSpecDamping: λ is refused where Nλ overflows, for the largest N that the run can have.
func TestSpecDamping(t *testing.T) {
	for _, tt := range []struct {
		window int
		lambda float64
		text   string
	}{
		{1, math.MaxFloat64, ""},
		{16, math.MaxFloat64 / 16, ""},
		{16, 1e308, "damping is 1e+308, must be finite when multiplied by the window, 16"},
		{MaxWindow, math.MaxFloat64 / 4095, "damping is 4.3"},
		{16, math.NaN(), "damping is NaN, must be > 0 and finite"},
		{16, math.Inf(1), "damping is +Inf, must be > 0 and finite"},
	} {
		spec := exSpec
		spec.Window, spec.Damping = tt.window, tt.lambda
		err := spec.Validate()
		if tt.text == "" && err != nil || tt.text != "" && (!errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), tt.text)) {
			t.Errorf("m = %d, λ = %g: %v, want %q", tt.window, tt.lambda, err, tt.text)
		}
	}
}
