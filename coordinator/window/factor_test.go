package window

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
)

func gradients(seed uint64, n, d int) [][]float64 {
	rng := rand.New(rand.NewPCG(seed, 0))
	g := make([][]float64, n)
	for i := range g {
		g[i] = normal(rng, d, 1/math.Sqrt(float64(d)))
	}
	return g
}

func loaded(t failer, g [][]float64, capacity int, damping float64, div Divisor) *Window {
	t.Helper()
	w, err := New(capacity, damping, div)
	must(t, err)
	must(t, w.Load(packed(g), len(g)))
	return w
}

// factorError is the largest distance of a row of w's factor to that of a fresh one, relative to
// the row's length √K_ii.
func factorError(t failer, w *Window) float64 {
	t.Helper()
	z, err := w.factor(w.damping, w.divisor)
	must(t, err)
	var fresh factorization
	w.refactor(&fresh, z.shift)
	worst := 0.0
	for i := range w.n {
		d, s := 0.0, 0.0
		for k, v := range fresh.l[i*fresh.ld:][:i+1] {
			d = math.Hypot(d, v-z.l[i*z.ld+k])
			s = math.Hypot(s, v)
		}
		if !(d/s <= worst) {
			worst = d / s
		}
	}
	return worst
}

// Every size about the edges of groups and blocks, each way to change a window.
func TestSizes(t *testing.T) {
	// Rows of length 1 and Nλ = 0.1 make cond K < 1e4; n additions of 1e-16 and a few updates.
	const tolerance = 1e-10
	sizes := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 31, 63, 64, 65, 66, 127, 128, 129, 257, 1023}
	if !testing.Short() {
		sizes = append(sizes, 2048)
	}
	for _, m := range sizes {
		g := gradients(uint64(m), m+8, min(40, m+3))
		w := loaded(t, g[:m-1], m, 0.1/float64(m), Capacity)
		_, err := w.Factor(w.Damping(), Capacity)
		must(t, err)
		check := func(what string, rows [][]float64) {
			t.Helper()
			if !w.current() {
				t.Fatalf("m=%d: no factor after %s", m, what)
			}
			if w.Len() != len(rows) {
				t.Fatalf("m=%d: %d rows after %s, want %d", m, w.Len(), what, len(rows))
			}
			for _, i := range []int{0, w.Len() / 2, w.Len() - 1} {
				if i >= 0 && i < len(rows) && w.At(i, 0) != dot(rows[i], rows[0]) {
					t.Fatalf("m=%d: A[%d][0] is wrong after %s", m, i, what)
				}
			}
			if m <= 257 {
				if e := factorError(t, w); !(e <= tolerance) {
					t.Fatalf("m=%d: L is off by %g after %s", m, e, what)
				}
			}
		}
		must(t, w.Append(row(g[:m-1], g[m-1])))
		check("append", g[:m])
		for i := range 6 {
			must(t, w.Replace(row(g[i+1:m+i], g[m+i])))
			check("replace", g[i+1:m+i+1])
		}
		rows := append([][]float64(nil), g[6:m+6]...)
		for _, i := range []int{m / 2, 0, m - 3, 1, m / 3} {
			if i < 0 || i >= len(rows) {
				continue
			}
			must(t, w.Drop(i))
			rows = append(rows[:i], rows[i+1:]...)
			check(fmt.Sprintf("drop %d", i), rows)
		}
		must(t, w.Append(row(rows, g[m+6])))
		rows = append(rows, g[m+6])
		check("append after drops", rows)
		if e := factorError(t, w); !(e <= tolerance) {
			t.Fatalf("m=%d: L is off by %g at the end", m, e)
		}
	}
}

