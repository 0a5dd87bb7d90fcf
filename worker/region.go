package worker

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"mfac/wire"
)

// region is memory of zeros for rows or vectors. A large one lies outside Go's heap, where the
// collector would take it for live data and let as much garbage grow beside it.
type region struct {
	bytes []byte
	keep  *mapping // what goes when nobody can reach the region any more
}

// mapping gives its memory back, once.
type mapping struct {
	once  sync.Once
	bytes []byte
}

func (m *mapping) unmap() { m.once.Do(func() { unmapMemory(m.bytes) }) }

const (
	regionAlign  = 64       // what shard.Config asks for
	leastMapping = 64 << 10 // bytes: below, the heap will do
)

// newRegion makes n bytes of zeros. Where the machine hasn't got them it returns an error.
func newRegion(n int64) (*region, error) {
	if n < leastMapping || !canMap {
		p := make([]byte, n+regionAlign-1)
		skip := -uintptr(unsafe.Pointer(unsafe.SliceData(p))) % regionAlign
		return &region{bytes: p[skip:][:n:n]}, nil
	}
	p, err := mapMemory(n)
	if err != nil {
		return nil, wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes", n), "what the machine has left", "%v", err)
	}
	r := &region{bytes: p, keep: &mapping{bytes: p}}
	// What is not freed by hand, because a worker that broke an invariant began anew.
	runtime.AddCleanup(r, (*mapping).unmap, r.keep)
	return r, nil
}

// discard gives back the pages of bytes [lo, hi), which nobody reads any more; they become zeros.
func (r *region) discard(lo, hi int64) {
	const page = 4 << 10
	lo, hi = (lo+page-1)&^(page-1), hi&^(page-1)
	if r.keep != nil && lo < hi {
		discardMemory(r.bytes[lo:hi])
	}
}

// free gives the memory back. Nobody may touch the bytes from then on.
func (r *region) free() {
	if r.keep != nil {
		r.keep.unmap()
	}
	r.bytes = nil
}
