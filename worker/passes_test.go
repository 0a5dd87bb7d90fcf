package worker

import (
	"testing"

	"mfac/shard"
	"mfac/wire"
)

// reading counts the columns of each slot that jobs read, by what an op does. Write and WriteVector read no
// row.
func reading(t *testing.T, op Op, slots, cols int64, read []int64) {
	t.Helper()
	each := func(mask shard.Mask, n int64) {
		for s := range read {
			if mask.Has(s) {
				read[s] += n
			}
		}
	}
	switch o := op.(type) {
	case Multiply:
		each(o.Mask, cols)
	case Dots:
		each(o.Mask, cols)
	case Residuals:
		each(o.Mask, cols)
	case Compute:
		if o.Kind == wire.KindRow {
			t.Fatalf("%+v", o)
		}
		each(o.Mask, o.N)
	case Gram:
		t.Fatalf("%+v reads rows many times", o)
	}
}

// TestPasses: a step that is published and preconditioned reads each stored row twice in all, once
// for the products with the new one, once for the combination, whatever the chunks it comes and
// goes in. A third time comes with norms, which the coordinator asks for where scalars can't settle the
// bound of the answer.
func TestPasses(t *testing.T) {
	const cols, slots, rows, chunk = 5000, 9, 8, 1024
	c, engine := NewCore(Config{ID: "w1", Instance: 1, Capacity: 1 << 30, Budget: 1 << 20, TickMS: 50}), &Engine{}
	epoch := wire.Epoch{Incarnation: 1, Revision: 5}
	var read []int64
	seq, last := uint64(0), Token(0)
	// ask has a request done, with all its jobs, and returns the last answer to it.
	ask := func(m wire.Message) (answer wire.Message) {
		t.Helper()
		last++
		queue := []Input{Request{From: last, Caller: "c", Msg: m}}
		for ; len(queue) > 0; queue = queue[1:] {
			e := c.Step(queue[0])
			for _, j := range e.Jobs {
				reading(t, j.Op, slots, cols, read)
				queue = append(queue, engine.Do(j))
			}
			for _, s := range e.Sends {
				if err, ok := s.Msg.(*wire.Error); ok {
					t.Fatalf("%s: %v", m.Type(), err)
				}
				if s.To == last {
					answer = s.Msg
				}
			}
		}
		return answer
	}
	head := func() wire.Shard {
		seq++
		return wire.Shard{Seq: seq, Run: "digits", Epoch: epoch}
	}
	c.Step(Incarnation{1})
	ask(&wire.Adopt{Shard: head(), Instance: 1, UID: 7, Placed: 5, Cols: cols, Slots: slots, Store: wire.F32})
	ask(&wire.Install{Shard: head()})
	publish := func(step wire.Step, query wire.QueryID) {
		t.Helper()
		slot := wire.Slot(step)
		ask(&wire.Stage{Shard: head(), Step: step, Attempt: wire.Attempt(step + 1), Slot: slot})
		for lo := int64(0); lo < cols; lo += chunk {
			p := make([]byte, 4*min(chunk, cols-lo))
			p[3] = 0x3f // a small number
			ask(&wire.Chunk{Run: "digits", Epoch: epoch, Step: step, Attempt: wire.Attempt(step + 1), Lo: lo, N: int64(len(p) / 4), DType: wire.F32, Sum: wire.Checksum(p), Payload: p})
		}
		m := &wire.Commit{Shard: head(), Version: wire.Version(step + 1), Step: step, Attempt: wire.Attempt(step + 1), Slot: slot, Query: query}
		if query != 0 {
			m.Result, m.Payload = wire.F32, wire.AppendFloats(nil, make([]float64, slots))
		}
		ask(m)
	}
	for step := range wire.Step(rows) {
		publish(step, 0)
	}

	read = make([]int64, slots)
	publish(rows, 77)
	for lo := int64(0); lo < cols; lo += chunk {
		if _, ok := ask(&wire.Fetch{Run: "digits", Epoch: epoch, Query: 77, Lo: lo, N: min(chunk, cols-lo), DType: wire.F32}).(*wire.Part); !ok {
			t.Fatal("no part")
		}
	}
	for s, n := range read {
		if n != 2*cols {
			t.Errorf("the row in slot %d: %d columns are read, want twice %d", s, n, cols)
		}
	}
	ask(&wire.Norms{Shard: head(), Query: 77})
	for s, n := range read {
		if n != 3*cols {
			t.Errorf("the row in slot %d: %d columns are read with norms, want three times %d", s, n, cols)
		}
	}
}
