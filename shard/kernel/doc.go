// Package kernel computes with one column tile of a shard's rows, on the calling
// goroutine. It knows neither shards nor threads; package shard walks over the tiles.
//
// A tile of S slots and L lines is S·L·64 contiguous bytes. A line is 64 bytes of one slot:
// 16 columns in float32, 32 in bfloat16 or float16. Eight slots make a panel, and a panel has
// one line of each of its slots in turn, then the next line of each. The last panel has the
// h = S mod 8 slots that are left, if any, and lines of h slots in turn:
//
//	tile  = panel of slots 0-7 | panel of slots 8-15 | … | panel of the last h slots
//	panel = s0 s1 s2 … s7 | s0 s1 s2 … s7 | … L times
//	        cols 0-15       cols 16-31           (float32)
//	s0    = 64 bytes of slot 0
//
// So a pass over all slots reads one stream from end to end.
//
// All arithmetic is in float64 and in one order, so that every variant gives the same bits
// (NaN for NaN, whatever its payload):
//
//	dot   lane[j mod 8] = fma(g_j, x_j, lane[j mod 8]) for the columns j in order, from +0;
//	      then ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7))
//	Σ c g r = fma(c_t, g_t, r) for the slots t of the mask in order, from +0
//
// A row of float16 is kept times a power of two, which is one for all its columns in a tile:
// there g_j is what is kept, a dot is divided by the power of two at its end, and c_t before it
// is used. Both are exact where nothing underflows or overflows float64.
//
// A product of two float32 is exact in float64: where x holds float32 values, multiply and
// add is the same as fma. Slots outside the mask are not read: another goroutine may be
// writing them. To leave a slot out is to give it the coefficient 0, bit for bit, as long
// as no c_t g_t underflows: fma(0, g, r) = r for finite g unless r = −0, and from +0 on
// a sum is −0 only after a product that rounded to −0.
//
// Lengths are checked once a call, with a panic; nothing is checked inside.
//
// The variants are plain Go, whose name is generic and which is the meaning of the others, and
// assembly for AVX2 and AVX-512, which _gen writes: go generate runs it, docs/kernels.md explains
// it.
package kernel
