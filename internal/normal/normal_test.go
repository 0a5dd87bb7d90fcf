package normal

import (
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"

	"mfac/wire"
)

// The known answers that come with Random123 (tests/kat_vectors, philox4x32 10).
func TestPhilox(t *testing.T) {
	const all = 0xffffffff
	for _, c := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{all, all, all, all}, [2]uint32{all, all}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0}, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := philox(c.counter, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.counter, c.key, got, c.want)
		}
	}
}

// Against math's, which are within an ulp or two on this machine.
func TestFunctions(t *testing.T) {
	const ulps = 4 * 0x1p-53 // ours below 1, math's, and the rounding of the angle
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		x := float64(r.Uint64()>>11+1) * 0x1p-53
		if got, want := log(x), math.Log(x); !(math.Abs(got-want) <= ulps*math.Abs(want)) {
			t.Fatalf("log(%v) = %v, want %v", x, got, want)
		}
		v := r.Uint64() >> 11
		sin, cos := sincos(v)
		wantSin, wantCos := math.Sincos(2 * math.Pi * float64(v) * 0x1p-53) // the angle is rounded
		if !(math.Abs(sin-wantSin) <= 4*ulps) || !(math.Abs(cos-wantCos) <= 4*ulps) {
			t.Fatalf("sincos(%d) = %v %v, want %v %v", v, sin, cos, wantSin, wantCos)
		}
	}
	if log(1) != 0 {
		t.Errorf("log(1) = %v", log(1))
	}
	for q, want := range [][2]float64{{0, 1}, {1, 0}, {0, -1}, {-1, 0}} {
		if sin, cos := sincos(uint64(q) << 51); sin != want[0] || cos != want[1] {
			t.Errorf("quarter %d: %v %v", q, sin, cos)
		}
	}
}

// Numbers depend on the index alone, and are the same on every CPU: the sum was taken on amd64.
func TestFill(t *testing.T) {
	s := Source{Seed: 0x0123456789abcdef, Index: 3}
	all := make([]float64, 4097)
	s.Fill(all, 0)
	for lo := range 9 {
		for n := range 9 {
			part := make([]float64, n)
			s.Fill(part, int64(lo))
			for i, z := range part {
				if z != all[lo+i] {
					t.Fatalf("number %d of [%d, %d) is %v, not %v", lo+i, lo, lo+n, z, all[lo+i])
				}
			}
		}
	}
	const want = 0x84d7f13d
	if got := crc32.ChecksumIEEE(wire.AppendFloats(nil, all)); got != want {
		t.Errorf("the numbers' CRC is %#x, want %#x", got, want)
	}
	if s.At(5) != all[10] {
		t.Error("At is not the first of its pair")
	}
	other := Source{Seed: s.Seed, Index: 3, Domain: Steps}
	if other.At(5) == s.At(5) || (Source{Seed: s.Seed, Index: 4}).At(5) == s.At(5) || (Source{Seed: s.Seed + 1<<32, Index: 3}).At(5) == s.At(5) {
		t.Error("seed, index and domain don't tell numbers apart")
	}
}

// Moments of a million numbers, within five standard deviations of each.
func TestMoments(t *testing.T) {
	const n = 1 << 20
	x := make([]float64, n)
	Source{Seed: 7}.Fill(x, 0)
	var m [5]float64
	var pairs float64
	for i, z := range x {
		for p, zp := 1, z; p <= 4; p, zp = p+1, zp*z {
			m[p] += zp / n
		}
		if i > 0 {
			pairs += z * x[i-1] / n
		}
	}
	sd := 1 / math.Sqrt(n)
	for what, c := range map[string][3]float64{"mean": {m[1], 0, 1}, "variance": {m[2], 1, math.Sqrt2}, "third": {m[3], 0, math.Sqrt(15)}, "fourth": {m[4], 3, math.Sqrt(96)}, "neighbours": {pairs, 0, 1}} {
		if !(math.Abs(c[0]-c[1]) <= 5*c[2]*sd) {
			t.Errorf("%s is %v, want %v ± %v", what, c[0], c[1], 5*c[2]*sd)
		}
	}
}
