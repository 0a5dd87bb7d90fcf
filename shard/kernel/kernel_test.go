package kernel_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"mfac/shard/kernel"
)

// fourTiles is the number of float32 lines in four tiles of 1,024 columns.
const fourTiles = 4 * 1024 / 16

// step is how far from one length to the next: all of them, or some, where that takes too long.
func step() int {
	if testing.Short() {
		return 7
	}
	return 1
}

// forEach runs the suite for every variant.
func forEach(t *testing.T, f func(t *testing.T, v *kernel.Variant)) {
	variants := kernel.Variants()
	if v := kernel.Otherwise(); v != nil {
		variants = append(variants, v)
	}
	for _, v := range variants {
		t.Run("kernel="+v.Name(), func(t *testing.T) { f(t, v) })
	}
}

// forRows runs it for every dtype of rows, too.
func forRows(t *testing.T, f func(t *testing.T, v *kernel.Variant, dtype kernel.DType)) {
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		for _, dtype := range rowTypes {
			t.Run("dtype="+dtype.String(), func(t *testing.T) { f(t, v, dtype) })
		}
	})
}

var rowTypes = []kernel.DType{kernel.F32, kernel.BF16, kernel.F16}

var nan = math.NaN()

// between returns n values of NaN with poison at either end, at an offset that no vector
// register is aligned to, and a check that the poison is still there.
func between[F float32 | float64](n int) (s []F, intact func() bool) {
	const before, after = 3, 17
	all := make([]F, before+n+after)
	for i := range all {
		all[i] = F(nan)
	}
	return all[before : before+n : before+n], func() bool {
		isNaN := func(v F) bool { return v != v }
		return !slices.ContainsFunc(all[:before], func(v F) bool { return !isNaN(v) }) &&
			!slices.ContainsFunc(all[before+n:], func(v F) bool { return !isNaN(v) })
	}
}

// at is where the package comment says that a cell is, in bytes.
func at(t kernel.DType, slots, lines, slot, col int) int {
	panel, in, c := slot/8, slot%8, 64/t.Size()
	height := min(8, slots-8*panel)
	return (panel*8*lines+col/c*height+in)*64 + col%c*t.Size()
}

type fixture struct {
	rows [][]float64 // as they are kept, by slot; NaN where not in mask
	tile kernel.Tile
	mask []byte
	in   []int
}

// set sets a cell to a number that the dtype can say.
func (f *fixture) set(slot, col int, v float32) {
	t := f.tile.DType
	p := f.tile.G[at(t, f.tile.Slots, f.tile.Lines, slot, col):]
	switch t {
	case kernel.F32:
		binary.NativeEndian.PutUint32(p, math.Float32bits(v))
	case kernel.BF16:
		h := kernel.ToBF16(v)
		v = kernel.FromBF16(h)
		binary.NativeEndian.PutUint16(p, h)
	default:
		h := kernel.ToF16(v)
		v = kernel.FromF16(h)
		binary.NativeEndian.PutUint16(p, h)
	}
	f.rows[slot][col] = float64(v)
}

// aligned returns n bytes of 0xff, NaN in every dtype, aligned to a line and between poison.
func aligned(n int) []byte {
	all := bytes.Repeat([]byte{0xff}, n+256)
	off := 64 + int(-uintptr(unsafe.Pointer(&all[0]))&63)
	return all[off : off+n : off+n]
}

// newFixture makes a tile between poison, with poison in the rows outside its mask, which
// leaves out about one slot of absent (0 is none).
func newFixture(rng *rand.Rand, t kernel.DType, slots, lines, absent int) fixture {
	f := fixture{mask: make([]byte, (slots+7)/8)}
	f.tile = kernel.Tile{G: aligned(slots * lines * 64), DType: t, Slots: slots, Lines: lines}
	if t == kernel.F16 {
		f.tile.Exp = make([]int16, slots)
	}
	for s := range slots {
		row := make([]float64, f.tile.Cols())
		for j := range row {
			row[j] = nan
		}
		f.rows = append(f.rows, row)
		if t == kernel.F16 {
			f.tile.Exp[s] = int16(rng.IntN(41) - 20)
		}
		if absent == 0 || rng.IntN(absent) > 0 {
			f.mask[s/8] |= 1 << (s % 8)
			f.in = append(f.in, s)
			spread := 40
			if t == kernel.F16 {
				spread = 20
			}
			for j := range row {
				f.set(s, j, float32(rng.NormFloat64()*math.Exp2(float64(rng.IntN(spread)-spread/2))))
			}
		}
	}
	return f
}

func (f fixture) scale(slot int) float64 {
	if f.tile.Exp == nil {
		return 1
	}
	return math.Ldexp(1, -int(f.tile.Exp[slot]))
}

