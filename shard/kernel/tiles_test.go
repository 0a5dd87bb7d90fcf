package kernel_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"mfac/shard/kernel"
)

// tilesOf makes n tiles one after the other, gap bytes between them, and returns each by itself too.
// Slots that are not in mask hold poison.
func tilesOf(rng *rand.Rand, dtype kernel.DType, slots, lines, n, gap int, mask []byte) (g kernel.Tiles, each []fixture) {
	exps := 0
	if dtype == kernel.F16 {
		exps = (2*slots + 63) &^ 63
	}
	size := slots * lines * 64
	g = kernel.Tiles{DType: dtype, Slots: slots, Lines: lines, N: n, Stride: exps + size + gap, Near: gap > 0}
	g.G = aligned((n-1)*g.Stride + size)
	if dtype == kernel.F16 {
		g.Exp = make([]int16, (n-1)*g.Stride/2+slots)
	}
	for i := range n {
		f := newFixture(rng, dtype, slots, lines, 0)
		f.mask, f.in = mask, nil
		for t := range slots {
			if mask[t/8]>>(t%8)&1 != 0 {
				f.in = append(f.in, t)
				continue
			}
			for col := range f.tile.Cols() {
				f.set(t, col, float32(nan))
			}
		}
		copy(g.G[i*g.Stride:], f.tile.G)
		if dtype == kernel.F16 {
			copy(g.Exp[i*g.Stride/2:], f.tile.Exp)
		}
		each = append(each, f)
	}
	return g, each
}

func full(slots int) []byte {
	mask := make([]byte, (slots+7)/8)
	for t := range slots {
		mask[t/8] |= 1 << (t % 8)
	}
	return mask
}

// Tiles together have the bits that each has by itself.
func TestTiles(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		rng := rand.New(rand.NewPCG(13, 14))
		lineCols := dtype.LineCols()
		for _, slots := range []int{5, 8, 10, 16, 23, 24, 34, 40} {
			for n := 1; n <= 4; n += 1 + step()/7 {
				for _, lines := range []int{1, 2, 7, 1024 / lineCols} {
					mask := full(slots)
					g, each := tilesOf(rng, dtype, slots, lines, n, rng.IntN(2)*64, mask)
					done := checkTiles(t, rng, v, g, each, mask)
					if want := v.Name() == "avx512"; done != want && slots%8 == 0 {
						t.Fatalf("slots %d: says that it did dots: %v, want %v", slots, done, want)
					}
					for range 3 {
						mask := full(slots)
						for range 1 + slots/8 {
							out := rng.IntN(slots)
							mask[out/8] &^= 1 << (out % 8)
						}
						if rng.IntN(3) == 0 {
							mask[rng.IntN(len(mask))] = 0
						}
						g, each := tilesOf(rng, dtype, slots, lines, n, rng.IntN(2)*64, mask)
						checkTiles(t, rng, v, g, each, mask)
					}
				}
			}
		}
	})
}

