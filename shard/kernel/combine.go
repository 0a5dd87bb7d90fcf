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
	n := len(r) / k
	lines := n / lineCols
	if lines == 0 {
		return
	}
	if k > 1 {
		clear(r)
		v.manyCombine(w, r, g, line, c, mask)
		return
	}
	keep := 0 // −1: r holds the sum of some slots
	for p := 0; p < len(mask); p++ {
		panels := 0
		if v.combineFull[g.DType] != nil {
			panels = fullFrom(mask, p)
		}
		switch {
		case panels > 0:
			for t, ct := range c[p*PanelSlots:][:panels*PanelSlots] {
				if g.DType == F16 {
					ct *= g.scale(p*PanelSlots + t)
				}
				w.c[t] = ct
			}
			at, stride := g.panel(p)
			v.combineFull[g.DType](&r[0], &g.G[at+line*stride], panels, g.Lines*stride, &w.c[0], lines, keep)
			p += panels - 1
		case mask[p] != 0:
			v.combinePanel(w, r, g, line, c, p, mask[p], keep)
		default:
			continue
		}
		keep = -1
	}
	if keep == 0 {
		clear(r)
	}
}

// combinePanel adds the slots of one panel that are in, of which there are some, vector by vector.
func (v *Variant) combinePanel(w *Scratch, r []float64, g Tile, line int, c []float64, p int, in byte, keep int) {
	m := present(&w.off, in)
	at, stride := g.panel(p)
	k := len(c) / g.Slots
	n := len(r) / k
	for i := range k {
		for b, j := in, 0; b != 0; b, j = b&(b-1), j+1 {
			t := p*PanelSlots + bits.TrailingZeros8(b)
			w.c[j] = c[i*g.Slots+t]
			if g.DType == F16 {
				w.c[j] *= g.scale(t)
			}
		}
		v.combine[g.DType](&r[i*n], &g.G[at+line*stride], &w.off[0], m, stride, &w.c[0], n/g.DType.LineCols(), v.combineAhead[g.DType], keep)
	}
}

func (v *Variant) manyCombine(w *Scratch, r []float64, g Tile, line int, c []float64, mask []byte) {
	k := len(c) / g.Slots
	n := len(r) / k
	for p := 0; p < len(mask); {
		panels := 0
		if v.combineMany[g.DType] != nil {
			panels = fullFrom(mask, p)
		}
		if panels == 0 {
			if mask[p] != 0 {
				v.combinePanel(w, r, g, line, c, p, mask[p], -1)
			}
			p++
			continue
		}
		at, stride := g.panel(p)
		groups := (k + v.mostCombine - 1) / v.mostCombine
		for i := range groups { // of as equal a size as can be: at least 2
			lo, hi := i*k/groups, (i+1)*k/groups
			v.gather(w, g, c[lo*g.Slots:], hi-lo, p*PanelSlots, panels*PanelSlots)
			v.combineMany[g.DType](&r[lo*n], n, &g.G[at+line*stride], panels, g.Lines*stride, &w.cm[0], hi-lo, n/g.DType.LineCols())
		}
		p += panels
	}
}

// gather sets w.cm to the coefficients of the first q vectors of c, for slots from first on, one
// slot's next to each other.
func (v *Variant) gather(w *Scratch, g Tile, c []float64, q, first, slots int) {
	w.cm = grow(&w.cm, slots*v.mostCombine)
	for i := range q {
		for t, ct := range c[i*g.Slots+first:][:slots] {
			if g.DType == F16 {
				ct *= g.scale(first + t)
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
