package worker

import (
	"fmt"

	"mfac/internal/selection"
	"mfac/shard"
	"mfac/shard/pool"
	"mfac/wire"
)

// This file: patterns N:M of a prune query.

// checkChosen checks the columns that the coordinator has chosen, of groups that this shard shares.
func (s *shardState) checkChosen(m *wire.Prune) ([]int64, error) {
	index := wire.Indices(m.Payload)
	for i, j := range index {
		if j < s.lo || j >= s.lo+s.cols || i > 0 && j <= index[i-1] {
			return nil, wire.Invalid("index", j, fmt.Sprintf("growing, within the shard's [%d, %d)", s.lo, s.lo+s.cols))
		}
	}
	return index, nil
}

// groupScores sets dst to what selection.Group looks at, of columns from lo on: scores w²/(2[H⁻¹]_jj), and
// what can't be chosen. w is the weights there.
func (p pruned) groupScores(dst, w []float64, lo int64) {
	for i, x := range w {
		switch j := lo + int64(i); p.state[j] {
		case free:
			dst[i] = x * x / (2 * p.x[j])
		case gone:
			dst[i] = selection.Gone
		default:
			dst[i] = selection.Fixed
		}
	}
}

// pruneGroup answers the scores of groups that this shard shares with others.
func (n *numbersOf) pruneGroup(op Prune, p pruned, weights shard.Vector) (Done, error) {
	lo, hi := op.Col, op.Col+n.store.Cols()
	var out []float64
	for _, g := range selection.Edges(p.strips, op.Pattern.Of, lo, hi) {
		a, b := max(g[0], lo), min(g[1], hi)
		w := make([]float64, b-a)
		if err := n.store.Load(w, weights, a-lo); err != nil {
			return Done{}, err
		}
		score := make([]float64, b-a)
		p.groupScores(score, w, a-lo)
		out = append(out, score...)
	}
	return Done{Floats: out}, nil
}

// pruneChooseGroups chooses in the groups that this shard holds whole, beside the columns that the
// coordinator has chosen in others, and does with them what pruneChoose does.
func (n *numbersOf) pruneChooseGroups(op Prune, p pruned, weights shard.Vector, abort *pool.Cancel) (Done, error) {
	if p.strips == nil {
		return Done{}, wire.Errorf(wire.CodeConflict, "groups", "not there", "taken before weights are chosen")
	}
	count := 0
	choose := func(j int64, w float64) {
		p.state[j] = chosen
		count++
		if op.Rule == wire.RuleSummed {
			w /= p.x[j]
		}
		p.x[j] = w
	}
	var w [selection.MaxOf]float64
	for _, j := range op.Index {
		j -= op.Col
		if p.state[j] != free {
			return Done{}, wire.Invalid("index", j+op.Col, "a column that may be pruned")
		}
		if err := n.store.Load(w[:1], weights, j); err != nil {
			return Done{}, err
		}
		choose(j, w[0])
	}
	end := op.Col + n.store.Cols()
	var score [selection.MaxOf]float64
	var is [selection.MaxOf]bool
	err := selection.EachGroup(p.strips, op.Pattern.Of, op.Col, end, func(a, b int64) error {
		if a < op.Col || b > end {
			return nil
		}
		if err := abort.Err(); err != nil {
			return err
		}
		m, lo := b-a, a-op.Col
		if err := n.store.Load(w[:m], weights, lo); err != nil {
			return err
		}
		p.groupScores(score[:m], w[:m], lo)
		if _, ok := selection.Group(is[:m], score[:m], op.Pattern.Keep); !ok {
			return wire.TooManyFixed(op.Pattern, a, b)
		}
		for i := range m {
			if is[i] {
				choose(lo+i, w[i])
			}
		}
		return nil
	})
	n.clearRest(op, p)
	return Done{Floats: []float64{float64(count)}}, err
}