// 3,000 replaces at m = 256, then the same answers as from a fresh factor: c = K⁻¹y, which is what the
// coordinator sends, and λx = v − Gᵀc, for random v and for stored rows.
func TestDrift(t *testing.T) {
	const m, d, replaces, lambda = 256, 320, 3000, 1e-4
	// The task's limit; the factor is as good as a fresh one, so it is κ ε, here 1e4 ε.
	const tolerance = 1e-10
	rng := rand.New(rand.NewPCG(9, 9))
	g := make([][]float64, m+replaces)
	for i := range g { // a spectrum that falls to 1e-2 and rows of different size
		g[i] = normal(rng, d, math.Pow(10, rng.Float64()-0.5))
		for j := range g[i] {
			g[i][j] *= math.Pow(10, -2*float64(j)/d)
		}
		round32(g[i])
	}
	w, err := New(m, lambda, Capacity)
	must(t, err)
	for i := range g {
		if i < m {
			must(t, w.Append(row(g[:i], g[i])))
		} else {
			must(t, w.Replace(row(g[i+1-m:i], g[i])))
		}
		if !w.current() {
			t.Fatalf("the factor was lost at row %d", i)
		}
	}
	in := g[replaces:]
	fresh := loaded(t, in, m, lambda, Capacity)
	ff, err := fresh.Factor(lambda, Capacity)
	must(t, err)
	f, err := w.Factor(lambda, Capacity)
	must(t, err)
	kappa, err := ff.Cond()
	must(t, err)
	y, a, b := make([]float64, m), make([]float64, m), make([]float64, m)
	worstC, worstX := 0.0, 0.0
	for k := range 20 {
		v := normal(rng, d, 1)
		if k%2 == 0 {
			v = in[rng.IntN(m)]
		}
		for i := range y {
			y[i] = dot(in[i], v)
		}
		must(t, f.SolveTo(a, y))
		must(t, ff.SolveTo(b, y))
		worstC = max(worstC, distance(a, b))
		worstX = max(worstX, distance(combine(v, in, a, -1), combine(v, in, b, -1)))
	}
	t.Logf("κ ≤ %.2g; L is off by %.2g, c by %.2g, λx by %.2g", kappa, factorError(t, w), worstC, worstX)
	if !(worstC <= tolerance) || !(worstX <= tolerance) {
		t.Errorf("after %d replaces c is off by %g, λx by %g, at most %g", replaces, worstC, worstX, tolerance)
	}
}

// Under Count, N changes with every append and drop until the window is full.
func TestCount(t *testing.T) {
	const m = 9
	g := gradients(3, 40, 16)
	w, err := New(m, 0.3, Count)
	must(t, err)
	mod := &model{capacity: m, damping: 0.3, divisor: Count}
	for i := range g {
		if len(mod.g) == m {
			must(t, w.Replace(row(mod.g[1:], g[i])))
			mod.g = mod.g[1:]
		} else {
			must(t, w.Append(row(mod.g, g[i])))
		}
		mod.g = append(mod.g, g[i])
		mod.compare(t, w)
		if i < m == w.current() {
			t.Fatalf("row %d of %d: the factor is up to date: %v", i, m, w.current())
		}
		f, err := w.Factor(0.3, Count)
		must(t, err)
		mod.compareSolve(t, w, f, uint64(i))
	}
	// Full, Count is Capacity: the same factor, other words.
	f, err := w.Factor(0.3, Capacity)
	must(t, err)
	if f.z != &w.own || f.N() != m {
		t.Error("a full window's factor at Capacity was made anew")
	}
	must(t, w.SetParams(0.3, Capacity))
	if !w.current() {
		t.Error("SetParams to the same Nλ lost the factor")
	}
}

func TestEmpty(t *testing.T) {
	for _, div := range []Divisor{Capacity, Count} {
		w, err := New(3, 0.5, div)
		must(t, err)
		for range 2 {
			f, err := w.Factor(0.5, div)
			must(t, err)
			must(t, f.SolveTo(nil, nil))
			must(t, f.CombinationTo(nil, nil))
			must(t, f.PackedTo(nil))
			must(t, w.SolveTo(nil, nil))
			if c, err := f.Cond(); err != nil || c != 1 {
				t.Errorf("κ of nothing is %g, %v", c, err)
			}
			// x = v/λ: one rounding.
			b, err := f.VectorBound(nil, nil, 4)
			if err != nil || b.NormEst != 2 || !(b.Relative > 0) || !(b.Relative <= 10*epsilon) || !(b.Numerator >= epsilon/2) {
				t.Errorf("bound %+v, %v", b, err)
			}
			if b, err := f.CombinationBoundOf(nil); err != nil || b != (Bound{}) {
				t.Errorf("bound of no combination %+v, %v", b, err)
			}
			if b := f.CombinationBound(); b != 32*epsilon {
				t.Errorf("bound of combinations %g", b)
			}
			must(t, w.Append([]float64{2})) // and once more after it has held a row
			must(t, w.Drop(0))
		}
	}
}

