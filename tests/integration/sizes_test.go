package integration

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"mfac/client"
	"mfac/coordinator"
	"mfac/wire"
)

// A double is the sum of two float64 that do not overlap: 106 bits.
type double struct{ hi, lo float64 }

func quick(a, b float64) double { s := a + b; return double{s, b - (s - a)} } // |a| ≥ |b|

func (x double) add(y double) double {
	s := x.hi + y.hi
	b := s - x.hi
	return quick(s, (x.hi-(s-b))+(y.hi-b)+x.lo+y.lo)
}

func product(a, b float64) double { p := a * b; return double{p, math.FMA(a, b, -p)} }

// times is y·x, y being a float64.
func (x double) times(y float64) double {
	p := product(x.hi, y)
	return quick(p.hi, p.lo+x.lo*y)
}

func (x double) minus(y double) double { return x.add(double{-y.hi, -y.lo}) }

// precise answers for rows as they are stored, of any number: by float64 factors, and refinement
// with residuals of 106 bits.
type precise struct {
	rows   [][]float64
	gram   *mat.SymDense
	chol   map[double]*mat.Cholesky // by Nλ
	gauges map[double]gauge
}

func newPrecise(rows [][]float32) *precise {
	p := &precise{chol: map[double]*mat.Cholesky{}, gauges: map[double]gauge{}}
	n := len(rows)
	flat := mat.NewDense(n, len(rows[0]), nil)
	for i, g := range rows {
		p.rows = append(p.rows, flat.RawRowView(i))
		copy(p.rows[i], widened(g))
	}
	p.gram = mat.NewSymDense(n, nil)
	p.gram.SymOuterK(1, flat)
	return p
}

func (p *precise) factor(shift double) *mat.Cholesky {
	if f := p.chol[shift]; f != nil {
		return f
	}
	k := mat.NewSymDense(len(p.rows), nil)
	k.CopySym(p.gram)
	for i := range p.rows {
		k.SetSym(i, i, k.At(i, i)+shift.hi)
	}
	f := &mat.Cholesky{}
	if !f.Factorize(k) {
		panic("the reference has no factor")
	}
	p.chol[shift] = f
	return f
}

func (p *precise) gauge(shift double) gauge {
	if g, ok := p.gauges[shift]; ok {
		return g
	}
	f, n := p.factor(shift), len(p.rows)
	g := newGauge(n, p.gram.At, shift.hi, func(x []float64) {
		if err := f.SolveVecTo(mat.NewVecDense(n, x), mat.NewVecDense(n, append([]float64(nil), x...))); err != nil {
			panic(err)
		}
	})
	p.gauges[shift] = g
	return g
}

// gradient is v − Gᵀc, or Gᵀc where v is nil.
func (p *precise) gradient(v []float64, c []double) []double {
	x := make([]double, len(p.rows[0]))
	for j := range v {
		x[j].hi = v[j]
	}
	sign := 1.0
	if v != nil {
		sign = -1
	}
	for i, g := range p.rows {
		f := double{sign * c[i].hi, sign * c[i].lo}
		for j, a := range g {
			x[j] = x[j].add(f.times(a))
		}
	}
	return x
}

// products is Gx.
func (p *precise) products(x []double) []double {
	y := make([]double, len(p.rows))
	for i, g := range p.rows {
		for j, a := range g {
			y[i] = y[i].add(x[j].times(a))
		}
	}
	return y
}

// solve is K⁻¹y: each round takes the residual y − (G Gᵀc + Nλc), which the float64 factor makes
// smaller by cond K ε, about.
func (p *precise) solve(y []double, shift double) []double {
	n := len(y)
	c, r := make([]double, n), append([]double(nil), y...)
	before := math.Inf(1)
	for range 30 {
		step := mat.NewVecDense(n, nil)
		for i := range r {
			step.SetVec(i, r[i].hi)
		}
		if err := p.factor(shift).SolveVecTo(step, step); err != nil {
			panic(err)
		}
		now := blas64.Nrm2(step.RawVector())
		if now > before/2 {
			break
		}
		before = now
		for i := range c {
			c[i] = c[i].add(double{step.AtVec(i), 0})
		}
		k := p.products(p.gradient(nil, c))
		for i := range r {
			s := c[i].times(shift.hi).add(double{c[i].hi * shift.lo, 0})
			r[i] = y[i].minus(k[i]).minus(s)
		}
	}
	return c
}

func highs(x []double) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		out[i] = x[i].hi
	}
	return out
}

// off is the relative error of got·scale.
func off(got []float64, scale float64, want []double) float64 {
	diff := make([]float64, len(got))
	for j, v := range got {
		diff[j] = product(v, scale).minus(want[j]).hi
	}
	return floats.Norm(diff, 2) / floats.Norm(highs(want), 2)
}

// patient is a coordinator that keeps its lease and its workers on a machine that has other things to do.
var patient = coordinator.ServiceConfig{LeaseTTL: 20 * time.Second, Silent: 20 * time.Second}

