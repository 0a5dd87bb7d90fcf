package sim

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"mfac/wire"
)

// This file: H^(−½)v, and queries whose answers are numbers with absolute bounds: pairs, influence, likelihoods.

// numbers reports whether a query of this kind answers with numbers that checker.numbers looks after.
func numbers(kind string) bool {
	switch kind {
	case wire.KindPairs, wire.KindInfluence, wire.KindSelf, wire.KindLikelihood, wire.KindLeaveOut:
		return true
	}
	return false
}

// tune makes another question of some.
func (q *question) tune(w *world) {
	if q.damping == tinyDamping || q.verify || q.refine || !w.chance(0.25) {
		return
	}
	switch q.kind {
	case wire.KindVector:
		q.kind = oneOf(w, []string{wire.KindInvSqrt, wire.KindPairs, wire.KindLikelihood})
		for i := range q.vectors {
			if q.kind == wire.KindPairs {
				q.pairs = append(q.pairs, wire.Pair{U: uint32(i), V: uint32(w.rng.IntN(len(q.vectors)))})
			}
		}
	case wire.KindDiag, wire.KindRow, wire.KindScores:
		q.kind, q.vectors, q.steps = oneOf(w, []string{wire.KindInfluence, wire.KindSelf, wire.KindLeaveOut}), nil, nil
	default:
		return
	}
	if numbers(q.kind) {
		q.result = wire.F64
	}
	if q.kind == wire.KindLikelihood || q.kind == wire.KindLeaveOut {
		q.damping, q.dampings = 0, []float64{w.shape.damping, 3 * w.shape.damping}
	}
}

// extra says it on the wire, and reports whether it does.
func (q *question) extra(m *wire.Query) bool {
	switch q.kind {
	case wire.KindPairs:
		m.Payload = wire.AppendPairs(nil, q.pairs)
	case wire.KindLikelihood, wire.KindLeaveOut:
		m.Payload = wire.AppendFloats(nil, q.dampings)
	case wire.KindInvSqrt, wire.KindInfluence, wire.KindSelf:
	default:
		return false
	}
	return true
}

// invSqrt answers H^(−½)v densely: (v − GᵀQ 1/(√(α+s)(√s + √(α+s))) QᵀGv)/√λ, s = Nλ.
func (q *question) invSqrt(g [][]float64, i int, damping, n float64) []float64 {
	x := append([]float64(nil), q.vectors[i]...)
	s := n * damping
	var eigen mat.EigenSym
	if len(g) > 0 {
		a := mat.NewSymDense(len(g), nil)
		for r := range g {
			for c := range r + 1 {
				a.SetSym(r, c, dot(g[r], g[c]))
			}
		}
		if !eigen.Factorize(a, true) {
			panic("no eigenvalues")
		}
		var vectors mat.Dense
		eigen.VectorsTo(&vectors)
		for k, alpha := range eigen.Values(nil) {
			root := math.Sqrt(max(alpha, 0) + s)
			y := 0.0
			for r := range g {
				y += vectors.At(r, k) * dot(g[r], q.vectors[i])
			}
			y /= root * (math.Sqrt(s) + root)
			for r := range g {
				for col := range x {
					x[col] -= y * vectors.At(r, k) * g[r][col]
				}
			}
		}
	}
	for col := range x {
		x[col] /= math.Sqrt(damping)
	}
	return x
}

// expected is a number, and what the reference may be off by.
type expected struct{ value, off float64 }

// numbers is V6 of such an answer: each number is within its bound of the dense reference.
func (k *checker) numbers(q *question, r *wire.QueryReply, ready *wire.ResultReply, x []float64) {
	w, now := k.w, k.windows[r.Version]
	switch {
	case now == nil || len(now.rows) != r.Rows || ready.Version != r.Version || ready.Rows != r.Rows:
		w.fail("V6 %s at version %d with %d rows, then %d with %d, which nobody served", q.kind, r.Version, r.Rows, ready.Version, ready.Rows)
		return
	case r.Version < q.atLeast || q.exactly != 0 && r.Version != q.exactly || r.Rows < q.minRows || r.Version < q.after:
		w.fail("V6 %s at version %d with %d rows, asked for at least %d, exactly %d, %d rows, after %d", q.kind, r.Version, r.Rows, q.atLeast, q.exactly, q.minRows, q.after)
	}
	w.stats.Answered++
	roots := k.roots(now.rows)
	g, raw := make([][]float64, len(now.rows)), make([][]float64, len(now.rows))
	for i, row := range now.rows {
		p := k.attempts[row.Attempt]
		if len(p.others) > 0 {
			return
		}
		raw[i] = k.stored(p.row)
		g[i] = times(roots[i], raw[i])
	}
	why := ""
	for _, s := range k.settings { // which of them the run had when it was asked is not told
		damping, n := q.damping, float64(now.window)
		if damping == 0 {
			damping = s.damping
		}
		if q.divisor == wire.Count || q.divisor == "" && s.divisor == wire.Count {
			n = float64(len(g))
		}
		if why = q.compare(x, g, raw, damping, n, w.shape.dim); why == "" {
			return
		}
	}
	w.fail("V6 query %d at version %d: %s", uint64(r.Query), r.Version, why)
}

