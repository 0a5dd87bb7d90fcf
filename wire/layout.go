package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a tensor.
const (
	MaxTensorName = 256 // bytes
	MaxSides      = 64  // sides of a shape
)

// ParseLayout reads a layout: a JSON array of {"name", "shape", "offset"} that tiles the columns
// [0, dim) in order, without gap or overlap. An offset may be left out; then the tensor starts
// where the one before it ended. A shape [] is a scalar. Other keys, and keys that come twice, are
// refused.
func ParseLayout(jsonBytes []byte, dim int64) ([]Tensor, error) {
	if len(jsonBytes) > MaxLayout {
		return nil, Errorf(CodeTooLarge, "layout bytes", len(jsonBytes), "at most "+itoa(MaxLayout))
	}
	if dim < 1 || dim > MaxDim {
		return nil, Invalid("dim", dim, "in [1, "+itoa(MaxDim)+"]")
	}
	if !utf8.Valid(jsonBytes) {
		return nil, Errorf(CodeMalformed, "layout", "not UTF-8", "JSON")
	}
	r := layoutReader{dec: json.NewDecoder(bytes.NewReader(jsonBytes)), names: map[string]bool{}}
	if err := r.delim('['); err != nil {
		return nil, err
	}
	next, size := int64(0), len("[]") // the first free column; bytes of the canonical form
	for r.dec.More() {
		if len(r.tensors) == MaxTensors {
			return nil, Errorf(CodeTooLarge, "layout", "more tensors", "at most "+itoa(MaxTensors))
		}
		t, err := r.tensor(next)
		if err != nil {
			return nil, err
		}
		n := t.Size()
		if n < 0 || n > dim-next {
			return nil, Invalid("shape of tensor "+strconv.Quote(t.Name), t.Shape, "of sides > 0, with its end at most dim = "+itoa(dim))
		}
		next += n
		r.tensors = append(r.tensors, t)
		r.canon = appendTensor(r.canon[:0], t)
		if size += len(r.canon) + 1; size-1 > MaxLayout { // the last one has no comma
			return nil, Errorf(CodeTooLarge, "layout bytes", size-1, "at most "+itoa(MaxLayout)+", in canonical form")
		}
	}
	if err := r.delim(']'); err != nil {
		return nil, err
	}
	if rest := bytes.TrimLeft(jsonBytes[r.dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, Errorf(CodeMalformed, "layout", itoa(len(rest))+" bytes too long", "one JSON array and no more")
	}
	if next != dim {
		return nil, Invalid("layout", fmt.Sprintf("without the columns [%d, %d)", next, dim), "of all dim = "+itoa(dim)+" columns")
	}
	return r.tensors, nil
}

// layoutReader reads JSON token by token: json.Unmarshal would take "NAME" for "name", the last of
// two equal keys, and as many tensors as there are.
type layoutReader struct {
	dec     *json.Decoder
	tensors []Tensor
	names   map[string]bool
	canon   []byte
}

func (r *layoutReader) fail(err error) error {
	return Errorf(CodeMalformed, "layout at tensor "+itoa(len(r.tensors)), "not readable", "a JSON array of {name, shape, offset}", "%v", err)
}

func (r *layoutReader) delim(want json.Delim) error {
	tok, err := r.dec.Token()
	if err != nil {
		return r.fail(err)
	}
	if tok != want {
		return r.fail(fmt.Errorf("%v instead of %v", tok, want))
	}
	return nil
}

// tensor reads one tensor, which must start at column next.
func (r *layoutReader) tensor(next int64) (Tensor, error) {
	if err := r.delim('{'); err != nil {
		return Tensor{}, err
	}
	t, seen := Tensor{Offset: next}, map[string]bool{}
	var offset *int64
	for r.dec.More() {
		tok, err := r.dec.Token()
		if err != nil {
			return t, r.fail(err)
		}
		key := tok.(string) // the decoder has no other keys
		var to any
		switch key {
		case "name":
			to = &t.Name
		case "shape":
			to = &t.Shape
		case "offset":
			to = &offset
		default:
			return t, Errorf(CodeMalformed, "key "+strconv.Quote(key), "in tensor "+itoa(len(r.tensors)), "name, shape or offset")
		}
		if seen[key] {
			return t, Errorf(CodeMalformed, "key "+strconv.Quote(key), "twice in tensor "+itoa(len(r.tensors)), "there once")
		}
		seen[key] = true
		if err := r.dec.Decode(to); err != nil {
			return t, r.fail(err)
		}
	}
	if err := r.delim('}'); err != nil {
		return t, err
	}
	if err := r.name(t.Name); err != nil {
		return t, err
	}
	if t.Shape == nil || len(t.Shape) > MaxSides {
		return t, Invalid("shape of tensor "+strconv.Quote(t.Name), fmt.Sprintf("%d sides", len(t.Shape)), "given, of at most "+itoa(MaxSides)+" sides")
	}
	if offset == nil { // left out
		return t, nil
	}
	field := "offset of tensor " + strconv.Quote(t.Name)
	switch o := *offset; {
	case o > next:
		return t, Invalid(field, o, fmt.Sprintf("%d: no tensor has the columns [%d, %d)", next, next, o))
	case o < next:
		return t, Invalid(field, o, fmt.Sprintf("%d, where the tensor before it ends", next))
	}
	return t, nil
}

func (r *layoutReader) name(name string) error {
	field := "name of tensor " + itoa(len(r.tensors))
	if name == "" || len(name) > MaxTensorName {
		return Invalid(field, itoa(len(name))+" bytes long", "of 1 to "+itoa(MaxTensorName)+" bytes")
	}
	if i := strings.IndexFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 {
		return Invalid(field, strconv.Quote(name), "printable")
	}
	if r.names[name] {
		return Invalid(field, strconv.Quote(name), "given to one tensor alone")
	}
	r.names[name] = true
	return nil
}

// CanonicalLayout is the one form of a layout that is hashed and sent: JSON without spaces, the
// keys in the order name, shape, offset, and in names nothing escaped but " and \. Two layouts are
// the same if their canonical forms are.
func CanonicalLayout(tensors []Tensor) []byte {
	p := []byte{'['}
	for i, t := range tensors {
		if i > 0 {
			p = append(p, ',')
		}
		p = appendTensor(p, t)
	}
	return append(p, ']')
}

func appendTensor(p []byte, t Tensor) []byte {
	p = append(p, `{"name":"`...)
	for i := range len(t.Name) {
		if c := t.Name[i]; c == '"' || c == '\\' {
			p = append(p, '\\')
		}
		p = append(p, t.Name[i])
	}
	p = append(p, `","shape":[`...)
	for i, s := range t.Shape {
		if i > 0 {
			p = append(p, ',')
		}
		p = strconv.AppendInt(p, s, 10)
	}
	p = append(p, `],"offset":`...)
	p = strconv.AppendInt(p, t.Offset, 10)
	return append(p, '}')
}

// LayoutHash is the SHA-256 of a layout's canonical form, in hex, as RunSpec.Layout has it.
func LayoutHash(canonical []byte) string {
	return fmt.Sprintf("%x", sha256.Sum256(canonical))
}

// columnTile is the columns in a tile of a shard's storage.
const columnTile = 1024

// Borders is the first column of each shard, for a run of dim columns in shards of about equal
// width. A border moves to the nearest border of a tensor that is at most a quarter of a shard
// away; else, where shards are wider than four tiles of 1,024 columns, to the nearest multiple of
// a tile. Borders grow strictly, the first is 0. shards is in [1, min(dim, MaxShards)], dim at
// most MaxDim, layout as ParseLayout returns it, or nil.
func Borders(dim int64, shards int, layout []Tensor) []int64 {
	lo := make([]int64, shards)
	width := dim / int64(shards)
	for s := 1; s < shards; s++ {
		even := dim * int64(s) / int64(shards) // below 2⁵⁹
		lo[s] = even
		if b, ok := nearest(layout, even); ok && abs(b-even) <= width/4 {
			lo[s] = b // borders are at least width apart, so that two moved ones do not meet
		} else if width > 4*columnTile {
			lo[s] = (even + columnTile/2) / columnTile * columnTile
		}
	}
	return lo
}

// nearest is the first column of a tensor that is nearest to col, the lower one of two.
func nearest(layout []Tensor, col int64) (int64, bool) {
	i := sort.Search(len(layout), func(i int) bool { return layout[i].Offset >= col })
	switch {
	case len(layout) == 0:
		return 0, false
	case i == len(layout) || i > 0 && col-layout[i-1].Offset <= layout[i].Offset-col:
		return layout[i-1].Offset, true
	}
	return layout[i].Offset, true
}

func abs(n int64) int64 { return max(n, -n) }
