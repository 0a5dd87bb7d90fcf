package wire

import (
	"fmt"
	"math"
	"regexp"

	"mfac/internal/crc32c"
)

// Protocol is the version of the protocol, sent with every message.
const Protocol = "1"

// Limits, checked before anything is allocated. docs/protocol.md lists them.
const (
	MaxMeta      = 64 << 10  // bytes of msgpack in one message
	MaxDepth     = 8         // maps and arrays within each other, the message itself included
	MaxItems     = 8192      // msgpack items in one message, keys and containers included
	MaxPayload   = 1_000_000 // bytes of a message's body; with headers it stays below NATS' 1 MiB
	MaxDim       = 1 << 50   // columns
	MaxWindow    = 4096      // gradients
	MaxSpare     = 64        // spare slots
	MaxShards    = 512       // shards of a run
	MaxVectors   = 64        // vectors in one query
	MaxIndices   = 2048      // indices of a sub-block
	MaxValues    = 1 << 25   // numbers that a query leaves at the coordinator
	MaxTensors   = 1 << 16   // tensors of a layout
	MaxLayout    = 900_000   // bytes of a layout
	MaxOpen      = 512       // steps being published in a run
	MaxList      = 500       // names of runs in one reply
	MaxStatus    = 250       // workers in one reply
	MaxErrorRate = 1e-3      // the bound above which a query is refused
)

// MaxDeadlineMS is the longest time that a message may name, a day: in nanoseconds it fits int64.
const MaxDeadlineMS = 24 * 60 * 60 * 1000

// Step is a publisher's number of a gradient, unique and growing in a run.
type Step uint64

// Slot is where a shard keeps a row, in [0, m+spare).
type Slot int32

// Version counts the committed changes to a run's window. It is never reused.
type Version uint64

// Attempt tells two openings of the same step apart. It is never reused in a run.
type Attempt uint64

// QueryID names a query of a run. It is never reused in a run.
type QueryID uint64

// Epoch says which owner of a run is speaking: a random number made with the bucket of leases,
// and the revision at which the owner took the run's lease there. Revisions of one incarnation
// grow; two incarnations can't be compared.
type Epoch struct {
	Incarnation uint64 `msgpack:"inc" json:"incarnation"`
	Revision    uint64 `msgpack:"rev" json:"revision"`
}

// IsZero reports whether e is no epoch at all.
func (e Epoch) IsZero() bool { return e == Epoch{} }

func (e Epoch) String() string { return fmt.Sprintf("%x-%d", e.Incarnation, e.Revision) }

// DType is the type of numbers in a payload or a store.
type DType string

// The dtypes: IEEE 754's binary32 and binary64, bfloat16 (the upper half of a binary32), and
// binary16.
const (
	F32  DType = "f32"
	F64  DType = "f64"
	BF16 DType = "bf16"
	F16  DType = "f16"
)

// Size is the bytes of one number, 0 for an unknown dtype.
func (t DType) Size() int {
	switch t {
	case BF16, F16:
		return 2
	case F32:
		return 4
	case F64:
		return 8
	}
	return 0
}

// CheckDType checks the dtype of vectors or results.
func CheckDType(field string, t DType) error {
	if t.Size() == 0 {
		return Invalid(field, t, "f32, f64, bf16 or f16")
	}
	return nil
}

// CheckRowDType checks the dtype of a gradient, on its way or as it is kept.
func CheckRowDType(field string, t DType) error {
	if t.Size() == 0 || t == F64 {
		return Invalid(field, t, "f32, bf16 or f16")
	}
	return nil
}

// Divisor says what the empirical Fisher divides by: the window's capacity, or the rows in it.
type Divisor string

// The divisors. The empty one, in a query, means the run's.
const (
	Capacity Divisor = "capacity"
	Count    Divisor = "count"
)

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// CheckName checks the name of a run, worker, client or tenant: it becomes a token of a subject.
func CheckName(field, name string) error {
	if !nameRule.MatchString(name) {
		return Invalid(field, fmt.Sprintf("%q", name), nameRule.String())
	}
	return nil
}

// CheckDamping checks a damping λ.
func CheckDamping(field string, lambda float64) error {
	if !(lambda > 0) || math.IsInf(lambda, 1) { // NaN fails the first
		return Invalid(field, lambda, "> 0 and finite")
	}
	return nil
}

// CheckDampingOf checks the damping λ of a window of so many rows: Nλ is what K's diagonal gets, with
// N up to the window.
func CheckDampingOf(field string, lambda float64, window int) error {
	if err := CheckDamping(field, lambda); err != nil {
		return err
	}
	if math.IsInf(lambda*float64(window), 1) {
		return Invalid(field, lambda, fmt.Sprintf("finite when multiplied by the window, %d", window))
	}
	return nil
}

// CheckRange checks that [lo, lo+n) lies in [0, d) and holds a column, without overflow.
func CheckRange(lo, n, d int64) error {
	if lo < 0 || n <= 0 || n > d || lo > d-n {
		return Invalid("columns", fmt.Sprintf("[%d, %d+%d)", lo, lo, n), fmt.Sprintf("within [0, %d) and not empty", d))
	}
	return nil
}

// Checksum is the CRC-32C of a payload.
func Checksum(p []byte) uint32 { return crc32c.Checksum(p) }

