package coordinator

import (
	"cmp"
	"fmt"
	"math"

	"mfac/coordinator/spectrum"
	"mfac/coordinator/window"
	"mfac/shard"
	"mfac/wire"
)

// This file: queries of blocks whose answers are numbers: elements of H⁻¹, and numbers of the spectrum of each block.

// maxScalarBlocks is the most blocks whose numbers are asked for together.
const maxScalarBlocks = 4096

// numbersBegin begins such a query.
func (c *Core) numbersBegin(e *Effects, q *query, then func(*Effects) error) {
	q.blocks.vectors = 0
	c.blocksBegin(e, q, wire.BlocksDiag, then)
}

// shardsOf are the shards that have columns [lo, hi).
func (c *Core) shardsOf(lo, hi int64) (out []int) {
	for s := range c.shards {
		if a, b := c.rangeOf(s); a < hi && lo < b {
			out = append(out, s)
		}
	}
	return out
}

// elementsQuery works out [H⁻¹]_QQ block by block.
func (c *Core) elementsQuery(e *Effects, q *query, index []int64) error {
	spec := c.rec.Spec
	of := map[int64][]int{} // places in index, by their block's first column
	for i, j := range index {
		if j >= spec.Dim {
			return wire.Invalid("index", j, fmt.Sprintf("in [0, %d), the run's columns", spec.Dim))
		}
		lo, _ := q.blocks.part.At(j)
		of[lo] = append(of[lo], i)
	}
	for _, lo := range sortedKeys(of) {
		if n := len(of[lo]); n > wire.MaxBlockElements {
			return wire.Errorf(wire.CodeTooLarge, "indices in one block", n, fmt.Sprintf("at most %d", wire.MaxBlockElements))
		}
	}
	if err := c.checkBlock(len(q.slots), len(index), false); err != nil {
		return err
	}
	q.index = index
	x := &elements{c: c, q: q, of: of, first: sortedKeys(of), out: make([]float64, len(index)*len(index))}
	c.numbersBegin(e, q, func(e *Effects) error { return x.next(e, 0) })
	return nil
}

// elements is such a query's work.
type elements struct {
	c     *Core
	q     *query
	of    map[int64][]int
	first []int64
	out   []float64
	bound float64
}

// next does the block number i, and those after it.
func (x *elements) next(e *Effects, i int) error {
	c, q := x.c, x.q
	if i == len(x.first) {
		if err := limit(q, x.bound); err != nil {
			return err
		}
		if i := firstNonFinite(x.out); i >= 0 {
			return wire.Errorf(wire.CodeOverflow, "element", x.out[i], "finite", "a larger damping helps")
		}
		q.bounds, q.size, q.blocks = []float64{x.bound}, []float64{0}, nil
		c.leave(e, q, x.out)
		return nil
	}
	at := x.of[x.first[i]]
	lo, hi := q.blocks.part.At(x.first[i])
	cols := make([]int64, len(at))
	for k, j := range at {
		cols[k] = q.index[j]
	}
	shards := c.shardsOf(lo, hi)
	if len(shards) > 1 {
		a := c.acrossOf(q, wire.BlocksDiag, lo, hi)
		a.then = func(e *Effects) error { return x.next(e, i+1) }
		a.factored = func(e *Effects, f *window.Factor) error { return x.gather(e, a, f, at, cols) }
		return a.gram(e, 0)
	}
	c.scatterTo(e, q, shards, 1+len(cols)*len(cols), func(int) wire.Control {
		return &wire.Blocks{Query: q.id, Do: wire.BlocksElements, Lo: lo, Hi: hi, Payload: wire.AppendIndices(nil, cols)}
	}, func(e *Effects, parts [][]float64) error {
		x.put(at, parts[0][1:], parts[0][0])
		return x.next(e, i+1)
	})
	return nil
}

// put takes the elements of a block.
func (x *elements) put(at []int, block []float64, bound float64) {
	x.bound = math.Max(x.bound, bound) // NaN stays
	for a, i := range at {
		for b, j := range at {
			x.out[i*len(x.q.index)+j] = block[a*len(at)+b]
		}
	}
}

