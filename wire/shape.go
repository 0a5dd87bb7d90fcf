package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strings"
	"unicode/utf8"
)

// A shape is what msgpack may hold for a Go type. check walks a message along its shape before
// msgpack/v5 decodes it: there, an integer that its field has no room for wraps without a word
// (−1 becomes 2⁶⁴−1, 2³² becomes slot 0), texts and binaries stand for each other, arrays for maps,
// and a list that comes twice is two lists mixed up. What check passes is decoded to the very
// numbers that were sent.
type shape struct {
	kind    reflect.Kind // Bool, Int, Uint, Float64, String, Slice (binary), Array (list), Struct
	bits    int          // of Int and Uint
	elem    *shape       // of a list
	fields  map[string]field
	refused map[string]bool // keys that msgpack/v5 would take for a struct that is inlined
}

type field struct {
	index int // in its struct, below 64
	*shape
}

// shapeOf makes the shape of a type. It panics on a type that messages don't use.
func shapeOf(t reflect.Type) *shape {
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOf(t.Elem())
	case reflect.Bool, reflect.Float64, reflect.String:
		return &shape{kind: t.Kind()}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return &shape{kind: reflect.Int, bits: t.Bits()}
	case reflect.Uint32, reflect.Uint64:
		return &shape{kind: reflect.Uint, bits: t.Bits()}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return &shape{kind: reflect.Slice}
		}
		return &shape{kind: reflect.Array, elem: shapeOf(t.Elem())}
	case reflect.Struct:
		s := &shape{kind: reflect.Struct, fields: map[string]field{}, refused: map[string]bool{}}
		s.add(t)
		return s
	}
	panic(fmt.Sprintf("wire: no shape for %v", t))
}

func (s *shape) add(t reflect.Type) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("msgpack"), ",")
		switch {
		case name == "-":
		case f.Anonymous:
			s.refused[f.Name] = true
			s.add(f.Type)
		case name == "" || s.fields[name].shape != nil || len(s.fields) == 64:
			panic(fmt.Sprintf("wire: field %s of %v has no name, that of another, or is the 65th", f.Name, t))
		default:
			s.fields[name] = field{len(s.fields), shapeOf(f.Type)}
		}
	}
}

// check checks the item at p[i:], which scan has passed, against s. It returns the index of the
// item after it. Unknown keys are skipped, whatever they hold; nil in place of a field is as if
// the field weren't there.
func (s *shape) check(p []byte, i int) (int, *Error) {
	switch s.kind {
	case reflect.Struct:
		return s.checkStruct(p, i)
	case reflect.Array:
		return s.checkList(p, i)
	case reflect.Int, reflect.Uint:
		return skip(p, i), s.checkInt(p[i:])
	}
	next := skip(p, i)
	switch c := p[i]; {
	case s.kind == reflect.Bool && (c == 0xc2 || c == 0xc3):
	case s.kind == reflect.String && isString(c):
		head, _, _ := item(p[i:])
		if !utf8.Valid(p[i+head : next]) {
			return next, wrong("not UTF-8", "a string in UTF-8")
		}
	case s.kind == reflect.Slice && c >= 0xc4 && c <= 0xc6:
	case s.kind == reflect.Float64 && (c == 0xca || c == 0xcb):
	case s.kind == reflect.Float64:
		neg, n, ok := integer(p[i:])
		if !ok {
			return next, wrong(kindOf(c), "a number")
		}
		if n > 1<<53 {
			return next, outside(neg, n, "a float, or a whole number of at most 2^53")
		}
	default:
		return next, wrong(kindOf(c), map[reflect.Kind]string{reflect.Bool: "true or false", reflect.String: "a string", reflect.Slice: "binary"}[s.kind])
	}
	return next, nil
}

func (s *shape) checkStruct(p []byte, i int) (int, *Error) {
	head, _, children := item(p[i:])
	if c := p[i]; c>>4 != 0x8 && c != 0xde && c != 0xdf {
		return i, wrong(kindOf(c), "a map")
	}
	i += head
	seen := uint64(0)
	for range children / 2 {
		if !isString(p[i]) {
			e := wrong(kindOf(p[i]), "a string")
			e.Field = "key"
			return i, e
		}
		keyHead, n, _ := item(p[i:])
		key := p[i+keyHead : i+keyHead+int(n)]
		i += keyHead + int(n)
		f, known := s.fields[string(key)]
		switch {
		case s.refused[string(key)]:
			return i, within(string(key), wrong("there", "left out: it is no field"))
		case !known || p[i] == 0xc0:
			i = skip(p, i)
			if !known {
				continue
			}
		default:
			var err *Error
			if i, err = f.check(p, i); err != nil {
				return i, within(string(key), err)
			}
		}
		if seen&(1<<f.index) != 0 {
			return i, within(string(key), wrong("there twice", "there once"))
		}
		seen |= 1 << f.index
	}
	return i, nil
}

