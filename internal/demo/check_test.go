package demo

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// crookedRun is a DenseRun that lies.
type crookedRun struct {
	*DenseRun
	spoil func(dst []float64)
	rows  func([][]float32) [][]float32
}

func (r *crookedRun) IHVP64(ctx context.Context, dst, v []float64) (float64, error) {
	_, err := r.DenseRun.IHVP64(ctx, dst, v)
	if r.spoil != nil {
		r.spoil(dst)
	}
	return 1e-9, err
}

func (r *crookedRun) Gradients(ctx context.Context) ([][]float32, error) {
	rows, err := r.DenseRun.Gradients(ctx)
	if r.rows != nil {
		rows = r.rows(rows)
	}
	return rows, err
}

func TestCheckSeesWhatIsWrong(t *testing.T) {
	const d, window, steps = 40, 6, 9
	ctx := context.Background()
	opts := Options{Seed: 1, Steps: steps, Window: window, Damping: 1e-3}
	rows := randomRows(rand.New(rand.NewPCG(3, 3)), steps, d)
	for _, c := range []struct {
		name  string
		spoil func([]float64)
		rows  func([][]float32) [][]float32
		least float64 // of the error found
		fails string
	}{
		{name: "nothing"},
		{name: "one element off by a millionth", spoil: func(x []float64) { x[7] += 1e-6 * math.Abs(x[7]) }, least: 1e-10},
		{name: "NaN", spoil: func(x []float64) { x[39] = math.NaN() }, fails: "not finite"},
		{name: "a row missing", rows: func(r [][]float32) [][]float32 { return r[1:] }, fails: "5 gradients after 9 steps, want 6"},
		{name: "an old row last", rows: func(r [][]float32) [][]float32 { return append(r[1:len(r):len(r)], r[0]) }, fails: "newest"},
		{name: "another window than the answer's", rows: func(r [][]float32) [][]float32 {
			return append([][]float32{rows[0]}, r[1:]...)
		}, least: 1e-3},
	} {
		run := &crookedRun{DenseRun: &DenseRun{dim: d, window: window, damping: opts.Damping}, spoil: c.spoil, rows: c.rows}
		o := &mfac{run: run, momentum: 0.9}
		for i, g := range rows {
			if err := o.step(ctx, i+1, 0, make([]float32, d), g); err != nil {
				t.Fatal(err)
			}
		}
		got, err := checkDense(ctx, o, opts)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.fails)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !(got.Error >= c.least) || c.least == 0 && got.Error != 0 {
			t.Errorf("%s: error is %v, want at least %v", c.name, got.Error, c.least)
		}
		if got.Rows != window || got.Bound != 1e-9 {
			t.Errorf("%s: %+v, want %d rows and the run's bound", c.name, got, window)
		}
	}
}

// Half of v is in the window's span, where the formula cancels, and half is not.
func TestCheckVectorHasBothParts(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(4, 4)), 5, 400)
	v := checkVector(rows, 1)
	x := make([]float64, len(v))
	const damping = 1e-6
	if err := DenseIHVP(x, v, rows, 5, damping); err != nil {
		t.Fatal(err)
	}
	// λH⁻¹v is v without its part in the span.
	if out := norm(x) * damping; !(out > 0.9 && out < 1.1) {
		t.Errorf("the part outside the span has norm %v, want about 1", out)
	}
	if n := norm(v); !(n > 1.2 && n < 1.7) {
		t.Errorf("|v| is %v, want about √2", n)
	}
	if z := checkVector([][]float32{make([]float32, 10)}, 1); math.IsNaN(norm(z)) {
		t.Error("a window of zeros gives NaN")
	}
}