// compare says what is wrong with an answer: g is the rows times the roots of their weights, raw the rows.
func (q *question) compare(x []float64, g, raw [][]float64, damping, n float64, dim int64) string {
	var want []expected
	switch q.kind {
	case wire.KindPairs:
		for _, p := range q.pairs {
			want = append(want, form(g, q.vectors[p.U], q.vectors[p.V], damping, n))
		}
	case wire.KindSelf:
		for i := range g {
			want = append(want, form(g, raw[i], raw[i], damping, n), form(without(g, i), raw[i], raw[i], damping, n))
		}
	case wire.KindInfluence: // a row's bound is of all its numbers together
		if len(x) != len(g)*(len(g)+1) {
			return fmt.Sprintf("%d numbers of %d rows", len(x), len(g))
		}
		for i := range g {
			row := x[i*(len(g)+1):][:len(g)+1]
			for j := range g {
				if e := form(g, raw[i], raw[j], damping, n); !e.near(row[j], row[len(g)]) {
					return fmt.Sprintf("influence of %d on %d is %g ± %g, not %g", i, j, row[j], row[len(g)], e.value)
				}
			}
		}
		return ""
	case wire.KindLikelihood:
		for _, lambda := range q.dampings {
			for _, h := range q.vectors {
				want = append(want, likelihood(g, h, lambda, n, dim))
			}
		}
	case wire.KindLeaveOut:
		for _, lambda := range q.dampings {
			for i := range g {
				want = append(want, likelihood(without(g, i), raw[i], lambda, n, dim))
			}
		}
	}
	if len(x) != 2*len(want) {
		return fmt.Sprintf("%s: %d numbers, not %d", q.kind, len(x), 2*len(want))
	}
	for i, e := range want {
		if !e.near(x[2*i], x[2*i+1]) {
			return fmt.Sprintf("%s %d is %g ± %g, not %g", q.kind, i, x[2*i], x[2*i+1], e.value)
		}
	}
	return ""
}

// near compares with a number that has a bound of its error.
func (e expected) near(x, bound float64) bool {
	return math.Abs(x-e.value) <= referenceShare*bound+e.off
}

// form is uᵀH⁻¹v, densely.
func form(g [][]float64, u, v []float64, damping, n float64) expected {
	y := make([]float64, len(g))
	for r := range g {
		y[r] = dot(g[r], v)
	}
	c := solve(g, n*damping, y)
	sum := dot(u, v)
	for r := range g {
		sum -= c[r] * dot(g[r], u)
	}
	size := math.Sqrt(dot(u, u)*dot(v, v)) / damping
	return expected{sum / damping, formTolerance * size}
}

// formTolerance is what the reference's forms may be off by, relative to ‖u‖‖v‖/λ: elimination by itself loses what
// cond K, up to 1e4 here, magnifies.
const formTolerance = 1e-11

// likelihood is log N(h; 0, H), densely.
func likelihood(g [][]float64, h []float64, damping, n float64, dim int64) expected {
	e := form(g, h, h, damping, n)
	logDet := float64(dim) * math.Log(damping)
	if len(g) > 0 {
		k := mat.NewSymDense(len(g), nil)
		for r := range g {
			for c := range r + 1 {
				x := dot(g[r], g[c]) / (n * damping)
				if r == c {
					x++
				}
				k.SetSym(r, c, x)
			}
		}
		var f mat.Cholesky
		if !f.Factorize(k) {
			panic("K is not positive definite")
		}
		logDet += f.LogDet()
	}
	x := -0.5 * (float64(dim)*math.Log(2*math.Pi) + logDet + e.value)
	return expected{x, e.off + spectrumTolerance*(1+math.Abs(x))}
}

func without(g [][]float64, i int) [][]float64 {
	return append(append([][]float64(nil), g[:i]...), g[i+1:]...)
}
