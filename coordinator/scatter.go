package coordinator

import (
	"fmt"

	"mfac/wire"
)

// This file: numbers that a query asks of shards.

// scatter asks every shard for want numbers; then takes them, in the order of the shards. Its error ends the
// query.
func (c *Core) scatter(e *Effects, q *query, want int, ask func() wire.Control, then func(*Effects, [][]float64) error) {
	c.scatterTo(e, q, c.everyShard(), want, func(int) wire.Control { return ask() }, then)
}

// scatterTo is scatter to some shards, which are asked for different things.
func (c *Core) scatterTo(e *Effects, q *query, shards []int, want int, ask func(shard int) wire.Control, then func(*Effects, [][]float64) error) {
	c.scatterEach(e, q, shards, func(int) int { return want }, ask, then)
}

// scatterEach is scatterTo for other many numbers of each shard.
func (c *Core) scatterEach(e *Effects, q *query, shards []int, want func(shard int) int, ask func(shard int) wire.Control, then func(*Effects, [][]float64) error) {
	q.parts, q.left = make([][]float64, len(shards)), len(shards)
	for i, s := range shards {
		c.call(e, s, ask(s), func(e *Effects, m wire.Message) {
			if c.queries[q.id] != q || q.closing {
				return
			}
			num, ok := m.(*wire.Numbers)
			if !ok {
				c.refuse(e, q, m)
				return
			}
			if want := want(s); num.Count != want {
				c.restart(e, fmt.Sprintf("shard %d answers %d numbers, not %d", s, num.Count, want))
				return
			}
			q.parts[i] = wire.Floats(num.Payload)
			if q.blocks != nil && q.blocks.working {
				lo, hi := c.rangeOf(s)
				q.done += hi - lo
			}
			if q.left--; q.left > 0 {
				return
			}
			parts := q.parts
			q.parts = nil
			if err := then(e, parts); err != nil {
				c.refuse(e, q, wire.AsError(err))
			}
		})
	}
}

// sums asks every shard for so many numbers; then takes their sums, in the order of the shards. Its error ends
// the query, and so does a wrong count, after which scatter has the run begin anew.
func (c *Core) sums(e *Effects, q *query, ask func() wire.Control, count int, then func(e *Effects, sum []float64) error) {
	q.parts, q.left = make([][]float64, len(c.shards)), len(c.shards)
	for s := range c.shards {
		c.call(e, s, ask(), func(e *Effects, m wire.Message) {
			if c.queries[q.id] != q || q.closing {
				return
			}
			num, ok := m.(*wire.Numbers)
			if !ok || num.Count != count {
				c.refuse(e, q, m)
				return
			}
			q.parts[s] = wire.Floats(num.Payload)
			if q.left--; q.left > 0 {
				return
			}
			sum := sumInOrder(q.parts)
			q.parts = nil
			if err := then(e, sum); err != nil {
				c.refuse(e, q, wire.AsError(err))
			}
		})
	}
}

func (c *Core) everyShard() []int {
	all := make([]int, len(c.shards))
	for s := range all {
		all[s] = s
	}
	return all
}
