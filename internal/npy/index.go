package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ReadIndices reads a file of 1 to most whole numbers, none negative: 1-D, little-endian int64 or
// int32, as NumPy has them.
func ReadIndices(path string, most int) ([]int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the file
	}
	defer f.Close()
	index, err := readIndices(f, most)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return index, nil
}

func readIndices(r io.Reader, most int) ([]int64, error) {
	pre, err := preamble(r)
	if err != nil {
		return nil, err
	}
	h, err := parse(pre)
	if err != nil {
		return nil, err
	}
	size := map[string]int{"<i8": 8, "<i4": 4}[h.Descr.Type]
	switch {
	case size == 0:
		return nil, fmt.Errorf("dtype is %s, must be <i8 (int64) or <i4 (int32)", h.Descr.Type)
	case len(h.Descr.Shape) != 1:
		return nil, fmt.Errorf("shape is %s, must be of 1 dimension", shapeText(h.Descr.Shape))
	case h.Descr.Shape[0] < 1 || h.Descr.Shape[0] > most:
		return nil, fmt.Errorf("numbers is %d, must be in [1, %d]", h.Descr.Shape[0], most)
	}
	n := h.Descr.Shape[0]
	p, err := io.ReadAll(io.LimitReader(r, int64(n*size)+1))
	if err != nil {
		return nil, err
	}
	if len(p) != n*size {
		return nil, errors.New("the file has not as many numbers as its header says")
	}
	index := make([]int64, n)
	for i := range index {
		if size == 8 {
			index[i] = int64(binary.LittleEndian.Uint64(p[8*i:]))
		} else {
			index[i] = int64(int32(binary.LittleEndian.Uint32(p[4*i:])))
		}
		if index[i] < 0 {
			return nil, fmt.Errorf("number %d is %d, must be >= 0", i, index[i])
		}
	}
	return index, nil
}
