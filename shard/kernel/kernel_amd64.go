package kernel

import "golang.org/x/sys/cpu"

//go:generate go run -C _gen . dots -out ../dots_amd64.s -stubs ../dots_amd64.go -pkg kernel
//go:generate go run -C _gen . combine -out ../combine_amd64.s -stubs ../combine_amd64.go -pkg kernel
//go:generate go run -C _gen . many -out ../many_amd64.s -stubs ../many_amd64.go -pkg kernel
//go:generate go run -C _gen . rows -out ../rows_amd64.s -stubs ../rows_amd64.go -pkg kernel
//go:generate go run -C _gen . solve -out ../solve_amd64.s -stubs ../solve_amd64.go -pkg kernel
//go:generate go run -C _gen . tiles -out ../tiles_amd64.s -stubs ../tiles_amd64.go -pkg kernel

var avx2 = Variant{
	name:         "avx2",
	dots:         [3]func(*float64, *byte, *int, int, int, *float64, int, int){dotsF32AVX2, dotsBF16AVX2, dotsF16AVX2},
	combine:      [3]func(*float64, *byte, *int, int, int, *float64, int, int, int){combineF32AVX2, combineBF16AVX2, combineF16AVX2},
	combineMany:  [3]func(*float64, int, *byte, int, int, *float64, int, int){combineManyF32AVX2, combineManyBF16AVX2, combineManyF16AVX2},
	mostCombine:  6,
	combineTiles: [3]func(*byte, *float64, *byte, int, int, *int, int, *float64, *int16, int, int, *byte, float64) bool{F32: combineTilesF32AVX2},
	expand:       [dtypes]func(*float64, *byte, int, int){expandF32AVX2, expandBF16AVX2, expandF16AVX2, expandF64AVX2},
	put:          putAVX2,
	toBF16:       toBF16AVX2,
	toF16:        toF16AVX2,
	flush:        flushAMD64,
	top:          topAVX2,
	many: &many{
		least: 3, halves: 2, width: 4, p: 3, q: 4,
		pack:  [3]func(*float64, int, int, *byte, int, int){packF32AVX2, packBF16AVX2, packF16AVX2},
		packX: packF64AVX2,
		dots:  manyAVX2,
		fetch: fetchAMD64,
	},
	dot:     dotAVX2,
	finish:  finishAVX2,
	round:   [dtypes]func(*byte, *float64, int) bool{F32: roundAVX2, BF16: roundBF16AVX2, F16: roundF16AVX2},
	narrow:  [dtypes]func(*byte, *float32, int){BF16: narrowBF16AVX2, F16: narrowF16AVX2},
	widen:   [dtypes]func(*float32, *byte, int){BF16: widenBF16AVX2, F16: widenF16AVX2},
	solve:   solveAVX2,
	squares: squaresAVX2,
}

// avx512 has its own of what computes; to rows and results memory is the limit.
var avx512 = Variant{
	name:      "avx512",
	dots:      [3]func(*float64, *byte, *int, int, int, *float64, int, int){dotsF32AVX512, dotsBF16AVX512, dotsF16AVX512},
	combine:   [3]func(*float64, *byte, *int, int, int, *float64, int, int, int){combineF32AVX512, combineBF16AVX512, combineF16AVX512},
	dotsAhead: farAhead, combineAhead: farAhead,
	combineMany:  [3]func(*float64, int, *byte, int, int, *float64, int, int){combineManyF32AVX512, combineManyBF16AVX512, combineManyF16AVX512},
	mostCombine:  8,
	combineTiles: [3]func(*byte, *float64, *byte, int, int, *int, int, *float64, *int16, int, int, *byte, float64) bool{combineTilesF32AVX512, combineTilesBF16AVX512, combineTilesF16AVX512},
	dotsTiles:    [3]func(*float64, *float64, *byte, int, int, *int, int, *int16, *byte, int, int){dotsTilesF32AVX512, dotsTilesBF16AVX512, dotsTilesF16AVX512},
	anyPanel:     true,
	expand:       avx2.expand,
	put:          putAVX2,
	toBF16:       toBF16AVX2,
	toF16:        toF16AVX2,
	flush:        flushAMD64,
	top:          topAVX2,
	many: &many{
		least: 4, halves: 1, width: 8, p: 4, q: 6,
		pack:  [3]func(*float64, int, int, *byte, int, int){packF32AVX512, packBF16AVX512, packF16AVX512},
		packX: packF64AVX512,
		dots:  manyAVX512,
		fetch: fetchAMD64,
	},
	dot:     dotAVX2,
	finish:  finishAVX2,
	round:   [dtypes]func(*byte, *float64, int) bool{F32: roundAVX512, BF16: roundBF16AVX2, F16: roundF16AVX2},
	narrow:  avx2.narrow,
	widen:   avx2.widen,
	solve:   solveAVX512,
	squares: squaresAVX2,
}

// tuned is AVX2 as it reads memory best, which the CPU decides more than the code does: where AVX-512 is
// there too, as one stream with lines asked for far ahead; where it isn't, in four streams, or asking
// for lines a block or two ahead. docs/kernels.md says what was measured.
func tuned(v Variant, far bool) Variant {
	if far {
		v.dotsAhead, v.combineAhead = farAhead, farAhead
		return v
	}
	v.dotsAhead = [3]int{F32: 2 << 10, BF16: 4 << 10, F16: 4 << 10}
	v.combineAhead = [3]int{F32: 1 << 10, BF16: 3 << 10, F16: 3 << 10}
	v.combineFull[F32] = combineFullF32AVX2
	return v
}

// farAhead is how many bytes far ahead is.
var farAhead = [3]int{F32: 8 << 10, BF16: 12 << 10, F16: 12 << 10}

func init() {
	if !(cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C) {
		return
	}
	avx2 = tuned(avx2, cpu.X86.HasAVX512F)
	variants = append(variants, &avx2)
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512BW {
		variants = append(variants, &avx512)
	}
}
