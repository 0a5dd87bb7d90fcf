package wire

import (
	"cmp"
	"encoding/binary"
	"math"
	"sort"
)

// This file: queries for diagonal blocks of H in its place (maths.md, "Blocks").

// A Partition is how columns are cut into blocks: each of the tensors that begin at Starts, in order, into blocks of Size columns of
// which the last may have fewer. The last tensor ends at End.
type Partition struct {
	Starts []int64
	End    int64
	Size   int64
}

// At is the block [lo, hi) of a column in [Starts[0], End).
func (p Partition) At(col int64) (lo, hi int64) {
	i := sort.Search(len(p.Starts), func(i int) bool { return p.Starts[i] > col }) - 1
	first, end := p.Starts[i], p.End
	if i+1 < len(p.Starts) {
		end = p.Starts[i+1]
	}
	lo = first + (col-first)/p.Size*p.Size
	return lo, lo + min(p.Size, end-lo)
}

// Within is p as far as it says what the blocks of the columns [lo, hi) are.
func (p Partition) Within(lo, hi int64) Partition {
	first := sort.Search(len(p.Starts), func(i int) bool { return p.Starts[i] > lo }) - 1
	last := sort.Search(len(p.Starts), func(i int) bool { return p.Starts[i] >= hi })
	q := Partition{p.Starts[first:last], p.End, p.Size}
	if last < len(p.Starts) {
		q.End = p.Starts[last]
	}
	return q
}

// takesBlocks reports whether queries of a kind can be of blocks.
func takesBlocks(kind string) bool {
	switch kind {
	case KindVector, KindCombine, KindDiag, KindSubblock, KindPrune, KindScalars:
		return true
	}
	return false
}

// Partition is how a query of blocks cuts dim columns; the ends of its payload have been validated.
func (m *Query) Partition(dim int64) (Partition, error) {
	p := Partition{Starts: []int64{0}, End: dim, Size: m.Block}
	if m.Starts > 0 {
		p.Starts = Indices(m.Payload[len(m.Payload)-8*m.Starts:])
	}
	if last := p.Starts[len(p.Starts)-1]; last >= dim {
		return p, Invalid("start", last, "in [0, "+itoa(dim)+"), the run's columns")
	}
	return p, nil
}

// validateBlocks is Validate for queries of blocks.
func (m *Query) validateBlocks() error {
	if !takesBlocks(m.Kind) {
		return Invalid("block", m.Block, "left out of a query of kind "+m.Kind)
	}
	if m.Refine {
		return Invalid("refine", true, "left out of a query of blocks")
	}
	if m.Whole {
		return Invalid("whole", true, "left out of a query of blocks")
	}
	if err := cmp.Or(checkWithin("block", m.Block, 1, int64(MaxDim)), checkWithin("starts", m.Starts, 0, min(MaxTensors, len(m.Payload)/8))); err != nil {
		return err
	}
	at := len(m.Payload) - 8*m.Starts
	if err := checkStarts(m.Payload[at:]); err != nil {
		return err
	}
	if m.Starts > 0 && binary.LittleEndian.Uint64(m.Payload[at:]) != 0 {
		return Invalid("start", binary.LittleEndian.Uint64(m.Payload[at:]), "0, the first one")
	}
	rest := *m
	rest.Block, rest.Starts, rest.Payload = 0, 0, m.Payload[:at]
	return rest.Validate()
}

// checkStarts checks that columns grow.
func checkStarts(p []byte) error {
	last := int64(-1)
	for _, j := range Indices(p) {
		if j <= last || j > MaxDim {
			return Invalid("start", uint64(j), "above the one before, at most "+itoa(int64(MaxDim)))
		}
		last = j
	}
	return nil
}

