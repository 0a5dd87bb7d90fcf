package client

import (
	"context"
	"fmt"
	"math"
	"slices"

	"mfac/wire"
)

// This file: pruning, and prescribed changes of weights (docs/pruning.md).

// Pruning says which weights Prune sets to 0, and how it adapts the others.
type Pruning struct {
	// Sparsity is the part of the run's d weights that are 0 in the end: ⌊Sparsity·d⌋, those that were
	// pruned before included. In [0, 1).
	Sparsity float64
	// Pattern, unless zero, takes the place of Sparsity: of each Pattern.Of consecutive weights at most
	// Pattern.Keep are not 0 in the end, as {2, 4} for the "2:4" of sparse tensor cores. Groups lie along the last dimension of
	// each tensor of the run's layout, from its start; the last one of a row has what is left, of which
	// as many may stay. Without a layout all weights are one row. Of each group those with the lowest scores go.
	// A group whose weights are all in the Mask is left as it is.
	Pattern wire.Pattern
	// Rule is wire.RuleSummed ("summed", the default), as M-FAC does, or wire.RuleJoint ("joint"), the
	// least increase of the quadratic for the weights that are chosen.
	Rule string
	// Mask, unless nil, has a number for each weight: 0 where it may be pruned, wire.MaskFixed (1) where it
	// is not to be touched, wire.MaskPruned (−1) where it was pruned before. H is that of the others
	// alone. It names one weight at least, and leaves one.
	Mask []int8
	// Steps prunes in that many steps with the same gradients, each of which leaves the same part of
	// the weights that are left; those pruned before leave H. Weights are float64 in between. 0 is 1.
	Steps int
}

// Prune sets dst to the weights w, pruned by curvature. The score of a weight is w_i²/(2[H⁻¹]_ii); the
// lowest of all d are chosen exactly, equal ones by index, and end as +0. The others are adapted:
//
//	summed  w − H⁻¹t, with t_i = w_i/[H⁻¹]_ii for those that are chosen, 0 elsewhere
//	joint   w + Gᵀ(NλI + A)⁻¹ G_S w_S over the kept columns, A = GGᵀ, with w_S those that are chosen
//
// All is worked out in float64 by the workers, and rounded once. It takes m²/2 products a column for the
// scores, and as many again for the joint update or with a mask. The answer has no bound: docs/pruning.md
// says how exact it is. dst and w have the run's dim numbers and must not overlap. wire.CodeIllConditioned
// where H⁻¹'s diagonal would be off by more than 1e-3.
func (r *Run) Prune(ctx context.Context, dst, w []float32, p Pruning, opts ...QueryOption) (Answer, error) {
	return prune(ctx, r, dst, w, p, opts)
}

// Prune64 is Prune in float64.
func (r *Run) Prune64(ctx context.Context, dst, w []float64, p Pruning, opts ...QueryOption) (Answer, error) {
	return prune(ctx, r, dst, w, p, opts)
}

func prune[T Float](ctx context.Context, r *Run, dst, w []T, p Pruning, opts []QueryOption) (Answer, error) {
	if p.Rule == "" {
		p.Rule = wire.RuleSummed
	}
	c, err := queryCall[T](opts)
	if err == nil {
		err = c.suits(wire.KindPrune)
	}
	if err == nil {
		err = wire.CheckSparsity(p.Sparsity)
	}
	if err == nil {
		err = wire.CheckRule(p.Rule)
	}
	if err == nil {
		err = p.checkPattern()
	}
	if err == nil && (p.Steps < 0 || p.Steps > maxPruneSteps) {
		err = wire.Invalid("steps", p.Steps, fmt.Sprintf("in [1, %d]", maxPruneSteps))
	}
	if err == nil {
		err = checkChange(r, dst, w)
	}
	if err == nil && p.Mask != nil {
		err = r.checkDim("mask", len(p.Mask))
	}
	if err != nil {
		return Answer{}, asking(wire.KindPrune, err)
	}
	if p.Steps > 1 {
		return pruneSteps(ctx, r, dst, w, p, c)
	}
	return pruneOnce(ctx, r, whole(dst, c.result), w, p, c)
}

// pruneOnce is one step. The result need not be of the weights' type.
func pruneOnce[T Float](ctx context.Context, r *Run, out output, w []T, p Pruning, c *call) (Answer, error) {
	in := [][]T{w}
	if p.Mask != nil {
		in = append(in, maskOf[T](p.Mask))
	}
	q := r.changeOf(wire.KindPrune, out, vectors[T]{v: in, as: c.wire}, len(in), c)
	q.req.Sparsity, q.req.Rule = p.Sparsity, p.Rule
	if !p.Pattern.IsZero() {
		strips, err := r.strips(ctx)
		if err != nil {
			return Answer{}, asking(wire.KindPrune, err)
		}
		q.req.Keep, q.req.Of, q.req.Payload = p.Pattern.Keep, p.Pattern.Of, wire.AppendStrips(nil, strips)
	}
	return q.ask(ctx)
}

