package client

import (
	"context"
	"fmt"
	"math/rand/v2"

	"mfac/wire"
)

// This file: frozen runs (maths.md, "Elements, diagonal, columns").

// Freeze makes the run one of a fixed window, and returns when its workers keep W = L⁻¹G of it, in float64,
// worked out in one round, O(dm²/2). From then on the diagonal takes O(n) a column and an element O(m): the same
// bytes as without, at the run's damping and divisor; at others W is no help. Publishing ends: whoever opens a step, or
// waits for one that is open, hears wire.CodeFrozen. It takes 8n bytes for each column, and 8n² for each shard while
// W is worked out; FreezePlan says how much on which worker. Where a worker has not got them it is
// wire.CodeTooLarge with the numbers, and nothing has changed. Give ctx the time; if it ends first, the run
// is frozen all the same, and W is worked out: Thaw ends that. WithProgress tells of the columns of W that are there.
//
// It lasts: also when the coordinator or a worker is lost W is worked out anew. Thaw ends it, and so does Forget.
func (r *Run) Freeze(ctx context.Context, opts ...ProgressOption) (Commit, error) {
	var q call
	for _, o := range opts {
		if err := o(&q); err != nil {
			return Commit{}, fmt.Errorf("freeze run %s: %w", r.name, err)
		}
	}
	pending := func(context.Context) {}
	if q.progress != nil {
		pending = func(ctx context.Context) {
			if f, err := r.FreezePlan(ctx); err == nil {
				q.progress(f.Done, f.Columns)
			}
		}
	}
	c, err := r.changeMeanwhile(ctx, wire.OpFreeze, &wire.Freeze{Run: r.name, Token: rand.Uint64()}, pending)
	if err != nil {
		return Commit{}, fmt.Errorf("freeze run %s: %w", r.name, err)
	}
	if q.progress != nil {
		q.progress(r.spec.Dim, r.spec.Dim)
	}
	return c, nil
}

// Thaw lets the window of a frozen run change again, and has its workers give the memory of W back, when the
// queries that read it have ended. A run that is not frozen stays as it is.
func (r *Run) Thaw(ctx context.Context) (Commit, error) {
	c, err := r.change(ctx, wire.OpFreeze, &wire.Freeze{Run: r.name, Token: rand.Uint64(), Thaw: true})
	if err != nil {
		return Commit{}, fmt.Errorf("thaw run %s: %w", r.name, err)
	}
	return c, nil
}

// FreezePlan says whether the run is frozen, and what its W takes or, with the window as it is, would take on
// each of its workers.
func (r *Run) FreezePlan(ctx context.Context) (wire.Frozen, error) {
	ctx, done, err := r.c.begin(ctx)
	if err != nil {
		return wire.Frozen{}, err
	}
	defer done()
	f, err := ask[*wire.Frozen](ctx, r.c, wire.OpFrozen, &wire.FrozenRequest{Run: r.name}, whileBusy)
	if err != nil {
		return wire.Frozen{}, fmt.Errorf("ask whether run %s is frozen: %w", r.name, err)
	}
	return *f, nil
}