func TestOne(t *testing.T) {
	w, err := New(1, 0.5, Count)
	must(t, err)
	must(t, w.Append([]float64{3.5}))
	c := []float64{8}
	must(t, w.SolveTo(c, c))
	if c[0] != 2 {
		t.Errorf("8/(3.5+0.5) = %g", c[0])
	}
	must(t, w.Replace([]float64{7.5}))
	c[0] = 8
	must(t, w.SolveTo(c, c))
	if math.Abs(c[0]-1) > epsilon {
		t.Errorf("8/(7.5+0.5) = %g", c[0])
	}
	f, err := w.Factor(0.5, Count)
	must(t, err)
	if k, err := f.Cond(); err != nil || k != 1 {
		t.Errorf("κ of a 1×1 matrix is %g, %v", k, err)
	}
	l := make([]float64, 1)
	must(t, f.PackedTo(l))
	if l[0] != math.Sqrt(8) {
		t.Errorf("L = %g", l[0])
	}
}

func TestOverrides(t *testing.T) {
	g := gradients(5, 12, 20)
	w := loaded(t, g[:10], 11, 1, Capacity)
	at := func(damping float64) *Factor {
		f, err := w.Factor(damping, Capacity)
		must(t, err)
		return f
	}
	own := at(1)
	first := at(2)
	for _, d := range []float64{3, 4, 5} {
		at(d)
	}
	if f := at(2); f.z != first.z || f.check() != nil || first.check() != nil {
		t.Error("the factor at 2 was not kept")
	}
	third := at(3)
	at(6) // takes the place of 4
	if first.check() != nil || third.check() != nil || own.check() != nil {
		t.Error("a factor that was just used is gone")
	}
	for _, d := range []float64{7, 8, 9, 10} {
		at(d)
	}
	y := make([]float64, 10)
	var stale *StaleError
	if err := first.SolveTo(y, y); !errors.Is(err, ErrStale) || !errors.As(err, &stale) || stale.Damping != 2 || stale.N != 11 {
		t.Errorf("a factor whose place is taken: %v", err)
	}
	if own.check() != nil || len(w.other) != overrides {
		t.Errorf("own %v, %d overrides", own.check(), len(w.other))
	}

	f := at(10)
	must(t, w.Append(row(g[:10], g[10])))
	for _, f := range []*Factor{own, f} {
		_, err := f.Cond()
		_, err2 := f.VectorBound(y, y, 1)
		_, err3 := f.CombinationBoundOf(y)
		for _, err := range []error{err, err2, err3, f.SolveTo(y, y), f.CombinationTo(y, y), f.PackedTo(nil)} {
			if !errors.Is(err, ErrStale) {
				t.Errorf("after Append: %v", err)
			}
		}
		if b := f.CombinationBound(); !math.IsInf(b, 1) {
			t.Errorf("after Append: bound %g", b)
		}
	}
	at(2)
	if len(w.other) != overrides {
		t.Errorf("%d overrides", len(w.other))
	}
	// SetParams makes own anew, so what was got before is of other parameters.
	own = at(1)
	must(t, w.SetParams(2, Count))
	if own.check() != nil {
		t.Error("a factor is stale before its place is taken")
	}
	_, err := w.Factor(2, Count)
	must(t, err)
	if !errors.Is(own.check(), ErrStale) {
		t.Error("a factor outlived its place")
	}
}

// No gradient is refused because K cannot be factored, and the window recovers.
func TestIllConditioned(t *testing.T) {
	w, err := New(4, 1e-20, Capacity)
	must(t, err)
	must(t, w.Append([]float64{1e6}))
	must(t, w.Append([]float64{1e6 * (1 + 1e-15), 1e6})) // the same gradient, with rounding errors
	must(t, w.Append([]float64{0, 0, 1}))
	var ill *IllConditionedError
	for range 2 { // found, then remembered
		_, err = w.Factor(1e-20, Capacity)
		if !errors.Is(err, ErrIllConditioned) || !errors.As(err, &ill) {
			t.Fatal(err)
		}
		if ill.Row != 1 || ill.Pivot > 0 || ill.Diagonal != 1e6 || ill.MaxDiagonal != 1e6 || ill.Shift != 4e-20 ||
			ill.Damping != 1e-20 || ill.N != 4 || ill.Len != 3 || !(ill.Noise() > 1e-11) {
			t.Fatalf("%+v", ill)
		}
	}
	_, err = w.Factor(4e-20/3, Count) // the same Nλ in other words
	if !errors.As(err, &ill) || ill.N != 3 || ill.Damping != 4e-20/3 {
		t.Errorf("%+v", ill)
	}
	if err := w.SolveTo(make([]float64, 3), make([]float64, 3)); !errors.Is(err, ErrIllConditioned) {
		t.Error(err)
	}
	f, err := w.Factor(1e-3, Capacity)
	must(t, err)
	must(t, f.SolveTo(make([]float64, 3), []float64{1, 2, 3}))
	must(t, w.Append([]float64{0, 0, 0, 1}))
	must(t, w.Replace([]float64{0, 0, 0, 2})) // one of the two is gone
	x := []float64{1e6, 1, 2, 4}
	must(t, w.SolveTo(x, x))
	if d := distance(x, []float64{1, 1, 2, 2}); !(d <= 4*epsilon) {
		t.Errorf("x = %g", x)
	}
	must(t, w.Replace([]float64{0, 0, 0, 3}))
	if !w.current() {
		t.Error("the factor is not updated again")
	}
	// Overflow in K is no panic either.
	must(t, w.Drop(0))
	must(t, w.Append([]float64{0, 0, 0, math.MaxFloat64}))
	must(t, w.Drop(0))
	must(t, w.Append([]float64{0, 0, math.MaxFloat64, math.MaxFloat64}))
	if err := w.SetParams(math.MaxFloat64/4, Capacity); err != nil {
		t.Fatal(err)
	}
	if err := w.SolveTo(x, x); !errors.Is(err, ErrIllConditioned) {
		t.Error(err)
	}
}

