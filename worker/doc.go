// Package worker holds shards: it stages the chunks of a gradient, works out products with the
// rows that it keeps, commits what the coordinator says, and computes results as they are
// fetched.
//
// Core is the bookkeeping, a deterministic state machine: Step takes a request, a finished job, a
// tick or an answer, and returns effects. It holds no numbers but coefficients. Engine carries
// out jobs on the numbers (shard.Store), passes on a pool of threads that all shards share (package
// pool): steps go before queries, runs take turns. Queue says which jobs of a shard may be under
// way at once. Service is the adapter: NATS in and out, one goroutine that alone steps the core,
// and one for each job that is under way.
//
// The main path of a step:
//
//	stage     a slot is reserved; the coordinator's request stays open
//	chunk …   admitted against the budget, checked and written by jobs, then acknowledged
//	          what is complete is multiplied while more comes; which rows that covers is
//	          settled when it begins
//	          when the slice is whole: a job for what is left, then the answer to stage, which
//	          names the covered rows that are still there; others are asked for by multiply
//	commit    the slot becomes a row, the evicted one leaves the window
//	evict     rows that are to be forgotten leave the window: queries that read them end, then the
//	          memory is zeroed, then it is answered. An install zeroes what leaves by it, too
//	reshape   the shard makes ready for another number of slots; it becomes that when it is adopted with
//	          so many, or stays what it is with the next install
//	hold      room for W of a frozen run, in a query of its own, so that it ends as queries do;
//	          whiten works it out
//
// Invariants:
//
//	I1  a shard hears the epoch that it adopted and no other
//	I2  a slot is a row, or staged by one attempt, or free
//	I3  the version grows by one with a commit, and is set by an install only
//	I4  jobs of one shard that have to do with the same numbers, and one of them to write, make or
//	    free them, are carried out in the order in which they were issued; so are those of a
//	    track: chunks of rows, passes of steps, chunks of vectors, passes of queries. Others
//	    overtake: a step does not wait for a query
//	I5  a query whose mask holds a slot ends before that slot is staged again, and its jobs are
//	    cancelled; no job is issued that writes a slot which a query reads, or that reads a slot
//	    which another step is being written to
//	I6  a product is named with the row that it was worked out with, and while that row is there
//	I7  W is given back when no job reads it any more, and before a row that it has traces of is zero
package worker
