package shard_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What follows is the order of summation written down from maths.md ("One order of
// summation"), as plainly as can be; the Store must equal it bit for bit.

func orderedDot(g, x []float64) float64 {
	var sums []float64
	for len(g) > 0 {
		n := min(len(g), 1024)
		var lane [8]float64
		for j := range n {
			lane[j%8] = math.FMA(g[j], x[j], lane[j%8])
		}
		sums = append(sums, ((lane[0]+lane[4])+(lane[2]+lane[6]))+((lane[1]+lane[5])+(lane[3]+lane[7])))
		g, x = g[n:], x[n:]
	}
	for len(sums) > 1 {
		var up []float64
		for i := 0; i < len(sums); i += 2 {
			if i+1 < len(sums) {
				up = append(up, sums[i]+sums[i+1])
			} else {
				up = append(up, sums[i])
			}
		}
		sums = up
	}
	return sums[0]
}

func orderedCombine(rows [][]float64, c []float64, mask shard.Mask, j int) (r float64) {
	for t := range rows {
		if mask.Has(t) {
			r = math.FMA(c[t], rows[t][j], r)
		}
	}
	return r
}

// A window is a Store and what it should hold.
type window struct {
	*shard.Store
	mask shard.Mask
	rows [][]float64 // by slot
}

// newWindow fills the slots of about three in four, and NaN in the others. Rows of any dtype are
// what the Store reads back.
func newWindow(t testing.TB, rng *rand.Rand, dtype shard.DType, slots, cols int) window {
	w := window{
		Store: newStore(t, shard.Config{Slots: slots, Cols: int64(cols), DType: dtype, Threads: 1}),
		mask:  shard.NewMask(slots),
	}
	for s := range slots {
		row := make([]float64, cols)
		if rng.IntN(4) > 0 {
			w.mask.Set(s)
		}
		for j := range row {
			row[j] = rng.NormFloat64() * math.Exp2(float64(rng.IntN(20)))
			if !w.mask.Has(s) {
				row[j] = math.NaN()
			}
		}
		p, _ := shard.Append(nil, row, shard.F32)
		must(t, w.Write(s, 0, p, shard.F32))
		must(t, w.ReadRow(p, s, 0))
		for j := range row {
			row[j] = float64(math.Float32frombits(binary.LittleEndian.Uint32(p[4*j:])))
		}
		w.rows = append(w.rows, row)
	}
	return w
}

// like is the same rows in a Store made another way.
func (w window) like(t testing.TB, cfg shard.Config) *shard.Store {
	cfg.Slots, cfg.Cols, cfg.DType = w.Slots(), w.Cols(), w.DType()
	s := newStore(t, cfg)
	p := make([]byte, 4*w.Cols())
	for slot := range w.rows {
		must(t, w.ReadRow(p, slot, 0))
		must(t, s.Write(slot, 0, p, shard.F32))
	}
	return s
}

func newStore(t testing.TB, cfg shard.Config) *shard.Store {
	t.Helper()
	s, err := shard.New(cfg)
	must(t, err)
	s.UseThreadsAlways()
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same compares bits, but for NaN, which has many.
func same(t testing.TB, what string, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float64bits(got[i]) != math.Float64bits(want[i]) && (got[i] == got[i] || want[i] == want[i]) {
			t.Fatalf("%s: [%d] is %x, want %x", what, i, got[i], want[i])
		}
	}
}

// vector returns a vector of one of the kinds, and its values.
func vector(rng *rand.Rand, kind, cols int) (shard.Vector, []float64) {
	x := make([]float64, cols)
	f := make([]float32, cols)
	for j := range x {
		x[j] = rng.NormFloat64()
		f[j] = float32(x[j])
	}
	widen := func() {
		for j := range x {
			x[j] = float64(f[j])
		}
	}
	odd := []byte{0xff} // bytes start at an odd address
	switch kind {
	case 0:
		widen()
		return shard.Float32s(f), x
	case 1:
		widen()
		p, _ := shard.Append(odd, x, shard.F32)
		return shard.Raw(p[1:], shard.F32), x
	case 2:
		p, _ := shard.Append(odd, x, shard.F64)
		return shard.Raw(p[1:], shard.F64), x
	case 3:
		clear(x)
		return shard.Zeros(int64(cols)), x
	default:
		return shard.Float64s(x), x
	}
}

// shape draws slots and columns: few, or around the ends of lines, tiles and groups.
func shape(t *rapid.T) (slots, cols int) {
	slots = rapid.IntRange(1, 40).Draw(t, "slots")
	cols = rapid.OneOf(
		rapid.IntRange(1, 100),
		rapid.Map(rapid.IntRange(-20, 20), func(i int) int { return 1024 + i }),
		rapid.IntRange(1, 5000),
	).Draw(t, "cols")
	if slots <= 4 && rapid.Bool().Draw(t, "groups") {
		cols += 16384 * rapid.IntRange(1, 5).Draw(t, "number of groups")
	}
	return slots, cols
}

func dtypeOf(t *rapid.T) shard.DType {
	return rapid.SampledFrom([]shard.DType{shard.F32, shard.BF16, shard.F16}).Draw(t, "dtype")
}

func rngOf(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
}

// pools are of one to four workers, for a test.
func pools(t testing.TB) (list []*pool.Pool) {
	for n := 1; n <= 4; n++ {
		p := pool.Start(n)
		t.Cleanup(p.Stop)
		list = append(list, p)
	}
	return list
}

// Every result, at every configuration, is the contract's, bit for bit.
func TestOrderOfSummation(t *testing.T) {
	pools := pools(t)
	rapid.Check(t, func(rt *rapid.T) {
		slots, cols := shape(rt)
		k := rapid.IntRange(1, 3).Draw(rt, "k")
		rng := rngOf(rt)
		w := newWindow(t, rng, dtypeOf(rt), slots, cols)

		x := make([]shard.Vector, k)
		xs := make([][]float64, k)
		c := make([]float64, 0, k*slots)
		for i := range x {
			x[i], xs[i] = vector(rng, rng.IntN(5), cols)
			for s := range slots {
				v := rng.NormFloat64()
				if !w.mask.Has(s) {
					v = math.NaN()
				}
				c = append(c, v)
			}
		}
		lo := rng.IntN(cols + 1)
		hi := lo + rng.IntN(cols-lo+1)
		lambda := 1e-3

		slot := rng.IntN(slots)
		products := make([]float64, slots)
		dots := make([]float64, k*slots)
		norms, residuals := make([]float64, k), make([]float64, k)
		var combined, solved []float64
		for s := range slots {
			if w.mask.Has(s) {
				products[s] = orderedDot(w.rows[slot], w.rows[s])
			}
		}
		for i := range k {
			norms[i] = orderedDot(xs[i], xs[i])
			left := make([]float64, cols)
			for j := range cols {
				r := orderedCombine(w.rows, c[i*slots:], w.mask, j)
				left[j] = xs[i][j] - r
				if lo <= j && j < hi {
					combined = append(combined, r)
					solved = append(solved, left[j]/lambda)
				}
			}
			residuals[i] = orderedDot(left, left)
			for s := range slots {
				if w.mask.Has(s) {
					dots[i*slots+s] = orderedDot(w.rows[s], xs[i])
				}
			}
		}

		for _, v := range kernel.Variants() {
			var configs []shard.Config
			for threads := range 2 {
				configs = append(configs, shard.Config{Threads: 2*threads + 1, Kernel: v})
			}
			configs = append(configs, shard.Config{Pool: rapid.SampledFrom(pools).Draw(rt, "pool"), Kernel: v})
			for _, cfg := range configs {
				s := w.like(t, cfg)
				check := func(what string, want []float64, call func(dst []float64) error) {
					t.Helper()
					dst := make([]float64, len(want))
					for i := range dst {
						dst[i] = -1
					}
					must(t, call(dst))
					workers := 0
					if cfg.Pool != nil {
						workers = cfg.Pool.Threads()
					}
					same(t, fmt.Sprintf("%s, kernel %s, %d threads, pool of %d", what, v.Name(), cfg.Threads, workers), dst, want)
				}
				check("Products", products, func(dst []float64) error { return s.Products(dst, slot, w.mask) })
				check("Dots", dots, func(dst []float64) error { return s.Dots(dst, x, w.mask) })
				check("Norm2", norms, func(dst []float64) (err error) {
					for i := range dst {
						if dst[i], err = s.Norm2(x[i]); err != nil {
							return err
						}
					}
					return nil
				})
				check("Dot", []float64{orderedDot(xs[0], xs[k-1])}, func(dst []float64) (err error) {
					dst[0], err = s.Dot(x[0], x[k-1])
					return err
				})
				check("Combine", combined, func(dst []float64) error {
					return s.Combine(dst, c, w.mask, int64(lo), int64(hi))
				})
				check("Solve", solved, func(dst []float64) error {
					return s.Solve(dst, x, c, w.mask, lambda, int64(lo), int64(hi))
				})
				check("ResidualNorm2", residuals, func(dst []float64) error { return s.ResidualNorm2(dst, x, c, w.mask) })
			}
		}
	})
}

// Entries of a Gram matrix are the bits of Products, in any order of slots and any cut.
func TestGram(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots, cols := shape(rt)
		rng := rngOf(rt)
		w := newWindow(t, rng, dtypeOf(rt), slots, cols)
		var age []int
		for _, s := range rng.Perm(slots) {
			if w.mask.Has(s) {
				age = append(age, s)
			}
		}
		i1 := rng.IntN(len(age) + 1)
		i0 := rng.IntN(i1 + 1)
		var want []float64
		for i := i0; i < i1; i++ {
			for j := range i + 1 {
				want = append(want, orderedDot(w.rows[age[i]], w.rows[age[j]]))
			}
		}
		s := w.like(t, shard.Config{Threads: 2})
		got := make([]float64, len(want))
		must(t, s.Gram(got, age, i0, i1))
		same(t, fmt.Sprintf("rows %d to %d of %v", i0, i1, age), got, want)
	})
}

// More vectors than one reading takes.
func TestManyVectors(t *testing.T) {
	const slots, cols, k = 5, 1100, 150
	rng := rand.New(rand.NewPCG(1, 2))
	w := newWindow(t, rng, shard.F32, slots, cols)
	x := make([]shard.Vector, k)
	for i := range x {
		x[i], _ = vector(rng, i%5, cols)
	}
	together, alone := make([]float64, k*slots), make([]float64, slots)
	must(t, w.Dots(together, x, w.mask))
	for i := range x {
		must(t, w.Dots(alone, x[i:i+1], w.mask))
		same(t, fmt.Sprintf("vector %d", i), together[i*slots:][:slots], alone)
	}
}
