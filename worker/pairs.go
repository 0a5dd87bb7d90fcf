package worker

import (
	"fmt"
	"slices"

	"mfac/shard/pool"
	"mfac/wire"
)

// This file: products of a query's vectors with each other.

// DotPairs works out uᵀv for pairs of a query's vectors: a float a pair.
type DotPairs struct {
	Query wire.QueryID
	Pairs []wire.Pair
}

func (o DotPairs) use() use { return use{track: queryTrack, slot: -1, query: o.Query} }

// dotVectors answers with the shard's part of uᵀv for pairs of a query's vectors.
func (c *Core) dotVectors(e *Effects, in Request, s *shardState, m *wire.DotVectors) error {
	q := s.queries[m.Query]
	if q == nil || q.kind != wire.KindVector {
		return unknownQuery(m.Query)
	}
	if q.dots == nil {
		return wire.Errorf(wire.CodeConflict, "query", uint64(m.Query), "whole")
	}
	pairs := wire.PairList(m.Payload)
	if i := slices.IndexFunc(pairs, func(r wire.Pair) bool { return int(max(r.U, r.V)) >= q.vectors }); i >= 0 {
		return wire.Invalid("pair", max(pairs[i].U, pairs[i].V), fmt.Sprintf("below the query's %d vectors", q.vectors))
	}
	head := m.Shard
	if s.again(head.Seq, in.From) {
		return nil
	}
	c.queryJob(e, s, q, DotPairs{Query: q.id, Pairs: pairs}, func(e *Effects, d Done) { numbers(e, s.finish(head.Seq), head, d) })
	return nil
}

func (n *numbersOf) dotPairs(op DotPairs, abort *pool.Cancel) (Done, error) {
	views := n.vectorsOf(op.Query).views()
	store := n.store.For(pool.Query, abort)
	out := make([]float64, len(op.Pairs))
	for i, r := range op.Pairs {
		if int(max(r.U, r.V)) >= len(views) {
			return Done{}, unknownQuery(op.Query)
		}
		var err error
		if out[i], err = store.Dot(views[r.U], views[r.V]); err != nil {
			return Done{}, err
		}
	}
	return Done{Floats: out}, nil
}
