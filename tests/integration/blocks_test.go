package integration

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// blockCase is a run whose rows are known, and the blocks that it is asked for.
type blockCase struct {
	run     *client.Run
	rows    [][]float32
	n       int
	lambda  float64
	layout  []wire.Tensor
	option  client.QueryOption
	borders []int // where blocks begin, and dim
	weights []float64
}

// weight is that of row r.
func (c *blockCase) weight(r int) float64 {
	if c.weights == nil {
		return 1
	}
	return c.weights[r]
}

// bordersOf is where blocks of at most size columns begin, none across a tensor's border, and dim.
func bordersOf(layout []wire.Tensor, dim, size int) []int {
	var out []int
	for lo := 0; lo < dim; {
		out = append(out, lo)
		next := min(lo+size, dim)
		for _, t := range layout {
			if o := int(t.Offset); o > lo {
				next = min(next, o)
			}
		}
		lo = next
	}
	return append(out, dim)
}

// draw chooses blocks.
func (c *blockCase) draw(rt *rapid.T) string {
	dim := int(c.run.Dim())
	size := rapid.IntRange(1, dim+2).Draw(rt, "block")
	if rapid.Bool().Draw(rt, "small") {
		size = min(size, rapid.IntRange(1, 9).Draw(rt, "small block"))
	}
	ways := []string{"within", "across"}
	if c.layout != nil {
		ways = append(ways, "tensor")
	}
	way := rapid.SampledFrom(ways).Draw(rt, "way")
	switch way {
	case "within":
		c.option, c.borders = client.WithBlocks(int64(size)), bordersOf(c.layout, dim, size)
	case "across":
		c.option, c.borders = client.WithBlocksAcross(int64(size)), bordersOf(nil, dim, size)
	default:
		c.option, c.borders = client.WithTensorBlocks(), bordersOf(c.layout, dim, dim)
	}
	return fmt.Sprintf("%s %d", way, size)
}

// bigBits is enough for systems of condition 1e16 to come out exact in float64.
const bigBits = 240

func bigOf(x float64) *big.Float { return new(big.Float).SetPrec(bigBits).SetFloat64(x) }

// solve sets each of ys to H_b⁻¹y, exactly, of the columns [lo, hi).
func (c *blockCase) solve(lo, hi int, lambda float64, ys [][]*big.Float) {
	n := hi - lo
	k := make([][]*big.Float, n)
	t := bigOf(0)
	for i := range k {
		k[i] = make([]*big.Float, n)
		for j := range k[i] {
			sum := bigOf(0)
			for r, g := range c.rows {
				t.Mul(bigOf(float64(g[lo+i])), bigOf(float64(g[lo+j])))
				sum.Add(sum, t.Mul(t, bigOf(c.weight(r))))
			}
			if sum.Quo(sum, bigOf(float64(c.n))); i == j {
				sum.Add(sum, bigOf(lambda))
			}
			k[i][j] = sum
		}
	}
	for i := range n {
		for j := i + 1; j < n; j++ {
			f := bigOf(0).Quo(k[j][i], k[i][i])
			for b := i; b < n; b++ {
				k[j][b].Sub(k[j][b], t.Mul(f, k[i][b]))
			}
			for _, y := range ys {
				y[j].Sub(y[j], t.Mul(f, y[i]))
			}
		}
	}
	for _, y := range ys {
		for i := n - 1; i >= 0; i-- {
			for b := i + 1; b < n; b++ {
				y[i].Sub(y[i], t.Mul(k[i][b], y[b]))
			}
			y[i].Quo(y[i], k[i][i])
		}
	}
}

// ihvp is H⁻¹v, exactly.
func (c *blockCase) ihvp(v []float64, lambda float64) []*big.Float {
	var out []*big.Float
	for b := range c.borders[:len(c.borders)-1] {
		lo, hi := c.borders[b], c.borders[b+1]
		y := make([]*big.Float, hi-lo)
		for j := range y {
			y[j] = bigOf(v[lo+j])
		}
		c.solve(lo, hi, lambda, [][]*big.Float{y})
		out = append(out, y...)
	}
	return out
}

