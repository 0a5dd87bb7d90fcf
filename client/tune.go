package client

import (
	"context"
	"fmt"
	"math"
	"slices"

	"mfac/wire"
)

// This file: H^(−½)v; likelihoods of gradients under N(0, H), and λ chosen by them. docs/functions.md and
// docs/damping.md say what for.

// InvSqrt sets dst = H^(−½)v, the symmetric root: applied twice it is H⁻¹v, and H^(−½)z for a standard normal z is a
// sample from N(0, H⁻¹). Both have the run's dim numbers and must not overlap. Float64, rounded once; two passes over the window. The
// coordinator needs O(m³) for a version that it has not been asked about, seconds at m above 2048, and O(m²) for each vector; publishing goes on
// meanwhile, and WithProgress hears how far that is. The answer's bound is of the relative error in the 2-norm. wire.CodeIllConditioned where it is
// above wire.MaxErrorRate, or Nλ lost among the rounding errors of GGᵀ. Formula: docs/functions.md.
func (r *Run) InvSqrt(ctx context.Context, dst, v []float32, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindInvSqrt, [][]float32{dst}, [][]float32{v}, opts)
}

// InvSqrt64 is InvSqrt in float64.
func (r *Run) InvSqrt64(ctx context.Context, dst, v []float64, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindInvSqrt, [][]float64{dst}, [][]float64{v}, opts)
}

// InvSqrts is InvSqrt for at most MaxVectors vectors at once, for the price of two passes whatever their number.
func (r *Run) InvSqrts(ctx context.Context, dst, v [][]float32, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindInvSqrt, dst, v, opts)
}

// InvSqrts64 is InvSqrts in float64.
func (r *Run) InvSqrts64(ctx context.Context, dst, v [][]float64, opts ...QueryOption) (Answer, error) {
	return products(ctx, r, wire.KindInvSqrt, dst, v, opts)
}

// InvSqrtFrom is InvSqrt of a vector that is read in pieces, the result written in pieces.
func (r *Run) InvSqrtFrom(ctx context.Context, sink Sink[float32], src Source[float32], opts ...QueryOption) (Answer, error) {
	return productFrom(ctx, r, wire.KindInvSqrt, sink, src, opts)
}

// InvSqrtFrom64 is InvSqrtFrom in float64.
func (r *Run) InvSqrtFrom64(ctx context.Context, sink Sink[float64], src Source[float64], opts ...QueryOption) (Answer, error) {
	return productFrom(ctx, r, wire.KindInvSqrt, sink, src, opts)
}

// MaxTuned is the most dampings in one call for likelihoods.
const MaxTuned = wire.MaxTuned

// Likelihoods is log N(h; 0, H) = −½(d log 2π + log det H + hᵀH⁻¹h) of gradients h, in nats, at many λ.
type Likelihoods struct {
	Version  wire.Version
	Rows     int         // gradients in the window
	Dampings []float64   // λ
	Steps    []wire.Step // of the window's gradients, oldest first, where each is left out; nil where others were given
	Values   [][]float64 // for each λ, of each gradient
	Bounds   [][]float64 // of the error of each, absolute
}

// Likelihoods answers how likely vectors h, at most MaxVectors, are under N(0, H) at each λ of dampings, 1 to MaxTuned, or at the
// run's for nil: one pass over the window for all λ together, float64. The coordinator needs what InvSqrt needs, and O(m) for each λ and vector.
// Options: a WindowOption, WithDivisor, WithMinRows, WithWire, WithProgress. wire.CodeIllConditioned where a λ is so small that Nλ is lost
// among the rounding errors of GGᵀ.
func (r *Run) Likelihoods(ctx context.Context, dampings []float64, h [][]float32, opts ...QueryOption) (Likelihoods, error) {
	return likelihoods(ctx, r, dampings, h, opts)
}

// Likelihoods64 is Likelihoods of float64 vectors.
func (r *Run) Likelihoods64(ctx context.Context, dampings []float64, h [][]float64, opts ...QueryOption) (Likelihoods, error) {
	return likelihoods(ctx, r, dampings, h, opts)
}

func likelihoods[T Float](ctx context.Context, r *Run, dampings []float64, h [][]T, opts []QueryOption) (Likelihoods, error) {
	in, c, err := numbersOf(r, h, opts)
	if err != nil {
		return Likelihoods{}, asking(wire.KindLikelihood, err)
	}
	return r.likelihoods(ctx, wire.KindLikelihood, dampings, in, len(h), c)
}

