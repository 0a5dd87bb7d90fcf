package integration

import "math/big"

// precision of the references, in bits: with cond K below 2⁹⁰, 160 and more remain.
const precision = 256

func number(x float64) *big.Float { return new(big.Float).SetPrec(precision).SetFloat64(x) }

// exact answers in math/big for rows as they are stored: the n×n form, with K = GGᵀ + NλI = LDLᵀ.
type exact struct {
	rows [][]float32
	gram [][]*big.Float // lower triangle of A

	ldl    [][]*big.Float // the unit lower triangle, D on the diagonal, at
	n      int
	lambda float64

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

// factorize is LDLᵀ of K with the given N and λ.
func (e *exact) factorize(n int, lambda float64) [][]*big.Float {
	if e.ldl != nil && e.n == n && e.lambda == lambda {
		return e.ldl
	}
	shift := number(lambda)
	shift.Mul(shift, number(float64(n)))
	l := make([][]*big.Float, len(e.gram))
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
	e.ldl, e.n, e.lambda = l, n, lambda
	return l
}

// solve sets y to K⁻¹y, K with the given N and λ.
func (e *exact) solve(y []*big.Float, n int, lambda float64) {
	l := e.factorize(n, lambda)
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

// gauge is of K at N and λ.
func (e *exact) gauge(n int, lambda float64) gauge {
	at := func(i, j int) float64 {
		a, _ := e.gram[max(i, j)][min(i, j)].Float64()
		return a
	}
	return newGauge(len(e.gram), at, float64(n)*lambda, func(x []float64) {
		b := make([]*big.Float, len(x))
		for i, v := range x {
			b[i] = number(v)
		}
		e.solve(b, n, lambda)
		for i := range x {
			x[i], _ = b[i].Float64()
		}
	})
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
