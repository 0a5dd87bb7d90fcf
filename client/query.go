package client

import (
	"context"
	"fmt"
	"math"

	"mfac/wire"
)

// IHVP sets dst = H⁻¹v. Both have the run's dim numbers and must not overlap.
func (r *Run) IHVP(ctx context.Context, dst, v []float32, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindVector, [][]float32{dst}, [][]float32{v}, opts)
}

// IHVP64 is IHVP in float64.
func (r *Run) IHVP64(ctx context.Context, dst, v []float64, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindVector, [][]float64{dst}, [][]float64{v}, opts)
}

// IHVPs sets dst[k] = H⁻¹v[k] for at most MaxVectors vectors at once, for the price of two passes
// over the window whatever their number. The answer has a bound for each.
func (r *Run) IHVPs(ctx context.Context, dst, v [][]float32, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindVector, dst, v, opts)
}

// IHVPs64 is IHVPs in float64.
func (r *Run) IHVPs64(ctx context.Context, dst, v [][]float64, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindVector, dst, v, opts)
}

// products asks for what a kind of query makes of vectors.
func products[T Float](ctx context.Context, r *Run, kind string, dst, v [][]T, opts []QueryOption) (Answer, error) {
	c, err := queryCall[T](opts)
	if err == nil {
		err = r.checkVectors(len(v))
	}
	if err == nil {
		err = checkResults(r, dst, len(v))
	}
	if err == nil {
		err = c.suits(kind)
	}
	if err != nil {
		return Answer{}, asking(kind, err)
	}
	for _, v := range v {
		if err := r.checkDim("vector", len(v)); err != nil {
			return Answer{}, asking(kind, err)
		}
		for _, d := range dst {
			if overlap(d, v) { // v may have to be sent again when part of dst is there
				return Answer{}, asking(kind, wire.Invalid("result", "in the vector's memory", "in its own"))
			}
		}
	}
	return r.vector(ctx, kind, vectors[T]{v: dst, as: c.result}, vectors[T]{v: v, as: c.wire}, len(v), c)
}

// IHVPFrom is IHVP of a vector that is read in pieces, the result written in pieces.
func (r *Run) IHVPFrom(ctx context.Context, sink Sink[float32], src Source[float32], opts ...QueryOption) (Answer, error) {
	return productFrom(ctx, r, wire.KindVector, sink, src, opts)
}

// IHVPFrom64 is IHVPFrom in float64.
func (r *Run) IHVPFrom64(ctx context.Context, sink Sink[float64], src Source[float64], opts ...QueryOption) (Answer, error) {
	return productFrom(ctx, r, wire.KindVector, sink, src, opts)
}

func productFrom[T Float](ctx context.Context, r *Run, kind string, sink Sink[T], src Source[T], opts []QueryOption) (Answer, error) {
	c, err := queryCall[T](opts)
	if err == nil {
		err = c.suits(kind)
	}
	if err != nil {
		return Answer{}, asking(kind, err)
	}
	return r.vector(ctx, kind, &stream[T]{sink: sink, as: c.result}, &stream[T]{src: src, as: c.wire}, 1, c)
}

func (r *Run) vector(ctx context.Context, kind string, out output, in input, k int, c *call) (Answer, error) {
	q := r.question(kind, k, out, c)
	q.in = in
	return q.ask(ctx)
}

// IHVPStep sets dst = H⁻¹g for the gradient g that is in the window as step: one pass, nothing
// of length d is sent, nothing cancels.
func (r *Run) IHVPStep(ctx context.Context, dst []float32, step wire.Step, opts ...QueryOption) (Answer, error) {
	return combines(ctx, r, [][]float32{dst}, []wire.Step{step}, [][]float64{{1}}, opts)
}

// IHVPStep64 is IHVPStep with a result in float64.
func (r *Run) IHVPStep64(ctx context.Context, dst []float64, step wire.Step, opts ...QueryOption) (Answer, error) {
	return combines(ctx, r, [][]float64{dst}, []wire.Step{step}, [][]float64{{1}}, opts)
}

// IHVPCombine sets dst = H⁻¹ Σ coef[i]·g[i] over gradients in the window, named by their steps.
func (r *Run) IHVPCombine(ctx context.Context, dst []float32, steps []wire.Step, coef []float64, opts ...QueryOption) (Answer, error) {
	return combines(ctx, r, [][]float32{dst}, steps, [][]float64{coef}, opts)
}

// IHVPCombine64 is IHVPCombine with a result in float64.
func (r *Run) IHVPCombine64(ctx context.Context, dst []float64, steps []wire.Step, coef []float64, opts ...QueryOption) (Answer, error) {
	return combines(ctx, r, [][]float64{dst}, steps, [][]float64{coef}, opts)
}

// IHVPCombineTo is IHVPCombine with the result written in pieces.
func (r *Run) IHVPCombineTo(ctx context.Context, sink Sink[float32], steps []wire.Step, coef []float64, opts ...QueryOption) (Answer, error) {
	return combineTo(ctx, r, sink, steps, coef, opts)
}

