package coordinator

import (
	"fmt"

	"mfac/wire"
)

// This file: what is asked of workers, until it is answered.

// call is a request to a worker that has not been answered.
type call struct {
	shard int
	msg   wire.Control
	next  int64 // tick at which it is sent again
	every int64 // ticks
	done  func(*Effects, wire.Message)
}

func (c *Core) head(s int, seq uint64) wire.Shard {
	return wire.Shard{Seq: seq, Run: c.rec.Spec.Name, Epoch: c.epoch, Shard: s}
}

// call asks the worker of shard s until it answers; done hears the answer, an error too.
func (c *Core) call(e *Effects, s int, msg wire.Control, done func(*Effects, wire.Message)) {
	c.lastSeq++
	*msg.Head() = c.head(s, c.lastSeq)
	every := c.ticks(retryMS)
	c.calls[c.lastSeq] = &call{shard: s, msg: msg, next: c.tick + every, every: every, done: done}
	e.Calls = append(e.Calls, Call{c.shards[s].worker, msg})
}

// forget drops the calls that f picks: nobody waits for their answers any more.
func (c *Core) forget(f func(wire.Control) bool) {
	for seq, call := range c.calls {
		if f(call.msg) {
			delete(c.calls, seq)
		}
	}
}

// reply takes a worker's answer to the call that it belongs to. Late and doubled ones belong to
// none.
func (c *Core) reply(e *Effects, m wire.Message) {
	var seq uint64
	switch m := m.(type) {
	case *wire.OK:
		seq = m.Seq
	case *wire.Error:
		seq = m.Seq
	case wire.Control:
		if m.Head().Epoch != c.epoch || m.Head().Run != c.rec.Spec.Name {
			return
		}
		seq = m.Head().Seq
	}
	call := c.calls[seq]
	if call == nil {
		return
	}
	if err, ok := m.(*wire.Error); ok {
		switch err.Code {
		case wire.CodeUnavailable, wire.CodeBusy, wire.CodeDenied, wire.CodeProtocol:
			return // it is sent again
		case wire.CodeStaleEpoch:
			if err.Epoch.Incarnation == c.epoch.Incarnation && err.Epoch.Revision > c.epoch.Revision {
				c.enter(stopped, "another coordinator owns the run")
				c.abandon(e, wire.Errorf(wire.CodeUnavailable, "run", c.rec.Spec.Name, "served here", "another coordinator owns it"))
				e.Lost = fmt.Sprintf("shard %d has adopted epoch %v", call.shard, err.Epoch)
				return
			}
			c.restart(e, fmt.Sprintf("shard %d: %v", call.shard, err))
			return
		case wire.CodeUnknownShard:
			c.restart(e, fmt.Sprintf("worker %s has lost shard %d", c.shards[call.shard].worker, call.shard))
			return
		}
	}
	delete(c.calls, seq)
	call.done(e, m)
}

// said is an answer that nobody expected, in words.
func said(m wire.Message) string {
	if err, ok := m.(*wire.Error); ok {
		return err.Error()
	}
	return m.Type() + " that does not fit"
}