// vector returns n values between poison, of float32 or of float64 precision.
func vector(rng *rand.Rand, n int, narrow bool) []float64 {
	x, _ := between[float64](n)
	for j := range x {
		x[j] = rng.NormFloat64()
		if narrow {
			x[j] = float64(float32(x[j]))
		}
	}
	return x
}

// wantDot is the contract's dot: lanes, then the tree.
func wantDot[F float32 | float64](g []F, x []float64) float64 {
	var l [8]float64
	for j := range g {
		l[j%8] = math.FMA(float64(g[j]), x[j], l[j%8])
	}
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}

func checkDots(t *testing.T, v *kernel.Variant, f fixture, x []float64) {
	t.Helper()
	slots, w := f.tile.Slots, f.tile.Cols()
	k := len(x) / w
	y, intact := between[float64](k * slots)
	v.Dots(new(kernel.Scratch), y, f.tile, x, f.mask)
	for i := range k {
		for s := range slots {
			want := 0.
			if slices.Contains(f.in, s) {
				want = wantDot(f.rows[s], x[i*w:]) * f.scale(s)
			}
			if got := y[i*slots+s]; !same(got, want) {
				t.Fatalf("slots %d, lines %d, mask %x, k %d: vector %d, slot %d: %v, want %v", slots, f.tile.Lines, f.mask, k, i, s, got, want)
			}
		}
	}
	if !intact() {
		t.Fatalf("slots %d, lines %d: wrote outside of y", slots, f.tile.Lines)
	}
}

func TestDots(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		rng := rand.New(rand.NewPCG(1, 2))
		c := dtype.LineCols()
		for lines := 1; lines <= fourTiles*16/c; lines += step() {
			narrow := lines%2 == 0
			checkDots(t, v, newFixture(rng, dtype, 9, lines, 0), vector(rng, lines*c, narrow))
		}
		for slots := 1; slots <= 40; slots++ {
			for k := 1; k <= 3; k++ {
				lines := 1 + rng.IntN(9)
				x := append(vector(rng, lines*c, true), vector(rng, (k-1)*lines*c, false)...)
				checkDots(t, v, newFixture(rng, dtype, slots, lines, 0), x)
				checkDots(t, v, newFixture(rng, dtype, slots, lines, 3), x)
			}
		}
		for k := 4; k <= 20; k++ {
			lines, slots := 1+rng.IntN(70), 1+rng.IntN(40)
			x := vector(rng, k*lines*c, false)
			checkDots(t, v, newFixture(rng, dtype, slots, lines, 0), x)
			checkDots(t, v, newFixture(rng, dtype, slots, lines, 3), x)
		}
	})
}

// wantCombine is the contract's combination: slot after slot, an FMA each, from +0.
func wantCombine(f fixture, c []float64, j int) (r float64) {
	for _, s := range f.in {
		r = math.FMA(c[s]*f.scale(s), f.rows[s][j], r)
	}
	return r
}

func checkCombine(t *testing.T, v *kernel.Variant, f fixture, c []float64, line, n int) {
	t.Helper()
	slots, w := f.tile.Slots, f.tile.DType.LineCols()
	k := len(c) / slots
	for i := range c { // not read outside the mask
		if !slices.Contains(f.in, i%slots) {
			c[i] = nan
		}
	}
	r, intact := between[float64](k * n * w)
	v.Combine(new(kernel.Scratch), r, f.tile, line, c, f.mask)
	for i := range k {
		for j := range n * w {
			want := wantCombine(f, c[i*slots:], line*w+j)
			if got := r[i*n*w+j]; !same(got, want) {
				t.Fatalf("slots %d, lines %d of %d from %d, mask %x: vector %d of %d, column %d: %v, want %v", slots, n, f.tile.Lines, line, f.mask, i, k, j, got, want)
			}
		}
	}
	if !intact() {
		t.Fatalf("slots %d, lines %d: wrote outside of r", slots, f.tile.Lines)
	}
}

func TestCombine(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		rng := rand.New(rand.NewPCG(3, 4))
		for lines := 1; lines <= fourTiles*16/dtype.LineCols(); lines += step() {
			checkCombine(t, v, newFixture(rng, dtype, 9, lines, 0), vector(rng, 9, lines%2 == 0), 0, lines)
		}
		for slots := 1; slots <= 40; slots++ {
			for k := slots % step(); k < 20; k += step() {
				lines := 1 + rng.IntN(9)
				line := rng.IntN(lines)
				n := rng.IntN(lines - line + 1)
				checkCombine(t, v, newFixture(rng, dtype, slots, lines, 0), vector(rng, (k+1)*slots, false), line, n)
				checkCombine(t, v, newFixture(rng, dtype, slots, lines, 3), vector(rng, (k+1)*slots, false), line, n)
			}
		}
	})
}

