package kernel_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"mfac/shard/kernel"
)

// fourTiles is the number of lines in four tiles of 1,024 columns.
const fourTiles = 4 * 1024 / kernel.LineCols

// forEach runs the suite for every variant.
func forEach(t *testing.T, f func(t *testing.T, v *kernel.Variant)) {
	for _, v := range kernel.Variants() {
		t.Run("kernel="+v.Name(), func(t *testing.T) { f(t, v) })
	}
}

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

// at is where the package comment says that a cell is.
func at(slots, lines, slot, col int) int {
	panel, in := slot/8, slot%8
	height := min(8, slots-8*panel)
	return panel*8*lines*16 + col/16*height*16 + in*16 + col%16
}

type fixture struct {
	rows [][]float32 // by slot; NaN where not in mask
	tile kernel.Tile
	mask []byte
	in   []int
}

// newFixture makes a tile between poison, with poison in the rows outside its mask, which
// leaves out about one slot of absent (0 is none).
func newFixture(rng *rand.Rand, slots, lines, absent int) fixture {
	f := fixture{mask: make([]byte, (slots+7)/8)}
	f.tile.G, _ = between[float32](slots * lines * 16)
	f.tile.Slots, f.tile.Lines = slots, lines
	for t := range slots {
		row, _ := between[float32](lines * 16)
		if absent == 0 || rng.IntN(absent) > 0 {
			f.mask[t/8] |= 1 << (t % 8)
			f.in = append(f.in, t)
			for j := range row {
				row[j] = float32(rng.NormFloat64() * math.Exp2(float64(rng.IntN(40)-20)))
				f.tile.G[at(slots, lines, t, j)] = row[j]
			}
		}
		f.rows = append(f.rows, row)
	}
	return f
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
	v.Dots(y, f.tile, x, f.mask)
	for i := range k {
		for s := range slots {
			want := 0.
			if slices.Contains(f.in, s) {
				want = wantDot(f.rows[s], x[i*w:])
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
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(1, 2))
		for lines := 1; lines <= fourTiles; lines++ {
			narrow := lines%2 == 0
			checkDots(t, v, newFixture(rng, 9, lines, 0), vector(rng, lines*16, narrow))
		}
		for slots := 1; slots <= 40; slots++ {
			for k := 1; k <= 3; k++ {
				lines := 1 + rng.IntN(9)
				x := append(vector(rng, lines*16, true), vector(rng, (k-1)*lines*16, false)...)
				checkDots(t, v, newFixture(rng, slots, lines, 0), x)
				checkDots(t, v, newFixture(rng, slots, lines, 3), x)
			}
		}
	})
}

// wantCombine is the contract's combination: slot after slot, an FMA each, from +0.
func wantCombine(f fixture, c []float64, j int) (r float64) {
	for _, s := range f.in {
		r = math.FMA(c[s], float64(f.rows[s][j]), r)
	}
	return r
}

func checkCombine(t *testing.T, v *kernel.Variant, f fixture, c []float64, line, n int) {
	t.Helper()
	slots := f.tile.Slots
	k := len(c) / slots
	for i := range c { // not read outside the mask
		if !slices.Contains(f.in, i%slots) {
			c[i] = nan
		}
	}
	r, intact := between[float64](k * n * 16)
	v.Combine(r, f.tile, line, c, f.mask)
	for i := range k {
		for j := range n * 16 {
			want := wantCombine(f, c[i*slots:], line*16+j)
			if got := r[i*n*16+j]; !same(got, want) {
				t.Fatalf("slots %d, lines %d of %d from %d, mask %x: vector %d, column %d: %v, want %v", slots, n, f.tile.Lines, line, f.mask, i, j, got, want)
			}
		}
	}
	if !intact() {
		t.Fatalf("slots %d, lines %d: wrote outside of r", slots, f.tile.Lines)
	}
}

func TestCombine(t *testing.T) {
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(3, 4))
		for lines := 1; lines <= fourTiles; lines++ {
			checkCombine(t, v, newFixture(rng, 9, lines, 0), vector(rng, 9, lines%2 == 0), 0, lines)
		}
		for slots := 1; slots <= 40; slots++ {
			for k := 1; k <= 3; k++ {
				lines := 1 + rng.IntN(9)
				line := rng.IntN(lines)
				n := rng.IntN(lines - line + 1)
				checkCombine(t, v, newFixture(rng, slots, lines, 0), vector(rng, k*slots, false), line, n)
				checkCombine(t, v, newFixture(rng, slots, lines, 3), vector(rng, k*slots, false), line, n)
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
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(7, 8))
		for _, bad := range []float64{nan, math.Inf(1), math.Inf(-1)} {
			for slots := 1; slots <= 17; slots += 8 {
				f := newFixture(rng, slots, 3, 0)
				x, c := vector(rng, 48, true), vector(rng, slots, true)
				s, j := rng.IntN(slots), rng.IntN(48)
				f.rows[s][j] = float32(bad)
				f.tile.G[at(slots, 3, s, j)] = float32(bad)
				checkDots(t, v, f, x)
				checkCombine(t, v, f, c, 0, 3)
				f = newFixture(rng, slots, 3, 0)
				x[j], c[s] = bad, bad
				checkDots(t, v, f, x)
				checkCombine(t, v, f, c, 0, 3)
			}
		}
	})
}

