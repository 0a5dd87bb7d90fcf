package client

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
