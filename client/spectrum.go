package client

import (
	"context"
	"fmt"

	"mfac/wire"
)

// This file: numbers of the spectrum, which the coordinator has from A = GGᵀ alone. docs/queries.md says
// what they are good for.

// Estimate is a number with a bound of its error: it is within Error of what the stored gradients give
// without rounding.
type Estimate struct {
	Value float64 `json:"value"`
	Error float64 `json:"error"`
}

// Scalars is what Run.Scalars answers. F = GᵀG/N.
type Scalars struct {
	Version   wire.Version `json:"version"`
	Rows      int          `json:"rows"`      // gradients in the window
	N         float64      `json:"n"`         // the divisor: the window's capacity or its rows
	Trace     Estimate     `json:"trace"`     // tr F
	Frobenius Estimate     `json:"frobenius"` // ‖F‖ in the Frobenius norm
	Spectral  Estimate     `json:"spectral"`  // ‖F‖₂, the largest eigenvalue of F
	At        []ScalarsAt  `json:"at"`        // one a damping, in the order of the call
}

// ScalarsAt is the numbers at one λ, of H = F + λI and K = GGᵀ + NλI.
type ScalarsAt struct {
	Damping      float64  `json:"damping"`       // λ
	LogDet       Estimate `json:"log_det"`       // log det H
	TraceInverse Estimate `json:"trace_inverse"` // tr H⁻¹
	EffectiveDim Estimate `json:"effective_dim"` // tr FH⁻¹: how many directions λ leaves alone
	Largest      Estimate `json:"largest"`       // eigenvalue of H
	Smallest     Estimate `json:"smallest"`      // eigenvalue of H: λ where there are fewer rows than parameters
	CondH        Estimate `json:"cond_h"`
	CondK        Estimate `json:"cond_k"`
}

// Spectrum is what Run.Spectrum answers.
type Spectrum struct {
	Version     wire.Version
	Rows        int
	Eigenvalues []float64 // of F: the min(rows, d) largest, the largest first; the others of F's d are 0
	Error       float64   // each is within Error of the exact one
}

// MaxDampings is the most dampings in one Scalars.
const MaxDampings = wire.MaxDampings

// Scalars works out log det H, tr H⁻¹, the effective dimension, norms and extreme eigenvalues, at
// each λ of dampings, 1 to MaxDampings of them, or at the run's for nil (maths.md, "Scalars alone"). No worker
// takes part. The coordinator needs O(m³) for a version that it has not been asked about, seconds at m
// above 2048, and O(m) for each λ; publishing goes on meanwhile. Options: a WindowOption, WithDivisor,
// WithMinRows. An error is wire.CodeInvalid, or wire.CodeOverflow where a number is too large for a float64.
func (r *Run) Scalars(ctx context.Context, dampings []float64, opts ...QueryOption) (Scalars, error) {
	c, dampings, err := r.scalarsCall(dampings, opts)
	if err == nil && c.blocks != nil {
		err = wire.Invalid("blocks", "given", "left out: BlockScalars takes them")
	}
	if err != nil {
		return Scalars{}, asking(wire.KindScalars, err)
	}
	if c.inRun(r) != nil {
		list, err := r.blockScalars(ctx, dampings, c)
		if err != nil {
			return Scalars{}, err
		}
		all := SumBlocks(list)
		for k := range all.At {
			all.At[k].Damping = dampings[k]
		}
		return all, nil
	}
	q := r.numbers(wire.KindScalars, 1, nil, c)
	q.req.Payload = wire.AppendFloats(nil, dampings)
	a, err := q.ask(ctx)
	if err == nil {
		err = checkValues(len(q.values), wire.ScalarsHead+wire.ScalarsEach*len(dampings))
	}
	if err != nil {
		return Scalars{}, err
	}
	return scalarsOf(a, q.values, dampings), nil
}

// scalarsCall is for queries for scalars at these dampings, or at the run's.
func (r *Run) scalarsCall(dampings []float64, opts []QueryOption) (*call, []float64, error) {
	c, err := spectrumCall(opts)
	if dampings == nil {
		dampings = []float64{r.Spec().Damping}
	}
	if n := len(dampings); err == nil && (n < 1 || n > MaxDampings) {
		err = wire.Invalid("dampings", n, fmt.Sprintf("in [1, %d]", MaxDampings))
	}
	for _, lambda := range dampings {
		if err == nil {
			err = wire.CheckDampingOf("damping", lambda, r.Spec().Window)
		}
	}
	return c, dampings, err
}

// scalarsOf reads the numbers of a scalars query.
func scalarsOf(a Answer, values, dampings []float64) Scalars {
	s := Scalars{Version: a.Version, Rows: a.Rows, N: values[0]}
	rest := values[1:]
	next := func() Estimate {
		e := Estimate{rest[0], rest[1]}
		rest = rest[2:]
		return e
	}
	s.Trace, s.Frobenius, s.Spectral = next(), next(), next()
	for _, lambda := range dampings {
		s.At = append(s.At, ScalarsAt{
			Damping: lambda, LogDet: next(), TraceInverse: next(), EffectiveDim: next(),
			Largest: next(), Smallest: next(), CondH: next(), CondK: next(),
		})
	}
	return s
}

// Spectrum works out the eigenvalues of F = GᵀG/N; those of H are λ more. Cost, options and errors are
// those of Scalars.
func (r *Run) Spectrum(ctx context.Context, opts ...QueryOption) (Spectrum, error) {
	c, err := spectrumCall(opts)
	if err != nil {
		return Spectrum{}, asking(wire.KindSpectrum, err)
	}
	q := r.numbers(wire.KindSpectrum, 1, nil, c)
	a, err := q.ask(ctx)
	if err == nil {
		err = checkValues(len(q.values), 1+int(min(int64(a.Rows), r.spec.Dim)))
	}
	if err != nil {
		return Spectrum{}, err
	}
	return Spectrum{Version: a.Version, Rows: a.Rows, Error: q.values[0], Eigenvalues: q.values[1:]}, nil
}

// spectrumCall is for queries that send and fetch no numbers of a dtype of their own.
func spectrumCall(opts []QueryOption) (*call, error) {
	c, err := collect(opts, QueryOption.query)
	switch {
	case err != nil:
		return nil, err
	case c.damping != 0:
		return nil, wire.Invalid("damping", c.damping, "left out: dampings are an argument")
	case c.wire != "":
		return nil, wire.Invalid("wire", c.wire, "left out: no vectors are sent")
	case c.result != "":
		return nil, wire.Invalid("result", c.result, "left out: the numbers are float64")
	}
	return c, c.suits(wire.KindSpectrum)
}

func checkValues(got, want int) error {
	if got != want {
		return wire.Errorf(wire.CodeMalformed, "numbers of the answer", got, fmt.Sprint(want))
	}
	return nil
}
