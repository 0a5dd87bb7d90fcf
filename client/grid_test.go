package client

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mfac/wire"
)

// transfers are n transfers whose rate is that of their size, moved by noise and by a machine that
// becomes slower and faster. They return how long all took to one with the best size throughout, the
// size in use at the end, and how many were in another size than the one in use.
func transfers(g *grid, n int, rates map[int]float64, noise float64, seed uint64) (cost float64, size, trials int) {
	rng := rand.New(rand.NewPCG(seed, 2))
	best := 0.0
	for _, r := range rates {
		best = max(best, r)
	}
	took, least := 0.0, 0.0
	for i := range n {
		drift := 1 + 0.5*math.Sin(float64(i)/100)
		size := g.pick()
		if size != g.sizes[g.use] {
			trials++
		}
		rate := rates[size] * drift * math.Exp(noise*rng.NormFloat64())
		g.learn(size, rate)
		took += 1 / (rates[size] * drift)
		least += 1 / (best * drift)
	}
	return took / least, g.sizes[g.use], trials
}

func TestGridChooses(t *testing.T) {
	const seeds, many = 200, 2000
	for name, c := range map[string]struct {
		rates map[int]float64
		noise float64
		want  int
		cost  float64 // at most, mean of the seeds: to find out and to look again costs so much; measured are two thirds of it above 1
		found float64 // share of the seeds that end with the size wanted
	}{
		"the largest": {map[int]float64{1: 0.8, 2: 0.9, 3: 1}, 0.1, 3, 1.005, 0.99},
		"the middle":  {map[int]float64{1: 1, 2: 1.3, 3: 1}, 0.1, 2, 1.02, 0.99},
		"the least":   {map[int]float64{1: 1.3, 2: 1.1, 3: 1}, 0.1, 1, 1.02, 0.99},
		"in noise":    {map[int]float64{1: 1.5, 2: 1, 3: 1}, 0.3, 1, 1.05, 0.99},
		"all alike":   {map[int]float64{1: 1, 2: 1, 3: 1}, 0.3, 0, 1, 0},
		"far behind":  {map[int]float64{1: 0.2, 2: 0.5, 3: 1}, 0.3, 3, 1.06, 0.99},
	} {
		t.Run(name, func(t *testing.T) {
			cost, found := 0.0, 0.0
			for seed := range uint64(seeds) {
				once, size, trials := transfers(newGrid([]int{1, 2, 3}), many, c.rates, c.noise, seed)
				cost += once / seeds
				if size == c.want {
					found += 1.0 / seeds
				}
				if trials > many/firstEvery {
					t.Errorf("seed %d: %d trials", seed, trials)
				}
			}
			t.Logf("cost %.4f, found by %.3f", cost, found)
			if !(cost <= c.cost*(1+1e-9)) || found < c.found {
				t.Errorf("cost %.4f, want at most %.4f; found by %.3f, want at least %.3f", cost, c.cost, found, c.found)
			}
		})
	}
}

func TestGridOfOneSize(t *testing.T) {
	g := newGrid([]int{7})
	for range 100 {
		if n := g.pick(); n != 7 {
			t.Fatalf("picked %d", n)
		}
		g.learn(7, 1)
		g.learn(7, math.Inf(1))
		g.learn(7, math.NaN())
		g.learn(7, 0)
	}
	if g.rate != 1 {
		t.Errorf("rate is %v", g.rate)
	}
}

func TestGridSizes(t *testing.T) {
	for most, want := range map[int][]int{
		DefaultChunkBytes: {262_144, 491_520, 983_040}, 491_520: {262_144, 491_520}, 60 << 10: {60 << 10},
	} {
		if got := gridSizes(most); !slices.Equal(got, want) {
			t.Errorf("up to %d: %v, want %v", most, got, want)
		}
	}
	for _, n := range gridSizes(DefaultChunkBytes) {
		if n%(tileColumns*wire.F64.Size()) != 0 {
			t.Errorf("%d bytes are not whole tiles of every dtype", n)
		}
	}
}

// adapting is a run of a client that was given no size of chunks, with the smallest one in use.
func adapting(t *testing.T, f *fake, dim int64) *Run {
	t.Helper()
	r := f.attached(dim, WithTryTimeout(time.Second))
	c := r.c
	c.chunkBytes, c.gridSizes = DefaultChunkBytes, gridSizes(DefaultChunkBytes)
	for _, op := range []string{wire.OpChunk, wire.OpVec, wire.OpFetch} {
		key := c.choose(op, 4*dim).key
		c.grids[key].use, c.grids[key].other = 0, 2
	}
	return r
}

// widest is the most columns of the chunks that came.
func (f *fake) widest() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.chunks {
		n = max(n, c.N)
	}
	f.chunks = nil
	return n
}

func TestChosenChunks(t *testing.T) {
	const dim = 600_000
	f := newFake(t, "a", "b")
	r := adapting(t, f, dim)
	g := ramp(dim)
	step := wire.Step(0)
	check := func(what string, want int64, opts ...PublishOption) {
		t.Helper()
		step++
		if _, err := r.Publish(t.Context(), step, g, opts...); err != nil {
			t.Fatal(err)
		}
		if got := f.widest(); got != want {
			t.Errorf("%s: chunks of %d columns, want %d", what, got, want)
		}
	}
	check("the size in use", 65_536)
	check("in another dtype, of which nothing is known", 300_000, WithWire(wire.BF16))
	// Another call, or another client, may send the same columns by this token: on the same grid.
	check("a token of the caller's", 245_760, WithToken(7))
	step++
	if _, err := r.PublishColumns(t.Context(), step, 0, g); err != nil {
		t.Fatal(err)
	}
	if got := f.widest(); got != 245_760 {
		t.Errorf("columns: chunks of %d columns", got)
	}
	dst := make([]float32, dim)
	if _, err := r.IHVP(t.Context(), dst, g); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst, g)
	for _, op := range []string{wire.OpVec, wire.OpFetch} {
		if n := f.count(op); n != 10 { // ⌈300,000 / 65,536⌉ a shard
			t.Errorf("%d times %s, want 10", n, op)
		}
	}
	for key, g := range r.c.grids {
		if known := g.rate > 0; known != (g.rests > 0) {
			t.Errorf("%v: rate %v after %d transfers", key, g.rate, g.rests)
		}
	}
}

// A publication keeps its grid over attempts, whatever was learnt since.
func TestChosenChunksStay(t *testing.T) {
	const dim = 600_000
	f := newFake(t, "a", "b")
	r := adapting(t, f, dim)
	n := 0
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
		if op != wire.OpChunk {
			return nil, false
		}
		if n++; n == 4 {
			f.takeover(false)
			r.c.mu.Lock()
			for _, g := range r.c.grids {
				g.use = 2
			}
			r.c.mu.Unlock()
		}
		return nil, false
	})
	if _, err := r.Publish(t.Context(), 1, ramp(dim)); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	sent := map[int64]int64{}
	for _, c := range f.chunks {
		if n, ok := sent[c.Lo]; ok && n != c.N {
			t.Errorf("columns %d on were sent as %d and as %d", c.Lo, n, c.N)
		}
		sent[c.Lo] = c.N
	}
	f.mu.Unlock()
	if len(sent) != 10 {
		t.Errorf("%d pieces, want 10", len(sent))
	}
	for key, g := range r.c.grids {
		if g.rate != 0 {
			t.Errorf("%v: a transfer that began again was counted", key)
		}
	}
}