func TestCond(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	worst := 0.0
	for i := range 300 {
		n := 1 + rng.IntN(40)
		c := makeCase(uint64(i), rowKinds[i%len(rowKinds)], "random", "unit", n, 0, 1+rng.IntN(60), math.Pow(10, -8*rng.Float64()), Count)
		w := c.feed(t)
		f, err := w.Factor(c.damping, Count)
		if errors.Is(err, ErrIllConditioned) {
			continue
		}
		must(t, err)
		k := mat.NewSymDense(n, nil)
		s := make([]float64, n)
		w.diagonalTo(s, f.z.shift)
		for i := range n {
			for j := range i + 1 {
				k.SetSym(i, j, w.At(i, j)/math.Sqrt(s[i]*s[j]))
			}
			k.SetSym(i, i, 1)
		}
		var e mat.EigenSym
		if !e.Factorize(k, false) {
			t.Fatal("no eigenvalues")
		}
		ev := e.Values(nil)
		got, err := f.Cond()
		must(t, err)
		if ev[0] < 1e-12 { // not known to double precision
			continue
		}
		want := ev[n-1] / ev[0]
		if !(got >= want*(1-want*float64(n)*epsilon)) { // want is of a K with rounding errors
			t.Errorf("case %d, n = %d: κ is %g, the bound %g", i, n, want, got)
		}
		worst = max(worst, got/want)
	}
	t.Logf("κ is overestimated by %.2g at most", worst)
	if worst > 100 {
		t.Errorf("κ is overestimated by %g", worst)
	}
}

func TestPackedTo(t *testing.T) {
	g := gradients(6, 5, 7)
	w := loaded(t, g, 6, 0.5, Capacity)
	f, err := w.Factor(0.5, Capacity)
	must(t, err)
	l := make([]float64, 15)
	must(t, f.PackedTo(l))
	for i := range 5 {
		for j := range i + 1 {
			k := dot(l[i*(i+1)/2:][:j+1], l[j*(j+1)/2:][:j+1])
			want := w.At(i, j)
			if i == j {
				want += 3
			}
			if !(math.Abs(k-want) <= 1e-14) {
				t.Errorf("(LLᵀ)[%d][%d] = %g, want %g", i, j, k, want)
			}
		}
	}
	if err := f.PackedTo(l[1:]); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestClone(t *testing.T) {
	g := gradients(7, 9, 20)
	w := loaded(t, g[:6], 6, 0.5, Count)
	f, err := w.Factor(0.5, Count)
	must(t, err)
	c := w.Clone()
	must(t, w.Replace(row(g[1:6], g[6])))
	must(t, w.SetParams(2, Capacity))
	m := &model{g: g[:6], capacity: 6, damping: 0.5, divisor: Count}
	m.compare(t, c)
	if !c.current() || f.check() == nil {
		t.Errorf("the clone's factor is current: %v; the original's: %v", c.current(), f.check())
	}
	f, err = c.Factor(0.5, Count)
	must(t, err)
	m.compareSolve(t, c, f, 1)
	must(t, c.Replace(row(g[1:6], g[8])))
	m = &model{g: g[1:7], capacity: 6, damping: 2, divisor: Capacity}
	m.compare(t, w)
	f, err = w.Factor(2, Capacity)
	must(t, err)
	m.compareSolve(t, w, f, 1)
}
