package shard_test

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"mfac/shard"
)

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		cfg   shard.Config
		bytes int64
		err   string
	}{
		{cfg: shard.Config{Slots: 1, Cols: 1}, bytes: 64},
		{cfg: shard.Config{Slots: 9, Cols: 1024, Threads: 3}, bytes: 9 * 4096},
		{cfg: shard.Config{Slots: 1025, Cols: 1_000_000}, bytes: 1025*4_000_000 + 976*64},
		{cfg: shard.Config{Slots: 33, Cols: 1025}, bytes: 33*1040*4 + 64},
		{cfg: shard.Config{Slots: 3, Cols: 1025}, bytes: 3 * 1040 * 4},
		{cfg: shard.Config{Slots: 33, Cols: 2049, DType: shard.F16}, bytes: 3*128 + 33*(2048+32)*2 + 2*64},
		{cfg: shard.Config{Slots: 32, Cols: 2049, DType: shard.F16}, bytes: 3*64 + 32*(2048+32)*2},
		{cfg: shard.Config{Cols: 1}, err: "slots is 0, must be 1 to 1048576"},
		{cfg: shard.Config{Slots: 1<<20 + 1, Cols: 1}, err: "slots is 1048577, must be 1 to 1048576"},
		{cfg: shard.Config{Slots: 1}, err: "columns is 0, must be ≥ 1"},
		{cfg: shard.Config{Slots: 1, Cols: -1}, err: "columns is -1, must be ≥ 1"},
		{cfg: shard.Config{Slots: 1, Cols: 1, Threads: -1}, err: "threads is -1, must be 0 to 1024"},
		{cfg: shard.Config{Slots: 1, Cols: 1, Threads: 1025}, err: "threads is 1025, must be 0 to 1024"},
		{
			cfg: shard.Config{Slots: 1, Cols: math.MaxInt64},
			err: "columns is 9223372036854775807, must be ≤ 17592186044416 with 1 slots, for at most 70368744177664 bytes",
		},
		{
			cfg: shard.Config{Slots: 1 << 20, Cols: 1<<24 - 1023},
			err: "columns is 16776193, must be ≤ 16776192 with 1048576 slots, for at most 70368744177664 bytes",
		},
		{cfg: shard.Config{Slots: 1 << 20, Cols: 1<<24 - 1024}, bytes: 1<<46 - 1<<32 + 16382*64},
	} {
		n, err := shard.Bytes(c.cfg)
		if got := text(err); n != c.bytes || got != c.err {
			t.Errorf("%+v: %d, %q, want %d, %q", c.cfg, n, got, c.bytes, c.err)
		}
		if c.err != "" {
			if _, err := shard.New(c.cfg); text(err) != c.err {
				t.Errorf("%+v: New says %v", c.cfg, err)
			}
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	if e := new(shard.Error); !errors.As(err, &e) {
		return "not an *Error: " + err.Error()
	}
	return err.Error()
}

// The rows take no more than 1.02 of slots × columns × 4 where a shard is worth counting.
func TestBytesLimit(t *testing.T) {
	for slots := 1; slots <= 40; slots++ {
		for cols := int64(1000); cols < 1100; cols++ {
			n, err := shard.Bytes(shard.Config{Slots: slots, Cols: cols})
			must(t, err)
			if limit := 1.02 * float64(4*int64(slots)*cols); float64(n) > limit {
				t.Fatalf("%d slots, %d columns: %d bytes, more than %v", slots, cols, n, limit)
			}
		}
	}
}

// alignedBytes returns n bytes of 0xff, NaN as float32, skip bytes past a line.
func alignedBytes(n, skip int) []byte {
	p := make([]byte, n+128)
	for i := range p {
		p[i] = 0xff
	}
	off := int(-uintptr(unsafe.Pointer(&p[0]))&63) + skip
	return p[off:][:n]
}

func TestRegion(t *testing.T) {
	cfg := shard.Config{Slots: 10, Cols: 1027}
	n, err := shard.Bytes(cfg)
	must(t, err)

	for _, c := range []struct {
		region []byte
		err    string
	}{
		{region: alignedBytes(int(n)-1, 0), err: "region is 41663 bytes, must be 41664 bytes"},
		{region: alignedBytes(int(n)+1, 0), err: "region is 41665 bytes, must be 41664 bytes"},
		{region: []byte{}, err: "region is 0 bytes, must be 41664 bytes"},
	} {
		cfg.Region = c.region
		if _, err := shard.New(cfg); text(err) != c.err {
			t.Errorf("%v, want %s", err, c.err)
		}
	}
	cfg.Region = alignedBytes(int(n), 4)
	var e *shard.Error
	if _, err := shard.New(cfg); !errors.As(err, &e) || e.Limit != "aligned to 64" {
		t.Errorf("not aligned: %v", err)
	}

	// The region's NaN are the rows, but past the last column they are none of them.
	cfg.Region = alignedBytes(int(n), 0)
	s := newStore(t, cfg)
	p := make([]byte, 4*cfg.Cols)
	must(t, s.ReadRow(p, 9, 0))
	if slices.ContainsFunc(p, func(b byte) bool { return b != 0xff }) {
		t.Error("the region's rows were not taken over")
	}
	clear(p)
	binary.LittleEndian.PutUint32(p[4*1026:], math.Float32bits(3))
	must(t, s.Write(4, 0, p, shard.F32))
	y := make([]float64, 10)
	must(t, s.Products(y, 4, shard.MaskOf(10, 4)))
	same(t, "product", y, []float64{4: 9, 9: 0})

	again := newStore(t, cfg)
	must(t, again.Products(y, 4, shard.MaskOf(10, 4)))
	same(t, "product after New on the same region", y, []float64{4: 9, 9: 0})
}

func TestOutOfRange(t *testing.T) {
	s := newStore(t, shard.Config{Slots: 10, Cols: 100})
	p := func(n int) []byte { return make([]byte, n) }
	f := func(n int) []float64 { return make([]float64, n) }
	x := shard.Zeros(100)
	all := shard.FullMask(10)
	norm := func(_ float64, err error) error { return err }
	for _, c := range []struct {
		want string
		err  error
	}{
		{"slot is -1, must be 0 to 9", s.Write(-1, 0, nil, shard.F32)},
		{"slot is 10, must be 0 to 9", s.Zero(10)},
		{"slot is 10, must be 0 to 9", s.ReadRow(nil, 10, 0)},
		{"slot is 10, must be 0 to 9", s.Products(f(10), 10, all)},
		{"slot is 10, must be 0 to 9", s.Gram(nil, []int{10}, 0, 0)},
		{"first column is -1, must be 0 to 100", s.Write(0, -1, nil, shard.F32)},
		{"first column is 101, must be 0 to 100", s.Write(0, 101, nil, shard.F32)},
		{"first column is 9223372036854775807, must be 0 to 100", s.ReadRow(p(8), 0, math.MaxInt64)},
		{"number of columns is 2, must be ≤ 1 from column 99", s.Write(0, 99, p(8), shard.F32)},
		{"number of bytes is 3, must be a multiple of 4", s.Write(0, 0, p(3), shard.F32)},
		{"mask is 1 bytes, must be 2 bytes for 10 slots", s.Products(f(10), 0, all[:1])},
		{"mask is 0 bytes, must be 2 bytes for 10 slots", s.Dots(f(10), []shard.Vector{x}, nil)},
		{"mask is 0x04 in its last byte, must be < 0x04 for 10 slots", s.Dots(f(10), []shard.Vector{x}, shard.Mask{0, 4})},
		{"length of dst is 9, must be 10", s.Products(f(9), 0, all)},
		{"length of dst is 10, must be 20", s.Dots(f(10), []shard.Vector{x, x}, all)},
		{"x[1] is 99 columns, must be 100 columns", s.Dots(f(20), []shard.Vector{x, shard.Float32s(make([]float32, 99))}, all)},
		{"vector[0] is 0 columns, must be 100 columns", norm(s.Norm2(shard.Vector{}))},
		{"vector[1] is 101 columns, must be 100 columns", norm(s.Dot(x, shard.Raw(p(808), shard.F64)))},
		{"i1 is 3, must be 0 to 2", s.Gram(nil, []int{0, 1}, 0, 3)},
		{"i0 is 2, must be 0 to 1", s.Gram(nil, []int{0, 1}, 2, 1)},
		{"length of dst is 1, must be 2", s.Gram(f(1), []int{0, 1}, 1, 2)},
		{"length of c is 0, must be a positive multiple of 10", s.Combine(nil, nil, all, 0, 0)},
		{"length of c is 11, must be a positive multiple of 10", s.Combine(nil, f(11), all, 0, 0)},
		{"length of dst is 3, must be 4", s.Combine(f(3), f(20), all, 98, 100)},
		{"first column is 3, must be ≤ 2, the end", s.Combine(nil, f(10), all, 3, 2)},
		{"first column is -9223372036854775808, must be 0 to 100", s.Combine(nil, f(10), all, math.MinInt64, math.MaxInt64)},
		{"number of columns is 101, must be ≤ 100 from column 0", s.Combine(nil, f(10), all, 0, 101)},
		{"lambda is 0, must be > 0 and finite", s.Solve(f(1), []shard.Vector{x}, f(10), all, 0, 0, 1)},
		{"lambda is NaN, must be > 0 and finite", s.Solve(f(1), []shard.Vector{x}, f(10), all, math.NaN(), 0, 1)},
		{"lambda is +Inf, must be > 0 and finite", s.Solve(f(1), []shard.Vector{x}, f(10), all, math.Inf(1), 0, 1)},
		{"length of v is 1, must be 2", s.Solve(f(2), []shard.Vector{x}, f(20), all, 1, 0, 1)},
		{"length of v is 2, must be 1", s.ResidualNorm2(f(1), []shard.Vector{x, x}, f(10), all)},
		{"v[0] is 5 columns, must be 100 columns", s.ResidualNorm2(f(1), []shard.Vector{shard.Zeros(5)}, f(10), all)},
		{"length of dst is 2, must be 1", s.ResidualNorm2(f(2), []shard.Vector{x}, f(10), all)},
	} {
		if got := text(c.err); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	must(t, s.Write(0, 100, nil, shard.F32))
	must(t, s.Dots(nil, nil, all))
	must(t, s.Gram(nil, nil, 0, 0))
	must(t, s.Combine(nil, f(10), all, 100, 100))
}

// A row is what was written to it, whatever the pieces and their order.
func TestWriteInPieces(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots, cols := shape(rt)
		rng := rngOf(rt)
		s := newStore(t, shard.Config{Slots: slots, Cols: int64(cols)})
		slot := rng.IntN(slots)
		row := make([]byte, 4*cols)
		for i := range row {
			row[i] = byte(rng.Uint32())
		}
		cuts := []int{0, cols}
		for range rng.IntN(20) {
			cuts = append(cuts, rng.IntN(cols+1))
		}
		slices.Sort(cuts)
		for _, i := range rng.Perm(len(cuts) - 1) {
			must(t, s.Write(slot, int64(cuts[i]), row[4*cuts[i]:4*cuts[i+1]], shard.F32))
		}
		lo := rng.IntN(cols + 1)
		got := make([]byte, 4*rng.IntN(cols-lo+1))
		must(t, s.ReadRow(got, slot, int64(lo)))
		if !slices.Equal(got, row[4*lo:][:len(got)]) {
			t.Fatalf("slot %d of %d, columns from %d of %d: not what was written", slot, slots, lo, cols)
		}
		all := make([]byte, 4*cols)
		for other := range slots {
			must(t, s.ReadRow(all, other, 0))
			if other != slot && slices.ContainsFunc(all, func(b byte) bool { return b != 0 }) {
				t.Fatalf("writing slot %d changed slot %d", slot, other)
			}
		}
		must(t, s.Zero(slot))
		must(t, s.ReadRow(all, slot, 0))
		if slices.ContainsFunc(all, func(b byte) bool { return b != 0 }) {
			t.Fatalf("slot %d is not zero", slot)
		}
	})
}

