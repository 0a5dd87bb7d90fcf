//go:build unix

package agent

import (
	"context"
	"fmt"

	"mfac/client"
	"mfac/wire"
)

// This file: queries.

// Asking is what queries have in common. Not every kind has all of it: client says which.
type Asking struct {
	Run     uint64   `msgpack:"run"`
	Damping *float64 `msgpack:"damping"`
	Divisor string   `msgpack:"divisor"`
	Wire    string   `msgpack:"wire"`
	Result  string   `msgpack:"result"`
	MinRows int      `msgpack:"min_rows"`
	AtLeast uint64   `msgpack:"at_least"`
	Exactly *uint64  `msgpack:"exactly"`
	Verify  bool     `msgpack:"verify"`
	Refine  bool     `msgpack:"refine"`
	Blocks  *int64   `msgpack:"blocks"` // columns of a block of H; 0: a block a tensor
	Across  bool     `msgpack:"across"` // tensors' borders
	Whole   bool     `msgpack:"whole"`  // of H, in a run of blocks
}

func (r *Asking) options(q *call) []client.QueryOption {
	var opts []client.QueryOption
	for _, o := range resultOptions(r.Damping, r.Divisor, r.Result, r.MinRows) {
		opts = append(opts, o)
	}
	if r.Wire != "" {
		opts = append(opts, client.WithWire(wire.DType(r.Wire)))
	}
	if r.AtLeast != 0 {
		opts = append(opts, client.WithAtLeast(wire.Version(r.AtLeast)))
	}
	if r.Exactly != nil {
		opts = append(opts, client.WithExactly(wire.Version(*r.Exactly)))
	}
	if r.Verify {
		opts = append(opts, client.WithVerify())
	}
	if r.Refine {
		opts = append(opts, client.WithRefine())
	}
	if r.Blocks != nil {
		opts = append(opts, r.blocks())
	}
	if r.Whole {
		opts = append(opts, client.WithWhole())
	}
	if q.head.Progress {
		opts = append(opts, client.WithProgress(q.progress))
	}
	if q.head.Phases {
		opts = append(opts, client.WithPhases(q.phase))
	}
	return opts
}

func (r *Asking) blocks() client.BlocksOption {
	switch {
	case r.Across:
		return client.WithBlocksAcross(*r.Blocks)
	case *r.Blocks == 0:
		return client.WithTensorBlocks()
	}
	return client.WithBlocks(*r.Blocks)
}

func resultOptions(damping *float64, divisor, result string, minRows int) []client.ResultOption {
	var opts []client.ResultOption
	if damping != nil {
		opts = append(opts, client.WithDamping(*damping))
	}
	if divisor != "" {
		opts = append(opts, client.WithDivisor(wire.Divisor(divisor)))
	}
	if result != "" {
		opts = append(opts, client.WithResult(wire.DType(result)))
	}
	if minRows != 0 {
		opts = append(opts, client.WithMinRows(minRows))
	}
	return opts
}

// answer is client.Answer.
type answer struct {
	Version   wire.Version `msgpack:"version"`
	Rows      int          `msgpack:"rows"`
	Bounds    []float64    `msgpack:"bounds,omitempty"`
	Residuals []float64    `msgpack:"residuals,omitempty"`
}

func answerOf(a client.Answer) answer {
	return answer{a.Version, a.Rows, a.Bounds, a.Residuals}
}

// result asks with vectors in and a result of the same type, in f32 or f64. in may be nil.
func (q *call) result(in, out *view, need bool, f32 func(dst, v [][]float32) (client.Answer, error), f64 func(dst, v [][]float64) (client.Answer, error)) (any, error) {
	to, err := q.c.hold("out", out, false, "f32", "f64")
	if err != nil {
		return nil, err
	}
	defer to.release()
	from := &held{}
	if need {
		if from, err = q.c.hold("in", in, true, to.DType); err != nil {
			return nil, err
		}
		defer from.release()
	}
	var a client.Answer
	if to.DType == "f32" {
		a, err = f32(rowsOf[float32](to), vectorsOf[float32](from))
	} else {
		a, err = f64(rowsOf[float64](to), vectorsOf[float64](from))
	}
	if err != nil {
		return nil, err
	}
	return answerOf(a), to.written()
}

