package integration

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"mfac/client"
	gauss "mfac/internal/normal"
	"mfac/wire"
)

// times is scale·v + GᵀGv/N.
func (e *exact) times(v []*big.Float, n int, scale float64) []*big.Float {
	x := make([]*big.Float, len(v))
	for j := range x {
		x[j] = number(scale)
		x[j].Mul(x[j], v[j])
	}
	for _, g := range e.rows {
		y := number(0)
		for j, a := range g {
			e.addMul(y, e.factor.SetFloat64(float64(a)), v[j])
		}
		y.Quo(y, number(float64(n)))
		for j, a := range g {
			e.addMul(x[j], e.factor.SetFloat64(float64(a)), y)
		}
	}
	return x
}

func numbers(v []float64) []*big.Float {
	x := make([]*big.Float, len(v))
	for j := range v {
		x[j] = number(v[j])
	}
	return x
}

// residual is ‖Hx − v‖/‖v‖.
func (e *exact) residual(x []float64, v []*big.Float, n int, lambda float64) float64 {
	hx := e.times(numbers(x), n, lambda)
	for j := range hx {
		hx[j].Sub(hx[j], v[j])
	}
	return size(hx) / size(v)
}

// sample is (z − GᵀK⁻¹(Gz − √(Nλ)u))/√λ.
func (e *exact) sample(z, u []float64, n int, lambda float64) []*big.Float {
	x := numbers(z)
	root := number(lambda)
	root.Mul(root, number(float64(n))).Sqrt(root)
	c := make([]*big.Float, len(e.rows))
	for i, g := range e.rows {
		c[i] = number(0)
		for j, a := range g {
			e.addMul(c[i], e.factor.SetFloat64(float64(a)), x[j])
		}
		e.subMul(c[i], root, number(u[i]))
	}
	e.solve(c, n, lambda)
	l := number(lambda)
	l.Sqrt(l)
	for j := range x {
		for i, g := range e.rows {
			e.subMul(x[j], e.factor.SetFloat64(float64(g[j])), c[i])
		}
		x[j].Quo(x[j], l)
	}
	return x
}

// referenceOff is the rounding of what a bound is compared with.
const referenceOff = 1e-12

