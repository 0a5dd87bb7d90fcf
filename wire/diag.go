package wire

import "cmp"

// This file: diagonal, columns and sub-blocks of H⁻¹.

// Kinds of query.
const (
	KindDiag     = "diag"     // the diagonal of H⁻¹
	KindColumn   = "column"   // columns of H⁻¹
	KindSubblock = "subblock" // [H⁻¹]_QQ for some indices Q: numbers
)

// Factor gives a diagonal query numbers [Lo, Lo+N) of L, the lower triangle row by row (L_00, L_10,
// L_11, …), for the results (1 − ‖w_j‖²)/Damping with W = L⁻¹G. Payload: Rows × uint32, the slots of
// the rows in L's order, the same in each piece; then N × float64. Pieces come in any order; the first
// one makes the query. Results may be fetched when all numbers are there. Reply: OK.
type Factor struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Rows    int     `msgpack:"rows"`
	Lo      int64   `msgpack:"lo"`
	N       int64   `msgpack:"n"`
	Damping float64 `msgpack:"damping"`
	Result  DType   `msgpack:"result"`
	Payload []byte  `msgpack:"-"`
}

// MaxFactorPiece is the most numbers in one Factor of so many rows.
func MaxFactorPiece(rows int) int64 { return int64(MaxPayload-4*rows) / 8 }

// Slots is what the payload says of the rows. The length has been validated.
func (m *Factor) Slots() ([]Slot, error) { return SlotList(m.Payload[:4*m.Rows]) }

// Numbers is the payload's part of L. The length has been validated.
func (m *Factor) Numbers() []float64 { return Floats(m.Payload[4*m.Rows:]) }

// Columns asks for columns of the shard's rows: for each index in the payload (uint64 each, counted
// from the run's first column, all in the shard) the numbers of the slots in Mask, 0 in the others. With
// Of they are those of the W that query Of holds, of the rows in its slots. Reply: Numbers, as many × slots.
type Columns struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Mask    []byte  `msgpack:"mask"`
	Of      QueryID `msgpack:"of,omitempty"`
	Payload []byte  `msgpack:"-"`
}

// MaxColumnsFor is the most indices in one Columns for a shard with so many slots.
func MaxColumnsFor(slots int) int { return max(1, MaxPayload/(8*slots)) }

// Indices reads indices of columns: uint64 each.
func Indices(p []byte) []int64 {
	x := make([]int64, len(p)/8)
	for i, j := range Uint64s[uint64](p) {
		x[i] = int64(j)
	}
	return x
}

// AppendIndices appends indices of columns as a payload.
func AppendIndices(p []byte, x []int64) []byte {
	u := make([]uint64, len(x))
	for i, j := range x {
		u[i] = uint64(j)
	}
	return AppendUint64s(p, u)
}

// checkIndices checks a payload of lo to hi indices of columns.
func checkIndices(p []byte, lo, hi int) error {
	if len(p)%8 != 0 || len(p) < 8*lo || len(p) > 8*hi {
		return Invalid("payload bytes", len(p), "a multiple of 8 in ["+itoa(8*lo)+", "+itoa(8*hi)+"]")
	}
	for _, j := range Uint64s[uint64](p) {
		if j >= MaxDim {
			return Invalid("index", j, "in [0, "+itoa(int64(MaxDim))+")")
		}
	}
	return nil
}

// validateDiag is Validate for the kinds of this file.
func (m *Query) validateDiag() error {
	switch m.Kind {
	case KindDiag:
		if m.Vectors != 1 {
			return Invalid("vectors", m.Vectors, "1 for a diagonal")
		}
		return checkLen(m.Payload, 0)
	case KindColumn:
		return checkIndices(m.Payload, m.Vectors, m.Vectors)
	}
	if m.Vectors != 1 {
		return Invalid("vectors", m.Vectors, "1 for a sub-block")
	}
	return cmp.Or(checkResult64(m.Result), checkIndices(m.Payload, 1, MaxIndices))
}

// Validate implements Message.
func (m *Factor) Validate() error {
	if err := cmp.Or(
		m.Shard.Validate(),
		checkWithin("rows", m.Rows, 0, MaxWindow),
		CheckDamping("damping", m.Damping),
		CheckDType("result", m.Result),
	); err != nil {
		return err
	}
	if err := cmp.Or(checkWithin("n", m.N, int64(min(m.Rows, 1)), MaxFactorPiece(m.Rows)), checkWithin("lo", m.Lo, 0, triangle(m.Rows)-m.N)); err != nil {
		return err
	}
	if err := checkLen(m.Payload, 4*int64(m.Rows)+8*m.N); err != nil {
		return err
	}
	if err := checkSlotted(m.Payload[:4*m.Rows], 4); err != nil {
		return err
	}
	return checkFinite("factor", m.Payload[4*m.Rows:])
}

// Validate implements Message.
func (m *Columns) Validate() error {
	return cmp.Or(m.Shard.Validate(), checkMask(m.Mask), checkIndices(m.Payload, 1, MaxIndices))
}

// Type implements Message.
func (*Factor) Type() string  { return OpFactor }
func (*Columns) Type() string { return OpColumns }

// Body implements Bulk.
func (m *Factor) Body() *[]byte  { return &m.Payload }
func (m *Columns) Body() *[]byte { return &m.Payload }

var (
	_ = register(func() Message { return new(Factor) })
	_ = register(func() Message { return new(Columns) })
)
