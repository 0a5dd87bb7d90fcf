package kernel

import (
	"fmt"
	"math/bits"
)

// many is how a variant makes the products of many rows with many others: from packed
// copies in float64, so that each number that is loaded takes part in several products.
//
// A group of n rows of S steps of eight columns is packed so that a product reads one
// stream: the numbers of step 0 of each row, then those of step 1, and so on. Where a
// register holds four, first the even columns of all steps, then the odd ones: lanes 0, 4,
// 2, 6 and 1, 5, 3, 7 of a dot, whose sums are added at the end.
type many struct {
	least  int // vectors from which on this is faster
	halves int
	width  int // numbers of a row in a step
	p, q   int // the most rows in a group, of either side

	// pack packs one row: its numbers of a step lie at dst, step bytes further those of the next
	// step; half bytes further begin the odd columns.
	pack  [3]func(dst *float64, step, half int, g *byte, stride, lines int)
	packX func(dst *float64, step, half int, x *float64, n int)

	// dots sets out[i*q+j] to the sum of the lanes of a's row i and b's row j.
	dots func(out, a, b *float64, p, q, steps int)
}

// packRow packs row i of a group of n.
func (m *many) packRow(dst []float64, i, n int, g Tile, slot int) {
	at, stride := g.line(slot)
	m.pack[g.DType](&dst[i*m.width], 8*n*m.width, 8*n*g.Cols()/m.halves, &g.G[at], stride, g.Lines)
}

// packVectors packs the vectors of x, of cols columns each, in groups of q one after the
// other.
func (m *many) packVectors(dst, x []float64, cols int) {
	for k := len(x) / cols; k > 0; k -= m.q {
		n := min(m.q, k)
		for i := range n {
			m.packX(&dst[i*m.width], 8*n*m.width, 8*n*cols/m.halves, &x[i*cols], cols)
		}
		if k > m.q {
			x, dst = x[n*cols:], dst[n*cols:]
		}
	}
}

// products calls set with the product of each of a's p rows with each of b's k, which are packed
// in groups of q from row first of theirs on; add tells that it is to be added to what was set.
func (m *many) products(w *Scratch, p, k, first, cols int, set func(i, j int, dot float64, add bool)) {
	steps := cols / 8
	for h := range m.halves {
		for j0 := first / m.q * m.q; j0 < k; j0 += m.q {
			q := min(m.q, k-j0)
			m.dots(&w.out[0], &w.a[h*steps*p*m.width], &w.b[j0*cols+h*steps*q*m.width], p, q, steps)
			for i := range p {
				for j := range q {
					set(i, j0+j, w.out[i*q+j], h > 0)
				}
			}
		}
	}
}

func (v *Variant) manyDots(w *Scratch, y []float64, g Tile, x []float64, mask []byte) {
	m := v.many
	cols := g.Cols()
	k := len(x) / cols
	w.b = grow(&w.b, len(x))
	m.packVectors(w.b, x, cols)
	w.a = grow(&w.a, m.p*cols)
	w.rows = w.rows[:0]
	for p, in := range mask {
		for ; in != 0; in &= in - 1 {
			w.rows = append(w.rows, p*PanelSlots+bits.TrailingZeros8(in))
		}
	}
	for rows := w.rows; len(rows) > 0; {
		p := min(m.p, len(rows))
		for i, t := range rows[:p] {
			m.packRow(w.a, i, p, g, t)
		}
		m.products(w, p, k, 0, cols, func(i, j int, dot float64, add bool) {
			at := j*g.Slots + rows[i]
			if add {
				dot += y[at]
			}
			y[at] = dot
		})
		rows = rows[p:]
	}
	unscale(y, g, mask)
}

// Gram sets y to rows i0 ≤ i < i1 of the lower triangle of the products of the slots' rows
// with each other: row i has the entries j ≤ i, rows are packed one after the other. The
// entries have the bits that Dots gives for x the row of slots[i].
func (v *Variant) Gram(w *Scratch, y []float64, g Tile, slots []int, i0, i1 int) {
	g.checkShape()
	if i0 < 0 || i0 > i1 || i1 > len(slots) || len(y) != (i1*(i1+1)-i0*(i0+1))/2 {
		panic(fmt.Sprintf("kernel: %d products of rows [%d, %d) of %d", len(y), i0, i1, len(slots)))
	}
	for _, t := range slots {
		g.checkCols(t, 0, 0, 0)
	}
	cols, k := g.Cols(), i1-i0
	if k == 0 {
		return
	}
	w.x = grow(&w.x, k*cols)
	for i := range k {
		v.Row(w.x[i*cols:(i+1)*cols], g, slots[i0+i])
	}
	entry := func(i, j int) int { return (i*(i+1)-i0*(i0+1))/2 + j }
	if v.many == nil || k < v.many.least {
		for j := range i1 {
			at, stride := g.line(slots[j])
			w.off[0] = 0
			for i := max(i0, j); i < i1; i++ {
				v.dots[g.DType](&y[entry(i, j)], &g.G[at], &w.off[0], 1, stride, &w.x[(i-i0)*cols], g.Lines)
			}
		}
	} else {
		m := v.many
		w.b = grow(&w.b, k*cols)
		m.packVectors(w.b, w.x, cols)
		w.a = grow(&w.a, m.p*cols)
		for j0 := 0; j0 < i1; j0 += m.p {
			p := min(m.p, i1-j0)
			for j := range p {
				m.packRow(w.a, j, p, g, slots[j0+j])
			}
			m.products(w, p, k, max(0, j0-i0), cols, func(j, i int, dot float64, add bool) {
				if i0+i < j0+j {
					return
				}
				at := entry(i0+i, j0+j)
				if add {
					dot += y[at]
				}
				y[at] = dot
			})
		}
	}
	if g.DType == F16 {
		for i := i0; i < i1; i++ {
			for j := range i + 1 {
				y[entry(i, j)] *= g.scale(slots[j])
			}
		}
	}
}
