package shard

import (
	"math"

	"mfac/shard/kernel"
)

// spd is K = A + shift·I, or A + shift·W⁻¹, symmetric and positive definite, of n rows, and its factor L. Both are m×m, m being n rounded up to a multiple
// of 16, with ones on the diagonal from n on and zeros beside them. All that is worked out with them is the same on every CPU.
type spd struct {
	n, m  int
	k, l  []float64
	s     []float64 // √K_ii, 0 from n on
	a     []float64 // A_ii
	trace float64   // of A, or of W^½AW^½
	ratio float64   // max K_ii over what was added to A_ii
	w     []float64 // of the rows; nil: all are 1
	wnorm float64   // √Σ w_i K_ii
}

// load sets K from the packed lower triangle of A.
func (a *spd) load(packed []float64, n int, shift float64) { a.weighted(packed, n, shift, nil) }

// weighted is load with shift/w_i in row i: K = A + shift·W⁻¹.
func (a *spd) weighted(packed []float64, n int, shift float64, w []float64) {
	m := (n + 15) &^ 15
	a.n, a.m, a.w = n, m, w
	k, s, d := grow(&a.k, m*m), grow(&a.s, m), grow(&a.a, n)
	clear(k)
	clear(s)
	a.trace, a.ratio, a.wnorm = 0, 0, 0
	for i := range n {
		row := packed[triangle(i):][:i+1]
		for j, x := range row {
			k[i*m+j], k[j*m+i] = x, x
		}
		own, f := shift, a.weight(i)
		if w != nil {
			own = shift / f
		}
		d[i] = row[i]
		x := row[i] + own
		k[i*m+i], s[i] = x, math.Sqrt(x)
		a.trace += f * row[i]
		a.wnorm += f * x
		a.ratio = max(a.ratio, x/own)
	}
	for i := n; i < m; i++ {
		k[i*m+i] = 1
	}
	a.wnorm = math.Sqrt(a.wnorm)
}

// weight is w_i.
func (a *spd) weight(i int) float64 {
	if a.w == nil {
		return 1
	}
	return a.w[i]
}

// factor makes L, row by row. It returns the last pivot: one that is not positive and finite says that there is none.
//
//	l_ij = (k_ij − Σ_{k<j} l_ik l_jk)/l_jj, by kernel.Dot
func (a *spd) factor(v *kernel.Variant, stop func() error) (pivot float64, err error) {
	m := a.m
	l := grow(&a.l, m*m)
	clear(l)
	pivot = 1
	for i := range m {
		if i&63 == 0 {
			if err := stop(); err != nil {
				return 0, err
			}
		}
		li := l[i*m : (i+1)*m]
		for j, k := range a.k[i*m:][:i+1] {
			r := (j + 15) &^ 15
			x := k - v.Dot(li[:r], l[j*m:][:r])
			if j < i {
				li[j] = x / l[j*m+j]
				continue
			}
			if !(x > 0) || math.IsInf(x, 1) {
				return x, nil
			}
			pivot = x
			li[j] = math.Sqrt(x)
		}
	}
	return pivot, nil
}

// solveTo sets x = K⁻¹y; both have length m, y zeros from n on. They are not the same.
func (a *spd) solveTo(v *kernel.Variant, x, y []float64) {
	clear(x)
	for i := range a.n {
		r := (i + 15) &^ 15
		row := a.l[i*a.m:]
		x[i] = (y[i] - v.Dot(row[:r], x[:r])) / row[i]
	}
	for i := a.n - 1; i >= 0; i-- {
		row := a.l[i*a.m:]
		x[i] /= row[i]
		f := -x[i]
		for j, l := range row[:i] {
			x[j] = math.FMA(f, l, x[j])
		}
	}
}

// forward sets y, zeros from n on, to L⁻¹y.
func (a *spd) forward(v *kernel.Variant, y []float64) {
	x := make([]float64, a.m)
	for i := range a.n {
		r := (i + 15) &^ 15
		row := a.l[i*a.m:]
		x[i] = (y[i] - v.Dot(row[:r], x[:r])) / row[i]
	}
	copy(y, x)
}

// misfit is ‖W^½(y − Kx)‖.
func (a *spd) misfit(v *kernel.Variant, x, y []float64) float64 {
	sum := 0.0
	for i := range a.n {
		r := y[i] - v.Dot(a.k[i*a.m:][:a.m], x[:a.m])
		if a.w != nil {
			r *= math.Sqrt(a.w[i])
		}
		sum = math.FMA(r, r, sum)
	}
	return math.Sqrt(sum)
}

// scaled is Σ s_i |x_i|.
func (a *spd) scaled(x []float64) float64 {
	sum := 0.0
	for i, s := range a.s[:a.n] {
		sum = math.FMA(s, math.Abs(x[i]), sum)
	}
	return sum
}

// inverseDiag sets d to the diagonal of K⁻¹, d_j = ‖L⁻¹e_j‖², and returns ν ≥ ‖SK⁻¹S‖, S = diag(s): the trace of that, or where it is less the
// largest quotient of K_ii and what is beside A_ii in it. w is scratch.
func (a *spd) inverseDiag(v *kernel.Variant, d []float64, w *[]float64, stop func() error) (nu float64, err error) {
	for lo := 0; lo < a.m; lo += blockPanel {
		if err := stop(); err != nil {
			return 0, err
		}
		cols := min(blockPanel, a.m-lo)
		p := grow(w, a.m*cols)
		clear(p)
		for j := range cols {
			p[(lo+j)*cols+j] = 1
		}
		v.Solve(p, a.l[:a.m*a.m], a.m, cols)
		v.Squares(d[lo:lo+cols], p)
	}
	sum := 0.0
	for j, x := range d[:a.n] {
		sum = math.FMA(a.k[j*a.m+j], x, sum)
	}
	return max(1, min(sum, a.ratio)), nil
}

// elementError is E for the diagonal of K⁻¹, or of I − GᵀK⁻¹G, as coordinator/window's elementError has it, with all rows in one bundle:
//
//	E = t/(1 − t) + n√n ε √ν + (n + 4) ε,  t = ε (16 + 9n) ν
//
// of what an element, or what is taken from 1, is. +Inf where t is not below 1/2.
func (a *spd) elementError(nu float64) float64 {
	n := float64(a.n)
	t := epsilon * (16 + (dotError+1)*n) * nu
	if !(t < 0.5) {
		return math.Inf(1)
	}
	return t/(1-t) + n*math.Sqrt(n)*epsilon*math.Sqrt(nu) + (n+4)*epsilon
}