// gather gets columns of G from the shards of a block, one after the other, and makes its elements of them.
func (x *elements) gather(e *Effects, a *across, f *window.Factor, at []int, cols []int64) error {
	c, q := x.c, x.q
	slots := c.rec.Spec.Slots()
	n := len(q.slots)
	ld := (len(cols) + shard.SolveCols - 1) / shard.SolveCols * shard.SolveCols
	g := make([]float64, n*ld)
	most := wire.MaxColumnsFor(slots)
	var next func(e *Effects, k int) error
	next = func(e *Effects, k int) error {
		if k == len(cols) {
			b := &subblock{index: cols, slots: q.slots, w: g, ld: ld}
			done := func(e *Effects, result any) error {
				if err, ok := result.(error); ok {
					return unsolved(q, err)
				}
				x.put(at, b.block, b.bound)
				return a.then(e)
			}
			if c.inlineBlock(b) {
				return done(e, b.workWith(f))
			}
			c.queryJob(e, q, Job{Brief: true, Run: func(func() bool) any { return b.workWith(f) }}, done)
			return nil
		}
		from := c.shardsOf(cols[k], cols[k]+1)
		to := k + 1
		for to < len(cols) && to-k < most && c.shardsOf(cols[to], cols[to]+1)[0] == from[0] {
			to++
		}
		c.scatterTo(e, q, from, (to-k)*slots, func(int) wire.Control {
			return &wire.Columns{Query: q.id, Mask: q.mask, Payload: wire.AppendIndices(nil, cols[k:to])}
		}, func(e *Effects, parts [][]float64) error {
			for i := k; i < to; i++ {
				for r, s := range q.slots {
					g[r*ld+i] = parts[0][(i-k)*slots+int(s)]
				}
			}
			return next(e, to)
		})
		return nil
	}
	return next(e, 0)
}

// blockScalars works out the numbers of the spectrum of each block.
func (c *Core) blockScalars(e *Effects, q *query, dampings []float64) error {
	for _, lambda := range dampings {
		if err := cmp.Or(c.checkDamping(lambda), c.checkDamping(lambda*c.rec.Spec.Scales.Most())); err != nil {
			return err
		}
	}
	x := &scalars{c: c, q: q, spectral: spectral{dampings: dampings, n: float64(c.divideBy(q))}}
	for lo := int64(0); lo < c.rec.Spec.Dim; {
		_, hi := q.blocks.part.At(lo)
		if x.first = append(x.first, lo); len(x.first) > maxScalarBlocks {
			return wire.Errorf(wire.CodeTooLarge, "blocks", fmt.Sprintf("more than %d", maxScalarBlocks), fmt.Sprintf("at most %d", maxScalarBlocks), "take larger ones")
		}
		lo = hi
	}
	if count := len(x.first) * (wire.ScalarsHead + wire.ScalarsEach*len(dampings)); count > wire.MaxValues {
		return wire.Errorf(wire.CodeTooLarge, "numbers", count, fmt.Sprintf("at most %d", wire.MaxValues), "take larger blocks, or fewer dampings")
	}
	c.numbersBegin(e, q, func(e *Effects) error { return x.next(e, 0) })
	return nil
}

// scalars is such a query's work.
type scalars struct {
	c        *Core
	q        *query
	spectral spectral
	first    []int64
	out      []float64
}

// next does the block number i, and those after it.
func (x *scalars) next(e *Effects, i int) error {
	c, q := x.c, x.q
	if i == len(x.first) {
		q.blocks = nil
		c.leave(e, q, x.out)
		return nil
	}
	lo, hi := q.blocks.part.At(x.first[i])
	q.done, q.total = lo, c.rec.Spec.Dim
	a := c.acrossOf(q, wire.BlocksDiag, lo, hi)
	a.loaded = func(e *Effects, win *window.Window) error { return x.spectrum(e, win, i, hi-lo, a.scale) }
	width := hi - lo
	if len(a.shards) > 1 || width > int64(len(q.slots)) || width > wire.MaxInner {
		return a.gram(e, 0)
	}
	c.scatterTo(e, q, a.shards, triangle(int(width)), func(int) wire.Control {
		return &wire.Blocks{Query: q.id, Do: wire.BlocksInner, Lo: lo, Hi: hi}
	}, func(e *Effects, parts [][]float64) error {
		win, err := window.New(c.rec.Spec.Window, a.lambda, q.divisor)
		if err == nil {
			err = win.Load(parts[0], int(width))
		}
		if err != nil {
			return fmt.Errorf("query %d: %w", uint64(q.id), err)
		}
		return a.loaded(e, win)
	})
	return nil
}

// spectrum has the eigenvalues of a block of so many columns found, and takes its numbers, at the dampings times its scale.
func (x *scalars) spectrum(e *Effects, win *window.Window, i int, cols int64, scale float64) error {
	c, q := x.c, x.q
	m := make([]float64, win.Len()*win.Len())
	n, err := win.GradedTo(m)
	if err != nil {
		return err
	}
	c.queryJob(e, q, Job{Run: func(stop func() bool) any {
		s, err := spectrum.Of(m, n, stop)
		if err != nil {
			return err
		}
		return s
	}}, func(e *Effects, result any) error {
		s, ok := result.(*spectrum.Spectrum)
		if !ok {
			return notFound(q, result)
		}
		for len(s.Alpha) < len(q.slots) { // those that the smaller Gram matrix leaves out
			s.Alpha = append(s.Alpha, 0)
		}
		own := spectral{n: x.spectral.n}
		for _, lambda := range x.spectral.dampings {
			own.dampings = append(own.dampings, scale*lambda)
		}
		values, err := own.numbers(q.kind, cols, s)
		if err != nil {
			return err
		}
		x.out = append(x.out, values...)
		return x.next(e, i+1)
	})
	return nil
}
