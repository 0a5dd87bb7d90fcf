package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseLayout(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,{"name":"%d","shape":[]}`, i)
		}
		return "[" + b.String()[1:] + "]"
	}
	for _, tt := range []struct {
		name, in string
		dim      int64
		want     string // the canonical form; "" where refused
		err      *Error
		text     string
	}{
		{"one", `[{"name":"w","shape":[2,3],"offset":0}]`, 6, `[{"name":"w","shape":[2,3],"offset":0}]`, nil, ""},
		{"offsets left out", ` [ {"shape":[2],"name":"a"}, {"name":"b","shape":[]}, {"name":"c","offset":null,"shape":[1,1]} ] ` + "\n", 4,
			`[{"name":"a","shape":[2],"offset":0},{"name":"b","shape":[],"offset":2},{"name":"c","shape":[1,1],"offset":3}]`, nil, ""},
		{"names", `[{"name":"a\"\\/<&>é\u00e9 ","shape":[1]}]`, 1, `[{"name":"a\"\\/<&>éé ","shape":[1],"offset":0}]`, nil, ""},
		{"largest", `[{"name":"a","shape":[1125899906842623]},{"name":"b","shape":[]}]`, MaxDim,
			`[{"name":"a","shape":[1125899906842623],"offset":0},{"name":"b","shape":[],"offset":1125899906842623}]`, nil, ""},
		{"gap", `[{"name":"a","shape":[2]},{"name":"b","shape":[2],"offset":3}]`, 5, "", ErrInvalid, `offset of tensor "b" is 3, must be 2: no tensor has the columns [2, 3)`},
		{"gap first", `[{"name":"a","shape":[2],"offset":1}]`, 3, "", ErrInvalid, `[0, 1)`},
		{"gap last", `[{"name":"a","shape":[2]}]`, 5, "", ErrInvalid, `[2, 5)`},
		{"no tensors", `[]`, 5, "", ErrInvalid, `[0, 5)`},
		{"overlap", `[{"name":"a","shape":[2]},{"name":"b","shape":[2],"offset":1}]`, 3, "", ErrInvalid, `offset of tensor "b" is 1`},
		{"not in order", `[{"name":"a","shape":[2],"offset":2},{"name":"b","shape":[2],"offset":0}]`, 4, "", ErrInvalid, `[0, 2)`},
		{"negative offset", `[{"name":"a","shape":[2],"offset":-1}]`, 2, "", ErrInvalid, `-1`},
		{"past dim", `[{"name":"a","shape":[3]}]`, 2, "", ErrInvalid, `shape of tensor "a"`},
		{"product overflows", `[{"name":"a","shape":[4294967296,4294967296,4294967296]}]`, MaxDim, "", ErrInvalid, `shape`},
		{"product wraps to 0", `[{"name":"a","shape":[4294967296,4294967296]}]`, MaxDim, "", ErrInvalid, `shape`},
		{"side 0", `[{"name":"a","shape":[0]}]`, 1, "", ErrInvalid, `shape`},
		{"side negative", `[{"name":"a","shape":[-1,-1]}]`, 1, "", ErrInvalid, `shape`},
		{"side null", `[{"name":"a","shape":[null]}]`, 1, "", ErrInvalid, `shape`},
		{"side of a fraction", `[{"name":"a","shape":[1.5]}]`, 1, "", ErrMalformed, ``},
		{"side too large", `[{"name":"a","shape":[9223372036854775808]}]`, 1, "", ErrMalformed, ``},
		{"side a string", `[{"name":"a","shape":["1"]}]`, 1, "", ErrMalformed, ``},
		{"too many sides", `[{"name":"a","shape":[1` + strings.Repeat(",1", MaxSides) + `]}]`, 1, "", ErrInvalid, `65 sides`},
		{"no shape", `[{"name":"a"}]`, 1, "", ErrInvalid, `shape`},
		{"no name", `[{"shape":[1]}]`, 1, "", ErrInvalid, `name of tensor 0`},
		{"empty name", `[{"name":"","shape":[1]}]`, 1, "", ErrInvalid, `name of tensor 0`},
		{"name twice", `[{"name":"a","shape":[1]},{"name":"a","shape":[1]}]`, 2, "", ErrInvalid, `name of tensor 1`},
		{"name at the limit", `[{"name":"` + rep("n", 256) + `","shape":[1]}]`, 1, `[{"name":"` + rep("n", 256) + `","shape":[1],"offset":0}]`, nil, ""},
		{"name too long", `[{"name":"` + rep("n", 257) + `","shape":[1]}]`, 1, "", ErrInvalid, `257 bytes`},
		{"name with a newline", `[{"name":"a\n","shape":[1]}]`, 1, "", ErrInvalid, `printable`},
		{"name with a separator", `[{"name":"a\u2028","shape":[1]}]`, 1, "", ErrInvalid, `printable`},
		{"name a number", `[{"name":1,"shape":[1]}]`, 1, "", ErrMalformed, ``},
		{"not UTF-8", "[{\"name\":\"\xff\",\"shape\":[1]}]", 1, "", ErrMalformed, `UTF-8`},
		{"unknown key", `[{"name":"a","shape":[1],"dtype":"f32"}]`, 1, "", ErrMalformed, `"dtype"`},
		{"key in capitals", `[{"Name":"a","shape":[1]}]`, 1, "", ErrMalformed, `"Name"`},
		{"key twice", `[{"name":"a","shape":[1],"shape":[1]}]`, 1, "", ErrMalformed, `"shape"`},
		{"nothing", ``, 1, "", ErrMalformed, ``},
		{"null", `null`, 1, "", ErrMalformed, ``},
		{"object", `{}`, 1, "", ErrMalformed, ``},
		{"list of numbers", `[1]`, 1, "", ErrMalformed, ``},
		{"cut off", `[{"name":"a","shape":[1]}`, 1, "", ErrMalformed, ``},
		{"two", `[{"name":"a","shape":[1]}][]`, 1, "", ErrMalformed, `2 bytes too long`},
		{"trailing comma", `[{"name":"a","shape":[1]},]`, 1, "", ErrMalformed, ``},
		{"deep", `[{"name":"a","shape":` + rep("[", 400_000), 1, "", ErrMalformed, ``},
		{"deep outside", rep("[", 800_000), 1, "", ErrMalformed, ``},
		{"dim 0", `[]`, 0, "", ErrInvalid, `dim`},
		{"dim too large", `[]`, MaxDim + 1, "", ErrInvalid, `dim`},
		{"too many bytes", rep(" ", MaxLayout+1), 1, "", ErrTooLarge, `900001`},
		{"too many bytes once canonical", many(30_000), 30_000, "", ErrTooLarge, `canonical`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tensors, err := ParseLayout([]byte(tt.in), tt.dim)
			if tt.err != nil {
				if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.text) {
					t.Fatalf("got %v, want %v with %q", err, tt.err, tt.text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(CanonicalLayout(tensors)); got != tt.want {
				t.Fatalf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Python: hashlib.sha256(b'[{"name":"w","shape":[2,3],"offset":0}]').hexdigest()
func TestLayoutHash(t *testing.T) {
	const want = "f284a6f73555cac6f4bf4f81c25ce32b75a45ce66ab881b44b756c715375bd0e"
	if got := LayoutHash(CanonicalLayout([]Tensor{{"w", []int64{2, 3}, 0}})); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func drawLayout(t *rapid.T) ([]Tensor, int64) {
	n := rapid.IntRange(1, 40).Draw(t, "tensors")
	tensors, next := []Tensor(nil), int64(0)
	for i := range n {
		shape := rapid.SliceOfN(rapid.Int64Range(1, 30), 0, 4).Draw(t, "shape")
		name := rapid.SampledFrom([]string{"", `"`, `\`, "é", "<", "/ "}).Draw(t, "name") + fmt.Sprint(i)
		tensors = append(tensors, Tensor{name, append([]int64{}, shape...), next})
		next += tensors[i].Size()
	}
	return tensors, next
}

func TestLayoutRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors, dim := drawLayout(t)
		canon := CanonicalLayout(tensors)
		var std []Tensor
		if err := json.Unmarshal(canon, &std); err != nil || !reflect.DeepEqual(std, tensors) {
			t.Fatalf("json reads %+v (%v)", std, err)
		}
		got, err := ParseLayout(canon, dim)
		if err != nil || !reflect.DeepEqual(got, tensors) {
			t.Fatalf("got %+v (%v)", got, err)
		}
		for _, d := range []int64{dim - 1, dim + 1} {
			if _, err := ParseLayout(canon, d); err == nil {
				t.Fatalf("taken with dim %d instead of %d", d, dim)
			}
		}
	})
}

