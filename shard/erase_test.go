package shard

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
)

// Erase leaves not a byte of a row, and the other rows as they were.
func TestErase(t *testing.T) {
	for _, dtype := range []DType{F32, BF16, F16} {
		for _, cols := range []int64{1, 17, TileCols, 2*TileCols + 5} {
			cfg := Config{Slots: 11, Cols: cols, DType: dtype}
			n, err := Bytes(cfg)
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			row := make([]byte, 4*cols)
			for i := range cols {
				binary.LittleEndian.PutUint32(row[4*i:], math.Float32bits(1000+float32(i%7)))
			}
			fresh := bytes.Clone(s.g)
			for _, slot := range []int{0, 3} {
				if err := s.Write(slot, 0, row, F32); err != nil {
					t.Fatal(err)
				}
			}
			one := bytes.Clone(s.g)
			if err := s.Write(9, 0, row, F32); err != nil {
				t.Fatal(err)
			}
			if err := s.Erase(9); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(s.g, one) {
				t.Errorf("%v, %d columns: something of the row is left, or of another is gone", dtype, cols)
			}
			if cols > 1 { // a row that was never whole
				if err := s.Write(9, 0, row[:4*(cols-1)], F32); err != nil {
					t.Fatal(err)
				}
			}
			for _, slot := range []int{0, 3, 9} {
				if err := s.Erase(slot); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(s.g, fresh) || int64(len(s.g)) != n || len(s.partial) != 0 {
				t.Errorf("%v, %d columns: memory is not as when it was made", dtype, cols)
			}
			if s.Erase(11) == nil || s.Erase(-1) == nil {
				t.Error("a slot that isn't there was erased")
			}
		}
	}
}
