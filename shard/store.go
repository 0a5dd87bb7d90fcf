package shard

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"unsafe"

	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// TileCols is the number of columns in a tile, but for the last. It is part of the order
// of summation: another number gives other bits.
const TileCols = 1024

// Limits of a Config.
const (
	MaxSlots   = 1 << 20
	MaxThreads = 1 << 10
	MaxBytes   = min(1<<46, math.MaxInt)
)

// regionAlign is a line, so that no line lies in two of the CPU's.
const regionAlign = 64

// A DType is how numbers are kept or come.
type DType = kernel.DType

// The dtypes: rows are F32, BF16 or F16, vectors and results F64 too.
const (
	F32  = kernel.F32
	BF16 = kernel.BF16
	F16  = kernel.F16
	F64  = kernel.F64
)

// Config describes a Store.
type Config struct {
	Slots   int   // the window's capacity and its spares, 1 to MaxSlots
	Cols    int64 // columns of the shard, ≥ 1
	DType   DType // of the rows: F32, BF16 or F16
	Threads int   // goroutines a call may use, 0 to MaxThreads; 0 is GOMAXPROCS. No result depends on it

	// Pool carries the calls out, in turn with those of other Stores; Run is whose turn it is. It
	// is the caller's, and outlives the calls. If nil, each call starts goroutines of its own.
	Pool *pool.Pool
	Run  string

	// Kernel is the implementation to use; nil is kernel.Best. No result depends on it.
	Kernel *kernel.Variant

	// Region is the memory of the rows, say of a mapped file: Bytes(cfg) bytes, writable,
	// aligned to 64, the numbers in the machine's byte order. What it holds are the rows.
	// It is the Store's from New on. If nil, New allocates one of zeros on Go's heap, where
	// the collector takes it for live data and lets as much garbage grow beside it.
	Region []byte

	// Scales are those of λ in columns that have dampings of their own, from column 0 on; nil: all
	// have λ. Where they are given, calls that know of them (over.go) are of H = F + λR.
	Scales []Scale
}

// An Error is an argument out of its range. A call that returned one has changed nothing. Others
// are the pool's: the call was cancelled, or came to a panic, and what it was to set is undefined.
type Error struct {
	Field, Value, Limit string // "slots", "0", "1 to 1048576"
}

func (e *Error) Error() string { return e.Field + " is " + e.Value + ", must be " + e.Limit }

func outOf(field string, value any, limit string, args ...any) error {
	return &Error{Field: field, Value: fmt.Sprint(value), Limit: fmt.Sprintf(limit, args...)}
}

// A Store is the rows of one shard. Methods may run at the same time as long as none
// reads cells that another one writes: staging a row into a free slot needs no lock
// against a pass whose mask leaves that slot out. Goroutines that a method starts end
// before it returns.
type Store struct {
	*storage
	spec pool.Spec // of the calls
}

// storage is what all views of a Store share.
type storage struct {
	slots   int
	cols    int64
	threads int
	pool    *pool.Pool
	kernel  *kernel.Variant
	dtype   DType
	g       []byte
	scales  []Scale

	smallWork int64 // a constant, but in tests

	mu      sync.Mutex
	partial map[cell]*partialRow // of F16, whose rows are put a whole tile at a time
	passes  []*pass              // to be used again
	sums    []*Sum
	callers []*pool.Worker // for work on a caller's goroutine
}

// For is s with calls of another class, which abort ends; abort may be nil. A Store's own calls
// are of the class Query.
func (s *Store) For(class pool.Class, abort *pool.Cancel) *Store {
	return &Store{s.storage, pool.Spec{Class: class, Run: s.spec.Run, Abort: abort}}
}

// Bytes is the memory that the rows take: slots × columns rounded up to whole lines × the
// dtype's size, of F16 two bytes more a slot and tile, rounded up to a line a tile, and from
// four slots on a line between two tiles where the first one is an even number of them. The
// error is an *Error: a field out of its range, or more than MaxBytes. Region is not looked at.
func Bytes(cfg Config) (int64, error) {
	switch {
	case cfg.Slots < 1 || cfg.Slots > MaxSlots:
		return 0, outOf("slots", cfg.Slots, "1 to %d", MaxSlots)
	case cfg.Cols < 1:
		return 0, outOf("columns", cfg.Cols, "≥ 1")
	case cfg.Threads < 0 || cfg.Threads > MaxThreads:
		return 0, outOf("threads", cfg.Threads, "0 to %d", MaxThreads)
	case cfg.DType > F16:
		return 0, outOf("dtype", cfg.DType, "f32, bf16 or f16")
	}
	size, stride := tileBytes(cfg.DType, cfg.Slots, TileCols), tileStride(cfg.DType, cfg.Slots)
	if limit := ((MaxBytes-size)/stride + 1) * TileCols; cfg.Cols > limit {
		return 0, outOf("columns", cfg.Cols, "≤ %d with %d slots, for at most %d bytes", limit, cfg.Slots, int64(MaxBytes))
	}
	last := (cfg.Cols - 1) / TileCols
	return last*stride + tileBytes(cfg.DType, cfg.Slots, int(cfg.Cols-last*TileCols)), nil
}

