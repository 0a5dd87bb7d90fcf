package wire

import (
	"cmp"
	"math"

	"mfac/internal/selection"
)

// This file: pruning, and prescribed changes of weights (maths.md, "Pruning").

// Kinds of query.
const (
	KindPrune      = "prune"      // weights of which some are set to 0, the others adapted
	KindCompensate = "compensate" // the best change of the other weights, some being changed as prescribed
)

// Rules of a prune query.
const (
	RuleSummed = "summed" // w − H⁻¹t, t_i = w_i/[H⁻¹]_ii
	RuleJoint  = "joint"  // w + Gᵀ(NλI + A)⁻¹ G_S w_S, of the kept columns
)

// Numbers of a mask. For compensate, MaskFixed says that the weight changes as prescribed.
const (
	MaskFree   = 0
	MaskFixed  = 1  // not to be touched
	MaskPruned = -1 // pruned already: ends as 0
)

// What a Prune does. Vectors and mask have come by then (Prepare).
const (
	PruneBegin  = "begin"  // look at the mask
	PruneGram   = "gram"   // a part of A of the free columns
	PruneScore  = "score"  // work out the diagonal of H⁻¹, by the query's Factor
	PruneCount  = "count"  // count scores by some bits of their keys
	PruneGroup  = "group"  // take a pattern's groups, and tell the scores of those that other shards share
	PruneChoose = "choose" // prune the smallest
	PruneDots   = "dots"   // products of what Choose left with the rows
	PruneResult = "result" // the result may be fetched
)

// Prune asks a shard for one part of a prune or compensate query, which Prepare has made; Do says
// which. One is asked for when the one before is answered. Reply: Numbers.
type Prune struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Do      string  `msgpack:"do"`
	Kind    string  `msgpack:"kind,omitempty"`   // begin
	Rule    string  `msgpack:"rule,omitempty"`   // choose
	I0      int     `msgpack:"i0,omitempty"`     // gram; score: the part, of I1 ones; all with I1 = 0
	I1      int     `msgpack:"i1,omitempty"`     // gram, score
	Key     uint64  `msgpack:"key,omitempty"`    // count, choose
	Known   int     `msgpack:"known,omitempty"`  // count: bits of Key
	Ties    int64   `msgpack:"ties,omitempty"`   // choose
	Keep    int     `msgpack:"keep,omitempty"`   // group, choose: of a pattern
	Of      int     `msgpack:"of,omitempty"`     // group, choose
	Result  DType   `msgpack:"result,omitempty"` // result
	Mask    []byte  `msgpack:"mask,omitempty"`   // dots, result
	Payload []byte  `msgpack:"-"`
}

// Slots is the rows of a gram. They have been validated.
func (m *Prune) Slots() []Slot {
	list, _ := SlotList(m.Payload)
	return list
}

// validatePrune is Validate for the kinds of this file.
func (m *Query) validatePrune() error {
	if m.Vectors != 1 {
		return Invalid("vectors", m.Vectors, "1")
	}
	if err := CheckDType("dtype", m.DType); err != nil {
		return err
	}
	if m.Pattern().IsZero() {
		if err := checkLen(m.Payload, 0); err != nil {
			return err
		}
	}
	if m.Kind == KindCompensate {
		if !m.Masked {
			return Invalid("masked", m.Masked, "true: a mask says what is prescribed")
		}
		return nil
	}
	return CheckRule(m.Rule)
}

// Pattern is the query's pattern, zero where there is none.
func (m *Query) Pattern() Pattern { return Pattern{m.Keep, m.Of} }

// checkPattern checks the pattern and its strips.
func (m *Query) checkPattern() error {
	if m.Pattern().IsZero() {
		return nil
	}
	if m.Kind != KindPrune {
		return Invalid("pattern", m.Pattern(), "left out but for prune")
	}
	if m.Sparsity != 0 {
		return Invalid("sparsity", m.Sparsity, "0 with a pattern, which says how many are pruned")
	}
	return cmp.Or(m.Pattern().Validate(), checkStrips(m.Payload, true))
}

func checkRuleOrNone(rule string) error {
	if rule == "" {
		return nil
	}
	return CheckRule(rule)
}

// CheckSparsity checks the part of the weights that is to be 0.
func CheckSparsity(s float64) error {
	if !(s >= 0 && s < 1) { // NaN fails this
		return Invalid("sparsity", s, "in [0, 1)")
	}
	return nil
}

// CheckRule checks a rule of pruning.
func CheckRule(rule string) error {
	if rule != RuleSummed && rule != RuleJoint {
		return Invalid("rule", cmp.Or(rule, "missing"), "summed or joint")
	}
	return nil
}

// MaxScoreParts is the most parts in which scores are worked out.
const MaxScoreParts = 1000

// Validate implements Message.
func (m *Prune) Validate() error {
	if err := cmp.Or(m.Shard.Validate(), checkMask(m.Mask)); err != nil {
		return err
	}
	switch m.Do {
	case PruneBegin:
		if m.Kind != KindPrune && m.Kind != KindCompensate {
			return Invalid("kind", m.Kind, "prune or compensate")
		}
	case PruneDots:
	case PruneScore:
		if m.I1 < 0 || m.I1 > MaxScoreParts || m.I0 < 0 || m.I0 >= max(m.I1, 1) {
			return Invalid("part", itoa(m.I0)+" of "+itoa(m.I1), "below the number of parts, at most "+itoa(MaxScoreParts))
		}
	case PruneGroup:
		return cmp.Or(Pattern{m.Keep, m.Of}.Validate(), checkStrips(m.Payload, false))
	case PruneGram:
		if err := checkSlotted(m.Payload, 4); err != nil {
			return err
		}
		if n := len(m.Payload) / 4; m.I0 < 0 || m.I1 <= m.I0 || m.I1 > n {
			return Invalid("rows", "["+itoa(m.I0)+", "+itoa(m.I1)+")", "within [0, "+itoa(n)+") and not empty")
		}
		return checkWithin("numbers", triangle(m.I1)-triangle(m.I0), 1, MaxPayload/8)
	case PruneCount:
		if err := selection.CheckPrefix(m.Key, m.Known); err != nil {
			return Invalid("key", m.Key, err.Error())
		}
	case PruneChoose:
		if err := cmp.Or(CheckRule(m.Rule), checkWithin("ties", m.Ties, 0, MaxDim)); err != nil {
			return err
		}
		if m.Of != 0 || m.Keep != 0 {
			return cmp.Or(Pattern{m.Keep, m.Of}.Validate(), checkIndices(m.Payload, 0, 2*selection.MaxOf))
		}
	case PruneResult:
		return cmp.Or(CheckDType("result", m.Result), checkCoef(m.Payload, 1))
	default:
		return Invalid("do", m.Do, "begin, gram, score, count, group, choose, dots or result")
	}
	return checkLen(m.Payload, 0)
}

// Zeros is ⌊sparsity·d⌋, how many of d weights are 0 in the end, of the decimal that a sparsity below 1
// was written as: 29 for 0.29 of 100, though the float64 product is 28.999999999999996.
func Zeros(sparsity float64, d int64) int64 {
	x := sparsity * float64(d)
	n := math.Floor(x)
	if n+1-x <= 0x1p-51*x { // what rounding both can have taken
		n++
	}
	return min(int64(n), d-1)
}

// Type implements Message.
func (*Prune) Type() string { return OpPrune }

// Body implements Bulk.
func (m *Prune) Body() *[]byte { return &m.Payload }

var _ = register(func() Message { return new(Prune) })
