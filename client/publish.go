package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"mfac/wire"
)

// Publish puts the gradient g, the run's dim numbers, in the window as step, and returns when it
// is committed. Steps grow: one not above the newest is wire.CodeNotGrowing. A NaN or Inf refuses
// the whole gradient with wire.CodeNotFinite.
func (r *Run) Publish(ctx context.Context, step wire.Step, g []float32, opts ...PublishOption) (Commit, error) {
	c, err := publishOne(opts)
	if err == nil {
		err = r.checkDim("gradient", len(g))
	}
	if err != nil {
		return Commit{}, publishing(step, err)
	}
	return r.publish(ctx, r.publication(step, whole(g, c.wire), c))
}

// PublishMany publishes rows as steps first, first+1, …: as Publish one by one, but as many under
// way at once as the run has spare slots. Commits has one entry a row; its Version is 0 where the
// row was not committed, and the error says why the first of them was not. Without a deadline in
// ctx each row has DefaultDeadline of its own.
func (r *Run) PublishMany(ctx context.Context, first wire.Step, rows [][]float32, opts ...PublishOption) ([]Commit, error) {
	c, err := publishCall(opts)
	if err == nil {
		err = c.checkLabels(len(rows))
	}
	if err != nil {
		return nil, publishing(first, err)
	}
	for i, g := range rows {
		if err := r.checkDim("gradient", len(g)); err != nil {
			return nil, publishing(first+wire.Step(i), err)
		}
	}
	commits := make([]Commit, len(rows))
	errs := make([]error, len(rows))
	q := &queue{changed: make(chan struct{})}
	// A row begins when the one so many before it has ended well: not when any has, or rows
	// would go on past one that was refused.
	spare := max(1, r.spec.Spare)
	done := make([]chan struct{}, len(rows))
	stop, halt := context.WithCancel(ctx) // no further rows
	defer halt()
	var wg sync.WaitGroup
	var prev *publication
	for i, g := range rows {
		if i >= spare {
			select {
			case <-done[i-spare]:
			case <-stop.Done():
			}
		}
		if stop.Err() != nil {
			if errs[i] = context.Cause(ctx); errs[i] != nil {
				errs[i] = publishing(first+wire.Step(i), errs[i])
			}
			break
		}
		p := r.publication(first+wire.Step(i), whole(g, c.wire), c)
		p.label = c.label(i)
		p.queue, p.place.prev, prev = q, prev, p
		done[i] = make(chan struct{})
		wg.Go(func() {
			defer close(done[i])
			defer q.ended(p)
			if commits[i], errs[i] = r.publish(ctx, p); errs[i] != nil {
				halt()
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return commits, err
		}
	}
	return commits, nil
}

// PublishFrom is Publish of a gradient that is read in pieces.
func (r *Run) PublishFrom(ctx context.Context, step wire.Step, src Source[float32], opts ...PublishOption) (Commit, error) {
	c, err := publishOne(opts)
	if err != nil {
		return Commit{}, publishing(step, err)
	}
	return r.publish(ctx, r.publication(step, &stream[float32]{src: src, as: c.wire}, c))
}

// PublishColumns publishes columns [lo, lo+len(cols)) of step's gradient, and returns when the
// step is committed: other publishers send the other columns, with the same token.
func (r *Run) PublishColumns(ctx context.Context, step wire.Step, lo int64, cols []float32, opts ...PublishOption) (Commit, error) {
	c, err := publishOne(opts)
	if err == nil {
		err = wire.CheckRange(lo, int64(len(cols)), r.spec.Dim)
	}
	if err != nil {
		return Commit{}, publishing(step, err)
	}
	return r.publish(ctx, r.columns(step, lo, cols, c))
}

func publishing(step wire.Step, err error) error { return fmt.Errorf("publish step %d: %w", step, err) }

func (r *Run) checkDim(what string, n int) error {
	if int64(n) != r.spec.Dim {
		return wire.Invalid("length of the "+what, n, fmt.Sprintf("%d, the run's dim", r.spec.Dim))
	}
	return nil
}

func whole[T Float](v []T, as wire.DType) vectors[T] { return vectors[T]{v: [][]T{v}, as: as} }

// publication is that of a whole gradient.
func (r *Run) publication(step wire.Step, in input, c *call) *publication {
	p := &publication{r: r, step: step, token: rand.Uint64(), label: c.label(0), own: c.token == nil, in: in, n: r.spec.Dim, deadline: c.stepDeadline,
		beat: stepBeat, noWait: c.noWait, weight: c.weight}
	if c.token != nil {
		p.token = *c.token
	}
	return p
}

// columns is the publication of some columns.
func (r *Run) columns(step wire.Step, lo int64, cols []float32, c *call) *publication {
	p := r.publication(step, vectors[float32]{v: [][]float32{cols}, lo: lo, as: c.wire}, c)
	p.lo, p.n, p.shared, p.own = lo, int64(len(cols)), true, false
	if c.token == nil {
		p.token = 0
	}
	return p
}

func (r *Run) publish(ctx context.Context, p *publication) (Commit, error) {
	ctx, done, err := r.c.begin(ctx)
	if err != nil {
		return Commit{}, publishing(p.step, err)
	}
	defer done()
	reply, err := p.run(ctx)
	if err != nil {
		return Commit{}, publishing(p.step, err)
	}
	return Commit{Version: reply.Version, Rows: reply.Rows}, nil
}

// Precondition publishes g as Publish does, and sets dst = H⁻¹g, with g in the window: what an
// optimizer does at each step, in less than a publication and a query take. dst may be g.
//
// An Answer with a version says that the gradient is committed, also beside an error: one of
// wire.CodeIllConditioned, CodeTooFewRows or CodeOverflow refuses the result alone. If the run
// changes hands in between, the result may be from a later version than the commit's.
func (r *Run) Precondition(ctx context.Context, step wire.Step, dst, g []float32, opts ...PreconditionOption) (Answer, error) {
	return precondition(ctx, r, step, dst, g, opts)
}

// Precondition64 is Precondition with a result in float64.
func (r *Run) Precondition64(ctx context.Context, step wire.Step, dst []float64, g []float32, opts ...PreconditionOption) (Answer, error) {
	return precondition(ctx, r, step, dst, g, opts)
}

func precondition[T Float](ctx context.Context, r *Run, step wire.Step, dst []T, g []float32, opts []PreconditionOption) (Answer, error) {
	c, err := preconditionCall[T](opts)
	if err == nil {
		err = r.checkDim("gradient", len(g))
	}
	if err == nil {
		err = r.checkDim("result", len(dst))
	}
	if err != nil {
		return Answer{}, preconditioning(step, err)
	}
	return r.precondition(ctx, r.publication(step, whole(g, c.wire), c), whole(dst, c.result), c)
}

// PreconditionFrom is Precondition of a gradient that is read in pieces, the result written in
// pieces.
func (r *Run) PreconditionFrom(ctx context.Context, step wire.Step, sink Sink[float32], src Source[float32], opts ...PreconditionOption) (Answer, error) {
	return preconditionFrom(ctx, r, step, sink, src, opts)
}

// PreconditionFrom64 is PreconditionFrom with a result in float64.
func (r *Run) PreconditionFrom64(ctx context.Context, step wire.Step, sink Sink[float64], src Source[float32], opts ...PreconditionOption) (Answer, error) {
	return preconditionFrom(ctx, r, step, sink, src, opts)
}

func preconditionFrom[T Float](ctx context.Context, r *Run, step wire.Step, sink Sink[T], src Source[float32], opts []PreconditionOption) (Answer, error) {
	c, err := preconditionCall[T](opts)
	if err != nil {
		return Answer{}, preconditioning(step, err)
	}
	return r.precondition(ctx, r.publication(step, &stream[float32]{src: src, as: c.wire}, c), &stream[T]{sink: sink, as: c.result}, c)
}

// PreconditionColumns is PublishColumns and sets dst to the same columns of H⁻¹g. dst may be cols.
func (r *Run) PreconditionColumns(ctx context.Context, step wire.Step, lo int64, dst, cols []float32, opts ...PreconditionOption) (Answer, error) {
	return preconditionColumns(ctx, r, step, lo, dst, cols, opts)
}

// PreconditionColumns64 is PreconditionColumns with a result in float64.
func (r *Run) PreconditionColumns64(ctx context.Context, step wire.Step, lo int64, dst []float64, cols []float32, opts ...PreconditionOption) (Answer, error) {
	return preconditionColumns(ctx, r, step, lo, dst, cols, opts)
}

func preconditionColumns[T Float](ctx context.Context, r *Run, step wire.Step, lo int64, dst []T, cols []float32, opts []PreconditionOption) (Answer, error) {
	c, err := preconditionCall[T](opts)
	if err == nil {
		err = wire.CheckRange(lo, int64(len(cols)), r.spec.Dim)
	}
	if err == nil && len(dst) != len(cols) {
		err = wire.Invalid("length of the result", len(dst), fmt.Sprintf("%d, the columns sent", len(cols)))
	}
	if err != nil {
		return Answer{}, preconditioning(step, err)
	}
	return r.precondition(ctx, r.columns(step, lo, cols, c), vectors[T]{v: [][]T{dst}, lo: lo, as: c.result}, c)
}

func preconditioning(step wire.Step, err error) error {
	return fmt.Errorf("precondition step %d: %w", step, err)
}

// precondition publishes and fetches the result that the commit has made. If that is lost on the
// way, it asks for the same again: H⁻¹ of the gradient that is now stored.
func (r *Run) precondition(ctx context.Context, p *publication, out output, c *call) (Answer, error) {
	ctx, done, err := r.c.begin(ctx)
	if err != nil {
		return Answer{}, preconditioning(p.step, err)
	}
	defer done()
	p.pre = &wire.Precondition{Damping: c.damping, Divisor: c.divisor, Result: out.dtype(), Whole: c.whole}
	var reply committed
	defer func() {
		if last := r.stopReading(p.attempt); last && reply.WaitReply != nil && reply.Query != 0 {
			r.close(reply.info, reply.Query)
		}
	}()
	if reply, err = p.run(ctx); err != nil {
		return Answer{}, preconditioning(p.step, err)
	}
	answer := Answer{Version: reply.Version, Rows: reply.Rows, Bounds: reply.Bounds}
	switch {
	case reply.Rows < c.minRows:
		err = wire.Errorf(wire.CodeTooFewRows, "rows", reply.Rows, fmt.Sprintf("at least %d", c.minRows))
	case reply.Refused != nil:
		err = reply.Refused
	case reply.Query != 0:
		if err = r.fetch(ctx, reply.info, reply.Query, p.lo, p.n, 1, out); err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			err = ended(ctx, err)
		}
	}
	if err != nil && (ctx.Err() != nil || !queryLost(err)) {
		return answer, preconditioning(p.step, err)
	}
	q := r.combination(p.step, out, c)
	q.lo, q.n = p.lo, p.n
	again, err := q.run(ctx)
	if err != nil {
		return answer, preconditioning(p.step, err)
	}
	return again, nil
}

// read counts a publication among those that read an attempt's result, instead of another
// attempt's. The services know one reader for each client: its last one closes the query.
func (r *Run) read(a, instead wire.Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading[a]++
	if r.reading[instead]--; r.reading[instead] <= 0 {
		delete(r.reading, instead)
	}
}

// stopReading takes a publication from the count, and reports whether it was the last one.
func (r *Run) stopReading(a wire.Attempt) (last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reading[a]--; r.reading[a] > 0 {
		return false
	}
	delete(r.reading, a)
	return true
}
