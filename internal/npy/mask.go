package npy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// ReadMask reads a vector of numbers from least to 1, all of them whole, of whatever type NumPy makes masks in: bool, int8, int32,
// int64, float32 or float64, little-endian; cols of them, 1-D or one row.
func ReadMask(path string, cols int64, least int8) ([]int8, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the file
	}
	defer f.Close()
	mask, err := readMask(bufio.NewReaderSize(f, 1<<16), cols, least)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return mask, nil
}

func readMask(r io.Reader, cols int64, least int8) ([]int8, error) {
	pre, err := preamble(r)
	if err != nil {
		return nil, err
	}
	h, err := parse(pre)
	if err != nil {
		return nil, err
	}
	size := map[string]int{"|b1": 1, "|i1": 1, "<i4": 4, "<i8": 8, "<f4": 4, "<f8": 8}[h.Descr.Type]
	shape := h.Descr.Shape
	switch {
	case size == 0:
		return nil, fmt.Errorf("dtype is %s, must be bool, int8, or little-endian int32, int64, float32 or float64", h.Descr.Type)
	case len(shape) < 1 || len(shape) > 2:
		return nil, fmt.Errorf("shape is %s, must be of 1 dimension", shapeText(shape))
	case len(shape) == 2 && shape[0] != 1:
		return nil, fmt.Errorf("rows is %d, must be 1", shape[0])
	case int64(shape[len(shape)-1]) != cols:
		return nil, fmt.Errorf("columns is %d, must be %d, the run's", shape[len(shape)-1], cols)
	}
	mask, p := make([]int8, cols), make([]byte, size)
	for j := range mask {
		if _, err := io.ReadFull(r, p); err != nil {
			return nil, errors.New("the file is cut short: it has not as many numbers as its header says")
		}
		x := number(h.Descr.Type, p)
		if x != 0 && x != 1 && (x != -1 || least > -1) { // NaN too
			return nil, fmt.Errorf("column %d is %g, must be %s", j, x, map[bool]string{true: "0, 1 or -1", false: "0 or 1"}[least == -1])
		}
		mask[j] = int8(x)
	}
	if n, _ := r.Read(p); n > 0 {
		return nil, errors.New("the file has more numbers than its header says")
	}
	return mask, nil
}

// number is one of a type that ReadMask takes.
func number(dtype string, p []byte) float64 {
	switch dtype {
	case "|b1":
		return float64(p[0])
	case "|i1":
		return float64(int8(p[0]))
	case "<i4":
		return float64(int32(binary.LittleEndian.Uint32(p)))
	case "<i8":
		return float64(int64(binary.LittleEndian.Uint64(p)))
	case "<f4":
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(p)))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(p))
}
