package spectrum

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

func never() bool { return false }

// kinds of rows: from benign ones to those that lose most.
var kinds = map[string]func(rng *rand.Rand, n, d int) [][]float64{
	"random": random,
	"nearly equal": func(rng *rand.Rand, n, d int) [][]float64 {
		rows := random(rng, n, d)
		for i := range rows {
			for j := range d {
				rows[i][j] = round(rows[0][j] * (1 + 1e-6*rng.NormFloat64()))
			}
		}
		return rows
	},
	"equal": func(rng *rand.Rand, n, d int) [][]float64 {
		rows := random(rng, n, d)
		for i := range rows {
			copy(rows[i], rows[0])
		}
		return rows
	},
	"graded": func(rng *rand.Rand, n, d int) [][]float64 {
		rows := random(rng, n, d)
		for i := range rows {
			scale := math.Pow(10, 8*rng.Float64()-4)
			for j := range d {
				rows[i][j] = round(rows[i][j] * scale)
			}
		}
		return rows
	},
	"one large": func(rng *rand.Rand, n, d int) [][]float64 {
		rows := random(rng, n, d)
		floats.Scale(0x1p14, rows[rng.IntN(n)])
		return rows
	},
	"some zero": func(rng *rand.Rand, n, d int) [][]float64 {
		rows := random(rng, n, d)
		for i := range rows {
			if rng.IntN(2) == 0 {
				clear(rows[i])
			}
		}
		return rows
	},
	"low rank": func(rng *rand.Rand, n, d int) [][]float64 {
		rows := random(rng, n, d)
		for i := 2; i < n; i++ {
			for j := range d {
				rows[i][j] = round(rows[0][j]*0.25*float64(i) - rows[1][j])
			}
		}
		return rows
	},
	"tiny": func(rng *rand.Rand, n, d int) [][]float64 {
		rows := random(rng, n, d)
		for i := range rows {
			floats.Scale(0x1p-500, rows[i])
		}
		return rows
	},
	"huge": func(rng *rand.Rand, n, d int) [][]float64 {
		rows := random(rng, n, d)
		for i := range rows {
			floats.Scale(0x1p400, rows[i])
		}
		return rows
	},
}

func round(x float64) float64 { return float64(float32(x)) }

func random(rng *rand.Rand, n, d int) [][]float64 {
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = make([]float64, d)
		for j := range rows[i] {
			rows[i][j] = round(rng.NormFloat64())
		}
	}
	return rows
}

// gram is A as the shards and the window make it, sorted as window.GradedTo does, what is not its own NaN.
func gram(rows [][]float64) []float64 {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(g, h []float64) int {
		if a, b := floats.Dot(g, g), floats.Dot(h, h); a < b {
			return -1
		} else if a > b {
			return 1
		}
		return 0
	})
	n := len(rows)
	a := make([]float64, n*n)
	for i := range a {
		a[i] = math.NaN()
	}
	for i := range rows {
		for j := range rows[:i+1] {
			a[i*n+j] = floats.Dot(rows[i], rows[j])
		}
	}
	return a
}

// worst is how large a part of their bounds the errors of a case are.
type worst struct{ alpha, trace, frobenius, logDet, inverse, dim, largest, smallest, condH, condK float64 }

func ratio(at *float64, e Estimate, exact *big.Float) {
	o := off(e.Value, exact)
	switch {
	case !(e.Error >= 0):
		*at = math.Inf(1)
	case math.IsInf(e.Error, 1) || o == 0: // nothing is said
	default:
		*at = max(*at, o/e.Error)
	}
}

func (w worst) all() float64 {
	return max(w.alpha, w.trace, w.frobenius, w.logDet, w.inverse, w.dim, w.largest, w.smallest, w.condH, w.condK)
}

