package wire

import "cmp"

// This file: functions of H beside its inverse, samples, and residuals.

// MaxSamples is the most samples of one seed.
const MaxSamples = 1 << 32

// Sent reports whether the client sends the vectors of a query of that kind.
func Sent(kind string) bool {
	switch kind {
	case KindVector, KindFisher, KindHessian, KindPrune, KindCompensate, KindScores, KindPairs, KindInvSqrt, KindLikelihood:
		return true
	}
	return false
}

// Prepared reports whether a query of that kind multiplies vectors with the rows before it has its
// coefficients: Prepare makes it on the shards, with that kind. Others that send vectors are vector queries there.
func Prepared(kind string) bool {
	return kind == KindVector || kind == KindFisher || kind == KindHessian || kind == KindSample
}

// checkFunction checks what only some kinds of query have.
func (m *Query) checkFunction() error {
	if m.Kind != KindVector && m.Kind != KindCombine {
		if m.Verify {
			return Invalid("verify", m.Verify, "false but for vector and combine")
		}
		if m.Refine {
			return Invalid("refine", m.Refine, "false but for vector and combine")
		}
	}
	if m.Kind == KindSample {
		return checkSamples(m.First, m.Vectors)
	}
	return checkUnseeded(m.Seed, m.First)
}

// checkSamples checks that samples first, first+1, … are numbers that a seed has.
func checkSamples(first int64, vectors int) error {
	return checkWithin("first", first, 0, MaxSamples-int64(vectors))
}

func checkUnseeded(seed uint64, first int64) error {
	if seed != 0 {
		return Invalid("seed", seed, "0 but for samples")
	}
	if first != 0 {
		return Invalid("first", first, "0 but for samples")
	}
	return nil
}

// Apply asks for the shard's part of G x, x being the answers of a query that has its coefficients.
// Damping is λ. Reply: Numbers, Vectors × Slots products and then Vectors squared norms ‖x‖².
type Apply struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Damping float64 `msgpack:"damping"`
}

// Residual asks for the shard's part of ‖λx + Gᵀw − v‖², λ being Damping and x the answers of a
// query that has its coefficients: for a vector query v is what the client sent, for a combination 0.
// Payload: w, Vectors × Slots × float64. Reply: Numbers, one a vector.
type Residual struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Vectors int     `msgpack:"vectors"`
	Damping float64 `msgpack:"damping"`
	Payload []byte  `msgpack:"-"`
}

// Refine changes the answers of a query, for the vectors whose bit is set in Which (the lowest is the
// first vector's), to x + Gᵀe, x being what Coef made them; for a vector query v − Gᵀc is then worked out
// with twice the digits. The others are again Coef's. Payload: e, Vectors × Slots × float64. A Round that
// is not above the last one changes nothing. Reply: OK.
type Refine struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Vectors int     `msgpack:"vectors"`
	Round   int     `msgpack:"round"`
	Which   uint64  `msgpack:"which"`
	Payload []byte  `msgpack:"-"`
}

// maxRounds is the most times that the answers of a query change.
const maxRounds = 16

// Type implements Message.
func (*Apply) Type() string    { return OpApply }
func (*Residual) Type() string { return OpResidual }
func (*Refine) Type() string   { return OpRefine }

// Body implements Bulk.
func (m *Residual) Body() *[]byte { return &m.Payload }
func (m *Refine) Body() *[]byte   { return &m.Payload }

// Validate implements Message.
func (m *Apply) Validate() error {
	return cmp.Or(m.Shard.Validate(), CheckDamping("damping", m.Damping))
}

// Validate implements Message.
func (m *Residual) Validate() error {
	return cmp.Or(m.Shard.Validate(), CheckDamping("damping", m.Damping), checkVectors(m.Vectors, m.Payload))
}

// Validate implements Message.
func (m *Refine) Validate() error {
	return cmp.Or(m.Shard.Validate(), checkWithin("round", m.Round, 1, maxRounds), checkVectors(m.Vectors, m.Payload))
}

func checkVectors(vectors int, coef []byte) error {
	if err := checkWithin("vectors", vectors, 1, MaxVectors); err != nil {
		return err
	}
	return checkCoef(coef, vectors)
}

var (
	_ = register(func() Message { return new(Apply) })
	_ = register(func() Message { return new(Residual) })
	_ = register(func() Message { return new(Refine) })
)
