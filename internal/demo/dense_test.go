package demo

import (
	"context"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
)

func randomRows(rng *rand.Rand, n, d int) [][]float32 {
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = make([]float32, d)
		for j := range rows[i] {
			rows[i][j] = float32(rng.NormFloat64())
		}
	}
	return rows
}

// explicit is H⁻¹v with H = (1/N)GᵀG + λI as a d×d matrix.
func explicit(t *testing.T, v []float64, rows [][]float32, divisor int, damping float64) []float64 {
	t.Helper()
	d := len(v)
	h := mat.NewSymDense(d, nil)
	for i := range d {
		for j := i; j < d; j++ {
			sum := 0.0
			for _, r := range rows {
				sum += float64(r[i]) * float64(r[j])
			}
			sum /= float64(divisor)
			if i == j {
				sum += damping
			}
			h.SetSym(i, j, sum)
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(h) {
		t.Fatal("H is not positive definite")
	}
	x := mat.NewVecDense(d, nil)
	if err := chol.SolveVecTo(x, mat.NewVecDense(d, append([]float64(nil), v...))); err != nil {
		t.Fatal(err)
	}
	return x.RawVector().Data
}

func TestDenseIHVPEqualsTheExplicitInverse(t *testing.T) {
	const tol = 1e-11 // cond H is below 1e4: some hundred ε of it
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct{ n, d, divisor int }{{0, 5, 4}, {1, 5, 4}, {3, 17, 8}, {8, 17, 8}, {30, 17, 30}} {
		rows := randomRows(rng, c.n, c.d)
		v := make([]float64, c.d)
		for i := range v {
			v[i] = rng.NormFloat64()
		}
		want := explicit(t, v, rows, c.divisor, 1e-3)
		got := make([]float64, c.d)
		if err := DenseIHVP(got, v, rows, c.divisor, 1e-3); err != nil {
			t.Fatal(err)
		}
		if e := maxError(got, want); !(e <= tol) {
			t.Errorf("%+v: off by %.1e", c, e)
		}
		if err := DenseIHVP(v, v, rows, c.divisor, 1e-3); err != nil || maxError(v, got) != 0 {
			t.Errorf("%+v: in place: %v, off by %v", c, err, maxError(v, got))
		}
	}
	if err := DenseIHVP(make([]float64, 3), make([]float64, 4), nil, 1, 1); err == nil {
		t.Error("no error for lengths that differ")
	}
	if err := DenseIHVP(make([]float64, 3), make([]float64, 3), randomRows(rng, 1, 4), 1, 1); err == nil {
		t.Error("no error for a row of another length")
	}
}

func TestDenseRunSlidesItsWindow(t *testing.T) {
	const d, window, tol = 23, 5, 1e-6 // the answer is float32
	ctx := context.Background()
	var cluster Dense
	run, err := cluster.NewRun(ctx, "r", d, nil, window, 1e-2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.NewRun(ctx, "r", d, nil, window, 1e-2); err == nil {
		t.Error("no error for a run that is there already")
	}
	all := randomRows(rand.New(rand.NewPCG(2, 2)), 13, d)
	for i, g := range all {
		dst := make([]float32, d)
		if err := run.Precondition(ctx, uint64(i+1), dst, g); err != nil {
			t.Fatal(err)
		}
		rows := all[max(0, i+1-window) : i+1]
		want := explicit(t, widen(g), rows, window, 1e-2)
		if e := maxError(widen(dst), want); !(e <= tol) {
			t.Errorf("step %d: off by %.1e", i+1, e)
		}
		kept, err := run.Gradients(ctx)
		if err != nil || len(kept) != len(rows) {
			t.Fatalf("step %d: %d rows and error %v, want %d", i+1, len(kept), err, len(rows))
		}
		for j := range kept {
			if maxError(widen(kept[j]), widen(rows[j])) != 0 {
				t.Errorf("step %d: row %d differs", i+1, j)
			}
		}
	}
	if err := run.Precondition(ctx, 13, make([]float32, d), all[0]); err == nil {
		t.Error("no error for a step that does not grow")
	}
	if err := run.Precondition(ctx, 14, make([]float32, d), all[0][:d-1]); err == nil {
		t.Error("no error for a short gradient")
	}
	if err := cluster.DeleteRun(ctx, "r"); err != nil {
		t.Error(err)
	}
	if err := cluster.DeleteRun(ctx, "r"); err == nil {
		t.Error("no error for a run that is gone")
	}
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}
