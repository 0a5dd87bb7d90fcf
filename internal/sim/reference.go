package sim

import (
	"math"

	"mfac/coordinator"
	"mfac/wire"
)

// Tolerances.
const (
	gramTolerance      = 1e-12 // of A against float64 sums in another order, relative to Σ|ab|
	referenceTolerance = 1e-13 // of the reference's last sums, relative
	referenceShare     = 2     // the reference is float64 too: it is as far off as the answer may be
)

// gram is V6 of A.
func (k *checker) gram(core *coordinator.Core, now *served) {
	a := core.Gram()
	for i := range a {
		x := k.attempts[now.rows[i].Attempt]
		xs := k.stored(x.row)
		for j := range a[i] {
			y := k.attempts[now.rows[j].Attempt]
			if len(x.others)+len(y.others) > 0 {
				continue // its shards are away: which of two it is can't be told
			}
			sum, size := 0.0, 0.0
			ys := k.stored(y.row)
			for c := range xs {
				v := xs[c] * ys[c]
				sum += v
				size += math.Abs(v)
			}
			if !(math.Abs(a[i][j]-sum) <= gramTolerance*size) {
				k.w.fail("V6 A[%d][%d] of version %d is %v, the rows' product is %v", i, j, now.version, a[i][j], sum)
			}
		}
	}
}

// answered is V6 of an answer: within its bound of the dense reference, at the version it names.
func (k *checker) answered(c *client, q *question, r *wire.QueryReply, ready *wire.ResultReply, out [][]float64) {
	w := k.w
	now := k.windows[r.Version]
	switch {
	case now == nil:
		w.fail("V6 %s hears of version %d, which nobody served", c.name, r.Version)
	case ready.Version != r.Version || ready.Rows != r.Rows || r.Rows != len(now.rows):
		w.fail("V6 version %d with %d rows, then %d with %d; it has %d", r.Version, r.Rows, ready.Version, ready.Rows, len(now.rows))
	case r.Version < q.atLeast || q.exactly != 0 && r.Version != q.exactly || r.Rows < q.minRows:
		w.fail("V6 version %d with %d rows, asked for at least %d, exactly %d, %d rows", r.Version, r.Rows, q.atLeast, q.exactly, q.minRows)
	case r.Version < q.after:
		w.fail("V6 a query answers at version %d, and %d had been told before it was asked", r.Version, q.after)
	case !q.prunes() && len(ready.Bounds) != q.outputs():
		w.fail("V6 %d bounds of %d results", len(ready.Bounds), q.outputs())
	}
	w.stats.Answered++
	k.residuals(q, ready)
	roots := k.roots(now.rows)
	g := make([][]float64, len(now.rows))
	for i, row := range now.rows {
		p := k.attempts[row.Attempt]
		if len(p.others) > 0 {
			return
		}
		g[i] = times(roots[i], k.stored(p.row))
	}
	index := map[wire.Step]int{}
	for i, row := range now.rows {
		index[row.Step] = i
	}
	for i := range out {
		if q.kind == wire.KindScores { // of the rows as they are; their bound is of √w times them
			for j := range out[i] {
				out[i][j] *= roots[j]
			}
		}
		nearest, bound := math.Inf(1), math.NaN()
		for _, s := range k.settings { // which of them the run had when it was asked is not told
			s.window = now.window
			want := k.reference(q, i, g, roots, index, s)
			diff, size := 0.0, 0.0
			for j := range want {
				diff = math.Hypot(diff, out[i][j]-want[j])
				size = math.Hypot(size, want[j])
			}
			if q.prunes() {
				bound = roundingOf(q.result, size, k.w.shape.dim)
			} else {
				bound = ready.Bounds[i]
			}
			if q.kind == wire.KindSubblock { // of each element to √(h_i h_j): √q times as much of the norm
				bound *= math.Sqrt(float64(len(q.columns)))
			}
			if diff <= (referenceShare*bound+referenceTolerance)*size {
				nearest = 0
				break
			}
			nearest = min(nearest, diff/size)
		}
		if nearest != 0 {
			w.fail("V6 %s's answer %d to query %d (%s) at version %d is off by %.3g, bound %.3g", c.name, i, uint64(r.Query), q.kind, r.Version, nearest, bound)
		}
	}
}

