package wire

import "encoding/binary"

// scan checks that p is exactly one msgpack map, whole and within the limits: MaxMeta bytes,
// MaxDepth maps and arrays within each other, MaxItems items, every declared length within the
// bytes that are left, no extension types. It allocates nothing, and looks at each byte at most
// once.
//
// It runs before msgpack/v5 sees the bytes: there, an array that declares 2³¹ elements is
// allocated before the first one is read, and each level of nesting takes stack, even in a field
// that is skipped; neither can be recovered from.
func scan(p []byte) error { return scanUpTo(p, MaxMeta) }

// scanUpTo is scan with another limit of bytes.
func scanUpTo(p []byte, most int) error {
	if len(p) > most {
		return Errorf(CodeTooLarge, "message bytes", len(p), "at most "+itoa(most))
	}
	if len(p) == 0 {
		return Errorf(CodeMalformed, "message", "empty", "a msgpack map")
	}
	if c := p[0]; c>>4 != 0x8 && c != 0xde && c != 0xdf {
		return Errorf(CodeMalformed, "message", "of another msgpack type", "a map")
	}
	var left [MaxDepth]int // items still to come, a level
	depth, items, i := 0, 1, 0
	for {
		n, body, children := item(p[i:])
		if n <= 0 {
			return Errorf(CodeMalformed, "byte at "+itoa(i), hexByte(p[i]), "the start of a msgpack item, no extension")
		}
		// item's lengths are below 2³³, so that none of these sums wraps.
		room := len(p) - i - n
		if room < 0 {
			return Errorf(CodeMalformed, "message", "cut off at byte "+itoa(i), "whole")
		}
		if body > int64(room) || children > int64(room) {
			return Errorf(CodeMalformed, "length at byte "+itoa(i), max(body, children), "within the "+itoa(room)+" bytes left")
		}
		i += n + int(body)
		if items += int(children); items > MaxItems {
			return Errorf(CodeTooLarge, "message items", items, "at most "+itoa(MaxItems))
		}
		if children > 0 {
			if depth == MaxDepth {
				return Errorf(CodeTooLarge, "message depth", depth+1, "at most "+itoa(MaxDepth))
			}
			left[depth] = int(children)
			depth++
		}
		for depth > 0 && left[depth-1] == 0 {
			depth--
		}
		if depth == 0 {
			break
		}
		left[depth-1]--
		if i == len(p) {
			return Errorf(CodeMalformed, "message", "cut off at byte "+itoa(i), "whole")
		}
	}
	if i != len(p) {
		return Errorf(CodeMalformed, "message", itoa(len(p)-i)+" bytes too long", "one map and no more")
	}
	return nil
}

// item reads the head of the msgpack item that p starts with: the bytes of the head, those of a
// string or binary that follow it, and the items of an array or map that follow it. A number has a
// head alone. The head is 0 long where p does not start an item that is allowed; it may be longer
// than p. p is not empty.
func item(p []byte) (head int, body, children int64) {
	switch c := p[0]; {
	case c <= 0x7f || c >= 0xe0: // fixint
		return 1, 0, 0
	case c <= 0x8f: // fixmap
		return 1, 0, 2 * int64(c&0x0f)
	case c <= 0x9f: // fixarray
		return 1, 0, int64(c & 0x0f)
	case c <= 0xbf: // fixstr
		return 1, int64(c & 0x1f), 0
	default:
		h := heads[c-0xc0]
		n := int64(0)
		switch {
		case h.kind == none:
			return 0, 0, 0
		case h.kind == number || len(p) < int(h.bytes):
			return int(h.bytes), 0, 0
		case h.bytes == 2:
			n = int64(p[1])
		case h.bytes == 3:
			n = int64(binary.BigEndian.Uint16(p[1:]))
		case h.bytes == 5:
			n = int64(binary.BigEndian.Uint32(p[1:]))
		}
		switch h.kind {
		case array:
			return int(h.bytes), 0, n
		case table:
			return int(h.bytes), 0, 2 * n
		}
		return int(h.bytes), n, 0
	}
}

const (
	none   = iota // 0xc1 and the extensions
	number        // nil, bool, integer or float: the head is all
	text          // a length, then so many bytes
	array         // a number of items
	table         // a number of pairs
)

// heads has the items that start with 0xc0 to 0xdf: their kind and the bytes of their head.
var heads = [32]struct{ kind, bytes uint8 }{
	0x00: {number, 1},                    // nil
	0x02: {number, 1}, 0x03: {number, 1}, // false, true
	0x04: {text, 2}, 0x05: {text, 3}, 0x06: {text, 5}, // bin
	0x0a: {number, 5}, 0x0b: {number, 9}, // float
	0x0c: {number, 2}, 0x0d: {number, 3}, 0x0e: {number, 5}, 0x0f: {number, 9}, // uint
	0x10: {number, 2}, 0x11: {number, 3}, 0x12: {number, 5}, 0x13: {number, 9}, // int
	0x19: {text, 2}, 0x1a: {text, 3}, 0x1b: {text, 5}, // str
	0x1c: {array, 3}, 0x1d: {array, 5},
	0x1e: {table, 3}, 0x1f: {table, 5},
}

func hexByte(c byte) string {
	return string([]byte{'0', 'x', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15]})
}
