package window

import (
	"math"
	"math/big"
)

// precision of the references, in bits: cond K is below 2⁹⁰ in all cases, so 2²⁰⁰ and more remain.
const precision = 320

func num(x float64) *big.Float { return new(big.Float).SetPrec(precision).SetFloat64(x) }

// addMul sets z += sign·x·y.
func addMul(z, x, y, scratch *big.Float, sign int) {
	scratch.SetPrec(precision).Mul(x, y)
	if sign < 0 {
		z.Sub(z, scratch)
	} else {
		z.Add(z, scratch)
	}
}

func bigs(x []float64) []*big.Float {
	r := make([]*big.Float, len(x))
	for i, v := range x {
		r[i] = num(v)
	}
	return r
}

// exact holds G and LDLᵀ = GGᵀ + NλI with N·λ exact.
type exact struct {
	g, l [][]*big.Float // l: unit lower triangle, D on the diagonal
	w    []*big.Float   // of the rows; nil: 1
	tmp  *big.Float
}

func newExact(g [][]float64, n int, damping float64) *exact {
	return newWeighted(g, n, damping, nil)
}

// newWeighted is of GGᵀ + NλW⁻¹.
func newWeighted(g [][]float64, n int, damping float64, weights []float64) *exact {
	e := &exact{tmp: new(big.Float)}
	if weights != nil {
		e.w = bigs(weights)
	}
	for _, r := range g {
		e.g = append(e.g, bigs(r))
	}
	shift := num(float64(n))
	shift.Mul(shift, num(damping))
	for i := range g {
		row := make([]*big.Float, i+1)
		for j := range row {
			row[j] = e.dot(e.g[i], e.g[j])
		}
		row[i].Add(row[i], e.over(shift, i))
		e.l = append(e.l, row)
	}
	for i, r := range e.l {
		for j := range i { // r[j] becomes L_ij D_j
			for k := range j {
				addMul(r[j], r[k], e.l[j][k], e.tmp, -1)
			}
		}
		for j := range i {
			ld := num(0).Set(r[j])
			r[j].Quo(r[j], e.l[j][j])
			addMul(r[i], r[j], ld, e.tmp, -1)
		}
	}
	return e
}

// over returns x/w of row i.
func (e *exact) over(x *big.Float, i int) *big.Float {
	if e.w == nil {
		return x
	}
	return num(0).Quo(x, e.w[i])
}

func (e *exact) dot(x, y []*big.Float) *big.Float {
	s := num(0)
	for i := range x {
		addMul(s, x[i], y[i], e.tmp, 1)
	}
	return s
}

// solve sets y to K⁻¹y.
func (e *exact) solve(y []*big.Float) {
	for i := range y {
		for k := range i {
			addMul(y[i], e.l[i][k], y[k], e.tmp, -1)
		}
	}
	for i := range y {
		y[i].Quo(y[i], e.l[i][i])
	}
	for i := len(y) - 1; i >= 0; i-- {
		for k := range i {
			addMul(y[k], e.l[i][k], y[i], e.tmp, -1)
		}
	}
}

// vector returns λH⁻¹v = v − GᵀK⁻¹Gv.
func (e *exact) vector(v []float64) []*big.Float {
	x := bigs(v)
	c := make([]*big.Float, len(e.g))
	for i, g := range e.g {
		c[i] = e.dot(g, x)
	}
	e.solve(c)
	for i, g := range e.g {
		for j := range x {
			addMul(x[j], c[i], g[j], e.tmp, -1)
		}
	}
	return x
}

// combination returns H⁻¹Gᵀa = N GᵀK⁻¹W⁻¹a.
func (e *exact) combination(a []float64, d, n int) []*big.Float {
	x := bigs(make([]float64, d))
	c := bigs(a)
	for i := range c {
		c[i] = e.over(c[i], i)
	}
	e.solve(c)
	for i, g := range e.g {
		c[i].Mul(c[i], num(float64(n)))
		for j := range x {
			addMul(x[j], c[i], g[j], e.tmp, 1)
		}
	}
	return x
}

// relative returns ‖x̂ − x‖/‖x‖, 0 for 0/0.
func relative(xh []float64, x []*big.Float) float64 {
	diff, norm, t := num(0), num(0), num(0)
	for i := range x {
		t.Sub(num(xh[i]), x[i])
		diff.Add(diff, t.Mul(t, t))
		norm.Add(norm, t.Mul(x[i], x[i]))
	}
	if diff.Sign() == 0 {
		return 0
	}
	if norm.Sign() == 0 {
		return math.Inf(1)
	}
	f, _ := t.Quo(diff, norm).Float64()
	return math.Sqrt(f)
}

// shardDot is the dot of maths.md, "One order of summation", of shards of the given width.
func shardDot(x, y []float64, width int) float64 {
	sum := 0.0
	for lo := 0; lo < len(x); lo += width {
		hi := min(lo+width, len(x))
		var tiles []float64
		for t := lo; t < hi; t += 1024 {
			var l [8]float64
			for j := t; j < min(t+1024, hi); j++ {
				l[(j-t)%8] = math.FMA(x[j], y[j], l[(j-t)%8])
			}
			tiles = append(tiles, ((l[0]+l[1])+(l[2]+l[3]))+((l[4]+l[5])+(l[6]+l[7])))
		}
		for len(tiles) > 1 {
			up := tiles[:0]
			for i := 0; i < len(tiles); i += 2 {
				if i+1 == len(tiles) {
					up = append(up, tiles[i])
				} else {
					up = append(up, tiles[i]+tiles[i+1])
				}
			}
			tiles = up
		}
		sum += tiles[0]
	}
	return sum
}

// combine returns v + sign·Gᵀc, one FMA each.
func combine(v []float64, g [][]float64, c []float64, sign float64) []float64 {
	x := append([]float64(nil), v...)
	for i, r := range g {
		for j := range x {
			x[j] = math.FMA(sign*c[i], r[j], x[j])
		}
	}
	return x
}