// F v, H v, samples and residuals, against math/big: errors within the bounds, float32 results the
// float64 ones rounded once, k together the k alone.
func TestFunctions(t *testing.T) {
	cases := 14 // 400 were run once, 4,309 answers: at most 0.23 of a bound
	if testing.Short() {
		cases = 5
	}
	c := start(t, shape{workers: 2})
	cl := c.client()
	answered, refused := 0, 0
	worst := map[string]float64{} // shares of bounds
	for i := range cases {
		r := rand.New(rand.NewPCG(uint64(i), 77))
		d, m := 1+r.IntN(1500), 1+r.IntN(10)
		if i == 0 {
			d = 1
		}
		n := r.IntN(m + 1)
		lambda := math.Pow(10, -9+10*r.Float64())
		name := fmt.Sprintf("f%d", i)
		run := c.attach(cl, client.RunConfig{Name: name, Dim: int64(d), Window: m, Damping: lambda, Shards: 1 + r.IntN(min(d, 3))})
		ctx := within(t, time.Minute)
		rows := hardRows(r, d, n)
		for s, g := range rows {
			if _, err := run.Publish(ctx, wire.Step(10*s+3), g); err != nil {
				t.Fatal(err)
			}
		}
		e := newExact(rows)
		v := make([]float64, d)
		for j := range v {
			v[j] = r.NormFloat64()
		}
		vs := [][]float64{v, make([]float64, d)}
		if n > 0 {
			for j, a := range rows[r.IntN(n)] {
				vs[1][j] = float64(a)
			}
		}
		judge := func(what string, a client.Answer, k int, err error, got []float64, want []*big.Float) bool {
			t.Helper()
			var refusal *wire.Error
			if errors.As(err, &refusal) && refusal.Code == wire.CodeIllConditioned {
				refused++
				return false
			}
			if err != nil {
				t.Fatalf("case %d, %s: %v", i, what, err)
			}
			answered++
			off := relative(got, want)
			if off > 0 {
				worst[what] = max(worst[what], off/a.Bounds[k])
			}
			if !(off <= a.Bounds[k]*(1+referenceOff)) {
				t.Errorf("case %d (d=%d, n=%d, λ=%.2g), %s is off by %.3g, bound %.3g", i, d, n, lambda, what, off, a.Bounds[k])
			}
			return true
		}
		x, y := make([]float64, d), make([]float64, d)
		both := [][]float64{x, y}
		f32 := make([]float32, d)

		for kind, f := range map[string]struct {
			many   func(dst, v [][]float64) (client.Answer, error)
			one    func(dst, v []float64) (client.Answer, error)
			single func(dst, v []float32) (client.Answer, error)
			scale  float64
		}{
			"F v": {func(dst, v [][]float64) (client.Answer, error) { return run.FisherVecs64(ctx, dst, v) },
				func(dst, v []float64) (client.Answer, error) { return run.FisherVec64(ctx, dst, v) },
				func(dst, v []float32) (client.Answer, error) { return run.FisherVec(ctx, dst, v) }, 0},
			"H v": {func(dst, v [][]float64) (client.Answer, error) { return run.HessianVecs64(ctx, dst, v) },
				func(dst, v []float64) (client.Answer, error) { return run.HessianVec64(ctx, dst, v) },
				func(dst, v []float32) (client.Answer, error) { return run.HessianVec(ctx, dst, v) }, lambda},
		} {
			a, err := f.many(both, vs)
			if !judge(kind, a, 0, err, x, e.times(numbers(v), m, f.scale)) {
				continue
			}
			judge(kind, a, 1, err, y, e.times(numbers(vs[1]), m, f.scale))
			alone := make([]float64, d)
			for k, v := range vs {
				if _, err := f.one(alone, v); err != nil {
					t.Fatal(err)
				}
				same64(t, kind+" alone", alone, both[k])
			}
			v32 := make([]float32, d)
			for j := range v {
				v32[j] = float32(v[j])
				v[j] = float64(v32[j])
			}
			if _, err := f.one(alone, v); err != nil {
				t.Fatal(err)
			}
			if _, err := f.single(f32, v32); err != nil {
				t.Fatal(err)
			}
			same64(t, kind+" in float32", widened(f32), rounded(alone))
		}

		z, u := make([]float64, d), make([]float64, n)
		seed := r.Uint64()
		a, err := run.Samples64(ctx, both, seed, 5)
		for k, x := range both {
			gauss.Source{Seed: seed, Index: uint32(5 + k)}.Fill(z, 0)
			for s := range u {
				u[s] = gauss.Source{Seed: seed, Index: uint32(5 + k), Domain: gauss.Steps}.At(uint64(10*s + 3))
			}
			if !judge("sample", a, k, err, x, e.sample(z, u, m, lambda)) {
				continue
			}
			if _, err := run.Sample(ctx, f32, seed, int64(5+k)); err != nil {
				t.Fatal(err)
			}
			same64(t, "sample alone in float32", widened(f32), rounded(x))
		}

		// The residual that is reported is the one that the answer has, but for the rounding of the
		// products that it is measured by.
		if n == 0 {
			continue
		}
		most := 0.0
		for _, g := range rows {
			for _, a := range g {
				most += float64(a) * float64(a) / float64(m)
			}
		}
		measured := func(what string, got, want float64, x []float64, v []*big.Float) {
			t.Helper()
			const roundings = 64 // dots are off by up to 8 ε, twice, and by √n in a combination
			floor := roundings * 0x1p-52 * (1 + (most+lambda)*size(numbers(x))/size(v))
			if !(math.Abs(got-want) <= floor+1e-9*want) {
				t.Errorf("case %d, %s: residual %.3g is reported as %.3g (floor %.2g)", i, what, want, got, floor)
			}
		}
		for _, opt := range []client.CheckOption{client.WithVerify(), client.WithRefine()} {
			want, _ := e.vector(v, m, lambda)
			a, err = run.IHVP64(ctx, x, v, opt)
			if judge("checked H⁻¹v", a, 0, err, x, want) {
				measured("H⁻¹v", a.Residuals[0], e.residual(x, numbers(v), m, lambda), x, numbers(v))
			}
			if len(vs[1]) > 0 && size(numbers(vs[1])) > 0 {
				want, _ = e.vector(vs[1], m, lambda)
				a, err = run.IHVP64(ctx, x, vs[1], opt)
				if judge("checked H⁻¹g", a, 0, err, x, want) {
					measured("H⁻¹g", a.Residuals[0], e.residual(x, numbers(vs[1]), m, lambda), x, numbers(vs[1]))
				}
			}
			coef := make([]float64, n)
			coef[n-1] = 1
			g := e.times(make0(d), m, 0)
			for j, a := range rows[n-1] {
				g[j].SetFloat64(float64(a))
			}
			if size(g) == 0 {
				continue
			}
			want, _ = e.combination(coef, d, m, lambda)
			a, err = run.IHVPStep64(ctx, x, wire.Step(10*(n-1)+3), opt)
			if judge("checked step", a, 0, err, x, want) {
				measured("step", a.Residuals[0], e.residual(x, g, m, lambda), x, g)
			}
		}
	}
	t.Logf("%d answers, %d refused; errors are at most these shares of their bounds: %v", answered, refused, worst)
	if answered < 5*cases {
		t.Errorf("%d answers of %d cases show nothing", answered, cases)
	}
}

