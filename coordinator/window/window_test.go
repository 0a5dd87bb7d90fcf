package window

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// A model is what a Window must agree with: the gradients themselves.
type model struct {
	g        [][]float64
	capacity int
	damping  float64
	divisor  Divisor
}

func (m *model) n() int {
	if m.divisor == Count {
		return len(m.g)
	}
	return m.capacity
}

// A failer is a *testing.T, a *testing.B or a *rapid.T.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func must(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// row returns what the shards send for gradient g beside rows.
func row(rows [][]float64, g []float64) []float64 {
	r := make([]float64, 0, len(rows)+1)
	for _, h := range rows {
		r = append(r, dot(h, g))
	}
	return append(r, dot(g, g))
}

func packed(rows [][]float64) []float64 {
	var p []float64
	for i, g := range rows {
		p = append(p, row(rows[:i], g)...)
	}
	return p
}

// solve returns K⁻¹y by gonum's dense Cholesky.
func (m *model) solve(t failer, y []float64) []float64 {
	t.Helper()
	n := len(m.g)
	k := mat.NewSymDense(n, nil)
	for i := range n {
		for j := range i + 1 {
			k.SetSym(i, j, dot(m.g[i], m.g[j]))
		}
		k.SetSym(i, i, k.At(i, i)+float64(m.n())*m.damping)
	}
	var c mat.Cholesky
	if !c.Factorize(k) {
		t.Fatal("the reference is not positive definite")
	}
	x := mat.NewVecDense(n, nil)
	must(t, c.SolveVecTo(x, mat.NewVecDense(n, slices.Clone(y))))
	return x.RawVector().Data
}

// solveTolerance: gradients of length about 4 and Nλ ≥ 1e-2 make cond K < 1e5, and n < 16.
const solveTolerance = 1e-10

func distance(x, y []float64) float64 {
	d, n := 0.0, 0.0
	for i := range x {
		d = math.Hypot(d, x[i]-y[i])
		n = math.Hypot(n, y[i])
	}
	if d == 0 {
		return 0
	}
	return d / n
}

func (m *model) compare(t failer, w *Window) {
	t.Helper()
	n := len(m.g)
	if w.Len() != n || w.Cap() != m.capacity || w.N() != m.n() || w.Damping() != m.damping || w.Divisor() != m.divisor {
		t.Fatalf("window: %d of %d, N %d, λ %g, %s; want %+v", w.Len(), w.Cap(), w.N(), w.Damping(), w.Divisor(), m)
	}
	for i := range n {
		for j := range n {
			if got, want := w.At(i, j), dot(m.g[i], m.g[j]); got != want {
				t.Fatalf("A[%d][%d] = %g, want %g", i, j, got, want)
			}
		}
	}
}

func (m *model) compareSolve(t failer, w *Window, f *Factor, seed uint64) {
	t.Helper()
	n := len(m.g)
	if f.Len() != n || f.N() != m.n() || f.Damping() != m.damping {
		t.Fatalf("factor: %d rows, N %d, λ %g; want %+v", f.Len(), f.N(), f.Damping(), m)
	}
	if n == 0 {
		must(t, f.SolveTo(nil, nil))
		must(t, f.CombinationTo(nil, nil))
		return
	}
	y := normal(rand.New(rand.NewPCG(seed, 0)), n, 1)
	got, want := make([]float64, n), m.solve(t, y)
	must(t, f.SolveTo(got, y))
	if d := distance(got, want); !(d <= solveTolerance) {
		t.Fatalf("K⁻¹y is off by %g: %v, want %v", d, got, want)
	}
	for i := range want {
		want[i] *= float64(m.n())
	}
	must(t, f.CombinationTo(y, y)) // in place
	if d := distance(y, want); !(d <= solveTolerance) {
		t.Fatalf("N K⁻¹a is off by %g", d)
	}
}

