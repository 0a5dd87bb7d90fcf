package sim

import (
	"math"

	"mfac/internal/normal"
	"mfac/wire"
)

// This file: F v, H v, samples, residuals and refinement.

// function is what a question may be about beside H⁻¹.
type function struct {
	verify, refine bool
	samples        int
	seed           uint64
	first          int64
}

// vary makes another question of some.
func (q *question) vary(w *world) {
	r := w.rng.Float64()
	switch {
	case q.kind != wire.KindVector && q.kind != wire.KindCombine:
	case q.kind == wire.KindVector && q.damping != tinyDamping && r < 0.1:
		q.kind = wire.KindFisher
	case q.kind == wire.KindVector && q.damping != tinyDamping && r < 0.2:
		q.kind = wire.KindHessian
	case q.kind == wire.KindVector && q.damping != tinyDamping && r < 0.3:
		q.kind, q.samples, q.vectors = wire.KindSample, len(q.vectors), nil
		q.seed, q.first = w.rng.Uint64(), int64(w.rng.IntN(100))
	case r < 0.4:
		q.verify = true
	case r < 0.55:
		q.refine = true
	}
}

// put says it on the wire.
func (q *question) put(m *wire.Query) {
	m.Verify, m.Refine, m.Seed, m.First = q.verify, q.refine, q.seed, q.first
	if wire.Sent(q.kind) {
		m.DType = q.dtype
	}
}

// residuals are measured where they were asked for, and small: of what scalars could bound.
func (k *checker) residuals(q *question, ready *wire.ResultReply) {
	want := 0
	if q.verify || q.refine {
		want = q.outputs()
	}
	if len(ready.Residuals) != want {
		k.w.fail("V6 %d residuals, must be %d", len(ready.Residuals), want)
	}
	for _, r := range ready.Residuals {
		if !(r <= residualTolerance) {
			k.w.fail("V6 the residual of a %s query is %.3g", q.kind, r)
		}
	}
}

// residualTolerance is above what α/Nλ = 1e12 magnifies the rounding of an answer by.
const residualTolerance = 1e-2

// product answers F v and H v densely.
func (q *question) product(g [][]float64, i int, damping, n float64) []float64 {
	v := q.vectors[i]
	x := make([]float64, len(v))
	for _, row := range g {
		y := dot(row, v) / n
		for j := range x {
			x[j] += y * row[j]
		}
	}
	if q.kind == wire.KindHessian {
		for j := range x {
			x[j] += damping * v[j]
		}
	}
	return x
}

// sample answers a sample densely: steps are those of g's rows.
func (q *question) sample(g [][]float64, steps map[wire.Step]int, i, dim int, damping, n float64) []float64 {
	z := make([]float64, dim)
	src := normal.Source{Seed: q.seed, Index: uint32(q.first + int64(i))}
	src.Fill(z, 0)
	right := make([]float64, len(g))
	src.Domain = normal.Steps
	for step, r := range steps {
		right[r] = dot(g[r], z) - math.Sqrt(n*damping)*src.At(uint64(step))
	}
	c := solve(g, n*damping, right)
	for col := range z {
		for r := range g {
			z[col] -= c[r] * g[r][col]
		}
		z[col] /= math.Sqrt(damping)
	}
	return z
}
