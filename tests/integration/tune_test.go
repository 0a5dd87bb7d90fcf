package integration

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// inverted is the inverse of a positive definite matrix, by Gauss and Jordan.
func (e *exact) inverted(a [][]*big.Float) [][]*big.Float {
	n := len(a)
	w := make([][]*big.Float, n)
	for i := range w {
		w[i] = make([]*big.Float, 2*n)
		for j := range n {
			w[i][j], w[i][n+j] = number(0).Set(a[i][j]), number(0)
		}
		w[i][n+i] = number(1)
	}
	for c := range w {
		pivot := number(0).Set(w[c][c])
		for j := range w[c] {
			w[c][j].Quo(w[c][j], pivot)
		}
		for i := range w {
			if by := number(0).Set(w[i][c]); i != c {
				for j := range w[i] {
					e.subMul(w[i][j], by, w[c][j])
				}
			}
		}
	}
	for i := range w {
		w[i] = w[i][n:]
	}
	return w
}

// root is the square root of a matrix by Denman and Beavers' iteration.
func (e *exact) root(a [][]*big.Float) [][]*big.Float {
	n := len(a)
	mean := func(a, b [][]*big.Float) [][]*big.Float {
		out := make([][]*big.Float, n)
		for i := range out {
			out[i] = make([]*big.Float, n)
			for j := range out[i] {
				out[i][j] = number(0).Add(a[i][j], b[i][j])
				out[i][j].Mul(out[i][j], number(0.5))
			}
		}
		return out
	}
	y, z := a, make([][]*big.Float, n)
	for i := range z {
		z[i] = make([]*big.Float, n)
		for j := range z[i] {
			z[i][j] = number(0)
		}
		z[i][i] = number(1)
	}
	for range 90 { // halves the exponent's error till it squares the error
		y, z = mean(y, e.inverted(z)), mean(z, e.inverted(y))
	}
	return y
}

// invSqrt is H^(−½)v = (v − Gᵀ(K + √(Nλ)K^½)⁻¹Gv)/√λ.
func (e *exact) invSqrt(v []float64, n int, lambda float64) []*big.Float {
	shift := number(lambda)
	shift.Mul(shift, number(float64(n)))
	k := make([][]*big.Float, len(e.rows))
	for i := range k {
		k[i] = make([]*big.Float, len(k))
		for j := range k {
			k[i][j] = number(0).Set(e.gram[max(i, j)][min(i, j)])
		}
		k[i][i].Add(k[i][i], shift)
	}
	s := number(0).Sqrt(shift)
	for i, line := range e.root(k) {
		for j := range line {
			e.addMul(k[i][j], s, line[j])
		}
	}
	inverse := e.inverted(k)
	x := numbers(v)
	y := make([]*big.Float, len(k))
	for i, g := range e.rows {
		y[i] = e.dotWith(widened(g), x)
	}
	root := number(0).Sqrt(number(lambda))
	for i, g := range e.rows {
		c := number(0)
		for j := range y {
			e.addMul(c, inverse[i][j], y[j])
		}
		for col, a := range g {
			e.subMul(x[col], number(float64(a)), c)
		}
	}
	for _, a := range x {
		a.Quo(a, root)
	}
	return x
}

