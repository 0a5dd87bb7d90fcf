package worker

import (
	"errors"
	"testing"

	"mfac/wire"
)

// TestWorkIsBounded: so that a result of many rows does not keep others waiting for longer than
// they are willing to, a worker takes on reading no more than maxWork bytes, and one chunk.
func TestWorkIsBounded(t *testing.T) {
	const cols, slots = 500_000, 600 // a chunk of 100,000 columns reads 240 MB
	c := NewCore(Config{ID: "w1", Instance: 1, Capacity: 1 << 40, Budget: 1 << 30, TickMS: 50})
	epoch := wire.Epoch{Incarnation: 1, Revision: 5}
	head := wire.Shard{Run: "digits", Epoch: epoch}
	c.Step(Incarnation{1})
	ask := func(m wire.Message) Effects { return c.Step(Request{From: 1, Caller: "c", Msg: m}) }
	e := ask(&wire.Adopt{Shard: head, Instance: 1, UID: 7, Placed: 5, Cols: cols, Slots: slots, Store: wire.F32})
	c.Step(Done{Job: e.Jobs[0].ID})
	ask(&wire.Install{Shard: head})
	coef := wire.AppendFloats(nil, make([]float64, slots))
	mask := make([]byte, (slots+7)/8)
	ask(&wire.Coef{Shard: head, Query: 9, Kind: wire.KindCombine, Vectors: 1, Result: wire.F32, Mask: mask, Payload: coef})
	var jobs []Job
	fetch := func(lo int64) error {
		t.Helper()
		e := ask(&wire.Fetch{Run: "digits", Epoch: epoch, Query: 9, Lo: lo, N: 100_000, DType: wire.F32})
		if len(e.Sends) > 0 {
			return e.Sends[0].Msg.(*wire.Error)
		}
		jobs = append(jobs, e.Jobs...)
		return nil
	}
	for lo := range int64(2) {
		if err := fetch(lo * 100_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := fetch(200_000); !errors.Is(err, wire.ErrBusy) {
		t.Errorf("480 MB are to be read, the next fetch hears %v, want busy", err)
	}
	if err := fetch(0); err != nil || len(jobs) != 2 {
		t.Errorf("columns that are being worked out: %v, %d jobs", err, len(jobs))
	}
	for _, j := range jobs {
		e := c.Step(Done{Job: j.ID, Payload: make([]byte, 400_000)})
		if len(e.Sends) == 0 {
			t.Error("a result is not sent")
		}
	}
	if err := fetch(200_000); err != nil || len(jobs) != 3 {
		t.Errorf("after they are done: %v, %d jobs", err, len(jobs))
	}
}
