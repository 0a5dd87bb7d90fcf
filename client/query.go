package client

import (
	"context"

	"mfac/wire"
)

// IHVP sets dst = H⁻¹v. Both have the run's dim numbers and must not overlap.
func (r *Run) IHVP(ctx context.Context, dst, v []float32, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVP64 is IHVP in float64.
func (r *Run) IHVP64(ctx context.Context, dst, v []float64, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPs sets dst[k] = H⁻¹v[k] for at most MaxVectors vectors at once, for the price of two passes
// over the window whatever their number. The answer has a bound for each.
func (r *Run) IHVPs(ctx context.Context, dst, v [][]float32, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPs64 is IHVPs in float64.
func (r *Run) IHVPs64(ctx context.Context, dst, v [][]float64, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPFrom is IHVP of a vector that is read in pieces, the result written in pieces.
func (r *Run) IHVPFrom(ctx context.Context, sink Sink[float32], src Source[float32], opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPFrom64 is IHVPFrom in float64.
func (r *Run) IHVPFrom64(ctx context.Context, sink Sink[float64], src Source[float64], opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPStep sets dst = H⁻¹g for the gradient g that is in the window as step: one pass, nothing
// of length d is sent, nothing cancels.
func (r *Run) IHVPStep(ctx context.Context, dst []float32, step wire.Step, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPStep64 is IHVPStep with a result in float64.
func (r *Run) IHVPStep64(ctx context.Context, dst []float64, step wire.Step, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPCombine sets dst = H⁻¹ Σ coef[i]·g[i] over gradients in the window, named by their steps.
func (r *Run) IHVPCombine(ctx context.Context, dst []float32, steps []wire.Step, coef []float64, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPCombine64 is IHVPCombine with a result in float64.
func (r *Run) IHVPCombine64(ctx context.Context, dst []float64, steps []wire.Step, coef []float64, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPCombineTo is IHVPCombine with the result written in pieces.
func (r *Run) IHVPCombineTo(ctx context.Context, sink Sink[float32], steps []wire.Step, coef []float64, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPCombines sets dst[k] = H⁻¹ Σ coef[k][i]·g[i] for at most MaxVectors combinations at once.
func (r *Run) IHVPCombines(ctx context.Context, dst [][]float32, steps []wire.Step, coef [][]float64, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// IHVPCombines64 is IHVPCombines with results in float64.
func (r *Run) IHVPCombines64(ctx context.Context, dst [][]float64, steps []wire.Step, coef [][]float64, opts ...QueryOption) (Answer, error) {
	return Answer{}, errNotBuilt
}

// Gradient sets dst to the gradient that is in the window as step, as it is stored.
func (r *Run) Gradient(ctx context.Context, dst []float32, step wire.Step, opts ...WindowOption) (Answer, error) {
	return Answer{}, errNotBuilt
}