// What a Blocks does.
const (
	BlocksBegin  = "begin"  // says what blocks there are
	BlocksWork   = "work"   // works out those that lie in the shard
	BlocksGram   = "gram"   // a part of A of some columns
	BlocksDots   = "dots"   // products of the vectors' columns with the rows
	BlocksFactor = "factor" // numbers of L
	BlocksFinish = "finish" // works out some columns by coefficients or by L
	BlocksResult = "result" // the result may be fetched

	BlocksElements = "elements" // elements of H_b⁻¹
	BlocksInner    = "inner"    // G_bᵀG_b
)

// MaxBlockElements is the most indices in one block of a sub-block: all their elements, and a bound, fit one message.
const MaxBlockElements = 353

// MaxInner is the most columns of a block whose G_bᵀG_b fits one message.
const MaxInner = 499

// What is worked out of blocks.
const (
	BlocksSolve   = "solve"   // H_b⁻¹v
	BlocksDiag    = "diag"    // the diagonal of H_b⁻¹
	BlocksCombine = "combine" // H_b⁻¹G_bᵀa
	BlocksJoint   = "joint"   // G_bᵀ(NλI + A_b)⁻¹ G x, of a prune

	BlocksResidual = "residual" // ‖H_bx − v‖² of what is worked out
)

// Blocks asks a shard for one part of a query of blocks: Do says which. One is asked for when the one before is answered. Reply: Numbers.
type Blocks struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Do      string  `msgpack:"do"`
	What    string  `msgpack:"what,omitempty"`    // begin, work, gram, dots, finish
	Vectors int     `msgpack:"vectors,omitempty"` // begin
	Damping float64 `msgpack:"damping,omitempty"` // begin
	N       int     `msgpack:"n,omitempty"`       // begin: of F = GᵀG/N
	Size    int64   `msgpack:"size,omitempty"`    // begin: of a block
	Rows    int     `msgpack:"rows,omitempty"`    // begin: slots at the payload's beginning
	Weights bool    `msgpack:"weights,omitempty"` // begin: their weights follow
	Lo      int64   `msgpack:"lo,omitempty"`      // gram, dots, finish, elements, inner: the columns [Lo, Hi); factor: the first number
	Hi      int64   `msgpack:"hi,omitempty"`
	I0      int     `msgpack:"i0,omitempty"` // gram
	I1      int     `msgpack:"i1,omitempty"` // gram
	Result  DType   `msgpack:"result,omitempty"`
	Payload []byte  `msgpack:"-"`
}

// Begun is what the payload of a begin says: the rows' slots, oldest first, their weights, nil where all are 1, and the blocks. It has been
// validated.
func (m *Blocks) Begun() (slots []Slot, weights []float64, p Partition) {
	slots, _ = SlotList(m.Payload[:4*m.Rows])
	rest := m.Payload[4*m.Rows:]
	if m.Weights {
		weights, rest = Floats(rest[:8*m.Rows]), rest[8*m.Rows:]
	}
	x := Indices(rest)
	return slots, weights, Partition{x[:len(x)-1], x[len(x)-1], m.Size}
}

// BeginPayload is the payload of a begin.
func BeginPayload(slots []Slot, weights []float64, p Partition) []byte {
	return AppendIndices(AppendIndices(AppendFloats(AppendSlots(nil, slots), weights), p.Starts), []int64{p.End})
}

