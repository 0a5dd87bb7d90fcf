// Package coordinator owns runs: it opens steps, sums the shards' scalars, keeps the m×m side
// (package window), commits on all shards or none, and pins queries to versions.
//
// Core is one run's owner at one epoch, a deterministic state machine: Step takes a request, a
// worker's reply or heartbeat, a tick or the outcome of a write to KV, and returns effects. When
// a worker of the run is lost or has forgotten a shard, the core asks for a Restart: the adapter
// takes the lease again, which makes a new epoch, and starts a new Core from the record. So there
// is one way to recover, whatever happened, and an epoch has exactly one placement.
//
//	place → adopt → decide → save the record → install → load A → serve
//
// The main path of a step, two scatter-gathers:
//
//	open      a slot is reserved; every shard hears stage; the client gets epoch and attempt
//	stage     each shard answers when it has its slice whole, with its products
//	commit    in step order: sum the products in shard order, take the row into the window, tell
//	          every shard; a precondition's coefficients travel with it
//	committed when every shard has acknowledged: only now is anybody told
//
// A change that no step makes, one at a time, not beside a commit:
//
//	forget    the record is written (how far the run was, who asked), queries that read the rows end,
//	          every shard hears evict: at version+1 the rows have left it, and are zero
//	set       λ or the divisor: the record is written, the factor is made anew when next asked for
//	resize    when no step is open, every shard makes ready for other slots, then the record is written;
//	          with that it is decided: the run begins anew, and shards become it as they are adopted
//	freeze    every shard makes room for W, or one refuses; the record is written; open steps end; L goes
//	          out and W is worked out piece by piece, beside what else is asked
//	thaw      the record is written; W goes when no query reads it
//
// Invariants:
//
//	C1  nobody is told "committed" before every shard has acknowledged it at this epoch
//	C2  steps commit in growing order; versions grow by one a commit and are never reused
//	C3  a slot is reserved only when it holds no row, no open step, and no query reads it
//	C4  the window's rows, in age order, are the rows of A
//	C5  a frozen run commits no step; its W is made of the window as it is, by this owner
//
// What takes long beside all that, the eigenvalues of A and factors at other dampings, is a Job: an effect that the adapter runs on
// another goroutine, and whose outcome is an input.
//
// Service is the adapter: leases and records in KV, NATS in and out, a goroutine for each run
// that it owns.
package coordinator