func TestGram(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		rng := rand.New(rand.NewPCG(21, 22))
		for n := range 30 {
			slots, lines := max(1, n+rng.IntN(20)), 1+rng.IntN(40)
			f := newFixture(rng, dtype, slots, lines, 0)
			list := rng.Perm(slots)[:min(n, slots)]
			n := len(list)
			i0 := rng.IntN(n + 1)
			i1 := i0 + rng.IntN(n-i0+1)
			y, intact := between[float64]((i1*(i1+1) - i0*(i0+1)) / 2)
			v.Gram(new(kernel.Scratch), y, f.tile, list, i0, i1)
			for i := i0; i < i1; i++ {
				x := make([]float64, f.tile.Cols())
				v.Row(x, f.tile, list[i])
				for j := range i + 1 {
					want := wantDot(f.rows[list[j]], x) * f.scale(list[j])
					if !same(y[0], want) {
						t.Fatalf("%d slots, %d lines, rows [%d, %d): (%d, %d) is %v, want %v", slots, lines, i0, i1, i, j, y[0], want)
					}
					y = y[1:]
				}
			}
			if !intact() {
				t.Fatal("wrote outside of y")
			}
		}
	})
}

func TestDot(t *testing.T) {
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(5, 6))
		for lines := range fourTiles + 1 {
			x, y := vector(rng, lines*16, false), vector(rng, lines*16, false)
			if got, want := v.Dot(x, y), wantDot(x, y); !same(got, want) {
				t.Fatalf("%d lines: %v, want %v", lines, got, want)
			}
		}
	})
}

// What is not finite must come out as such, and in nobody else's sum.
func TestNotFinite(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		rng := rand.New(rand.NewPCG(7, 8))
		cols := 3 * dtype.LineCols()
		for _, bad := range []float64{nan, math.Inf(1), math.Inf(-1)} {
			for slots := 1; slots <= 17; slots += 8 {
				for _, k := range []int{1, 6} {
					f := newFixture(rng, dtype, slots, 3, 0)
					x, c := vector(rng, k*cols, true), vector(rng, k*slots, true)
					s, j := rng.IntN(slots), rng.IntN(cols)
					f.set(s, j, float32(bad))
					checkDots(t, v, f, x)
					checkCombine(t, v, f, c, 0, 3)
					f = newFixture(rng, dtype, slots, 3, 0)
					x[j], c[s] = bad, bad
					checkDots(t, v, f, x)
					checkCombine(t, v, f, c, 0, 3)
				}
			}
		}
	})
}

// A slot left out is a slot with coefficient 0, bit for bit, where nothing underflows.
func TestCombineLeftOutIsZero(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		rng := rand.New(rand.NewPCG(9, 10))
		for range 200 {
			f := newFixture(rng, dtype, 1+rng.IntN(20), 1+rng.IntN(3), 0)
			for s := range f.rows {
				for j := range f.rows[s] {
					if rng.IntN(4) == 0 {
						f.set(s, j, float32(math.Copysign(0, rng.NormFloat64())))
					}
				}
			}
			c := vector(rng, f.tile.Slots, false)
			less := slices.Clone(f.mask)
			for s := range c {
				if rng.IntN(2) == 0 {
					c[s] = math.Copysign(0, rng.NormFloat64())
					less[s/8] &^= 1 << (s % 8)
				}
			}
			a, b := make([]float64, f.tile.Cols()), make([]float64, f.tile.Cols())
			v.Combine(new(kernel.Scratch), a, f.tile, 0, c, f.mask)
			v.Combine(new(kernel.Scratch), b, f.tile, 0, c, less)
			for j := range a {
				if math.Float64bits(a[j]) != math.Float64bits(b[j]) {
					t.Fatalf("column %d: %x with zeros, %x without", j, a[j], b[j])
				}
			}
		}
	})
}

// encode is x in dtype src, as bytes at an odd address, and the numbers that these are.
func encode(x []float32, src kernel.DType) ([]byte, []float32) {
	p := []byte{0xff}
	y := make([]float32, len(x))
	for j, f := range x {
		switch src {
		case kernel.F32:
			y[j], p = f, binary.LittleEndian.AppendUint32(p, math.Float32bits(f))
		case kernel.BF16:
			h := kernel.ToBF16(f)
			y[j], p = kernel.FromBF16(h), binary.LittleEndian.AppendUint16(p, h)
		default:
			h := kernel.ToF16(f)
			y[j], p = kernel.FromF16(h), binary.LittleEndian.AppendUint16(p, h)
		}
	}
	return p[1:], y
}