// Tensor is a named part of the parameter vector.
type Tensor struct {
	Name   string  `json:"name"`
	Shape  []int64 `json:"shape"`
	Offset int64   `json:"offset"`
}

// Size is the number of elements, −1 where it overflows MaxDim or a side is not positive.
func (t Tensor) Size() int64 {
	n := int64(1)
	for _, s := range t.Shape {
		if s <= 0 || n > MaxDim/s {
			return -1
		}
		n *= s
	}
	return n
}

// RunSpec is what makes a run. Layout is the SHA-256 of its layout's canonical JSON, "" without one.
type RunSpec struct {
	Name       string  `msgpack:"name" json:"name"`
	Dim        int64   `msgpack:"dim" json:"dim"`
	Window     int     `msgpack:"window" json:"window"`
	Spare      int     `msgpack:"spare" json:"spare"`
	Shards     int     `msgpack:"shards" json:"shards"`
	Damping    float64 `msgpack:"damping" json:"damping"`
	Divisor    Divisor `msgpack:"divisor" json:"divisor"`
	Store      DType   `msgpack:"store" json:"store"`
	Durability string  `msgpack:"durability" json:"durability"`
	Layout     string  `msgpack:"layout,omitempty" json:"layout,omitempty"`
	HalfLife   float64 `msgpack:"half_life,omitempty" json:"half_life,omitempty"` // in steps; 0: gradients do not fade
	Scales     Scales  `msgpack:"scales,omitempty" json:"scales,omitempty"`       // of λ, by columns; "": all 1

	Blocks Blocking `msgpack:"blocks,omitempty" json:"blocks,omitempty"` // of H in its place; "": none
}

// Durability values. Only DurabilityMemory is built.
const DurabilityMemory = "memory"

// DefaultSpare is the number of spare slots of a run that doesn't say: one to stage the next step
// in while one is being committed.
const DefaultSpare = 2

// Slots is the number of rows that a shard has room for: the window and the spares.
func (s RunSpec) Slots() int { return s.Window + s.Spare }

// Validate checks all that can be checked without a cluster.
func (s RunSpec) Validate() error {
	if err := CheckName("name", s.Name); err != nil {
		return err
	}
	if s.Dim < 1 || s.Dim > MaxDim {
		return Invalid("dim", s.Dim, fmt.Sprintf("in [1, %d]", int64(MaxDim)))
	}
	if s.Window < 1 || s.Window > MaxWindow {
		return Invalid("window", s.Window, fmt.Sprintf("in [1, %d]", MaxWindow))
	}
	if s.Spare < 1 || s.Spare > MaxSpare {
		return Invalid("spare", s.Spare, fmt.Sprintf("in [1, %d]", MaxSpare))
	}
	if s.Shards < 1 || s.Shards > MaxShards || int64(s.Shards) > s.Dim {
		return Invalid("shards", s.Shards, fmt.Sprintf("in [1, %d]", min(int64(MaxShards), s.Dim)))
	}
	if err := CheckDampingOf("damping", s.Damping, s.Window); err != nil {
		return err
	}
	if s.Divisor != Capacity && s.Divisor != Count {
		return Invalid("divisor", s.Divisor, "capacity or count")
	}
	if err := CheckRowDType("store", s.Store); err != nil {
		return err
	}
	switch s.Durability {
	case DurabilityMemory:
	case "disk", "stream":
		return Errorf(CodeUnsupported, "durability", s.Durability, DurabilityMemory, "disk and stream are not built yet")
	default:
		return Invalid("durability", s.Durability, DurabilityMemory)
	}
	if _, err := s.Scales.Parse(s.Dim); err != nil {
		return err
	}
	if s.HalfLife != 0 {
		if err := CheckHalfLife("half_life", s.HalfLife); err != nil {
			return err
		}
	}
	if err := s.checkBlocking(); err != nil {
		return err
	}
	if s.Layout != "" && !hexRule.MatchString(s.Layout) {
		return Invalid("layout", s.Layout, "a SHA-256 in hex")
	}
	return nil
}

var hexRule = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Differs names the first field in which two specs of a run differ, with both values, or "".
// Shards and spares are not compared: who joins a run takes them as they are.
func (s RunSpec) Differs(o RunSpec) (field string, mine, theirs any) {
	switch {
	case s.Dim != o.Dim:
		return "dim", s.Dim, o.Dim
	case s.Window != o.Window:
		return "window", s.Window, o.Window
	case s.Layout != o.Layout:
		return "layout", orNone(s.Layout), orNone(o.Layout)
	case s.Damping != o.Damping:
		return "damping", s.Damping, o.Damping
	case s.Divisor != o.Divisor:
		return "divisor", s.Divisor, o.Divisor
	case s.Scales != o.Scales:
		return "scales", orNone(string(s.Scales)), orNone(string(o.Scales))
	case s.Blocks != o.Blocks:
		return "blocks", orNone(string(s.Blocks)), orNone(string(o.Blocks))
	case s.HalfLife != o.HalfLife:
		return "half_life", s.HalfLife, o.HalfLife
	case s.Store != o.Store:
		return "store", s.Store, o.Store
	case s.Durability != o.Durability:
		return "durability", s.Durability, o.Durability
	}
	return "", nil, nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
