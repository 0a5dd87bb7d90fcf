package npy

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A mask is read from whatever type NumPy makes one in.
func TestReadMask(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.npy")
	le := binary.LittleEndian
	wide := func(xs ...uint64) (p []byte) {
		for _, x := range xs {
			p = le.AppendUint64(p, x)
		}
		return p
	}
	narrow := func(xs ...uint32) (p []byte) {
		for _, x := range xs {
			p = le.AppendUint32(p, x)
		}
		return p
	}
	minus, one := math.Float64bits(-1), math.Float64bits(1)
	for _, c := range []struct {
		dtype DType
		shape []int64
		data  []byte
		least int8
		want  []int8
		err   string
	}{
		{"|b1", []int64{3}, []byte{1, 0, 1}, -1, []int8{1, 0, 1}, ""},
		{"|i1", []int64{3}, []byte{0xff, 0, 1}, -1, []int8{-1, 0, 1}, ""},
		{"<i4", []int64{1, 3}, narrow(0xffffffff, 1, 0), -1, []int8{-1, 1, 0}, ""},
		{"<i8", []int64{3}, wide(math.MaxUint64, 1, 0), -1, []int8{-1, 1, 0}, ""},
		{"<f4", []int64{3}, narrow(math.Float32bits(-1), 0, math.Float32bits(1)), -1, []int8{-1, 0, 1}, ""},
		{"<f8", []int64{3}, wide(minus, 0, one), -1, []int8{-1, 0, 1}, ""},
		{"<f8", []int64{3}, wide(one, 0, minus), 0, nil, "column 2 is -1, must be 0 or 1"},
		{"<f8", []int64{3}, wide(one, math.Float64bits(math.NaN()), 0), -1, nil, "column 1 is NaN, must be 0, 1 or -1"},
		{"<i8", []int64{3}, wide(1, 1<<32, 0), -1, nil, "column 1 is 4.294967296e+09, must be 0, 1 or -1"},
		{"|i1", []int64{3}, []byte{2, 0, 1}, -1, nil, "column 0 is 2, must be 0, 1 or -1"},
		{"|i1", []int64{3}, []byte{1, 0}, -1, nil, "the file is cut short: it has not as many numbers as its header says"},
		{"|i1", []int64{3}, []byte{1, 0, 0, 0}, -1, nil, "the file has more numbers than its header says"},
		{"|i1", []int64{4}, []byte{1, 0, 0, 0}, -1, nil, "columns is 4, must be 3, the run's"},
		{"|i1", []int64{2, 3}, make([]byte, 6), -1, nil, "rows is 2, must be 1"},
		{">i4", []int64{3}, make([]byte, 12), -1, nil, "dtype is >i4, must be bool, int8, or little-endian int32, int64, float32 or float64"},
	} {
		if err := os.WriteFile(path, append(makeHeader(c.dtype, c.shape), c.data...), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadMask(path, 3, c.least)
		if c.err == "" && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%v %v: %v, %v", c.dtype, c.shape, got, err)
		}
		if c.err != "" && (err == nil || !strings.HasSuffix(err.Error(), "keep.npy: "+c.err)) {
			t.Errorf("%v %v: error %v, want %s", c.dtype, c.shape, err, c.err)
		}
	}
	if _, err := ReadMask(path+"x", 3, -1); err == nil {
		t.Error("no such file: no error")
	}
}