// TestInvSqrt draws runs and compares H^(−½)v with math/big: errors are within the bounds, twice is H⁻¹v, float32
// results are the float64 ones rounded once, k together the k alone.
func TestInvSqrt(t *testing.T) {
	c := start(t, shape{workers: 3})
	cl := c.client()
	cases := 60
	if testing.Short() {
		cases = 15
	}
	answered, refused, worst := 0, 0, 0.0
	for i := range cases {
		r := rand.New(rand.NewPCG(uint64(i), 78))
		d, m := 1+r.IntN(1500), 1+r.IntN(7)
		n := r.IntN(m + 1)
		lambda := math.Pow(10, -9+10*r.Float64())
		run := c.attach(cl, client.RunConfig{Name: "q" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Dim: int64(d), Window: m, Damping: lambda, Shards: 1 + r.IntN(min(d, 4))})
		ctx := within(t, time.Minute)
		rows := hardRows(r, d, n)
		if n > 0 {
			if _, err := run.PublishMany(ctx, 1, rows); err != nil {
				t.Fatal(err)
			}
		}
		e := newExact(rows)
		vs := [][]float64{make([]float64, d), make([]float64, d)}
		for j := range d {
			vs[0][j] = r.NormFloat64()
		}
		if n > 0 {
			copy(vs[1], widened(rows[r.IntN(n)]))
		}
		xs := [][]float64{make([]float64, d), make([]float64, d)}
		a, err := run.InvSqrts64(ctx, xs, vs)
		if errors.Is(err, &wire.Error{Code: wire.CodeIllConditioned}) {
			refused++
			continue
		}
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		answered++
		alone, single := make([]float64, d), make([]float32, d)
		for k, v := range vs {
			off := relative(xs[k], e.invSqrt(v, m, lambda))
			if off > 0 {
				worst = max(worst, off/a.Bounds[k])
			}
			if !(off <= a.Bounds[k]*(1+referenceOff)) {
				t.Errorf("case %d (d=%d, n=%d, λ=%.2g), vector %d is off by %.3g, bound %.3g", i, d, n, lambda, k, off, a.Bounds[k])
			}
			b, err := run.InvSqrt64(ctx, alone, v)
			if err != nil || b.Bounds[0] != a.Bounds[k] {
				t.Fatalf("alone: %+v, together %+v (%v)", b, a, err)
			}
			same64(t, "alone", alone, xs[k])
			v32 := make([]float32, d)
			for j := range v {
				v32[j] = float32(v[j])
			}
			if _, err := run.InvSqrt64(ctx, alone, widened(v32)); err != nil {
				t.Fatal(err)
			}
			if _, err = run.InvSqrt(ctx, single, v32); err != nil {
				t.Fatal(err)
			}
			same64(t, "in float32", widened(single), rounded(alone))

			// Twice: ‖x̂₂ − H⁻¹v‖ ≤ the second's error, and ‖H^(−½)‖ ≤ 1/√λ times the first's.
			twice := make([]float64, d)
			b, err = run.InvSqrt64(ctx, twice, xs[k])
			if errors.Is(err, &wire.Error{Code: wire.CodeIllConditioned}) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			want, _ := e.vector(v, m, lambda)
			first := floats.Norm(xs[k], 2) * a.Bounds[k] / math.Sqrt(lambda)
			if diff := relative(twice, want) * size(want); !(diff <= 2*first+2*b.Bound()*size(want)+referenceOff*size(want)) {
				t.Errorf("case %d: twice is off by %.3g of %.3g, bounds %.3g and %.3g", i, diff, size(want), a.Bounds[k], b.Bound())
			}
		}
	}
	t.Logf("%d answered, %d refused, at most %.2g of a bound", answered, refused, worst)
	if answered < cases/2 {
		t.Error("the runs drawn show nothing")
	}
}

// denseLikelihood is, by the dense factor of H, log N(h; 0, H) with row leave out of H.
func denseLikelihood(t interface{ Fatal(...any) }, rows [][]float32, leave int, h []float64, n, lambda float64) float64 {
	d := len(h)
	m := mat.NewSymDense(d, nil)
	for i := range d {
		for j := range i + 1 {
			sum := 0.0
			for k, g := range rows {
				if k != leave {
					sum += float64(g[i]) * float64(g[j]) / n
				}
			}
			if i == j {
				sum += lambda
			}
			m.SetSym(i, j, sum)
		}
	}
	var c mat.Cholesky
	if !c.Factorize(m) {
		t.Fatal("the dense H is not positive definite")
	}
	x := mat.NewVecDense(d, nil)
	if err := c.SolveVecTo(x, mat.NewVecDense(d, h)); err != nil {
		t.Fatal(err)
	}
	return -0.5 * (float64(d)*math.Log(2*math.Pi) + c.LogDet() + floats.Dot(x.RawVector().Data, h))
}

// TestTune draws runs and compares likelihoods with those of the dense H, and what is ranked with what they give.
func TestTune(t *testing.T) {
	const tolerance = 1e-8 // relative, of the reference: condition numbers here are up to 1e6, and d is up to 40
	c := start(t, shape{workers: 3})
	cl := c.client()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		if runs++; runs > 30 {
			return
		}
		d := rapid.IntRange(1, 40).Draw(rt, "d")
		m := rapid.IntRange(1, 12).Draw(rt, "m")
		rows := make([][]float32, rapid.IntRange(1, m).Draw(rt, "n"))
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2))
		for i := range rows {
			rows[i] = normal(r, d)
		}
		div := rapid.SampledFrom([]wire.Divisor{wire.Capacity, wire.Count}).Draw(rt, "divisor")
		name := "t" + string(rune('a'+runs%26)) + string(rune('a'+runs/26))
		ctx := rt.Context()
		run, err := cl.Attach(ctx, client.RunConfig{Name: name, Dim: int64(d), Window: m, Damping: 0.1, Divisor: div, Shards: rapid.IntRange(1, min(d, 4)).Draw(rt, "shards")})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = cl.Delete(ctx, name) }()
		if _, err := run.PublishMany(ctx, 1, rows); err != nil {
			rt.Fatal(err)
		}
		n := float64(m)
		if div == wire.Count {
			n = float64(len(rows))
		}
		dampings := []float64{1e-4, 0.1, math.Pow(10, rapid.Float64Range(-3, 2).Draw(rt, "log λ"))}
		held := make([][]float64, 70) // more than one query takes
		for i := range held {
			held[i] = widened(normal(r, d))
		}
		near := func(what string, got, bound, want float64) {
			if !(math.Abs(got-want) <= bound+tolerance*(1+math.Abs(want))) || !(bound <= tolerance*(1+math.Abs(want))) {
				rt.Errorf("%s is %g ± %g, not %g", what, got, bound, want)
			}
		}
		l, err := run.Likelihoods64(ctx, dampings, held[:3])
		if err != nil {
			rt.Fatal(err)
		}
		out, err := run.LeaveOneOut(ctx, dampings)
		if err != nil {
			rt.Fatal(err)
		}
		means := make([]float64, len(dampings))
		for k, lambda := range dampings {
			for i, h := range held {
				want := denseLikelihood(rt, rows, -1, h, n, lambda)
				if means[k] += want / float64(len(held)); i < 3 {
					near("held out", l.Values[k][i], l.Bounds[k][i], want)
				}
			}
			for i, g := range rows {
				near("left out", out.Values[k][i], out.Bounds[k][i], denseLikelihood(rt, rows, i, widened(g), n, lambda))
			}
		}
		if !slices.Equal(out.Steps, sequence(len(rows))) || l.Steps != nil || out.Rows != len(rows) {
			rt.Errorf("of steps %v", out.Steps)
		}
		ranked, err := run.Tune64(ctx, dampings, held)
		if err != nil {
			rt.Fatal(err)
		}
		best := floats.MaxIdx(means)
		if ranked.Best != best && dampings[ranked.Best] != dampings[best] || ranked.Gradients != len(held) || ranked.LeftOut {
			rt.Errorf("%+v, of means %v", ranked, means)
		}
		for k := range means {
			near("mean", ranked.At[k].Mean, ranked.At[k].Bound, means[k])
			near("below", ranked.At[k].Below, ranked.At[k].Bound, means[best]-means[k])
		}
		if len(rows) > 1 {
			ranked, err = run.Tune(ctx, dampings, nil)
			if err != nil || !ranked.LeftOut || ranked.Gradients != len(rows) {
				rt.Errorf("%+v, %v", ranked, err)
			}
		}
	})
}

func sequence(n int) []wire.Step {
	s := make([]wire.Step, n)
	for i := range s {
		s[i] = wire.Step(i + 1)
	}
	return s
}

// tuned asks for what is ranked, and for roots; k together are the k alone.
func tuned(t *testing.T, run *client.Run, vs [][]float64, out map[string]any) {
	t.Helper()
	ctx := within(t, time.Minute)
	dampings := []float64{1e-3, 1}
	all, err := run.Likelihoods64(ctx, dampings, vs)
	if err != nil {
		t.Fatal(err)
	}
	left, err := run.LeaveOneOut(ctx, dampings)
	if err != nil {
		t.Fatal(err)
	}
	x := make([][]float64, len(vs))
	for i := range x {
		x[i] = make([]float64, len(vs[i]))
	}
	a, err := run.InvSqrts64(ctx, x, vs)
	if err != nil {
		t.Fatal(err)
	}
	roots := make([][]uint64, len(x))
	for i := range x {
		roots[i] = bits64(x[i])
	}
	out["likelihoods"], out["left out"], out["roots"], out["roots: answer"] = all, left, roots, a
	alone := make([]float64, len(vs[0]))
	for i, v := range vs {
		l, err := run.Likelihoods64(ctx, dampings[:1], [][]float64{v})
		if err != nil || l.Values[0][0] != all.Values[0][i] || l.Bounds[0][0] != all.Bounds[0][i] {
			t.Errorf("likelihood of vector %d alone: %+v, %v", i, l, err)
		}
		if _, err := run.InvSqrt64(ctx, alone, v); err != nil || !cmp.Equal(bits64(alone), roots[i]) {
			t.Errorf("the root of vector %d alone has other bits than together with others (%v)", i, err)
		}
	}
}

// On real gradients: twice is H⁻¹v of testdata, and λ is ranked.
func TestTuneVectors(t *testing.T) {
	v := openVectors(t)
	c := start(t, shape{workers: 2})
	run := c.attach(c.client(), client.RunConfig{Name: "digits", Dim: vectorsDim, Window: vectorsWindow, Damping: 0.01, Shards: 3})
	ctx := within(t, time.Minute)
	grads := v.grads()
	if _, err := run.PublishMany(ctx, 1, grads); err != nil {
		t.Fatal(err)
	}
	vec := widened(v.f32("v"))
	x, twice := make([]float64, vectorsDim), make([]float64, vectorsDim)
	for lambda, damping := range map[string]float64{"0.01": 0.01, "1e-05": 1e-5} {
		at := client.WithDamping(damping)
		a, err := run.InvSqrt64(ctx, x, vec, at)
		if err != nil {
			t.Fatal(err)
		}
		b, err := run.InvSqrt64(ctx, twice, x, at)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("λ = %s: bounds %.2g, %.2g", lambda, a.Bound(), b.Bound())
		check64(t, "twice H^(−½)v at "+lambda, twice, v.f64("ihvp_"+lambda), tolSpan)
	}
	const useful = 1e-6 // what bounds come to here, at the least λ
	dampings := []float64{1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2}
	left, err := run.Tune(ctx, dampings, nil)
	if err != nil {
		t.Fatal(err)
	}
	held, err := run.Tune(ctx, dampings, grads[:len(grads)-vectorsWindow])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("left out: %+v\nheld out: %+v", left, held)
	for _, r := range []client.Tuning{left, held} {
		for i, x := range r.At {
			if !(x.Bound <= useful*math.Abs(x.Mean)) || i != r.Best && !(x.Below > 0) {
				t.Errorf("%+v", x)
			}
		}
		if r.Best == 0 || r.Best == len(dampings)-1 {
			t.Errorf("the best is at the end of the list: %+v", r)
		}
	}
}

