package shard_test

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
	"mfac/shard/pool"
)

// cuts cuts [0, cols) into chunks, in any order.
func cuts(rng *rand.Rand, cols int) (chunks [][2]int) {
	for lo := 0; lo < cols; {
		n := 1 + rng.IntN(min(cols-lo, 1+rng.IntN(40_000)))
		chunks = append(chunks, [2]int{lo, n})
		lo += n
	}
	rng.Shuffle(len(chunks), func(i, j int) { chunks[i], chunks[j] = chunks[j], chunks[i] })
	return chunks
}

// Products that are worked out as chunks come, in any order and any cut, are those of Products.
func TestSumOfProducts(t *testing.T) {
	pools := pools(t)
	rapid.Check(t, func(rt *rapid.T) {
		slots, cols := shape(rt)
		rng := rngOf(rt)
		w := newWindow(t, rng, dtypeOf(rt), slots, cols)
		slot := rng.IntN(slots)
		mask := append(shard.Mask(nil), w.mask...)
		mask.Set(slot)
		row := make([]byte, 4*cols)
		for j := range w.rows[slot] {
			w.rows[slot][j] = rng.NormFloat64()
		}
		row, _ = shard.Append(row[:0], w.rows[slot], shard.F32)
		must(t, w.Write(slot, 0, row, shard.F32))
		want := make([]float64, slots)
		must(t, w.Products(want, slot, mask))

		cfg := shard.Config{Threads: 1 + rng.IntN(3)}
		if p := rng.IntN(5); p < 4 {
			cfg.Pool = pools[p]
		}
		s := w.like(t, cfg)
		must(t, s.Begin(slot))
		for range 2 { // the second with what the first left
			for j := range 4 * cols { // of another row, until it is written
				row[j]++
			}
			must(t, s.Write(slot, 0, row, shard.F32))
			for j := range 4 * cols {
				row[j]--
			}
			a, err := s.For(pool.Step, nil).BeginProducts(slot, mask)
			must(t, err)
			for _, c := range cuts(rng, cols) {
				must(t, s.Write(slot, int64(c[0]), row[4*c[0]:4*(c[0]+c[1])], shard.F32))
				must(t, a.Add(nil, int64(c[0]), int64(c[1])))
			}
			got := make([]float64, slots)
			must(t, a.Result(got))
			a.End()
			same(t, "products", got, want)
		}
	})
}

// The same of vectors, several at once, and their squared norms.
func TestSumOfDots(t *testing.T) {
	pools := pools(t)
	rapid.Check(t, func(rt *rapid.T) {
		slots, cols := shape(rt)
		rng := rngOf(rt)
		w := newWindow(t, rng, dtypeOf(rt), slots, cols)
		k := 1 + rng.IntN(3)
		x := make([]shard.Vector, k)
		for i := range x {
			x[i], _ = vector(rng, rng.IntN(5), cols)
		}
		want := make([]float64, k*(slots+1))
		must(t, w.Dots(want[:k*slots], x, w.mask))
		for i := range x {
			norm, err := w.Norm2(x[i])
			must(t, err)
			want[k*slots+i] = norm
		}
		s := w.like(t, shard.Config{Pool: rapid.SampledFrom(pools).Draw(rt, "pool")})
		a, err := s.BeginDots(x, w.mask)
		must(t, err)
		var todo [][2]int
		for range x {
			todo = append(todo, cuts(rng, cols)...)
		}
		rng.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
		got := make([]float64, len(want))
		for i, c := range todo {
			if err := a.Result(got); err == nil {
				t.Fatalf("a result after %d of %d chunks", i, len(todo))
			}
			must(t, a.Add(nil, int64(c[0]), int64(c[1])))
		}
		must(t, a.Result(got))
		a.End()
		same(t, "dots", got, want)
	})
}

// A slot that is left out is not read any more; the other products stay what they are.
func TestSumLeaves(t *testing.T) {
	w := newWindow(t, rand.New(rand.NewPCG(1, 2)), shard.F32, 12, 70_000)
	s := w.like(t, shard.Config{Threads: 1})
	mask := shard.MaskOf(12, 0, 1, 2)
	p := make([]byte, 4*70_000)
	for _, slot := range []int{0, 1, 2} {
		must(t, s.Write(slot, 0, p, shard.F32))
	}
	must(t, s.Write(0, 60_000, []byte{0, 0, 0x80, 0x3f}, shard.F32))
	must(t, s.Write(2, 60_000, []byte{0, 0, 0x80, 0x3f}, shard.F32))
	a, err := s.BeginProducts(0, mask)
	must(t, err)
	must(t, a.Add(nil, 0, 40_000))
	must(t, a.Leave(shard.MaskOf(12, 0, 2)))
	for j := range p {
		p[j] = 0xff // NaN
	}
	must(t, s.Write(1, 0, p, shard.F32))
	must(t, a.Add(nil, 40_000, 30_000))
	got := make([]float64, 12)
	must(t, a.Result(got))
	same(t, "products", got, []float64{0: 1, 2: 1, 11: 0})
}

func TestSumErrors(t *testing.T) {
	workers := pool.Start(1)
	defer workers.Stop()
	s := newStore(t, shard.Config{Slots: 3, Cols: 50_000, Pool: workers})
	for _, c := range []struct {
		want string
		f    func() (*shard.Sum, error)
	}{
		{"slot is 3, must be 0 to 2", func() (*shard.Sum, error) { return s.BeginProducts(3, shard.FullMask(3)) }},
		{"mask is 2 bytes, must be 1 bytes for 3 slots", func() (*shard.Sum, error) { return s.BeginProducts(0, shard.FullMask(9)) }},
		{"vectors is 0, must be 1 to 64", func() (*shard.Sum, error) { return s.BeginDots(nil, shard.FullMask(3)) }},
		{"x[0] is 1 columns, must be 50000 columns", func() (*shard.Sum, error) { return s.BeginDots([]shard.Vector{shard.Zeros(1)}, shard.FullMask(3)) }},
	} {
		if _, err := c.f(); text(err) != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	a, err := s.BeginProducts(0, shard.FullMask(3))
	must(t, err)
	must(t, a.Add(nil, 0, 0))
	must(t, a.Add(nil, 10, 20_000))
	for _, c := range []struct {
		want string
		err  error
	}{
		{"columns is [100, 101), must be ones that have not come", again(a, 100, 1)},
		{"number of columns is 2, must be ≤ 1 from column 49999", a.Add(nil, 49_999, 2)},
		{"length of dst is 2, must be 3", a.Result(make([]float64, 2))},
		{"columns to come is in 3 of 4 units, must be none", a.Result(make([]float64, 3))},
		{"mask is 0 bytes, must be 1 bytes for 3 slots", a.Leave(nil)},
	} {
		if text(c.err) != c.want {
			t.Errorf("got %v, want %s", c.err, c.want)
		}
	}
	abort := new(pool.Cancel)
	abort.Cancel()
	for range 2 { // the second hears why, too
		if err := a.Add(abort, 20_010, 20_000); err != pool.ErrCancelled {
			t.Errorf("got %v, want cancelled", err)
		}
		abort = nil
	}
	a.End()
}

// again is an Add of columns of a unit that is complete.
func again(a *shard.Sum, lo, n int64) error {
	if err := a.Add(nil, 0, 10); err != nil {
		return err
	}
	return a.Add(nil, lo, n)
}
