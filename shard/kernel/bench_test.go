package kernel_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"mfac/shard/kernel"
)

var sink float64

// read is what the passes are held against: a plain loop over the same memory.
func read(g []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for ; len(g) >= 16; g = g[16:] {
		q := (*[16]float32)(g)
		s0, s1, s2, s3 = s0+q[0], s1+q[1], s2+q[2], s3+q[3]
		s4, s5, s6, s7 = s4+q[4], s5+q[5], s6+q[6], s7+q[7]
		s0, s1, s2, s3 = s0+q[8], s1+q[9], s2+q[10], s3+q[11]
		s4, s5, s6, s7 = s4+q[12], s5+q[13], s6+q[14], s7+q[15]
	}
	return s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7
}

// The tiles together are larger than any cache, so that kernel=read is memory's bandwidth.
func BenchmarkTile(b *testing.B) {
	const lines, total = 64, 64 << 20 // floats: 256 MiB
	all := make([]float32, total)
	for i := range all {
		all[i] = float32(i%1000) / 1000
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, m := range []int{16, 256, 1024} {
		size := m * lines * 16
		mask := make([]byte, m/8)
		for i := range mask {
			mask[i] = 0xff
		}
		x, c := vector(rng, 8*lines*16, false), vector(rng, m, false)
		y, y8, r := make([]float64, m), make([]float64, 8*m), make([]float64, lines*16)
		run := func(op, name string, f func(g kernel.Tile)) {
			b.Run(fmt.Sprintf("op=%s/kernel=%s/m=%d/dtype=f32", op, name, m), func(b *testing.B) {
				b.SetBytes(4 * int64(total/size*size))
				for b.Loop() {
					for o := 0; o+size <= total; o += size {
						f(kernel.Tile{G: all[o : o+size], Slots: m, Lines: lines})
					}
				}
			})
		}
		run("read", "go", func(g kernel.Tile) { sink += float64(read(g.G)) })
		for _, v := range kernel.Variants() {
			run("dots/k=1", v.Name(), func(g kernel.Tile) { v.Dots(y, g, x[:lines*16], mask) })
			run("dots/k=8", v.Name(), func(g kernel.Tile) { v.Dots(y8, g, x, mask) })
			run("combine", v.Name(), func(g kernel.Tile) { v.Combine(r, g, 0, c, mask) })
		}
	}
}

// A row is written in lines that lie far apart; copy is the same bytes in one piece.
func BenchmarkPut(b *testing.B) {
	const lines, m, tiles = 64, 64, 1024
	const size = m * lines * 16
	all := make([]float32, tiles*size) // 256 MiB
	p := make([]byte, lines*64)
	all8 := make([]byte, 4*len(all))
	clear(all8) // no page faults below
	clear(all)
	b.Run("op=copy", func(b *testing.B) {
		b.SetBytes(tiles * lines * 64)
		o := 0
		for b.Loop() {
			for range tiles {
				o += copy(all8[o:], p)
			}
			o %= len(all8)
		}
	})
	for _, v := range kernel.Variants() {
		b.Run(fmt.Sprintf("op=put/kernel=%s/m=%d", v.Name(), m), func(b *testing.B) {
			b.SetBytes(tiles * lines * 64)
			slot := 0
			for b.Loop() {
				for t := range tiles {
					v.Put(kernel.Tile{G: all[t*size:][:size], Slots: m, Lines: lines}, slot, 0, p)
				}
				slot = (slot + 1) % m
			}
		})
	}
}