// A pass does not touch slots outside its mask: with -race this fails where it does.
func TestStagingBesidePasses(t *testing.T) {
	const slots, cols, staged = 11, 20_000, 9
	rng := rand.New(rand.NewPCG(5, 6))
	w := newWindow(t, rng, shard.F32, slots, cols)
	s := w.like(t, shard.Config{Threads: 2})
	for t := range slots {
		w.mask.Set(t)
	}
	w.mask.Clear(staged)
	w.mask.Clear(2)
	x, _ := vector(rng, 0, cols)
	c, v := make([]float64, slots), []shard.Vector{x}
	dst, y, one := make([]float64, cols), make([]float64, slots), make([]float64, 1)
	p := make([]byte, 4*cols)

	var wg sync.WaitGroup
	defer wg.Wait()
	for _, slot := range []int{staged, 2} {
		wg.Go(func() {
			for lo := 0; lo+100 <= cols; lo += 100 {
				if err := s.Write(slot, int64(lo), p[4*lo:4*(lo+100)], shard.F32); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() { // two passes may run at once, too
		if err := s.Products(make([]float64, slots), 1, w.mask); err != nil {
			t.Error(err)
		}
	})
	must(t, s.Dots(y, v, w.mask))
	must(t, s.Products(y, 0, w.mask))
	must(t, s.Gram(make([]float64, 6), []int{0, 1, 10}, 0, 3))
	must(t, s.Combine(dst, c, w.mask, 0, cols))
	must(t, s.Solve(dst, v, c, w.mask, 1, 0, cols))
	must(t, s.ResidualNorm2(one, v, c, w.mask))
}

// FuzzRow writes and reads at any offset and length: errors, but no panic, and no byte
// elsewhere.
func FuzzRow(f *testing.F) {
	f.Add(uint16(3), uint16(1030), 1, int64(1020), []byte{0, 0, 0x80, 0x7f, 1, 2, 3, 4})
	f.Add(uint16(8), uint16(16), 0, int64(0), []byte{})
	f.Add(uint16(9), uint16(5), 8, int64(math.MaxInt64), []byte{1, 2, 3, 4})
	f.Add(uint16(1), uint16(1), -1, int64(-1), []byte{1})
	f.Fuzz(func(t *testing.T, slots, cols uint16, slot int, lo int64, p []byte) {
		cfg := shard.Config{Slots: int(slots%64) + 1, Cols: int64(cols%5000) + 1}
		s := newStore(t, cfg)
		fits := slot >= 0 && slot < cfg.Slots && len(p)%4 == 0 &&
			lo >= 0 && lo <= cfg.Cols && int64(len(p)/4) <= cfg.Cols-lo
		if err := s.Write(slot, lo, p, shard.F32); (err == nil) != fits {
			t.Fatalf("slot %d, column %d, %d bytes in %+v: %v", slot, lo, len(p), cfg, err)
		}
		back := make([]byte, len(p))
		if err := s.ReadRow(back, slot, lo); (err == nil) != fits {
			t.Fatalf("slot %d, column %d, %d bytes of %+v: %v", slot, lo, len(p), cfg, err)
		}
		if fits && !slices.Equal(back, p) {
			t.Fatalf("read %x, wrote %x", back, p)
		}
		all := make([]byte, 4*cfg.Cols)
		for other := range cfg.Slots {
			must(t, s.ReadRow(all, other, 0))
			if fits && other == slot {
				clear(all[4*lo:][:len(p)])
			}
			if slices.ContainsFunc(all, func(b byte) bool { return b != 0 }) {
				t.Fatalf("slot %d changed beside slot %d, column %d, %d bytes", other, slot, lo, len(p))
			}
		}
	})
}
