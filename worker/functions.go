package worker

import (
	"fmt"

	"mfac/internal/dtype"
	"mfac/internal/normal"
	"mfac/shard"
	"mfac/shard/pool"
	"mfac/wire"
)

// This file: samples, and the residuals and the refinement of answers.

// Answers is what the answers of a query are made of.
type Answers struct {
	Query   wire.QueryID
	Kind    string
	Lambda  float64
	Coef    []float64
	Refined Refined
	Mask    shard.Mask
}

// Refined says which answers of a query are refined, and how.
type Refined struct {
	E     []float64
	Which uint64
}

// answersOf is the answers of a query for which m, a message about it, is sent.
func (c *Core) answersOf(s *shardState, id wire.QueryID, lambda float64) (*query, Answers, error) {
	q := s.queries[id]
	if q == nil || !q.hasCoef {
		return nil, Answers{}, unknownQuery(id)
	}
	if q.kind != wire.KindVector && q.kind != wire.KindCombine {
		return nil, Answers{}, wire.Invalid("kind", q.kind, "vector or combine")
	}
	if q.kind == wire.KindVector { // what the answers are made with, whatever is said
		lambda = q.damping
	}
	return q, Answers{Query: id, Kind: q.kind, Lambda: lambda, Coef: q.coef, Refined: q.refined, Mask: q.mask}, nil
}

// apply works out G x.
func (c *Core) apply(e *Effects, in Request, s *shardState, m *wire.Apply) error {
	q, a, err := c.answersOf(s, m.Query, m.Damping)
	if err != nil {
		return err
	}
	c.about(e, in, s, q, m.Shard, Apply{a})
	return nil
}

// residual works out ‖λx + Gᵀw − v‖².
func (c *Core) residual(e *Effects, in Request, s *shardState, m *wire.Residual) error {
	q, a, err := c.answersOf(s, m.Query, m.Damping)
	if err == nil {
		err = q.checkCoefficients(s, m.Vectors, m.Payload)
	}
	if err != nil {
		return err
	}
	c.about(e, in, s, q, m.Shard, Misfit{a, wire.Floats(m.Payload)})
	return nil
}

// refine changes the answers of a query.
func (c *Core) refine(s *shardState, m *wire.Refine) error {
	q, _, err := c.answersOf(s, m.Query, 0)
	if err == nil {
		err = q.checkCoefficients(s, m.Vectors, m.Payload)
	}
	if err != nil {
		return err
	}
	if m.Round > q.round { // else it is late
		q.round, q.refined = m.Round, Refined{wire.Floats(m.Payload), m.Which}
	}
	return nil
}

func (q *query) checkCoefficients(s *shardState, vectors int, p []byte) error {
	if vectors != q.vectors {
		return wire.Invalid("vectors", vectors, fmt.Sprintf("%d, as the query has", q.vectors))
	}
	if want := 8 * q.vectors * s.slots; len(p) != want {
		return wire.Invalid("payload bytes", len(p), fmt.Sprint(want))
	}
	return nil
}

// about carries out a job about a query, and answers with its numbers.
func (c *Core) about(e *Effects, in Request, s *shardState, q *query, head wire.Shard, op Op) {
	if s.again(head.Seq, in.From) {
		return
	}
	c.queryJob(e, s, q, op, func(e *Effects, d Done) { numbers(e, s.finish(head.Seq), head, d) })
}

// normals is z of the samples of a query, for the shard's columns.
func normals(op NewVectors, cols int64) []shard.Vector {
	out := make([]shard.Vector, op.Vectors)
	for i := range out {
		out[i] = shard.Normal(normal.Source{Seed: op.Seed, Index: uint32(op.First + int64(i)), Domain: normal.Columns}, op.Lo, cols)
	}
	return out
}

// view is the vector number i.
func (v vectors) view(i int) (shard.Vector, bool) {
	switch {
	case i < len(v.made):
		return v.made[i], true
	case i < len(v.bytes):
		return shard.Raw(v.bytes[i], dtype.Of(v.dtype)), true
	}
	return shard.Vector{}, false
}

// answer is the answers of a query, by what the shard has of it.
func (n *numbersOf) answer(a Answers) (shard.Answer, error) {
	out := shard.Answer{C: a.Coef, E: a.Refined.E, Refined: a.Refined.Which, Mask: a.Mask, Lambda: a.Lambda}
	if a.Kind == wire.KindVector {
		if out.V = n.vectorsOf(a.Query).views(); len(out.V) == 0 {
			return out, unknownQuery(a.Query)
		}
	}
	return out, nil
}

func (n *numbersOf) apply(op Apply, abort *pool.Cancel) (Done, error) {
	a, err := n.answer(op.Answers)
	if err != nil {
		return Done{}, err
	}
	slots := n.store.Slots()
	out := make([]float64, len(op.Coef)/slots*(slots+1))
	return Done{Floats: out}, n.store.For(pool.Query, abort).Apply(out, a)
}

func (n *numbersOf) misfit(op Misfit, abort *pool.Cancel) (Done, error) {
	a, err := n.answer(op.Answers)
	if err != nil {
		return Done{}, err
	}
	out := make([]float64, len(op.Coef)/n.store.Slots())
	return Done{Floats: out}, n.store.For(pool.Query, abort).Misfit(out, a, op.W, op.Lambda)
}

// refined sets p to columns of a refined answer.
func (n *numbersOf) refined(p []byte, op Compute, store *shard.Store) (bad int64, err error) {
	slots := n.store.Slots()
	part := func(c []float64) []float64 { return c[op.Index*slots : (op.Index+1)*slots] }
	a := shard.Answer{C: part(op.Coef), E: part(op.Refined.E), Refined: 1, Mask: op.Mask, Lambda: op.Damping}
	if op.Kind == wire.KindVector {
		v, ok := n.vectorsOf(op.Query).view(op.Index)
		if !ok {
			return -1, unknownQuery(op.Query)
		}
		a.V = []shard.Vector{v}
	}
	return store.AnswerBytes(p, dtype.Of(op.DType), a, op.Lo, op.Lo+op.N)
}