// check compares with a reference of 320 bits: the eigenvalues of the n×n matrix, and det H, tr H⁻¹ and so on of them.
func check(rows [][]float64, d int, lambda, divisor float64) (w worst, s *Spectrum, err error) {
	n := len(rows)
	if s, err = Of(gram(rows), n, never); err != nil {
		return w, s, err
	}
	alpha := exactEigenvalues(exactGram(rows))
	trace, squares := zero(), zero()
	for i, a := range alpha {
		ratio(&w.alpha, Estimate{s.Alpha[i], s.Error}, a)
		trace.Add(trace, a)
		squares.Add(squares, zero().Mul(a, a))
		if i > 0 && s.Alpha[i] > s.Alpha[i-1] || s.Alpha[i] < 0 {
			return w, s, fmt.Errorf("eigenvalues %v", s.Alpha)
		}
	}
	ratio(&w.trace, s.Trace, trace)
	ratio(&w.frobenius, s.Frobenius, zero().Sqrt(squares))
	x := s.At(lambda, divisor, int64(d))
	product, inverse, dim := num(1), zero(), zero()
	eigen := func(i int) *big.Float { // of H
		if i >= n {
			return num(lambda)
		}
		return zero().Add(num(lambda), zero().Quo(alpha[i], num(divisor)))
	}
	shift := zero().Mul(num(lambda), num(divisor))
	for i := range d {
		h := eigen(i)
		product.Mul(product, h)
		inverse.Add(inverse, zero().Quo(num(1), h))
		if i < n {
			dim.Add(dim, zero().Quo(alpha[i], zero().Add(alpha[i], shift)))
		}
	}
	ratio(&w.logDet, x.LogDet, exactLog(product))
	ratio(&w.inverse, x.TraceInverse, inverse)
	ratio(&w.dim, x.EffectiveDim, dim)
	ratio(&w.largest, x.Largest, eigen(0))
	ratio(&w.smallest, x.Smallest, eigen(d-1))
	ratio(&w.condH, x.CondH, zero().Quo(eigen(0), eigen(d-1)))
	last := zero().Add(alpha[n-1], shift)
	if n > d {
		last = shift
	}
	ratio(&w.condK, x.CondK, zero().Quo(zero().Add(alpha[0], shift), last))
	return w, s, nil
}

// Every number of every kind of rows is within its bound, at dampings from those that don't matter to those
// that are lost among the rounding errors.
func TestError(t *testing.T) {
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	var most worst
	for i, name := range names {
		for j := range 12 {
			rng := rand.New(rand.NewPCG(uint64(i), uint64(j)))
			n, d := 1+rng.IntN(10), 1+rng.IntN(14)
			if j == 3 && !testing.Short() { // more than a panel
				n, d = panel+1+i, 40
			}
			rows := kinds[name](rng, n, d)
			lambda := math.Pow(10, -1.5*float64(j))
			w, s, err := check(rows, d, lambda, float64(n+j%3))
			if err != nil {
				t.Fatalf("%s %d: %v", name, j, err)
			}
			if !(w.all() <= 1) {
				t.Errorf("%s %d, n=%d d=%d λ=%g: %+v (%+v)", name, j, n, d, lambda, w, s.At(lambda, float64(n+j%3), int64(d)))
			}
			most.alpha = max(most.alpha, w.alpha)
			most.logDet = max(most.logDet, w.logDet)
			most.inverse = max(most.inverse, w.inverse)
			most.trace = max(most.trace, w.trace)
			most.frobenius = max(most.frobenius, w.frobenius)
			most.condH = max(most.condH, w.condH)
			most.condK = max(most.condK, w.condK)
			most.dim = max(most.dim, w.dim)
			most.largest = max(most.largest, w.largest)
			most.smallest = max(most.smallest, w.smallest)
		}
	}
	t.Logf("errors, in parts of the bounds: %+v", most)
}

