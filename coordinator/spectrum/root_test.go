package spectrum

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

func on(int64, int64) bool { return false }

// sorted is rows as gram takes them.
func sorted(rows [][]float64) [][]float64 {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(g, h []float64) int {
		a, b := floats.Dot(g, g), floats.Dot(h, h)
		switch {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	})
	return rows
}

type matrix [][]*big.Float

// inverse of a positive definite matrix, by Gauss and Jordan.
func (a matrix) inverse() matrix {
	n := len(a)
	w := make(matrix, n)
	for i := range w {
		w[i] = make([]*big.Float, 2*n)
		for j := range n {
			w[i][j], w[i][n+j] = zero().Set(a[i][j]), zero()
		}
		w[i][n+i] = num(1)
	}
	for c := range w {
		pivot := zero().Set(w[c][c])
		for j := range w[c] {
			w[c][j].Quo(w[c][j], pivot)
		}
		for i := range w {
			if i != c {
				by := zero().Set(w[i][c])
				for j := range w[i] {
					w[i][j].Sub(w[i][j], zero().Mul(by, w[c][j]))
				}
			}
		}
	}
	for i := range w {
		w[i] = w[i][n:]
	}
	return w
}

// root is a^½ by the iteration of Denman and Beavers.
func (a matrix) root() matrix {
	n := len(a)
	y, z := a, make(matrix, n)
	for i := range z {
		z[i] = make([]*big.Float, n)
		for j := range z[i] {
			z[i][j] = num(0)
		}
		z[i][i] = num(1)
	}
	half := num(0.5)
	for range 200 {
		yi, zi := y.inverse(), z.inverse()
		moved := zero()
		next := func(a, b matrix) matrix {
			out := make(matrix, n)
			for i := range out {
				out[i] = make([]*big.Float, n)
				for j := range out[i] {
					out[i][j] = zero().Mul(half, zero().Add(a[i][j], b[i][j]))
				}
			}
			return out
		}
		was := y
		y, z = next(y, zi), next(z, yi)
		size := zero()
		for i := range y {
			for j := range y[i] {
				moved.Add(moved, zero().Abs(zero().Sub(y[i][j], was[i][j])))
				size.Add(size, zero().Abs(y[i][j]))
			}
		}
		if moved.Cmp(zero().SetMantExp(size, -120)) <= 0 {
			return y
		}
	}
	panic("no root")
}

// plus is a + xI.
func (a matrix) plus(x *big.Float) matrix {
	out := make(matrix, len(a))
	for i := range out {
		out[i] = slices.Clone(a[i])
		out[i][i] = zero().Add(a[i][i], x)
	}
	return out
}

// The rule of points is the function, at any ratio of ‖A‖ to Nλ: the error in units of the last place, of what
// is about 1 at α = 0.
func TestRule(t *testing.T) {
	worst, points := 0.0, 0
	for e := -20.0; e <= 15; e += 0.25 { // Form.shift lets in no more
		most := math.Pow(10, e)
		rule := rule(most)
		points = max(points, len(rule))
		for _, share := range []float64{0, 1e-17, 1e-12, 1e-9, 1e-6, 1e-4, 1e-2, 0.1, 0.3, 0.5, 0.9, 1} {
			x := most * share
			sum := 0.0
			for _, p := range rule {
				sum += p.omega / (x + p.sigma)
			}
			r := math.Sqrt(1 + x)
			want := 1 / (r * (1 + r))
			worst = max(worst, math.Abs(sum-want)/want/epsilon)
		}
	}
	t.Logf("off by %.2g ε, with at most %d points", worst, points)
	if !(worst <= ruleError) || points > 80 {
		t.Errorf("off by %g ε with %d points", worst, points)
	}
}

