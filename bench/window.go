package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/mat"

	"mfac/coordinator/window"
)

// windowFigures hold the m×m side against gonum: replacing the oldest row against factoring anew.
func windowFigures() []figure {
	f := func(m int, atLeast float64) figure {
		return figure{
			lines: one(line{
				name: fmt.Sprintf("window/replace/m=%d", m), atLeast: atLeast,
				what: "replace the oldest of m rows in the factor, against gonum's Cholesky of K",
			}),
			setup: func(*env) (sampler, error) { return replacePair(m) },
		}
	}
	return []figure{f(256, 0), f(1024, 20), f(2048, 0)}
}

// replacePair makes a full window of m random rows of length 2m.
func replacePair(m int) (sampler, error) {
	const damping = 1e-2
	rng := rand.New(rand.NewPCG(1, uint64(m)))
	d := 2 * m
	g := mat.NewDense(m, d, nil)
	fill := func(i int) {
		for j := range d {
			g.Set(i, j, rng.NormFloat64())
		}
	}
	for i := range m {
		fill(i)
	}
	var a mat.SymDense
	a.SymOuterK(1, g)
	packed := make([]float64, 0, m*(m+1)/2)
	for i := range m {
		for j := range i + 1 {
			packed = append(packed, a.At(i, j))
		}
	}
	w, err := window.New(m, damping, window.Capacity)
	if err != nil {
		return sampler{}, err
	}
	if err := w.Load(packed, m); err != nil {
		return sampler{}, err
	}
	y := make([]float64, m)
	if err := w.SolveTo(y, y); err != nil { // the factor is made here
		return sampler{}, err
	}
	oldest := 0
	row := make([]float64, m)
	k := mat.NewSymDense(m, nil)
	var chol mat.Cholesky
	const replaces = 5
	return pair(func() (ours, base time.Duration, err error) {
		for range replaces {
			fill(oldest)
			for i := range m { // the products with the rows that stay, oldest first, then g·g
				at := (oldest + 1 + i) % m
				row[i] = mat.Dot(g.RowView(at), g.RowView(oldest))
			}
			oldest = (oldest + 1) % m
			t, err := timed(func() error { return w.Replace(row) })
			if err != nil {
				return 0, 0, err
			}
			ours += t
		}
		for i := range m {
			for j := i; j < m; j++ {
				k.SetSym(i, j, w.At(i, j))
			}
			k.SetSym(i, i, k.At(i, i)+float64(m)*damping)
		}
		base, err = timed(func() error {
			if !chol.Factorize(k) {
				return window.ErrIllConditioned
			}
			return nil
		})
		return ours / replaces, base, err
	}, nil), nil
}
