package integration

import (
	"math"

	"gonum.org/v1/gonum/floats"
)

const (
	// benignBound is what the carried bound stays below wherever maths.md says that it can be.
	benignBound = 1e-9

	// smallBound is below benignBound, and a bound that is no larger is not made better
	// (coordinator/window, enough); a float64 answer's rounding is added.
	smallBound = 1.1e-10

	epsilon = 0x1p-52
)

// A gauge is of K = A + NλI, with nothing estimated: how hard a window is.
type gauge struct {
	n      float64
	s      []float64 // √K_ii
	rows   []float64 // √A_ii
	kappa  float64   // the condition number of S⁻¹KS⁻¹
	m      float64   // min(√(nκ), ‖s‖/(2√(Nλ)))
	bundle float64   // how many rows, at most, are multiples of one
}

// newGauge makes one of n rows' A, of the shift Nλ and of solve, which sets x = K⁻¹x.
func newGauge(n int, at func(i, j int) float64, shift float64, solve func(x []float64)) gauge {
	g := gauge{n: float64(n), s: make([]float64, n), rows: make([]float64, n), kappa: 1, bundle: 1}
	if n == 0 {
		return g
	}
	a := make([][]float64, n)
	for i := range a {
		a[i] = make([]float64, n)
		for j := range i + 1 {
			a[i][j] = at(i, j)
			a[j][i] = a[i][j]
		}
		g.s[i], g.rows[i] = math.Sqrt(a[i][i]+shift), math.Sqrt(a[i][i])
	}
	sizes := make([]float64, n)
	for i := range n {
		first := i
		for j := range i {
			if p := a[i][j]; p != 0 && math.Abs(p) >= math.Sqrt(a[i][i])*math.Sqrt(a[j][j])*(1-1e-12) {
				first = j
				break
			}
		}
		sizes[first]++
	}
	g.bundle = floats.Max(sizes)
	// The largest eigenvalues of S⁻¹KS⁻¹ and of its inverse.
	largest := power(n, func(x []float64) {
		y := make([]float64, n)
		for i := range y {
			for j, s := range g.s {
				y[i] += a[i][j] * x[j] / s
			}
			y[i] += shift * x[i] / g.s[i]
		}
		for i, s := range g.s {
			x[i] = y[i] / s
		}
	})
	inverse := power(n, func(x []float64) {
		floats.Mul(x, g.s)
		solve(x)
		floats.Mul(x, g.s)
	})
	g.kappa = max(1, largest*inverse)
	g.m = min(math.Sqrt(g.n*g.kappa), floats.Norm(g.s, 2)/(2*math.Sqrt(shift)))
	return g
}

// power is the largest eigenvalue of what times does, to a few percent.
func power(n int, times func(x []float64)) (most float64) {
	x := make([]float64, n)
	for i := range x {
		x[i] = math.Cos(float64(i*i) + 1)
	}
	for range 30 {
		floats.Scale(1/floats.Norm(x, 2), x)
		times(x)
		most = floats.Norm(x, 2)
	}
	return most
}

// scaled is ‖Sc‖.
func (g gauge) scaled(c []float64) (norm float64) {
	for i, s := range g.s {
		norm = math.Hypot(norm, s*c[i])
	}
	return norm
}

// unsure is how much smaller ‖x‖ looks by scalars, which is how an answer gets it where that will do:
// its square is known to 32 ε (‖v‖ + Σ|c_i|‖g_i‖)². Beyond a tenth it won't do.
func (g gauge) unsure(c []float64, v, size float64) float64 {
	for i, a := range g.rows {
		v += math.Abs(c[i]) * a
	}
	return math.Sqrt(max(1-32*epsilon*(v/size)*(v/size), 1e-2))
}

// vector is maths.md's E of an answer of which size = ‖λx‖, v = ‖v‖ and c = K⁻¹Gv, and how many times
// as much an answer may carry, see coordinator/window, VectorBound:
//
//   - 9 times, since the dots are off by more than E has for them
//   - √b times, since the errors of b equal rows add up
//   - ‖v‖/‖Sc‖ times, at most M, since the rounding of y = Gv is proportional to ‖v‖, not to c
//   - √n for the n additions to v
//   - up to 10 times where ‖λx‖ is below 1e-7 ‖v‖, where E ≤ 1e-9 at most 1.6 times
func (g gauge) vector(c []float64, v, size float64) (says, factor float64) {
	sc := g.scaled(c)
	factor = 9*(math.Sqrt(g.bundle)+min(g.m, v/sc)) + 2*math.Sqrt(g.n)
	return epsilon * (v + g.m*sc) / size, factor / g.unsure(c, v, size)
}

// combination is 32εκ, and how many times as much an answer of which size = ‖x‖ and c = N K⁻¹a may
// carry: more than once where its parts cancel, which 32εκ does not know.
func (g gauge) combination(c []float64, size float64) (says, factor float64) {
	factor = max(1, g.scaled(c)/size*math.Sqrt(g.n*g.bundle/g.kappa))
	return 32 * epsilon * g.kappa, factor / g.unsure(c, 0, size)
}
