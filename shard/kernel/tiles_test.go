package kernel_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"mfac/shard/kernel"
)

// tilesOf makes n tiles one after the other, gap bytes between them, and returns each by itself too.
func tilesOf(rng *rand.Rand, dtype kernel.DType, slots, lines, n, gap int) (g kernel.Tiles, each []fixture) {
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
		w := new(kernel.Scratch)
		lineCols := dtype.LineCols()
		for _, slots := range []int{8, 16, 24, 40} {
			for n := 1; n <= 4; n++ {
				for _, lines := range []int{1, 2, 7, 1024 / lineCols} {
					g, each := tilesOf(rng, dtype, slots, lines, n, rng.IntN(2)*64)
					mask, cols := full(slots), lines*lineCols
					c := vector(rng, slots, n%2 == 0)

					p := append(make([]byte, 1+4*n*cols), 0xaa, 0xaa) // at an odd address
					done, finite := v.CombineTiles(w, p[1:1+4*n*cols], g, c, mask)
					if want := v.Name() != "generic" && (v.Name() == "avx512" || dtype == kernel.F32); done != want {
						t.Fatalf("slots %d: combine says that it did it: %v, want %v", slots, done, want)
					}
					if done && !finite {
						t.Fatalf("slots %d, %d tiles of %d lines: not finite", slots, n, lines)
					}
					for i := 0; done && i < n*cols; i++ {
						got := math.Float32frombits(binary.LittleEndian.Uint32(p[1+4*i:]))
						if want := float32(wantCombine(each[i/cols], c, i%cols)); math.Float32bits(got) != math.Float32bits(want) {
							t.Fatalf("slots %d, %d tiles of %d lines: column %d is %v, want %v", slots, n, lines, i, got, want)
						}
					}
					if p[0] != 0 || p[len(p)-2] != 0xaa || p[len(p)-1] != 0xaa {
						t.Fatalf("slots %d, %d tiles of %d lines: wrote outside of p", slots, n, lines)
					}

					x := make([]byte, 1+4*n*cols)
					for i := range n * cols {
						binary.LittleEndian.PutUint32(x[1+4*i:], math.Float32bits(float32(rng.NormFloat64())))
					}
					y, intact := between[float64](n * slots)
					done = v.DotsTiles(w, y, g, x[1:], mask)
					if want := v.Name() == "avx512"; done != want {
						t.Fatalf("slots %d: dots says that it did it: %v, want %v", slots, done, want)
					}
					alone, x64 := make([]float64, slots), make([]float64, cols)
					for i, f := range each {
						v.Expand(x64, x[1+4*i*cols:][:4*cols], kernel.F32)
						v.Dots(w, alone, f.tile, x64, mask)
						for s, want := range alone {
							if got := y[i*slots+s]; done && !same(got, want) {
								t.Fatalf("slots %d, tile %d of %d, of %d lines: slot %d is %v, want %v", slots, i, n, lines, s, got, want)
							}
						}
					}
					if !intact() {
						t.Fatalf("slots %d, %d tiles of %d lines: wrote outside of y", slots, n, lines)
					}
				}
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
				g, each := tilesOf(rng, dtype, slots, lines, n, 0)
				f := each[i/cols]
				f.set(rng.IntN(slots), i%cols, float32(bad))
				copy(g.G[i/cols*g.Stride:], f.tile.G)
				if done, finite := v.CombineTiles(w, p, g, vector(rng, slots, true), full(slots)); done && finite {
					t.Fatalf("%v in column %d: finite", bad, i)
				}
			}
		}
		g, _ := tilesOf(rng, dtype, slots, lines, n, 0)
		c := make([]float64, slots)
		c[3] = math.MaxFloat64 // past float32
		if done, finite := v.CombineTiles(w, p, g, c, full(slots)); done && finite {
			t.Fatal("past float32: finite")
		}
		for _, mask := range [][]byte{{0xff, 0x7f}, {0, 0xff}, {0, 0}} {
			done, _ := v.CombineTiles(w, p, g, c, mask)
			if done || v.DotsTiles(w, make([]float64, n*slots), g, p, mask) {
				t.Fatalf("mask %x: says that it did it", mask)
			}
		}
	})
}
