package client

import (
	"context"
	"fmt"

	"mfac/wire"
)

// This file: scores, pairs and influence (maths.md, "Scalars alone"). All numbers are float64.

// Scores is how each gradient of the window bears on vectors. The answer's bounds are of the relative
// error in the 2-norm of a vector's scores.
type Scores struct {
	Answer
	Steps  []wire.Step // of the window's gradients, oldest first
	Labels []string    // of the same (WithLabel), "" where there is none; nil where none has one
	Scores [][]float64 // of each vector, a number for each step
}

// Scores answers gᵀH⁻¹v for every gradient g in the window, for at most MaxVectors vectors at once:
// one pass over the window. A v whose scores drown in rounding errors, as those of one that is orthogonal to
// all gradients do, is wire.CodeIllConditioned.
func (r *Run) Scores(ctx context.Context, v [][]float32, opts ...QueryOption) (Scores, error) {
	return scores(ctx, r, v, opts)
}

// Scores64 is Scores of float64 vectors.
func (r *Run) Scores64(ctx context.Context, v [][]float64, opts ...QueryOption) (Scores, error) {
	return scores(ctx, r, v, opts)
}

func scores[T Float](ctx context.Context, r *Run, v [][]T, opts []QueryOption) (Scores, error) {
	in, c, err := numbersOf(r, v, opts)
	if err != nil {
		return Scores{}, asking(wire.KindScores, err)
	}
	return r.scores(ctx, in, len(v), c)
}

// ScoresFrom is Scores of a vector that is read in pieces.
func (r *Run) ScoresFrom(ctx context.Context, src Source[float32], opts ...QueryOption) (Scores, error) {
	return scoresFrom(ctx, r, src, opts)
}

// ScoresFrom64 is ScoresFrom in float64.
func (r *Run) ScoresFrom64(ctx context.Context, src Source[float64], opts ...QueryOption) (Scores, error) {
	return scoresFrom(ctx, r, src, opts)
}

func scoresFrom[T Float](ctx context.Context, r *Run, src Source[T], opts []QueryOption) (Scores, error) {
	c, err := numbersCall[T](opts)
	if err != nil {
		return Scores{}, asking(wire.KindScores, err)
	}
	return r.scores(ctx, &stream[T]{src: src, as: c.wire}, 1, c)
}

func (r *Run) scores(ctx context.Context, in input, k int, c *call) (Scores, error) {
	q := r.numbers(wire.KindScores, k, in, c)
	q.byRow = true
	a, err := q.ask(ctx)
	if err == nil {
		err = q.counted(k * a.Rows)
	}
	if err != nil {
		return Scores{}, err
	}
	return Scores{Answer: a, Steps: q.steps, Labels: q.labels, Scores: split(q.values, k, a.Rows)}, nil
}

// Pairs is forms uᵀH⁻¹v, one a pair.
type Pairs struct {
	Version wire.Version
	Rows    int
	Values  []float64
	Bounds  []float64 // of the error of each, absolute
}

// Pairs answers uᵀH⁻¹v for pairs of at most MaxVectors vectors, each pair the indices of its u and v,
// which may be the same: {0, 1}, {1, 1}. At most wire.MaxPairs pairs. Each vector is sent once; one
// pass over the window.
func (r *Run) Pairs(ctx context.Context, v [][]float32, pairs [][2]int, opts ...QueryOption) (Pairs, error) {
	return pairsOf(ctx, r, v, pairs, opts)
}

// Pairs64 is Pairs of float64 vectors.
func (r *Run) Pairs64(ctx context.Context, v [][]float64, pairs [][2]int, opts ...QueryOption) (Pairs, error) {
	return pairsOf(ctx, r, v, pairs, opts)
}

func pairsOf[T Float](ctx context.Context, r *Run, v [][]T, pairs [][2]int, opts []QueryOption) (Pairs, error) {
	in, c, err := numbersOf(r, v, opts)
	if err == nil && (len(pairs) < 1 || len(pairs) > wire.MaxPairs) {
		err = wire.Invalid("pairs", len(pairs), fmt.Sprintf("in [1, %d]", wire.MaxPairs))
	}
	list := make([]wire.Pair, 0, min(len(pairs), wire.MaxPairs))
	for k := 0; k < len(pairs) && err == nil; k++ {
		p := pairs[k]
		if i := min(p[0], p[1]); i < 0 || max(p[0], p[1]) >= len(v) {
			err = wire.Invalid("pair", p, fmt.Sprintf("indices of the %d vectors", len(v)))
			break
		}
		list = append(list, wire.Pair{U: uint32(p[0]), V: uint32(p[1])})
	}
	if err != nil {
		return Pairs{}, asking(wire.KindPairs, err)
	}
	q := r.numbers(wire.KindPairs, len(v), in, c)
	q.req.Payload = wire.AppendPairs(nil, list)
	a, err := q.ask(ctx)
	if err == nil {
		err = q.counted(2 * len(pairs))
	}
	if err != nil {
		return Pairs{}, err
	}
	out := Pairs{Version: a.Version, Rows: a.Rows}
	for k := range pairs {
		out.Values = append(out.Values, q.values[2*k])
		out.Bounds = append(out.Bounds, q.values[2*k+1])
	}
	return out, nil
}

