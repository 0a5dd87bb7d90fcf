package integration

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/floats"
	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

const (
	roundF32 = 0x1p-24

	// hardest is up to where the gauge's factor holds: beyond it, ‖x‖ itself is not known well.
	hardest = wire.MaxErrorRate
)

// statistics are of the answers that a test has seen.
type statistics struct {
	answers, refused int
	used             float64    // most of a bound that an error took
	below, above     [2]int     // vectors and combinations of which maths.md says at most 1e-9; of these, with a larger bound
	most             [2]float64 // of the factor that was used
}

func (s *statistics) String() string {
	return fmt.Sprintf("%d answers, errors up to %.2g of their bound; of %d vectors and combinations maths.md says at most 1e-9, %d carry more; up to %.2g of the factor is used; %d refused",
		s.answers, s.used, s.below, s.above, s.most, s.refused)
}

// hardness is what maths.md says that an error stays below, and the factor that its bound may be
// above that.
type hardness struct {
	kind         int // 0 of a vector, 1 of a combination
	says, factor float64
}

// add counts an answer with its error and bound, and says what is wrong with them.
func (s *statistics) add(h hardness, off, bound float64) error {
	s.answers++
	if !(off <= bound) || !(bound <= wire.MaxErrorRate) {
		return fmt.Errorf("relative error %.3g, bound %.3g (maths.md's %.3g)", off, bound, h.says)
	}
	if bound > 0 {
		s.used = max(s.used, off/bound)
	}
	if h.says <= benignBound {
		s.below[h.kind]++
		if bound > benignBound {
			s.above[h.kind]++
		}
	}
	most := h.says * h.factor
	if bound > smallBound && most <= hardest {
		s.most[h.kind] = max(s.most[h.kind], bound/most)
		if !(bound <= most) {
			return fmt.Errorf("a bound of %.3g where maths.md says %.3g, times %.3g", bound, h.says, h.factor)
		}
	}
	return nil
}

// refuse counts a refusal, and says whether there was no reason for it.
func (s *statistics) refuse(h hardness) error {
	s.refused++
	if h.says*h.factor <= hardest {
		return fmt.Errorf("refused where maths.md says %.3g, times %.3g", h.says, h.factor)
	}
	return nil
}

// trial is a run and its exact twin.
type trial struct {
	*rapid.T
	run    *client.Run
	stats  *statistics
	rows   [][]float32 // of the window, oldest first
	steps  []wire.Step
	exact  *exact
	lambda float64
	div    wire.Divisor
}

// drawRows draws gradients, of all kinds that are hard for somebody.
func drawRows(t *rapid.T, d, n int) [][]float32 {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	kinds := rapid.SliceOfN(rapid.SampledFrom([]string{
		"normal", "normal", "normal", "zero", "double", "large", "small", "near", "one number", "sparse",
	}), n, n).Draw(t, "kinds")
	rows := make([][]float32, n)
	for i, kind := range kinds {
		g := normal(r, d)
		var before []float32
		if i > 0 {
			before = rows[i-1-r.IntN(min(i, 5))]
		}
		for j := range g {
			switch {
			case kind == "zero":
				g[j] = 0
			case kind == "large":
				g[j] *= 1e4
			case kind == "small":
				g[j] *= 1e-4
			case kind == "one number":
				g[j] = 0.37
			case kind == "sparse" && r.IntN(20) > 0:
				g[j] = 0
			case kind == "double" && before != nil:
				g[j] = before[j]
			case kind == "near" && before != nil:
				g[j] = before[j] * (1 + 1e-6*g[j])
			}
		}
		rows[i] = g
	}
	return rows
}

// divisor is N.
func (tr *trial) divisor(div wire.Divisor) int {
	if div == wire.Count {
		return max(1, len(tr.rows))
	}
	return tr.run.Spec().Window
}

func (tr *trial) options(lambda float64, div wire.Divisor) []client.QueryOption {
	var opts []client.QueryOption
	if lambda != tr.lambda {
		opts = append(opts, client.WithDamping(lambda))
	}
	if div != tr.div {
		opts = append(opts, client.WithDivisor(div))
	}
	return opts
}

