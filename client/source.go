package client

import (
	"cmp"
	"math"
	"sync"

	"mfac/wire"
)

// Float is the type of numbers in vectors.
type Float interface{ float32 | float64 }

// Source is a vector that is read in pieces, so that it need not lie in memory. ReadColumns fills
// dst with columns [lo, lo+len(dst)). It is called by one goroutine at a time, in no given order,
// and again for the same columns where they must be sent again: they must be the same then.
type Source[T Float] interface {
	ReadColumns(dst []T, lo int64) error
}

// Sink is a vector that is written in pieces. WriteColumns takes columns [lo, lo+len(src)); it must
// not keep src. It is called by one goroutine at a time, in no given order, and again for the same
// columns where the query had to be asked again: the later ones count.
type Sink[T Float] interface {
	WriteColumns(src []T, lo int64) error
}

// input is what is sent: columns of one vector or more, as payloads.
type input interface {
	dtype() wire.DType
	// load makes the payload of columns [lo, lo+n) of vector index.
	load(index int, lo, n int64) (loaded, error)
	// window is the most payloads that may be loaded at once for one of so many workers.
	window(workers int) int
}

// loaded is a payload, and what gives it back.
type loaded struct {
	payload []byte
	done    func()
	// lost is a number that the payload's dtype can't say. It is sent all the same, as the infinity
	// or NaN that it became: the service that refuses it drops the step or query at once.
	lost *wire.Error
}

// output is where results go.
type output interface {
	dtype() wire.DType
	store(index int, lo int64, payload []byte) error
	// window is the most payloads that may be on their way from one of so many workers.
	window(workers int) int
}

// Chunks in flight of a call at one worker; and in all of a call whose chunks lie in memory besides:
// those of a Source or a Sink, and those sent in another dtype.
const (
	sliceWindow  = 32
	streamWindow = 8
)

// vectors are slices that hold columns from lo on. Their memory is the payload where the machine
// is little-endian and they are sent as they are; it is read while NATS copies it to its buffer, no
// longer.
type vectors[T Float] struct {
	v  [][]T
	lo int64
	as wire.DType // on the wire; "": as they are
}

func (s vectors[T]) dtype() wire.DType { return cmp.Or(s.as, dtypeOf[T]()) }

func (s vectors[T]) load(index int, lo, n int64) (loaded, error) {
	return load(s.v[index][lo-s.lo:lo-s.lo+n], s.dtype(), lo, func() {}), nil
}

func (s vectors[T]) window(workers int) int {
	if s.dtype() != dtypeOf[T]() {
		return fewer(workers)
	}
	return sliceWindow
}

func (s vectors[T]) store(index int, lo int64, payload []byte) error {
	t := s.dtype()
	store(s.v[index][lo-s.lo:lo-s.lo+int64(len(payload)/t.Size())], payload, t)
	return nil
}

func fewer(workers int) int { return max(1, streamWindow/max(1, workers)) }

// chunks are payloads of numbers in another dtype than the caller's.
var chunks sync.Pool // of *[]byte

// load makes the payload in dtype t of numbers from column lo on; done gives these back.
func load[T Float](x []T, t wire.DType, lo int64, done func()) loaded {
	if t == dtypeOf[T]() {
		return loaded{payload: payloadOf(x), done: done}
	}
	defer done()
	p := pooled[byte](&chunks, len(x)*t.Size())
	l := loaded{payload: *p, done: func() { chunks.Put(p) }}
	if i := narrow(*p, x, t); i >= 0 {
		l.lost = outside(float64(x[i]), lo+int64(i), t)
	}
	return l
}

// outside is the error of a number that dtype t can't say.
func outside(x float64, col int64, t wire.DType) *wire.Error {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return wire.Errorf(wire.CodeNotFinite, "column", col, "finite", "it holds %v", x)
	}
	return wire.Errorf(wire.CodeOverflow, "column", col, "within the range of "+string(t), "it holds %.6g: send another dtype, or scale the vector", x)
}

// store sets x to the payload's numbers, of dtype t.
func store[T Float](x []T, payload []byte, t wire.DType) {
	if t == dtypeOf[T]() {
		numbersTo(x, payload)
		return
	}
	widen(x, payload, t)
}

// pooled is n numbers of any value.
func pooled[T any](free *sync.Pool, n int) *[]T {
	if b, ok := free.Get().(*[]T); ok && cap(*b) >= n {
		*b = (*b)[:n]
		return b
	}
	b := make([]T, n)
	return &b
}

// stream is a Source or a Sink.
type stream[T Float] struct {
	mu   sync.Mutex
	src  Source[T]
	sink Sink[T]
	as   wire.DType // on the wire; "": as they are
	free sync.Pool  // of *[]T
}

func (s *stream[T]) dtype() wire.DType { return cmp.Or(s.as, dtypeOf[T]()) }

func (s *stream[T]) load(_ int, lo, n int64) (loaded, error) {
	b := pooled[T](&s.free, int(n))
	done := func() { s.free.Put(b) }
	s.mu.Lock()
	err := s.src.ReadColumns(*b, lo)
	s.mu.Unlock()
	if err != nil {
		done()
		return loaded{}, &sourceError{err}
	}
	return load(*b, s.dtype(), lo, done), nil
}

func (s *stream[T]) window(workers int) int { return fewer(workers) }

func (s *stream[T]) store(_ int, lo int64, payload []byte) error {
	t := s.dtype()
	b := pooled[T](&s.free, len(payload)/t.Size())
	defer s.free.Put(b)
	store(*b, payload, t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.sink.WriteColumns(*b, lo); err != nil {
		return &sourceError{err}
	}
	return nil
}

// sourceError is an error of the caller's Source or Sink, which no retry mends, whatever it wraps.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "columns: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }
