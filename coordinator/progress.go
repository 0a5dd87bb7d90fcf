package coordinator

import "sync/atomic"

// This file: how far jobs are. The adapter asks a job now and then, and tells the core by an Underway; the core tells
// who waits for a query's result.

// Underway says how far a job is.
type Underway struct {
	Job         uint64
	Done, Total int64
}

func (Underway) input() {}

// watched is how far a job is, to be asked from another goroutine.
type watched struct{ done, total atomic.Int64 }

// watch makes of a job's stop what packages like spectrum take.
func (w *watched) watch(stop func() bool) func(done, total int64) bool {
	return func(done, total int64) bool {
		w.total.Store(total)
		w.done.Store(min(done, total))
		return stop()
	}
}

func (w *watched) progress() (done, total int64) {
	done = w.done.Load()
	return done, max(done, w.total.Load())
}

// underway takes note of how far a job is.
func (c *Core) underway(in Underway) {
	done, total := max(in.Done, 0), max(in.Total, in.Done, 0)
	if t := c.jobs[in.Job]; t.waiting != nil {
		for _, q := range t.waiting() {
			q.done, q.total = done, total
		}
	}
}