// single checks that views are of one vector.
func single(views ...*view) error {
	for _, v := range views {
		if v != nil && v.Rows > 1 {
			return wire.Invalid("rows", v.Rows, "1: one vector at a time")
		}
	}
	return nil
}

func vectorsOf[T float32 | float64](h *held) [][]T {
	if h.b == nil {
		return nil
	}
	return rowsOf[T](h)
}

type productRequest struct {
	Asking
	In  *view `msgpack:"in"`  // vectors, of out's dtype
	Out *view `msgpack:"out"` // f32 or f64
}

// The two methods of a product.
type (
	product32 = func(r *client.Run, ctx context.Context, dst, v [][]float32, opts ...client.QueryOption) (client.Answer, error)
	product64 = func(r *client.Run, ctx context.Context, dst, v [][]float64, opts ...client.QueryOption) (client.Answer, error)
)

func (q *call) product(r *productRequest, f32 product32, f64 product64) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	opts := r.options(q)
	return q.result(r.In, r.Out, true,
		func(dst, v [][]float32) (client.Answer, error) { return f32(run, q.ctx, dst, v, opts...) },
		func(dst, v [][]float64) (client.Answer, error) { return f64(run, q.ctx, dst, v, opts...) })
}

func ihvp(q *call, r *productRequest) (any, error) {
	return q.product(r, (*client.Run).IHVPs, (*client.Run).IHVPs64)
}

func fvp(q *call, r *productRequest) (any, error) {
	return q.product(r, (*client.Run).FisherVecs, (*client.Run).FisherVecs64)
}

func hvp(q *call, r *productRequest) (any, error) {
	return q.product(r, (*client.Run).HessianVecs, (*client.Run).HessianVecs64)
}

func invSqrt(q *call, r *productRequest) (any, error) {
	return q.product(r, (*client.Run).InvSqrts, (*client.Run).InvSqrts64)
}

type combineRequest struct {
	Asking
	Out   *view  `msgpack:"out"`
	Steps []byte `msgpack:"steps"` // uint64
	Coef  []byte `msgpack:"coef"`  // f64: for each of out's rows, a number for each step
}

func combine(q *call, r *combineRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	list, err := stepsOf(r.Steps)
	if err != nil {
		return nil, err
	}
	all, err := floatsOf("coef", r.Coef)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || len(all)%len(list) != 0 {
		return nil, wire.Invalid("coef", len(all), fmt.Sprintf("a number for each of the %d steps", len(list)))
	}
	coef := make([][]float64, len(all)/len(list))
	for i := range coef {
		coef[i] = all[i*len(list):][:len(list):len(list)]
	}
	opts := r.options(q)
	return q.result(nil, r.Out, false,
		func(dst, _ [][]float32) (client.Answer, error) {
			return run.IHVPCombines(q.ctx, dst, list, coef, opts...)
		},
		func(dst, _ [][]float64) (client.Answer, error) {
			return run.IHVPCombines64(q.ctx, dst, list, coef, opts...)
		})
}

type gradientRequest struct {
	Run     uint64  `msgpack:"run"`
	Step    uint64  `msgpack:"step"`
	AtLeast uint64  `msgpack:"at_least"`
	Exactly *uint64 `msgpack:"exactly"`
	Out     *view   `msgpack:"out"` // f32
}

func gradient(q *call, r *gradientRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	out, err := q.c.hold("out", r.Out, false, "f32")
	if err != nil {
		return nil, err
	}
	defer out.release()
	if out.Rows != 1 {
		return nil, wire.Invalid("out.rows", out.Rows, "1")
	}
	opts := []client.WindowOption{client.WithAtLeast(wire.Version(r.AtLeast))}
	if r.Exactly != nil {
		opts = append(opts, client.WithExactly(wire.Version(*r.Exactly)))
	}
	a, err := run.Gradient(q.ctx, rowsOf[float32](out)[0], wire.Step(r.Step), opts...)
	if err != nil {
		return nil, err
	}
	return answerOf(a), out.written()
}

type diagRequest struct {
	Asking
	Out *view `msgpack:"out"`
}

