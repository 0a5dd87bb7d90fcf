package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"unsafe"

	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// rowsAsked is what share of the read bandwidth the issue asks of a pass over rows of a dtype.
type rowsAsked struct {
	dtype   shard.DType
	variant string                               // "": the fastest of this CPU
	asked   func(op string, threads int) float64 // of the read bandwidth
}

// kernelFigures hold the passes over G against reading its memory from end to end.
func kernelFigures() []figure {
	flat := func(x float64) func(string, int) float64 { return func(string, int) float64 { return x } }
	byThreads := func(single, more float64) func(string, int) float64 {
		return func(_ string, threads int) float64 {
			if threads == 1 {
				return single
			}
			return more
		}
	}
	all := []rowsAsked{
		{shard.F32, "avx512", flat(0.90)},
		{shard.F32, "avx2", func(op string, _ int) float64 {
			if op == "dots" {
				return 0.70
			}
			return 0.90
		}},
		{shard.F16, "", byThreads(0.85, 0.92)},
		{shard.BF16, "", byThreads(0.72, 0.92)},
	}
	var out []figure
	for _, dtype := range []shard.DType{shard.F32, shard.F16, shard.BF16} {
		for _, m := range []int{16, 64, 256, 1024} {
			for _, a := range all {
				if a.dtype != dtype {
					continue
				}
				for _, threads := range []int{1, 2} {
					for _, op := range []string{"dots", "combine"} {
						out = append(out, passFigure(a, op, m, threads))
					}
				}
			}
		}
	}
	return out
}

func passFigure(a rowsAsked, op string, m, threads int) figure {
	name, with := op+"/"+a.dtype.String(), "the fastest kernel"
	if a.variant != "" {
		name, with = name+"/"+a.variant, "kernel "+a.variant
	}
	lines := one(line{
		name:    fmt.Sprintf("%s/m=%d/threads=%d", name, m, threads),
		what:    fmt.Sprintf("%s over rows in %s with float64 sums, %s, against the fastest plain loop that reads as many bytes", op, a.dtype, with),
		atLeast: a.asked(op, threads),
	})
	if mixed(op, m) {
		lines = append(lines, line{
			name: lines[0].name + "/mix",
			what: "the same, against that loop where it writes as many numbers, too, part after part on the same threads",
		})
	}
	return figure{
		must: true, runs: 9,
		lines: lines,
		lacks: func(*env) string {
			if a.variant != "" {
				if why := lacksKernel(a.variant); why != "" {
					return why
				}
			}
			return lacksCores(threads)
		},
		setup: func(e *env) (sampler, error) { return passPair(e, a, op, m, threads) },
	}
}

// mixed tells whether a pass writes so much for what it reads that this should be known.
func mixed(op string, m int) bool { return op == "combine" && m <= 64 }

// partCols is how many columns of a result a worker computes at a time: a chunk in float32.
const partCols = 240 * 1024

func passPair(e *env, a rowsAsked, op string, m, threads int) (sampler, error) {
	bed, err := e.rowsOf(a.dtype, m, 0)
	if err != nil {
		return sampler{}, err
	}
	k, err := kernel.ByName(a.variant)
	if err != nil {
		return sampler{}, err
	}
	store, err := bed.store(k, threads)
	if err != nil {
		return sampler{}, err
	}
	pass, read := bed.dots(store), [][]byte{bed.region, bed.vector}
	if op == "combine" {
		pass, read = bed.combine(store), [][]byte{bed.region}
	}
	plain := e.bestRead(threads, bed.region)
	both := &mix{bed: bed, plain: plain, threads: threads}
	reading := func() error { readWith(plain, threads, read...); return nil }
	p := sampler{run: func() ([]float64, error) {
		base, _ := timed(reading)
		ours, err := timed(pass)
		if err != nil || !mixed(op, m) {
			return []float64{base.Seconds() / ours.Seconds()}, err
		}
		least, err := timed(both.run)
		return []float64{base.Seconds() / ours.Seconds(), least.Seconds() / ours.Seconds()}, err
	}}
	p.sides = []side{{"ours", pass}, {"reading", reading}}
	if mixed(op, m) {
		p.sides = append(p.sides, side{"mix", both.run})
	}
	if a.variant == "" {
		p.notes = func() []string { return []string{"kernel " + k.Name()} }
	}
	return p, nil
}

// rowsBed is G in memory, m rows of random numbers, and what goes with it.
type rowsBed struct {
	dtype  shard.DType
	m      int
	cols   int64
	region []byte
	base   []byte // float32: row t begins at number t·rowShift
	vector []byte // float32, of cols
	out    []byte // a part of a result
	coef   []float64
	y      []float64
	pools  map[int]*pool.Pool // by threads
}