// rootCase is H^(−½)v of rows against 320 bits: the error over its bound.
func rootCase(rows [][]float64, v []float64, lambda, divisor float64) (share, relative float64, err error) {
	rows = sorted(rows)
	n := len(rows)
	f, err := FormOf(gram(rows), n, on)
	if err != nil {
		return 0, 0, err
	}
	roots, err := f.Roots(lambda, divisor)
	if err != nil {
		return 0, 0, err
	}
	y, c := make([]float64, n), make([]float64, n)
	for i, g := range rows {
		y[i] = floats.Dot(g, v)
	}
	b, err := roots.To(c, y, floats.Dot(v, v))
	if err != nil {
		return 0, 0, err
	}
	shift := zero().Mul(num(lambda), num(divisor))
	k := matrix(exactGram(rows)).plus(shift)
	kr := k.root()
	s := zero().Sqrt(shift)
	for i := range k {
		for j := range k[i] {
			k[i][j] = zero().Add(k[i][j], zero().Mul(s, kr[i][j]))
		}
	}
	inverse := k.inverse()
	exact := make([]*big.Float, n)
	for i := range exact {
		exact[i] = zero()
		for j := range exact {
			yj := zero()
			for l, x := range rows[j] {
				yj.Add(yj, zero().Mul(num(x), num(v[l])))
			}
			exact[i].Add(exact[i], zero().Mul(inverse[i][j], yj))
		}
	}
	var off2, size2 float64
	for col, x := range v {
		got, want := x, num(x)
		for i, g := range rows {
			got = math.FMA(-c[i], g[col], got)
			want.Sub(want, zero().Mul(exact[i], num(g[col])))
		}
		d, _ := zero().Sub(num(got), want).Float64()
		w, _ := want.Float64()
		off2, size2 = math.Hypot(off2, d), math.Hypot(size2, w)
	}
	if !(b.Low-b.Off <= size2) {
		return math.Inf(1), 0, nil
	}
	if off2 == 0 {
		return 0, 0, nil
	}
	return off2 / b.Off, b.Off / size2, nil
}

func TestRoot(t *testing.T) {
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		if name != "tiny" && name != "huge" { // λ would have to be as they are
			names = append(names, name)
		}
	}
	slices.Sort(names)
	worst, useful, cases, refused := 0.0, 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		n, d := rapid.IntRange(1, 6).Draw(rt, "n"), rapid.IntRange(1, 9).Draw(rt, "d")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		rows := kinds[rapid.SampledFrom(names).Draw(rt, "rows")](rng, n, d)
		lambda := math.Pow(10, rapid.Float64Range(-12, 4).Draw(rt, "log λ"))
		v := random(rng, 1, d)[0]
		switch rapid.IntRange(0, 2).Draw(rt, "v") {
		case 0:
			copy(v, rows[rng.IntN(n)])
		case 1: // all but orthogonal to a row, or to all
			g := rows[rng.IntN(n)]
			if q := floats.Dot(g, g); q > 0 {
				floats.AddScaled(v, -floats.Dot(g, v)/q, g)
			}
		}
		share, relative, err := rootCase(rows, v, lambda, float64(rapid.IntRange(1, 9).Draw(rt, "N")))
		cases++
		if errors.Is(err, ErrTooSmall) {
			refused++
			return
		}
		if err != nil || !(share <= 1) {
			rt.Fatalf("%v: error is %g of its bound", err, share)
		}
		worst = max(worst, share)
		if relative < 1e-3 {
			useful++
		}
	})
	t.Logf("errors at most %.2g of the bounds, of %d cases %d refused, %d bounds below 1e-3", worst, cases, refused, useful)
}

// Q T Qᵀ is A and Q is orthogonal, about the panels; likelihoods are those of the dense H.
func TestForm(t *testing.T) {
	const tolerance = 1e-13 // nε with n ≤ 70, and the reference's own
	for _, n := range []int{1, 2, 3, panel, panel + 1, 2*panel + 5} {
		rng := rand.New(rand.NewPCG(uint64(n), 3))
		rows := sorted(random(rng, n, n+3))
		a := gram(rows)
		want := slices.Clone(a)
		f, err := FormOf(a, n, on)
		if err != nil {
			t.Fatal(err)
		}
		q, _ := f.basis(on)
		scale := math.Ldexp(1, f.exp)
		for i := range n {
			e := make([]float64, n)
			e[i] = 1
			f.transpose(e)
			if d := floats.Distance(e, q[i*n:][:n], 2); !(d <= tolerance) {
				t.Fatalf("n=%d: Qᵀe_%d is off by %g", n, i, d)
			}
			f.times(e)
			e[i]--
			if d := floats.Norm(e, 2); !(d <= tolerance) {
				t.Fatalf("n=%d: QQᵀe_%d is off by %g", n, i, d)
			}
			for j := range i + 1 {
				sum := 0.0
				for k := range n {
					x := f.diag[k] * q[j*n+k]
					if k > 0 {
						x += f.off[k-1] * q[j*n+k-1]
					}
					if k < n-1 {
						x += f.off[k] * q[j*n+k+1]
					}
					sum += q[i*n+k] * x
				}
				if d := math.Abs(sum*scale - want[i*n+j]); !(d <= tolerance*f.Alpha[0]) {
					t.Fatalf("n=%d: (QTQᵀ)_%d,%d is off by %g", n, i, j, d)
				}
			}
		}
	}
}

