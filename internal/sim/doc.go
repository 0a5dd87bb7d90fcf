// Package sim drives the very cores that are shipped, coordinator.Core and worker.Core with its
// Engine, through a virtual cluster: a bus that loses, doubles, delays and reorders, partitions,
// processes that crash and come back with nothing, coordinators that are paused past their lease
// and wake up in the belief that they own the run, a KV bucket with leases that can be made anew.
// One seed is one history: everything random comes from it, nothing runs at the same time.
//
//	r := sim.Run(sim.Config{Seed: 7})
//	if r.Failure != "" { … }
//
// The parts, each a file:
//
//	world        the clock and the queue of events
//	bus          packets, their faults, partitions
//	kv           leases, the run's record, the incarnation
//	workers      a worker's process: core, engine, jobs in lanes
//	coordinators what coordinator.Service does around a core
//	client       processes of clients, written as they would be with blocking calls
//	publish      publishers: good ones, and those that send NaN, conflicts, overlaps, or die
//	query        queriers
//	change       who forgets steps, and sets λ and the divisor
//	weights      of gradients, and half-lives, in the reference
//	freeze       who freezes the run, and thaws it
//	dtypes       numbers as they are sent and kept: both dtypes are drawn too
//	faults       when which fault happens, and the table of fault × phase
//	check        what must hold after each event; reference is the dense arithmetic
//
// What is checked:
//
//	V1  a publisher hears "committed" only when every shard has the step, or has had it
//	V2  shards at one version have one window; a version never gets another window once it was told
//	V3  a row's bytes are those of one publication, as the store keeps them, on every shard
//	V4  steps commit in growing order; versions grow
//	V5  what was told leaves the window only by eviction, because it is forgotten, or because a shard
//	    lost it: then everywhere
//	V6  A is the Gram matrix of the window; an answer is within its bound of the dense reference
//	V7  a slot has one use; a slot that a query reads is not reserved
//	V8  a worker's memory is that of its shards and queries, its bytes in flight those of its jobs
//	V9  a shard acts on no message of another epoch than the one it has adopted, and adopts none below
//	V10 with the faults over, everything comes to rest, and a step and a query succeed
//	V11 what is told forgotten is in no window from that version on, its slot is zero on every shard when
//	    the window is made, and no shard has its bytes when it is told; with a step that never was,
//	    nothing is forgotten; no query of a shard, nor the W of a frozen run, was made of it then
//	V12 no step is committed to a frozen run
//	V13 a row in a window that is served has its publication's label, and the first shard keeps it as long
//	    as the row or its step is there; other shards keep none
//	V14 a window that is told to be of another size is so at that version, with as many rows
//
// The durability here is memory: a full disk can't happen, and a crash loses what a worker held.
package sim
