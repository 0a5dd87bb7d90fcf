package npy

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadIndices(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.npy")
	long := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 7), 1<<40)
	short := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 7), 9)
	minus := binary.LittleEndian.AppendUint32(nil, 1<<31)
	for _, c := range []struct {
		dtype DType
		shape []int64
		data  []byte
		want  []int64
		err   string
	}{
		{"<i8", []int64{2}, long, []int64{7, 1 << 40}, ""},
		{"<i4", []int64{2}, short, []int64{7, 9}, ""},
		{"<f8", []int64{2}, long, nil, "dtype is <f8, must be <i8 (int64) or <i4 (int32)"},
		{"<i8", []int64{1, 2}, long, nil, "shape is (1, 2), must be of 1 dimension"},
		{"<i8", []int64{4}, long, nil, "numbers is 4, must be in [1, 3]"},
		{"<i8", []int64{3}, long, nil, "the file has not as many numbers as its header says"},
		{"<i4", []int64{2}, long, nil, "the file has not as many numbers as its header says"},
		{"<i4", []int64{1}, minus, nil, "number 0 is -2147483648, must be >= 0"},
	} {
		if err := os.WriteFile(path, append(makeHeader(c.dtype, c.shape), c.data...), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadIndices(path, 3)
		if c.err == "" && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%v %v: %v, %v", c.dtype, c.shape, got, err)
		}
		if c.err != "" && (err == nil || !strings.HasSuffix(err.Error(), "q.npy: "+c.err)) {
			t.Errorf("%v %v: error %v, want %s", c.dtype, c.shape, err, c.err)
		}
	}
	if _, err := ReadIndices(path+"x", 3); err == nil {
		t.Error("no such file: no error")
	}
}
