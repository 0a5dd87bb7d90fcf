package worker_test

import (
	"runtime"
	"testing"

	"mfac/wire"
	"mfac/worker"
)

// A thousand copies of a large chunk that is not written yet hold the memory of one, and all that
// don't wait have been answered.
func TestCopiesAreNotKept(t *testing.T) {
	const copies, cols = 1000, wire.MaxPayload / 4
	core := worker.NewCore(worker.Config{ID: "w", Instance: 1, Capacity: 1 << 30, Budget: 1 << 20, TickMS: 50})
	engine := worker.Engine{Threads: 1}
	core.Step(worker.Incarnation{Value: 7})
	a := adopt(5, 1)
	a.Cols = cols
	for _, m := range []wire.Message{a, &wire.Install{Shard: head(5)}, &wire.Stage{Shard: head(5), Step: 1, Attempt: 1}} {
		e := core.Step(worker.Request{From: 1, Caller: "c", Msg: m})
		for _, j := range e.Jobs {
			core.Step(engine.Do(j))
		}
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	waiting := map[worker.Token]bool{}
	busy := 0
	take := func(e worker.Effects) {
		for _, s := range e.Sends {
			if !waiting[s.To] {
				t.Fatalf("request %d is answered twice, or there was none", s.To)
			}
			delete(waiting, s.To)
			if code(s.Msg) == wire.CodeBusy {
				busy++
			}
		}
	}
	var jobs []worker.Job
	for i := range copies {
		p := make([]byte, wire.MaxPayload)
		m := &wire.Chunk{Run: "run", Epoch: head(5).Epoch, Step: 1, Attempt: 1, N: cols, DType: wire.F32, Sum: wire.Checksum(p), Payload: p}
		token := worker.Token(10 + i)
		waiting[token] = true
		e := core.Step(worker.Request{From: token, Caller: "c", Msg: m})
		take(e)
		jobs = append(jobs, e.Jobs...)
	}
	if grown := heap() - before; grown > 4*wire.MaxPayload {
		t.Errorf("%d copies hold %d bytes, want one of %d", copies, grown, wire.MaxPayload)
	}
	if len(jobs) != 1 || len(waiting) > 8 || busy != copies-len(waiting) {
		t.Errorf("%d jobs; %d copies wait, %d have heard busy", len(jobs), len(waiting), busy)
	}
	take(core.Step(engine.Do(jobs[0])))
	if len(waiting) != 0 {
		t.Errorf("%d copies are never answered", len(waiting))
	}
}