// maxPruneSteps is more than are of use.
const maxPruneSteps = 1000

// pruneSteps prunes in p.Steps steps, all from the version of the first one.
func pruneSteps[T Float](ctx context.Context, r *Run, dst, w []T, p Pruning, c *call) (Answer, error) {
	ctx, done, err := r.c.begin(ctx) // one deadline over all of them
	if err != nil {
		return Answer{}, asking(wire.KindPrune, err)
	}
	defer done()
	now, next := make([]float64, len(w)), make([]float64, len(w))
	mask := make([]int8, len(w))
	copy(mask, p.Mask)
	d := float64(len(w))
	gone := 0.0
	for j, x := range w {
		now[j] = float64(x)
		if mask[j] == wire.MaskPruned {
			gone++
		}
	}
	in := *c // the steps after the first send float64
	kept := 1 - gone/d
	for t := 1; t < p.Steps; t++ {
		sparsity := min(p.Sparsity, 1-kept*math.Pow((1-p.Sparsity)/kept, float64(t)/float64(p.Steps)))
		zeros := float64(wire.Zeros(sparsity, r.spec.Dim))
		if zeros <= gone { // nothing to be pruned
			continue
		}
		step := Pruning{Sparsity: sparsity, Rule: p.Rule, Mask: mask}
		if gone == 0 && p.Mask == nil {
			step.Mask = nil
		}
		in.ofSteps(t, p.Steps, c.phases)
		a, err := pruneOnce(ctx, r, whole(next, wire.F64), now, step, &in)
		if err != nil {
			return Answer{}, err
		}
		in.wire, in.exactly, in.atLeast = wire.F64, a.Version, 0
		now, next = next, now
		for j, x := range now {
			// Of others that are 0, as dead weights are, no more than were to be pruned.
			if x == 0 && mask[j] == wire.MaskFree && gone < zeros {
				mask[j] = wire.MaskPruned
				gone++
			}
		}
	}
	in.ofSteps(p.Steps, p.Steps, c.phases)
	p.Steps = 1
	if p.Mask = mask; gone == 0 && !slices.Contains(mask, wire.MaskFixed) {
		p.Mask = nil
	}
	return pruneOnce(ctx, r, whole(dst, c.result), now, p, &in)
}

// Compensate sets dst to the change of all weights that raises the quadratic least when those that
// fixed names change by delta, as quantisation does: delta where fixed is true, elsewhere
//
//	−Gᵀ(NλI + A)⁻¹ G_S delta_S
//
// over the columns that are not fixed, A = GGᵀ of them. Joint pruning is delta_S = −w_S. delta is looked at
// only where fixed is true. One weight at least is fixed, and one is not. All three have the run's dim
// numbers; dst and delta must not overlap. Float64 throughout, rounded once; the answer has no bound.
func (r *Run) Compensate(ctx context.Context, dst, delta []float32, fixed []bool, opts ...QueryOption) (Answer, error) {
	return compensate(ctx, r, dst, delta, fixed, opts)
}

// Compensate64 is Compensate in float64.
func (r *Run) Compensate64(ctx context.Context, dst, delta []float64, fixed []bool, opts ...QueryOption) (Answer, error) {
	return compensate(ctx, r, dst, delta, fixed, opts)
}

func compensate[T Float](ctx context.Context, r *Run, dst, delta []T, fixed []bool, opts []QueryOption) (Answer, error) {
	c, err := queryCall[T](opts)
	if err == nil {
		err = c.suits(wire.KindCompensate)
	}
	if err == nil {
		err = checkChange(r, dst, delta)
	}
	if err == nil {
		err = r.checkDim("mask", len(fixed))
	}
	if err != nil {
		return Answer{}, asking(wire.KindCompensate, err)
	}
	mask := make([]T, len(fixed))
	for j, is := range fixed {
		if is {
			mask[j] = wire.MaskFixed
		}
	}
	return r.changeOf(wire.KindCompensate, whole(dst, c.result), vectors[T]{v: [][]T{delta, mask}, as: c.wire}, 2, c).ask(ctx)
}

// changeOf asks for one vector made of several.
func (r *Run) changeOf(kind string, out output, in input, sends int, c *call) *question {
	q := r.question(kind, 1, out, c)
	q.in, q.sends, q.req.Masked = in, sends, sends > 1
	return q
}

func checkChange[T Float](r *Run, dst, w []T) error {
	if err := r.checkDim("result", len(dst)); err != nil {
		return err
	}
	if err := r.checkDim("weights", len(w)); err != nil {
		return err
	}
	if overlap(dst, w) { // w may have to be sent again when part of dst is there
		return wire.Invalid("result", "in the weights' memory", "in its own")
	}
	return nil
}

func maskOf[T Float](mask []int8) []T {
	x := make([]T, len(mask))
	for j, m := range mask {
		x[j] = T(m)
	}
	return x
}
