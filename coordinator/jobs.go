package coordinator

import "mfac/wire"

// This file: work that would take too long between two inputs.

// Job is such work. Run depends on nothing but what it was made of, so that where and when it runs makes no
// difference; it asks now and then whether it is to stop, and then returns nil. It is run once; what it returns
// comes back as a Done.
type Job struct {
	ID  uint64 // never used twice in a run
	Run func(stop func() bool) any

	Brief bool // it takes seconds at most, and doesn't wait for those that may take longer

	Progress func() (done, total int64) // how far it is, by its own measure, from any goroutine; nil: it can't say
}

// Done is a job's outcome: what it returned, or an error where it panicked.
type Done struct {
	Job    uint64
	Result any
}

func (Done) input() {}

// task is what the core knows of a job that it has begun.
type task struct {
	then    func(e *Effects, result any) // goes on with the outcome
	waiting func() []*query              // who hears how far it is; nil: nobody
}

// beginJob has a job done.
func (c *Core) beginJob(e *Effects, j Job, t task) {
	c.jobs[j.ID] = t
	e.Jobs = append(e.Jobs, j)
}

// queryJob has a job of a query's own done, then goes on with its outcome; then's error ends the query.
func (c *Core) queryJob(e *Effects, q *query, j Job, then func(*Effects, any) error) {
	c.lastID++
	j.ID, q.job = c.lastID, c.lastID
	c.beginJob(e, j, task{func(e *Effects, result any) {
		q.job = 0
		if err := then(e, result); err != nil {
			c.refuse(e, q, wire.AsError(err))
		}
	}, func() []*query { return []*query{q} }})
}

// stopJob stops a job: nobody waits for it any more.
func (c *Core) stopJob(e *Effects, id uint64) {
	delete(c.jobs, id)
	e.Stops = append(e.Stops, id)
}

// done goes on with a job's outcome, unless it was stopped.
func (c *Core) done(e *Effects, in Done) {
	t, ok := c.jobs[in.Job]
	delete(c.jobs, in.Job)
	if ok {
		t.then(e, in.Result)
	}
}