func diag(q *call, r *diagRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	if err := single(r.Out); err != nil {
		return nil, err
	}
	opts := r.options(q)
	return q.result(nil, r.Out, false,
		func(dst, _ [][]float32) (client.Answer, error) { return run.Diag(q.ctx, dst[0], opts...) },
		func(dst, _ [][]float64) (client.Answer, error) { return run.Diag64(q.ctx, dst[0], opts...) })
}

type columnRequest struct {
	Asking
	Out   *view  `msgpack:"out"`
	Index []byte `msgpack:"index"` // int64: a column for each of out's rows
}

func column(q *call, r *columnRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	index, err := indicesOf(r.Index)
	if err != nil {
		return nil, err
	}
	opts := r.options(q)
	return q.result(nil, r.Out, false,
		func(dst, _ [][]float32) (client.Answer, error) { return run.Columns(q.ctx, dst, index, opts...) },
		func(dst, _ [][]float64) (client.Answer, error) { return run.Columns64(q.ctx, dst, index, opts...) })
}

type subblockRequest struct {
	Asking
	Index []byte `msgpack:"index"` // int64
}

// numbersReply is an answer that is numbers.
type numbersReply struct {
	answer
	Steps  []byte   `msgpack:"steps,omitempty"`  // uint64: of the rows that the numbers are of
	Labels []string `msgpack:"labels,omitempty"` // of the same, nil where none has one
	Values []byte   `msgpack:"values"`           // f64
	Errors []byte   `msgpack:"errors,omitempty"`
}

func subblock(q *call, r *subblockRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	index, err := indicesOf(r.Index)
	if err != nil {
		return nil, err
	}
	x, a, err := run.Subblock(q.ctx, index, r.options(q)...)
	if err != nil {
		return nil, err
	}
	return numbersReply{answer: answerOf(a), Values: wire.AppendFloats(nil, x)}, nil
}

type sampleRequest struct {
	Asking
	Out   *view  `msgpack:"out"`
	Seed  uint64 `msgpack:"seed"`
	First int64  `msgpack:"first"`
}

func sample(q *call, r *sampleRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	opts := r.options(q)
	return q.result(nil, r.Out, false,
		func(dst, _ [][]float32) (client.Answer, error) {
			return run.Samples(q.ctx, dst, r.Seed, r.First, opts...)
		},
		func(dst, _ [][]float64) (client.Answer, error) {
			return run.Samples64(q.ctx, dst, r.Seed, r.First, opts...)
		})
}

type pruneRequest struct {
	Asking
	In       *view   `msgpack:"in"`
	Out      *view   `msgpack:"out"`
	Mask     *view   `msgpack:"mask"` // i8, or left out
	Sparsity float64 `msgpack:"sparsity"`
	Rule     string  `msgpack:"rule"`
	Steps    int     `msgpack:"steps"`
	Keep     int     `msgpack:"keep"` // of a pattern, in place of Sparsity
	Of       int     `msgpack:"of"`
}

func prune(q *call, r *pruneRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	if err := single(r.In, r.Out, r.Mask); err != nil {
		return nil, err
	}
	p := client.Pruning{Sparsity: r.Sparsity, Rule: r.Rule, Steps: r.Steps, Pattern: wire.Pattern{Keep: r.Keep, Of: r.Of}}
	if r.Mask != nil {
		mask, err := q.c.hold("mask", r.Mask, true, maskType)
		if err != nil {
			return nil, err
		}
		defer mask.release()
		p.Mask = rowsOf[int8](mask)[0]
	}
	opts := r.options(q)
	return q.result(r.In, r.Out, true,
		func(dst, w [][]float32) (client.Answer, error) { return run.Prune(q.ctx, dst[0], w[0], p, opts...) },
		func(dst, w [][]float64) (client.Answer, error) { return run.Prune64(q.ctx, dst[0], w[0], p, opts...) })
}

type compensateRequest struct {
	Asking
	In   *view `msgpack:"in"`
	Out  *view `msgpack:"out"`
	Mask *view `msgpack:"mask"` // i8: not 0 where the change is prescribed
}

