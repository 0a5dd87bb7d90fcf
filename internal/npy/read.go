package npy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// Float is the type of numbers in memory.
type Float interface{ float32 | float64 }

const pieceBytes = 1 << 20 // that are read or written at a time

// File is a .npy file that is read. It is safe for use by one goroutine at a time.
type File struct {
	path string
	f    *os.File
	header
	rows, cols int64
	buf        []byte
}

// Open opens a file and checks its header against its size. The errors name the file, what is
// wrong and what is allowed.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the file
	}
	file := &File{path: path, f: f}
	if err := file.check(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

func (f *File) check() (err error) {
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if f.header, err = readHeader(f.f); err != nil {
		return err
	}
	f.rows, f.cols = 1, f.shape[len(f.shape)-1]
	if len(f.shape) == 2 {
		f.rows = f.shape[0]
	}
	have := info.Size() - f.size
	declared := fmt.Sprintf("shape is %s of %v", shapeText(f.shape), f.dtype)
	if f.rows > math.MaxInt64/f.cols/f.dtype.Size() {
		return fmt.Errorf("%s, more than any file holds: there are %d bytes", declared, have)
	}
	if want := f.rows * f.cols * f.dtype.Size(); have < want {
		return fmt.Errorf("%s, %d bytes, but there are %d: the file is cut short", declared, want, have)
	} else if have > want {
		return fmt.Errorf("%s, %d bytes, but there are %d: too many", declared, want, have)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// Path is the file's name as it was opened.
func (f *File) Path() string { return f.path }

// DType is the type of the numbers.
func (f *File) DType() DType { return f.dtype }

// Dims is 1 for one vector, 2 for a vector a row.
func (f *File) Dims() int { return len(f.shape) }

// Rows is the number of vectors: 1 for a file of 1 dimension.
func (f *File) Rows() int64 { return f.rows }

// Cols is the length of each vector.
func (f *File) Cols() int64 { return f.cols }

// CheckFinite reads the whole file and returns an error for the first NaN or Inf, or, with single,
// the first number too large for float32.
func (f *File) CheckFinite(ctx context.Context, single bool) error {
	for row := range f.rows {
		err := f.read(row, 0, f.cols, func(p []byte, done int64) error {
			if i := f.firstBad(p, single); i >= 0 {
				var x [1]float64
				if err := Row[float64](f, row).ReadColumns(x[:], done+int64(i)); err != nil {
					return err
				}
				limit := "be finite"
				if !math.IsNaN(x[0]) && !math.IsInf(x[0], 0) {
					limit = "fit float32"
				}
				return fmt.Errorf("%s is %v, must %s", f.at(row, done+int64(i)), x[0], limit)
			}
			return context.Cause(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// firstBad is the index of the first number of p that CheckFinite refuses, or −1.
func (f *File) firstBad(p []byte, single bool) int {
	if f.dtype == Float32 {
		const exponent = 0x7f800000 // all ones in NaN and Inf
		for i := 0; i+4 <= len(p); i += 4 {
			if binary.LittleEndian.Uint32(p[i:])&exponent == exponent {
				return i / 4
			}
		}
		return -1
	}
	for i := 0; i+8 <= len(p); i += 8 {
		x := math.Float64frombits(binary.LittleEndian.Uint64(p[i:]))
		if !(math.Abs(x) <= math.MaxFloat64) || single && math.IsInf(float64(float32(x)), 0) {
			return i / 8
		}
	}
	return -1
}

// at names a number for errors.
func (f *File) at(row, col int64) string {
	if len(f.shape) == 1 {
		return fmt.Sprintf("%s: column %d", f.path, col)
	}
	return fmt.Sprintf("%s: row %d, column %d", f.path, row, col)
}

// read reads n numbers of a row, in pieces, and hands each piece's bytes to use.
func (f *File) read(row, lo, n int64, use func(p []byte, done int64) error) error {
	if row < 0 || row >= f.rows || lo < 0 || n < 0 || n > f.cols || lo > f.cols-n {
		return fmt.Errorf("%s: columns [%d, %d+%d) of row %d are not in shape %s", f.path, lo, lo, n, row, shapeText(f.shape))
	}
	if f.buf == nil {
		f.buf = make([]byte, pieceBytes)
	}
	size := f.dtype.Size()
	for done := int64(0); done < n; {
		p := f.buf[:min(int64(len(f.buf)), (n-done)*size)]
		if _, err := f.f.ReadAt(p, f.size+(row*f.cols+lo+done)*size); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the file has been cut short while it was read")
			}
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if err := use(p, done); err != nil {
			return err
		}
		done += int64(len(p)) / size
	}
	return nil
}

// RowReader reads one row of a file as numbers of type T: a client.Source.
type RowReader[T Float] struct {
	f   *File
	row int64
}

// Row is row i of a file, counted from 0.
func Row[T Float](f *File, i int64) *RowReader[T] { return &RowReader[T]{f, i} }

// ReadColumns sets dst to columns [lo, lo+len(dst)).
func (r *RowReader[T]) ReadColumns(dst []T, lo int64) error {
	f := r.f
	return f.read(r.row, lo, int64(len(dst)), func(p []byte, done int64) error {
		if f.dtype == Float32 {
			for i := 0; i < len(p); i += 4 {
				dst[done] = T(math.Float32frombits(binary.LittleEndian.Uint32(p[i:])))
				done++
			}
			return nil
		}
		for i := 0; i < len(p); i += 8 {
			x := math.Float64frombits(binary.LittleEndian.Uint64(p[i:]))
			if dst[done] = T(x); math.IsInf(float64(dst[done]), 0) && !math.IsInf(x, 0) {
				return fmt.Errorf("%s is %v, must fit float32", f.at(r.row, lo+done), x)
			}
			done++
		}
		return nil
	})
}

// ReadRows reads n rows from row i on.
func ReadRows[T Float](f *File, i, n int64) ([][]T, error) {
	if i < 0 || n < 0 || n > f.rows || i > f.rows-n {
		return nil, fmt.Errorf("%s: rows [%d, %d+%d) are not in shape %s", f.path, i, i, n, shapeText(f.shape))
	}
	rows := make([][]T, n)
	for k := range rows {
		rows[k] = make([]T, f.cols)
		if err := Row[T](f, i+int64(k)).ReadColumns(rows[k], 0); err != nil {
			return nil, err
		}
	}
	return rows, nil
}
