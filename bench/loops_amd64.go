package main

import "golang.org/x/sys/cpu"

// In assembly: n is a multiple of 64, p aligned to 64.

//go:noescape
func readAVX2(p *byte, n int) uint64

// readAVX2x4 reads four quarters side by side; n is a multiple of 256.
//
//go:noescape
func readAVX2x4(p *byte, n int) uint64

//go:noescape
func readAVX512(p *byte, n int) uint64

// copyAVX and copyAVX512 copy n bytes with stores that leave the caches alone. src may lie anywhere.
//
//go:noescape
func copyAVX(dst, src *byte, n int)

//go:noescape
func copyAVX512(dst, src *byte, n int)

// fillAVX2 writes n bytes of ones; n is a multiple of 64, at least 64.
//
//go:noescape
func fillAVX2(p *byte, n int)

// fill writes p, whose length is a multiple of 64.
func fill(p []byte) {
	if cpu.X86.HasAVX2 && len(p) > 0 {
		fillAVX2(&p[0], len(p))
		return
	}
	clear(p)
}

func vectorLoops() []loop {
	var out []loop
	if cpu.X86.HasAVX2 {
		out = append(out,
			loop{"AVX2", func(p []byte) uint64 { return readAVX2(&p[0], len(p)&^63) }},
			loop{"AVX2, four streams", func(p []byte) uint64 { return readAVX2x4(&p[0], len(p)&^255) }},
		)
	}
	if cpu.X86.HasAVX512F {
		out = append(out, loop{"AVX-512", func(p []byte) uint64 { return readAVX512(&p[0], len(p)&^63) }})
	}
	return out
}

// streamCopies are copies that leave the caches alone; "" names none.
func streamCopies() []copier {
	var out []copier
	if cpu.X86.HasAVX {
		out = append(out, copier{"AVX", func(dst, src []byte) { copyAVX(&dst[0], &src[0], len(dst)&^63) }})
	}
	if cpu.X86.HasAVX512F {
		out = append(out, copier{"AVX-512", func(dst, src []byte) { copyAVX512(&dst[0], &src[0], len(dst)&^63) }})
	}
	return out
}
