package kernel

import "golang.org/x/sys/cpu"

// Otherwise is AVX2 as CPUs of the other kind run it, or nil.
func Otherwise() *Variant {
	if !cpu.X86.HasAVX2 {
		return nil
	}
	v := avx2
	v.combineFull = [3]func(*float64, *byte, int, int, *float64, int, int){}
	v = tuned(v, !cpu.X86.HasAVX512F)
	v.name = "avx2-otherwise"
	return &v
}
