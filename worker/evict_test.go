package worker

import (
	"slices"
	"testing"

	"mfac/shard"
	"mfac/shard/pool"
)

// A row is zeroed when nothing that has begun reads it, and nothing reads it, or writes it anew,
// before it is zero. What has to do with other rows goes on.
func TestErasesAlone(t *testing.T) {
	mask := func(slots ...int) shard.Mask { return shard.MaskOf(9, slots...) }
	for name, reader := range map[string]Op{
		"dots":          Dots{Query: 7, Mask: mask(0, 1)},
		"result":        Compute{Query: 7, Mask: mask(1)},
		"step's result": Compute{Step: true, Query: 7, Mask: mask(1)},
		"norms":         Residuals{Query: 7, Mask: mask(1)},
		"gram":          Gram{Slots: []int{1, 4}},
		"products":      Multiply{Slot: 3, Attempt: 9, Mask: mask(1, 3)},
		"accumulate":    Accumulate{Slot: 3, Attempt: 9, Mask: mask(1, 3)},
		"own products":  Multiply{Slot: 1, Attempt: 9, Mask: mask(1)},
	} {
		var q Queue
		abort := new(pool.Cancel)
		q.Add(Job{ID: 1, Op: reader, Abort: abort})
		if got := next(&q); !slices.Equal(got, []JobID{1}) {
			t.Fatalf("%s: %v begin", name, got)
		}
		abort.Cancel() // its query was closed: it ends soon, and has not yet
		q.Add(Job{ID: 2, Op: Erase{Slot: 1}})
		q.Add(Job{ID: 3, Op: Write{Slot: 1, Attempt: 10}})
		q.Add(Job{ID: 4, Op: Compute{Query: 8, Mask: mask(1)}})
		q.Add(Job{ID: 5, Op: WriteVector{Query: 9}})
		if got := next(&q); !slices.Equal(got, []JobID{5}) {
			t.Errorf("%s: %v begin before it has ended", name, got)
		}
		q.Finish(1)
		if got := next(&q); !slices.Equal(got, []JobID{2}) {
			t.Errorf("%s: %v begin when it has ended", name, got)
		}
		q.Finish(2)
		if got := next(&q); !slices.Equal(got, []JobID{3}) {
			t.Errorf("%s: %v begin when the row is zero", name, got)
		}
		q.Finish(3)
		if got := next(&q); !slices.Equal(got, []JobID{4}) {
			t.Errorf("%s: %v begin at last", name, got)
		}
	}
}
