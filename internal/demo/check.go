package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Check is an answer of the cluster held against DenseIHVP.
type Check struct {
	Rows  int     // gradients in the window
	Error float64 // the largest difference over the largest element of the reference
	Bound float64 // the cluster's own, of the relative error in the 2-norm; 0: none
}

// checkDense reads the rows of o's run back and compares H⁻¹v of the run with that
// worked out from those rows here, v being half noise and half from the window's span:
// the first part is nearly untouched by F, and of the second, where the formula
// cancels most, nearly all is F. That the rows are the published ones is seen by the
// newest.
func checkDense(ctx context.Context, o *mfac, opts Options) (Check, error) {
	rows, err := o.run.Gradients(ctx)
	if err != nil {
		return Check{}, fmt.Errorf("read the window back: %w", err)
	}
	if want := min(opts.Steps, opts.Window); len(rows) != want {
		return Check{}, fmt.Errorf("the window has %d gradients after %d steps, want %d", len(rows), opts.Steps, want)
	}
	if !slices.Equal(rows[len(rows)-1], o.last) {
		return Check{}, fmt.Errorf("the newest gradient in the window is not the one last published")
	}
	v := checkVector(rows, opts.Seed)
	got := make([]float64, len(v))
	bound, err := o.run.IHVP64(ctx, got, v)
	if err != nil {
		return Check{}, fmt.Errorf("ask for H⁻¹v: %w", err)
	}
	want := make([]float64, len(v))
	if err := DenseIHVP(want, v, rows, opts.Window, opts.Damping); err != nil {
		return Check{}, fmt.Errorf("dense reference: %w", err)
	}
	c := Check{Rows: len(rows), Error: maxError(got, want), Bound: bound}
	if !finite(c.Error) {
		return Check{}, errors.New("the run's H⁻¹v is not finite")
	}
	return c, nil
}

// checkVector is z/|z| + Gᵀa/|Gᵀa|, z and a standard normal.
func checkVector(rows [][]float32, seed uint64) []float64 {
	rng := rand.New(rand.NewPCG(seed, streamCheck))
	z := make([]float64, len(rows[0]))
	for i := range z {
		z[i] = rng.NormFloat64()
	}
	in := make([]float64, len(z))
	for _, r := range rows {
		axpy(in, rng.NormFloat64(), r)
	}
	zn, inn := norm(z), norm(in)
	if inn == 0 {
		inn = 1 // gradients of zero: v is z alone
	}
	for i := range z {
		z[i] = z[i]/zn + in[i]/inn
	}
	return z
}

func norm(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum)
}

// maxError is max|got − want| / max|want|, NaN if anything is.
func maxError(got, want []float64) float64 {
	diff, size := 0.0, 0.0
	for i, w := range want {
		diff = math.Max(diff, math.Abs(got[i]-w)) // unlike max over >, it keeps NaN
		size = math.Max(size, math.Abs(w))
	}
	return diff / size
}
