package client

import (
	"context"
	"fmt"
	"sync"

	"mfac/wire"
)

// This file: diagonal, columns, elements and sub-blocks of H⁻¹ (maths.md, "Elements, diagonal,
// columns").

// Diag sets dst to the diagonal of H⁻¹, the run's dim numbers: (1 − ‖w_j‖²)/λ with W = L⁻¹G, worked
// out by the workers in float64 and rounded once. That takes m²/2 products a column, so for large runs
// give ctx the time, at most an hour, and WithProgress. The answer's bound is of the relative error in
// the 2-norm. wire.CodeTooLarge where a worker has no memory for the factor, 8n² bytes for each
// shard while the query lives.
func (r *Run) Diag(ctx context.Context, dst []float32, opts ...QueryOption) (Answer, error) {
	return diag(ctx, r, dst, opts)
}

// Diag64 is Diag in float64.
func (r *Run) Diag64(ctx context.Context, dst []float64, opts ...QueryOption) (Answer, error) {
	return diag(ctx, r, dst, opts)
}

func diag[T Float](ctx context.Context, r *Run, dst []T, opts []QueryOption) (Answer, error) {
	c, err := resultCall[T](wire.KindDiag, opts)
	if err == nil {
		err = r.checkDim("result", len(dst))
	}
	if err != nil {
		return Answer{}, asking(wire.KindDiag, err)
	}
	return r.question(wire.KindDiag, 1, whole(dst, c.result), c).ask(ctx)
}

// DiagTo is Diag with the result written in pieces.
func (r *Run) DiagTo(ctx context.Context, sink Sink[float32], opts ...QueryOption) (Answer, error) {
	return diagTo(ctx, r, sink, opts)
}

// DiagTo64 is DiagTo in float64.
func (r *Run) DiagTo64(ctx context.Context, sink Sink[float64], opts ...QueryOption) (Answer, error) {
	return diagTo(ctx, r, sink, opts)
}

func diagTo[T Float](ctx context.Context, r *Run, sink Sink[T], opts []QueryOption) (Answer, error) {
	c, err := resultCall[T](wire.KindDiag, opts)
	if err != nil {
		return Answer{}, asking(wire.KindDiag, err)
	}
	return r.question(wire.KindDiag, 1, &stream[T]{sink: sink, as: c.result}, c).ask(ctx)
}

// Columns sets dst[k] to column index[k] of H⁻¹, H⁻¹e_j, for at most MaxVectors of them at once; they
// may repeat. Nothing of length d is sent, and G is read once: of its columns alone the coordinator
// makes the coefficients. The answer has a bound for each, as IHVPs has.
func (r *Run) Columns(ctx context.Context, dst [][]float32, index []int64, opts ...QueryOption) (Answer, error) {
	return columns(ctx, r, dst, index, opts)
}

// Columns64 is Columns in float64.
func (r *Run) Columns64(ctx context.Context, dst [][]float64, index []int64, opts ...QueryOption) (Answer, error) {
	return columns(ctx, r, dst, index, opts)
}

func columns[T Float](ctx context.Context, r *Run, dst [][]T, index []int64, opts []QueryOption) (Answer, error) {
	c, err := resultCall[T](wire.KindColumn, opts)
	if err == nil {
		err = r.checkVectors(len(index))
	}
	if err == nil {
		err = checkResults(r, dst, len(index))
	}
	if err != nil {
		return Answer{}, asking(wire.KindColumn, err)
	}
	return r.column(ctx, vectors[T]{v: dst, as: c.result}, index, c)
}

// ColumnTo is Columns for one, with the result written in pieces.
func (r *Run) ColumnTo(ctx context.Context, sink Sink[float32], j int64, opts ...QueryOption) (Answer, error) {
	return columnTo(ctx, r, sink, j, opts)
}

// ColumnTo64 is ColumnTo in float64.
func (r *Run) ColumnTo64(ctx context.Context, sink Sink[float64], j int64, opts ...QueryOption) (Answer, error) {
	return columnTo(ctx, r, sink, j, opts)
}

func columnTo[T Float](ctx context.Context, r *Run, sink Sink[T], j int64, opts []QueryOption) (Answer, error) {
	c, err := resultCall[T](wire.KindColumn, opts)
	if err != nil {
		return Answer{}, asking(wire.KindColumn, err)
	}
	return r.column(ctx, &stream[T]{sink: sink, as: c.result}, []int64{j}, c)
}

func (r *Run) column(ctx context.Context, out output, index []int64, c *call) (Answer, error) {
	if err := r.checkIndices(index); err != nil {
		return Answer{}, asking(wire.KindColumn, err)
	}
	q := r.question(wire.KindColumn, len(index), out, c)
	q.req.Payload = wire.AppendIndices(nil, index)
	return q.ask(ctx)
}