// LikelihoodsFrom is Likelihoods of a vector that is read in pieces.
func (r *Run) LikelihoodsFrom(ctx context.Context, dampings []float64, src Source[float32], opts ...QueryOption) (Likelihoods, error) {
	return likelihoodsFrom(ctx, r, dampings, src, opts)
}

// LikelihoodsFrom64 is LikelihoodsFrom in float64.
func (r *Run) LikelihoodsFrom64(ctx context.Context, dampings []float64, src Source[float64], opts ...QueryOption) (Likelihoods, error) {
	return likelihoodsFrom(ctx, r, dampings, src, opts)
}

func likelihoodsFrom[T Float](ctx context.Context, r *Run, dampings []float64, src Source[T], opts []QueryOption) (Likelihoods, error) {
	c, err := numbersCall[T](opts)
	if err != nil {
		return Likelihoods{}, asking(wire.KindLikelihood, err)
	}
	return r.likelihoods(ctx, wire.KindLikelihood, dampings, &stream[T]{src: src, as: c.wire}, 1, c)
}

// LeaveOneOut answers how likely each gradient g of the window is under N(0, H − w ggᵀ/N), H without it and its weight, N as it is: from
// what the coordinator has, no pass over the window. It needs O(m³) there, twice as much as InvSqrt, and O(m²) for each λ. Options and errors
// are those of Likelihoods, but for WithWire; wire.CodeTooFewRows where the window is empty.
func (r *Run) LeaveOneOut(ctx context.Context, dampings []float64, opts ...QueryOption) (Likelihoods, error) {
	c, err := numbersCall[float64](opts)
	if err == nil && c.wire != "" {
		err = wire.Invalid("wire", c.wire, "left out: no vectors are sent")
	}
	if err != nil {
		return Likelihoods{}, asking(wire.KindLeaveOut, err)
	}
	return r.likelihoods(ctx, wire.KindLeaveOut, dampings, nil, 1, c)
}

func (r *Run) likelihoods(ctx context.Context, kind string, dampings []float64, in input, k int, c *call) (Likelihoods, error) {
	if dampings == nil {
		dampings = []float64{r.spec.Damping}
	}
	var err error
	if c.damping != 0 {
		err = wire.Invalid("damping", c.damping, "left out: dampings are an argument")
	}
	if n := len(dampings); err == nil && (n < 1 || n > MaxTuned) {
		err = wire.Invalid("dampings", n, fmt.Sprintf("in [1, %d]", MaxTuned))
	}
	for _, lambda := range dampings {
		if err == nil {
			err = wire.CheckDampingOf("damping", lambda, r.spec.Window)
		}
	}
	if err != nil {
		return Likelihoods{}, asking(kind, err)
	}
	q := r.numbers(kind, k, in, c)
	q.req.Payload = wire.AppendFloats(nil, dampings)
	q.byRow = kind == wire.KindLeaveOut
	a, err := q.ask(ctx)
	if kind == wire.KindLeaveOut {
		k = a.Rows
	}
	if err == nil {
		err = q.counted(wire.LikelihoodNumbers * k * len(dampings))
	}
	if err != nil {
		return Likelihoods{}, err
	}
	out := Likelihoods{Version: a.Version, Rows: a.Rows, Dampings: slices.Clone(dampings), Steps: q.steps}
	for _, line := range split(q.values, len(dampings), wire.LikelihoodNumbers*k) {
		values, bounds := make([]float64, k), make([]float64, k)
		for i := range k {
			values[i], bounds[i] = line[2*i], line[2*i+1]
		}
		out.Values, out.Bounds = append(out.Values, values), append(out.Bounds, bounds)
	}
	return out, nil
}

// Append adds the likelihoods of more gradients, at the same dampings and version.
func (l *Likelihoods) Append(more Likelihoods) error {
	if len(l.Dampings) == 0 {
		*l = more
		return nil
	}
	switch {
	case l.Version != more.Version:
		return wire.Invalid("version", uint64(more.Version), fmt.Sprint(uint64(l.Version)))
	case !slices.Equal(l.Dampings, more.Dampings):
		return wire.Invalid("dampings", fmt.Sprint(more.Dampings), fmt.Sprint(l.Dampings))
	}
	for i := range l.Values {
		l.Values[i] = append(l.Values[i], more.Values[i]...)
		l.Bounds[i] = append(l.Bounds[i], more.Bounds[i]...)
	}
	l.Steps = append(l.Steps, more.Steps...)
	return nil
}

