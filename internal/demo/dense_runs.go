package demo

import (
	"context"
	"fmt"
	"slices"
)

// DenseRuns is a cluster in this process for Influence and Forget: every answer is DenseIHVP's, from the
// rows themselves. It gives no bounds.
type DenseRuns struct {
	fail error // of PublishMany
	live []string
}

type denseRun struct {
	c       *DenseRuns
	damping float64
	divisor int // 0: the number of rows
	rows    [][]float32
}

func (c *DenseRuns) newRun(name string, divisor int, damping float64) *denseRun {
	c.live = append(c.live, name)
	return &denseRun{c: c, damping: damping, divisor: divisor}
}

// NewInfluenceRun makes a run for Influence.
func (c *DenseRuns) NewInfluenceRun(_ context.Context, name string, _ int64, _ []Tensor, window int, damping float64) (InfluenceRun, error) {
	return c.newRun(name, window, damping), nil
}

// NewForgetRun makes a run for Forget.
func (c *DenseRuns) NewForgetRun(_ context.Context, name string, _ int64, _ []Tensor, _ int, damping float64) (ForgetRun, error) {
	return c.newRun(name, 0, damping), nil
}

// DeleteRun forgets a run.
func (c *DenseRuns) DeleteRun(_ context.Context, name string) error {
	i := slices.Index(c.live, name)
	if i < 0 {
		return fmt.Errorf("there is no run %s", name)
	}
	c.live = slices.Delete(c.live, i, i+1)
	return nil
}

func (r *denseRun) PublishMany(_ context.Context, first uint64, rows [][]float32) error {
	if int(first) != len(r.rows)+1 {
		return fmt.Errorf("step %d after %d rows", first, len(r.rows))
	}
	r.rows = append(r.rows, rows...)
	return r.c.fail
}

func (r *denseRun) Forget(_ context.Context, steps []uint64) (int, error) {
	for i := len(steps) - 1; i >= 0; i-- {
		r.rows = slices.Delete(r.rows, int(steps[i])-1, int(steps[i]))
	}
	return len(r.rows), nil
}

func (r *denseRun) solve(dst, v []float64, rows [][]float32) error {
	n := r.divisor
	if n == 0 {
		n = len(rows)
	}
	return DenseIHVP(dst, v, rows, n, r.damping)
}

func (r *denseRun) IHVP64(_ context.Context, dst, v []float64) (float64, error) {
	return 0, r.solve(dst, v, r.rows)
}

func (r *denseRun) form(g []float32, rows [][]float32) (float64, error) {
	v, x := make([]float64, len(g)), make([]float64, len(g))
	axpy(v, 1, g)
	if err := r.solve(x, v, rows); err != nil {
		return 0, err
	}
	total := 0.0
	for i := range v {
		total += v[i] * x[i]
	}
	return total, nil
}

func (r *denseRun) LeaveOneOut(context.Context) (values, bounds []float64, err error) {
	for i, g := range r.rows {
		others := slices.Delete(slices.Clone(r.rows), i, i+1)
		x, err := r.form(g, others)
		if err != nil {
			return nil, nil, err
		}
		values, bounds = append(values, x), append(bounds, 0)
	}
	return values, bounds, nil
}

func (r *denseRun) Forms(_ context.Context, v [][]float32) (values, bounds []float64, err error) {
	for _, g := range v {
		x, err := r.form(g, r.rows)
		if err != nil {
			return nil, nil, err
		}
		values, bounds = append(values, x), append(bounds, 0)
	}
	return values, bounds, nil
}

func (*denseRun) MaxVectors() int { return 7 }