// diag is the diagonal of H⁻¹, exactly.
func (c *blockCase) diag(lambda float64) []*big.Float {
	var out []*big.Float
	for b := range c.borders[:len(c.borders)-1] {
		lo, hi := c.borders[b], c.borders[b+1]
		ys := make([][]*big.Float, hi-lo)
		for i := range ys {
			ys[i] = make([]*big.Float, hi-lo)
			for j := range ys[i] {
				ys[i][j] = bigOf(0)
			}
			ys[i][i] = bigOf(1)
		}
		c.solve(lo, hi, lambda, ys)
		for i, y := range ys {
			out = append(out, y[i])
		}
	}
	return out
}

// bigError is the relative error of x in the 2-norm.
func bigError(x []float64, want []*big.Float) float64 {
	off, size := bigOf(0), bigOf(0)
	t := bigOf(0)
	for j, w := range want {
		d := bigOf(0).Sub(bigOf(x[j]), w)
		off.Add(off, d.Mul(d, d))
		size.Add(size, t.Mul(w, w))
	}
	if size.Sign() == 0 {
		e, _ := off.Float64()
		return e
	}
	e, _ := off.Quo(off, size).Float64()
	return math.Sqrt(e)
}

// newBlockCases starts runs over one to five shards, with and without a layout, windows full, part-filled and empty, benign and not.
func newBlockCases(t *testing.T, cl *client.Client) (cases []*blockCase) {
	ctx := within(t, time.Minute)
	rng := rand.New(rand.NewPCG(71, 72))
	for i, s := range []struct {
		dim, window, rows, shards int
		tensors                   []int64
		divisor                   wire.Divisor
		store                     wire.DType
		near                      float64 // how near rows are to each other
	}{
		{1, 2, 2, 1, nil, "", "", 1},
		{30, 5, 7, 1, []int64{12, 1, 17}, "", "", 1},
		{40, 12, 12, 4, nil, "", wire.F16, 1e-2},
		{36, 9, 4, 3, []int64{20, 16}, wire.Count, "", 1},
		{33, 3, 0, 2, []int64{33}, "", "", 1},
		{28, 30, 30, 5, []int64{9, 10, 9}, "", wire.BF16, 1e-4},
	} {
		c := &blockCase{lambda: math.Pow(10, -float64(i)), n: s.window}
		spec := client.RunConfig{Name: fmt.Sprintf("blocks-%d", i), Dim: int64(s.dim), Window: s.window, Damping: c.lambda, Shards: s.shards, Divisor: s.divisor, Store: s.store}
		at := int64(0)
		for k, n := range s.tensors {
			c.layout = append(c.layout, wire.Tensor{Name: fmt.Sprintf("t%d", k), Shape: []int64{n}, Offset: at})
			at += n
		}
		spec.Layout = c.layout
		r, err := cl.Attach(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		c.run = r
		one := normal(rng, s.dim)
		for k := range s.rows {
			g := normal(rng, s.dim)
			for j := range g {
				g[j] = one[j]*float32(1-s.near) + g[j]*float32(s.near)
			}
			weight := 1.0
			if i%2 == 1 {
				weight = math.Pow(2, float64(k%5-3)/2)
			}
			if _, err := r.Publish(ctx, wire.Step(k), g, client.WithWeight(weight)); err != nil {
				t.Fatal(err)
			}
			if k < s.rows-s.window {
				continue
			}
			if _, err := r.Gradient(ctx, g, wire.Step(k)); err != nil { // as it is stored
				t.Fatal(err)
			}
			c.rows, c.weights = append(c.rows, g), append(c.weights, weight)
		}
		if s.divisor == wire.Count {
			c.n = max(1, len(c.rows))
		}
		cases = append(cases, c)
	}
	return cases
}

// TestBlocks compares IHVPs and diagonals by blocks with exact arithmetic: blocks of one column, of more than there are rows, the last one of a
// tensor shorter, over the borders of shards, one of all columns. Their bounds hold; several vectors together are each alone; float32
// answers are the float64 ones rounded.
func TestBlocks(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cases := newBlockCases(t, c.client())
	rapid.Check(t, func(rt *rapid.T) {
		bc := cases[rapid.IntRange(0, len(cases)-1).Draw(rt, "run")]
		what := bc.draw(rt)
		ctx := within(t, time.Minute)
		d := int(bc.run.Dim())
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 3))
		lambda := bc.lambda
		opts := []client.QueryOption{bc.option}
		if rapid.Bool().Draw(rt, "other damping") {
			lambda = math.Pow(10, -float64(rng.IntN(7))) // below, a stored row's is refused for its bound
			opts = append(opts, client.WithDamping(lambda))
		}
		v, x := make([][]float64, 1+rng.IntN(3)), [][]float64{}
		for i := range v {
			v[i] = make([]float64, d)
			for j := range v[i] {
				if v[i][j] = rng.NormFloat64(); i == 1 && len(bc.rows) > 0 {
					v[i][j] = float64(bc.rows[0][j])
				} else if i == 2 {
					v[i][j] = 0
				}
			}
			x = append(x, make([]float64, d))
		}
		a, err := bc.run.IHVPs64(ctx, x, v, opts...)
		if err != nil {
			rt.Fatalf("%s: %v", what, err)
		}
		if a.Rows != len(bc.rows) || len(a.Bounds) != len(v) {
			rt.Fatalf("%s: %+v", what, a)
		}
		for i := range v {
			if e := bigError(x[i], bc.ihvp(v[i], lambda)); !(e <= a.Bounds[i]) {
				rt.Fatalf("%s: vector %d is off by %g, bound %g", what, i, e, a.Bounds[i])
			}
			one := make([]float64, d)
			b, err := bc.run.IHVP64(ctx, one, v[i], opts...)
			if err != nil || !slices.Equal(bits64(one), bits64(x[i])) || b.Bounds[0] != a.Bounds[i] {
				rt.Fatalf("%s: vector %d alone has other bytes, or bound %g, not %g (%v)", what, i, b.Bounds[0], a.Bounds[i], err)
			}
		}
		if len(bc.rows) > 0 {
			steps, err := bc.run.Steps(ctx)
			if err != nil {
				rt.Fatal(err)
			}
			coef := [][]float64{make([]float64, len(bc.rows)), make([]float64, len(bc.rows))}
			for i := range coef[0] {
				coef[0][i], coef[1][i] = rng.NormFloat64(), 0
			}
			coef[1][0] = 1
			two := [][]float64{make([]float64, d), make([]float64, d)}
			a, err := bc.run.IHVPCombines64(ctx, two, steps.Steps, coef, opts...)
			if err != nil {
				rt.Fatalf("%s: %v", what, err)
			}
			for i := range two {
				y := make([]*big.Float, d)
				for j := range y {
					y[j] = bigOf(0)
					for r, g := range bc.rows {
						y[j].Add(y[j], bigOf(0).Mul(bigOf(coef[i][r]), bigOf(float64(g[j]))))
					}
				}
				for b := range bc.borders[:len(bc.borders)-1] {
					bc.solve(bc.borders[b], bc.borders[b+1], lambda, [][]*big.Float{y[bc.borders[b]:bc.borders[b+1]]})
				}
				if e := bigError(two[i], y); !(e <= a.Bounds[i]) {
					rt.Fatalf("%s: combination %d is off by %g, bound %g", what, i, e, a.Bounds[i])
				}
			}
			one := make([]float64, d)
			if _, err := bc.run.IHVPStep64(ctx, one, steps.Steps[0], opts...); err != nil || !slices.Equal(bits64(one), bits64(two[1])) {
				rt.Fatalf("%s: a step alone has other bytes (%v)", what, err)
			}
		}
		diag, single := make([]float64, d), make([]float32, d)
		a, err = bc.run.Diag64(ctx, diag, opts...)
		if err != nil {
			rt.Fatalf("%s: %v", what, err)
		}
		if e := bigError(diag, bc.diag(lambda)); !(e <= a.Bound()) {
			rt.Fatalf("%s: the diagonal is off by %g, bound %g", what, e, a.Bound())
		}
		if _, err := bc.run.Diag(ctx, single, opts...); err != nil {
			rt.Fatal(err)
		}
		for j := range diag {
			if single[j] != float32(diag[j]) {
				rt.Fatalf("element %d is %g in float32, %g in float64", j, single[j], diag[j])
			}
		}
	})
}