// PutTiles gives what Put gives tile by tile, and writes nothing else.
func TestPutTiles(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		rng := rand.New(rand.NewPCG(13, 14))
		for i := range 200 {
			src := rowTypes[i%len(rowTypes)]
			n, slots, lines := 1+rng.IntN(kernel.MostTiles), 1+rng.IntN(20), 1+rng.IntN(6)
			if i%20 == 0 {
				lines = 64
			}
			size, gap := slots*lines*64, 64*rng.IntN(3)
			regions := [2][]byte{aligned(n * (size + gap)), nil}
			for j := range regions[0] {
				regions[0][j] = byte(rng.Uint32())
			}
			regions[1] = aligned(len(regions[0]))
			copy(regions[1], regions[0])
			var tiles [2][]kernel.Tile
			for k, p := range regions {
				for j := range n {
					g := kernel.Tile{G: p[j*(size+gap):][:size], DType: dtype, Slots: slots, Lines: lines}
					if dtype == kernel.F16 {
						g.Exp = make([]int16, slots)
					}
					tiles[k] = append(tiles[k], g)
				}
			}
			cols, slot := tiles[0][0].Cols(), rng.IntN(slots)
			x := make([]float32, n*cols)
			for j := range x {
				x[j] = float32(rng.NormFloat64() * math.Exp2(float64(rng.IntN(20)-10+j/cols)))
				if rng.IntN(500) == 0 {
					x[j] = float32(math.Inf(1 - 2*rng.IntN(2)))
				}
			}
			p, _ := encode(x, src)
			v.PutTiles(new(kernel.Scratch), tiles[0], slot, p, src)
			each := len(p) / n
			for j, g := range tiles[1] {
				v.Put(new(kernel.Scratch), g, slot, 0, p[j*each:][:each], src)
				if dtype == kernel.F16 && g.Exp[slot] != tiles[0][j].Exp[slot] {
					t.Fatalf("tile %d of %d: 2^%d, by itself 2^%d", j, n, tiles[0][j].Exp[slot], g.Exp[slot])
				}
			}
			if !bytes.Equal(regions[0], regions[1]) {
				t.Fatalf("%v into slot %d of %d, %d tiles of %d columns: other bytes than tile by tile", src, slot, slots, n, cols)
			}
		}
	})
}

func TestPutGet(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		rng := rand.New(rand.NewPCG(11, 12))
		for i := range 600 {
			src := rowTypes[i%len(rowTypes)]
			slots, lines := 1+rng.IntN(20), 1+rng.IntN(6)
			if i%50 == 0 {
				lines = 64 // a tile
			}
			g := kernel.Tile{G: aligned(slots * lines * 64), DType: dtype, Slots: slots, Lines: lines}
			if dtype == kernel.F16 {
				g.Exp = make([]int16, slots)
			}
			before := slices.Clone(g.G)
			slot, col := rng.IntN(slots), rng.IntN(g.Cols()+1)
			if dtype == kernel.F16 {
				col = 0
			}
			n := rng.IntN(g.Cols() - col + 1)
			x := make([]float32, n)
			size := math.Exp2(float64(rng.IntN(60) - 30))
			if src == kernel.F16 {
				size = math.Exp2(float64(rng.IntN(20) - 10)) // within its range
			}
			for j := range x {
				x[j] = float32(rng.NormFloat64() * size * math.Exp2(-float64(rng.IntN(20))))
			}
			p, x := encode(x, src)
			v.Put(new(kernel.Scratch), g, slot, col, p, src)

			// What each cell should be: as it was, or the number rounded.
			want := slices.Clone(before)
			for j := range g.Cols() {
				cell := want[at(dtype, slots, lines, slot, j):]
				in := j >= col && j < col+n
				switch {
				case dtype == kernel.F16 && n > 0:
					var f float32
					if in {
						f = float32(math.Ldexp(float64(x[j]), int(g.Exp[slot])))
					}
					binary.NativeEndian.PutUint16(cell, kernel.ToF16(f))
				case !in:
				case dtype == kernel.F32:
					binary.NativeEndian.PutUint32(cell, math.Float32bits(x[j-col]))
				default:
					binary.NativeEndian.PutUint16(cell, kernel.ToBF16(x[j-col]))
				}
			}
			if !bytes.Equal(g.G, want) {
				t.Fatalf("%v into slot %d of %d, columns [%d, %d) of %d: other cells than wanted", src, slot, slots, col, col+n, g.Cols())
			}
			if n == 0 {
				continue
			}
			got := make([]byte, 4*n)
			kernel.Get(got, g, slot, col)
			row := make([]float64, g.Cols())
			v.Row(row, g, slot)
			tol := map[kernel.DType]float64{kernel.BF16: 1. / 256, kernel.F16: 1. / 2048}[dtype] // half a unit in the last place
			if src == dtype {
				tol = 0
			}
			var top float64
			for _, f := range x {
				top = max(top, math.Abs(float64(f)))
			}
			for j, f := range x {
				back := float64(math.Float32frombits(binary.LittleEndian.Uint32(got[4*j:])))
				if back != row[col+j] {
					t.Fatalf("column %d is %v by Get, %v by Row", col+j, back, row[col+j])
				}
				limit := tol * math.Abs(float64(f))
				if dtype == kernel.F16 && tol > 0 {
					limit = max(limit, top*0x1p-39) // half of the smallest step
				}
				if !(math.Abs(back-float64(f)) <= limit) {
					t.Fatalf("%v into %v: column %d is %v, want %v within %v", src, dtype, col+j, back, f, limit)
				}
			}
			kernel.Zero(g, slot, col)
			v.Row(row, g, slot)
			for j := col; j < g.Cols(); j++ {
				if row[j] != 0 {
					t.Fatalf("column %d is %v, zeroed from %d on", j, row[j], col)
				}
			}
		}
	})
}

