// Package normal makes standard normal numbers that depend on a seed and an index alone: the same
// bits on every CPU, in any order, without state. Philox4x32-10 (Salmon and others, "Parallel random
// numbers: as easy as 1, 2, 3", 2011) makes 128 bits of key and counter, Box and Muller's formula two
// numbers of them. Logarithm, sine and cosine are written out (fdlibm's polynomials), each operation
// rounded once or a fused one by name: math's differ between machines.
package normal

import "math"

// Domain keeps numbers for one purpose apart from those for another, under one seed.
type Domain uint32

// The domains.
const (
	Columns Domain = iota // z of a sample, by column
	Steps                 // u of a sample, by step
)

// A Source is the normal numbers of a seed, for its sample number Index.
type Source struct {
	Seed   uint64
	Index  uint32
	Domain Domain
}

// At is the number of index i: the first of the pair number i. Fill's are others.
func (s Source) At(i uint64) float64 {
	z, _ := s.pair(i)
	return z
}

// Fill sets dst to the numbers of indices lo, lo+1 and so on, lo ≥ 0: number i is one of the pair
// i/2. Some 25 ns a number.
func (s Source) Fill(dst []float64, lo int64) {
	if len(dst) > 0 && lo&1 == 1 {
		_, dst[0] = s.pair(uint64(lo / 2))
		dst, lo = dst[1:], lo+1
	}
	for len(dst) >= 2 {
		dst[0], dst[1] = s.pair(uint64(lo / 2))
		dst, lo = dst[2:], lo+2
	}
	if len(dst) == 1 {
		dst[0], _ = s.pair(uint64(lo / 2))
	}
}

// pair is two numbers of 128 bits, of which 53 and 53 count. None exceeds 8.6.
func (s Source) pair(i uint64) (a, b float64) {
	x := philox([4]uint32{uint32(i), uint32(i >> 32), s.Index, uint32(s.Domain)}, [2]uint32{uint32(s.Seed), uint32(s.Seed >> 32)})
	u := (uint64(x[1])<<32 | uint64(x[0])) >> 11
	v := (uint64(x[3])<<32 | uint64(x[2])) >> 11
	r := math.Sqrt(-2 * log(float64(u+1)*0x1p-53))
	sin, cos := sincos(v)
	return float64(r * cos), float64(r * sin)
}

// philox is Philox4x32 with ten rounds.
func philox(c [4]uint32, key [2]uint32) [4]uint32 {
	for range 10 {
		p := uint64(0xd2511f53) * uint64(c[0])
		q := uint64(0xcd9e8d57) * uint64(c[2])
		c = [4]uint32{uint32(q>>32) ^ c[1] ^ key[0], uint32(q), uint32(p>>32) ^ c[3] ^ key[1], uint32(p)}
		key[0] += 0x9e3779b9
		key[1] += 0xbb67ae85
	}
	return c
}

// log is the natural logarithm of 0 < x ≤ 1, within 1 ulp (fdlibm e_log.c).
func log(x float64) float64 {
	const (
		ln2Hi = 6.93147180369123816490e-01
		ln2Lo = 1.90821492927058770002e-10
		l1    = 6.666666666666735130e-01
		l2    = 3.999999999940941908e-01
		l3    = 2.857142874366239149e-01
		l4    = 2.222219843214978396e-01
		l5    = 1.818357216161805012e-01
		l6    = 1.531383769920937332e-01
		l7    = 1.479819860511658591e-01
	)
	f, e := math.Frexp(x)
	if f < math.Sqrt2/2 {
		f, e = 2*f, e-1
	}
	f--
	k := float64(e)
	s := f / (2 + f)
	s2 := float64(s * s)
	s4 := float64(s2 * s2)
	t1 := float64(s2 * math.FMA(s4, math.FMA(s4, math.FMA(s4, l7, l5), l3), l1))
	t2 := float64(s4 * math.FMA(s4, math.FMA(s4, l6, l4), l2))
	half := float64(0.5 * float64(f*f))
	inner := math.FMA(s, half+(t1+t2), float64(k*ln2Lo))
	return float64(k*ln2Hi) - ((half - inner) - f)
}

// sincos is the sine and cosine of 2π v/2⁵³, v < 2⁵³ (fdlibm k_sin.c, k_cos.c).
func sincos(v uint64) (sin, cos float64) {
	const (
		quarter = 1 << 51
		turn    = 2 * math.Pi * 0x1p-53

		s1 = -1.66666666666666324348e-01
		s2 = 8.33333333332248946124e-03
		s3 = -1.98412698298579493134e-04
		s4 = 2.75573137070700676789e-06
		s5 = -2.50507602534068634195e-08
		s6 = 1.58969099521155010221e-10

		c1 = 4.16666666666666019037e-02
		c2 = -1.38888888888741095749e-03
		c3 = 2.48015872894767294178e-05
		c4 = -2.75573143513906633035e-07
		c5 = 2.08757232129817482790e-09
		c6 = -1.13596475577881948265e-11
	)
	q := (v + quarter/2) / quarter // the nearest quarter of a turn
	x := float64(float64(int64(v)-int64(q*quarter)) * turn)
	z := float64(x * x)
	r := math.FMA(z, math.FMA(z, math.FMA(z, math.FMA(z, s6, s5), s4), s3), s2)
	sin = math.FMA(float64(z*x), math.FMA(z, r, s1), x)
	r = math.FMA(z, math.FMA(z, math.FMA(z, math.FMA(z, math.FMA(z, c6, c5), c4), c3), c2), c1)
	half := float64(0.5 * z)
	w := 1 - half
	cos = w + math.FMA(float64(z*z), r, (1-w)-half)
	switch q & 3 {
	case 1:
		return cos, -sin
	case 2:
		return -sin, -cos
	case 3:
		return -cos, sin
	}
	return sin, cos
}
