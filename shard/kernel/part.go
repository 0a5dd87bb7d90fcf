package kernel

import "fmt"

// RowPart sets x to some of the slot's row, from the first column of a line on, padding included; it
// is what Row sets to those columns. len(x) is a multiple of a line's columns, at least one.
func (v *Variant) RowPart(x []float64, g Tile, slot, line int) {
	c := g.DType.LineCols()
	g.checkCols(slot, line*c, len(x), len(x)%c)
	if len(x) == 0 || line < 0 {
		panic(fmt.Sprintf("kernel: %d columns of a row from line %d", len(x), line))
	}
	at, stride := g.line(slot)
	v.expand[g.DType](&x[0], &g.G[at+line*stride], stride, len(x)/c)
	if g.DType == F16 && g.Exp[slot] != 0 {
		s := g.scale(slot)
		for j := range x {
			x[j] *= s
		}
	}
}