// Rounding to nearest even, against arithmetic on the exact values: every float16 and bfloat16,
// what lies halfway between neighbours, and next to that.
func TestRounding(t *testing.T) {
	for _, c := range []struct {
		name string
		to   func(float32) uint16
		from func(uint16) float32
		inf  uint16
	}{{"bf16", kernel.ToBF16, kernel.FromBF16, 0x7f80}, {"f16", kernel.ToF16, kernel.FromF16, 0x7c00}} {
		for h := range c.inf {
			a, b := float64(c.from(h)), float64(c.from(h+1))
			if h+1 == c.inf { // as if the next one were there
				b = 2*a - float64(c.from(h-1))
			}
			even := h + h&1
			mid := float32((a + b) / 2)
			check := func(f float32, want uint16) {
				if got := c.to(f); got != want {
					t.Fatalf("%s: %v becomes %#x, want %#x", c.name, f, got, want)
				}
				if got := c.to(-f); got != want|0x8000 {
					t.Fatalf("%s: %v becomes %#x, want %#x", c.name, -f, got, want|0x8000)
				}
			}
			check(float32(a), h)
			if !math.IsInf(float64(mid), 0) && float64(mid) == (a+b)/2 {
				check(mid, even)
				check(math.Nextafter32(mid, 0), h)
				if up := math.Nextafter32(mid, float32(math.Inf(1))); !math.IsInf(float64(up), 0) {
					check(up, h+1)
				}
			}
			if float64(float32(c.from(h))) != a || math.Float32bits(c.from(h|0x8000)) != math.Float32bits(-float32(a)) {
				t.Fatalf("%s: %#x is not exact", c.name, h)
			}
		}
		for h := c.inf + 1; h < 0x8000; h++ {
			if f := c.from(h); f == f || c.from(c.to(f)) == c.from(c.to(f)) {
				t.Fatalf("%s: NaN %#x becomes %v", c.name, h, f)
			}
		}
		if f := c.from(c.to(math.Float32frombits(0x7f800001))); f == f { // its payload is in the bits cut off
			t.Fatalf("%s: NaN becomes %v", c.name, f)
		}
	}
}

