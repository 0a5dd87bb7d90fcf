package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"gonum.org/v1/gonum/mat"
)

// Dense is a Cluster in this process: plain rows, float64 sums, one n×n Cholesky
// factor from scratch at every answer. It knows no bus, no shards and no updates of
// factors, which makes it what a real cluster is held against, and lets the demo's
// tests run without one.
type Dense struct {
	mu   sync.Mutex
	runs map[string]*DenseRun
}

// NewRun makes a run.
func (c *Dense) NewRun(_ context.Context, name string, dim int64, _ []Tensor, window int, damping float64) (Run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs[name] != nil {
		return nil, fmt.Errorf("run %s is there already", name)
	}
	if c.runs == nil {
		c.runs = map[string]*DenseRun{}
	}
	r := &DenseRun{dim: int(dim), window: window, damping: damping}
	c.runs[name] = r
	return r, nil
}

// DeleteRun forgets a run.
func (c *Dense) DeleteRun(_ context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs[name] == nil {
		return fmt.Errorf("there is no run %s", name)
	}
	delete(c.runs, name)
	return nil
}

// DenseRun is a run of Dense. It keeps A = GGᵀ, a row of which is worked out when a
// gradient comes.
type DenseRun struct {
	dim, window int
	damping     float64
	step        uint64
	rows        [][]float32 // age order
	gram        [][]float64 // A, age order
}

// Precondition puts g into the window and sets dst = H⁻¹g = N GᵀK⁻¹eₙ, eₙ the last unit vector:
// g is the newest row, so nothing cancels (maths.md, "A combination of stored
// gradients").
func (r *DenseRun) Precondition(_ context.Context, step uint64, dst, g []float32) error {
	if len(g) != r.dim || len(dst) != r.dim {
		return fmt.Errorf("gradient of length %d into %d, want %d", len(g), len(dst), r.dim)
	}
	if step <= r.step {
		return fmt.Errorf("step %d after step %d", step, r.step)
	}
	r.step = step
	if len(r.rows) == r.window {
		r.rows = r.rows[1:]
		r.gram = r.gram[1:]
		for i := range r.gram {
			r.gram[i] = r.gram[i][1:]
		}
	}
	r.rows = append(r.rows, append([]float32(nil), g...))
	n := len(r.rows)
	row := make([]float64, n)
	for i, x := range r.rows {
		row[i] = dot(x, g)
		if i < n-1 {
			r.gram[i] = append(r.gram[i], row[i])
		}
	}
	r.gram = append(r.gram, row)

	k := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			k.SetSym(i, j, r.gram[i][j])
		}
	}
	c := mat.NewVecDense(n, nil)
	c.SetVec(n-1, float64(r.window))
	if err := solve(k, float64(r.window)*r.damping, c); err != nil {
		return err
	}
	x := make([]float64, r.dim)
	for i, g := range r.rows {
		axpy(x, c.AtVec(i), g)
	}
	for i, v := range x {
		dst[i] = float32(v)
	}
	return nil
}

// IHVP64 sets dst = H⁻¹v. It gives no bound.
func (r *DenseRun) IHVP64(_ context.Context, dst, v []float64) (bound float64, err error) {
	return 0, DenseIHVP(dst, v, r.rows, r.window, r.damping)
}

// Gradients returns the rows, oldest first.
func (r *DenseRun) Gradients(context.Context) ([][]float32, error) { return r.rows, nil }

// DenseIHVP sets dst = H⁻¹v = (v − GᵀK⁻¹Gv)/λ with H = (1/N)GᵀG + λI, K = GGᵀ + NλI,
// all of it in float64 from the rows themselves. dst may be v.
func DenseIHVP(dst, v []float64, rows [][]float32, divisor int, damping float64) error {
	n := len(rows)
	if len(dst) != len(v) {
		return fmt.Errorf("vector of length %d into %d", len(v), len(dst))
	}
	for i, r := range rows {
		if len(r) != len(v) {
			return fmt.Errorf("row %d has length %d, want %d", i, len(r), len(v))
		}
	}
	copy(dst, v)
	if n > 0 {
		k := mat.NewSymDense(n, nil)
		c := mat.NewVecDense(n, nil)
		for i, r := range rows {
			for j := i; j < n; j++ {
				k.SetSym(i, j, dot(r, rows[j]))
			}
			sum := 0.0
			for j, g := range r {
				sum += float64(g) * v[j]
			}
			c.SetVec(i, sum)
		}
		if err := solve(k, float64(divisor)*damping, c); err != nil {
			return err
		}
		for i, r := range rows {
			axpy(dst, -c.AtVec(i), r)
		}
	}
	for i := range dst {
		dst[i] /= damping
	}
	return nil
}

// solve sets c = (A + shift·I)⁻¹c and overwrites a.
func solve(a *mat.SymDense, shift float64, c *mat.VecDense) error {
	n := a.SymmetricDim()
	for i := range n {
		a.SetSym(i, i, a.At(i, i)+shift)
	}
	var chol mat.Cholesky
	if !chol.Factorize(a) {
		return fmt.Errorf("the %d×%d matrix K is not positive definite", n, n)
	}
	// The condition that gonum warns of is one of rows of different size: harmless
	// here (maths.md, "How wrong an answer can be").
	var warning mat.Condition
	if err := chol.SolveVecTo(c, c); err != nil && !errors.As(err, &warning) {
		return err
	}
	return nil
}

// dot sums in four lanes, so that the additions do not wait for one another.
func dot(x, y []float32) float64 {
	var a, b, c, d float64
	y = y[:len(x)]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		a += float64(x[i]) * float64(y[i])
		b += float64(x[i+1]) * float64(y[i+1])
		c += float64(x[i+2]) * float64(y[i+2])
		d += float64(x[i+3]) * float64(y[i+3])
	}
	for ; i < len(x); i++ {
		a += float64(x[i]) * float64(y[i])
	}
	return (a + b) + (c + d)
}

// axpy adds a·x to y.
func axpy(y []float64, a float64, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += a * float64(x[i])
	}
}
