package shard

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"unsafe"

	"mfac/shard/kernel"
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
const regionAlign = 4 * kernel.LineCols

// Config describes a Store.
type Config struct {
	Slots   int   // the window's capacity and its spares, 1 to MaxSlots
	Cols    int64 // columns of the shard, ≥ 1
	Threads int   // goroutines a call may use, 0 to MaxThreads; 0 is GOMAXPROCS. No result depends on it

	// Kernel is the implementation to use; nil is kernel.Best. No result depends on it.
	Kernel *kernel.Variant

	// Region is the memory of the rows, say of a mapped file: Bytes(cfg) bytes, writable,
	// aligned to 64, the numbers in the machine's byte order. What it holds are the rows.
	// It is the Store's from New on. If nil, New allocates one of zeros on Go's heap, where
	// the collector takes it for live data and lets as much garbage grow beside it.
	Region []byte
}

// An Error is an argument out of its range, the only error of this package. A call that
// returned one has changed nothing.
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
	slots   int
	cols    int64
	threads int
	kernel  *kernel.Variant
	g       []float32
	scratch sync.Pool // of *scratch: one for each goroutine at work
	trees   sync.Pool // of *tree

	smallWork int64 // a constant, but in tests
}

// Bytes is the memory that the rows take: slots × columns rounded up to 16 × 4. The error
// is an *Error: a field out of its range, or more than MaxBytes. Region is not looked at.
func Bytes(cfg Config) (int64, error) {
	switch {
	case cfg.Slots < 1 || cfg.Slots > MaxSlots:
		return 0, outOf("slots", cfg.Slots, "1 to %d", MaxSlots)
	case cfg.Cols < 1:
		return 0, outOf("columns", cfg.Cols, "≥ 1")
	case cfg.Threads < 0 || cfg.Threads > MaxThreads:
		return 0, outOf("threads", cfg.Threads, "0 to %d", MaxThreads)
	}
	if limit := MaxBytes / 4 / int64(cfg.Slots) &^ (kernel.LineCols - 1); cfg.Cols > limit {
		return 0, outOf("columns", cfg.Cols, "≤ %d with %d slots, for at most %d bytes", limit, cfg.Slots, int64(MaxBytes))
	}
	return 4 * int64(cfg.Slots) * padded(cfg.Cols), nil
}

// New makes a Store. The error is an *Error naming the field, its value and its limit.
func New(cfg Config) (*Store, error) {
	n, err := Bytes(cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{slots: cfg.Slots, cols: cfg.Cols, threads: cfg.Threads, kernel: cfg.Kernel, smallWork: smallWork}
	if s.threads == 0 {
		s.threads = min(runtime.GOMAXPROCS(0), MaxThreads)
	}
	if s.kernel == nil {
		s.kernel = kernel.Best()
	}
	s.scratch.New = func() any { return new(scratch) }
	s.trees.New = func() any { return &tree{waiting: map[node][]float64{}} }

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
	s.g = unsafe.Slice((*float32)(unsafe.Pointer(&region[0])), n/4)
	if cfg.Region != nil {
		last := s.tiles() - 1
		for t := range s.slots { // S1, whatever the region held
			kernel.Zero(s.tile(last), t, s.width(last))
		}
	}
	return s, nil
}

func address(p []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(p))) }

// Slots is the number of slots.
func (s *Store) Slots() int { return s.slots }

// Cols is the number of columns.
func (s *Store) Cols() int64 { return s.cols }

// padded rounds up to whole lines.
func padded[N int | int64](cols N) N { return (cols + kernel.LineCols - 1) &^ (kernel.LineCols - 1) }

func (s *Store) tiles() int { return int((s.cols-1)/TileCols) + 1 }

// width is the number of columns in tile i, without padding.
func (s *Store) width(i int) int { return int(min(TileCols, s.cols-int64(i)*TileCols)) }

func (s *Store) tile(i int) kernel.Tile {
	cols := padded(s.width(i))
	return kernel.Tile{
		G:     s.g[i*TileCols*s.slots:][:cols*s.slots],
		Slots: s.slots,
		Lines: cols / kernel.LineCols,
	}
}

func (s *Store) checkSlot(slot int) error {
	if slot < 0 || slot >= s.slots {
		return outOf("slot", slot, "0 to %d", s.slots-1)
	}
	return nil
}

// checkRange takes n ≥ 0.
func (s *Store) checkRange(lo, n int64) error {
	if lo < 0 || lo > s.cols {
		return outOf("first column", lo, "0 to %d", s.cols)
	}
	if n > s.cols-lo {
		return outOf("number of columns", n, "≤ %d from column %d", s.cols-lo, lo)
	}
	return nil
}

func (s *Store) checkMask(m Mask) error {
	if len(m) != len(NewMask(s.slots)) {
		return outOf("mask", fmt.Sprintf("%d bytes", len(m)), "%d bytes for %d slots", len(NewMask(s.slots)), s.slots)
	}
	if h := s.slots % 8; h != 0 && m[len(m)-1]>>h != 0 {
		return outOf("mask", fmt.Sprintf("%#02x in its last byte", m[len(m)-1]), "< %#02x for %d slots", 1<<h, s.slots)
	}
	return nil
}

func (s *Store) checkVectors(field string, x ...Vector) error {
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