// Influence is how the gradients of the window bear on each other.
type Influence struct {
	Version wire.Version
	Steps   []wire.Step // of the window's gradients, oldest first
	Labels  []string    // of the same, as in Scores
	Values  [][]float64 // g_iᵀH⁻¹g_j, a row for each i
	Bounds  []float64   // of the error of each row in the 2-norm, absolute
}

// Influence answers G H⁻¹Gᵀ for the gradients in the window, from what the coordinator has: no pass over
// them. The matrix is symmetric within its bounds.
func (r *Run) Influence(ctx context.Context, opts ...QueryOption) (Influence, error) {
	q, a, err := r.among(ctx, wire.KindInfluence, opts, func(rows int) int { return rows * (rows + 1) })
	if err != nil {
		return Influence{}, err
	}
	out := Influence{Version: a.Version, Steps: q.steps, Labels: q.labels}
	for _, row := range split(q.values, a.Rows, a.Rows+1) {
		out.Values, out.Bounds = append(out.Values, row[:a.Rows:a.Rows]), append(out.Bounds, row[a.Rows])
	}
	return out, nil
}

// SelfInfluence is how each gradient of the window bears on itself.
type SelfInfluence struct {
	Version   wire.Version
	Steps     []wire.Step // of the window's gradients, oldest first
	Labels    []string    // of the same, as in Scores
	Self      []float64   // gᵀH⁻¹g
	SelfBound []float64   // of the error of each, absolute
	Out       []float64   // gᵀ(H − ggᵀ/N)⁻¹g: the same with the gradient left out of H, N as it is
	OutBound  []float64   // of the error of each, absolute
}

// SelfInfluence answers gᵀH⁻¹g for each gradient g in the window, and the same with it left out of H
// (leave-one-out), from what the coordinator has: no pass over them.
func (r *Run) SelfInfluence(ctx context.Context, opts ...QueryOption) (SelfInfluence, error) {
	q, a, err := r.among(ctx, wire.KindSelf, opts, func(rows int) int { return wire.SelfNumbers * rows })
	if err != nil {
		return SelfInfluence{}, err
	}
	out := SelfInfluence{Version: a.Version, Steps: q.steps, Labels: q.labels}
	for _, row := range split(q.values, a.Rows, wire.SelfNumbers) {
		out.Self, out.SelfBound = append(out.Self, row[0]), append(out.SelfBound, row[1])
		out.Out, out.OutBound = append(out.Out, row[2]), append(out.OutBound, row[3])
	}
	return out, nil
}

// among asks for numbers of the window's gradients among themselves, count of them.
func (r *Run) among(ctx context.Context, kind string, opts []QueryOption, count func(rows int) int) (*question, Answer, error) {
	c, err := numbersCall[float64](opts)
	if err == nil && c.wire != "" {
		err = wire.Invalid("wire", c.wire, "left out: no vectors are sent")
	}
	if err != nil {
		return nil, Answer{}, asking(kind, err)
	}
	q := r.numbers(kind, 1, nil, c)
	q.byRow = true
	a, err := q.ask(ctx)
	if err == nil {
		err = q.counted(count(a.Rows))
	}
	return q, a, err
}

// numbersCall is for vectors of type T and an answer of numbers.
func numbersCall[T Float](opts []QueryOption) (*call, error) {
	c, err := collect(opts, QueryOption.query)
	if err == nil {
		err = fits[T]("wire", c.wire)
	}
	if err == nil && c.result != "" {
		err = wire.Invalid("result", c.result, "left out: numbers are float64")
	}
	if err == nil {
		err = c.suits(wire.KindScores) // as of all whose answers are numbers
	}
	return c, err
}

// numbersOf checks the vectors of a query for numbers.
func numbersOf[T Float](r *Run, v [][]T, opts []QueryOption) (input, *call, error) {
	c, err := numbersCall[T](opts)
	if err == nil {
		err = r.checkVectors(len(v))
	}
	for k := 0; k < len(v) && err == nil; k++ {
		err = r.checkDim("vector", len(v[k]))
	}
	if err != nil {
		return nil, nil, err
	}
	return vectors[T]{v: v, as: c.wire}, c, nil
}

// counted checks how many numbers came.
func (q *question) counted(want int) error {
	if len(q.values) != want {
		return asking(q.req.Kind, wire.Errorf(wire.CodeMalformed, "numbers", len(q.values), fmt.Sprint(want)))
	}
	return nil
}

// split cuts x into n rows of so many numbers.
func split(x []float64, n, cols int) [][]float64 {
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = x[i*cols:][:cols:cols]
	}
	return rows
}
