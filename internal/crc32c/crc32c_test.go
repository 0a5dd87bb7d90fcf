package crc32c

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// Every length to nine blocks, at odd addresses, and some long ones: the sums of hash/crc32.
func TestChecksum(t *testing.T) {
	if sum := Checksum([]byte("123456789")); sum != 0xe3069283 {
		t.Fatalf("of 123456789 it is %08x, want e3069283", sum)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	check := func(p []byte) {
		if got, want := Checksum(p), crc32.Checksum(p, table); got != want {
			t.Fatalf("of %d bytes it is %08x, want %08x", len(p), got, want)
		}
	}
	for n := range 9*blockBytes + 1 {
		at := rng.IntN(1 << 16)
		check(data[at : at+n])
	}
	for range 200 {
		at := rng.IntN(len(data))
		check(data[at : at+rng.IntN(len(data)-at+1)])
	}
	check(make([]byte, 12345))
	if !fast {
		t.Log("this CPU has no vectors of VPCLMULQDQ: hash/crc32 was compared with itself")
	}
}

func BenchmarkChecksum(b *testing.B) {
	data := make([]byte, 240<<10)
	for _, f := range []struct {
		name string
		f    func([]byte) uint32
	}{{"ours", Checksum}, {"go", func(p []byte) uint32 { return crc32.Checksum(p, table) }}} {
		b.Run("by="+f.name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				f.f(data)
			}
		})
	}
}