func checkTiles(t *testing.T, rng *rand.Rand, v *kernel.Variant, g kernel.Tiles, each []fixture, mask []byte) (doesDots bool) {
	t.Helper()
	w := new(kernel.Scratch)
	slots, cols := g.Slots, g.Cols()
	c := vector(rng, slots, g.N%2 == 0)
	for i := range c {
		if mask[i/8]>>(i%8)&1 == 0 {
			c[i] = nan // not read
		}
	}
	p := append(make([]byte, 1+4*g.N*cols), 0xaa, 0xaa) // at an odd address
	done, finite := v.CombineTiles(w, p[1:1+4*g.N*cols], g, c, mask, nil, 0)
	if done && !finite {
		t.Fatalf("slots %d, mask %x, %d tiles of %d lines: not finite", slots, mask, g.N, g.Lines)
	}
	if !done && v.Name() == "avx512" && slices.Max(mask) > 0 {
		t.Fatalf("slots %d, mask %x, %d tiles of %d lines: says that it did not do combinations", slots, mask, g.N, g.Lines)
	}
	for i := 0; done && i < g.N*cols; i++ {
		got := math.Float32frombits(binary.LittleEndian.Uint32(p[1+4*i:]))
		if want := float32(wantCombine(each[i/cols], c, i%cols)); math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("slots %d, mask %x, %d tiles of %d lines: column %d is %v, want %v", slots, mask, g.N, g.Lines, i, got, want)
		}
	}
	if p[0] != 0 || p[len(p)-2] != 0xaa || p[len(p)-1] != 0xaa {
		t.Fatalf("slots %d, mask %x, %d tiles of %d lines: wrote outside of p", slots, mask, g.N, g.Lines)
	}

	x := make([]byte, 1+4*g.N*cols)
	for i := range g.N * cols {
		binary.LittleEndian.PutUint32(x[1+4*i:], math.Float32bits(float32(rng.NormFloat64())))
	}
	lambda := math.Exp(rng.NormFloat64())
	done, finite = v.CombineTiles(w, p[1:1+4*g.N*cols], g, c, mask, x[1:], lambda)
	if done && !finite {
		t.Fatalf("slots %d, mask %x, %d tiles of %d lines: not finite", slots, mask, g.N, g.Lines)
	}
	for i := 0; done && i < g.N*cols; i++ {
		got := math.Float32frombits(binary.LittleEndian.Uint32(p[1+4*i:]))
		xi := float64(math.Float32frombits(binary.LittleEndian.Uint32(x[1+4*i:])))
		if want := float32((xi - wantCombine(each[i/cols], c, i%cols)) / lambda); math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("slots %d, mask %x, %d tiles of %d lines: column %d of (x − r)/λ is %v, want %v", slots, mask, g.N, g.Lines, i, got, want)
		}
	}
	if p[0] != 0 || p[len(p)-2] != 0xaa || p[len(p)-1] != 0xaa {
		t.Fatalf("slots %d, mask %x, %d tiles of %d lines: wrote outside of p", slots, mask, g.N, g.Lines)
	}

	y, intact := between[float64](g.N * slots)
	doesDots = v.DotsTiles(w, y, g, x[1:], mask)
	alone, x64 := make([]float64, slots), make([]float64, cols)
	for i, f := range each {
		if !doesDots {
			break
		}
		v.Expand(x64, x[1+4*i*cols:][:4*cols], kernel.F32)
		v.Dots(w, alone, f.tile, x64, mask)
		for s, want := range alone {
			if got := y[i*slots+s]; math.Float64bits(got) != math.Float64bits(want) {
				t.Fatalf("slots %d, mask %x, tile %d of %d, of %d lines: slot %d is %v, want %v", slots, mask, i, g.N, g.Lines, s, got, want)
			}
		}
	}
	if !intact() {
		t.Fatalf("slots %d, mask %x, %d tiles of %d lines: wrote outside of y", slots, mask, g.N, g.Lines)
	}
	return doesDots
}

// A sum that is −0 stays so where a slot is left out, whatever is in its row.
func TestTilesNegativeZero(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		const slots, lines = 8, 2
		rng := rand.New(rand.NewPCG(17, 18))
		mask := []byte{0xbf}
		g, each := tilesOf(rng, dtype, slots, lines, 1, 0, mask)
		f := each[0]
		for col := range g.Cols() {
			for s := range slots {
				f.set(s, col, 0.25)
			}
		}
		copy(g.G, f.tile.G)
		c := make([]float64, slots)
		for i := range c {
			c[i] = math.Copysign(0, -1)
		}
		c[0] = -5e-324 // a quarter of it is −0
		p := make([]byte, 4*g.Cols())
		if done, _ := v.CombineTiles(new(kernel.Scratch), p, g, c, mask, nil, 0); !done {
			return
		}
		for i := range g.Cols() {
			if bits := binary.LittleEndian.Uint32(p[4*i:]); bits != 1<<31 {
				t.Fatalf("column %d is %x, want −0", i, bits)
			}
		}
	})
}

// What is not finite in a result is told of, wherever it is; and slots that are left out are another's.
func TestTilesNotFinite(t *testing.T) {
	forRows(t, func(t *testing.T, v *kernel.Variant, dtype kernel.DType) {
		rng := rand.New(rand.NewPCG(15, 16))
		w := new(kernel.Scratch)
		const slots, lines, n = 16, 3, 2
		cols := lines * dtype.LineCols()
		p := make([]byte, 4*n*cols)
		for i := range n * cols {
			for _, bad := range []float64{math.Inf(1), math.Inf(-1), nan} {
				g, each := tilesOf(rng, dtype, slots, lines, n, 0, full(slots))
				f := each[i/cols]
				f.set(rng.IntN(slots), i%cols, float32(bad))
				copy(g.G[i/cols*g.Stride:], f.tile.G)
				done, finite := v.CombineTiles(w, p, g, vector(rng, slots, true), full(slots), nil, 0)
				if done && finite {
					t.Fatalf("%v in column %d: finite", bad, i)
				}
				if !done && v.Name() == "avx512" {
					t.Fatal("says that it did not do combinations")
				}
			}
		}
		g, _ := tilesOf(rng, dtype, slots, lines, n, 0, full(slots))
		c := make([]float64, slots)
		c[3] = math.MaxFloat64 // past float32
		if done, finite := v.CombineTiles(w, p, g, c, full(slots), nil, 0); done && finite {
			t.Fatal("past float32: finite")
		}
		if done, _ := v.CombineTiles(w, p, g, c, []byte{0, 0}, nil, 0); done || v.DotsTiles(w, make([]float64, n*slots), g, p, []byte{0, 0}) {
			t.Fatal("no slots: says that it did it")
		}
	})
}
