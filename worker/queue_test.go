package worker

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
	"mfac/shard/pool"
	"mfac/wire"
)

// next is the jobs that may begin now, by their IDs.
func next(q *Queue) (ids []JobID) {
	for {
		j, ok := q.Next()
		if !ok {
			slices.Sort(ids)
			return ids
		}
		ids = append(ids, j.ID)
	}
}

func TestQueue(t *testing.T) {
	mask := func(slots ...int) shard.Mask { return shard.MaskOf(9, slots...) }
	dots := Dots{Query: 7, Mask: mask(0, 1)}
	for _, c := range []struct {
		name   string
		ops    []Op
		begin  []JobID // at once
		cancel []JobID // then
		finish []JobID // then
		after  []JobID // begin
	}{
		{"a step goes past a query", []Op{dots, Write{Slot: 2}}, []JobID{1, 2}, nil, nil, nil},
		{"chunks one after the other", []Op{Write{Slot: 2}, Write{Slot: 2}}, []JobID{1}, nil, []JobID{1}, []JobID{2}},
		{"a row that a query reads", []Op{dots, Write{Slot: 1}}, []JobID{1}, nil, []JobID{1}, []JobID{2}},
		{"a row that a query read, which waits and was dropped", []Op{Gram{Slots: []int{5}}, dots, Write{Slot: 1}}, []JobID{1}, []JobID{2}, nil, []JobID{3}},
		{"a row that a query read, which is under way and was dropped", []Op{dots, Write{Slot: 1}}, []JobID{1}, []JobID{1}, nil, nil},
		{"a row that a Gram reads", []Op{Gram{Slots: []int{4, 1}}, Write{Slot: 1}}, []JobID{1}, nil, []JobID{1}, []JobID{2}},
		{"a row that is written is not read before", []Op{Write{Slot: 1}, Multiply{Slot: 3, Mask: mask(1)}}, []JobID{1}, nil, []JobID{1}, []JobID{2}},
		{"what has come is multiplied while more comes", []Op{Write{Slot: 1, Attempt: 5}, Accumulate{Slot: 1, Attempt: 5, Mask: mask(1)}, Write{Slot: 1, Attempt: 5}}, []JobID{1, 2}, nil, []JobID{1}, []JobID{3}},
		{"another attempt waits", []Op{Accumulate{Slot: 1, Attempt: 5, Mask: mask(1)}, Write{Slot: 1, Attempt: 6}}, []JobID{1}, nil, []JobID{1}, []JobID{2}},
		{"a row that another step's products cover", []Op{Accumulate{Slot: 1, Attempt: 5, Mask: mask(1, 2)}, Write{Slot: 2, Attempt: 6}}, []JobID{1}, nil, []JobID{1}, []JobID{2}},
		{"vectors are made, written and freed in order", []Op{NewVectors{Query: 7}, WriteVector{Query: 7}, dots, FreeVectors{Query: 7}}, []JobID{1}, nil, []JobID{1}, []JobID{2, 3}},
		{"vectors that are read are not freed", []Op{dots, FreeVectors{Query: 7}, FreeVectors{Query: 8}}, []JobID{1}, nil, []JobID{1}, []JobID{2}},
		{"a step's result goes past a query", []Op{dots, Compute{Query: 8, Mask: mask(0)}, Compute{Step: true, Query: 9, Mask: mask(0)}}, []JobID{1, 3}, nil, []JobID{1}, []JobID{2}},
		{"all goes before free", []Op{dots, Write{Slot: 1}, Free{}, Alloc{}}, []JobID{1}, nil, []JobID{1}, []JobID{2}},
		{"nothing goes before alloc", []Op{Alloc{}, dots, Write{Slot: 5}}, []JobID{1}, nil, []JobID{1}, []JobID{2, 3}},
	} {
		var q Queue
		var jobs []Job
		for i, op := range c.ops {
			j := Job{ID: JobID(i + 1), Op: op, Abort: new(pool.Cancel)}
			jobs = append(jobs, j)
			q.Add(j)
		}
		if got := next(&q); !slices.Equal(got, c.begin) {
			t.Errorf("%s: %d begin, want %d", c.name, got, c.begin)
		}
		for _, id := range c.cancel {
			jobs[id-1].Abort.Cancel()
		}
		for _, id := range c.finish {
			q.Finish(id)
		}
		if got := next(&q); !slices.Equal(got, c.after) {
			t.Errorf("%s: then %d begin, want %d", c.name, got, c.after)
		}
	}
}

// Jobs that conflict are carried out in their order, and all of them are, whatever the times that
// they take.
func TestQueueOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		mask := func() shard.Mask {
			m := shard.NewMask(5)
			for range 1 + rng.IntN(3) {
				m.Set(rng.IntN(5))
			}
			return m
		}
		op := func() Op {
			slot, attempt, query := rng.IntN(5), wire.Attempt(rng.IntN(3)), wire.QueryID(1+rng.IntN(3))
			return []Op{
				Write{Slot: slot, Attempt: attempt}, Write{Slot: slot, Attempt: attempt}, Accumulate{Slot: slot, Attempt: attempt, Mask: mask()},
				Multiply{Slot: slot, Attempt: attempt, Mask: mask()}, Abandon{Slot: slot, Attempt: attempt}, NewVectors{Query: query},
				WriteVector{Query: query}, Dots{Query: query, Mask: mask()}, Compute{Step: rng.IntN(2) == 0, Query: query, Mask: mask()},
				FreeVectors{Query: query}, Gram{Slots: []int{slot}}, Free{},
			}[rng.IntN(12)]
		}
		var q Queue
		var jobs, running []Job
		begun, ended := map[JobID]bool{}, map[JobID]bool{}
		for n := 1 + rng.IntN(40); len(ended) < n; {
			if len(jobs) < n && rng.IntN(2) == 0 {
				j := Job{ID: JobID(len(jobs) + 1), Op: op(), Abort: new(pool.Cancel)}
				jobs = append(jobs, j)
				q.Add(j)
			}
			if len(jobs) > 0 && rng.IntN(5) == 0 {
				jobs[rng.IntN(len(jobs))].Abort.Cancel()
			}
			for {
				j, ok := q.Next()
				if !ok {
					break
				}
				u := j.Op.use()
				for _, o := range jobs[:j.ID-1] {
					v := o.Op.use()
					nothing := j.cancelled() || o.cancelled() && !begun[o.ID]
					if !ended[o.ID] && !nothing && v.conflicts(&u) {
						t.Fatalf("%+v begins before %+v has ended", j.Op, o.Op)
					}
				}
				begun[j.ID] = true
				running = append(running, j)
			}
			if len(running) == 0 && len(jobs) == n && len(ended) < n {
				t.Fatalf("%d of %d jobs ended, and none can begin", len(ended), n)
			}
			if len(running) > 0 && rng.IntN(2) == 0 {
				i := rng.IntN(len(running))
				ended[running[i].ID] = true
				q.Finish(running[i].ID)
				running = slices.Delete(running, i, i+1)
			}
		}
		if !q.Idle() {
			t.Fatal("jobs are left")
		}
	})
}
