package spectrum

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	lapack "gonum.org/v1/gonum/lapack/gonum"
)

// panel is how many reflections are gathered until the rest of the matrix hears of them, and block
// how many rows of it hear of them at a time: their part of the matrix and of V and W stay in the cache.
const (
	panel = 32
	block = 64
)

// tridiagonal sets diag, of length n, and off, of length n−1, to the diagonals of T = QᵀAQ, for some
// orthogonal Q, of the symmetric matrix whose lower triangle is in the rows of a, which is lost; the
// upper triangle is never read. Row i of a then has the vector of the reflection I − τvvᵀ that dealt with that row,
// but for the diagonal, and tau[i] its τ: Q is the product of them, the last row's first.
// It reports false if watch, which hears now and then how much of the work is done, says so.
//
// It goes from the last row to the first, so that a row is contiguous as far as it is needed, and
// what is small should be in the first rows (Martin, Reinsch & Wilkinson, "Householder's
// tridiagonalization of a symmetric matrix", Numer. Math. 11, 1968). In panels, as LAPACK's dsytrd:
// A is behind by VᵀW + WᵀV inside of one. gonum's Dsytrd does the same and takes 3.5 times longer
// at n = 2048, since its product of a symmetric matrix and a vector is plain loops.
func tridiagonal(diag, off, tau, a []float64, n int, watch func(done, total int64) (stop bool)) bool {
	v := make([]float64, 4*panel*n)
	r := reduction{n: n, a: a, tau: tau, vw: v[:2*panel*n], wv: v[2*panel*n:], p: make([]float64, n)}
	cube := func(k int) int64 { return int64(k) * int64(k) * int64(k) }
	for hi := n; hi > 0; {
		if watch(cube(n)-cube(hi), cube(n)) {
			return false
		}
		lo := max(0, hi-panel)
		for i := hi - 1; i >= lo; i-- {
			r.catchUp(i, hi-1-i)
			diag[i] = r.row(i)[i]
			if i > 0 {
				off[i-1] = r.reflect(i, hi-1-i)
			}
		}
		r.update(lo, hi-lo)
		hi = lo
	}
	return true
}

// A reduction is a matrix on its way to tridiagonal form. Row k of vw and of wv, of 2·panel rows, is the
// k-th reflection's vector v and its w, or the other way round in the second half.
type reduction struct {
	n      int
	a      []float64
	tau    []float64
	vw, wv []float64
	p      []float64
}

func (r *reduction) row(i int) []float64 { return r.a[i*r.n:][:i+1] }

// pair is the k-th reflection: A ← A − vwᵀ − wvᵀ.
func (r *reduction) pair(k int) (v, w []float64) { return r.vw[k*r.n:][:r.n], r.wv[k*r.n:][:r.n] }

// catchUp applies the panel's first k reflections to row i.
func (r *reduction) catchUp(i, k int) {
	row := r.row(i)
	for j := range k {
		v, w := r.pair(j)
		floats.AddScaled(row, -v[i], w[:i+1])
		floats.AddScaled(row, -w[i], v[:i+1])
	}
}

// reflect finds the reflection I − τvvᵀ, the panel's k-th, that leaves row i nothing left of its diagonal
// but the number that it returns.
func (r *reduction) reflect(i, k int) float64 {
	v, w := r.pair(k)
	v, w = v[:i], w[:i]
	copy(v, r.row(i))
	beta, tau := lapack.Implementation{}.Dlarfg(i, v[i-1], v, 1)
	v[i-1] = 1
	// w = p − (τ/2)(pᵀv)v with p = τAv, A as it is after the reflections before.
	r.times(w, v)
	for j := range k {
		vj, wj := r.pair(j)
		vj, wj = vj[:i], wj[:i]
		a, b := floats.Dot(wj, v), floats.Dot(vj, v)
		floats.AddScaled(w, -a, vj)
		floats.AddScaled(w, -b, wj)
	}
	floats.Scale(tau, w)
	floats.AddScaled(w, -tau/2*floats.Dot(w, v), v)
	copy(r.row(i), v) // which nobody reads any more
	r.tau[i] = tau
	return beta
}

// times sets y = Ax for as many rows and columns of A as x has numbers. Each row is read once from
// memory.
func (r *reduction) times(y, x []float64) {
	clear(y)
	for i, xi := range x {
		row := r.row(i)
		y[i] += floats.Dot(row[:i], x[:i]) + row[i]*xi
		floats.AddScaled(y[:i], xi, row[:i])
	}
}

// update applies k reflections to the first lo rows.
func (r *reduction) update(lo, k int) {
	const half = panel
	for j := range k {
		v, w := r.pair(j)
		copy(r.vw[(half+j)*r.n:][:lo], w[:lo])
		copy(r.wv[(half+j)*r.n:][:lo], v[:lo])
	}
	if k < panel {
		return // the last panel: no row is left
	}
	bi := blas64.Implementation()
	for i := 0; i < lo; i += block {
		rows := min(block, lo-i)
		bi.Dgemm(blas.Trans, blas.NoTrans, rows, i+rows, 2*panel, -1, r.vw[i:], r.n, r.wv, r.n, 1, r.a[i*r.n:], r.n)
	}
}
