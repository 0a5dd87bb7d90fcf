package client

import (
	"context"
	"fmt"

	"mfac/wire"
)

// This file: functions of H beside its inverse, and samples (maths.md, "Symbols" and "Scalars alone").

// suits refuses options that a kind of query does not have.
func (c *call) suits(kind string) error {
	if kind == wire.KindVector {
		return nil
	}
	if c.verify {
		return wire.Invalid("verify", c.verify, "left out: residuals are those of H⁻¹v")
	}
	if c.refine {
		return wire.Invalid("refine", c.refine, "left out: what is refined is H⁻¹v")
	}
	return nil
}

// FisherVec sets dst = F v, F = GᵀG/N: Gᵀ(Gv)/N in float64, rounded once, two passes over the window. Both
// have the run's dim numbers and must not overlap. The answer's bound is of the relative error in the 2-norm.
// Where v is all but orthogonal to the gradients, F v is refused with wire.CodeIllConditioned, since its relative
// error is not bounded; where each product g·v is 0, it is 0. λ has nothing to do with it. Where tensors have dampings
// of their own the bound is in the norm of Λ⁻¹.
func (r *Run) FisherVec(ctx context.Context, dst, v []float32, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindFisher, [][]float32{dst}, [][]float32{v}, opts)
}

// FisherVec64 is FisherVec in float64.
func (r *Run) FisherVec64(ctx context.Context, dst, v []float64, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindFisher, [][]float64{dst}, [][]float64{v}, opts)
}

// FisherVecs is FisherVec for at most MaxVectors vectors at once, for the price of two passes whatever
// their number.
func (r *Run) FisherVecs(ctx context.Context, dst, v [][]float32, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindFisher, dst, v, opts)
}

// FisherVecs64 is FisherVecs in float64.
func (r *Run) FisherVecs64(ctx context.Context, dst, v [][]float64, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindFisher, dst, v, opts)
}

// FisherVecFrom is FisherVec of a vector that is read in pieces, the result written in pieces.
func (r *Run) FisherVecFrom(ctx context.Context, sink Sink[float32], src Source[float32], opts ...QueryOption) (Answer, error) {
	return productFrom(ctx, r, wire.KindFisher, sink, src, opts)
}

// FisherVecFrom64 is FisherVecFrom in float64.
func (r *Run) FisherVecFrom64(ctx context.Context, sink Sink[float64], src Source[float64], opts ...QueryOption) (Answer, error) {
	return productFrom(ctx, r, wire.KindFisher, sink, src, opts)
}

// HessianVec sets dst = H v, H = F + λI: λv + Gᵀ(Gv)/N in float64, rounded once, two passes over the window. Both
// have the run's dim numbers and must not overlap. The answer's bound is of the relative error in the 2-norm.
// Its relative error is small whatever the gradients, unless v is so well hidden from them that λv is
// what is left: that is refused, with wire.CodeIllConditioned. Where tensors have dampings of their own it is Λv + Gᵀ(Gv)/N,
// and the bound is in the norm of Λ⁻¹.
func (r *Run) HessianVec(ctx context.Context, dst, v []float32, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindHessian, [][]float32{dst}, [][]float32{v}, opts)
}

// HessianVec64 is HessianVec in float64.
func (r *Run) HessianVec64(ctx context.Context, dst, v []float64, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindHessian, [][]float64{dst}, [][]float64{v}, opts)
}

// HessianVecs is HessianVec for at most MaxVectors vectors at once, for the price of two passes whatever
// their number.
func (r *Run) HessianVecs(ctx context.Context, dst, v [][]float32, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindHessian, dst, v, opts)
}

// HessianVecs64 is HessianVecs in float64.
func (r *Run) HessianVecs64(ctx context.Context, dst, v [][]float64, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindHessian, dst, v, opts)
}

// HessianVecFrom is HessianVec of a vector that is read in pieces, the result written in pieces.
func (r *Run) HessianVecFrom(ctx context.Context, sink Sink[float32], src Source[float32], opts ...QueryOption) (Answer, error) {
	return productFrom(ctx, r, wire.KindHessian, sink, src, opts)
}

