package coordinator

import (
	"fmt"

	"mfac/shard"
	"mfac/wire"
)

// This file: queries whose answer is numbers. They stay here till the query is closed, and are
// read a page at a time.

// leave answers a query with numbers. It reads no row any more: the slots of its version are free.
func (c *Core) leave(e *Effects, q *query, values []float64) {
	q.values, q.parts = values, nil
	if !readsWindow(q.kind) {
		q.win = nil
	}
	q.mask = shard.NewMask(c.rec.Spec.Slots())
	c.answer(e, q)
}

// valuesRequest answers with a page of a query's numbers.
func (c *Core) valuesRequest(e *Effects, in Request, m *wire.Values) error {
	q := c.queries[m.Query]
	if q == nil || q.closing {
		return c.notOpen(m.Query)
	}
	if !q.ready {
		return wire.Errorf(wire.CodeBusy, "query", uint64(m.Query), "ready", "wait for its result first")
	}
	count := q.count()
	if m.N > count || m.Lo > count-m.N {
		return wire.Invalid("numbers", fmt.Sprintf("[%d, %d+%d)", m.Lo, m.Lo, m.N), fmt.Sprintf("within [0, %d), the query's", count))
	}
	if q.row > 0 {
		page, err := c.influencePage(q, m.Lo, m.N)
		if err != nil {
			return err
		}
		e.send(in.From, &wire.ValuesReply{Lo: m.Lo, N: int64(len(page)), Payload: wire.AppendFloats(nil, page)})
		return nil
	}
	page := q.values[m.Lo:][:m.N]
	e.send(in.From, &wire.ValuesReply{Lo: m.Lo, N: m.N, Payload: wire.AppendFloats(nil, page)})
	return nil
}

// notOpen is why a query is not open.
func (c *Core) notOpen(id wire.QueryID) error {
	if err, ok := c.gone.get(id); ok {
		return err
	}
	return wire.Errorf(wire.CodeUnknownQuery, "query", uint64(id), "open", "it was closed, or its coordinator changed")
}

// querySteps tells the steps of the rows that a query's numbers are of.
func (c *Core) querySteps(e *Effects, in Request, id wire.QueryID) error {
	q := c.queries[id]
	if q == nil || q.closing {
		return c.notOpen(id)
	}
	if q.steps == nil {
		return wire.Invalid("query", uint64(id), "one whose numbers are of the window's rows")
	}
	e.send(in.From, &wire.Steps{Version: q.version, Rows: len(q.steps), Payload: wire.AppendUint64s(nil, q.steps)})
	return nil
}