// TestSizes publishes into windows of up to 1,024 rows, with more columns than rows, and compares
// answers with those of 106 bits: with the window part full, full and wrapped, among rows that are
// nearly equal, large and small, at other dampings and divisors than the run's.
func TestSizes(t *testing.T) {
	sizes := []struct{ m, d, shards, spare int }{{64, 3*64 + 7, 2, 1}, {65, 3*65 + 7, 3, 4}, {257, 3*257 + 7, 3, 16}, {1024, 3*1024 + 7, 4, 16}}
	if testing.Short() {
		sizes = sizes[:2]
	}
	c := start(t, shape{workers: 3, coordinator: patient})
	cl := c.client()
	stats := &statistics{}
	for _, s := range sizes {
		t.Run(fmt.Sprintf("m=%d", s.m), func(t *testing.T) {
			const lambda = 1e-3
			run := c.attach(cl, client.RunConfig{
				Name: fmt.Sprintf("size-%d", s.m), Dim: int64(s.d), Window: s.m, Damping: lambda, Shards: s.shards, Spare: s.spare,
			})
			rows := hardRows(rand.New(rand.NewPCG(uint64(s.m), 31)), s.d, s.m+min(s.m/3, 60)+1)
			stages := []int{s.m/2 + 1, s.m, len(rows)}
			if s.m > 1000 { // a second for each answer
				stages = []int{s.m/4 + 1, len(rows)}
			}
			ctx, published := within(t, 2*time.Minute), 0
			begun := time.Now()
			for i, upTo := range stages {
				if _, err := run.PublishMany(ctx, wire.Step(published), rows[published:upTo]); err != nil {
					t.Fatal(err)
				}
				published = upTo
				first := max(0, published-s.m)
				q := &sized{t: t, run: run, stats: stats, rows: rows[first:published], ref: newPrecise(rows[first:published])}
				for k := range q.rows {
					q.steps = append(q.steps, wire.Step(first+k))
				}
				q.ask(lambda, s.m)
				if i == 0 {
					q.ask(lambda, len(q.rows), client.WithDivisor(wire.Count))
				} else {
					q.ask(1e-6, s.m, client.WithDamping(1e-6))
				}
			}
			t.Logf("%d steps and the answers in %v", published, time.Since(begun).Round(time.Millisecond))
		})
	}
	t.Log(stats)
	if stats.below[0] == 0 || stats.below[1] == 0 {
		t.Error("the runs show nothing")
	}
}

// hardRows has, in every ten rows, one that nearly equals another, a large and a small one.
func hardRows(r *rand.Rand, d, n int) [][]float32 {
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = normal(r, d)
		for j := range rows[i] {
			switch i % 10 {
			case 3:
				rows[i][j] = rows[i-1][j] * (1 + 1e-6*rows[i][j])
			case 5:
				rows[i][j] *= 1e4
			case 8:
				rows[i][j] *= 1e-4
			}
		}
	}
	return rows
}

// sized is a window and its precise twin.
type sized struct {
	t     *testing.T
	run   *client.Run
	stats *statistics
	rows  [][]float32
	steps []wire.Step
	ref   *precise
}

// ask compares a random vector, a stored row, and three combinations.
func (q *sized) ask(lambda float64, n int, opts ...client.QueryOption) {
	q.t.Helper()
	d, last := int(q.run.Dim()), len(q.rows)-1
	shift := product(float64(n), lambda)
	gauge := q.ref.gauge(shift)
	ctx := within(q.t, time.Minute)
	x64 := make([]float64, d)
	r := rand.New(rand.NewPCG(uint64(n), 32))
	random := make([]float64, d)
	for j := range random {
		random[j] = r.NormFloat64()
	}
	for what, v := range map[string][]float64{"random": random, "stored": widened(q.rows[last/2])} {
		a, err := q.run.IHVP64(ctx, x64, v, opts...)
		y := make([]double, d)
		for j := range v {
			y[j].hi = v[j]
		}
		c := q.ref.solve(q.ref.products(y), shift)
		want := q.ref.gradient(v, c)
		says, factor := gauge.vector(highs(c), floats.Norm(v, 2), floats.Norm(highs(want), 2))
		q.judge(what, a, err, hardness{0, says, factor}, func() float64 { return off(x64, lambda, want) })
	}
	newest, mean, few := make([]float64, last+1), make([]float64, last+1), make([]float64, last+1)
	newest[last], few[last/3], few[last/2] = 1, 1, -1
	for i := range mean {
		mean[i] = 1 / float64(len(mean))
	}
	for what, coef := range map[string][]float64{"newest": newest, "mean": mean, "few": few} {
		a, err := q.run.IHVPCombine64(ctx, x64, q.steps, coef, opts...)
		y := make([]double, len(coef))
		for i := range coef {
			y[i] = product(coef[i], float64(n))
		}
		c := q.ref.solve(y, shift)
		want := q.ref.gradient(nil, c)
		says, factor := gauge.combination(highs(c), floats.Norm(highs(want), 2))
		q.judge(what, a, err, hardness{1, says, factor}, func() float64 { return off(x64, 1, want) })
	}
}

func (q *sized) judge(what string, a client.Answer, err error, h hardness, off func() float64) {
	q.t.Helper()
	what = fmt.Sprintf("%s of %d rows", what, len(q.rows))
	var e *wire.Error
	if errors.As(err, &e) && e.Code == wire.CodeIllConditioned {
		if wrong := q.stats.refuse(h); wrong != nil {
			q.t.Errorf("%s: %v: %v", what, wrong, e)
		}
		return
	}
	if err != nil {
		q.t.Fatalf("%s: %v", what, err)
	}
	o := off()
	if wrong := q.stats.add(h, o, a.Bound()); wrong != nil || a.Rows != len(q.rows) {
		q.t.Errorf("%s: %+v: %v", what, a, wrong)
	}
	if testing.Verbose() {
		q.t.Logf("%s: error %.2g, bound %.2g, maths.md's %.2g", what, o, a.Bound(), h.says)
	}
}