// Tuning ranks dampings by the mean likelihood of gradients.
type Tuning struct {
	Version   wire.Version `json:"version"`
	Rows      int          `json:"rows"`      // gradients in the window
	Gradients int          `json:"gradients"` // whose likelihood it is
	LeftOut   bool         `json:"left_out"`  // the window's own, each left out of H
	Best      int          `json:"best"`      // index in At
	At        []TunedAt    `json:"at"`        // in the order of the dampings
}

// TunedAt is how well H predicts gradients at one λ: log N(h; 0, H) in nats.
type TunedAt struct {
	Damping    float64 `json:"damping"`      // λ
	Mean       float64 `json:"mean"`         // over the gradients
	StdErr     float64 `json:"std_err"`      // of the mean
	Below      float64 `json:"below"`        // by how much it is below the best one's
	BelowError float64 `json:"below_stderr"` // the standard error of that, gradient by gradient
	Bound      float64 `json:"bound"`        // what rounding may have done to the mean
}

// Rank ranks the dampings by the mean over at least two gradients; the larger of two that are equal is the better. The differences from
// the best are taken gradient by gradient, so that what all λ find hard does not count.
func (l *Likelihoods) Rank() (Tuning, error) {
	t := Tuning{Version: l.Version, Rows: l.Rows, LeftOut: l.Steps != nil}
	for i, x := range l.Values {
		t.Gradients = len(x)
		if len(x) < 2 {
			return Tuning{}, wire.Invalid("gradients", len(x), "at least 2, for a standard error")
		}
		at := TunedAt{Damping: l.Dampings[i]}
		at.Mean, at.StdErr = meanOf(x)
		for _, b := range l.Bounds[i] {
			at.Bound += b / float64(len(x))
		}
		t.At = append(t.At, at)
		best := t.At[t.Best]
		if at.Mean > best.Mean || at.Mean == best.Mean && at.Damping > best.Damping {
			t.Best = i
		}
	}
	for i := range t.At {
		less := make([]float64, t.Gradients)
		for k := range less {
			less[k] = l.Values[t.Best][k] - l.Values[i][k]
		}
		t.At[i].Below, t.At[i].BelowError = meanOf(less)
	}
	return t, nil
}

// meanOf is a mean and its standard error.
func meanOf(x []float64) (mean, stdErr float64) {
	n := float64(len(x))
	for _, v := range x {
		mean += v / n
	}
	sum := 0.0
	for _, v := range x {
		sum += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(sum / (n - 1) / n)
}

// Tune ranks dampings by how well H predicts gradients that are not in it: the held-out ones of h, any number from two on, or, for
// none, those of the window, each left out. The criterion is the mean of log N(h; 0, H) (docs/damping.md, with its source and where it
// fails). Options and errors are those of Likelihoods and LeaveOneOut. All is answered from one version.
func (r *Run) Tune(ctx context.Context, dampings []float64, h [][]float32, opts ...QueryOption) (Tuning, error) {
	return tune(ctx, r, dampings, h, opts)
}

// Tune64 is Tune for float64 vectors.
func (r *Run) Tune64(ctx context.Context, dampings []float64, h [][]float64, opts ...QueryOption) (Tuning, error) {
	return tune(ctx, r, dampings, h, opts)
}

func tune[T Float](ctx context.Context, r *Run, dampings []float64, h [][]T, opts []QueryOption) (Tuning, error) {
	if len(h) == 0 {
		l, err := r.LeaveOneOut(ctx, dampings, opts...)
		if err != nil {
			return Tuning{}, err
		}
		return l.Rank()
	}
	var all Likelihoods
	for part := range slices.Chunk(h, r.MaxVectors()) {
		now := opts
		if all.Version > 0 {
			now = append(opts[:len(opts):len(opts)], WithExactly(all.Version))
		}
		l, err := likelihoods(ctx, r, dampings, part, now)
		if err == nil {
			err = all.Append(l)
		}
		if err != nil {
			return Tuning{}, err
		}
	}
	return all.Rank()
}
