package kernel_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"mfac/shard/kernel"
)

var sink uint64

// read is what the passes are held against: a plain loop over the same memory.
func read(p []byte) (sum uint64) {
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&p[0])), len(p)/8)
	var a, b, c, d uint64
	for ; len(words) >= 8; words = words[8:] {
		q := (*[8]uint64)(words)
		a, b, c, d = a+q[0]+q[4], b+q[1]+q[5], c+q[2]+q[6], d+q[3]+q[7]
	}
	return a + b + c + d
}

// BenchmarkTile goes over tiles of 1,024 columns that together are larger than any cache, so that
// kernel=read is memory's bandwidth.
func BenchmarkTile(b *testing.B) {
	const total, cols = 256 << 20, 1024
	all := aligned(total)
	for i := range all {
		all[i] = byte(i) & 0x3f // small positive numbers in every dtype
	}
	b.Run("op=read/kernel=go", func(b *testing.B) {
		b.SetBytes(total)
		for b.Loop() {
			sink += read(all)
		}
	})
	rng := rand.New(rand.NewPCG(1, 1))
	var w kernel.Scratch
	for _, dtype := range rowTypes {
		for _, m := range []int{16, 256, 1024} {
			lines := cols / dtype.LineCols()
			size := m * lines * 64
			mask := make([]byte, m/8)
			for i := range mask {
				mask[i] = 0xff
			}
			exp := make([]int16, m)
			x, c := vector(rng, 16*cols, false), vector(rng, 16*m, false)
			y, r := make([]float64, 16*m), make([]float64, 16*cols)
			for _, v := range kernel.Variants() {
				run := func(op string, tiles int, f func(g kernel.Tile)) {
					b.Run(fmt.Sprintf("op=%s/kernel=%s/m=%d/dtype=%s", op, v.Name(), m, dtype), func(b *testing.B) {
						b.SetBytes(int64(tiles * size))
						for b.Loop() {
							for i := range tiles {
								g := kernel.Tile{G: all[i*size:][:size], DType: dtype, Slots: m, Lines: lines}
								if dtype == kernel.F16 {
									g.Exp = exp
								}
								f(g)
							}
						}
					})
				}
				run("dots", total/size, func(g kernel.Tile) { v.Dots(&w, y[:m], g, x[:cols], mask) })
				run("combine", total/size, func(g kernel.Tile) { v.Combine(&w, r[:cols], g, 0, c[:m], mask) })
				run("dots16", max(1, total/size/16), func(g kernel.Tile) { v.Dots(&w, y, g, x, mask) })
				run("combine16", max(1, total/size/16), func(g kernel.Tile) { v.Combine(&w, r, g, 0, c, mask) })
			}
		}
	}
}

// BenchmarkFlops is what is limited by arithmetic, in products a second (as MB/s: a product is a
// byte), in cache.
func BenchmarkFlops(b *testing.B) {
	const cols, m = 1024, 256
	rng := rand.New(rand.NewPCG(1, 1))
	var w kernel.Scratch
	f := newFixture(rng, kernel.F32, m, cols/16, 0)
	slots := rng.Perm(m)
	y, l, n := make([]float64, m*(m+1)/2), vector(rng, m*m, false), vector(rng, 64*m, false)
	for i := range m {
		l[i*m+i] = 4 * m
	}
	for _, v := range kernel.Variants() {
		b.Run("op=gram/kernel="+v.Name(), func(b *testing.B) {
			b.SetBytes(m * (m + 1) / 2 * cols)
			for b.Loop() {
				for i := 0; i < m; i += 64 {
					v.Gram(&w, y[i*(i+1)/2:(i+64)*(i+65)/2], f.tile, slots, i, i+64)
				}
			}
		})
		b.Run("op=solve/kernel="+v.Name(), func(b *testing.B) {
			b.SetBytes(m * (m + 1) / 2 * 64)
			for b.Loop() {
				v.Solve(n, l, m, 64)
			}
		})
	}
}

// BenchmarkPut writes rows, in lines that lie far apart, a line after each tile; op=copy is the same
// bytes in one piece.
func BenchmarkPut(b *testing.B) {
	const cols, m, tiles = 1024, 64, 1024
	all := aligned(tiles * (m*cols*4 + 64)) // 256 MiB
	clear(all)
	p := make([]byte, kernel.MostTiles*4*cols)
	b.Run("op=copy/kernel=go", func(b *testing.B) {
		b.SetBytes(tiles * 4 * cols)
		o := 0
		for b.Loop() {
			for range tiles {
				o += copy(all[o:], p[:4*cols])
			}
			o %= len(all) / (4 * cols) * (4 * cols)
		}
	})
	var w kernel.Scratch
	for _, dtype := range rowTypes {
		lines := cols / dtype.LineCols()
		size := m * lines * 64
		exp := make([]int16, m)
		for _, v := range kernel.Variants() {
			b.Run(fmt.Sprintf("op=put/kernel=%s/dtype=%s", v.Name(), dtype), func(b *testing.B) {
				b.SetBytes(tiles * 4 * cols)
				slot := 0
				var g [kernel.MostTiles]kernel.Tile
				for b.Loop() {
					for t := 0; t < tiles; t += len(g) {
						for i := range g {
							g[i] = kernel.Tile{G: all[(t+i)*(size+64):][:size], DType: dtype, Slots: m, Lines: lines}
							if dtype == kernel.F16 {
								g[i].Exp = exp
							}
						}
						v.PutTiles(&w, g[:], slot, p, kernel.F32)
					}
					slot = (slot + 1) % m
				}
			})
		}
	}
}

// BenchmarkNear is one panel from the first cache, where memory is no limit: from=tile by the kernels
// for tiles together, of which there is one.
func BenchmarkNear(b *testing.B) {
	const slots, cols = 8, 512
	rng := rand.New(rand.NewPCG(1, 1))
	var w kernel.Scratch
	mask := []byte{0xff}
	for _, dtype := range rowTypes {
		lines := cols / dtype.LineCols()
		size := slots * lines * 64
		g := kernel.Tile{G: aligned(size), DType: dtype, Slots: slots, Lines: lines}
		if dtype == kernel.F16 {
			g.Exp = make([]int16, slots)
		}
		for i := range g.G {
			g.G[i] = byte(i) & 0x3f
		}
		all := kernel.Tiles{G: g.G, Exp: g.Exp, DType: dtype, Slots: slots, Lines: lines, N: 1, Stride: size}
		c, x64, y, r := vector(rng, slots, false), vector(rng, cols, false), make([]float64, slots), make([]float64, cols)
		x, p := make([]byte, 4*cols), make([]byte, 4*cols)
		for _, v := range kernel.Variants() {
			run := func(op, from string, f func()) {
				b.Run(fmt.Sprintf("op=%s/from=%s/kernel=%s/dtype=%s", op, from, v.Name(), dtype), func(b *testing.B) {
					b.SetBytes(int64(size))
					for b.Loop() {
						f()
					}
				})
			}
			run("dots", "panel", func() { v.Dots(&w, y, g, x64, mask) })
			run("combine", "panel", func() { v.Combine(&w, r, g, 0, c, mask) })
			if done := v.DotsTiles(&w, y, all, x, mask); done {
				run("dots", "tile", func() { v.DotsTiles(&w, y, all, x, mask) })
			}
			if done, _ := v.CombineTiles(&w, p, all, c, mask, nil, 0); done {
				run("combine", "tile", func() { v.CombineTiles(&w, p, all, c, mask, nil, 0) })
			}
		}
	}
}