func make0(d int) []*big.Float { return numbers(make([]float64, d)) }

func same64(t *testing.T, what string, got, want []float64) {
	t.Helper()
	for j := range want {
		if math.Float64bits(got[j]) != math.Float64bits(want[j]) {
			t.Fatalf("%s: [%d] is %x, want %x", what, j, got[j], want[j])
		}
	}
}

// maths.md's bad case: a stored row passed as v, at α/Nλ = 1e10 to 1e14. A plain answer is off by up to
// 1e-3, or refused; refined it is right to refinedOff, and says so.
func TestRefine(t *testing.T) {
	// A few roundings of float64, magnified by M, some tens here.
	const refinedOff = 1e-13
	const d, m = 700, 4
	c := start(t, shape{workers: 2})
	cl := c.client()
	r := rand.New(rand.NewPCG(3, 4))
	rows := make([][]float32, m)
	for i := range rows {
		rows[i] = normal(r, d)
	}
	e := newExact(rows)
	run := c.attach(cl, client.RunConfig{Name: "bad", Dim: d, Window: m, Damping: 1, Shards: 3})
	ctx := within(t, time.Minute)
	if _, err := run.PublishMany(ctx, 1, rows); err != nil {
		t.Fatal(err)
	}
	v, x := make([]float64, d), make([]float64, d)
	for j, a := range rows[2] {
		v[j] = float64(a)
	}
	for _, ratio := range []float64{1e10, 1e11, 1e12, 1e13, 1e14} {
		lambda := d / (m * ratio)
		want, exactC := e.vector(v, m, lambda)
		plain, err := run.IHVP64(ctx, x, v, client.WithDamping(lambda), client.WithVerify())
		off := relative(x, want)
		if err != nil {
			if ratio < 1e11 || !errors.Is(err, wire.ErrIllConditioned) {
				t.Fatalf("ratio %g: %v", ratio, err)
			}
			off = math.NaN()
		}
		// What it would have been: float64's (v − Gᵀc)/λ, the best c rounded.
		loss := relative(subtracted(rows, v, narrowed(exactC), lambda), want)
		if ratio == 1e12 && !(loss >= 1e-5) {
			t.Errorf("the bad case is off by %.3g alone", loss)
		}
		a, err := run.IHVP64(ctx, x, v, client.WithDamping(lambda), client.WithRefine())
		if err != nil {
			t.Fatalf("ratio %g, refined: %v", ratio, err)
		}
		refined := relative(x, want)
		t.Logf("ratio %g: float64 loses %.2g; off by %.2g (bound %.2g, residual %.2g), refined %.2g (%.2g, %.2g)", ratio, loss, off, plain.Bound(), plain.Residuals, refined, a.Bound(), a.Residuals)
		if !(refined <= refinedOff) || !(refined <= a.Bound()) {
			t.Errorf("ratio %g: the refined answer is off by %.3g, bound %.3g", ratio, refined, a.Bound())
		}
		if len(plain.Residuals) > 0 && !(a.Residuals[0] <= plain.Residuals[0]) {
			t.Errorf("ratio %g: the residual %.3g has risen to %.3g", ratio, plain.Residuals[0], a.Residuals[0])
		}
	}
	// Alone and with another that it does nothing for, the bytes are the same.
	vs := [][]float64{make([]float64, d), v}
	both := [][]float64{make([]float64, d), make([]float64, d)}
	for j := range vs[0] {
		vs[0][j] = r.NormFloat64()
	}
	if _, err := run.IHVPs64(ctx, both, vs, client.WithRefine(), client.WithDamping(1e-9)); err != nil {
		t.Fatal(err)
	}
	for k, v := range vs {
		if _, err := run.IHVP64(ctx, x, v, client.WithRefine(), client.WithDamping(1e-9)); err != nil {
			t.Fatal(err)
		}
		same64(t, "refined together", both[k], x)
	}
}

