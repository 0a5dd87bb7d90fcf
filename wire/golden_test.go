package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/golden and the frames in docs/protocol.md")

func goldenPath(name string) string { return filepath.Join("testdata", "golden", name+".txt") }

// Every example is encoded to the bytes of its golden file, and those bytes are decoded to it.
func TestGolden(t *testing.T) {
	seen := map[string]bool{}
	for _, ex := range examples() {
		t.Run(ex.name, func(t *testing.T) {
			if base, _, _ := strings.Cut(ex.name, "-"); base != ex.msg.Type() {
				t.Errorf("a message of type %s", ex.msg.Type())
			}
			seen[ex.msg.Type()] = true
			if err := ex.msg.Validate(); err != nil {
				t.Fatal(err)
			}
			f, err := Encode(ex.msg)
			if err != nil {
				t.Fatal(err)
			}
			text := dumpFrame(f)
			if *update {
				if err := os.WriteFile(goldenPath(ex.name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(goldenPath(ex.name))
			if err != nil {
				t.Fatal(err)
			}
			if string(golden) != text {
				t.Errorf("encoded to\n%s\nwant\n%s", text, golden)
			}
			f = readFrame(t, string(golden))
			got, err := Decode(f, "")
			if err != nil || !reflect.DeepEqual(got, ex.msg) {
				t.Errorf("decoded to %+v (%v), want %+v", got, err, ex.msg)
			}
		})
	}
	for typ := range types {
		if !seen[typ] {
			t.Errorf("no golden file for %s", typ)
		}
	}
	files, err := filepath.Glob(goldenPath("*"))
	if err != nil || len(files) != len(examples()) {
		t.Errorf("%d golden files for %d examples (%v)", len(files), len(examples()), err)
	}
}

// dumpFrame writes a frame so that one can read it, and readFrame can read it back: the headers,
// then hex with what it means to its right.
func dumpFrame(f Frame) string {
	var b strings.Builder
	for _, h := range []string{HeaderProtocol, HeaderType, HeaderMeta} {
		if v := first(f.Header, h); v != "" {
			fmt.Fprintf(&b, "%s: %s\n", h, v)
		}
	}
	meta, err := base64.RawURLEncoding.DecodeString(first(f.Header, HeaderMeta))
	if err != nil {
		panic(err)
	}
	if len(meta) > 0 {
		fmt.Fprintf(&b, "\nMfac-Meta is base64url of %d bytes of msgpack:\n", len(meta))
		dumpItem(&b, meta, 0, 0)
		fmt.Fprintf(&b, "\nbody, %d bytes:\n", len(f.Data))
		for row := range slices.Chunk(f.Data, 16) {
			fmt.Fprintf(&b, "% x\n", row)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "\nbody, %d bytes of msgpack:\n", len(f.Data))
	dumpItem(&b, f.Data, 0, 0)
	return b.String()
}

func dumpItem(b *strings.Builder, p []byte, i, depth int) int {
	head, body, children := item(p[i:])
	end := i + head + int(body)
	c, raw := p[i], p[i+head:end]
	var what string
	switch {
	case isString(c):
		what = fmt.Sprintf("%q", raw)
	case c>>4 == 0x8 || c >= 0xde && c <= 0xdf:
		what = fmt.Sprintf("map of %d", children/2)
	case c>>4 == 0x9 || c >= 0xdc && c <= 0xdd:
		what = fmt.Sprintf("array of %d", children)
	case c >= 0xc4 && c <= 0xc6:
		what = fmt.Sprintf("binary of %d", body)
	case c == 0xcb:
		what = fmt.Sprint(math.Float64frombits(binary.BigEndian.Uint64(p[i+1:])))
	case c == 0xc0, c == 0xc2, c == 0xc3:
		what = map[byte]string{0xc0: "nil", 0xc2: "false", 0xc3: "true"}[c]
	default:
		neg, n, ok := integer(p[i:])
		if what = fmt.Sprint(n); neg {
			what = "-" + what
		}
		if !ok {
			panic("a golden file with another kind of item")
		}
	}
	rows := slices.Collect(slices.Chunk(p[i:end], 16))
	fmt.Fprintf(b, "%-47v  %s%s\n", spaced(rows[0]), strings.Repeat("  ", depth), what)
	for _, row := range rows[1:] {
		fmt.Fprintf(b, "%v\n", spaced(row))
	}
	i = end
	for range children {
		i = dumpItem(b, p, i, depth+1)
	}
	return i
}

// spaced prints bytes with spaces between them, padded as a string is.
type spaced []byte

func (s spaced) Format(f fmt.State, _ rune) {
	width, _ := f.Width()
	fmt.Fprintf(f, "%-*s", width, fmt.Sprintf("% x", []byte(s)))
}

// readFrame reads what dumpFrame wrote: of each line, the hex alone.
func readFrame(t *testing.T, text string) Frame {
	t.Helper()
	f := Frame{Header: map[string][]string{}}
	sections := strings.Split(strings.TrimSuffix(text, "\n"), "\n\n")
	for line := range strings.SplitSeq(sections[0], "\n") {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			t.Fatalf("no header: %q", line)
		}
		f.Header[name] = []string{value}
	}
	for _, s := range sections[1:] {
		title, lines, _ := strings.Cut(s, "\n")
		var p []byte
		for line := range strings.SplitSeq(lines, "\n") {
			digits, _, _ := strings.Cut(line, "  ")
			q, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			p = append(p, q...)
		}
		if strings.HasPrefix(title, "body") {
			f.Data = p
		} else if meta, err := base64.RawURLEncoding.DecodeString(first(f.Header, HeaderMeta)); err != nil || !bytes.Equal(meta, p) {
			t.Errorf("the header's base64 is not the hex (%v)", err)
		}
	}
	if len(f.Data) == 0 {
		f.Data = nil
	}
	return f
}
