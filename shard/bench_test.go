package shard_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// A pass over 256 MiB of rows, more than any cache. op=read, a plain loop over as much
// memory on one goroutine, is what the others are held against.
func BenchmarkPass(b *testing.B) {
	const size = 256 << 20
	memory := make([]float32, size/4)
	clear(memory)
	b.Run("op=read/kernel=go", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			sink += float64(read(memory))
		}
	})
	for _, m := range []int{16, 1025} {
		cols := int64(size / 4 / m)
		row := make([]byte, 4*cols)
		v := shard.Raw(row, shard.F32)
		mask := shard.FullMask(m)
		y, c := make([]float64, m), make([]float64, m)
		dst := make([]float64, cols)
		for _, variant := range kernel.Variants() {
			for _, threads := range []int{1, 2} {
				s, err := shard.New(shard.Config{Slots: m, Cols: cols, Threads: threads, Kernel: variant})
				must(b, err)
				for t := range m {
					must(b, s.Write(t, 0, row, shard.F32))
				}
				run := func(op string, f func() error) {
					b.Run(fmt.Sprintf("op=%s/kernel=%s/m=%d/threads=%d", op, variant.Name(), m, threads), func(b *testing.B) {
						b.SetBytes(4 * int64(m) * cols)
						b.ReportAllocs()
						for b.Loop() {
							must(b, f())
						}
					})
				}
				run("products", func() error { return s.Products(y, 0, mask) })
				run("dots", func() error { return s.Dots(y, []shard.Vector{v}, mask) })
				run("combine", func() error { return s.Combine(dst, c, mask, 0, cols) })
				run("solve", func() error { return s.Solve(dst, []shard.Vector{v}, c, mask, 1, 0, cols) })
				run("residual", func() error { return s.ResidualNorm2(y[:1], []shard.Vector{v}, c, mask) })
			}
		}
	}
}

// A pass over rows that are in the caches, where handing the work over counts. threads=pool is 2 of
// a pool, as a worker has them.
func BenchmarkShort(b *testing.B) {
	const m, cols = 16, 100_000
	workers := pool.Start(2)
	defer workers.Stop()
	row := make([]byte, 4*cols)
	v := []shard.Vector{shard.Raw(row, shard.F32)}
	mask := shard.FullMask(m)
	y, c := make([]float64, m), make([]float64, m)
	for _, t := range []struct {
		name string
		cfg  shard.Config
	}{{"1", shard.Config{Threads: 1}}, {"2", shard.Config{Threads: 2}}, {"pool", shard.Config{Pool: workers}}} {
		t.cfg.Slots, t.cfg.Cols = m, cols
		s, err := shard.New(t.cfg)
		must(b, err)
		for t := range m {
			must(b, s.Write(t, 0, row, shard.F32))
		}
		run := func(op string, f func() error) {
			b.Run(fmt.Sprintf("op=%s/threads=%s", op, t.name), func(b *testing.B) {
				b.SetBytes(4 * m * cols)
				for b.Loop() {
					must(b, f())
				}
			})
		}
		run("dots", func() error { return s.Dots(y, v, mask) })
		run("combine", func() error { _, err := s.CombineBytes(row, shard.F32, c, mask, 0, cols); return err })
	}
}

// What a chunk costs: op=copy is its bytes in one piece.
func BenchmarkChunk(b *testing.B) {
	const m, cols, n = 64, 1 << 20, 250_000
	s, err := shard.New(shard.Config{Slots: m, Cols: cols})
	must(b, err)
	x := make([]float64, n)
	for i := range x {
		x[i] = rand.NormFloat64()
	}
	chunk, _ := shard.Append(nil, x, shard.F32)
	chunk64, _ := shard.Append(nil, x, shard.F64)
	to := make([]byte, 8*n)
	run := func(op string, bytes int, f func(i int)) {
		b.Run("op="+op, func(b *testing.B) {
			b.SetBytes(int64(bytes))
			i := 0
			for b.Loop() {
				f(i)
				i++
			}
		})
	}
	run("copy", 4*n, func(int) { copy(to, chunk) })
	run("write", 4*n, func(i int) { must(b, s.Write(i%m, int64(i%4*n), chunk, shard.F32)) })
	run("readrow", 4*n, func(i int) { must(b, s.ReadRow(to[:4*n], i%m, int64(i%4*n))) })
	run("nonfinite32", 4*n, func(int) { sink += float64(shard.FirstNonFinite(chunk, shard.F32)) })
	run("nonfinite64", 8*n, func(int) { sink += float64(shard.FirstNonFinite(chunk64, shard.F64)) })
	run("append32", 4*n, func(int) { to, _ = shard.Append(to[:0], x, shard.F32) })
	run("append64", 8*n, func(int) { to, _ = shard.Append(to[:0], x, shard.F64) })
}

// The Gram matrix of a whole window, in products a second (as MB/s: a product is a byte).
func BenchmarkGram(b *testing.B) {
	const m, cols = 128, 1 << 16
	s, err := shard.New(shard.Config{Slots: m, Cols: cols, Threads: 1})
	must(b, err)
	slots := rand.Perm(m)
	dst := make([]float64, m*(m+1)/2)
	b.SetBytes(m * (m + 1) / 2 * cols)
	for b.Loop() {
		must(b, s.Gram(dst, slots, 0, m))
	}
}

var sink float64

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