// The rows' widening and narrowing of all that there is: every 16-bit pattern, and float32
// patterns over the whole range, NaN and halfway cases among them.
func TestConversions(t *testing.T) {
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(31, 32))
		for _, dtype := range rowTypes {
			p := make([]byte, 1+4<<16)[1:]
			for i := range 1 << 16 {
				if dtype == kernel.F32 {
					binary.LittleEndian.PutUint32(p[4*i:], rng.Uint32())
				} else {
					binary.LittleEndian.PutUint16(p[2*i:], uint16(i))
				}
			}
			x, intact := between[float64](1 << 16)
			v.Expand(x, p[:dtype.Size()<<16], dtype)
			for i, got := range x {
				var want float64
				switch dtype {
				case kernel.F32:
					want = float64(math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:])))
				case kernel.BF16:
					want = float64(kernel.FromBF16(uint16(i)))
				default:
					want = float64(kernel.FromF16(uint16(i)))
				}
				if !same(got, want) {
					t.Fatalf("%v: [%d] is %v, want %v", dtype, i, got, want)
				}
			}
			if !intact() {
				t.Fatal("wrote outside of x")
			}
		}
		for range 300 {
			f := make([]float32, 1024)
			for j := range f {
				b := rng.Uint32()
				if rng.IntN(2) == 0 { // halfway between two bfloat16, or next to it
					b = b&^0xffff + 0x7fff + rng.Uint32N(3)
				}
				f[j] = math.Float32frombits(b)
			}
			p, _ := encode(f, kernel.F32)
			g := kernel.Tile{G: aligned(3 * 32 * 64), DType: kernel.BF16, Slots: 3, Lines: 32}
			v.Put(new(kernel.Scratch), g, 1, 0, p, kernel.F32)
			for j := range f {
				got := binary.NativeEndian.Uint16(g.G[at(kernel.BF16, 3, 32, 1, j):])
				if want := kernel.ToBF16(f[j]); got != want {
					t.Fatalf("%x becomes %x, want %x", math.Float32bits(f[j]), got, want)
				}
			}
		}
		// Narrow and Widen, of the same and of halfway cases of float16.
		for n := range 200 {
			f := make([]float32, n)
			for j := range f {
				f[j] = math.Float32frombits(rng.Uint32())
				if rng.IntN(2) == 0 {
					f[j] = kernel.FromF16(uint16(rng.Uint32()))
					f[j] = math.Float32frombits(math.Float32bits(f[j])&^0x1fff + 0xfff + rng.Uint32N(3))
				}
			}
			for _, dtype := range []kernel.DType{kernel.BF16, kernel.F16} {
				want, back := encode(f, dtype)
				p := bytes.Repeat([]byte{0xaa}, 2*n+2)
				v.Narrow(p[1:1+2*n], f, dtype)
				if !bytes.Equal(p[1:1+2*n], want) || p[0] != 0xaa || p[1+2*n] != 0xaa {
					t.Fatalf("%v: %x becomes %x, want %x", dtype, f, p, want)
				}
				got, intact := between[float32](n)
				v.Widen(got, want, dtype)
				for j := range got {
					if !same(float64(got[j]), float64(back[j])) {
						t.Fatalf("%v: %x becomes %v, want %v", dtype, want[2*j:2*j+2], got[j], back[j])
					}
				}
				if !intact() {
					t.Fatal("wrote outside of x")
				}
			}
		}
		// The scale of a row of float16 at the ends of float32's range.
		for _, top := range []float32{0, math.SmallestNonzeroFloat32, 1e-40, 0x1p-126, 1, 65504, 65519, 65520, 0x1p127, math.MaxFloat32} {
			f := make([]float32, 64)
			for j := range f {
				f[j] = top * float32(math.Exp2(-float64(j)/2))
			}
			p, _ := encode(f, kernel.F32)
			g := kernel.Tile{G: aligned(2 * 64), DType: kernel.F16, Slots: 1, Lines: 2, Exp: make([]int16, 1)}
			v.Put(new(kernel.Scratch), g, 0, 0, p, kernel.F32)
			row := make([]float64, 64)
			v.Row(row, g, 0)
			for j := range f {
				limit := max(math.Abs(float64(f[j]))/2048, float64(top)*0x1p-39)
				if !(math.Abs(row[j]-float64(f[j])) <= limit) {
					t.Fatalf("largest %v, scale 2^%d: %v becomes %v", top, g.Exp[0], f[j], row[j])
				}
			}
		}
	})
}

func TestFinish(t *testing.T) {
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(41, 42))
		for n := range 256 {
			r, intact := between[float64](n)
			copy(r, vector(rng, n, false))
			x := vector(rng, n, false)
			want := make([]float64, n)
			for j := range r {
				want[j] = (x[j] - r[j]) / 0.3
			}
			v.Finish(r, x, 0.3)
			for j := range r {
				if !same(r[j], want[j]) {
					t.Fatalf("[%d] is %v, want %v", j, r[j], want[j])
				}
			}
			if !intact() {
				t.Fatal("wrote outside of r")
			}
		}
	})
}

// nearest is the number of a 16-bit dtype nearest to v, by trying its neighbours exactly.
func nearest(v float64, to func(float32) uint16, from func(uint16) float32, inf uint16) uint16 {
	h := to(float32(v)) &^ 0x8000
	best, dist := h, math.Inf(1)
	for _, c := range []uint16{max(h, 1) - 1, h, min(h+1, inf)} {
		f := float64(from(c))
		if c == inf { // as if it were the next number
			f = 2*float64(from(inf-1)) - float64(from(inf-2))
		}
		d, _ := new(big.Float).Abs(new(big.Float).SetPrec(2000).Sub(big.NewFloat(f).SetPrec(2000), big.NewFloat(math.Abs(v)))).Float64()
		if d < dist || d == dist && c&1 == 0 {
			best, dist = c, d
		}
	}
	if math.Signbit(v) {
		best |= 0x8000
	}
	return best
}