func compensate(q *call, r *compensateRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	if err := single(r.In, r.Out, r.Mask); err != nil {
		return nil, err
	}
	mask, err := q.c.hold("mask", r.Mask, true, maskType)
	if err != nil {
		return nil, err
	}
	defer mask.release()
	fixed := make([]bool, mask.Cols)
	for j, m := range rowsOf[int8](mask)[0] {
		fixed[j] = m != 0
	}
	opts := r.options(q)
	return q.result(r.In, r.Out, true,
		func(dst, w [][]float32) (client.Answer, error) {
			return run.Compensate(q.ctx, dst[0], w[0], fixed, opts...)
		},
		func(dst, w [][]float64) (client.Answer, error) {
			return run.Compensate64(q.ctx, dst[0], w[0], fixed, opts...)
		})
}

type scoresRequest struct {
	Asking
	In *view `msgpack:"in"`
}

func scores(q *call, r *scoresRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	in, err := q.c.hold("in", r.In, true, "f32", "f64")
	if err != nil {
		return nil, err
	}
	defer in.release()
	var s client.Scores
	if in.DType == "f32" {
		s, err = run.Scores(q.ctx, rowsOf[float32](in), r.options(q)...)
	} else {
		s, err = run.Scores64(q.ctx, rowsOf[float64](in), r.options(q)...)
	}
	if err != nil {
		return nil, err
	}
	return numbersReply{answer: answerOf(s.Answer), Steps: wire.AppendUint64s(nil, s.Steps), Labels: s.Labels, Values: flat(s.Scores)}, nil
}

type pairsRequest struct {
	Asking
	In    *view  `msgpack:"in"`
	Pairs []byte `msgpack:"pairs"` // int64: the two indices of each
}

func pairs(q *call, r *pairsRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	flatPairs, err := indicesOf(r.Pairs)
	if err != nil {
		return nil, err
	}
	if len(flatPairs)%2 != 0 {
		return nil, wire.Invalid("pairs", len(flatPairs), "two indices each")
	}
	list := make([][2]int, len(flatPairs)/2)
	for i := range list {
		list[i] = [2]int{int(flatPairs[2*i]), int(flatPairs[2*i+1])}
	}
	in, err := q.c.hold("in", r.In, true, "f32", "f64")
	if err != nil {
		return nil, err
	}
	defer in.release()
	var p client.Pairs
	if in.DType == "f32" {
		p, err = run.Pairs(q.ctx, rowsOf[float32](in), list, r.options(q)...)
	} else {
		p, err = run.Pairs64(q.ctx, rowsOf[float64](in), list, r.options(q)...)
	}
	if err != nil {
		return nil, err
	}
	return numbersReply{answer: answer{Version: p.Version, Rows: p.Rows}, Values: wire.AppendFloats(nil, p.Values), Errors: wire.AppendFloats(nil, p.Bounds)}, nil
}

func influence(q *call, r *Asking) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	x, err := run.Influence(q.ctx, r.options(q)...)
	if err != nil {
		return nil, err
	}
	return numbersReply{
		answer: answer{Version: x.Version, Rows: len(x.Steps)}, Steps: wire.AppendUint64s(nil, x.Steps), Labels: x.Labels,
		Values: flat(x.Values), Errors: wire.AppendFloats(nil, x.Bounds),
	}, nil
}

// selfInfluence answers four numbers a row: itself, its bound, left out, its bound; a list each.
func selfInfluence(q *call, r *Asking) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	x, err := run.SelfInfluence(q.ctx, r.options(q)...)
	if err != nil {
		return nil, err
	}
	return numbersReply{
		answer: answer{Version: x.Version, Rows: len(x.Steps)}, Steps: wire.AppendUint64s(nil, x.Steps), Labels: x.Labels,
		Values: flat([][]float64{x.Self, x.Out}), Errors: flat([][]float64{x.SelfBound, x.OutBound}),
	}, nil
}

type likelihoodsRequest struct {
	Asking
	In       *view  `msgpack:"in"`       // left out: the window's gradients, each left out
	Dampings []byte `msgpack:"dampings"` // f64; empty: the run's
}

