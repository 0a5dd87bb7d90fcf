package wire

import (
	"cmp"
	"encoding/binary"
)

// This file: queries for scores, pairs and influence, whose answers are numbers (Values).

// Kinds of query whose answers are numbers.
const (
	KindScores    = "scores"    // G H⁻¹v: every stored gradient against vectors that the client sends
	KindPairs     = "pairs"     // uᵀH⁻¹v for pairs of vectors that the client sends
	KindInfluence = "influence" // G H⁻¹Gᵀ: the stored gradients against each other
	KindSelf      = "self"      // gᵀH⁻¹g of each stored gradient, and the same with it left out of H
)

// SelfNumbers is how many numbers of KindSelf a row has.
const SelfNumbers = 4

// MaxPairs is the most pairs of one query.
const MaxPairs = 4096

// Pair names two of a query's vectors.
type Pair struct{ U, V uint32 }

const pairBytes = 4 + 4

// AppendPairs appends pairs as a payload: two uint32 each.
func AppendPairs(p []byte, pairs []Pair) []byte {
	for _, r := range pairs {
		p = binary.LittleEndian.AppendUint32(p, r.U)
		p = binary.LittleEndian.AppendUint32(p, r.V)
	}
	return p
}

// PairList reads what AppendPairs wrote. The length has been validated.
func PairList(p []byte) []Pair {
	pairs := make([]Pair, len(p)/pairBytes)
	for i := range pairs {
		q := p[i*pairBytes:]
		pairs[i] = Pair{binary.LittleEndian.Uint32(q), binary.LittleEndian.Uint32(q[4:])}
	}
	return pairs
}

// checkPairs checks a payload of pairs of so many vectors.
func checkPairs(p []byte, vectors int) error {
	if len(p)%pairBytes != 0 || len(p) == 0 || len(p) > MaxPairs*pairBytes {
		return Invalid("payload bytes", len(p), "a multiple of 8, for 1 to "+itoa(MaxPairs)+" pairs")
	}
	for _, r := range PairList(p) {
		if i := max(r.U, r.V); int64(i) >= int64(vectors) {
			return Invalid("pair", i, "below the query's "+itoa(vectors)+" vectors")
		}
	}
	return nil
}

// checkScalars checks a query of the kinds above.
func (m *Query) checkScalars() error {
	switch m.Kind {
	case KindScores:
		return cmp.Or(CheckDType("dtype", m.DType), checkResult64(m.Result), checkLen(m.Payload, 0))
	case KindPairs:
		return cmp.Or(CheckDType("dtype", m.DType), checkResult64(m.Result), checkPairs(m.Payload, m.Vectors))
	}
	if m.Vectors != 1 {
		return Invalid("vectors", m.Vectors, "1 for "+m.Kind)
	}
	return cmp.Or(checkResult64(m.Result), checkLen(m.Payload, 0))
}

// DotVectors asks for the shard's part of uᵀv for pairs of a query's vectors, which are whole. Payload:
// the pairs. Reply: Numbers, one a pair.
type DotVectors struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Payload []byte  `msgpack:"-"`
}

// Validate implements Message. Whoever has the query checks the pairs against its vectors.
func (m *DotVectors) Validate() error {
	return cmp.Or(m.Shard.Validate(), checkPairs(m.Payload, MaxVectors))
}

// Type implements Message.
func (*DotVectors) Type() string { return OpPairs }

// Body implements Bulk.
func (m *DotVectors) Body() *[]byte { return &m.Payload }

var _ = register(func() Message { return new(DotVectors) })