func (s *shape) checkList(p []byte, i int) (int, *Error) {
	head, _, n := item(p[i:])
	if c := p[i]; c>>4 != 0x9 && c != 0xdc && c != 0xdd {
		return i, wrong(kindOf(c), "an array")
	}
	i += head
	for k := range n {
		var err *Error
		if i, err = s.elem.check(p, i); err != nil {
			return i, within("["+itoa(k)+"]", err)
		}
	}
	return i, nil
}

func (s *shape) checkInt(p []byte) *Error {
	neg, n, ok := integer(p)
	if !ok {
		return wrong(kindOf(p[0]), "an integer")
	}
	if s.kind == reflect.Uint {
		if most := uint64(math.MaxUint64) >> (64 - s.bits); neg || n > most {
			return outside(neg, n, "in [0, "+itoa(most)+"]")
		}
		return nil
	}
	most := uint64(1)<<(s.bits-1) - 1
	if !neg && n > most || neg && n > most+1 {
		return outside(neg, n, fmt.Sprintf("in [-%d, %d]", most+1, most))
	}
	return nil
}

// skip returns the index of the item after the one at p[i:].
func skip(p []byte, i int) int {
	for n := int64(1); n > 0; n-- {
		head, body, children := item(p[i:])
		i += head + int(body)
		n += children
	}
	return i
}

// integer reads the integer that p starts with: its sign and its magnitude.
func integer(p []byte) (neg bool, n uint64, ok bool) {
	signed := func(v int64) (bool, uint64, bool) {
		if v < 0 {
			return true, -uint64(v), true
		}
		return false, uint64(v), true
	}
	switch c := p[0]; c {
	case 0xcc:
		return false, uint64(p[1]), true
	case 0xcd:
		return false, uint64(binary.BigEndian.Uint16(p[1:])), true
	case 0xce:
		return false, uint64(binary.BigEndian.Uint32(p[1:])), true
	case 0xcf:
		return false, binary.BigEndian.Uint64(p[1:]), true
	case 0xd0:
		return signed(int64(int8(p[1])))
	case 0xd1:
		return signed(int64(int16(binary.BigEndian.Uint16(p[1:]))))
	case 0xd2:
		return signed(int64(int32(binary.BigEndian.Uint32(p[1:]))))
	case 0xd3:
		return signed(int64(binary.BigEndian.Uint64(p[1:])))
	default:
		if c < 0x80 || c >= 0xe0 {
			return signed(int64(int8(c)))
		}
		return false, 0, false
	}
}

func isString(c byte) bool { return c >= 0xa0 && c <= 0xbf || c >= 0xd9 && c <= 0xdb }

// kindOf names the msgpack type of an item by its first byte.
func kindOf(c byte) string {
	switch {
	case c < 0x80 || c >= 0xe0 || c >= 0xcc && c <= 0xd3:
		return "an integer"
	case isString(c):
		return "a string"
	case c>>4 == 0x8 || c >= 0xde:
		return "a map"
	case c>>4 == 0x9 || c >= 0xdc:
		return "an array"
	case c == 0xc0:
		return "nil"
	case c == 0xc2 || c == 0xc3:
		return "a bool"
	case c <= 0xc6:
		return "binary"
	}
	return "a float"
}

// wrong and outside make errors whose field is filled in by within, from the inside out.
func wrong(is, want string) *Error { return &Error{Code: CodeMalformed, Value: is, Limit: want} }

func outside(neg bool, n uint64, limit string) *Error {
	v := itoa(n)
	if neg {
		v = "-" + v
	}
	return &Error{Code: CodeInvalid, Value: v, Limit: limit}
}

// within puts the name of a field, or the index in a list, before what went wrong inside it.
func within(name string, e *Error) *Error {
	if e.Field != "" && e.Field[0] != '[' {
		name += "."
	}
	e.Field = printable(name+e.Field, maxValue)
	return e
}