func TestErrorRapid(t *testing.T) {
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(rt *rapid.T) {
		n, d := rapid.IntRange(1, 7).Draw(rt, "n"), rapid.IntRange(1, 9).Draw(rt, "d")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		rows := kinds[rapid.SampledFrom(names).Draw(rt, "rows")](rng, n, d)
		lambda := math.Pow(10, rapid.Float64Range(-18, 6).Draw(rt, "log λ"))
		w, _, err := check(rows, d, lambda, float64(rapid.IntRange(1, 12).Draw(rt, "N")))
		if err != nil || !(w.all() <= 1) {
			rt.Fatalf("%v: %+v", err, w)
		}
	})
}

// An eigenvalue that is 0 and found as an error that λ is far below: the bound of tr H⁻¹ is nearly all error, and its
// own rounding counts.
func TestErrorRounded(t *testing.T) {
	for seed := range uint64(100) {
		rows := kinds["equal"](rand.New(rand.NewPCG(seed, 0)), 4, 2)
		if w, _, err := check(rows, 2, 1e-18, 1); err != nil || !(w.all() <= 1) {
			t.Errorf("seed %d: %v: %+v", seed, err, w)
		}
	}
}

// Sizes about the panels and blocks, against gonum's eigenvalues.
func TestSizes(t *testing.T) {
	most := 0.0
	defer func() { t.Logf("errors, in parts of nε‖A‖: %.2g", most) }()
	for _, n := range []int{1, 2, 3, panel - 1, panel, panel + 1, block, 2*panel + 1, 3*block + 5} {
		rng := rand.New(rand.NewPCG(uint64(n), 1))
		rows := random(rng, n, n+3)
		s, err := Of(gram(rows), n, never)
		if err != nil {
			t.Fatal(err)
		}
		var e mat.EigenSym
		sym := mat.NewSymDense(n, nil)
		for i := range n {
			for j := range i + 1 {
				sym.SetSym(i, j, floats.Dot(rows[i], rows[j]))
			}
		}
		if !e.Factorize(sym, false) {
			t.Fatal("gonum finds no eigenvalues")
		}
		want := e.Values(nil)
		slices.Reverse(want)
		worst := floats.Distance(s.Alpha, want, math.Inf(1))
		if !(worst <= s.Error) {
			t.Errorf("n=%d: off by %g, of %g", n, worst, s.Error)
		}
		most = max(most, worst/(float64(n)*epsilon*s.Alpha[0]))
	}
}

// The numbers are those of the dense d×d matrix: by its own factor and inverse, not by eigenvalues.
func TestDense(t *testing.T) {
	const tolerance = 1e-9 // relative; condition numbers here are up to 1e5
	for _, c := range []struct {
		n, d   int
		lambda float64
	}{{3, 8, 0.1}, {8, 8, 0.01}, {12, 5, 1e-3}, {40, 60, 0.3}, {1, 1, 2}} {
		rng := rand.New(rand.NewPCG(uint64(c.n), 2))
		rows := random(rng, c.n, c.d)
		s, err := Of(gram(rows), c.n, never)
		if err != nil {
			t.Fatal(err)
		}
		N := float64(c.n)
		h := mat.NewSymDense(c.d, nil)
		for i := range c.d {
			for j := range i + 1 {
				sum := 0.0
				for _, g := range rows {
					sum += g[i] * g[j]
				}
				h.SetSym(i, j, sum/N)
			}
		}
		f := mat.DenseCopyOf(h)
		for i := range c.d {
			h.SetSym(i, i, h.At(i, i)+c.lambda)
		}
		var chol mat.Cholesky
		if !chol.Factorize(h) {
			t.Fatal("not positive definite")
		}
		var inverse mat.SymDense
		if err := chol.InverseTo(&inverse); err != nil {
			t.Fatal(err)
		}
		var fh mat.Dense
		fh.Mul(f, &inverse)
		var svd mat.SVD
		svd.Factorize(h, mat.SVDNone)
		values := svd.Values(nil)
		x := s.At(c.lambda, N, int64(c.d))
		for what, p := range map[string][2]float64{
			"log det": {x.LogDet.Value, chol.LogDet()}, "tr H⁻¹": {x.TraceInverse.Value, mat.Trace(&inverse)},
			"dimension": {x.EffectiveDim.Value, mat.Trace(&fh)}, "largest": {x.Largest.Value, values[0]},
			"smallest": {x.Smallest.Value, values[c.d-1]}, "cond": {x.CondH.Value, values[0] / values[c.d-1]},
			"trace": {s.Trace.Value / N, mat.Trace(f)}, "Frobenius": {s.Frobenius.Value / N, mat.Norm(f, 2)},
		} {
			if !(math.Abs(p[0]-p[1]) <= tolerance*(1+math.Abs(p[1]))) {
				t.Errorf("n=%d d=%d: %s is %g, not %g", c.n, c.d, what, p[0], p[1])
			}
		}
	}
}