// tileBytes is the memory of a tile of cols columns.
func tileBytes(t DType, slots, cols int) int64 {
	return int64(expBytes(t, slots)) + int64(slots)*int64(lines(t, cols))*regionAlign
}

// tileStride is from where a tile begins to the next one: from four slots on an odd number of lines.
// A row's lines in a tile are alike in the low bits of their addresses, which choose the channel of
// the memory: writes would wait for one while the others have nothing to do. With an odd number of
// lines a row is in another channel in each tile, and kernel.PutTiles writes some at once. The lines
// of three slots are near enough to each other.
func tileStride(t DType, slots int) int64 {
	n := tileBytes(t, slots, TileCols) / regionAlign
	if slots > 3 {
		n |= 1
	}
	return n * regionAlign
}

// expBytes is what a tile's powers of two take, up to a whole line.
func expBytes(t DType, slots int) int {
	if t != F16 {
		return 0
	}
	return (2*slots + regionAlign - 1) &^ (regionAlign - 1)
}

// lines is how many lines cols columns of a slot take.
func lines(t DType, cols int) int { return (cols-1)/t.LineCols() + 1 }

// New makes a Store. The error is an *Error naming the field, its value and its limit.
func New(cfg Config) (*Store, error) {
	n, err := Bytes(cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{&storage{
		slots: cfg.Slots, cols: cfg.Cols, dtype: cfg.DType, threads: cfg.Threads, pool: cfg.Pool, kernel: cfg.Kernel,
		scales: cfg.Scales, smallWork: smallWork, partial: map[cell]*partialRow{},
	}, pool.Spec{Class: pool.Query, Run: cfg.Run}}
	if err := checkScales(cfg.Scales, cfg.Cols); err != nil {
		return nil, err
	}
	if s.threads == 0 {
		s.threads = min(runtime.GOMAXPROCS(0), MaxThreads)
	}
	if s.kernel == nil {
		s.kernel = kernel.Best()
	}

	region := cfg.Region
	if region == nil {
		region = make([]byte, n+regionAlign) // Go gives whole pages to what is large
		region = region[-address(region)&(regionAlign-1):][:n]
	}
	if int64(len(region)) != n {
		return nil, outOf("region", fmt.Sprintf("%d bytes", len(region)), "%d bytes", n)
	}
	if address(region)%regionAlign != 0 {
		return nil, outOf("region", fmt.Sprintf("at address %#x", address(region)), "aligned to %d", regionAlign)
	}
	s.g = region
	if cfg.Region != nil {
		last := s.tiles() - 1
		for t := range s.slots { // S1, whatever the region held
			if w := s.width(last); w < s.tile(last).Cols() {
				kernel.Zero(s.tile(last), t, w)
			}
		}
	}
	return s, nil
}

func address(p []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(p))) }

// Slots is the number of slots.
func (s *Store) Slots() int { return s.slots }

// DType is the dtype of the rows.
func (s *Store) DType() DType { return s.dtype }

// Cols is the number of columns.
func (s *Store) Cols() int64 { return s.cols }

func (s *storage) tiles() int { return int((s.cols-1)/TileCols) + 1 }

// width is the number of columns in tile i, without padding.
func (s *storage) width(i int) int { return int(min(TileCols, s.cols-int64(i)*TileCols)) }

func (s *storage) tile(i int) kernel.Tile {
	g := kernel.Tile{DType: s.dtype, Slots: s.slots, Lines: lines(s.dtype, s.width(i))}
	p := s.g[int64(i)*tileStride(s.dtype, s.slots):][:tileBytes(s.dtype, s.slots, s.width(i))]
	if n := expBytes(s.dtype, s.slots); n > 0 {
		g.Exp = unsafe.Slice((*int16)(unsafe.Pointer(&p[0])), s.slots)
		p = p[n:]
	}
	g.G = p
	return g
}

func (s *storage) checkSlot(slot int) error {
	if slot < 0 || slot >= s.slots {
		return outOf("slot", slot, "0 to %d", s.slots-1)
	}
	return nil
}

// checkRange takes n ≥ 0.
func (s *storage) checkRange(lo, n int64) error {
	if lo < 0 || lo > s.cols {
		return outOf("first column", lo, "0 to %d", s.cols)
	}
	if n > s.cols-lo {
		return outOf("number of columns", n, "≤ %d from column %d", s.cols-lo, lo)
	}
	return nil
}

func (s *storage) checkMask(m Mask) error {
	if len(m) != len(NewMask(s.slots)) {
		return outOf("mask", fmt.Sprintf("%d bytes", len(m)), "%d bytes for %d slots", len(NewMask(s.slots)), s.slots)
	}
	if h := s.slots % 8; h != 0 && m[len(m)-1]>>h != 0 {
		return outOf("mask", fmt.Sprintf("%#02x in its last byte", m[len(m)-1]), "< %#02x for %d slots", 1<<h, s.slots)
	}
	return nil
}

func (s *storage) checkVectors(field string, x ...Vector) error {
	for i, v := range x {
		if v.n != s.cols {
			return outOf(fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf("%d columns", v.n), "%d columns", s.cols)
		}
	}
	return nil
}

func checkLen(field string, got int, want int64) error {
	if int64(got) != want {
		return outOf("length of "+field, got, "%d", want)
	}
	return nil
}