// judge compares an answer with the exact one x: the bound holds, is no larger than it must be, and
// there is a reason for a refusal.
func (tr *trial) judge(what string, got []float64, bound float64, err error, x []*big.Float, h hardness, n int, lambda float64) (answered bool) {
	tr.Helper()
	var e *wire.Error
	if errors.As(err, &e) && e.Code == wire.CodeIllConditioned {
		if wrong := tr.stats.refuse(h); wrong != nil && !tr.drowned(n, lambda) {
			tr.Errorf("%s at λ = %g: %v: %v", what, lambda, wrong, e)
		}
		return false
	}
	if err != nil {
		tr.Fatalf("%s at λ = %g: %v", what, lambda, err)
	}
	if wrong := tr.stats.add(h, relative(got, x), bound); wrong != nil {
		tr.Errorf("%s at λ = %g, %d rows: %v", what, lambda, len(tr.rows), wrong)
	}
	return true
}

// drowned reports whether Nλ is below the rounding errors of A, so that nothing can be solved.
func (tr *trial) drowned(n int, lambda float64) bool {
	var most float64
	for i := range tr.rows {
		a, _ := tr.exact.gram[i][i].Float64()
		most = max(most, a)
	}
	return float64(n)*lambda <= float64(len(tr.rows))*0x1p-52*most
}

// size is ‖x‖.
func size(x []*big.Float) float64 {
	sum, sq := number(0), number(0)
	for _, v := range x {
		sum.Add(sum, sq.Mul(v, v))
	}
	f, _ := sum.Sqrt(sum).Float64()
	return f
}

func narrowed(x []*big.Float) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i], _ = v.Float64()
	}
	return out
}

func rounded(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(float32(v))
	}
	return out
}

func widened(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// same32 checks that a float32 answer is the float64 one rounded once, and its bound.
func (tr *trial) same32(what string, got []float32, x64 []float64, bound, bound64 float64, err error, x []*big.Float) {
	tr.Helper()
	if err != nil { // the rounding may take the bound over the limit
		var e *wire.Error
		if errors.As(err, &e) && e.Code == wire.CodeIllConditioned && bound64 > wire.MaxErrorRate-2*roundF32 || e.Code == wire.CodeOverflow {
			return
		}
		tr.Fatalf("%s in float32: %v", what, err)
	}
	for i, v := range x64 {
		if got[i] != float32(v) {
			tr.Fatalf("%s: element %d is %g in float32, %g in float64", what, i, got[i], v)
		}
	}
	if off := relative(widened(got), x); !(off <= bound) {
		tr.Errorf("%s in float32: relative error %.3g, bound %.3g", what, off, bound)
	}
}

// query asks in all ways, at one damping and divisor.
func (tr *trial) query(lambda float64, div wire.Divisor) {
	tr.Helper()
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(tr.T, "queries"), 2))
	d, n := int(tr.run.Dim()), tr.divisor(div)
	opts := tr.options(lambda, div)
	ctx := tr.Context()
	// Vectors: random, a stored row, a combination of rows, and one almost in their span.
	vs := [][]float64{make([]float64, d)}
	for j := range d {
		vs[0][j] = r.NormFloat64()
	}
	for _, a := range tr.combinations(r) {
		v := make([]float64, d)
		for i, g := range tr.rows {
			for j, x := range g {
				v[j] += a[i] * float64(x)
			}
		}
		vs = append(vs, v)
		if r.IntN(2) == 0 {
			near := append([]float64(nil), v...)
			for j := range near {
				near[j] *= 1 + 1e-7*r.NormFloat64()
			}
			vs = append(vs, near)
		}
	}
	vs = vs[:min(len(vs), 4)]
	x64, x32 := make([]float64, d), make([]float32, d)
	gauge := tr.exact.gauge(n, lambda)
	for k, v := range vs {
		what := fmt.Sprintf("vector %d", k)
		a, err := tr.run.IHVP64(ctx, x64, v, opts...)
		x, c := tr.exact.vector(v, n, lambda)
		says, factor := gauge.vector(narrowed(c), floats.Norm(v, 2), lambda*size(x))
		if !tr.judge(what, x64, a.Bound(), err, x, hardness{0, says, factor}, n, lambda) {
			continue
		}
		if w := rounded(v); k <= 1 { // what a client with float32 vectors sends: a random one, a stored row
			if a, err = tr.run.IHVP64(ctx, x64, w, opts...); err != nil {
				tr.Fatalf("%s: %v", what, err)
			}
			f := make([]float32, d)
			for j := range w {
				f[j] = float32(w[j])
			}
			b, err := tr.run.IHVP(ctx, x32, f, opts...)
			x, _ = tr.exact.vector(w, n, lambda)
			tr.same32(what, x32, x64, b.Bound(), a.Bound(), err, x)
		}
	}
	for k, coef := range tr.combinations(r) {
		what := fmt.Sprintf("combination %d", k)
		a, err := tr.run.IHVPCombine64(ctx, x64, tr.steps, coef, opts...)
		x, c := tr.exact.combination(coef, d, n, lambda)
		says, factor := gauge.combination(narrowed(c), size(x))
		if !tr.judge(what, x64, a.Bound(), err, x, hardness{1, says, factor}, n, lambda) {
			continue
		}
		b, err := tr.run.IHVPCombine(ctx, x32, tr.steps, coef, opts...)
		tr.same32(what, x32, x64, b.Bound(), a.Bound(), err, x)
	}
}