// IHVPCombineTo64 is IHVPCombineTo with a result in float64.
func (r *Run) IHVPCombineTo64(ctx context.Context, sink Sink[float64], steps []wire.Step, coef []float64, opts ...QueryOption) (Answer, error) {
	return combineTo(ctx, r, sink, steps, coef, opts)
}

func combineTo[T Float](ctx context.Context, r *Run, sink Sink[T], steps []wire.Step, coef []float64, opts []QueryOption) (Answer, error) {
	c, err := queryCall[T](opts)
	if err != nil {
		return Answer{}, asking(wire.KindCombine, err)
	}
	return r.combine(ctx, &stream[T]{sink: sink, as: c.result}, steps, [][]float64{coef}, c)
}

// IHVPCombines sets dst[k] = H⁻¹ Σ coef[k][i]·g[i] for at most MaxVectors combinations at once.
func (r *Run) IHVPCombines(ctx context.Context, dst [][]float32, steps []wire.Step, coef [][]float64, opts ...QueryOption) (Answer, error) {
	return combines(ctx, r, dst, steps, coef, opts)
}

// IHVPCombines64 is IHVPCombines with results in float64.
func (r *Run) IHVPCombines64(ctx context.Context, dst [][]float64, steps []wire.Step, coef [][]float64, opts ...QueryOption) (Answer, error) {
	return combines(ctx, r, dst, steps, coef, opts)
}

func combines[T Float](ctx context.Context, r *Run, dst [][]T, steps []wire.Step, coef [][]float64, opts []QueryOption) (Answer, error) {
	c, err := queryCall[T](opts)
	if err == nil {
		err = checkResults(r, dst, len(coef))
	}
	if err != nil {
		return Answer{}, asking(wire.KindCombine, err)
	}
	return r.combine(ctx, vectors[T]{v: dst, as: c.result}, steps, coef, c)
}

func (r *Run) combine(ctx context.Context, out output, steps []wire.Step, coef [][]float64, c *call) (Answer, error) {
	err := r.checkVectors(len(coef))
	if err == nil && c.wire != "" {
		err = wire.Invalid("wire", c.wire, "left out: no vectors are sent")
	}
	if err == nil && (len(steps) < 1 || len(steps) > r.Spec().Window) {
		err = wire.Invalid("steps", len(steps), fmt.Sprintf("in [1, %d], the run's window", r.Spec().Window))
	}
	for k := 0; k < len(coef) && err == nil; k++ {
		err = checkCoef(coef[k], len(steps))
	}
	if err != nil {
		return Answer{}, asking(wire.KindCombine, err)
	}
	q := r.question(wire.KindCombine, len(coef), out, c)
	q.req.Steps = len(steps)
	q.req.Payload = combinePayload(steps, coef)
	return q.ask(ctx)
}

func checkCoef(coef []float64, steps int) error {
	if len(coef) != steps {
		return wire.Invalid("coefficients", len(coef), fmt.Sprintf("%d, one a step", steps))
	}
	for _, a := range coef {
		if math.IsNaN(a) || math.IsInf(a, 0) {
			return wire.Errorf(wire.CodeNotFinite, "coefficient", a, "finite")
		}
	}
	return nil
}

// Gradient sets dst to the gradient that is in the window as step, exactly as it is stored: in a run
// whose store is of 16 bits, what was published is rounded to that.
func (r *Run) Gradient(ctx context.Context, dst []float32, step wire.Step, opts ...WindowOption) (Answer, error) {
	c, err := collect(opts, WindowOption.query)
	if err == nil {
		err = r.checkDim("result", len(dst))
	}
	if err != nil {
		return Answer{}, asking(wire.KindRow, err)
	}
	q := r.question(wire.KindRow, 1, whole(dst, ""), c)
	q.req.Payload = wire.AppendUint64s(nil, []wire.Step{step})
	return q.ask(ctx)
}

func asking(kind string, err error) error { return fmt.Errorf("query (%s): %w", kind, err) }

func (q *question) ask(ctx context.Context) (Answer, error) {
	ctx, done, err := q.r.c.begin(ctx)
	if err != nil {
		return Answer{}, asking(q.req.Kind, err)
	}
	defer done()
	if err := q.inBlocks(ctx); err != nil {
		return Answer{}, asking(q.req.Kind, err)
	}
	a, err := q.run(ctx)
	if err != nil {
		return Answer{}, asking(q.req.Kind, err)
	}
	return a, nil
}

func (r *Run) checkVectors(k int) error {
	if k < 1 || k > r.MaxVectors() {
		return wire.Invalid("vectors", k, fmt.Sprintf("in [1, %d]", r.MaxVectors()))
	}
	return nil
}

func checkResults[T Float](r *Run, dst [][]T, k int) error {
	if len(dst) != k {
		return wire.Invalid("results", len(dst), fmt.Sprintf("%d, one a vector", k))
	}
	for _, d := range dst {
		if err := r.checkDim("result", len(d)); err != nil {
			return err
		}
	}
	return nil
}
