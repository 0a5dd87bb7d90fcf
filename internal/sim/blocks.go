package sim

import "mfac/wire"

// blockOf is the columns of a block, in some runs; 0: they answer by the whole of H.
func (s shape) blockOf() int64 {
	if s.dim%5 == 2 {
		return 1 + s.dim/3
	}
	return 0
}

// blocks is the same as a run's spec has it.
func (s shape) blocks() wire.Blocking {
	if b := s.blockOf(); b > 0 {
		return wire.BlockingOf(b, s.dim%2 == 0)
	}
	return ""
}

// inBlocks makes some questions ones of blocks. In a run of blocks those that say nothing are of these.
func (q *question) inBlocks(w *world) {
	run := w.shape.blockOf()
	byBlocks := !q.refine && q.damping != tinyDamping
	switch q.kind {
	case wire.KindVector, wire.KindCombine, wire.KindDiag, wire.KindSubblock, wire.KindPrune:
	case wire.KindRow:
		return
	default:
		byBlocks = false
	}
	switch {
	case byBlocks && w.chance(0.3):
		q.block = 1 + int64(w.rng.IntN(int(w.shape.dim)))
	case run == 0:
	case byBlocks && w.chance(0.7):
		q.block, q.unsaid = run, true
	default:
		q.whole = true
	}
}

// blocks are [lo, hi) of each, of all columns where the question is of the whole of H.
func (q *question) blocks(dim int64) (out [][2]int64) {
	if q.block == 0 {
		return [][2]int64{{0, dim}}
	}
	for lo := int64(0); lo < dim; lo += q.block {
		out = append(out, [2]int64{lo, min(lo+q.block, dim)})
	}
	return out
}

// only is rows with zeros outside a block.
func only(rows [][]float64, b [2]int64) [][]float64 {
	out := make([][]float64, len(rows))
	for r, row := range rows {
		out[r] = make([]float64, len(row))
		copy(out[r][b[0]:b[1]], row[b[0]:b[1]])
	}
	return out
}

// byBlocks is the reference's answer to a question of blocks: each by itself.
func (k *checker) byBlocks(q *question, i int, g [][]float64, roots []float64, index map[wire.Step]int, run setting) []float64 {
	if q.kind == wire.KindSubblock {
		return k.elementsByBlocks(q, g, roots, index, run)
	}
	x := make([]float64, k.w.shape.dim)
	for _, b := range q.blocks(k.w.shape.dim) {
		part := *q
		part.block, part.vectors = 0, only(q.vectors, b)
		copy(x[b[0]:b[1]], k.reference(&part, i, only(g, b), roots, index, run)[b[0]:b[1]])
	}
	return x
}

// elementsByBlocks is a sub-block: 0 where its indices lie in two blocks.
func (k *checker) elementsByBlocks(q *question, g [][]float64, roots []float64, index map[wire.Step]int, run setting) (x []float64) {
	for _, col := range q.columns {
		lo := col / q.block * q.block
		b := [2]int64{lo, min(lo+q.block, k.w.shape.dim)}
		part := *q
		part.block, part.kind, part.columns = 0, wire.KindColumn, []int64{col}
		c := k.reference(&part, 0, only(g, b), roots, index, run)
		for _, row := range q.columns {
			if row < b[0] || row >= b[1] {
				x = append(x, 0)
				continue
			}
			x = append(x, c[row])
		}
	}
	return x
}

// combined is that of each block.
func (q *question) combined(g [][]float64, of []bool, shift float64, t []float64) []float64 {
	x := make([]float64, len(t))
	for _, b := range q.blocks(int64(len(t))) {
		part := combined(only(g, b), of, shift, only([][]float64{t}, b)[0])
		copy(x[b[0]:b[1]], part[b[0]:b[1]])
	}
	return x
}
