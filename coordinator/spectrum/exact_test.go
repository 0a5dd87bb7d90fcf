package spectrum

import (
	"math"
	"math/big"
	"slices"
)

// digits of the reference, in bits.
const precision = 320

func num(x float64) *big.Float { return new(big.Float).SetPrec(precision).SetFloat64(x) }

func zero() *big.Float { return new(big.Float).SetPrec(precision) }

// exactGram is GGᵀ for rows of float64, without rounding to speak of.
func exactGram(rows [][]float64) [][]*big.Float {
	a := make([][]*big.Float, len(rows))
	for i, g := range rows {
		a[i] = make([]*big.Float, len(rows))
		for j := range a {
			h := rows[j]
			s := zero()
			for k := range g {
				s.Add(s, zero().Mul(num(g[k]), num(h[k])))
			}
			a[i][j] = s
		}
	}
	for i := range a { // those above the diagonal were not there yet
		for j := range a {
			if a[i][j] == nil {
				a[i][j] = a[j][i]
			}
		}
	}
	return a
}

// exactEigenvalues is the eigenvalues of a symmetric matrix by Jacobi's method, the largest first.
func exactEigenvalues(a [][]*big.Float) []*big.Float {
	n := len(a)
	scale := zero()
	for i := range a {
		scale.Add(scale, zero().Abs(a[i][i]))
	}
	tiny := zero().SetMantExp(scale, -precision+40)
	for {
		moved := false
		for p := range n {
			for q := p + 1; q < n; q++ {
				if zero().Abs(a[p][q]).Cmp(tiny) <= 0 {
					continue
				}
				moved = true
				rotate(a, p, q)
			}
		}
		if !moved {
			break
		}
	}
	out := make([]*big.Float, n)
	for i := range out {
		out[i] = a[i][i]
	}
	slices.SortFunc(out, func(x, y *big.Float) int { return y.Cmp(x) })
	return out
}

// rotate makes a[p][q] zero.
func rotate(a [][]*big.Float, p, q int) {
	// t = sgn(θ)/(|θ| + √(θ²+1)), θ = (a_qq − a_pp)/(2a_pq)
	theta := zero().Quo(zero().Sub(a[q][q], a[p][p]), zero().Mul(num(2), a[p][q]))
	root := zero().Sqrt(zero().Add(zero().Mul(theta, theta), num(1)))
	t := zero().Quo(num(1), zero().Add(zero().Abs(theta), root))
	if theta.Sign() < 0 {
		t.Neg(t)
	}
	c := zero().Quo(num(1), zero().Sqrt(zero().Add(zero().Mul(t, t), num(1))))
	s := zero().Mul(t, c)
	for k := range a {
		x, y := a[k][p], a[k][q]
		a[k][p] = zero().Sub(zero().Mul(c, x), zero().Mul(s, y))
		a[k][q] = zero().Add(zero().Mul(s, x), zero().Mul(c, y))
	}
	for k := range a {
		x, y := a[p][k], a[q][k]
		a[p][k] = zero().Sub(zero().Mul(c, x), zero().Mul(s, y))
		a[q][k] = zero().Add(zero().Mul(s, x), zero().Mul(c, y))
	}
}

// exactLog is the logarithm of a product of positive numbers: of the mantissa, and so many times log 2.
func exactLog(product *big.Float) *big.Float {
	mant := zero()
	exp := product.MantExp(mant)
	return zero().Add(bigLog(mant), zero().Mul(num(float64(exp)), bigLog(num(2))))
}

// bigLog is log x for x near 1: 2 artanh((x−1)/(x+1)), to 2⁻²⁰⁰ or so.
func bigLog(x *big.Float) *big.Float {
	y := zero().Quo(zero().Sub(x, num(1)), zero().Add(x, num(1)))
	y2 := zero().Mul(y, y)
	sum, power := zero(), zero().Set(y)
	for k := 1; k < 300; k += 2 {
		sum.Add(sum, zero().Quo(power, num(float64(k))))
		power.Mul(power, y2)
	}
	return sum.Mul(sum, num(2))
}

// off is |x − exact|.
func off(x float64, exact *big.Float) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return math.Inf(1)
	}
	d, _ := zero().Abs(zero().Sub(num(x), exact)).Float64()
	return d
}
