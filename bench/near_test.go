package main

import (
	"encoding/binary"
	"math"
	"testing"

	"mfac/shard"
)

// The loops that convert alone go over all numbers.
func TestConverts(t *testing.T) {
	if why := lacksKernel("avx512"); why != "" {
		t.Skip(why)
	}
	for dtype, sum := range converts {
		for _, bytes := range []int{256, 512, 4096} {
			p, want := make([]byte, bytes), 0.0
			for i := range bytes / dtype.Size() {
				x := float32(1 + i%3)
				want += float64(x)
				switch at := p[dtype.Size()*i:]; dtype {
				case shard.F32:
					binary.LittleEndian.PutUint32(at, math.Float32bits(x))
				case shard.BF16:
					binary.LittleEndian.PutUint16(at, uint16(math.Float32bits(x)>>16))
				case shard.F16:
					binary.LittleEndian.PutUint16(at, []uint16{0x3c00, 0x4000, 0x4200}[i%3])
				}
			}
			if got := sum(&p[0], bytes); got != want {
				t.Errorf("%v: %d bytes come to %v, not %v", dtype, bytes, got, want)
			}
		}
	}
}
