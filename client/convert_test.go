package client

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"mfac/internal/dtype"
	"mfac/shard/kernel"
	"mfac/wire"
)

// hard are numbers at the borders of every dtype: each 16-bit number, what lies half way to the
// next one, and its neighbours on both sides.
func hard() []float64 {
	var x []float64
	step := 1
	if testing.Short() {
		step = 37
	}
	for _, t := range []wire.DType{wire.BF16, wire.F16} {
		for h := 0; h < 1<<16; h += step {
			v, next := wide16(t, uint16(h)), wide16(t, uint16(h)+1)
			x = append(x, v)
			if mid := (v + next) / 2; !math.IsInf(mid, 0) && !math.IsNaN(mid) {
				x = append(x, mid, math.Nextafter(mid, v), math.Nextafter(mid, next))
				x = append(x, float64(math.Nextafter32(float32(mid), float32(v))), float64(math.Nextafter32(float32(mid), float32(next))))
			}
		}
	}
	last16, last32 := 65504.0, float64(math.MaxFloat32)
	return append(x, 65519.99, 65520, -65520, last16, 0x1.FFp127, 0x1.FEFFFFp127, last32, last32*(1+0x1p-26), 1e39, -1e300, 0x1p-150, 0x1.8p-150, 0x1p-134, 0x1.8p-149, 5e-324)
}

func wide16(t wire.DType, h uint16) float64 {
	if t == wire.F16 {
		return float64(kernel.FromF16(h))
	}
	return float64(kernel.FromBF16(h))
}

// nearest is x rounded once, by the definition: to a multiple of the unit in the last place.
func nearest(x float64, t wire.DType) float64 {
	bits, least, most := map[wire.DType]int{wire.F32: 24, wire.BF16: 8, wire.F16: 11}[t], map[wire.DType]int{wire.F32: -149, wire.BF16: -133, wire.F16: -24}[t],
		map[wire.DType]float64{wire.F32: math.MaxFloat32, wire.BF16: 0x1.FEp127, wire.F16: 65504}[t]
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return x
	}
	_, e := math.Frexp(x)
	unit := math.Ldexp(1, max(e-bits, least)) // a power of two: to divide by it is exact
	if y := math.RoundToEven(x/unit) * unit; math.Abs(y) <= most {
		return math.Copysign(y, x)
	}
	return math.Copysign(math.Inf(1), x)
}

func check[T Float](t *testing.T, x []T, as wire.DType) {
	t.Helper()
	want := -1
	for i, v := range x {
		if y := nearest(float64(v), as); math.IsNaN(y) || math.IsInf(y, 0) {
			want = i
			break
		}
	}
	size := as.Size()
	p := slices.Repeat([]byte{0xaa}, size*len(x)+8)
	if got := narrow(p[:size*len(x)], x, as); got != want {
		t.Fatalf("%T as %s: the first lost is %d, want %d", x, as, got, want)
	}
	for _, b := range p[size*len(x):] {
		if b != 0xaa {
			t.Fatalf("%T as %s: written past the end", x, as)
		}
	}
	back := make([]float64, len(x))
	kernel.Best().Expand(back, p[:size*len(x)], dtype.Of(as))
	for i, v := range x {
		if want := nearest(float64(v), as); math.Float64bits(back[i]) != math.Float64bits(want) && !(math.IsNaN(back[i]) && math.IsNaN(want)) {
			t.Fatalf("%T as %s: %v (%x) became %v, want %v", x, as, v, v, back[i], want)
		}
	}
}

// Each number is rounded once to the nearest, ties to even, from float32 and from float64, beside
// others of all kinds, and what can't be said is found.
func TestNarrow(t *testing.T) {
	x64 := hard()
	var good64 []float64
	for _, v := range x64 {
		if !math.IsNaN(v) && math.Abs(v) < 65520 {
			good64 = append(good64, v)
		}
	}
	rng := rand.New(rand.NewPCG(9, 10))
	rng.Shuffle(len(good64), func(i, j int) { good64[i], good64[j] = good64[j], good64[i] })
	f32 := func(x []float64) []float32 {
		y := make([]float32, len(x))
		for i, v := range x {
			y[i] = float32(v)
		}
		return y
	}
	for _, as := range []wire.DType{wire.BF16, wire.F16, wire.F32} {
		check(t, good64, as)
		check(t, x64, as)
		if as != wire.F32 {
			check(t, f32(good64), as)
			check(t, f32(x64), as)
		}
	}
	bad := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e39, -65520, 0x1.FFp127, math.Float64frombits(0xffffffffffffffff), math.Float64frombits(0x7ff0000000000001)}
	for n := range 40 { // all lengths up to some words, and what is lost anywhere
		for _, as := range []wire.DType{wire.BF16, wire.F16} {
			check(t, good64[:n], as)
			check(t, f32(good64[:n]), as)
			for at := range n {
				x := slices.Clone(good64[:n])
				x[at] = bad[(n+at)%len(bad)]
				check(t, x, as)
				check(t, f32(x), as)
			}
		}
	}
	nan := []float32{math.Float32frombits(0xffffffff), math.Float32frombits(0x7f800001), math.Float32frombits(0x7fffffff)}
	for i := range nan {
		for _, as := range []wire.DType{wire.BF16, wire.F16} {
			x := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9}
			x[4+i] = nan[i]
			check(t, x, as)
		}
	}
}

// What is widened is exact, for each number that there is.
func TestWiden(t *testing.T) {
	for _, as := range []wire.DType{wire.BF16, wire.F16} {
		p := make([]byte, 1, 2<<16+1) // at an odd address
		for h := range 1 << 16 {
			p = binary.LittleEndian.AppendUint16(p, uint16(h))
		}
		p = p[1:]
		x32, x64 := make([]float32, 1<<16), make([]float64, 1<<16)
		widen(x32, p, as)
		widen(x64, p, as)
		for h := range x32 {
			want := wide16(as, uint16(h))
			for _, got := range []float64{float64(x32[h]), x64[h]} {
				if math.Float64bits(got) != math.Float64bits(want) && !(math.IsNaN(got) && math.IsNaN(want)) {
					t.Fatalf("%s %#04x is %v, want %v", as, h, got, want)
				}
			}
		}
		for n := range 20 {
			x := slices.Repeat([]float32{-1}, n+3)
			widen(x[:n], p[2*77:], as)
			for i := range n {
				if float64(x[i]) != wide16(as, uint16(77+i)) {
					t.Fatalf("%d numbers of %s: number %d is %v", n, as, i, x[i])
				}
			}
			if x[n] != -1 {
				t.Fatalf("%d numbers of %s: written past the end", n, as)
			}
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	const n = 240 * tileColumns * 2
	rng := rand.New(rand.NewPCG(1, 2))
	x32, x64, p := make([]float32, n), make([]float64, n), make([]byte, 4*n)
	for i := range x32 {
		x64[i] = rng.NormFloat64() * 1e-4 // a part of them below float16's normal range
		x32[i] = float32(x64[i])
	}
	for _, as := range []wire.DType{wire.BF16, wire.F16} {
		for name, f := range map[string]func(){
			"from=f32": func() { narrow(p, x32, as) },
			"from=f64": func() { narrow(p, x64, as) },
			"to=f32":   func() { widen(x32, p, as) },
			"to=f64":   func() { widen(x64, p, as) },
		} {
			b.Run(fmt.Sprintf("%s/wire=%s", name, as), func(b *testing.B) {
				b.SetBytes(2 * n)
				for b.Loop() {
					f()
				}
			})
		}
	}
}
