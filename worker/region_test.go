package worker

import (
	"errors"
	"math"
	"runtime"
	"testing"
	"unsafe"

	"mfac/shard"
	"mfac/wire"
)

func TestRegion(t *testing.T) {
	for _, n := range []int64{1, 63, leastMapping - 1, leastMapping, leastMapping + 1, 5 << 20} {
		r, err := newRegion(n)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(r.bytes)) != n || uintptr(unsafe.Pointer(&r.bytes[0]))%regionAlign != 0 {
			t.Fatalf("%d bytes at %p, want %d, aligned to %d", len(r.bytes), &r.bytes[0], n, regionAlign)
		}
		for i := range r.bytes {
			if r.bytes[i] != 0 {
				t.Fatalf("byte %d of %d is %d", i, n, r.bytes[i])
			}
			r.bytes[i] = 1
		}
		r.free()
		r.free()
		if r.bytes != nil {
			t.Error("bytes that were freed are there")
		}
	}
}

func TestRegionTooLarge(t *testing.T) {
	if !canMap {
		t.Skip("on this system rows lie on Go's heap, which ends the process when memory is out")
	}
	_, err := newRegion(math.MaxInt64 &^ 0xffff)
	if !errors.Is(err, wire.ErrTooLarge) {
		t.Fatalf("error is %v, want too_large", err)
	}
	var e Engine
	key := ShardKey{Run: "r"}
	d := e.Do(Job{ID: 1, Shard: key, Op: Alloc{shard.Config{Slots: 1 << 10, Cols: 1 << 33}}})
	if !errors.Is(d.Err, wire.ErrTooLarge) || d.Err.Value == "" || d.Err.Limit == "" {
		t.Fatalf("32 TiB of rows: %v, want too_large with the numbers", d.Err)
	}
	if d := e.Do(Job{ID: 2, Shard: key, Op: Multiply{}}); !errors.Is(d.Err, wire.ErrUnknownShard) {
		t.Errorf("a shard that was not made answers %v", d.Err)
	}
}

// TestEngineMemory shows that rows and vectors are not on the heap.
func TestEngineMemory(t *testing.T) {
	if !canMap {
		t.Skip("on this system rows lie on Go's heap")
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	e := &Engine{Threads: 1}
	key := ShardKey{Run: "r"}
	do := func(op Op) {
		t.Helper()
		if d := e.Do(Job{Shard: key, Op: op}); d.Err != nil {
			t.Fatal(d.Err)
		}
	}
	const cols = 1 << 20
	chunk := make([]byte, 4*cols)
	for range 3 {
		do(Alloc{shard.Config{Slots: 8, Cols: cols}})
		do(Write{Slot: 7, Payload: chunk, Sum: wire.Checksum(chunk)})
		do(NewVectors{Query: 1, Vectors: 2, DType: wire.F64})
		do(NewVectors{Query: 2, Vectors: 1, DType: wire.F32})
		do(WriteVector{Query: 2, Payload: chunk, Sum: wire.Checksum(chunk)})
		do(Dots{Query: 2, Mask: shard.MaskOf(8, 7)})
		do(FreeVectors{Query: 1})
		do(FreeVectors{Query: 1})
		if grown := int64(heap()) - int64(before); grown > 8<<20 {
			t.Errorf("the heap has grown by %d bytes beside 32 MiB of rows and 4 MiB of vectors", grown)
		}
		do(Free{})
	}
}

// Pages that are given back become zeros; what else there is stays.
func TestRegionDiscards(t *testing.T) {
	const n, page = 1 << 20, 4 << 10
	r, err := newRegion(n)
	if err != nil {
		t.Fatal(err)
	}
	defer r.free()
	if r.keep == nil {
		t.Skip("no memory is mapped here")
	}
	for i := range r.bytes {
		r.bytes[i] = 1
	}
	r.discard(page+1, n-1) // whole pages within
	r.discard(5, page-5)   // none
	for i, b := range r.bytes {
		want := byte(1)
		if i >= 2*page && i < n-page {
			want = 0
		}
		if b != want {
			t.Fatalf("byte %d is %d, want %d", i, b, want)
		}
	}
}
