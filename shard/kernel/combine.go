package kernel

import (
	"fmt"
	"math/bits"
)

// Combine sets r[i*n+j] = Σ_t c[i*Slots+t] g_tj over the slots t in mask, for n columns
// from the line given: r = Gᵀc. c holds k = len(c)/Slots coefficient vectors, and r has
// length k*n, where n is whole lines. c is not read outside the mask.
func (v *Variant) Combine(w *Scratch, r []float64, g Tile, line int, c []float64, mask []byte) {
	g.check(mask)
	lineCols := g.DType.LineCols()
	k := len(c) / g.Slots
	if k == 0 || len(c) != k*g.Slots || len(r)%(k*lineCols) != 0 || line < 0 || line+len(r)/(k*lineCols) > g.Lines {
		panic(fmt.Sprintf("kernel: %d columns from line %d with %d coefficients, of %d slots of %d columns", len(r), line, len(c), g.Slots, g.Cols()))
	}
	clear(r)
	n := len(r) / k
	lines := n / lineCols
	if lines == 0 {
		return
	}
	for p, in := range mask {
		at, stride := g.panel(p)
		at += line * stride
		if many := v.combineMany[g.DType]; many != nil && k > 1 && in == allSlots {
			for i := 0; i < k; {
				q := share(k-i, v.mostCombine)
				v.gather(w, g, c[i*g.Slots:], q, p)
				if q == 1 {
					present(&w.off, in)
					for t := range w.c {
						w.c[t] = w.cm[t*v.mostCombine]
					}
					v.combine[g.DType](&r[i*n], &g.G[at], &w.off[0], PanelSlots, stride, &w.c[0], lines)
				} else {
					many(&r[i*n], n, &g.G[at], stride, &w.cm[0], q, lines)
				}
				i += q
			}
			continue
		}
		m := present(&w.off, in)
		if m == 0 {
			continue
		}
		for i := range k {
			for b, j := in, 0; b != 0; b, j = b&(b-1), j+1 {
				t := p*PanelSlots + bits.TrailingZeros8(b)
				w.c[j] = c[i*g.Slots+t]
				if g.DType == F16 {
					w.c[j] *= g.scale(t)
				}
			}
			v.combine[g.DType](&r[i*n], &g.G[at], &w.off[0], m, stride, &w.c[0], lines)
		}
	}
}

// share is how many of the n vectors that are left are taken at once: most, but never so
// that one is left alone.
func share(n, most int) int {
	if n == most+1 {
		return (n + 1) / 2
	}
	return min(n, most)
}

// gather sets w.cm to the coefficients of the full panel p, of the first q vectors of c, one
// slot's next to each other.
func (v *Variant) gather(w *Scratch, g Tile, c []float64, q, p int) {
	w.cm = grow(&w.cm, PanelSlots*v.mostCombine)
	for t := range PanelSlots {
		s := 1.
		if g.DType == F16 {
			s = g.scale(p*PanelSlots + t)
		}
		for i := range q {
			ct := c[i*g.Slots+p*PanelSlots+t]
			if g.DType == F16 {
				ct *= s
			}
			w.cm[t*v.mostCombine+i] = ct
		}
	}
}

// Finish sets r_j = (x_j − r_j)/λ. Both have the same length.
func (v *Variant) Finish(r, x []float64, lambda float64) {
	if len(r) != len(x) {
		panic(fmt.Sprintf("kernel: %d columns less %d", len(x), len(r)))
	}
	n := len(r) &^ 15
	if n > 0 {
		v.finish(&r[0], &x[0], lambda, n)
	}
	for j := n; j < len(r); j++ {
		r[j] = (x[j] - r[j]) / lambda
	}
}