func TestRound(t *testing.T) {
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(43, 44))
		for n := range 200 {
			for _, dtype := range []kernel.DType{kernel.F32, kernel.F64, kernel.BF16, kernel.F16} {
				x := vector(rng, n, false)
				for j := range x {
					switch {
					case dtype == kernel.F16:
						x[j] *= math.Exp2(float64(rng.IntN(36) - 26))
					default:
						x[j] *= math.Exp2(float64(rng.IntN(280) - 160))
					}
					if rng.IntN(3) == 0 && dtype.Size() == 2 { // next to halfway, where rounding twice is wrong
						h := uint16(rng.IntN(0x7000))
						a, b := float64(kernel.FromBF16(h)), float64(kernel.FromBF16(h+1))
						if dtype == kernel.F16 {
							a, b = float64(kernel.FromF16(h)), float64(kernel.FromF16(h+1))
						}
						x[j] = math.Nextafter((a+b)/2, []float64{a, b, (a + b) / 2}[rng.IntN(3)])
					}
				}
				size := dtype.Size()
				p := bytes.Repeat([]byte{0xaa}, size*n+40)
				if bad := v.Round(p[3:3+size*n], x, dtype); bad >= 0 {
					t.Fatalf("%v: finite numbers are not: %v", dtype, x[bad])
				}
				for j := range x {
					cell := p[3+size*j:]
					var got, want any
					switch dtype {
					case kernel.F32:
						got, want = math.Float32frombits(binary.LittleEndian.Uint32(cell)), float32(x[j])
					case kernel.F64:
						got, want = math.Float64frombits(binary.LittleEndian.Uint64(cell)), x[j]
					case kernel.BF16:
						got, want = binary.LittleEndian.Uint16(cell), nearest(x[j], kernel.ToBF16, kernel.FromBF16, 0x7f80)
					default:
						got, want = binary.LittleEndian.Uint16(cell), nearest(x[j], kernel.ToF16, kernel.FromF16, 0x7c00)
					}
					if got != want {
						t.Fatalf("%v: %x becomes %v, want %v", dtype, x[j], got, want)
					}
				}
				if p[2] != 0xaa || p[3+size*n] != 0xaa {
					t.Fatal("wrote outside of p")
				}
				for _, bad := range []float64{nan, math.Inf(1), math.Inf(-1), 1e39} {
					if n > 0 && (dtype != kernel.F64 || bad != 1e39) {
						all := slices.Clone(x)
						at := rng.IntN(n)
						all[at] = bad
						if got := v.Round(p[3:3+size*n], all, dtype); got != at {
							t.Fatalf("%v: %v at %d of %d is found at %d", dtype, bad, at, n, got)
						}
					}
				}
			}
		}
	})
}

func TestSolve(t *testing.T) {
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(51, 52))
		for n := 1; n <= 40; n++ {
			cols := 16 * (1 + rng.IntN(6))
			w, intact := between[float64](n * cols)
			copy(w, vector(rng, n*cols, false))
			l := vector(rng, n*n, false)
			for i := range n {
				l[i*n+i] = 1 + rng.Float64()
				for j := i + 1; j < n; j++ {
					l[i*n+j] = nan // not read
				}
			}
			want := slices.Clone(w)
			norms := make([]float64, cols)
			for i := range n {
				for j := range cols {
					x := want[i*cols+j]
					for k := range i {
						x = math.FMA(-l[i*n+k], want[k*cols+j], x)
					}
					want[i*cols+j] = x / l[i*n+i]
					norms[j] = math.FMA(want[i*cols+j], want[i*cols+j], norms[j])
				}
			}
			v.Solve(w, l, n, cols)
			y, whole := between[float64](cols)
			v.Squares(y, w)
			for i := range w {
				if !same(w[i], want[i]) {
					t.Fatalf("%d rows of %d: row %d, column %d is %v, want %v", n, cols, i/cols, i%cols, w[i], want[i])
				}
			}
			for j := range y {
				if !same(y[j], norms[j]) {
					t.Fatalf("%d rows of %d: square %d is %v, want %v", n, cols, j, y[j], norms[j])
				}
			}
			if !intact() || !whole() {
				t.Fatal("wrote outside")
			}
		}
	})
}

