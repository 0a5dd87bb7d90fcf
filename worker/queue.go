package worker

import (
	"mfac/internal/invariant"
	"mfac/shard"
	"mfac/wire"
)

// This file: which jobs of a shard may be carried out at the same time.

// track is jobs of a shard that are carried out one after the other.
type track uint8

const (
	rowTrack   track = iota // chunks of rows
	stepTrack               // products of rows, results of a step's own query
	vecTrack                // chunks of vectors
	queryTrack              // all else

	tracks = iota // of them
)

// use is what a job has to do with a shard's memory.
type use struct {
	track track
	all   bool         // it makes or frees all of it
	slot  int          // whose row it writes, or multiplies as far as it is there; −1: none
	of    wire.Attempt // whose row that is
	write bool         // the row in slot
	mask  shard.Mask   // the rows that it reads
	list  []int        // the same, of a Gram
	query wire.QueryID // whose vectors it touches
	from  wire.QueryID // whose W it reads
	ends  bool         // it makes or frees those
}

func (u *use) reads(slot int) bool {
	if slot < 8*len(u.mask) && u.mask.Has(slot) {
		return true
	}
	for _, t := range u.list {
		if t == slot {
			return true
		}
	}
	return false
}

// conflicts reports whether two jobs must be carried out in their order.
func (u *use) conflicts(v *use) bool {
	switch {
	case u.all || v.all:
		return true
	case u.slot >= 0 && u.slot == v.slot:
		// Chunks of one row are disjoint, and what is multiplied has been written.
		return u.of != v.of
	case u.write && v.reads(u.slot), v.write && u.reads(v.slot):
		return true
	}
	if u.ends && v.from != 0 && u.query == v.from || v.ends && u.from != 0 && v.query == u.from {
		return true
	}
	return u.query != 0 && u.query == v.query && (u.ends || v.ends)
}

// Queue orders the jobs of one shard (I4). A job may begin when no earlier one of its track is left
// and none that it conflicts with; so a step goes past a query where they have nothing to do with
// each other. Who carries the jobs out is the adapter, and for tests the simulator. Not safe for
// concurrent use.
type Queue struct {
	waiting [tracks][]*Job // as they came; the first one may be under way
	running [tracks]bool
}

// Add takes a job.
func (q *Queue) Add(j Job) {
	u := j.Op.use()
	j.use = u
	q.waiting[u.track] = append(q.waiting[u.track], &j)
}

// Next is a job that may begin, and is under way from now on. One that was cancelled meanwhile
// is carried out too, and comes to nothing.
func (q *Queue) Next() (Job, bool) {
	for t := range q.waiting {
		if q.running[t] || len(q.waiting[t]) == 0 {
			continue
		}
		if j := q.waiting[t][0]; q.free(track(t), j) {
			q.running[t] = true
			return *j, true
		}
	}
	return Job{}, false
}

// free reports whether no earlier job of another track is in a job's way.
func (q *Queue) free(own track, j *Job) bool {
	if j.cancelled() {
		return true
	}
	for t := range q.waiting {
		if track(t) == own {
			continue
		}
		for i, o := range q.waiting[t] {
			if o.ID > j.ID {
				break
			}
			if begun := i == 0 && q.running[t]; (begun || !o.cancelled()) && o.use.conflicts(&j.use) {
				return false
			}
		}
	}
	return true
}

// Finish takes note that a job was carried out.
func (q *Queue) Finish(id JobID) {
	for t := range q.waiting {
		if q.running[t] && q.waiting[t][0].ID == id {
			q.running[t] = false
			q.waiting[t][0] = nil
			q.waiting[t] = q.waiting[t][1:]
			return
		}
	}
	invariant.That(false, "job %d was carried out and is not under way", id)
}

// Idle reports whether no job is left.
func (q *Queue) Idle() bool {
	for t := range q.waiting {
		if len(q.waiting[t]) > 0 {
			return false
		}
	}
	return true
}

// cancelled reports whether a job need not be carried out.
func (j *Job) cancelled() bool { return j.Abort != nil && j.Abort.Cancelled() }
