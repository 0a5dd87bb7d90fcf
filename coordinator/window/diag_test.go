package window

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// A diagResult holds what is true of the diagonal, of all of λH⁻¹ and of their bounds.
type diagResult struct {
	ill            bool
	err, bound     float64 // of the diagonal, relative in the 2-norm
	low, norm      float64 // of the diagonal: what the bound says it is at least, and what it is
	element        float64 // the largest error of one
	most           float64 // elementError
	block, blockOf float64 // the largest error relative to √(h_i h_j), and its bound
}

func (r diagResult) check() error {
	switch {
	case r.ill:
	case !(r.err <= r.bound):
		return fmt.Errorf("the diagonal's error is %.3g, its bound %.3g", r.err, r.bound)
	case !(r.low <= r.norm):
		return fmt.Errorf("the diagonal's norm is %.3g, said to be at least %.3g", r.norm, r.low)
	case !(r.element <= r.most):
		return fmt.Errorf("an element is off by %.3g, E is %.3g", r.element, r.most)
	case !(r.block <= r.blockOf):
		return fmt.Errorf("the sub-block's error is %.3g, its bound %.3g", r.block, r.blockOf)
	}
	return nil
}

// runDiag works out the diagonal as shards do, and the whole of H⁻¹ as a sub-block of all columns.
func (c *boundCase) runDiag(t failer) (r diagResult) {
	t.Helper()
	w, g := c.feed(t), c.inWindow()
	f, err := w.Factor(c.damping, c.divisor)
	if errors.Is(err, ErrIllConditioned) {
		return diagResult{ill: true}
	}
	must(t, err)
	n, d := len(g), len(c.v)
	l := make([]float64, n*(n+1)/2)
	must(t, f.PackedTo(l))
	diag := make([]float64, d)
	index := make([]int64, d)
	byRow := make([]float64, n*d)
	x := make([]float64, n)
	for j := range d {
		sum := 0.0
		for i := range n {
			x[i] = g[i][j]
			for k := range i {
				x[i] = math.FMA(-l[i*(i+1)/2+k], x[k], x[i])
			}
			x[i] /= l[i*(i+3)/2]
			sum = math.FMA(x[i], x[i], sum)
			byRow[i*d+j] = g[i][j]
		}
		diag[j], index[j] = 1-sum, int64(j)
	}
	b, err := f.DiagonalBound(int64(d))
	must(t, err)
	block := make([]float64, d*d)
	r.blockOf, err = f.SubblockTo(block, whiten(t, f, byRow, d), d, index)
	must(t, err)
	r.bound, r.low, r.most = b.Relative, b.NormLow, f.elementError()

	want := c.exact(f.N()).inverse()
	off, norm := 0.0, 0.0
	float := func(x *big.Float) float64 { v, _ := x.Float64(); return v }
	root := make([]float64, d)
	for j := range d {
		h := want[j][j]
		e := math.Abs(float(num(0).Sub(num(diag[j]), h)))
		r.element = max(r.element, e)
		off, norm = math.Hypot(off, e), math.Hypot(norm, float(h))
		root[j] = math.Sqrt(float(h))
	}
	r.err, r.norm = off/norm, norm
	lam := num(c.damping)
	for i := range d {
		for j := range d {
			e := num(0).Mul(num(block[i*d+j]), lam)
			r.block = max(r.block, math.Abs(float(e.Sub(e, want[max(i, j)][min(i, j)])))/(root[i]*root[j]))
		}
	}
	return r
}

// whiten sets w = L⁻¹w, of q columns, in the order that SubblockTo says.
func whiten(t failer, f *Factor, w []float64, q int) []float64 {
	l, ld, err := f.Lower()
	must(t, err)
	for i := range f.Len() {
		for j := range q {
			x := w[i*q+j]
			for k := range i {
				x = math.FMA(-l[i*ld+k], w[k*q+j], x)
			}
			w[i*q+j] = x / l[i*ld+i]
		}
	}
	return w
}

// inverse returns the lower triangle of λH⁻¹ = I − GᵀK⁻¹G.
func (e *exact) inverse() [][]*big.Float {
	d := 0
	if len(e.g) > 0 {
		d = len(e.g[0])
	}
	out := make([][]*big.Float, d)
	for i := range out {
		c := make([]*big.Float, len(e.g))
		for k, g := range e.g {
			c[k] = num(0).Set(g[i])
		}
		e.solve(c)
		for j := range i + 1 {
			x := num(0)
			for k, g := range e.g {
				addMul(x, c[k], g[j], e.tmp, -1)
			}
			if i == j {
				x.Add(x, num(1))
			}
			out[i] = append(out[i], x)
		}
	}
	return out
}