// likelihoods answers for each damping a number for each gradient, and bounds as many.
func likelihoods(q *call, r *likelihoodsRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	dampings, err := floatsOf("dampings", r.Dampings)
	if err != nil {
		return nil, err
	}
	if len(dampings) == 0 {
		dampings = nil
	}
	var l client.Likelihoods
	if r.In == nil {
		l, err = run.LeaveOneOut(q.ctx, dampings, r.options(q)...)
	} else {
		in, heldErr := q.c.hold("in", r.In, true, "f32", "f64")
		if heldErr != nil {
			return nil, heldErr
		}
		defer in.release()
		if in.DType == "f32" {
			l, err = run.Likelihoods(q.ctx, dampings, rowsOf[float32](in), r.options(q)...)
		} else {
			l, err = run.Likelihoods64(q.ctx, dampings, rowsOf[float64](in), r.options(q)...)
		}
	}
	if err != nil {
		return nil, err
	}
	return numbersReply{
		answer: answer{Version: l.Version, Rows: l.Rows}, Steps: wire.AppendUint64s(nil, l.Steps), Values: flat(l.Values), Errors: flat(l.Bounds),
	}, nil
}

type scalarsRequest struct {
	Asking
	Dampings []byte `msgpack:"dampings"` // f64; empty: the run's
}

// scalars answers N, and trace, frobenius, spectral; then for each damping the seven numbers of
// client.ScalarsAt in their order. Errors has the bound of each, 0 for N.
func scalars(q *call, r *scalarsRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	dampings, err := floatsOf("dampings", r.Dampings)
	if err != nil {
		return nil, err
	}
	if len(dampings) == 0 {
		dampings = nil
	}
	if r.Blocks != nil {
		return blockScalars(q, run, r, dampings)
	}
	s, err := run.Scalars(q.ctx, dampings, r.options(q)...)
	if err != nil {
		return nil, err
	}
	values, errs := estimates(s)
	return numbersReply{answer: answer{Version: s.Version, Rows: s.Rows}, Values: wire.AppendFloats(nil, values), Errors: wire.AppendFloats(nil, errs)}, nil
}

// blockScalars answers the numbers of scalars block by block; Steps has the columns at which they end.
func blockScalars(q *call, run *client.Run, r *scalarsRequest, dampings []float64) (any, error) {
	of := r.blocks()
	r.Blocks = nil
	list, err := run.BlockScalars(q.ctx, dampings, of, r.options(q)...)
	if err != nil {
		return nil, err
	}
	reply := numbersReply{}
	ends := make([]int64, len(list))
	for i, b := range list {
		reply.answer = answer{Version: b.Version, Rows: b.Rows}
		ends[i] = b.Hi
		reply.Labels = append(reply.Labels, b.Tensor)
		values, errs := estimates(b.Scalars)
		reply.Values, reply.Errors = wire.AppendFloats(reply.Values, values), wire.AppendFloats(reply.Errors, errs)
	}
	reply.Steps = wire.AppendIndices(nil, ends)
	return reply, nil
}

func estimates(s client.Scalars) (values, errs []float64) {
	list := []client.Estimate{{Value: s.N}, s.Trace, s.Frobenius, s.Spectral}
	for _, at := range s.At {
		list = append(list, at.LogDet, at.TraceInverse, at.EffectiveDim, at.Largest, at.Smallest, at.CondH, at.CondK)
	}
	for _, e := range list {
		values, errs = append(values, e.Value), append(errs, e.Error)
	}
	return values, errs
}

func spectrum(q *call, r *Asking) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	s, err := run.Spectrum(q.ctx, r.options(q)...)
	if err != nil {
		return nil, err
	}
	return numbersReply{answer: answer{Version: s.Version, Rows: s.Rows}, Values: wire.AppendFloats(nil, s.Eigenvalues), Errors: wire.AppendFloats(nil, []float64{s.Error})}, nil
}

func flat(rows [][]float64) []byte {
	var p []byte
	for _, row := range rows {
		p = wire.AppendFloats(p, row)
	}
	return p
}

func floatsOf(field string, p []byte) ([]float64, error) {
	if len(p)%8 != 0 {
		return nil, wire.Errorf(wire.CodeMalformed, field, len(p), "bytes of float64 numbers")
	}
	return wire.Floats(p), nil
}

func indicesOf(p []byte) ([]int64, error) {
	if len(p)%8 != 0 {
		return nil, wire.Errorf(wire.CodeMalformed, "index", len(p), "bytes of int64 numbers")
	}
	return wire.Indices(p), nil
}
