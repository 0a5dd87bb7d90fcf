package shard_test

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"mfac/shard"
)

// plainly is FirstNonFinite without its tricks.
func plainly(p []byte, size int) int {
	for i := 0; (i+1)*size <= len(p); i++ {
		var v float64
		if size == 4 {
			v = float64(math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:])))
		} else {
			v = math.Float64frombits(binary.LittleEndian.Uint64(p[8*i:]))
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return i
		}
	}
	return -1
}

func checkFirstNonFinite(t *testing.T, p []byte) {
	t.Helper()
	if got, want := shard.FirstNonFinite(p, shard.F32), plainly(p, 4); got != want {
		t.Fatalf("float32 in %x: %d, want %d", p, got, want)
	}
	if got, want := shard.FirstNonFinite(p, shard.F64), plainly(p, 8); got != want {
		t.Fatalf("float64 in %x: %d, want %d", p, got, want)
	}
}

func TestFirstNonFinite(t *testing.T) {
	finite := []float64{0, math.Copysign(0, -1), 1, -math.MaxFloat32, math.MaxFloat32, 1e-45, -1e-45}
	bad := []float64{math.NaN(), math.Inf(1), math.Inf(-1)}
	for n := range 50 {
		x := make([]float64, n)
		for i := range x {
			x[i] = finite[i%len(finite)]
		}
		for at := range n + 1 {
			if at < n {
				x[at] = bad[at%len(bad)]
			}
			p, first := shard.Append([]byte{9}, x, shard.F32)
			q, first64 := shard.Append([]byte{9}, x, shard.F64)
			want := at
			if at == n {
				want = -1
			}
			if first != want || first64 != want {
				t.Fatalf("of %d, %d is bad: %d and %d", n, want, first, first64)
			}
			checkFirstNonFinite(t, p[1:])
			checkFirstNonFinite(t, q[1:])
			if at < n {
				x[at] = -1 // and a later one is the first now
			}
		}
	}
	// One bit less than all of the exponent's is finite, a NaN of one bit is not.
	for _, u := range []uint32{0x7f7fffff, 0xff7fffff, 0x7f800001, 0xff800001, 0x7fffffff, 0xffffffff, 0x807fffff} {
		p := make([]byte, 64)
		binary.LittleEndian.PutUint32(p[36:], u)
		checkFirstNonFinite(t, p)
	}
	for _, u := range []uint64{0x7fefffffffffffff, 0xffefffffffffffff, 0x7ff0000000000001, 0xfff0000000000001, 0xffffffffffffffff, 0x800fffffffffffff} {
		p := make([]byte, 64)
		binary.LittleEndian.PutUint64(p[40:], u)
		checkFirstNonFinite(t, p)
	}
}

func FuzzFirstNonFinite(f *testing.F) {
	f.Add(make([]byte, 100))
	f.Add(slices.Repeat([]byte{0xff, 0xff, 0x7f, 0x7f}, 40))
	f.Add(append(make([]byte, 68), 0, 0, 0x80, 0xff))
	f.Fuzz(func(t *testing.T, p []byte) { checkFirstNonFinite(t, p) })
}

func TestAppend(t *testing.T) {
	const half = 1.0 / (1 << 24) // of float32's last place at 1
	for _, c := range []struct {
		x    float64
		want float32
		bad  int
	}{
		{1, 1, -1},
		{1 + half, 1, -1}, // ties to even
		{1 + 3*half, 1 + 4*half, -1},
		{math.Nextafter(1+half, 2), 1 + 2*half, -1},
		{math.MaxFloat32, math.MaxFloat32, -1},
		{math.MaxFloat32 + 0x1p103, float32(math.Inf(1)), 0}, // half way to the next
		{math.Nextafter(math.MaxFloat32*(1+half/2), 0), math.MaxFloat32, -1},
		{-1e300, float32(math.Inf(-1)), 0},
		{math.Inf(1), float32(math.Inf(1)), 0},
		{math.Copysign(0, -1), float32(math.Copysign(0, -1)), -1},
		{1e-60, 0, -1},
	} {
		p, bad := shard.Append(nil, []float64{c.x}, shard.F32)
		if got := binary.LittleEndian.Uint32(p); got != math.Float32bits(c.want) || bad != c.bad {
			t.Errorf("%x: %x, %d, want %x, %d", c.x, math.Float32frombits(got), bad, c.want, c.bad)
		}
		q, bad := shard.Append([]byte("ab"), []float64{c.x, 1}, shard.F64)
		if got := binary.LittleEndian.Uint64(q[2:]); got != math.Float64bits(c.x) || len(q) != 18 || bad != 0 && math.IsInf(c.x, 0) {
			t.Errorf("%x: %x, %d", c.x, q, bad)
		}
	}
}