func TestBorders(t *testing.T) {
	layout := func(offsets ...int64) (l []Tensor) {
		for _, o := range offsets {
			l = append(l, Tensor{Offset: o})
		}
		return l
	}
	for _, tt := range []struct {
		name   string
		dim    int64
		shards int
		layout []Tensor
		want   []int64
	}{
		{"one", 10, 1, nil, []int64{0}},
		{"narrow", 10, 3, nil, []int64{0, 3, 6}},
		{"one column each", 4, 4, nil, []int64{0, 1, 2, 3}},
		{"wide: whole tiles", 100_000, 3, nil, []int64{0, 33 * 1024, 65 * 1024}},
		{"four tiles: plain", 8192, 2, nil, []int64{0, 4096}},
		{"tensors", 100, 2, layout(0, 40, 55, 90), []int64{0, 55}},
		{"tensors, the lower of two", 100, 2, layout(0, 45, 55), []int64{0, 45}},
		{"tensors too far", 100, 2, layout(0, 37, 63), []int64{0, 50}},
		{"tensors a quarter away", 100, 2, layout(0, 38, 63), []int64{0, 38}},
		{"one tensor", 100, 2, layout(0), []int64{0, 50}},
		{"some near, some not", 100_000, 3, layout(0, 30_000, 99_999), []int64{0, 30_000, 65 * 1024}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Borders(tt.dim, tt.shards, tt.layout); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBordersHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dim := rapid.OneOf(rapid.Int64Range(1, 2000), rapid.Int64Range(1, MaxDim), rapid.Just(int64(MaxDim))).Draw(t, "dim")
		shards := int(rapid.Int64Range(1, min(dim, MaxShards)).Draw(t, "shards"))
		offsets := []int64{0}
		for range rapid.IntRange(0, 50).Draw(t, "tensors") {
			offsets = append(offsets, rapid.Int64Range(0, dim-1).Draw(t, "offset"))
		}
		slices.Sort(offsets)
		offsets = slices.Compact(offsets)
		var layout []Tensor
		for _, o := range offsets {
			layout = append(layout, Tensor{Offset: o})
		}
		lo, width := Borders(dim, shards, layout), dim/int64(shards)
		if len(lo) != shards || lo[0] != 0 {
			t.Fatalf("%d borders from %d", len(lo), lo[0])
		}
		for s, b := range lo[1:] {
			even := dim/int64(shards)*int64(s+1) + dim%int64(shards)*int64(s+1)/int64(shards)
			if b <= lo[s] || b >= dim {
				t.Fatalf("border %d at %d after %d, dim %d", s+1, b, lo[s], dim)
			}
			_, tensor := slices.BinarySearch(offsets, b)
			far := max(width/4, columnTile/2)
			if width <= 4*columnTile {
				far = width / 4
			}
			if abs(b-even) > far {
				t.Fatalf("border %d at %d, even split %d", s+1, b, even)
			}
			for _, o := range offsets { // no tensor border is nearer
				if abs(o-even) <= width/4 && (!tensor || abs(o-even) < abs(b-even)) {
					t.Fatalf("border %d at %d, though a tensor starts at %d", s+1, b, o)
				}
			}
			if !tensor && width > 4*columnTile && b%columnTile != 0 {
				t.Fatalf("border %d at %d: no tensor, no tile", s+1, b)
			}
		}
	})
}

