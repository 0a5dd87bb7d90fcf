package sim

import (
	"math"
	"slices"

	"mfac/wire"
)

// prune makes q one of pruning, or of a prescribed change.
func (w *world) prune(q *question) {
	q.kind = wire.KindPrune
	v := make([]float64, w.shape.dim)
	for i := range v {
		v[i] = nearest(w.rng.NormFloat64(), q.dtype)
	}
	q.vectors = [][]float64{v}
	q.rule = oneOf(w, []string{wire.RuleSummed, wire.RuleJoint})
	q.sparsity = 0.3 + 0.5*w.rng.Float64()
	compensate := w.chance(0.2)
	if !compensate && w.chance(0.3) {
		of := 2 + w.rng.IntN(3)
		q.pattern = wire.Pattern{Keep: 1 + w.rng.IntN(of-1), Of: of}
		q.strips = []wire.Strip{{Lo: 0, Len: 1 + w.rng.Int64N(w.shape.dim)}}
		if w.shape.dim > 1 {
			q.strips = append(q.strips, wire.Strip{Lo: 1 + w.rng.Int64N(w.shape.dim-1), Len: 1 + w.rng.Int64N(5)})
		}
	}
	if !compensate && w.chance(0.5) || w.shape.dim < 3 {
		return
	}
	mask := make([]float64, w.shape.dim)
	for i := range mask {
		if w.chance(0.2) {
			mask[i] = 1
			if !compensate && (w.chance(0.5) || !q.pattern.IsZero()) { // more than Keep of a group that are 1 are refused
				mask[i] = -1
			}
		}
	}
	mask[0], mask[len(mask)-1] = 0, 1
	q.vectors = append(q.vectors, mask)
	if compensate {
		q.kind = wire.KindCompensate
		return
	}
	free, gone := 0.0, 0.0
	for _, m := range mask {
		switch m {
		case 0:
			free++
		case -1:
			gone++
		}
	}
	q.sparsity = (gone + 0.5 + math.Floor(free*w.rng.Float64())) / float64(len(mask))
}

// prunes reports whether a question is one of these: its vectors make one result, without a bound.
func (q *question) prunes() bool { return q.kind == wire.KindPrune || q.kind == wire.KindCompensate }

// pruned answers it densely.
func (q *question) pruned(g [][]float64, shift, damping float64) []float64 {
	w := q.vectors[0]
	mask := make([]float64, len(w))
	if len(q.vectors) > 1 {
		mask = q.vectors[1]
	}
	x := make([]float64, len(w))
	if q.kind == wire.KindCompensate {
		chosen := make([]float64, len(w))
		rest := make([]bool, len(w))
		for j, m := range mask {
			if rest[j] = m == 0; !rest[j] {
				chosen[j], x[j] = w[j], w[j]
			}
		}
		for j, c := range combined(g, rest, shift, chosen) {
			x[j] -= c
		}
		return x
	}
	free, count := make([]bool, len(w)), int(q.sparsity*float64(len(w)))
	var order []int
	for j, m := range mask {
		switch m {
		case 0:
			free[j] = true
			order = append(order, j)
		case -1:
			count--
		}
		if m != -1 {
			x[j] = w[j]
		}
	}
	h, score := make([]float64, len(w)), make([]float64, len(w))
	for _, j := range order {
		e := make([]float64, len(w))
		e[j] = 1
		h[j] = (1 - q.combined(g, free, shift, e)[j]) / damping
		score[j] = w[j] * w[j] / (2 * h[j])
	}
	byScore := func(a, b int) int {
		switch {
		case score[a] < score[b]:
			return -1
		case score[a] > score[b]:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, byScore)
	if q.pattern.IsZero() {
		order = order[:count]
	} else {
		order = q.chosenOf(order, mask)
	}
	of, t := slices.Clone(free), make([]float64, len(w))
	for _, j := range order {
		t[j] = w[j]
		if q.rule == wire.RuleSummed {
			t[j] /= h[j] * damping
		} else {
			of[j] = false
		}
	}
	for j, c := range q.combined(g, of, shift, t) {
		x[j] += c
	}
	for _, j := range order {
		x[j] = 0
	}
	return x
}

// chosenOf takes of each group of the pattern the first of order, lowest scores first, till the pattern is met.
func (q *question) chosenOf(order []int, mask []float64) []int {
	group, left := make([]int, len(mask)), map[int]int{} // of a column; how many of a group have to go
	start := 0
	for j := range mask {
		i := 0
		for i+1 < len(q.strips) && q.strips[i+1].Lo <= int64(j) {
			i++
		}
		if at := int64(j) - q.strips[i].Lo; at%q.strips[i].Len%int64(q.pattern.Of) == 0 {
			start = j
			left[start] = -q.pattern.Keep
		}
		group[j] = start
		if mask[j] != -1 {
			left[start]++
		}
	}
	return slices.DeleteFunc(slices.Clone(order), func(j int) bool {
		left[group[j]]--
		return left[group[j]] < 0
	})
}

// combined is Gᵀ(GGᵀ + shift)⁻¹(G t) of the columns of, with all columns in the last product.
func combined(g [][]float64, of []bool, shift float64, t []float64) []float64 {
	part, y := make([][]float64, len(g)), make([]float64, len(g))
	for r := range g {
		y[r] = dot(g[r], t)
		part[r] = make([]float64, len(t))
		for j, is := range of {
			if is {
				part[r][j] = g[r][j]
			}
		}
	}
	c := solve(part, shift, y)
	x := make([]float64, len(t))
	for r := range g {
		for j := range x {
			x[j] += c[r] * part[r][j]
		}
	}
	return x
}

// roundingOf is how far rounding to a dtype moves a vector of norm 1 and size n, at most.
func roundingOf(t wire.DType, size float64, n int64) float64 {
	least := map[wire.DType]float64{wire.F32: 0x1p-150, wire.BF16: 0x1p-134, wire.F16: 0x1p-25}[t] * math.Sqrt(float64(n))
	relative := map[wire.DType]float64{wire.F32: 0x1p-24, wire.BF16: 0x1p-8, wire.F16: 0x1p-11}[t]
	if size == 0 {
		return relative
	}
	return relative + least/size
}
