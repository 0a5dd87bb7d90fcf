package sim

import "math/big"

// exactBits is the precision of exactVector: what refining saves, float64 would lose.
const exactBits = 300

// exactVector is H⁻¹v = (v − GᵀK⁻¹Gv)/λ, rounded once.
func exactVector(g [][]float64, v []float64, n, lambda float64) []float64 {
	number := func(x float64) *big.Float { return new(big.Float).SetPrec(exactBits).SetFloat64(x) }
	zero := func() *big.Float { return number(0) }
	product := func(a, b *big.Float) *big.Float { return zero().Mul(a, b) }
	dot := func(a, b []float64) *big.Float {
		sum := zero()
		for j := range a {
			sum.Add(sum, product(number(a[j]), number(b[j])))
		}
		return sum
	}
	m := len(g)
	k := make([][]*big.Float, m) // K, and Gv beside it
	for r := range k {
		for c := range m {
			k[r] = append(k[r], dot(g[r], g[c]))
		}
		k[r][r].Add(k[r][r], product(number(n), number(lambda)))
		k[r] = append(k[r], dot(g[r], v))
	}
	for c := range k { // K is positive definite: no pivots are needed with so many bits
		for r := range k {
			if r == c {
				continue
			}
			f := zero().Quo(k[r][c], k[c][c])
			for j := c; j <= m; j++ {
				k[r][j].Sub(k[r][j], product(f, k[c][j]))
			}
		}
	}
	x := make([]float64, len(v))
	for col := range x {
		sum := number(v[col])
		for r := range k {
			sum.Sub(sum, product(zero().Quo(k[r][m], k[r][r]), number(g[r][col])))
		}
		x[col], _ = sum.Quo(sum, number(lambda)).Float64()
	}
	return x
}