// The float32 answer is the float64 answer rounded once, and the float64 answer is as
// close to the exact one as its order of summation promises.
func TestSolveIsRoundedOnce(t *testing.T) {
	const slots, cols, lambda = 13, 700, 1e-5
	rng := rand.New(rand.NewPCG(3, 4))
	w := newWindow(t, rng, shard.F32, slots, cols)
	v, vs := vector(rng, 4, cols)
	c := make([]float64, slots)
	for s := range c {
		c[s] = rng.NormFloat64() * 1e-6
	}
	x := make([]float64, cols)
	must(t, w.Solve(x, []shard.Vector{v}, c, w.mask, lambda, 0, cols))
	p, bad := shard.Append(nil, x, shard.F32)
	if bad != -1 {
		t.Fatalf("column %d is not finite", bad)
	}
	exact := func(v float64) *big.Float { return new(big.Float).SetPrec(400).SetFloat64(v) }
	for j := range x {
		once, _ := exact(x[j]).Float32()
		if got := binary.LittleEndian.Uint32(p[4*j:]); got != math.Float32bits(once) {
			t.Fatalf("column %d: %x, want %x", j, math.Float32frombits(got), once)
		}
		sum, size := exact(vs[j]), math.Abs(vs[j])
		for s := range slots {
			if w.mask.Has(s) {
				sum.Sub(sum, new(big.Float).Mul(exact(c[s]), exact(w.rows[s][j])))
				size += math.Abs(c[s] * w.rows[s][j])
			}
		}
		want, _ := sum.Quo(sum, exact(lambda)).Float64()
		tol := (slots + 2) * 0x1p-53 * size / lambda // a rounding for each FMA, −, /
		if d := math.Abs(x[j] - want); !(d <= tol) {
			t.Fatalf("column %d: %v, exactly %v", j, x[j], want)
		}
	}
}

// A dot is as close to the exact one as eight lanes and a tree promise, far closer than
// one sum from left to right.
func TestDotsAgainstExact(t *testing.T) {
	const slots, cols = 9, 50_000
	rng := rand.New(rand.NewPCG(7, 8))
	w := newWindow(t, rng, shard.F32, slots, cols)
	x, xs := vector(rng, 4, cols)
	y := make([]float64, slots)
	must(t, w.Dots(y, []shard.Vector{x}, w.mask))
	for s := range slots {
		if !w.mask.Has(s) {
			continue
		}
		sum, size := new(big.Float).SetPrec(400), 0.
		for j := range cols {
			a, b := new(big.Float).SetPrec(400).SetFloat64(w.rows[s][j]), new(big.Float).SetPrec(400).SetFloat64(xs[j])
			sum.Add(sum, a.Mul(a, b))
			size += math.Abs(w.rows[s][j] * xs[j])
		}
		want, _ := sum.Float64()
		tol := (1024/8 + 3 + 6 + 1) * 0x1p-53 * size // FMAs of a lane, its tree, 49 tiles' tree
		if d := math.Abs(y[s] - want); !(d <= tol) {
			t.Errorf("slot %d: %v, exactly %v", s, y[s], want)
		}
	}
}