// A block of all columns is the whole of H, each within its bound.
func TestOneBlock(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	for i, bc := range newBlockCases(t, c.client()) {
		d, ctx := bc.run.Dim(), within(t, time.Minute)
		v, x, y := make([]float64, d), make([]float64, d), make([]float64, d)
		for j := range v {
			v[j] = math.Cos(float64(j))
		}
		a, err := bc.run.IHVP64(ctx, x, v)
		if err != nil {
			t.Fatal(err)
		}
		b, err := bc.run.IHVP64(ctx, y, v, client.WithBlocksAcross(d))
		if err != nil {
			t.Fatal(err)
		}
		checkNear(t, fmt.Sprintf("IHVP of run %d", i), x, y, a.Bound()+b.Bound())
		if a, err = bc.run.Diag64(ctx, x); err != nil {
			t.Fatal(err)
		}
		if b, err = bc.run.Diag64(ctx, y, client.WithBlocksAcross(d)); err != nil {
			t.Fatal(err)
		}
		checkNear(t, fmt.Sprintf("diagonal of run %d", i), x, y, a.Bound()+b.Bound())
	}
}

// checkNear checks that x and y are within tol of each other, relative in the 2-norm.
func checkNear(t *testing.T, what string, x, y []float64, tol float64) {
	t.Helper()
	off, size := 0.0, 0.0
	for j := range x {
		off += (x[j] - y[j]) * (x[j] - y[j])
		size += x[j] * x[j]
	}
	if e := math.Sqrt(off / size); !(e <= tol) {
		t.Errorf("%s: %g apart, at most %g", what, e, tol)
	}
}