// exactLikelihood is log N(h; 0, GᵀWG/N + λI) with row out left out (−1: none), by the n×n form in 320 bits.
func exactLikelihood(rows [][]float64, out int, h []float64, lambda, divisor float64) *big.Float {
	if out >= 0 {
		rows = append(slices.Clone(rows[:out]), rows[out+1:]...)
	}
	n, d := len(rows), len(h)
	shift := zero().Mul(num(lambda), num(divisor))
	form, det := zero(), num(1)
	for _, x := range h {
		form.Add(form, zero().Mul(num(x), num(x)))
	}
	if n > 0 {
		k := matrix(exactGram(rows)).plus(shift)
		inverse := k.inverse()
		y := make([]*big.Float, n)
		for i, g := range rows {
			y[i] = zero()
			for j, x := range g {
				y[i].Add(y[i], zero().Mul(num(x), num(h[j])))
			}
		}
		for i := range y {
			for j := range y {
				form.Sub(form, zero().Mul(zero().Mul(y[i], inverse[i][j]), y[j]))
			}
		}
		// det K by elimination.
		for c := range k {
			det.Mul(det, k[c][c])
			for i := c + 1; i < n; i++ {
				by := zero().Quo(k[i][c], k[c][c])
				for j := c; j < n; j++ {
					k[i][j] = zero().Sub(k[i][j], zero().Mul(by, k[c][j]))
				}
			}
		}
	}
	form.Quo(form, num(lambda))
	// det H = λ^(d−n) det K/N^n
	for range n {
		det.Quo(det, num(divisor))
	}
	for range d {
		det.Mul(det, num(lambda))
	}
	for range n {
		det.Quo(det, num(lambda))
	}
	sum := zero().Add(exactLog(det), form)
	pi2, _, _ := big.ParseFloat("6.283185307179586476925286766559005768394338798750211641949889185", 10, precision, big.ToNearestEven)
	sum.Add(sum, zero().Mul(num(float64(d)), exactLog(pi2)))
	return sum.Mul(sum, num(-0.5))
}