// Every kind of rows of maths.md's worst cases, at four dampings.
func TestDiagonalBound(t *testing.T) {
	worst, refused, cases := diagResult{}, 0, 0
	for seed := range uint64(4 * len(rowKinds)) {
		damping := []float64{1e-10, 1e-7, 1e-4, 1}[seed%4]
		kind := rowKinds[seed/4]
		n := 1 + int(seed%8)
		c := makeCase(seed, kind, "random", "unit", n, int(seed%3)*n, n+int(seed%33), damping, Divisor(seed%2))
		r := c.runDiag(t)
		if err := r.check(); err != nil {
			t.Errorf("%s, n=%d, λ=%g, seed %d: %v", kind, n, damping, seed, err)
		}
		if cases++; r.ill || !(r.bound <= 1e-3) {
			refused++
			continue
		}
		worst.err, worst.block = max(worst.err, r.err/r.bound), max(worst.block, r.block/r.blockOf)
	}
	t.Logf("%d cases, %d refused; error/bound at most %.2g for diagonals, %.2g for sub-blocks", cases, refused, worst.err, worst.block)
	if refused > cases/3 {
		t.Errorf("%d of %d cases are refused", refused, cases)
	}
}

func TestDiagonalBoundRapid(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, name := drawCase(rt)
		if len(c.rows) == 0 {
			return // TestDiagonalBoundEdges
		}
		if err := c.runDiag(t).check(); err != nil {
			rt.Fatalf("%s: %v", name, err)
		}
	})
}

// In the cases that users have, the bound is far below anything that matters.
func TestDiagonalBoundBenign(t *testing.T) {
	const benign = 1e-9
	for i := range 10 {
		n := 1 + 3*i
		c := makeCase(uint64(i), "random", "random", "unit", n, i%2*n, 60, 1, Count)
		for _, g := range c.rows {
			s := 1 / math.Sqrt(c.dot(g, g))
			for j := range g {
				g[j] *= s
			}
			round32(g)
		}
		c.damping = 1e-3
		r := c.runDiag(t)
		if err := r.check(); err != nil || r.ill || !(r.bound <= benign) || !(r.blockOf <= benign) {
			t.Errorf("n=%d: %+v, %v", n, r, err)
		}
	}
}

func TestDiagonalBoundEdges(t *testing.T) {
	w := loaded(t, nil, 2, 0.5, Capacity)
	f, err := w.Factor(0.5, Capacity)
	must(t, err)
	b, err := f.DiagonalBound(10)
	must(t, err)
	if !(b.Relative <= 8*epsilon) || !(math.Abs(b.NormLow-math.Sqrt(10)) <= 1e-12) {
		t.Errorf("an empty window: %+v", b)
	}
	dst := make([]float64, 9)
	bound, err := f.SubblockTo(dst, nil, 3, []int64{4, 7, 4})
	must(t, err)
	if want := [9]float64{2, 0, 2, 0, 2, 0, 2, 0, 2}; [9]float64(dst) != want || !(bound <= 8*epsilon) {
		t.Errorf("an empty window: %v, bound %g", dst, bound)
	}
	for _, n := range []int{0, 8, 10} {
		if _, err := f.SubblockTo(make([]float64, n), nil, 3, []int64{4, 7, 4}); err == nil {
			t.Errorf("%d numbers for 3 indices: no error", n)
		}
	}
	if _, err := f.SubblockTo(dst, nil, 2, []int64{4, 7, 4}); err == nil {
		t.Error("rows of 2 for 3 indices: no error")
	}
	if _, err := f.SubblockTo(dst, []float64{1}, 3, []int64{4, 7, 4}); err == nil {
		t.Error("a row in an empty window: no error")
	}
	must(t, w.Append([]float64{1}))
	var stale *StaleError
	if _, err := f.DiagonalBound(10); !errors.As(err, &stale) {
		t.Errorf("after an append: %v", err)
	}
	if _, _, err := f.Lower(); !errors.As(err, &stale) {
		t.Errorf("after an append: %v", err)
	}
	if _, err := f.SubblockTo(dst, nil, 3, []int64{4, 7, 4}); !errors.As(err, &stale) {
		t.Errorf("after an append: %v", err)
	}
}

// An element has the same bits in any sub-block, at any place, in either order.
func TestSubblockBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	c := makeCase(5, "mixed scales", "random", "unit", 30, 10, 40, 1e-5, Capacity)
	w, g := c.feed(t), c.inWindow()
	f, err := w.Factor(c.damping, c.divisor)
	must(t, err)
	block := func(index []int64) []float64 {
		q := len(index)
		rows := make([]float64, len(g)*q)
		for i := range g {
			for k, j := range index {
				rows[i*q+k] = g[i][j]
			}
		}
		dst := make([]float64, q*q)
		_, err := f.SubblockTo(dst, whiten(t, f, rows, q), q, index)
		must(t, err)
		return dst
	}
	for range 30 {
		index := make([]int64, 1+rng.IntN(100))
		for i := range index {
			index[i] = rng.Int64N(40)
		}
		got := block(index)
		q := len(index)
		i, k := rng.IntN(q), rng.IntN(q)
		want := block([]int64{index[k], index[i]})
		if got[i*q+k] != want[1] || got[k*q+i] != want[2] || got[i*q+i] != want[3] || index[i] == index[k] && got[i*q+k] != got[i*q+i] {
			t.Fatalf("elements %d and %d of %v", i, k, index)
		}
	}
}