// reference answers a question densely, in float64.
func (k *checker) reference(q *question, i int, g [][]float64, roots []float64, index map[wire.Step]int, run setting) []float64 {
	s := k.w.shape
	if q.block > 0 && !q.prunes() {
		return k.byBlocks(q, i, g, roots, index, run)
	}
	if q.kind == wire.KindRow {
		r := index[q.steps[0]]
		return times(1/roots[r], g[r])
	}
	damping, n := q.damping, float64(run.window)
	if damping == 0 {
		damping = run.damping
	}
	if q.divisor == wire.Count || q.divisor == "" && run.divisor == wire.Count {
		n = float64(len(g))
	}
	switch q.kind {
	case wire.KindFisher, wire.KindHessian:
		return q.product(g, i, damping, n)
	case wire.KindInvSqrt:
		return q.invSqrt(g, i, damping, n)
	case wire.KindSample:
		return q.sample(g, index, i, int(s.dim), damping, n)
	}
	// (v − Gᵀ K⁻¹ G v)/λ for a vector, N Gᵀ K⁻¹ a for a combination, K = GGᵀ + NλI
	if q.prunes() {
		return q.pruned(g, n*damping, damping)
	}
	if q.kind == wire.KindDiag {
		x := make([]float64, s.dim)
		for col := range x {
			x[col] = inverseColumn(g, s.dim, int64(col), n, damping)[col]
		}
		return x
	}
	if q.kind == wire.KindSubblock {
		var x []float64
		for _, col := range q.columns {
			c := inverseColumn(g, s.dim, col, n, damping)
			for _, row := range q.columns {
				x = append(x, c[row])
			}
		}
		return x
	}
	if q.kind == wire.KindColumn {
		return inverseColumn(g, s.dim, q.columns[i], n, damping)
	}
	if q.kind == wire.KindVector && q.refine && damping == tinyDamping {
		return exactVector(g, q.vectors[i], n, damping)
	}
	right := make([]float64, len(g))
	vector := len(q.vectors) > 0
	if vector {
		for r := range g {
			right[r] = dot(g[r], q.vectors[i])
		}
	} else {
		for j, step := range q.steps {
			right[index[step]] += q.coef[i][j] / roots[index[step]]
		}
	}
	c := solve(g, n*damping, right)
	if q.kind == wire.KindScores { // N K⁻¹Gv
		for r := range c {
			c[r] *= n
		}
		return c
	}
	x := make([]float64, s.dim)
	for col := range x {
		for r := range g {
			x[col] += c[r] * g[r][col]
		}
		if vector {
			x[col] = (q.vectors[i][col] - x[col]) / damping
		} else {
			x[col] *= n
		}
	}
	return x
}

// inverseColumn is (e_j − GᵀK⁻¹Ge_j)/λ.
func inverseColumn(g [][]float64, dim, j int64, n, damping float64) []float64 {
	y := make([]float64, len(g))
	for r := range g {
		y[r] = g[r][j]
	}
	c := solve(g, n*damping, y)
	x := make([]float64, dim)
	x[j] = 1
	for col := range x {
		for r := range g {
			x[col] -= c[r] * g[r][col]
		}
		x[col] /= damping
	}
	return x
}

// solve is K⁻¹y by Gaussian elimination with pivots.
func solve(g [][]float64, shift float64, y []float64) []float64 {
	m := len(g)
	a := make([][]float64, m)
	for r := range a {
		a[r] = make([]float64, m+1)
		for c := range m {
			a[r][c] = dot(g[r], g[c])
		}
		a[r][r] += shift
		a[r][m] = y[r]
	}
	for c := range a {
		best := c
		for r := c; r < m; r++ {
			if math.Abs(a[r][c]) > math.Abs(a[best][c]) {
				best = r
			}
		}
		a[c], a[best] = a[best], a[c]
		for r := range a {
			if r != c {
				f := a[r][c] / a[c][c]
				for j := c; j <= m; j++ {
					a[r][j] -= f * a[c][j]
				}
			}
		}
	}
	x := make([]float64, m)
	for r := range x {
		x[r] = a[r][m] / a[r][r]
	}
	return x
}

func dot(x, y []float64) float64 {
	sum := 0.0
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}
