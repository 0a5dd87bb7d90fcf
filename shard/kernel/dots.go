package kernel

import (
	"fmt"
	"math/bits"
)

// Dots sets y[i*Slots+t] to the product of x's vector i with the row in slot t where t is
// in mask, to +0 elsewhere: y = G x. x holds k vectors of g.Cols() columns one after the
// other, y has length k*Slots, mask a bit a slot and a byte a panel. Each vector gets the
// bits that it gets alone.
func (v *Variant) Dots(w *Scratch, y []float64, g Tile, x []float64, mask []byte) {
	g.check(mask)
	cols := g.Cols()
	k := len(x) / cols
	if len(x) != k*cols || len(y) != k*g.Slots {
		panic(fmt.Sprintf("kernel: %d dots of %d columns with %d slots of %d", len(y), len(x), g.Slots, cols))
	}
	clear(y)
	if v.many != nil && k >= v.many.least {
		v.manyDots(w, y, g, x, mask)
		return
	}
	for p, in := range mask {
		n := present(&w.off, in)
		if n == 0 {
			continue
		}
		at, stride := g.panel(p)
		for i := range k {
			v.dots[g.DType](&w.y[0], &g.G[at], &w.off[0], n, stride, &x[i*cols], g.Lines, v.dotsAhead[g.DType])
			yi := y[i*g.Slots+p*PanelSlots:]
			for b, j := in, 0; b != 0; b, j = b&(b-1), j+1 {
				yi[bits.TrailingZeros8(b)] = w.y[j]
			}
		}
	}
	unscale(y, g, mask)
}

// unscale makes products with rows as they are kept products with the rows.
func unscale(y []float64, g Tile, mask []byte) {
	if g.DType != F16 {
		return
	}
	for t, e := range g.Exp {
		if e != 0 && mask[t/PanelSlots]>>(t%PanelSlots)&1 != 0 {
			for i := t; i < len(y); i += g.Slots {
				y[i] *= pow2(-e)
			}
		}
	}
}

// Dot is the product of x and y. Both have the same length, a multiple of 16.
func (v *Variant) Dot(x, y []float64) float64 {
	if len(x) != len(y) || len(x)%16 != 0 {
		panic(fmt.Sprintf("kernel: dot of %d and %d columns", len(x), len(y)))
	}
	if len(x) == 0 {
		return 0
	}
	return v.dot(&x[0], &y[0], len(x))
}
