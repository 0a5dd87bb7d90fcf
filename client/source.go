package client

import (
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
	// load makes the payload of columns [lo, lo+n) of vector index. done gives it back.
	load(index int, lo, n int64) (payload []byte, done func(), err error)
	// window is the most payloads that may be loaded at once for one of so many workers.
	window(workers int) int
}

// output is where results go.
type output interface {
	dtype() wire.DType
	store(index int, lo int64, payload []byte) error
	// window is the most payloads that may be on their way from one of so many workers.
	window(workers int) int
}

// Chunks in flight of a call at one worker; and of a call with a Source or a Sink, which lie in
// memory besides, in all.
const (
	sliceWindow  = 32
	streamWindow = 8
)

// vectors are slices that hold columns from lo on. Their memory is the payload where the machine
// is little-endian; it is read while NATS copies it to its buffer, no longer.
type vectors[T Float] struct {
	v  [][]T
	lo int64
}

func (s vectors[T]) dtype() wire.DType { return dtypeOf[T]() }

func (s vectors[T]) load(index int, lo, n int64) ([]byte, func(), error) {
	return payloadOf(s.v[index][lo-s.lo : lo-s.lo+n]), func() {}, nil
}

func (s vectors[T]) window(int) int { return sliceWindow }

func (s vectors[T]) store(index int, lo int64, payload []byte) error {
	numbersTo(s.v[index][lo-s.lo:lo-s.lo+int64(len(payload)/sizeOf[T]())], payload)
	return nil
}

// stream is a Source or a Sink.
type stream[T Float] struct {
	mu   sync.Mutex
	src  Source[T]
	sink Sink[T]
	free sync.Pool // of *[]T
}

func (s *stream[T]) dtype() wire.DType { return dtypeOf[T]() }

func (s *stream[T]) buffer(n int) *[]T {
	if b, ok := s.free.Get().(*[]T); ok && cap(*b) >= n {
		*b = (*b)[:n]
		return b
	}
	b := make([]T, n)
	return &b
}

func (s *stream[T]) load(_ int, lo, n int64) ([]byte, func(), error) {
	b := s.buffer(int(n))
	done := func() { s.free.Put(b) }
	s.mu.Lock()
	err := s.src.ReadColumns(*b, lo)
	s.mu.Unlock()
	if err != nil {
		done()
		return nil, nil, &sourceError{err}
	}
	return payloadOf(*b), done, nil
}

func (s *stream[T]) window(workers int) int { return max(1, streamWindow/max(1, workers)) }

func (s *stream[T]) store(_ int, lo int64, payload []byte) error {
	b := s.buffer(len(payload) / sizeOf[T]())
	defer s.free.Put(b)
	numbersTo(*b, payload)
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