// Publishing goes on while λ is ranked, and forgetting waits for no one.
func TestTuneBesideSteps(t *testing.T) {
	const window, dim, after = 200, 240, 30
	c := start(t, shape{workers: 2})
	r := c.attach(c.client(), client.RunConfig{Name: "beside", Dim: dim, Window: window, Spare: 2, Damping: 1e-2})
	rng := rand.New(rand.NewPCG(5, 3))
	rows := make([][]float32, window+after)
	for i := range rows {
		rows[i] = normal(rng, dim)
	}
	publishAll(t, r, rows[:window])
	type answer struct {
		l   client.Likelihoods
		a   client.Answer
		err error
	}
	answers := make(chan answer)
	progress := client.WithProgress(func(done, total int64) {
		if done < 0 || done > total {
			t.Errorf("%d of %d", done, total)
		}
	})
	go func() {
		l, err := r.LeaveOneOut(within(t, time.Minute), []float64{0.1, 1}, progress)
		answers <- answer{l: l, err: err}
	}()
	go func() {
		a, err := r.InvSqrt(within(t, time.Minute), make([]float32, dim), rows[0], progress)
		answers <- answer{a: a, err: err}
	}()
	for i := window; i < len(rows); i++ {
		if _, err := r.Publish(within(t, 20*time.Second), wire.Step(i+1), rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		a := <-answers
		if a.err != nil {
			t.Fatal(a.err)
		}
		if l := a.l; l.Version > 0 {
			last := int(l.Version)
			i := 17
			want := denseLikelihood(t, rows[last-window:last], i, widened(rows[last-window+i]), window, 0.1)
			if !(math.Abs(l.Values[0][i]-want) <= 1e-9*math.Abs(want)) || int(l.Steps[i]) != last-window+i+1 {
				t.Errorf("version %d: %g, not %g", last, l.Values[0][i], want)
			}
		}
	}
}

func TestTuneRefused(t *testing.T) {
	c := start(t, shape{workers: 1})
	r := c.attach(c.client(), client.RunConfig{Name: "refused", Dim: 4, Window: 3, Damping: 1})
	ctx := within(t, time.Minute)
	h := [][]float32{{1, 2, 3, 4}, {4, 3, 2, 1}}
	tune := func(dampings []float64, h [][]float32, opts ...client.QueryOption) error {
		_, err := r.Tune(ctx, dampings, h, opts...)
		return err
	}
	if err := tune([]float64{1}, nil); !errors.Is(err, &wire.Error{Code: wire.CodeTooFewRows}) {
		t.Errorf("an empty window: %v", err)
	}
	if err := tune([]float64{1}, h); err != nil {
		t.Errorf("an empty window, held out: %v", err)
	}
	publishAll(t, r, [][]float32{{1, 2, 3, 4}})
	x, v := make([]float32, 4), []float32{1, 0, 0, 0}
	root := func(opts ...client.QueryOption) error { _, err := r.InvSqrt(ctx, x, v, opts...); return err }
	for what, e := range map[string]struct {
		err   error
		code  wire.Code
		field string
	}{
		"none":            {tune([]float64{}, h), wire.CodeInvalid, "dampings"},
		"many":            {tune(make([]float64, client.MaxTuned+1), h), wire.CodeInvalid, "dampings"},
		"zero":            {tune([]float64{1, 0}, nil), wire.CodeInvalid, "damping"},
		"NaN":             {tune([]float64{math.NaN()}, h), wire.CodeInvalid, "damping"},
		"large":           {tune([]float64{1.7e308}, nil), wire.CodeInvalid, "damping"},
		"tiny":            {tune([]float64{1, 1e-300}, h), wire.CodeIllConditioned, "damping"},
		"tiny, left out":  {tune([]float64{1, 1e-300}, nil), wire.CodeIllConditioned, "damping"},
		"twice":           {tune([]float64{1}, h, client.WithDamping(2)), wire.CodeInvalid, "damping"},
		"a dtype":         {tune([]float64{1}, h, client.WithResult(wire.F32)), wire.CodeInvalid, "result"},
		"a wire":          {tune([]float64{1}, nil, client.WithWire(wire.F32)), wire.CodeInvalid, "wire"},
		"few rows":        {tune([]float64{1}, h, client.WithMinRows(2)), wire.CodeTooFewRows, "rows"},
		"one gradient":    {tune([]float64{1}, h[:1]), wire.CodeInvalid, "gradients"},
		"one row":         {tune([]float64{1}, nil), wire.CodeInvalid, "gradients"},
		"short":           {tune([]float64{1}, [][]float32{{1, 2}, {3, 4}}), wire.CodeInvalid, "length of the vector"},
		"verify":          {tune([]float64{1}, h, client.WithVerify()), wire.CodeInvalid, "verify"},
		"a root, verify":  {root(client.WithVerify()), wire.CodeInvalid, "verify"},
		"a root, refine":  {root(client.WithRefine()), wire.CodeInvalid, "refine"},
		"a root, tiny":    {root(client.WithDamping(1e-300)), wire.CodeIllConditioned, "damping"},
		"a root, large":   {root(client.WithDamping(1.7e308)), wire.CodeInvalid, "damping"},
		"a root, to come": {root(client.WithAtLeast(2)), wire.CodeBehind, "version"},
	} {
		var got *wire.Error
		if !errors.As(e.err, &got) || got.Code != e.code || got.Field != e.field {
			t.Errorf("%s: %v", what, e.err)
		}
	}
	if _, err := r.Likelihoods(ctx, nil, [][]float32{{float32(math.NaN()), 0, 0, 0}}); !errors.Is(err, &wire.Error{Code: wire.CodeNotFinite}) {
		t.Errorf("NaN: %v", err)
	}
	// What is there is as it was.
	if l, err := r.Likelihoods(ctx, nil, h); err != nil || l.Version != 1 || len(l.Values) != 1 || len(l.Values[0]) != 2 {
		t.Errorf("%+v, %v", l, err)
	}
}
