package npy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	npyio "github.com/sbinet/npyio/npy"
)

// DType is the type of a file's numbers, as NumPy writes it.
type DType string

// The types that mfac takes.
const (
	Float32 DType = "<f4"
	Float64 DType = "<f8"
)

// Size is the bytes of one number, 0 for another type.
func (t DType) Size() int64 {
	switch t {
	case Float32:
		return 4
	case Float64:
		return 8
	}
	return 0
}

// String is the type's name in Python.
func (t DType) String() string {
	switch t {
	case Float32:
		return "float32"
	case Float64:
		return "float64"
	}
	return string(t)
}

// maxHeader is the most bytes of a header that are read. NumPy's of an array of numbers is 118.
const maxHeader = 4096

// header is what stands before the numbers.
type header struct {
	dtype DType
	shape []int64
	size  int64 // bytes of the header, where the numbers start
}

// readHeader reads and checks the header. Its errors begin with what is wrong, and know no file.
func readHeader(r io.Reader) (header, error) {
	pre, err := preamble(r)
	if err != nil {
		return header{}, err
	}
	h, err := parse(pre)
	if err != nil {
		return header{}, err
	}
	text, shape := h.Descr.Type, shapeText(h.Descr.Shape)
	dtype := DType(text)
	switch {
	case dtype.Size() == 0 && (text == ">f4" || text == ">f8"):
		return header{}, fmt.Errorf("dtype is %s, big-endian, must be <f4 (float32) or <f8 (float64), little-endian", text)
	case dtype.Size() == 0:
		return header{}, fmt.Errorf("dtype is %s, must be <f4 (float32) or <f8 (float64)", text)
	case len(h.Descr.Shape) < 1 || len(h.Descr.Shape) > 2:
		return header{}, fmt.Errorf("shape is %s, must be of 1 dimension (a vector) or 2 (a vector a row)", shape)
	case h.Descr.Fortran && len(h.Descr.Shape) == 2:
		return header{}, fmt.Errorf("shape is %s in Fortran order, must be in C order (numpy.ascontiguousarray makes it so)", shape)
	}
	out := header{dtype: dtype, size: int64(len(pre))}
	for _, n := range h.Descr.Shape {
		if n < 1 {
			return header{}, fmt.Errorf("shape is %s, must be at least 1 in each dimension", shape)
		}
		out.shape = append(out.shape, int64(n))
	}
	return out, nil
}

// preamble reads the header's bytes, as many as it says but at most maxHeader.
func preamble(r io.Reader) ([]byte, error) {
	var start [12]byte
	n, err := io.ReadFull(r, start[:10])
	if k := min(n, 6); !bytes.Equal(start[:k], npyio.Magic[:k]) {
		return nil, errors.New("not a .npy file")
	}
	if err != nil {
		return nil, short(err)
	}
	head, length := 10, int64(binary.LittleEndian.Uint16(start[8:]))
	switch start[6] {
	case 1:
	case 2:
		if _, err := io.ReadFull(r, start[10:12]); err != nil {
			return nil, short(err)
		}
		head, length = 12, int64(binary.LittleEndian.Uint32(start[8:]))
	default:
		return nil, fmt.Errorf(".npy version is %d.%d, must be 1.0 or 2.0", start[6], start[7])
	}
	if length > maxHeader {
		return nil, fmt.Errorf("header is %d bytes, must be at most %d", length, maxHeader)
	}
	pre := append(start[:head:head], make([]byte, length)...)
	if _, err := io.ReadFull(r, pre[head:]); err != nil {
		return nil, short(err)
	}
	return pre, nil
}

func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends within its header")
	}
	return err
}

// parse hands the header to npyio. That expects what NumPy writes: it panics on much else, and
// reads (3,4)} as a shape of (3,). So panics are caught, and what it read must be what stands there.
func parse(pre []byte) (h npyio.Header, err error) {
	bad := errors.New("the header can't be read: it is not as NumPy writes it")
	defer func() {
		if recover() != nil {
			err = bad
		}
	}()
	r, err := npyio.NewReader(bytes.NewReader(pre))
	if err != nil {
		return h, bad
	}
	h = r.Header
	text := string(pre[bytes.IndexByte(pre, '{'):])
	text = strings.Join(strings.Fields(text), "")
	if text != dict(h.Descr.Type, h.Descr.Fortran, h.Descr.Shape) {
		return h, bad
	}
	return h, nil
}

// dict is a header's text without spaces.
func dict(dtype string, fortran bool, shape []int) string {
	order := "False"
	if fortran {
		order = "True"
	}
	return fmt.Sprintf("{'descr':'%s','fortran_order':%s,'shape':%s,}", dtype, order, strings.ReplaceAll(shapeText(shape), " ", ""))
}

func shapeText[N int | int64](shape []N) string {
	var b strings.Builder
	b.WriteByte('(')
	for i, n := range shape {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	if len(shape) == 1 {
		b.WriteByte(',')
	}
	b.WriteByte(')')
	return b.String()
}

// makeHeader is a header as NumPy writes it: version 1.0, padded so that the numbers start at a
// multiple of 64. npyio writes headers together with all the numbers only, so it is made here.
func makeHeader(dtype DType, shape []int64) []byte {
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", string(dtype), shapeText(shape))
	n := (10 + len(text) + 1 + 63) / 64 * 64
	p := append(npyio.Magic[:len(npyio.Magic):len(npyio.Magic)], 1, 0)
	p = binary.LittleEndian.AppendUint16(p, uint16(n-10))
	p = append(p, text...)
	for len(p) < n-1 {
		p = append(p, ' ')
	}
	return append(p, '\n')
}