// subtracted is (v − Gᵀc)/λ in float64.
func subtracted(rows [][]float32, v, c []float64, lambda float64) []float64 {
	x := make([]float64, len(v))
	for j := range x {
		sum := 0.0
		for i, g := range rows {
			sum = math.FMA(c[i], float64(g[j]), sum)
		}
		x[j] = (v[j] - sum) / lambda
	}
	return x
}

// The moments of samples are those of N(0, H⁻¹): their mean is 0 and their covariance H⁻¹.
func TestSampleMoments(t *testing.T) {
	// Each entry of the mean and of the covariance of k samples is off by a standard deviation of √(C_ii/k)
	// and √((C_ii C_jj + C_ij²)/k): within five of them, for some hundred entries of a fixed seed.
	const d, m, k, sigmas, lambda = 12, 5, 4096, 5.0, 0.3
	c := start(t, shape{workers: 1})
	cl := c.client()
	r := rand.New(rand.NewPCG(5, 6))
	rows := make([][]float32, m)
	for i := range rows {
		rows[i] = normal(r, d)
	}
	e := newExact(rows)
	run := c.attach(cl, client.RunConfig{Name: "moments", Dim: d, Window: m, Damping: lambda, Shards: 2})
	ctx := within(t, time.Minute)
	if _, err := run.PublishMany(ctx, 1, rows); err != nil {
		t.Fatal(err)
	}
	var mean [d]float64
	var cov [d][d]float64
	batch := make([][]float64, wire.MaxVectors)
	for i := range batch {
		batch[i] = make([]float64, d)
	}
	for first := 0; first < k; first += len(batch) {
		if _, err := run.Samples64(ctx, batch, 99, int64(first)); err != nil {
			t.Fatal(err)
		}
		for _, x := range batch {
			for i := range d {
				mean[i] += x[i] / k
				for j := range d {
					cov[i][j] += x[i] * x[j] / k
				}
			}
		}
	}
	var want [d][d]float64
	for j := range d {
		unit := make([]float64, d)
		unit[j] = 1
		x, _ := e.vector(unit, m, lambda)
		for i, v := range narrowed(x) {
			want[i][j] = v
		}
	}
	for i := range d {
		if sd := math.Sqrt(want[i][i] / k); !(math.Abs(mean[i]) <= sigmas*sd) {
			t.Errorf("mean of %d is %v, ± %v", i, mean[i], sd)
		}
		for j := range d {
			if sd := math.Sqrt((want[i][i]*want[j][j] + want[i][j]*want[i][j]) / k); !(math.Abs(cov[i][j]-want[i][j]) <= sigmas*sd) {
				t.Errorf("covariance of %d and %d is %v, want %v ± %v", i, j, cov[i][j], want[i][j], sd)
			}
		}
	}
}

