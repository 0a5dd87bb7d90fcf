package main

import "mfac/shard"

// In assembly, with AVX-512: the sum of the numbers of n bytes, a multiple of 256, more than 0.

//go:noescape
func convertF32(p *byte, n int) float64

//go:noescape
func convertBF16(p *byte, n int) float64

//go:noescape
func convertF16(p *byte, n int) float64

// converts are the loops by dtype, for CPUs that have the kernel avx512.
var converts = map[shard.DType]func(p *byte, n int) float64{shard.F32: convertF32, shard.BF16: convertBF16, shard.F16: convertF16}
