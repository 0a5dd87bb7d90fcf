package client

import (
	"context"

	"mfac/wire"
)

// Publish puts the gradient g, the run's dim numbers, in the window as step, and returns when it
// is committed. Steps grow: one not above the newest is wire.CodeNotGrowing. A NaN or Inf refuses
// the whole gradient with wire.CodeNotFinite.
func (r *Run) Publish(ctx context.Context, step wire.Step, g []float32, opts ...PublishOption) (Commit, error) {
	return Commit{}, errNotBuilt
}

// PublishMany publishes rows as steps first, first+1, …: as Publish one by one, but as many under
// way at once as the run has spare slots. Commits has one entry a row; its Version is 0 where the
// row was not committed, and the error says why the first of them was not.
func (r *Run) PublishMany(ctx context.Context, first wire.Step, rows [][]float32, opts ...PublishOption) ([]Commit, error) {
	return nil, errNotBuilt
}

// PublishFrom is Publish of a gradient that is read in pieces.
func (r *Run) PublishFrom(ctx context.Context, step wire.Step, src Source[float32], opts ...PublishOption) (Commit, error) {
	return Commit{}, errNotBuilt
}

// PublishColumns publishes columns [lo, lo+len(cols)) of step's gradient, and returns when the
// step is committed: other publishers send the other columns, with the same token.
func (r *Run) PublishColumns(ctx context.Context, step wire.Step, lo int64, cols []float32, opts ...PublishOption) (Commit, error) {
	return Commit{}, errNotBuilt
}

// Precondition publishes g as Publish does, and sets dst = H⁻¹g, with g in the window: what an
// optimizer does at each step, in less than a publication and a query take. dst may be g. An error
// of wire.CodeIllConditioned or wire.CodeTooFewRows refuses the answer alone: then the gradient is
// committed all the same, and the Answer has its version and rows.
func (r *Run) Precondition(ctx context.Context, step wire.Step, dst, g []float32, opts ...PreconditionOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// Precondition64 is Precondition with a result in float64.
func (r *Run) Precondition64(ctx context.Context, step wire.Step, dst []float64, g []float32, opts ...PreconditionOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// PreconditionFrom is Precondition of a gradient that is read in pieces, the result written in
// pieces.
func (r *Run) PreconditionFrom(ctx context.Context, step wire.Step, sink Sink[float32], src Source[float32], opts ...PreconditionOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// PreconditionColumns is PublishColumns and sets dst to the same columns of H⁻¹g. dst may be cols.
func (r *Run) PreconditionColumns(ctx context.Context, step wire.Step, lo int64, dst, cols []float32, opts ...PreconditionOption) (Answer, error) {
	return Answer{}, errNotBuilt
}
