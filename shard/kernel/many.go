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

	// dots sets y[j*ld+i] to the sum of the lanes of a's row i and b's row j.
	dots func(y *float64, ld int, a, b *float64, p, q, steps int)

	// fetch asks for lines, stride bytes apart, from base+offset on. They may be anybody's: nothing is
	// read.
	fetch func(base *byte, offset, stride, lines int)
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

// blockRows is how many rows are packed before their products are made: with the vectors of a
// call they stay in the second cache, while a group of vectors stays in the first.
const blockRows = 24

// packRows packs the rows in slots, in groups of so many one after the other.
func (m *many) packRows(dst []float64, g Tile, slots []int, group int) {
	cols := g.Cols()
	for len(slots) > 0 {
		n := min(group, len(slots))
		for i, t := range slots[:n] {
			m.packRow(dst, i, n, g, t)
		}
		slots, dst = slots[n:], dst[n*cols:]
	}
}

// ahead is memory that will be read next: some of its lines are fetched after each product.
type ahead struct {
	base     *byte
	at, left int // lines
	each     int
}

// products sets w.sums[j*rows+i] to the product of packed row i of rows and packed vector j of k,
// for j ≥ i + diag: others may be left alone. Meanwhile it fetches what is ahead.
func (m *many) products(w *Scratch, rows, k, diag, cols int, next ahead) {
	steps := cols / 8
	first := max(0, diag)
	calls := m.halves * ((rows-1)/m.p + 1) * ((k-1)/m.q + 1)
	next.each = next.left/calls + 1
	w.sums = grow(&w.sums, 2*rows*k)
	for h := range m.halves {
		sums := w.sums[h*rows*k:]
		for j := first / m.q * m.q; j < k; j += m.q {
			q := min(m.q, k-j)
			b := &w.b[j*cols+h*steps*q*m.width]
			for i := 0; i < rows && i+diag < j+q; i += m.p {
				p := min(m.p, rows-i)
				if n := min(next.each, next.left); n > 0 {
					m.fetch(next.base, lineBytes*next.at, lineBytes, n)
					next.at, next.left = next.at+n, next.left-n
				}
				m.dots(&sums[j*rows+i], rows, &w.a[i*cols+h*steps*p*m.width], b, p, q, steps)
			}
		}
	}
	if m.halves == 2 {
		even, odd := w.sums[first/m.q*m.q*rows:rows*k], w.sums[(k+first/m.q*m.q)*rows:]
		for i := range even { // those that were left alone come to nothing
			even[i] += odd[i]
		}
	}
}

func (v *Variant) manyDots(w *Scratch, y []float64, g Tile, x []float64, mask []byte) {
	m := v.many
	cols := g.Cols()
	k := len(x) / cols
	w.b = grow(&w.b, len(x))
	m.packVectors(w.b, x, cols)
	w.a = grow(&w.a, blockRows*cols)
	w.rows = w.rows[:0]
	for p, in := range mask {
		for ; in != 0; in &= in - 1 {
			w.rows = append(w.rows, p*PanelSlots+bits.TrailingZeros8(in))
		}
	}
	for rows := w.rows; len(rows) > 0; {
		n := min(blockRows, len(rows))
		m.packRows(w.a, g, rows[:n], m.p)
		m.products(w, n, k, -n, cols, g.after(rows[n-1], rows[n:]))
		for j := range k {
			yj, sums := y[j*g.Slots:], w.sums[j*n:(j+1)*n]
			for i, t := range rows[:n] {
				yj[t] = sums[i]
			}
		}
		rows = rows[n:]
	}
	unscale(y, g, mask)
}

// after is the memory of the rows that come after the slot last: of as many as a block has, or what
// comes after the tile, which is most often the next one.
func (g Tile) after(last int, rows []int) ahead {
	stride := g.Lines * lineBytes
	if len(rows) == 0 {
		return ahead{base: &g.G[0], at: len(g.G) / lineBytes, left: min(blockRows, g.Slots) * g.Lines}
	}
	from := (last/PanelSlots + 1) * PanelSlots
	to := min(rows[min(blockRows, len(rows))-1]/PanelSlots*PanelSlots+PanelSlots, g.Slots)
	return ahead{base: &g.G[0], at: from * stride / lineBytes, left: max(0, to-from) * g.Lines}
}

// rows sets w.x to the rows in slots.
func (v *Variant) rows(w *Scratch, g Tile, slots []int) {
	cols := g.Cols()
	w.x = grow(&w.x, len(slots)*cols)
	for i, t := range slots {
		v.Row(w.x[i*cols:(i+1)*cols], g, t)
	}
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
	entry := func(i, j int) int { return (i*(i+1)-i0*(i0+1))/2 + j }
	if v.many == nil || k < v.many.least {
		v.rows(w, g, slots[i0:i1])
		for j := range i1 {
			at, stride := g.line(slots[j])
			w.off[0] = 0
			for i := max(i0, j); i < i1; i++ {
				v.dots[g.DType](&y[entry(i, j)], &g.G[at], &w.off[0], 1, stride, &w.x[(i-i0)*cols], g.Lines, v.dotsAhead[g.DType])
			}
		}
	} else {
		m := v.many
		w.b = grow(&w.b, k*cols)
		if g.DType == F16 { // by themselves, not as they are kept
			v.rows(w, g, slots[i0:i1])
			m.packVectors(w.b, w.x, cols)
		} else {
			m.packRows(w.b, g, slots[i0:i1], m.q)
		}
		w.a = grow(&w.a, blockRows*cols)
		for j0 := 0; j0 < i1; j0 += blockRows {
			n := min(blockRows, i1-j0)
			m.packRows(w.a, g, slots[j0:j0+n], m.p)
			m.products(w, n, k, j0-i0, cols, g.after(slots[j0+n-1], nil))
			for i := max(0, j0-i0); i < k; i++ {
				copy(y[entry(i0+i, j0):], w.sums[i*n:][:min(n, i0+i-j0+1)])
			}
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