// combinations are the newest row alone and random ones, one of which cancels where rows are equal.
func (tr *trial) combinations(r *rand.Rand) [][]float64 {
	m := len(tr.rows)
	if m == 0 {
		return nil
	}
	last, mean, few := make([]float64, m), make([]float64, m), make([]float64, m)
	last[m-1] = 1
	for i := range mean {
		mean[i] = 1 / float64(m)
	}
	few[r.IntN(m)], few[r.IntN(m)] = 1, -1
	return [][]float64{last, mean, few}
}

// TestNumerics draws runs and compares all answers with math/big.
func TestNumerics(t *testing.T) {
	old := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", "70"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flag.Set("rapid.checks", old) }()
	c := start(t, shape{workers: 3})
	cl := c.client()
	stats := &statistics{}
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		d := rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(41, 900), rapid.IntRange(901, 3300)).Draw(rt, "d")
		m := rapid.OneOf(rapid.IntRange(1, 8), rapid.IntRange(9, 40)).Draw(rt, "m")
		published := rapid.OneOf(rapid.Just(0), rapid.IntRange(1, m), rapid.Just(m), rapid.IntRange(m+1, 4*m+1)).Draw(rt, "published")
		tr := &trial{
			T: rt, stats: stats, lambda: math.Pow(10, rapid.Float64Range(-9, 1).Draw(rt, "log λ")),
			div: rapid.SampledFrom([]wire.Divisor{wire.Capacity, wire.Count}).Draw(rt, "divisor"),
		}
		var err error
		tr.run, err = cl.Attach(rt.Context(), client.RunConfig{
			Name: fmt.Sprintf("n%d", runs), Dim: int64(d), Window: m, Damping: tr.lambda, Divisor: tr.div,
			Shards: rapid.IntRange(1, min(d, 5)).Draw(rt, "shards"), Spare: rapid.IntRange(1, 4).Draw(rt, "spare"),
		})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() {
			if err := cl.Delete(rt.Context(), fmt.Sprintf("n%d", runs)); err != nil {
				rt.Error(err)
			}
		}()
		rows := drawRows(rt, d, published)
		first := wire.Step(rapid.IntRange(0, 1000).Draw(rt, "first step"))
		if commits, err := tr.run.PublishMany(rt.Context(), first, rows); err != nil {
			rt.Fatalf("%+v: %v", commits, err)
		}
		tr.rows = rows[max(0, published-m):]
		for i := range tr.rows {
			tr.steps = append(tr.steps, first+wire.Step(published-len(tr.rows)+i))
		}
		tr.exact = newExact(tr.rows)
		tr.query(tr.lambda, tr.div)
		tr.query(math.Pow(10, rapid.Float64Range(-12, 2).Draw(rt, "log of another λ")), rapid.SampledFrom([]wire.Divisor{wire.Capacity, wire.Count}).Draw(rt, "another divisor"))
	})
	t.Logf("%d runs: %v", runs, stats)
	if stats.below[0] == 0 || stats.below[1] == 0 || stats.refused == 0 && !testing.Short() { // rapid draws a fifth with -short: too few
		t.Error("the runs drawn show nothing")
	}
}

