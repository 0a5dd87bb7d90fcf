// Package worker holds shards: it stages the chunks of a gradient, works out products with the
// rows that it keeps, commits what the coordinator says, and computes results as they are
// fetched.
//
// Core is the bookkeeping, a deterministic state machine: Step takes a request, a finished job, a
// tick or an answer, and returns effects. It holds no numbers but coefficients. Engine carries
// out jobs on the numbers (shard.Store). Service is the adapter: NATS in and out, one goroutine
// that alone steps the core, and one for each shard that has jobs.
//
// The main path of a step:
//
//	stage     a slot is reserved; the coordinator's request stays open
//	chunk …   admitted against the budget, checked and written by jobs, then acknowledged
//	          when the slice is whole: a job for the products, then the answer to stage
//	commit    the slot becomes a row, the evicted one leaves the window
//
// Invariants:
//
//	I1  a shard hears the epoch that it adopted and no other
//	I2  a slot is a row, or staged by one attempt, or free
//	I3  the version grows by one with a commit, and is set by an install only
//	I4  jobs of one shard are carried out in the order in which they were issued, so that a slot
//	    that is reserved again is written only after the jobs of its last use
//	I5  a query whose mask holds a slot ends before that slot is staged again
package worker