// Blocks of 128 of the reference vectors.
func TestBlockVectors(t *testing.T) {
	t.Parallel()
	vs := openVectors(t)
	grads, weights := vs.grads(), vs.f32("weights")
	wide, v := make([]float64, vectorsDim), make([]float64, vectorsDim)
	for j, x := range vs.f32("v") {
		v[j], wide[j] = float64(x), float64(weights[j])
	}
	c := start(t, shape{workers: 2})
	cl := c.client()
	for i, name := range []string{"0.01", "1e-05"} {
		ctx := within(t, time.Minute)
		r := c.attach(cl, client.RunConfig{Name: fmt.Sprintf("block-vectors-%d", i), Dim: vectorsDim, Window: vectorsWindow, Damping: []float64{0.01, 1e-5}[i], Shards: 3})
		if _, err := r.PublishMany(ctx, 0, grads[len(grads)-vectorsWindow:]); err != nil {
			t.Fatal(err)
		}
		blocks := client.WithBlocksAcross(128)
		x, x32 := make([]float64, vectorsDim), make([]float32, vectorsDim)
		if _, err := r.IHVP64(ctx, x, v, blocks); err != nil {
			t.Fatal(err)
		}
		check64(t, "ihvp at "+name, x, vs.f64("ihvp_block128_"+name), 1e-12) // testdata/README.md
		if _, err := r.IHVP(ctx, x32, vs.f32("v"), blocks); err != nil {
			t.Fatal(err)
		}
		check32(t, "ihvp at "+name, x32, vs.f64("ihvp_block128_"+name))
		if _, err := r.Diag64(ctx, x, blocks); err != nil {
			t.Fatal(err)
		}
		check64(t, "diagonal at "+name, x, vs.f64("diag_block128_"+name), 1e-12)
		for _, percent := range []int{50, 90} {
			if _, err := r.Prune64(ctx, x, wide, client.Pruning{Sparsity: float64(percent) / 100}, blocks); err != nil {
				t.Fatal(err)
			}
			want := vs.f64(fmt.Sprintf("pruned_block128_%d_%s", percent, name))
			differ := 0
			for j := range want {
				if (want[j] == 0) != (x[j] == 0) {
					differ++
				}
			}
			if differ > 0 {
				t.Errorf("%d%% at %s: %d weights are chosen otherwise", percent, name, differ)
			}
			check64(t, fmt.Sprintf("pruned by %d%% at %s", percent, name), x, want, tolPrunedVectors)
		}
	}
}

