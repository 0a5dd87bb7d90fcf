package coordinator

import (
	"fmt"

	"mfac/coordinator/window"
	"mfac/wire"
)

// This file: scores, pairs and influence. The shards give products, if anything; the rest is m×m.

// readsWindow reports whether a query of this kind is answered from the window's factor a page at a
// time, while it is open.
func readsWindow(kind string) bool { return kind == wire.KindInfluence || kind == wire.KindSelf }

// products takes the shards' sums of Gv and of ‖v‖²: y has one vector a row, by the rows' age.
func (c *Core) products(q *query) (y [][]float64, norm2 []float64, err error) {
	sum := sumInOrder(q.parts)
	q.parts = nil
	if i := firstNonFinite(sum); i >= 0 {
		return nil, nil, wire.Errorf(wire.CodeOverflow, "product", sum[i], "finite", "scale the vector down")
	}
	slots := c.rec.Spec.Slots()
	y = make([][]float64, q.vectors)
	for i := range y {
		y[i] = make([]float64, len(q.slots))
		zero := true
		for j, s := range q.slots {
			y[i][j] = sum[i*slots+int(s)]
			zero = zero && y[i][j] == 0
		}
		if sum[q.vectors*slots+i] == 0 && !zero {
			return nil, nil, wire.Errorf(wire.CodeOverflow, "vector", i, "of a norm whose square is above 0", "scale the vector up")
		}
	}
	return y, sum[q.vectors*slots:], nil
}

// scores works out G H⁻¹v = N K⁻¹Gv of each vector, in the order of the window's rows. No pass
// over G but that of the products.
func (c *Core) scores(e *Effects, q *query) error {
	f, err := c.factor(q)
	if err != nil {
		return err
	}
	if q.win != nil { // others may have the same one, at other dampings
		defer q.win.Forget()
	}
	y, norm2, err := c.products(q)
	if err != nil {
		return err
	}
	n := len(q.slots)
	values := make([]float64, q.vectors*n)
	for i := range y {
		b, err := f.ScoresTo(values[i*n:][:n], y[i], norm2[i])
		if err != nil {
			return unsolved(q, err)
		}
		if err := limit(q, b.Relative); err != nil {
			return err
		}
		q.bounds = append(q.bounds, b.Relative)
	}
	if i := firstNonFinite(values); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "score", values[i], "finite", "scale the vector down")
	}
	c.leave(e, q, values)
	return nil
}

// pairs asks the shards for uᵀv of each pair, and answers when they are there.
func (c *Core) pairs(e *Effects, q *query) error {
	y, norm2, err := c.products(q)
	if err != nil {
		return err
	}
	ask := func() wire.Control {
		return &wire.DotVectors{Query: q.id, Payload: wire.AppendPairs(nil, q.pairs)}
	}
	c.sums(e, q, ask, len(q.pairs), func(e *Effects, dots []float64) error {
		return c.factored(e, q, func(e *Effects) error { return c.pair(e, q, y, norm2, dots) })
	})
	return nil
}

// pair works out (uᵀv − (Gu)ᵀK⁻¹(Gv))/λ of each pair.
func (c *Core) pair(e *Effects, q *query, y [][]float64, norm2, dots []float64) error {
	f, err := c.factor(q)
	if err != nil {
		return err
	}
	if q.win != nil {
		defer q.win.Forget()
	}
	sides := make([]*window.Side, len(y))
	for i := range y {
		if sides[i], err = f.Side(y[i], norm2[i]); err != nil {
			return unsolved(q, err)
		}
	}
	values := make([]float64, 0, 2*len(q.pairs))
	for i, r := range q.pairs {
		value, bound := f.PairOf(sides[r.U], sides[r.V], dots[i])
		values = append(values, value, bound)
	}
	if i := firstNonFinite(values); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "form", values[i], "finite", "scale the vectors down")
	}
	c.leave(e, q, values)
	return nil
}

// influenceQuery answers as soon as there is a factor: its numbers are worked out as they are read. It reads
// no row.
func (c *Core) influenceQuery(e *Effects, q *query) error {
	return c.factored(e, q, func(e *Effects) error { return c.influence(e, q) })
}

func (c *Core) influence(e *Effects, q *query) error {
	if _, err := c.factor(q); err != nil { // refused now if ever
		return err
	}
	n := len(q.slots)
	q.row = n + 1
	if q.kind == wire.KindSelf {
		q.row = wire.SelfNumbers
	}
	c.leave(e, q, nil)
	return nil
}

// pageWork is the multiplications that one page of influence may take, but for those of a row.
const pageWork = 1 << 28

// influencePage works out numbers [lo, lo+n) of an influence query, or the first of them.
func (c *Core) influencePage(q *query, lo, n int64) ([]float64, error) {
	f, err := c.factor(q)
	if err != nil {
		return nil, err
	}
	rows, per := int64(len(q.slots)), int64(q.row)
	first, last := lo/per, (lo+n-1)/per
	last = min(last, first+max(1, pageWork/(2*rows*rows+1))-1)
	page := make([]float64, 0, (last-first+1)*per)
	for i := first; i <= last; i++ {
		row := page[len(page):][:per]
		if err := influenceRow(f, q.kind, row, int(i)); err != nil {
			return nil, unsolved(q, err)
		}
		page = page[:len(page)+int(per)]
	}
	page = page[lo-first*per:]
	if i := firstNonFinite(page); i >= 0 {
		return nil, illConditioned(q, fmt.Sprintf("influence is %v", page[i]))
	}
	return page[:min(int64(len(page)), n)], nil
}

func influenceRow(f *window.Factor, kind string, row []float64, i int) (err error) {
	if kind == wire.KindSelf {
		row[0], row[1], row[2], row[3], err = f.SelfInfluence(i)
		return err
	}
	n := len(row) - 1
	row[n], err = f.InfluenceTo(row[:n], i)
	return err
}