func TestLikelihoods(t *testing.T) {
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		if name != "tiny" && name != "huge" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var held, left float64
	refused := 0
	rapid.Check(t, func(rt *rapid.T) {
		n, d := rapid.IntRange(1, 6).Draw(rt, "n"), rapid.IntRange(1, 9).Draw(rt, "d")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		rows := sorted(kinds[rapid.SampledFrom(names).Draw(rt, "rows")](rng, n, d))
		dampings := []float64{math.Pow(10, rapid.Float64Range(-12, 4).Draw(rt, "log λ")), 3}
		divisor := float64(rapid.IntRange(1, 9).Draw(rt, "N"))
		f, err := FormOf(gram(rows), n, on)
		if err != nil {
			rt.Fatal(err)
		}
		h := random(rng, 1, d)[0]
		if rapid.Bool().Draw(rt, "of the window") {
			copy(h, rows[rng.IntN(n)])
		}
		y := make([]float64, n)
		for i, g := range rows {
			y[i] = floats.Dot(g, h)
		}
		got, err := f.Likelihoods(dampings, divisor, int64(d), y, floats.Dot(h, h))
		if errors.Is(err, ErrTooSmall) {
			refused++
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		out, err := f.LeaveOut(dampings, divisor, int64(d), nil, on)
		if err != nil {
			rt.Fatal(err)
		}
		for k, lambda := range dampings {
			var share float64
			if ratio(&share, got[k], exactLikelihood(rows, -1, h, lambda, divisor)); !(share <= 1) {
				rt.Fatalf("λ=%g: %+v is off by %g of its bound", lambda, got[k], share)
			}
			held = max(held, share)
			for i := range rows {
				share = 0
				if ratio(&share, out[i][k], exactLikelihood(rows, i, rows[i], lambda, divisor)); !(share <= 1) {
					rt.Fatalf("λ=%g: row %d left out, %+v is off by %g of its bound", lambda, i, out[i][k], share)
				}
				left = max(left, share)
			}
		}
	})
	t.Logf("errors at most %.2g and %.2g of the bounds, %d refused", held, left, refused)
}

// Against factors of the dense d×d matrix, in sizes that have several panels.
func TestLikelihoodsDense(t *testing.T) {
	const tolerance = 1e-10 // relative; condition numbers here are up to 1e5
	n, d, lambda, divisor := 2*panel+3, 80, 1e-3, 70.0
	rng := rand.New(rand.NewPCG(9, 9))
	rows := sorted(random(rng, n, d))
	f, err := FormOf(gram(rows), n, on)
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.LeaveOut([]float64{lambda}, divisor, int64(d), nil, on)
	if err != nil {
		t.Fatal(err)
	}
	dense := func(leave int, h []float64) float64 {
		m := mat.NewSymDense(d, nil)
		for i := range d {
			for j := range i + 1 {
				sum := 0.0
				for k, g := range rows {
					if k != leave {
						sum += g[i] * g[j] / divisor
					}
				}
				if i == j {
					sum += lambda
				}
				m.SetSym(i, j, sum)
			}
		}
		var c mat.Cholesky
		if !c.Factorize(m) {
			t.Fatal("not positive definite")
		}
		x := mat.NewVecDense(d, nil)
		if err := c.SolveVecTo(x, mat.NewVecDense(d, h)); err != nil {
			t.Fatal(err)
		}
		return -0.5 * (float64(d)*math.Log(2*math.Pi) + c.LogDet() + floats.Dot(x.RawVector().Data, h))
	}
	for _, i := range []int{0, 1, panel, n - 1} {
		if want := dense(i, rows[i]); !(math.Abs(out[i][0].Value-want) <= tolerance*math.Abs(want)) {
			t.Errorf("row %d left out: %g, not %g", i, out[i][0].Value, want)
		}
	}
	h := random(rng, 1, d)[0]
	y := make([]float64, n)
	for i, g := range rows {
		y[i] = floats.Dot(g, h)
	}
	got, err := f.Likelihoods([]float64{lambda}, divisor, int64(d), y, floats.Dot(h, h))
	if err != nil {
		t.Fatal(err)
	}
	if want := dense(-1, h); !(math.Abs(got[0].Value-want) <= tolerance*math.Abs(want)) {
		t.Errorf("held out: %g, not %g", got[0].Value, want)
	}
	calls := int64(0)
	if _, err := f.LeaveOut([]float64{lambda}, divisor, int64(d), nil, func(done, total int64) bool {
		if done < calls || done > total {
			t.Errorf("%d of %d after %d", done, total, calls)
		}
		calls = done
		return done > total/2
	}); !errors.Is(err, ErrStopped) {
		t.Errorf("stopped: %v", err)
	}
}

// An empty window: H = λI.
func TestFormEmpty(t *testing.T) {
	f, err := FormOf(nil, 0, on)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Roots(4, 0)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.To(nil, nil, 9); err != nil || b.Low != 3 || !(b.Off < 1e-14) {
		t.Errorf("%+v, %v", b, err)
	}
	got, err := f.Likelihoods([]float64{4}, 0, 2, nil, 8)
	if want := -0.5 * (2*math.Log(2*math.Pi) + 2*math.Log(4) + 2); err != nil || !(math.Abs(got[0].Value-want) <= 1e-14) {
		t.Errorf("%+v, not %g: %v", got, want, err)
	}
}
