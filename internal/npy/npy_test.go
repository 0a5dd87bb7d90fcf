package npy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	npyio "github.com/sbinet/npyio/npy"
	"gonum.org/v1/gonum/mat"
)

// file makes a file of a header's text and of n bytes behind it.
func file(t *testing.T, text string, n int) string {
	t.Helper()
	return raw(t, append(version1(text), make([]byte, n)...))
}

func version1(text string) []byte {
	p := append([]byte("\x93NUMPY\x01\x00"), 0, 0)
	binary.LittleEndian.PutUint16(p[8:], uint16(len(text)))
	return append(p, text...)
}

func raw(t *testing.T, p []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v.npy")
	if err := os.WriteFile(path, p, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func descr(dtype, order, shape string) string {
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n", dtype, order, shape)
}

func TestOpenRefuses(t *testing.T) {
	good := descr("<f4", "False", "(2, 3)")
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "the file ends within its header"},
		{"text", []byte("1.0 2.0 3.0 4.0"), "not a .npy file"},
		{"short text", []byte("1 2 3"), "not a .npy file"},
		{"version", []byte("\x93NUMPY\x03\x00\x00\x00\x00\x00"), ".npy version is 3.0, must be 1.0 or 2.0"},
		{"short header", version1(good)[:40], "the file ends within its header"},
		{"huge header", []byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), "header is 4294967295 bytes, must be at most 4096"},
		{"not a dict", version1("hello\n"), "the header can't be read"},
		{"no newline", version1(strings.TrimSpace(good)), "the header can't be read"},
		{"other order", version1("{'fortran_order': False, 'descr': '<f4', 'shape': (2, 3), }\n"), "the header can't be read"},
		{"lost digits", version1("{'descr': '<f4', 'fortran_order': False, 'shape': (3,4)}\n"), "the header can't be read"},
		{"big-endian", version1(descr(">f4", "False", "(3,)")), "dtype is >f4, big-endian, must be <f4 (float32) or <f8 (float64), little-endian"},
		{"integers", version1(descr("<i8", "False", "(3,)")), "dtype is <i8, must be <f4 (float32) or <f8 (float64)"},
		{"halves", version1(descr("<f2", "False", "(3,)")), "dtype is <f2, must be <f4 (float32) or <f8 (float64)"},
		{"objects", version1(descr("|O", "False", "(3,)")), "dtype is |O, must be"},
		{"fortran", append(version1(descr("<f4", "True", "(2, 3)")), make([]byte, 24)...), "shape is (2, 3) in Fortran order, must be in C order"},
		{"0-d", append(version1(descr("<f4", "False", "()")), make([]byte, 4)...), "shape is (), must be of 1 dimension"},
		{"3-d", append(version1(descr("<f4", "False", "(1, 1, 1)")), make([]byte, 4)...), "shape is (1, 1, 1), must be of 1 dimension"},
		{"no columns", version1(descr("<f4", "False", "(2, 0)")), "shape is (2, 0), must be at least 1 in each dimension"},
		{"negative", version1(descr("<f4", "False", "(-2, -3)")), "shape is (-2, -3), must be at least 1"},
		{"truncated", append(version1(good), make([]byte, 23)...), "shape is (2, 3) of float32, 24 bytes, but there are 23: the file is cut short"},
		{"too long", append(version1(good), make([]byte, 25)...), "24 bytes, but there are 25: too many"},
		{"huge", version1(descr("<f8", "False", "(1000000000, 1000000000)")), "8000000000000000000 bytes, but there are 0: the file is cut short"},
		{"overflow", version1(descr("<f8", "False", "(4294967296, 4294967296)")), "more than any file holds: there are 0 bytes"},
		{"past int64", version1(descr("<f8", "False", "(99999999999999999999,)")), "the header can't be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := raw(t, tt.file)
			f, err := Open(path)
			if err == nil {
				f.Close()
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %s: …%s", err, path, tt.want)
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Error(err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		if _, err := Open(filepath.Join(t.TempDir(), "no.npy")); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

func TestOpen(t *testing.T) {
	for _, tt := range []struct {
		name             string
		text             string
		bytes            int
		dims             int
		rows, cols, size int64
	}{
		{"vector", descr("<f4", "False", "(3,)"), 12, 1, 1, 3, 4},
		{"rows", descr("<f8", "False", "(2, 3)"), 48, 2, 2, 3, 8},
		{"spaces", "{'descr':'<f8','fortran_order':False,'shape':(2,3),}     \n", 0, 0, 0, 0, 0}, // npyio needs them
		{"1-D is in both orders", descr("<f8", "True", "(3,)"), 24, 1, 1, 3, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Open(file(t, tt.text, tt.bytes))
			if tt.dims == 0 {
				if err == nil {
					t.Fatal("no error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Dims() != tt.dims || f.Rows() != tt.rows || f.Cols() != tt.cols || f.DType().Size() != tt.size {
				t.Errorf("dims %d rows %d cols %d of %v", f.Dims(), f.Rows(), f.Cols(), f.DType())
			}
		})
	}
}

// What is written is read back to the bit, by us and by npyio, in each pair of types.
func TestRoundTrip(t *testing.T) {
	const cols = pieceBytes/8 + 3 // more than a piece
	row := func(i int) []float32 {
		v := make([]float32, cols)
		for j := range v {
			v[j] = float32(i+1) / float32(j+1)
		}
		return v
	}
	want := [][]float32{row(0), row(1)}
	wide := make([][]float64, len(want))
	for i, v := range want {
		for _, x := range v {
			wide[i] = append(wide[i], float64(x))
		}
	}
	for _, dtype := range []DType{Float32, Float64} {
		path := filepath.Join(t.TempDir(), "a.npy")
		w, err := Create(path, dtype, 2, cols)
		if err != nil {
			t.Fatal(err)
		}
		// In pieces and out of order, as a Sink gets them.
		for i := range want {
			if err := Out[float32](w, int64(i)).WriteColumns(want[i][7:], 7); err != nil {
				t.Fatal(err)
			}
			if err := Out[float64](w, int64(i)).WriteColumns(wide[i][:7], 0); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("there before Commit: %v", err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := ReadRows[float32](f, 0, 2); err != nil || !equal(want, got) {
			t.Errorf("%v as float32: differs, %v", dtype, err)
		}
		if got, err := ReadRows[float64](f, 0, 2); err != nil || !equal(wide, got) {
			t.Errorf("%v as float64: differs, %v", dtype, err)
		}
		part := make([]float32, 5)
		if err := Row[float32](f, 1).ReadColumns(part, cols-5); err != nil || !slices.Equal(want[1][cols-5:], part) {
			t.Errorf("%v: the last columns differ, %v", dtype, err)
		}
		p, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.size%64 != 0 {
			t.Errorf("numbers start at %d, not a multiple of 64", f.size)
		}
		var other []float64
		var single []float32
		if dtype == Float64 {
			err = npyio.Read(bytes.NewReader(p), &other)
		} else {
			err = npyio.Read(bytes.NewReader(p), &single)
		}
		if err != nil || len(other)+len(single) != 2*cols {
			t.Errorf("npyio: %d numbers, %v", len(other)+len(single), err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func equal[T Float](a, b [][]T) bool { return slices.EqualFunc(a, b, slices.Equal) }

// What npyio writes is read.
func TestReadNpyio(t *testing.T) {
	var b bytes.Buffer
	if err := npyio.Write(&b, mat.NewDense(2, 3, []float64{1, 2, 3, 4, 5, 6})); err != nil {
		t.Fatal(err)
	}
	f, err := Open(raw(t, b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := ReadRows[float64](f, 0, 2)
	if err != nil || !equal([][]float64{{1, 2, 3}, {4, 5, 6}}, got) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRange(t *testing.T) {
	f, err := Open(file(t, descr("<f4", "False", "(2, 3)"), 24))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := Create(filepath.Join(t.TempDir(), "w.npy"), Float32, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	v := make([]float32, 2)
	for _, at := range [][2]int64{{-1, 0}, {2, 0}, {0, -1}, {0, 2}, {1, math.MaxInt64}} {
		if err := Row[float32](f, at[0]).ReadColumns(v, at[1]); err == nil {
			t.Errorf("read at %v: no error", at)
		}
		if err := Out[float32](w, at[0]).WriteColumns(v, at[1]); err == nil {
			t.Errorf("write at %v: no error", at)
		}
	}
	if _, err := ReadRows[float32](f, 1, 2); err == nil {
		t.Error("rows past the end: no error")
	}
}

func write(t *testing.T, dtype DType, rows ...[]float64) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.npy")
	shape := []int64{int64(len(rows)), int64(len(rows[0]))}
	if len(rows) == 1 {
		shape = shape[1:]
	}
	w, err := Create(path, dtype, shape...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := errors.Join(WriteRows(w, 0, rows), w.Commit()); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestCheckFinite(t *testing.T) {
	inf := math.Inf(1)
	for _, tt := range []struct {
		name   string
		dtype  DType
		rows   [][]float64
		single bool
		want   string
	}{
		{"fine", Float32, [][]float64{{1, 2}, {3, 4}}, true, ""},
		{"NaN", Float32, [][]float64{{1, 2}, {3, math.NaN()}}, true, "row 1, column 1 is NaN, must be finite"},
		{"Inf in a vector", Float64, [][]float64{{-inf, 2}}, false, "column 0 is -Inf, must be finite"},
		{"large", Float64, [][]float64{{1, 1e300}}, true, "column 1 is 1e+300, must fit float32"},
		{"large, but float64", Float64, [][]float64{{1, 1e300}}, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := write(t, tt.dtype, tt.rows...)
			err := f.CheckFinite(t.Context(), tt.single)
			if got := fmt.Sprint(err); tt.want == "" && err != nil || !strings.Contains(got, tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := write(t, Float32, []float64{1}).CheckFinite(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	f := write(t, Float64, []float64{1e300})
	if err := Row[float32](f, 0).ReadColumns(make([]float32, 1), 0); err == nil {
		t.Error("1e300 read as float32: no error")
	}
}

// An error leaves what was there, and nothing beside it.
func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.npy")
	if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	w, err := Create(path, Float32, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := Out[float64](w, 0).WriteColumns([]float64{1, -1e39}, 0); err == nil || !strings.Contains(err.Error(), "row 0, column 1 is -1e+39, must fit float32") {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if p, _ := os.ReadFile(path); string(p) != "old" {
		t.Errorf("out.npy is %q", p)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
	for _, tt := range []struct {
		name, path, want string
		shape            []int64
	}{
		{"no folder", filepath.Join(dir, "no", "out.npy"), "no such file or directory", []int64{1}},
		{"a folder", dir, "not a regular file", []int64{1}},
		{"a device", os.DevNull, "not a regular file", []int64{1}},
		{"no columns", path, "can't hold shape (0,)", []int64{0}},
		{"3-d", path, "can't hold shape (1, 1, 1)", []int64{1, 1, 1}},
		{"overflow", path, "can't hold shape", []int64{math.MaxInt64, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Create(tt.path, Float32, tt.shape...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// Whatever a file holds, Open returns, allocates little, and what it takes can be read.
func FuzzOpen(f *testing.F) {
	f.Add(append(version1(descr("<f4", "False", "(3,)")), make([]byte, 12)...))
	f.Add(append(version1(descr("<f8", "False", "(1, 2)")), make([]byte, 16)...))
	f.Add(version1(descr("<f8", "True", "(4294967296, 4294967296)")))
	f.Add(version1("{'shape': (, 'fortran_order': , 'descr': }\n"))
	f.Add([]byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"))
	path := filepath.Join(f.TempDir(), "v.npy")
	f.Fuzz(func(t *testing.T, p []byte) {
		if err := os.WriteFile(path, p, 0o666); err != nil {
			t.Fatal(err)
		}
		file, err := Open(path)
		if err != nil {
			return
		}
		defer file.Close()
		if file.Rows()*file.Cols()*file.DType().Size() > int64(len(p)) {
			t.Fatalf("%d × %d of %v in %d bytes", file.Rows(), file.Cols(), file.DType(), len(p))
		}
		if _, err := ReadRows[float64](file, 0, file.Rows()); err != nil {
			t.Fatal(err)
		}
	})
}
