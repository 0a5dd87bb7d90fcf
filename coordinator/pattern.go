package coordinator

import (
	"fmt"

	"mfac/internal/selection"
	"mfac/wire"
)

// This file: patterns N:M of a prune query. Each shard chooses in the groups that it holds whole; of those
// that shards share, fewer than M columns at each border, the scores come here.

// shared is a group that lies on several shards, and the scores of its columns.
type shared struct {
	lo, hi int64
	score  []float64
}

// pruneGroups asks for the scores of groups that shards share, and chooses in them.
func (c *Core) pruneGroups(e *Effects, q *query) error {
	p := q.prune
	dim := c.rec.Spec.Dim
	strips, edges := make([][]wire.Strip, len(c.shards)), make([][][2]int64, len(c.shards))
	want := make([]int, len(c.shards))
	for s := range c.shards {
		lo, hi := c.rangeOf(s)
		strips[s] = selection.Within(p.strips, dim, lo, hi)
		edges[s] = selection.Edges(strips[s], p.pattern.Of, lo, hi)
		for _, g := range edges[s] {
			want[s] += int(min(g[1], hi) - max(g[0], lo))
		}
	}
	q.under("selection", 0, 1)
	c.scatterEach(e, q, c.everyShard(), func(s int) int { return want[s] }, func(s int) wire.Control {
		return &wire.Prune{Query: q.id, Do: wire.PruneGroup, Keep: p.pattern.Keep, Of: p.pattern.Of, Payload: wire.AppendStrips(nil, strips[s])}
	}, func(e *Effects, parts [][]float64) error {
		for s, part := range parts {
			for _, x := range part {
				if !(x >= 0 || x == selection.Fixed || x == selection.Gone) { // NaN too
					c.restart(e, fmt.Sprintf("shard %d answers a score of %g", s, x))
					return nil
				}
			}
		}
		var groups []shared // in the order of their columns, as shards are
		for s, part := range parts {
			lo, hi := c.rangeOf(s)
			for _, g := range edges[s] {
				if k := len(groups); k == 0 || groups[k-1].lo != g[0] {
					groups = append(groups, shared{lo: g[0], hi: g[1]})
				}
				n := min(g[1], hi) - max(g[0], lo)
				k := len(groups) - 1
				groups[k].score = append(groups[k].score, part[:n]...)
				part = part[n:]
			}
		}
		index, err := c.chooseShared(p, groups)
		if err != nil {
			return err
		}
		c.scatterTo(e, q, c.everyShard(), 1, func(s int) wire.Control {
			return &wire.Prune{Query: q.id, Do: wire.PruneChoose, Rule: p.rule, Keep: p.pattern.Keep, Of: p.pattern.Of, Payload: wire.AppendIndices(nil, index[s])}
		}, func(e *Effects, _ [][]float64) error { return c.pruneChosen(e, q) })
		return nil
	})
	return nil
}

// chooseShared is the columns, by shard, that have to go of the groups that shards share.
func (c *Core) chooseShared(p *pruning, groups []shared) ([][]int64, error) {
	index := make([][]int64, len(c.shards))
	s := 0
	for _, g := range groups {
		chosen := make([]bool, len(g.score))
		if _, ok := selection.Group(chosen, g.score, p.pattern.Keep); !ok {
			return nil, wire.TooManyFixed(p.pattern, g.lo, g.hi)
		}
		for i, is := range chosen {
			j := g.lo + int64(i)
			for _, hi := c.rangeOf(s); j >= hi; _, hi = c.rangeOf(s) {
				s++
			}
			if is {
				index[s] = append(index[s], j)
			}
		}
	}
	return index, nil
}
