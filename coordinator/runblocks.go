package coordinator

import "slices"

// This file: runs that answer by the diagonal blocks of H (docs/blocks.md). A query that names neither blocks nor the whole is one of the
// run's, and so is a step's own result: H_b⁻¹g_b of the gradient, which the shards work out when it is committed.

// preconditionBlocks makes the query for a step that is being committed, by the window that has it already.
func (c *Core) preconditionBlocks(q *query) *query {
	a := make([]float64, len(q.slots))
	a[len(a)-1] = 1
	c.cut(q, *c.part)
	q.blocks.as = [][]float64{a}
	return q
}

// settleBlocks begins the next step's own result, if none is under way: one at a time, so that they hold no more memory than one
// query of blocks.
func (c *Core) settleBlocks(e *Effects) {
	for _, o := range slices.Clone(c.settling) {
		q := o.query
		if q.blocks == nil || q.closing {
			continue
		}
		if !q.blocks.begun {
			q.blocks.begun = true
			c.combinationBlocks(e, q)
		}
		return
	}
}
