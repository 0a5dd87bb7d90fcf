package worker_test

import (
	"fmt"
	"testing"

	"mfac/shard"
	"mfac/wire"
	"mfac/worker"
)

// rig steps a core and carries out its jobs at once.
type rig struct {
	t      *testing.T
	core   *worker.Core
	engine worker.Engine
	last   worker.Token
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, core: worker.NewCore(worker.Config{ID: "w", Instance: 1, Capacity: 1 << 20, Budget: 1 << 20, TickMS: 50}), engine: worker.Engine{Threads: 1}}
	r.core.Step(worker.Incarnation{Value: 7})
	return r
}

// ask returns what a request is answered, nil where it waits.
func (r *rig) ask(m wire.Message) (answer wire.Message) {
	r.t.Helper()
	r.last++
	token := r.last
	for todo := []worker.Input{worker.Request{From: token, Caller: "c", Msg: m}}; len(todo) > 0; todo = todo[1:] {
		e := r.core.Step(todo[0])
		for _, j := range e.Jobs {
			todo = append(todo, r.engine.Do(j))
		}
		for _, s := range e.Sends {
			if s.To == token {
				answer = s.Msg
			}
		}
	}
	return answer
}

func head(revision uint64) wire.Shard {
	return wire.Shard{Seq: 1, Run: "run", Epoch: wire.Epoch{Incarnation: 7, Revision: revision}}
}

func adopt(revision, placed uint64) *wire.Adopt {
	return &wire.Adopt{Shard: head(revision), Instance: 1, UID: 1, Placed: placed, Cols: 8, Slots: 3, Store: wire.F32}
}

func code(m wire.Message) wire.Code {
	if e, ok := m.(*wire.Error); ok {
		return e.Code
	}
	return ""
}

// A shard that is placed here anew replaces the one of its earlier place, also where that was all
// the worker had of the run.
func TestPlacedAnew(t *testing.T) {
	r := newRig(t)
	for i, placed := range []uint64{1, 2, 3} {
		if a, ok := r.ask(adopt(uint64(i+1), placed)).(*wire.Adopted); !ok || a.Version != 0 {
			t.Fatalf("adopt, placed %d: %v", placed, a)
		}
		if m := r.ask(&wire.Install{Shard: head(uint64(i + 1)), Version: 5}); code(m) != "" {
			t.Fatalf("install, placed %d: %v", placed, m)
		}
	}
	in := r.core.Inspect()
	bytes, err := shard.Bytes(shard.Config{Slots: 3, Cols: 8})
	if err != nil || in.Used != bytes || len(in.Shards) != 1 {
		t.Errorf("%d bytes used by %d shards, want %d by one (%v)", in.Used, len(in.Shards), bytes, err)
	}
}

// A late copy of adopt makes a shard on a worker that has restarted since. It holds none of what
// its owner then asks for, and must not answer with zeros.
func TestLateAdoptAnswersNothing(t *testing.T) {
	r := newRig(t)
	r.ask(adopt(1, 1))
	late := []wire.Control{
		&wire.Stage{Shard: head(1), Step: 1, Attempt: 1},
		&wire.Hold{Shard: head(1), Query: 7, Damping: 1, Payload: wire.AppendSlots(nil, []wire.Slot{0})},
		&wire.Prepare{Shard: head(1), Query: 1, Vectors: 1, DType: wire.F32, Mask: []byte{1}},
		&wire.Coef{Shard: head(1), Query: 2, Kind: wire.KindRow, Vectors: 1, Result: wire.F32, Mask: []byte{1}},
		&wire.Factor{Shard: head(1), Query: 3, Rows: 1, N: 1, Damping: 1, Result: wire.F32, Payload: wire.AppendFloats([]byte{0, 0, 0, 0}, []float64{1})},
		&wire.Columns{Shard: head(1), Query: 4, Mask: []byte{1}, Payload: make([]byte, 8)},
		&wire.Prune{Shard: head(1), Query: 5, Do: wire.PruneBegin, Kind: wire.KindPrune},
		&wire.Blocks{Shard: head(1), Query: 6, Do: wire.BlocksBegin, What: wire.BlocksDiag, Vectors: 1, Damping: 1, N: 1, Size: 1, Payload: wire.BeginPayload(nil, nil, wire.Partition{Starts: []int64{0}, End: 1})},
		&wire.Gram{Shard: head(1), I1: 1, Payload: []byte{0, 0, 0, 0}},
		&wire.Whiten{Shard: head(1), Query: 7, N: 8},
		&wire.Recall{Shard: head(1), Query: 8, Of: 7, Damping: 1, Result: wire.F64},
	}
	for _, m := range late {
		if got := r.ask(m); code(got) != wire.CodeUnknownShard {
			t.Errorf("%s before install: %v, want unknown_shard", m.Type(), got)
		}
	}
	r.ask(&wire.Install{Shard: head(1)}) // of an empty window: it can come late too
	for _, m := range late[1:6] {
		if got := r.ask(m); code(got) != wire.CodeUnknownShard {
			t.Errorf("%s of a row that is not there: %v, want unknown_shard", m.Type(), got)
		}
	}
}

// The epochs of runs that have left are remembered, of so many.
func TestEpochsOfRunsThatLeft(t *testing.T) {
	r := newRig(t)
	run := func(m wire.Control, name string) wire.Message {
		m.Head().Run = name
		return m
	}
	const many = 1024
	for i := range many + 1 {
		name := fmt.Sprintf("run%d", i)
		if _, ok := r.ask(run(adopt(9, 1), name)).(*wire.Adopted); !ok {
			t.Fatalf("%s is not adopted", name)
		}
		if _, ok := r.ask(run(&wire.Release{Shard: head(9), UID: 1}, name)).(*wire.OK); !ok {
			t.Fatalf("%s is not released", name)
		}
	}
	for i, want := range map[int]wire.Code{many: wire.CodeStaleEpoch, 1: wire.CodeStaleEpoch, 0: ""} { // the first one is forgotten
		if got := code(r.ask(run(adopt(3, 1), fmt.Sprintf("run%d", i)))); got != want {
			t.Errorf("run %d, adopted at a lower epoch: %q, want %q", i, got, want)
		}
	}
}