// HessianVecFrom64 is HessianVecFrom in float64.
func (r *Run) HessianVecFrom64(ctx context.Context, sink Sink[float64], src Source[float64], opts ...QueryOption) (Answer, error) {
	return productFrom(ctx, r, wire.KindHessian, sink, src, opts)
}

// Samples sets dst[i] to sample number first + i of seed from N(0, H⁻¹), for at most MaxVectors at once:
// x = (z − GᵀK⁻¹(Gz − √(Nλ) u))/√λ, z standard normal by seed, number and column, u by seed, number and
// step. A sample is the same bytes whatever the number of workers, of samples asked for together and of
// threads; it is another one at another version of the window, λ or N, and differs within its bound
// where shards have other borders. Each dst has the run's dim numbers; 0 ≤ first, and first + len(dst) is
// at most 2³². The bounds are of the relative error in the 2-norm, for the z and u that were drawn.
func (r *Run) Samples(ctx context.Context, dst [][]float32, seed uint64, first int64, opts ...QueryOption) (Answer, error) {
	return samples(ctx, r, dst, seed, first, opts)
}

// Samples64 is Samples in float64.
func (r *Run) Samples64(ctx context.Context, dst [][]float64, seed uint64, first int64, opts ...QueryOption) (Answer, error) {
	return samples(ctx, r, dst, seed, first, opts)
}

// Sample sets dst to the sample of that number; see Samples.
func (r *Run) Sample(ctx context.Context, dst []float32, seed uint64, number int64, opts ...QueryOption) (Answer, error) {
	return samples(ctx, r, [][]float32{dst}, seed, number, opts)
}

// Sample64 is Sample in float64.
func (r *Run) Sample64(ctx context.Context, dst []float64, seed uint64, number int64, opts ...QueryOption) (Answer, error) {
	return samples(ctx, r, [][]float64{dst}, seed, number, opts)
}

// SampleTo is Sample with the result written in pieces.
func (r *Run) SampleTo(ctx context.Context, sink Sink[float32], seed uint64, number int64, opts ...QueryOption) (Answer, error) {
	return sampleTo(ctx, r, sink, seed, number, opts)
}

// SampleTo64 is SampleTo in float64.
func (r *Run) SampleTo64(ctx context.Context, sink Sink[float64], seed uint64, number int64, opts ...QueryOption) (Answer, error) {
	return sampleTo(ctx, r, sink, seed, number, opts)
}

func samples[T Float](ctx context.Context, r *Run, dst [][]T, seed uint64, first int64, opts []QueryOption) (Answer, error) {
	c, err := queryCall[T](opts)
	if err == nil {
		err = r.checkVectors(len(dst))
	}
	if err == nil {
		err = checkResults(r, dst, len(dst))
	}
	if err != nil {
		return Answer{}, asking(wire.KindSample, err)
	}
	return r.sample(ctx, vectors[T]{v: dst, as: c.result}, len(dst), seed, first, c)
}

func sampleTo[T Float](ctx context.Context, r *Run, sink Sink[T], seed uint64, number int64, opts []QueryOption) (Answer, error) {
	c, err := queryCall[T](opts)
	if err != nil {
		return Answer{}, asking(wire.KindSample, err)
	}
	return r.sample(ctx, &stream[T]{sink: sink, as: c.result}, 1, seed, number, c)
}

func (r *Run) sample(ctx context.Context, out output, k int, seed uint64, first int64, c *call) (Answer, error) {
	err := c.suits(wire.KindSample)
	if err == nil && c.wire != "" {
		err = wire.Invalid("wire", c.wire, "left out: no vectors are sent")
	}
	if most := wire.MaxSamples - int64(k); err == nil && (first < 0 || first > most) {
		err = wire.Invalid("number", first, fmt.Sprintf("in [0, %d]", most))
	}
	if err != nil {
		return Answer{}, asking(wire.KindSample, err)
	}
	q := r.question(wire.KindSample, k, out, c)
	q.req.Seed, q.req.First = seed, first
	return q.ask(ctx)
}
