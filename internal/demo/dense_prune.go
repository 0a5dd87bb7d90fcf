package demo

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// NewPruneRun makes a run for Prune.
func (c *DenseRuns) NewPruneRun(_ context.Context, name string, _ int64, _ []Tensor, window int, damping float64) (PruneRun, error) {
	return c.newRun(name, window, damping), nil
}

// Prune prunes as the client's Prune does, by n×n algebra on rows that have zeros in the columns that are left out.
func (r *denseRun) Prune(_ context.Context, dst, w []float32, sparsity float64, rule string, steps int) error {
	now, gone := make([]float64, len(w)), make([]bool, len(w))
	for j, x := range w {
		now[j] = float64(x)
	}
	for t := 1; t <= steps; t++ {
		s := sparsity
		if t < steps {
			s = 1 - math.Pow(1-sparsity, float64(t)/float64(steps))
		}
		if err := r.pruneOnce(now, gone, int(s*float64(len(w))), rule); err != nil {
			return err
		}
	}
	for j, x := range now {
		dst[j] = float32(x)
	}
	return nil
}

// pruneOnce prunes till so many are gone.
func (r *denseRun) pruneOnce(w []float64, gone []bool, zeros int, rule string) error {
	h, err := r.diagonal(gone)
	if err != nil {
		return err
	}
	scores := make([]float64, len(w))
	for j := range w {
		scores[j] = w[j] * w[j] / (2 * h[j])
		if gone[j] {
			scores[j] = -1
		}
	}
	chosen := make([]bool, len(w))
	t := make([]float64, len(w))
	for _, j := range smallest(scores, zeros) {
		if chosen[j] = !gone[j]; chosen[j] {
			t[j] = w[j]
			if rule == "summed" {
				t[j] /= h[j] * r.damping
			}
		}
	}
	of := gone // the columns of K
	if rule == "joint" {
		of = make([]bool, len(w))
		for j := range of {
			of[j] = gone[j] || chosen[j]
		}
	}
	// w + GᵀK⁻¹Gt: of the kept columns that is (1/λ)GᵀK⁻¹Gt' for t' = λt, and what a joint update adds.
	k, y := r.kernel(of), mat.NewVecDense(len(r.rows), nil)
	for i, g := range r.rows {
		for j, x := range g {
			y.SetVec(i, y.AtVec(i)+float64(x)*t[j])
		}
	}
	if err := solve(k, float64(r.divisor)*r.damping, y); err != nil {
		return err
	}
	for j := range w {
		if gone[j] = gone[j] || chosen[j]; gone[j] {
			w[j] = 0
			continue
		}
		for i, g := range r.rows {
			w[j] += y.AtVec(i) * float64(g[j])
		}
	}
	return nil
}

// kernel is GGᵀ of the columns that are not out.
func (r *denseRun) kernel(out []bool) *mat.SymDense {
	k := mat.NewSymDense(len(r.rows), nil)
	for i := range r.rows {
		for l := range i + 1 {
			sum := 0.0
			for j, x := range r.rows[i] {
				if !out[j] {
					sum += float64(x) * float64(r.rows[l][j])
				}
			}
			k.SetSym(i, l, sum)
		}
	}
	return k
}

// diagonal is that of H⁻¹ without the columns that are out: (1 − g_jᵀK⁻¹g_j)/λ for column j of G.
func (r *denseRun) diagonal(out []bool) ([]float64, error) {
	k, n := r.kernel(out), len(r.rows)
	for i := range n {
		k.SetSym(i, i, k.At(i, i)+float64(r.divisor)*r.damping)
	}
	var chol mat.Cholesky
	if !chol.Factorize(k) {
		return nil, fmt.Errorf("the %d×%d matrix K is not positive definite", n, n)
	}
	h, g, x := make([]float64, len(out)), mat.NewVecDense(n, nil), mat.NewVecDense(n, nil)
	for j := range h {
		for i, row := range r.rows {
			g.SetVec(i, float64(row[j]))
		}
		if err := chol.SolveVecTo(x, g); err != nil {
			return nil, err
		}
		h[j] = (1 - mat.Dot(g, x)) / r.damping
	}
	return h, nil
}
