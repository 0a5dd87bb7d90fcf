// Package client is the Go SDK: it publishes gradients to a run and asks it for inverse
// Hessian-vector products.
//
//	c, err := client.Connect(ctx, "nats://127.0.0.1:4222")
//	r, err := c.Attach(ctx, client.RunConfig{Name: "digits", Dim: d, Window: 64, Damping: 1e-4})
//	for step := range steps {
//		answer, err := r.Precondition(ctx, step, dst, g) // publish g, get H⁻¹g
//	}
//	answer, err := r.IHVP(ctx, dst, v) // H⁻¹v for any vector; also F v, H v, and samples from N(0, H⁻¹)
//	c.Close()
//
// Bulk goes straight between the client and the workers, in chunks; the coordinator hands out
// the placement and the small numbers. A slice is sent from where it lies: besides the caller's
// own vectors a call needs the chunks in flight, no more.
//
// # Dtypes
//
// Three are chosen apart from each other: RunConfig.Store, what the run keeps gradients in;
// WithWire, what a gradient or vectors are sent in; WithResult, what results are fetched in. Numbers
// are rounded once, to nearest even, in the chunks that are sent, of which a call has eight then;
// results are widened exactly. All answers are for the rows as they are stored and for vectors as
// they were sent; Gradient reads a row back exactly.
//
// # Contexts, retries
//
// Every call honours its context; one without a deadline gets DefaultDeadline. Until then the
// call asks again whenever an answer fails to come, a service is busy, or the run is being taken
// over: every request is idempotent, so asking again changes nothing. What is left over at the
// deadline is an error of wire.CodeTimeout, which also wraps the context's.
//
// # Errors
//
// An error says what was being done and wraps a *wire.Error where a service or a check refused:
//
//	if errors.Is(err, wire.ErrNotGrowing) { … }
//	var e *wire.Error
//	if errors.As(err, &e) { fmt.Println(e.Field, e.Limit) }
//
// On an error the contents of dst, or what a Sink was given, mean nothing.
//
// # Concurrency
//
// Client and Run may be used by several goroutines at once. Bytes in flight are limited by the
// credit that each worker gives, over all calls of a Client together. A slice that is passed in
// must not be written to until the call returns.
//
// # What adapts
//
// Below the credit, what is in flight at a worker follows the delay of its answers: enough to keep the
// way there busy, and never less than two chunks. The size of chunks is chosen for each
// transfer of 1 MB to 8 GiB among 256, 480 and 960 KiB, by how fast those before of its kind and length
// were; one in 16 to 64 tries another size. A publication with WithToken and one of some columns are
// sent in 960 KiB: whoever else sends the same columns by that token must cut them alike. WithChunkBytes
// fixes the size of all. Neither changes a bit of any answer.
package client