// rowShift is how far the numbers of a row are from those of the next. The rows of G are slices of
// one sequence of random numbers, so that the Python side has the same ones from a small file.
const rowShift = 1024

// baseBytes is that sequence, for m rows of cols columns.
func baseBytes(m int, cols int64) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, cols+int64(m)*rowShift)
	for i := range x {
		x[i] = rng.Float32() - 0.5
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
}

// rowsOf makes a bed, or finds the last one to be it. cols 0 is as many as fill regionBytes.
func (e *env) rowsOf(dtype shard.DType, m int, cols int64) (*rowsBed, error) {
	if cols == 0 {
		cols = e.regionBytes() / int64(m*dtype.Size()) / shard.TileCols * shard.TileCols
	}
	if b := e.rows; b != nil && b.dtype == dtype && b.m == m && b.cols == cols {
		return b, nil
	}
	e.dropBeds()
	b, err := newRows(dtype, m, cols)
	if err == nil {
		e.rows = b
	}
	return b, err
}

func newRows(dtype shard.DType, m int, cols int64) (*rowsBed, error) {
	bytes, err := shard.Bytes(shard.Config{Slots: m, Cols: cols, DType: dtype})
	if err != nil {
		return nil, err
	}
	b := &rowsBed{dtype: dtype, m: m, cols: cols, base: baseBytes(m, cols), coef: make([]float64, m), y: make([]float64, m), pools: map[int]*pool.Pool{}}
	if b.region, err = mapRegion(bytes); err != nil {
		return nil, err
	}
	if b.vector, err = mapRegion(4 * cols); err != nil {
		unmapRegion(b.region)
		return nil, err
	}
	b.out = make([]byte, 4*min(partCols, cols))
	copy(b.vector, b.base[4*rowShift/2:])
	for i := range b.coef {
		b.coef[i] = float64(float32(i%17)/16 - 0.5)
	}
	if err := b.fill(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *rowsBed) close() {
	for _, p := range b.pools {
		p.Stop()
	}
	unmapRegion(b.region)
	unmapRegion(b.vector)
}

// row is row t as float32 bytes.
func (b *rowsBed) row(t int) []byte { return b.base[4*rowShift*t:][:4*b.cols] }

// fill writes the rows, each thread the columns that it will read.
func (b *rowsBed) fill() error {
	const threads = 2
	s, err := b.store(kernel.Best(), 1)
	if err != nil {
		return err
	}
	errs := make([]error, threads)
	var wg sync.WaitGroup
	for i := range threads {
		tiles := (b.cols-1)/shard.TileCols + 1
		lo, hi := tiles*int64(i)/threads*shard.TileCols, min(b.cols, tiles*int64(i+1)/threads*shard.TileCols)
		wg.Go(func() {
			// A tile of all rows, then the next: pages are touched in the order of the memory.
			for c := lo; c < hi && errs[i] == nil; c += 64 * shard.TileCols {
				for t := range b.m {
					if errs[i] = s.Write(t, c, b.row(t)[4*c:4*min(hi, c+64*shard.TileCols)], shard.F32); errs[i] != nil {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// store is the rows as a worker has them: several threads are a pool's. They sleep while it has
// nothing to do.
func (b *rowsBed) store(k *kernel.Variant, threads int) (*shard.Store, error) {
	cfg := shard.Config{Slots: b.m, Cols: b.cols, DType: b.dtype, Threads: threads, Kernel: k, Region: b.region}
	if threads != 1 {
		if b.pools[threads] == nil {
			b.pools[threads] = pool.Start(threads)
		}
		cfg.Pool = b.pools[threads]
	}
	return shard.New(cfg)
}

// dots is y = Gv, of a vector in float32 as clients send it.
func (b *rowsBed) dots(s *shard.Store) func() error {
	x, mask := []shard.Vector{shard.Raw(b.vector, shard.F32)}, shard.FullMask(b.m)
	return func() error { return s.Dots(b.y, x, mask) }
}

// combine is Gᵀc in float32, part after part, as a worker answers: a part stays in the cache.
func (b *rowsBed) combine(s *shard.Store) func() error {
	mask := shard.FullMask(b.m)
	return func() error {
		for lo := int64(0); lo < b.cols; lo += partCols {
			hi := min(lo+partCols, b.cols)
			if _, err := s.CombineBytes(b.out[:4*(hi-lo)], shard.F32, b.coef, mask, lo, hi); err != nil {
				return err
			}
		}
		return nil
	}
}