func TestEmpty(t *testing.T) {
	s, err := Of(nil, 0, never)
	if err != nil || len(s.Alpha) != 0 {
		t.Fatal(s, err)
	}
	for _, n := range []float64{0, 4} { // N = 0 where it counts rows
		x := s.At(0.5, n, 3)
		if x.LogDet.Value != 3*math.Log(0.5) || x.TraceInverse.Value != 6 || x.EffectiveDim.Value != 0 ||
			x.Largest != (Estimate{0.5, 0}) || x.Smallest != (Estimate{0.5, 0}) || x.CondH.Value != 1 || x.CondK.Value != 1 {
			t.Errorf("N=%g: %+v", n, x)
		}
	}
}

func TestRefused(t *testing.T) {
	if _, err := Of(make([]float64, 5), 2, never); err == nil {
		t.Error("5 numbers of a 2×2 matrix")
	}
	if _, err := Of([]float64{1, 0, 0, 1}, 2, func() bool { return true }); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
	big := math.MaxFloat64 / 1.5
	if _, err := Of([]float64{big, 0, big, big}, 2, never); !errors.Is(err, ErrNotFinite) {
		t.Error(err)
	}
}

// Same bits again.
func TestRepeats(t *testing.T) {
	rows := random(rand.New(rand.NewPCG(7, 7)), 150, 20)
	first, err := Of(gram(rows), 150, never)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		again, err := Of(gram(rows), 150, never)
		if err != nil || !slices.Equal(first.Alpha, again.Alpha) {
			t.Fatal("other eigenvalues", err)
		}
	}
}

// What sorting rows is for: the small eigenvalues of rows of very different size are good relative to
// themselves, and not only to the largest.
func TestGradedRows(t *testing.T) {
	const good, bad = 1e-11, 1e-6 // the small ones are 1e-16 of the largest: without sorting nothing need be left of them
	worstSorted, worstReversed := 0.0, 0.0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 9))
		n := 8
		rows := random(rng, n, 12)
		for i := range rows {
			floats.Scale(math.Ldexp(1, 4*i), rows[i])
		}
		exact := exactEigenvalues(exactGram(rows))
		a := gram(rows) // sorted already
		reversed := make([]float64, n*n)
		for i := range n {
			for j := range i + 1 {
				reversed[i*n+j] = a[(n-1-j)*n+n-1-i]
			}
		}
		for _, c := range []struct {
			a     []float64
			worst *float64
		}{{a, &worstSorted}, {reversed, &worstReversed}} {
			s, err := Of(c.a, n, never)
			if err != nil {
				t.Fatal(err)
			}
			for i, x := range s.Alpha {
				e, _ := exact[i].Float64()
				*c.worst = max(*c.worst, off(x, exact[i])/e)
			}
		}
	}
	t.Logf("relative errors: sorted %.2g, the other way round %.2g", worstSorted, worstReversed)
	if !(worstSorted <= good) || worstReversed < bad {
		t.Error("sorting rows does not do what Of says")
	}
}
