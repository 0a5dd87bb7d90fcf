package worker

import (
	"testing"

	"mfac/shard"
	"mfac/wire"
)

// W is not given back while a job reads it, and a row is not zero before the W that has traces of it is.
func TestWhiteGoesInOrder(t *testing.T) {
	var q Queue
	mask := shard.MaskOf(8, 3)
	for i, op := range []Op{
		Compute{Query: 7, From: 5, Kind: wire.KindDiag, Mask: mask}, // reads W of query 5
		FreeVectors{Query: 5, Slots: []int{3}},
		Erase{Slot: 3},
		Erase{Slot: 4},
	} {
		q.Add(Job{ID: JobID(i + 1), Op: op})
	}
	next := func(want JobID) {
		t.Helper()
		j, ok := q.Next()
		if j.ID != want || ok != (want != 0) {
			t.Fatalf("job %d, want %d", j.ID, want)
		}
	}
	for id := JobID(1); id <= 4; id++ {
		next(id)
		next(0)
		q.Finish(id)
	}
	// The other way round: who comes later reads nothing that is being made.
	q = Queue{}
	q.Add(Job{ID: 1, Op: NewWhite{Query: 5, Slots: []int{3}}})
	q.Add(Job{ID: 2, Op: ReadColumns{Of: 5}})
	next(1)
	next(0)
	q.Finish(1)
	next(2)
}