func TestLengths(t *testing.T) {
	g := kernel.Tile{G: aligned(9 * 2 * 64), Slots: 9, Lines: 2}
	h := kernel.Tile{G: aligned(9 * 64), Slots: 9, Lines: 1, DType: kernel.F16, Exp: make([]int16, 9)}
	tiles := kernel.Tiles{G: g.G[:9*64], Slots: 9, Lines: 1, N: 1, Stride: 9 * 64}
	f := func(n int) []float64 { return make([]float64, n) }
	mask := make([]byte, 2)
	w := new(kernel.Scratch)
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		for name, call := range map[string]func(){
			"dots: x":           func() { v.Dots(w, f(9), g, f(33), mask) },
			"dots: y":           func() { v.Dots(w, f(10), g, f(32), mask) },
			"dots: mask":        func() { v.Dots(w, f(9), g, f(32), mask[:1]) },
			"dots: tile":        func() { v.Dots(w, f(9), kernel.Tile{G: g.G, Slots: 9, Lines: 3}, f(48), mask) },
			"dots: dtype":       func() { v.Dots(w, f(9), kernel.Tile{G: g.G, Slots: 9, Lines: 2, DType: kernel.F64}, f(16), mask) },
			"dots: no scales":   func() { v.Dots(w, f(9), kernel.Tile{G: g.G, Slots: 9, Lines: 2, DType: kernel.F16}, f(64), mask) },
			"combine: r":        func() { v.Combine(w, f(15), g, 0, f(9), mask) },
			"combine: line":     func() { v.Combine(w, f(32), g, 1, f(9), mask) },
			"combine: below":    func() { v.Combine(w, f(16), g, -1, f(9), mask) },
			"combine: c":        func() { v.Combine(w, f(32), g, 0, f(10), mask) },
			"combine: no c":     func() { v.Combine(w, f(32), g, 0, nil, mask) },
			"gram: rows":        func() { v.Gram(w, f(3), g, []int{1, 2}, 0, 3) },
			"gram: y":           func() { v.Gram(w, f(2), g, []int{1, 2}, 0, 2) },
			"gram: slot":        func() { v.Gram(w, f(3), g, []int{1, 9}, 0, 2) },
			"dot: lengths":      func() { v.Dot(f(16), f(32)) },
			"dot: not of lines": func() { v.Dot(f(8), f(8)) },
			"finish: lengths":   func() { v.Finish(f(16), f(32), 1) },
			"round: lengths":    func() { v.Round(make([]byte, 60), f(16), kernel.F32) },
			"narrow: lengths":   func() { v.Narrow(make([]byte, 3), make([]float32, 2), kernel.BF16) },
			"narrow: dtype":     func() { v.Narrow(make([]byte, 4), make([]float32, 2), kernel.F32) },
			"widen: lengths":    func() { v.Widen(make([]float32, 2), make([]byte, 3), kernel.F16) },
			"widen: dtype":      func() { v.Widen(make([]float32, 2), make([]byte, 4), kernel.F64) },
			"expand: lengths":   func() { v.Expand(f(16), make([]byte, 63), kernel.F32) },
			"put: slot":         func() { v.Put(w, g, 9, 0, nil, kernel.F32) },
			"put: too long":     func() { v.Put(w, g, 0, 1, make([]byte, 4*32), kernel.F32) },
			"put: bytes":        func() { v.Put(w, g, 0, 0, make([]byte, 3), kernel.F32) },
			"put: f64":          func() { v.Put(w, g, 0, 0, make([]byte, 8), kernel.F64) },
			"put: part of f16":  func() { v.Put(w, h, 0, 1, make([]byte, 8), kernel.F32) },
			"put tiles: none":   func() { v.PutTiles(w, nil, 0, nil, kernel.F32) },
			"put tiles: many":   func() { v.PutTiles(w, make([]kernel.Tile, kernel.MostTiles+1), 0, nil, kernel.F32) },
			"put tiles: bytes":  func() { v.PutTiles(w, []kernel.Tile{g, g}, 0, make([]byte, 4*32), kernel.F32) },
			"put tiles: slot":   func() { v.PutTiles(w, []kernel.Tile{g}, 9, make([]byte, 4*32), kernel.F32) },
			"put tiles: unlike": func() { v.PutTiles(w, []kernel.Tile{g, h}, 0, make([]byte, 8*32), kernel.F32) },
			"tiles: bytes": func() {
				v.CombineTiles(w, make([]byte, 64), kernel.Tiles{G: g.G[:575], Slots: 9, Lines: 1, N: 1}, f(9), mask, nil, 0)
			},
			"tiles: p":       func() { v.CombineTiles(w, make([]byte, 63), tiles, f(9), mask, nil, 0) },
			"tiles: c":       func() { v.CombineTiles(w, make([]byte, 64), tiles, f(8), mask, nil, 0) },
			"tiles: mask":    func() { v.CombineTiles(w, make([]byte, 64), tiles, f(9), mask[:1], nil, 0) },
			"tiles: x":       func() { v.DotsTiles(w, f(9), tiles, make([]byte, 60), mask) },
			"tiles: y":       func() { v.DotsTiles(w, f(8), tiles, make([]byte, 64), mask) },
			"get: below":     func() { kernel.Get(make([]byte, 4), g, 0, -1) },
			"row: x":         func() { v.Row(f(31), g, 0) },
			"zero: past":     func() { kernel.Zero(g, 0, 33) },
			"solve: l":       func() { v.Solve(f(32), f(3), 2, 16) },
			"solve: columns": func() { v.Solve(f(18), f(4), 2, 9) },
			"squares: rows":  func() { v.Squares(f(16), f(24)) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: no panic", name)
					}
				}()
				call()
			}()
		}
	})
}

func TestByName(t *testing.T) {
	for _, v := range kernel.Variants() {
		if got, err := kernel.ByName(v.Name()); got != v || err != nil {
			t.Errorf("%s: %v, %v", v.Name(), got, err)
		}
	}
	if v, err := kernel.ByName(""); v != kernel.Best() || err != nil {
		t.Errorf("best: %v, %v", v, err)
	}
	_, err := kernel.ByName("fast")
	if want := `kernel is "fast", must be one of ["generic"`; err == nil || fmt.Sprint(err)[:len(want)] != want {
		t.Errorf("%v, want %s…", err, want)
	}
}