// A slot left out is a slot with coefficient 0, bit for bit, where nothing underflows.
func TestCombineLeftOutIsZero(t *testing.T) {
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(9, 10))
		for range 200 {
			f := newFixture(rng, 1+rng.IntN(20), 1+rng.IntN(3), 0)
			for i := range f.tile.G {
				if rng.IntN(4) == 0 {
					f.tile.G[i] = float32(math.Copysign(0, rng.NormFloat64()))
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
			v.Combine(a, f.tile, 0, c, f.mask)
			v.Combine(b, f.tile, 0, c, less)
			for j := range a {
				if math.Float64bits(a[j]) != math.Float64bits(b[j]) {
					t.Fatalf("column %d: %x with zeros, %x without", j, a[j], b[j])
				}
			}
		}
	})
}

func TestPutGet(t *testing.T) {
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		rng := rand.New(rand.NewPCG(11, 12))
		for range 500 {
			slots, lines := 1+rng.IntN(20), 1+rng.IntN(6)
			all, intact := between[float32](slots * lines * 16)
			g := kernel.Tile{G: all, Slots: slots, Lines: lines}
			slot, col := rng.IntN(slots), rng.IntN(lines*16+1)
			n := rng.IntN(lines*16 - col + 1)
			p := make([]byte, 4*n+1)[1:] // at an odd address
			for j := range n {
				binary.LittleEndian.PutUint32(p[4*j:], math.Float32bits(float32(j)))
			}
			v.Put(g, slot, col, p)
			for i, got := range all {
				written := false
				for j := range n {
					if i == at(slots, lines, slot, col+j) {
						written = true
						if got != float32(j) {
							t.Fatalf("column %d is %v, want %d", col+j, got, j)
						}
					}
				}
				if !written && got == got {
					t.Fatalf("wrote %v at %d", got, i)
				}
			}
			if !intact() {
				t.Fatal("wrote outside of the tile")
			}
			back := make([]byte, len(p))
			kernel.Get(back, g, slot, col)
			if !slices.Equal(back, p) {
				t.Fatalf("got %x, put %x", back, p)
			}
			x := make([]float64, lines*16)
			kernel.Row(x, g, slot)
			for j, got := range x {
				if want := float64(all[at(slots, lines, slot, j)]); !same(got, want) {
					t.Fatalf("row's column %d is %v, want %v", j, got, want)
				}
			}
			kernel.Zero(g, slot, col)
			for s := range slots {
				for j := range lines * 16 {
					if zero := all[at(slots, lines, s, j)] == 0; zero != (s == slot && j >= col) && j >= col+n {
						t.Fatalf("zero from %d in slot %d: slot %d, column %d is %v", col, slot, s, j, zero)
					}
				}
			}
		}
	})
}

func TestLengths(t *testing.T) {
	g := kernel.Tile{G: make([]float32, 9*2*16), Slots: 9, Lines: 2}
	f := func(n int) []float64 { return make([]float64, n) }
	mask := make([]byte, 2)
	forEach(t, func(t *testing.T, v *kernel.Variant) {
		for name, call := range map[string]func(){
			"dots: x":           func() { v.Dots(f(9), g, f(33), mask) },
			"dots: y":           func() { v.Dots(f(10), g, f(32), mask) },
			"dots: mask":        func() { v.Dots(f(9), g, f(32), mask[:1]) },
			"dots: tile":        func() { v.Dots(f(9), kernel.Tile{G: g.G, Slots: 9, Lines: 3}, f(48), mask) },
			"combine: r":        func() { v.Combine(f(15), g, 0, f(9), mask) },
			"combine: line":     func() { v.Combine(f(32), g, 1, f(9), mask) },
			"combine: below":    func() { v.Combine(f(16), g, -1, f(9), mask) },
			"combine: c":        func() { v.Combine(f(32), g, 0, f(10), mask) },
			"combine: no c":     func() { v.Combine(f(32), g, 0, nil, mask) },
			"dot: lengths":      func() { v.Dot(f(16), f(32)) },
			"dot: not of lines": func() { v.Dot(f(8), f(8)) },
			"put: slot":         func() { v.Put(g, 9, 0, nil) },
			"put: too long":     func() { v.Put(g, 0, 1, make([]byte, 4*32)) },
			"put: bytes":        func() { v.Put(g, 0, 0, make([]byte, 3)) },
			"get: below":        func() { kernel.Get(make([]byte, 4), g, 0, -1) },
			"row: x":            func() { kernel.Row(f(31), g, 0) },
			"zero: past":        func() { kernel.Zero(g, 0, 33) },
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