// Validate implements Message.
func (m *Blocks) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	switch m.Do {
	case BlocksBegin:
		return m.validateBegin()
	case BlocksWork, BlocksDots, BlocksFinish:
		if err := checkWhat(m.What); m.What != BlocksResidual && err != nil {
			return err
		}
	case BlocksGram:
		if err := checkWhat(m.What); err != nil {
			return err
		}
		if m.I0 < 0 || m.I1 <= m.I0 || m.I1 > MaxWindow {
			return Invalid("rows", "["+itoa(m.I0)+", "+itoa(m.I1)+")", "within [0, "+itoa(MaxWindow)+") and not empty")
		}
		if err := checkWithin("numbers", triangle(m.I1)-triangle(m.I0), 1, MaxPayload/8); err != nil {
			return err
		}
	case BlocksFactor:
		if len(m.Payload)%8 != 0 {
			return Invalid("payload bytes", len(m.Payload), "a multiple of 8")
		}
		return cmp.Or(checkWithin("lo", m.Lo, 0, triangle(MaxWindow)), checkFinite("factor", m.Payload))
	case BlocksElements:
		if err := checkIndices(m.Payload, 1, MaxBlockElements); err != nil {
			return err
		}
		return checkColumns(m.Lo, m.Hi)
	case BlocksInner:
		return cmp.Or(checkColumns(m.Lo, m.Hi), checkWithin("columns", m.Hi-m.Lo, 1, MaxInner), checkLen(m.Payload, 0))
	case BlocksResult:
		return cmp.Or(CheckDType("result", m.Result), checkLen(m.Payload, 0))
	default:
		return Invalid("do", m.Do, "begin, work, gram, dots, factor, finish, result, elements or inner")
	}
	if m.Do != BlocksWork {
		if err := checkColumns(m.Lo, m.Hi); err != nil {
			return err
		}
	}
	if m.Do != BlocksFinish && (m.Do != BlocksWork || m.What != BlocksCombine && m.What != BlocksResidual) || m.What == BlocksDiag {
		return checkLen(m.Payload, 0)
	}
	if len(m.Payload)%8 != 0 {
		return Invalid("payload bytes", len(m.Payload), "a multiple of 8")
	}
	return checkFinite("coefficients", m.Payload)
}

func checkColumns(lo, hi int64) error {
	if lo < 0 || hi <= lo || hi > MaxDim {
		return Invalid("columns", "["+itoa(lo)+", "+itoa(hi)+")", "not empty, at least 0")
	}
	return nil
}

func checkWhat(what string) error {
	switch what {
	case BlocksSolve, BlocksCombine, BlocksDiag, BlocksJoint:
	default:
		return Invalid("what", cmp.Or(what, "missing"), "solve, combine, diag, joint or, but of a gram, residual")
	}
	return nil
}

// rowBytes is what a begin says of each row.
func (m *Blocks) rowBytes() int {
	if m.Weights {
		return 4 + 8
	}
	return 4
}

func (m *Blocks) validateBegin() error {
	if m.What != BlocksSolve && m.What != BlocksCombine && m.What != BlocksDiag {
		return Invalid("what", cmp.Or(m.What, "missing"), "solve, combine or diag")
	}
	if err := cmp.Or(
		checkWithin("vectors", m.Vectors, 0, MaxVectors),
		CheckDamping("damping", m.Damping),
		checkWithin("n", m.N, 1, MaxWindow),
		CheckDampingOf("damping", m.Damping, m.N),
		checkWithin("size", m.Size, 1, int64(MaxDim)),
		checkWithin("rows", m.Rows, 0, min(MaxWindow, len(m.Payload)/m.rowBytes())),
	); err != nil {
		return err
	}
	starts := m.Payload[m.rowBytes()*m.Rows:]
	for _, w := range Floats(m.Payload[4*m.Rows : len(m.Payload)-len(starts)]) {
		if !(w > 0) || math.IsInf(w, 1) {
			return Invalid("weight", w, "> 0 and finite")
		}
	}
	if n := len(starts); n%8 != 0 || n < 16 || n > 8*(MaxTensors+1) {
		return Invalid("payload bytes", len(m.Payload), "of slots, and of 2 to "+itoa(MaxTensors+1)+" columns")
	}
	return cmp.Or(checkSlotted(m.Payload[:4*m.Rows], 4), checkStarts(starts))
}

// Type implements Message.
func (*Blocks) Type() string { return OpBlocks }

// Body implements Bulk.
func (m *Blocks) Body() *[]byte { return &m.Payload }

var _ = register(func() Message { return new(Blocks) })