// What does not go together is refused, in words, before anything is asked.
func TestFunctionErrors(t *testing.T) {
	c := start(t, shape{workers: 1})
	run := c.attach(c.client(), client.RunConfig{Name: "e", Dim: 5, Window: 2, Damping: 1})
	ctx := within(t, time.Minute)
	x, v := make([]float32, 5), make([]float32, 5)
	for what, f := range map[string]func() error{
		"verify":               func() error { _, err := run.FisherVec(ctx, x, v, client.WithVerify()); return err },
		"refine":               func() error { _, err := run.HessianVec(ctx, x, v, client.WithRefine()); return err },
		"number":               func() error { _, err := run.Sample(ctx, x, 1, -1); return err },
		"wire":                 func() error { _, err := run.Sample(ctx, x, 1, 1, client.WithWire(wire.BF16)); return err },
		"vectors":              func() error { _, err := run.Samples(ctx, nil, 1, 1); return err },
		"length of the result": func() error { _, err := run.Sample(ctx, x[:4], 1, 1); return err },
	} {
		var e *wire.Error
		if err := f(); !errors.As(err, &e) || e.Code != wire.CodeInvalid || e.Field != what {
			t.Errorf("%s: %v", what, err)
		}
	}
	// An empty window: F v = 0, H v = λv.
	v[3] = 2
	if a, err := run.FisherVec(ctx, x, v); err != nil || x[3] != 0 || a.Bound() != 0 {
		t.Errorf("F v of an empty window is %v: %+v, %v", x, a, err)
	}
	if _, err := run.HessianVec(ctx, x, v); err != nil || x[3] != 2 {
		t.Errorf("H v of an empty window is %v: %v", x, err)
	}
}

// Real gradients: H H⁻¹v = v, and what WithVerify measures is what that is off by.
func TestFunctionsOfVectors(t *testing.T) {
	// ε ‖H‖‖x‖/‖v‖, some dots' roundings over: α/N is 1 or so here, ‖x‖/‖v‖ up to 1e5.
	const residual = 1e-11
	vec := openVectors(t)
	c := start(t, shape{workers: 2})
	run := c.attach(c.client(), client.RunConfig{Name: "digits", Dim: vectorsDim, Window: vectorsWindow, Damping: 0.01, Shards: 3})
	ctx := within(t, time.Minute)
	grads := vec.grads()
	if _, err := run.PublishMany(ctx, 1, grads); err != nil {
		t.Fatal(err)
	}
	v32 := vec.f32("v")
	v := widened(v32)
	x, back := make([]float64, vectorsDim), make([]float64, vectorsDim)
	for _, lambda := range []float64{0.01, 1e-5} {
		for _, opt := range []client.CheckOption{client.WithVerify(), client.WithRefine()} {
			a, err := run.IHVP64(ctx, x, v, opt, client.WithDamping(lambda))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := run.HessianVec64(ctx, back, x, client.WithDamping(lambda)); err != nil {
				t.Fatal(err)
			}
			off := relative(back, numbers(v))
			t.Logf("λ = %g: ‖HH⁻¹v − v‖/‖v‖ = %.2g, reported %.2g", lambda, off, a.Residuals[0])
			if !(off <= residual) || !(a.Residuals[0] <= residual) {
				t.Errorf("λ = %g: ‖HH⁻¹v − v‖/‖v‖ = %.3g, reported %.3g", lambda, off, a.Residuals[0])
			}
		}
		newest := wire.Step(len(grads))
		if a, err := run.IHVPStep64(ctx, x, newest, client.WithVerify(), client.WithDamping(lambda)); err != nil || !(a.Residuals[0] <= residual) {
			t.Errorf("λ = %g: newest step: %+v, %v", lambda, a, err)
		}
	}
}
