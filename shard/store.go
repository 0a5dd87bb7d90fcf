package shard

import (
	"errors"

	"mfac/shard/kernel"
)

// Config describes a Store.
type Config struct {
	Slots   int   // the window's capacity and its spares, 1 to MaxSlots
	Cols    int64 // columns of the shard, ≥ 1
	Threads int   // goroutines a call may use, 1 to MaxThreads; 0 is GOMAXPROCS. No result depends on it

	// Kernel is the implementation to use; nil is kernel.Best. No result depends on it.
	Kernel *kernel.Variant

	// Region is the memory of the rows, say of a mapped file: Bytes(cfg) bytes, aligned
	// to 64. What it holds are the rows. The Store owns it from New on. If nil, New
	// allocates one, of zeros.
	Region []byte
}

// Limits of a Config.
const (
	MaxSlots   = 1 << 20
	MaxThreads = 1 << 10
)

// An Error is an argument out of its range.
type Error struct {
	Field, Value, Limit string // "slots", "0", "1 to 1048576"
}

func (e *Error) Error() string { return e.Field + " is " + e.Value + ", must be " + e.Limit }

// A Store is the rows of one shard. Methods may run at the same time as long as none
// reads cells that another one writes: staging into a free slot needs no lock against a
// pass whose mask leaves that slot out.
type Store struct {
	slots int
	cols  int64
}

var errTODO = errors.New("shard: not there yet")

// Bytes is the memory that the rows take: slots × columns rounded up to 16 × 4.
// The error is an *Error, if cfg is invalid or the product overflows.
func Bytes(cfg Config) (int64, error) { return 0, errTODO }

// New makes a Store. The error is an *Error naming the field, its value and its limit.
func New(cfg Config) (*Store, error) { return nil, errTODO }

// Slots is the number of slots.
func (s *Store) Slots() int { return s.slots }

// Cols is the number of columns.
func (s *Store) Cols() int64 { return s.cols }

// Write sets columns [lo, lo+len(p)/4) of the row in slot from little-endian float32 bytes.
// It does not look at the values (FirstNonFinite32 does).
func (s *Store) Write(slot int, lo int64, p []byte) error { return errTODO }

// ReadRow sets dst to columns [lo, lo+len(dst)/4) of the row in slot, as little-endian
// float32 bytes.
func (s *Store) ReadRow(dst []byte, slot int, lo int64) error { return errTODO }

// Zero sets the row in slot to zeros.
func (s *Store) Zero(slot int) error { return errTODO }

// Products sets dst[t], for each slot t in mask, to the product of the row in slot with
// the row in t, itself too if in mask; the others to 0. dst has length Slots().
func (s *Store) Products(dst []float64, slot int, mask Mask) error { return errTODO }

// Dots sets dst[i*Slots()+t] to the product of x[i] with the row in t, for each slot t in
// mask, and the others to 0: G x for k = len(x) vectors in one reading of G. dst has length
// k*Slots().
func (s *Store) Dots(dst []float64, x []Vector, mask Mask) error { return errTODO }

// Gram sets dst to rows i0 ≤ i < i1 of the lower triangle of GGᵀ, where G's rows are those
// in slots, in that order. Row i has the i+1 entries j ≤ i, and the rows are packed one
// after the other: dst has length (i1(i1+1) − i0(i0+1))/2.
func (s *Store) Gram(dst []float64, slots []int, i0, i1 int) error { return errTODO }

// Dot is the product of u and v.
func (s *Store) Dot(u, v Vector) (float64, error) { return 0, errTODO }

// Norm2 is the square of x's 2-norm.
func (s *Store) Norm2(x Vector) (float64, error) { return 0, errTODO }

// Combine sets dst[i*(hi−lo)+j−lo] = Σ_t c[i*Slots()+t] g_tj over the slots t in mask, for
// columns lo ≤ j < hi: Gᵀc for k = len(c)/Slots() coefficient vectors in one reading of G.
// dst has length k*(hi−lo). Coefficients of slots outside mask are not looked at.
func (s *Store) Combine(dst, c []float64, mask Mask, lo, hi int64) error { return errTODO }

// Solve sets dst[i*(hi−lo)+j−lo] = (v_ij − Σ_t c[i*Slots()+t] g_tj)/lambda for columns
// lo ≤ j < hi and k = len(v) vectors of Cols() columns each: (v − Gᵀc)/λ in one reading of
// G. dst has length k*(hi−lo), c k*Slots().
func (s *Store) Solve(dst []float64, v []Vector, c []float64, mask Mask, lambda float64, lo, hi int64) error {
	return errTODO
}

// ResidualNorm2 sets dst[i] = Σ_j (v_ij − Σ_t c[i*Slots()+t] g_tj)² over all columns j, for
// k = len(v) = len(dst) vectors; with v = Zeros(Cols()) it is ‖Gᵀc‖².
func (s *Store) ResidualNorm2(dst []float64, v []Vector, c []float64, mask Mask) error {
	return errTODO
}
