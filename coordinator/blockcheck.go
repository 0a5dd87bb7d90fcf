package coordinator

import (
	"math"

	"mfac/wire"
)

// This file: residuals of answers by blocks, ‖H_Bx − v‖/‖v‖. A shard measures the blocks that lie in it alone. Of a block in several it
// says G_bx, of which the coordinator makes c = W(G_bx)/N − a, and then ‖λx + Gᵀc − v‖² of its columns.

// blocksResiduals measures the answers before they may be fetched.
func (c *Core) blocksResiduals(e *Effects, q *query) {
	b := q.blocks
	var payload []byte
	for _, a := range b.as {
		payload = wire.AppendFloats(payload, a)
	}
	c.scatterTo(e, q, c.everyShard(), b.vectors, func(int) wire.Control {
		return &wire.Blocks{Query: q.id, Do: wire.BlocksWork, What: wire.BlocksResidual, Payload: payload}
	}, func(e *Effects, parts [][]float64) error {
		return c.residualAcross(e, q, sumInOrder(parts), 0)
	})
}

// residualAcross adds the blocks that lie in several shards to the squares, from number i on, one after the other.
func (c *Core) residualAcross(e *Effects, q *query, sum []float64, i int) error {
	b := q.blocks
	if i == len(b.across) {
		q.residuals = make([]float64, len(sum))
		for i, r := range sum {
			if q.residuals[i] = math.Sqrt(r); r != 0 {
				q.residuals[i] /= math.Sqrt(b.norms2[i])
			}
		}
		if i := firstNonFinite(q.residuals); i >= 0 {
			return wire.Errorf(wire.CodeOverflow, "residual", q.residuals[i], "finite", "scale the vector down")
		}
		c.blocksResult(e, q)
		return nil
	}
	a := c.acrossOf(q, "", b.across[i][0], b.across[i][1])
	n := len(q.slots)
	a.ask(e, b.vectors*(n+1), wire.Blocks{Do: wire.BlocksDots, What: wire.BlocksResidual}, func(e *Effects, y []float64) error {
		coef := y[:b.vectors*n]
		for r := range coef {
			if b.weights != nil {
				coef[r] *= b.weights[r%n]
			}
			if coef[r] /= float64(c.divideBy(q)); b.as != nil {
				coef[r] -= b.as[r/n][r%n]
			}
		}
		if i := firstNonFinite(coef); i >= 0 {
			return wire.Errorf(wire.CodeOverflow, "product", coef[i], "finite", "scale the vector down")
		}
		m := wire.Blocks{Do: wire.BlocksFinish, What: wire.BlocksResidual, Payload: wire.AppendFloats(nil, coef)}
		a.ask(e, b.vectors, m, func(e *Effects, part []float64) error {
			for i, r := range part {
				sum[i] += r
			}
			return c.residualAcross(e, q, sum, i+1)
		})
		return nil
	})
	return nil
}