func FuzzLayout(f *testing.F) {
	for _, s := range []string{
		`[{"name":"w","shape":[2,3],"offset":0}]`, `[{"name":"a","shape":[]},{"name":"b","shape":[5],"offset":1}]`, `[]`, `[[[[`, `[{"name":"a","shape":[1e3]}]`,
		`[{"name":"a","shape":[4294967296,4294967296]}]`, `[{"x":{}}]`, `{"name"`, "[{\"name\":\"\\ud800\",\"shape\":[6]}]", `null`,
	} {
		f.Add([]byte(s), int64(6))
	}
	f.Fuzz(func(t *testing.T, p []byte, dim int64) {
		tensors, err := ParseLayout(p, dim)
		if err != nil {
			if e := new(Error); !errors.As(err, &e) || e.Code == CodeInternal || len(e.Error()) > 2000 {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		canon := CanonicalLayout(tensors)
		again, err := ParseLayout(canon, dim)
		if err != nil || !reflect.DeepEqual(again, tensors) || !bytes.Equal(CanonicalLayout(again), canon) {
			t.Fatalf("%s became %+v (%v)", canon, again, err)
		}
		lo := Borders(dim, int(min(dim, 7)), tensors)
		if !slices.IsSorted(lo) || lo[len(lo)-1] >= dim {
			t.Fatalf("borders %v", lo)
		}
	})
}
