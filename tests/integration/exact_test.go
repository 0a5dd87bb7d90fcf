package integration

import (
	"math"
	"math/big"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// precision of the references, in bits: with cond K below 2⁹⁰, 160 and more remain.
const precision = 256

func number(x float64) *big.Float { return new(big.Float).SetPrec(precision).SetFloat64(x) }

// exact answers in math/big for rows as they are stored: the n×n form, with K = GGᵀ + NλI = LDLᵀ.
type exact struct {
	rows [][]float32
	gram [][]*big.Float // lower triangle of A

	product, factor big.Float // scratch
}

func newExact(rows [][]float32) *exact {
	e := &exact{rows: rows}
	for i := range rows {
		line := make([]*big.Float, i+1)
		for j := range line {
			line[j] = number(0)
			for k, x := range rows[i] {
				if y := rows[j][k]; x != 0 && y != 0 { // a product of two float32 is exact in float64
					line[j].Add(line[j], e.factor.SetFloat64(float64(x)*float64(y)))
				}
			}
		}
		e.gram = append(e.gram, line)
	}
	return e
}

// addMul sets z += x·y.
func (e *exact) addMul(z, x, y *big.Float) {
	z.Add(z, e.product.SetPrec(precision).Mul(x, y))
}

// subMul sets z −= x·y.
func (e *exact) subMul(z, x, y *big.Float) {
	z.Sub(z, e.product.SetPrec(precision).Mul(x, y))
}

// solve sets y to K⁻¹y, K with the given N and λ.
func (e *exact) solve(y []*big.Float, n int, lambda float64) {
	shift := number(lambda)
	shift.Mul(shift, number(float64(n)))
	l := make([][]*big.Float, len(e.gram)) // the unit lower triangle, D on the diagonal
	for i, line := range e.gram {
		l[i] = make([]*big.Float, i+1)
		for j, a := range line {
			l[i][j] = new(big.Float).Set(a)
		}
		l[i][i].Add(l[i][i], shift)
		for j := range i { // l[i][j] becomes L_ij D_j
			for k := range j {
				e.subMul(l[i][j], l[i][k], l[j][k])
			}
		}
		for j := range i {
			ld := new(big.Float).Set(l[i][j])
			l[i][j].Quo(l[i][j], l[j][j])
			e.subMul(l[i][i], l[i][j], ld)
		}
	}
	for i := range y {
		for k := range i {
			e.subMul(y[i], l[i][k], y[k])
		}
	}
	for i := range y {
		y[i].Quo(y[i], l[i][i])
	}
	for i := len(y) - 1; i >= 0; i-- {
		for k := range i {
			e.subMul(y[k], l[i][k], y[i])
		}
	}
}

// vector is x = H⁻¹v = (v − Gᵀc)/λ with c = K⁻¹Gv.
func (e *exact) vector(v []float64, n int, lambda float64) (x, c []*big.Float) {
	x = make([]*big.Float, len(v))
	for j := range v {
		x[j] = number(v[j])
	}
	c = make([]*big.Float, len(e.rows))
	for i, g := range e.rows {
		c[i] = number(0)
		for j, a := range g {
			e.addMul(c[i], e.factor.SetFloat64(float64(a)), x[j])
		}
	}
	e.solve(c, n, lambda)
	l := number(lambda)
	for j := range x {
		for i, g := range e.rows {
			e.subMul(x[j], e.factor.SetFloat64(float64(g[j])), c[i])
		}
		x[j].Quo(x[j], l)
	}
	return x, c
}

// combination is x = H⁻¹Gᵀa = Gᵀc with c = N K⁻¹a.
func (e *exact) combination(a []float64, d, n int, lambda float64) (x, c []*big.Float) {
	c = make([]*big.Float, len(a))
	for i := range a {
		c[i] = number(a[i])
	}
	e.solve(c, n, lambda)
	for i := range c {
		c[i].Mul(c[i], number(float64(n)))
	}
	x = make([]*big.Float, d)
	for j := range x {
		x[j] = number(0)
		for i, g := range e.rows {
			e.addMul(x[j], e.factor.SetFloat64(float64(g[j])), c[i])
		}
	}
	return x, c
}

// uncertainty is maths.md's bound of the relative error of λx = v − Gᵀc, or of x = Gᵀc where v is
// nil: E = ε (‖v‖ + ‖Sc‖ min(√(nκ), ‖s‖/(2√(Nλ)))) / ‖λx‖.
func (e *exact) uncertainty(x, c []*big.Float, v []float64, n int, lambda float64) float64 {
	shift := float64(n) * lambda
	rows := len(e.gram)
	s := make([]float64, rows)
	var trace, sc float64
	for i := range s {
		a, _ := e.gram[i][i].Float64()
		f, _ := c[i].Float64()
		trace += a + shift
		s[i] = math.Sqrt(a + shift)
		sc = math.Hypot(sc, s[i]*f)
	}
	most := math.Sqrt(trace/shift) / 2
	if rows > 0 {
		k := mat.NewSymDense(rows, nil)
		for i := range rows {
			for j := range i + 1 {
				a, _ := e.gram[i][j].Float64()
				if i == j {
					a += shift
				}
				k.SetSym(i, j, a/s[i]/s[j])
			}
		}
		var eig mat.EigenSym
		if eig.Factorize(k, false) {
			val := eig.Values(nil)
			kappa := val[rows-1] / max(val[0], 0x1p-52)
			most = min(most, math.Sqrt(float64(rows)*kappa))
		}
	}
	norm := number(0)
	for _, w := range x {
		e.addMul(norm, w, w)
	}
	size, _ := norm.Sqrt(norm).Float64()
	if v != nil {
		size *= lambda
	}
	return 0x1p-52 * (floats.Norm(v, 2) + sc*most) / size
}

// relative is ‖got − want‖/‖want‖: 0 where both are nothing, +Inf where only want is.
func relative(got []float64, want []*big.Float) float64 {
	diff, norm := number(0), number(0)
	var d, sq big.Float
	d.SetPrec(precision)
	sq.SetPrec(precision)
	for j, w := range want {
		d.SetFloat64(got[j])
		d.Sub(&d, w)
		diff.Add(diff, sq.Mul(&d, &d))
		norm.Add(norm, sq.Mul(w, w))
	}
	if diff.Sign() == 0 {
		return 0
	}
	if norm.Sign() == 0 {
		return inf
	}
	r, _ := diff.Sqrt(diff.Quo(diff, norm)).Float64()
	return r
}