// Element returns [H⁻¹]_ij: two columns of G go to the coordinator, which does the rest in O(m²). The
// answer's bound is of its error relative to √([H⁻¹]_ii [H⁻¹]_jj), for i = j to the element itself.
func (r *Run) Element(ctx context.Context, i, j int64, opts ...QueryOption) (float64, Answer, error) {
	index := []int64{i, j}
	if i == j {
		index = index[:1]
	}
	x, a, err := r.Subblock(ctx, index, opts...)
	if err != nil {
		return 0, a, err
	}
	return x[len(index)-1], a, nil // in the first row
}

// Subblock returns [H⁻¹]_QQ for the columns Q that index names, row by row: at most wire.MaxIndices of
// them, which may repeat. Q's columns of G go to the coordinator, which does the rest in O(m²q + mq²); an
// element is the same bits in any sub-block. The answer has one bound: of the error of each element
// relative to √([H⁻¹]_ii [H⁻¹]_jj). wire.CodeTooLarge where the coordinator has not that memory or time.
func (r *Run) Subblock(ctx context.Context, index []int64, opts ...QueryOption) ([]float64, Answer, error) {
	c, err := resultCall[float64](wire.KindSubblock, opts)
	if err == nil && c.result != "" && c.result != wire.F64 {
		err = wire.Invalid("result", c.result, "f64, what numbers are fetched in")
	}
	if err == nil && (len(index) < 1 || len(index) > wire.MaxIndices) {
		err = wire.Invalid("indices", len(index), "in [1, 2048]")
	}
	if err == nil {
		err = r.checkIndices(index)
	}
	if err != nil {
		return nil, Answer{}, asking(wire.KindSubblock, err)
	}
	q := r.numbers(wire.KindSubblock, 1, nil, c)
	q.req.Payload = wire.AppendIndices(nil, index)
	a, err := q.ask(ctx)
	if err != nil {
		return nil, Answer{}, err
	}
	if want := len(index) * len(index); len(q.values) != want {
		return nil, Answer{}, asking(wire.KindSubblock, wire.Errorf(wire.CodeMalformed, "numbers", len(q.values), "as many as elements"))
	}
	return q.values, a, nil
}

func (r *Run) checkIndices(index []int64) error {
	for _, j := range index {
		if j < 0 || j >= r.spec.Dim {
			return wire.Invalid("index", j, fmt.Sprintf("in [0, %d), the run's columns", r.spec.Dim))
		}
	}
	return nil
}

// resultCall is queryCall for queries that send no vectors.
func resultCall[T Float](kind string, opts []QueryOption) (*call, error) {
	c, err := queryCall[T](opts)
	if err == nil {
		err = c.suits(kind)
	}
	if err == nil && c.wire != "" {
		err = wire.Invalid("wire", c.wire, "left out: no vectors are sent")
	}
	return c, err
}

// ProgressOption is an option of queries.
type ProgressOption func(*call) error

func (f ProgressOption) query(c *call) error { return f(c) }

// WithProgress calls f as columns of the result are there: done of total, over all of its vectors. Before that, and of queries
// whose answer is numbers, it is called as the coordinator works on A (Scalars, Spectrum, InvSqrt, Likelihoods, LeaveOneOut): done of
// another total, about once a second. f is called by one goroutine at a time and should be quick. done starts
// again where the query had to be asked anew.
func WithProgress(f func(done, total int64)) ProgressOption {
	return func(c *call) error {
		c.progress = f
		return nil
	}
}

// watched has f told of the pieces of t that are through.
func (t *transfer) watched(f func(done, total int64)) *transfer {
	if f == nil {
		return t
	}
	var mu sync.Mutex
	var done, total int64
	for _, p := range t.pieces {
		total += p.n
	}
	t.sent = func(i int) {
		mu.Lock()
		defer mu.Unlock()
		done += t.pieces[i].n
		f(done, total)
	}
	return t
}

const (
	// pieceProducts is how many products a piece of a diagonal takes at most, but for the least:
	// tens of ms at a worker, so that others' queries come in between.
	pieceProducts = 1 << 29
	leastColumns  = 64 // that are solved for together
)

// pieceBytes is the most bytes of numbers in one piece of the result, from a window of so many rows.
func (q *question) pieceBytes(rows int) int {
	most, size := q.r.c.chunkBytes, q.out.dtype().Size()
	if q.req.Kind != wire.KindDiag || q.byBlocks || rows == 0 {
		return most
	}
	cols := pieceProducts / (rows * (rows + 1) / 2) / leastColumns * leastColumns
	return min(most, max(cols, leastColumns)*size)
}