// The bytes are the same whatever the number of workers and of threads; those of blocks that lie in one shard whatever the shards, too.
func TestBlocksSameBytes(t *testing.T) {
	t.Parallel()
	const d, m = 9_001, 24
	rng := rand.New(rand.NewPCG(33, 34))
	rows := make([][]float32, m+5)
	for i := range rows {
		rows[i] = normal(rng, d)
	}
	v := [][]float64{make([]float64, d), make([]float64, d)}
	for j := range d {
		v[0][j], v[1][j] = rng.NormFloat64(), rng.NormFloat64()
	}
	borders := map[int][]int64{}
	var whole []float64
	for _, size := range []int64{7, 300, 5000} {
		var want []any
		for _, s := range []struct {
			shape
			shards int
		}{{shape{workers: 1, threads: 1}, 3}, {shape{workers: 3, threads: 2}, 3}, {shape{workers: 1, threads: 2}, 1}} {
			c := start(t, s.shape)
			r := c.attach(c.client(), client.RunConfig{Name: "same", Dim: d, Window: m, Damping: 1e-4, Shards: s.shards})
			ctx := within(t, time.Minute)
			if _, err := r.PublishMany(ctx, 0, rows); err != nil {
				t.Fatal(err)
			}
			info, err := r.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			borders[s.shards] = info.Lo
			x, diag, pruned := [][]float64{make([]float64, d), make([]float64, d)}, make([]float64, d), make([]float64, d)
			a, err := r.IHVPs64(ctx, x, v, client.WithBlocks(size))
			if err != nil {
				t.Fatal(err)
			}
			b, err := r.Diag64(ctx, diag, client.WithBlocks(size))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Prune64(ctx, pruned, v[0], client.Pruning{Sparsity: 0.7, Rule: wire.RuleJoint}, client.WithBlocks(size)); err != nil {
				t.Fatal(err)
			}
			got := []any{a, b, bits64(x[0]), bits64(x[1]), bits64(diag), bits64(pruned)}
			switch {
			case want == nil:
				want, whole = got, slices.Clone(x[0])
			case s.shards == 3 && !cmp.Equal(got, want):
				t.Errorf("blocks of %d, %+v: other bytes", size, s.shape)
			case s.shards == 1:
				for lo := int64(0); lo < d; lo += size {
					hi := min(lo+size, d)
					if slices.ContainsFunc(borders[3], func(b int64) bool { return b > lo && b < hi }) {
						continue
					}
					if !slices.Equal(bits64(x[0][lo:hi]), bits64(whole[lo:hi])) {
						t.Errorf("block [%d, %d): other bytes with other shards", lo, hi)
					}
				}
			}
		}
	}
}

// TestPruneBlocks compares pruning by blocks with dense algebra, both rules, with and without a mask.
func TestPruneBlocks(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cl := c.client()
	var cases []pruneCase
	for i, s := range []struct{ dim, window, rows, shards int }{{1, 2, 2, 1}, {40, 5, 7, 1}, {97, 12, 12, 3}, {130, 3, 0, 2}, {57, 8, 8, 5}} {
		cases = append(cases, newPruneCase(t, cl, fmt.Sprintf("prune-blocks-%d", i), s.dim, s.window, s.rows, s.shards, ""))
	}
	rapid.Check(t, func(rt *rapid.T) {
		pc := cases[rapid.IntRange(0, len(cases)-1).Draw(rt, "run")]
		ctx := within(t, time.Minute)
		d := int(pc.run.Dim())
		size := rapid.IntRange(1, d+1).Draw(rt, "block")
		pc.ref.apart = func(i, j int) bool { return i/size != j/size }
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		w := make([]float64, d)
		for j := range w {
			w[j] = rng.NormFloat64()
		}
		p := client.Pruning{Rule: rapid.SampledFrom([]string{wire.RuleSummed, wire.RuleJoint}).Draw(rt, "rule"), Sparsity: rng.Float64()}
		if rapid.Bool().Draw(rt, "masked") && d > 2 {
			p.Mask = make([]int8, d)
			free, gone := 0.0, 0.0
			for j := range p.Mask {
				p.Mask[j] = []int8{0, 0, 0, 0, 1, -1}[rng.IntN(6)]
			}
			p.Mask[0], p.Mask[d-1] = 0, 1
			for _, m := range p.Mask {
				switch m {
				case 0:
					free++
				case -1:
					gone++
				}
			}
			p.Sparsity = (gone + math.Floor(rng.Float64()*free) + 0.5) / float64(d)
		}
		got := make([]float64, d)
		if _, err := pc.run.Prune64(ctx, got, w, p, client.WithBlocks(int64(size))); err != nil {
			rt.Fatalf("%s %g: %v", p.Rule, p.Sparsity, err)
		}
		chosen, scores := pc.ref.choice(rt, w, p.Mask, p.Sparsity)
		if nearTie(w, p.Mask, scores, chosen) {
			return // the reference can't tell
		}
		checkPruned(rt, fmt.Sprintf("%s %g in blocks of %d", p.Rule, p.Sparsity, size), got, pc.ref.pruned(rt, w, p.Mask, chosen, p.Rule))
	})
}