// state is all that a failed call must leave alone.
func state(w *Window) (s []float64) {
	for i := range w.Len() {
		for j := range i + 1 {
			s = append(s, w.At(i, j))
		}
	}
	s = append(s, w.Damping(), float64(w.Divisor()), float64(w.N()))
	if f, err := w.Factor(w.Damping(), w.Divisor()); err == nil {
		l := make([]float64, w.Len()*(w.Len()+1)/2)
		if f.PackedTo(l) == nil {
			s = append(s, l...)
		}
	}
	return s
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			capacity: rapid.OneOf(rapid.IntRange(1, 14), rapid.IntRange(15, 90)).Draw(t, "m"),
			damping:  1e-2,
			divisor:  Divisor(rapid.IntRange(0, 1).Draw(t, "divisor")),
		}
		w, err := New(m.capacity, m.damping, m.divisor)
		must(t, err)
		gradient := func(t *rapid.T) []float64 {
			g := normal(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "g"), 0)), 16, 1)
			if len(m.g) > 0 && rapid.IntRange(0, 4).Draw(t, "kind") == 0 {
				copy(g, m.g[len(m.g)-1]) // a duplicate
			}
			return g
		}
		spoil := func(t *rapid.T, r []float64) []float64 {
			r = slices.Clone(r)
			switch k := rapid.IntRange(0, 4).Draw(t, "how"); {
			case k == 0 || len(r) == 0:
				return append(r, 1)
			case k == 1:
				return r[:len(r)-1]
			case k == 2:
				r[len(r)-1] = -1
			default:
				r[rapid.IntRange(0, len(r)-1).Draw(t, "at")] = []float64{math.NaN(), math.Inf(-1)}[k-3]
			}
			return r
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				g := gradient(t)
				err := w.Append(row(m.g, g))
				if len(m.g) == m.capacity {
					if !errors.Is(err, ErrFull) {
						t.Fatalf("Append to a full window: %v", err)
					}
					return
				}
				must(t, err)
				m.g = append(m.g, g)
			},
			"replace": func(t *rapid.T) {
				if len(m.g) == 0 {
					if err := w.Replace(nil); !errors.Is(err, ErrInvalid) {
						t.Fatalf("Replace in an empty window: %v", err)
					}
					return
				}
				g := gradient(t)
				must(t, w.Replace(row(m.g[1:], g)))
				m.g = append(m.g[1:], g)
			},
			"drop": func(t *rapid.T) {
				i := rapid.IntRange(-1, len(m.g)).Draw(t, "i")
				err := w.Drop(i)
				if i < 0 || i >= len(m.g) {
					if !errors.Is(err, ErrInvalid) {
						t.Fatalf("Drop(%d) of %d: %v", i, len(m.g), err)
					}
					return
				}
				must(t, err)
				m.g = slices.Delete(slices.Clone(m.g), i, i+1)
			},
			"load": func(t *rapid.T) {
				m.g = nil
				for range rapid.IntRange(0, m.capacity).Draw(t, "n") {
					m.g = append(m.g, gradient(t))
				}
				must(t, w.Load(packed(m.g), len(m.g)))
			},
			"params": func(t *rapid.T) {
				m.damping = rapid.Float64Range(1e-2, 10).Draw(t, "λ")
				m.divisor = Divisor(rapid.IntRange(0, 1).Draw(t, "divisor"))
				must(t, w.SetParams(m.damping, m.divisor))
			},
			"override": func(t *rapid.T) {
				o := *m
				o.damping = rapid.SampledFrom([]float64{1e-2, 0.1, 1, 2, 3, 4, 5}).Draw(t, "λ")
				o.divisor = Divisor(rapid.IntRange(0, 1).Draw(t, "divisor"))
				f, err := w.Factor(o.damping, o.divisor)
				must(t, err)
				o.compareSolve(t, w, f, 1)
			},
			"solve": func(t *rapid.T) {
				f, err := w.Factor(m.damping, m.divisor)
				must(t, err)
				m.compareSolve(t, w, f, 2)
			},
			"refused": func(t *rapid.T) {
				before := state(w)
				var err error
				switch rapid.IntRange(0, 3).Draw(t, "call") {
				case 0:
					err = w.Append(spoil(t, row(m.g, gradient(t))))
				case 1:
					if len(m.g) == 0 {
						return
					}
					err = w.Replace(spoil(t, row(m.g[1:], gradient(t))))
				case 2:
					err = w.Load(spoil(t, packed(m.g)), len(m.g))
				case 3:
					err = w.SetParams(rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1)}).Draw(t, "λ"), Capacity)
				}
				if err == nil {
					t.Fatal("no error")
				}
				if !slices.Equal(state(w), before) {
					t.Fatalf("%v, but the window changed", err)
				}
			},
			"": func(t *rapid.T) { m.compare(t, w) },
		})
	})
}
