package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Writer is a .npy file that is being written, under another name beside its own until Commit. It
// is safe for use by one goroutine at a time.
type Writer struct {
	path, temp string
	f          *os.File
	dtype      DType
	rows, cols int64
	offset     int64
	buf        []byte
	done       bool
}

// Create begins a file of the given shape: its columns, or its rows and columns. What is not
// written is zero. A file of that name stays as it is until Commit.
func Create(path string, dtype DType, shape ...int64) (*Writer, error) {
	rows, cols := int64(1), int64(0)
	switch len(shape) {
	case 1:
		cols = shape[0]
	case 2:
		rows, cols = shape[0], shape[1]
	}
	if dtype.Size() == 0 || rows < 1 || cols < 1 || rows > math.MaxInt64/16/cols {
		return nil, fmt.Errorf("%s: can't hold shape %s of dtype %s", path, shapeText(shape), string(dtype))
	}
	// Renamed over a device or a directory, the file would take its place.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	w := &Writer{path: path, dtype: dtype, rows: rows, cols: cols}
	w.temp = filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%x.tmp", filepath.Base(path), rand.Uint64()))
	f, err := os.OpenFile(w.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) { // the temporary name says nothing to its reader
			err = p.Err
		}
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	w.f = f
	head := makeHeader(dtype, shape)
	w.offset = int64(len(head))
	if _, err = f.Write(head); err == nil {
		err = f.Truncate(w.offset + rows*cols*dtype.Size())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), w.Close())
	}
	return w, nil
}

// Commit puts the file in its place, all at once.
func (w *Writer) Commit() error {
	err := w.f.Sync()
	if err == nil {
		err = os.Rename(w.temp, w.path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	w.done = true
	return nil
}

// Close closes the file, and removes it if it was not committed.
func (w *Writer) Close() error {
	err := w.f.Close()
	if !w.done {
		w.done = true
		err = errors.Join(err, os.Remove(w.temp))
	}
	return err
}

// RowWriter writes one row of a file from numbers of type T: a client.Sink.
type RowWriter[T Float] struct {
	w   *Writer
	row int64
}

// Out is row i of a file, counted from 0.
func Out[T Float](w *Writer, i int64) *RowWriter[T] { return &RowWriter[T]{w, i} }

// WriteColumns writes columns [lo, lo+len(src)).
func (o *RowWriter[T]) WriteColumns(src []T, lo int64) error {
	w, n := o.w, int64(len(src))
	if o.row < 0 || o.row >= w.rows || lo < 0 || n > w.cols || lo > w.cols-n {
		return fmt.Errorf("%s: columns [%d, %d+%d) of row %d are not in its %d × %d", w.path, lo, lo, n, o.row, w.rows, w.cols)
	}
	size := w.dtype.Size()
	for len(src) > 0 {
		piece := src[:min(int64(len(src)), pieceBytes/size)]
		p, bad := encode(w.buf[:0], w.dtype, piece)
		w.buf = p
		if bad >= 0 {
			return fmt.Errorf("%s: row %d, column %d is %v, must fit float32: ask for float64", w.path, o.row, lo+int64(bad), piece[bad])
		}
		if _, err := w.f.WriteAt(p, w.offset+(o.row*w.cols+lo)*size); err != nil {
			return fmt.Errorf("write %s: %w", w.path, err)
		}
		lo += int64(len(piece))
		src = src[len(piece):]
	}
	return nil
}

// encode appends the bytes of numbers to p. bad is the first that is finite and has no float32
// where that is asked for, or −1.
func encode[T Float](p []byte, dtype DType, src []T) (out []byte, bad int) {
	if dtype == Float64 {
		for _, x := range src {
			p = binary.LittleEndian.AppendUint64(p, math.Float64bits(float64(x)))
		}
		return p, -1
	}
	for i, x := range src {
		y := float32(x)
		if math.IsInf(float64(y), 0) && !math.IsInf(float64(x), 0) {
			return p, i
		}
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(y))
	}
	return p, -1
}

// WriteRows writes rows from row i on.
func WriteRows[T Float](w *Writer, i int64, rows [][]T) error {
	for k, v := range rows {
		if err := Out[T](w, i+int64(k)).WriteColumns(v, 0); err != nil {
			return err
		}
	}
	return nil
}