// TestZeroGradient: H⁻¹0 is 0, also of a gradient that is stored, beside others and alone.
func TestZeroGradient(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	const d = 777
	run := c.attach(c.client(), client.RunConfig{Name: "zero", Dim: d, Window: 4, Damping: 1e-8, Shards: 2})
	r := rand.New(rand.NewPCG(21, 22))
	zero, x, x32 := make([]float32, d), make([]float64, d), make([]float32, d)
	check := func(what string, a client.Answer, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for j := range x {
			if x[j] != 0 || x32[j] != 0 {
				t.Fatalf("%s: element %d is %g", what, j, x[j])
			}
		}
		if a.Bound() != 0 {
			t.Errorf("%s: answer %+v, want a bound of 0", what, a)
		}
	}
	for i, g := range [][]float32{zero, normal(r, d), zero, normal(r, d), normal(r, d), zero} {
		step := wire.Step(i)
		if g[0] != 0 {
			if _, err := run.Publish(soon(t), step, g); err != nil {
				t.Fatal(err)
			}
			continue
		}
		a, err := run.Precondition64(soon(t), step, x, g)
		check("precondition", a, err)
		a, err = run.IHVPStep(soon(t), x32, step)
		check("step", a, err)
		a, err = run.IHVP64(soon(t), x, make([]float64, d))
		check("vector", a, err)
	}
	a, err := run.IHVPCombine64(soon(t), x, []wire.Step{2, 5}, []float64{3, -1})
	check("two of them", a, err)
}

// TestLargeWindow fills a window of 2,048 and wraps it, with few columns, so that the exact answer
// can be had in the d×d form.
func TestLargeWindow(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: 2,100 steps at m = 2048")
	}
	const (
		m, d      = 2048, 61
		published = m + 37
		lambda    = 0.05
	)
	c := start(t, shape{workers: 2, coordinator: patient})
	run := c.attach(c.client(), client.RunConfig{Name: "large", Dim: d, Window: m, Damping: lambda, Shards: 3, Spare: 16})
	r := rand.New(rand.NewPCG(19, 20))
	rows := make([][]float32, published)
	for i := range rows {
		rows[i] = normal(r, d)
		switch {
		case i%50 == 7:
			copy(rows[i], rows[i-1])
		case i%50 == 9:
			clear(rows[i])
		case i%50 == 11:
			for j := range rows[i] {
				rows[i][j] *= 100
			}
		}
	}
	ctx := within(t, 2*time.Minute)
	begun := time.Now()
	if _, err := run.PublishMany(ctx, 1, rows); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	columns := make([][]float32, d) // whose Gram matrix is GᵀG
	for j := range columns {
		for _, g := range rows[published-m:] {
			columns[j] = append(columns[j], g[j])
		}
	}
	h := newExact(columns) // NH = GᵀG + NλI
	v, x := make([]float64, d), make([]float64, d)
	for j := range v {
		v[j] = r.NormFloat64()
	}
	check := func(what string, a client.Answer, err error, b []float64) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		want := make([]*big.Float, d)
		for j := range want {
			want[j] = number(b[j])
		}
		h.solve(want, m, lambda)
		for j := range want {
			want[j].Mul(want[j], number(m))
		}
		off := relative(x, want)
		t.Logf("%s: error %.2g, bound %.2g", what, off, a.Bound())
		if a.Rows != m || !(off <= a.Bound()) || !(a.Bound() <= benignBound) {
			t.Errorf("%s: answer %+v, error %.3g", what, a, off)
		}
	}
	a, err := run.IHVP64(ctx, x, v)
	check("vector", a, err, v)
	a, err = run.IHVPStep64(ctx, x, published)
	check("newest step", a, err, widened(rows[published-1]))
	a, err = run.IHVPStep64(ctx, x, 48) // a large one
	check("an old step", a, err, widened(rows[47]))
	a, err = run.IHVP64(ctx, x, widened(rows[published-1]))
	check("newest row as a vector", a, err, widened(rows[published-1]))
	t.Logf("%d steps in %v, %.2g ms each", published, took.Round(time.Millisecond), float64(took.Milliseconds())/published)
}
