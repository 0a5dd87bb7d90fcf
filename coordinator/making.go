package coordinator

import (
	"mfac/coordinator/window"
	"mfac/wire"
)

// This file: factors at another damping or divisor than the run's. They are made from A, which beyond some
// hundred rows takes longer than a step can wait: a job makes them, and the query goes on when it is done.

// inlineRows is up to how many rows a factor is made at once: some milliseconds.
const inlineRows = 256

// making is a factor that queries wait for. One at a time is made, in the order in which they are asked
// for; those that wait have copied nothing yet.
type making struct {
	job     uint64 // 0: not begun
	version wire.Version
	damping float64
	divisor window.Divisor
	factor  *window.Making
	waiting []waiting
}

// waiting is a query and what to do when its factor is at hand.
type waiting struct {
	q    *query
	then func(*Effects) error
}

// factored does then when the query's factor is at hand, or can be made at once. Where it can't, then's
// error ends the query.
func (c *Core) factored(e *Effects, q *query, then func(*Effects) error) error {
	w := c.window(q)
	if w.Len() <= c.cfg.InlineRows || w.Has(q.damping, q.divisor) {
		return then(e)
	}
	for _, m := range c.makings {
		if m.version == q.version && m.damping == q.damping && m.divisor == q.divisor {
			m.waiting = append(m.waiting, waiting{q, then})
			q.making = m
			return nil
		}
	}
	m := &making{version: q.version, damping: q.damping, divisor: q.divisor, waiting: []waiting{{q, then}}}
	q.making = m
	c.makings = append(c.makings, m)
	if len(c.makings) == 1 {
		return c.make(e)
	}
	return nil
}

// make begins the first of the makings.
func (c *Core) make(e *Effects) error {
	m := c.makings[0]
	factor, err := c.window(m.waiting[0].q).Begin(m.damping, m.divisor)
	if err != nil {
		return err
	}
	c.lastID++
	m.job, m.factor = c.lastID, factor
	c.beginJob(e, Job{ID: m.job, Brief: true, Run: func(func() bool) any {
		factor.Make()
		return factor
	}}, task{then: c.made})
	return nil
}

// made takes the factor that is being made and goes on with the queries that wait for it.
func (c *Core) made(e *Effects, result any) {
	m := c.makings[0]
	c.makings = c.makings[1:]
	factor, ok := result.(*window.Making)
	for _, w := range m.waiting {
		w.q.making = nil
		var err error
		if ok {
			c.window(w.q).Take(factor) // again for each: one that is answered may have given it back
			err = w.then(e)
		} else {
			err = wire.Errorf(wire.CodeInternal, "", "", "", "the factor at damping %g: %v", m.damping, result)
		}
		if err != nil {
			c.refuse(e, w.q, wire.AsError(err))
		}
	}
	c.makeNext(e)
}

// makeNext begins the next making that can be begun.
func (c *Core) makeNext(e *Effects) {
	for len(c.makings) > 0 && c.makings[0].job == 0 {
		err := c.make(e)
		if err == nil {
			return
		}
		m := c.makings[0]
		c.makings = c.makings[1:]
		for _, w := range m.waiting {
			w.q.making = nil
			c.refuse(e, w.q, wire.AsError(err))
		}
	}
}

// unmake ends a query's wait for a factor. If it was the last, so does the job.
func (c *Core) unmake(e *Effects, q *query) {
	m := q.making
	if m == nil {
		return
	}
	q.making = nil
	for i, w := range m.waiting {
		if w.q == q {
			m.waiting = append(m.waiting[:i:i], m.waiting[i+1:]...)
			break
		}
	}
	if len(m.waiting) > 0 {
		return
	}
	for i, other := range c.makings {
		if other == m {
			c.makings = append(c.makings[:i:i], c.makings[i+1:]...)
			break
		}
	}
	if m.job != 0 {
		c.stopJob(e, m.job)
		c.makeNext(e)
	}
}
