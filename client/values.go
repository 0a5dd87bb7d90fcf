package client

import (
	"context"
	"fmt"

	"mfac/wire"
)

// This file: queries whose answer is numbers that lie at the coordinator.

// numbers asks a query whose answer is numbers: in has its vectors, or is nil; req may be added to
// before ask is called, and values has the numbers after it.
func (r *Run) numbers(kind string, vectors int, in input, c *call) *question {
	q := r.question(kind, vectors, numbersOnly{}, c)
	q.in, q.out, q.n = in, nil, 0
	return q
}

// numbersOnly stands for the output of a query that has no result of length d.
type numbersOnly struct{ output }

func (numbersOnly) dtype() wire.DType { return wire.F64 }

// read fetches the numbers that a query has left at the coordinator, page by page, and the steps
// that they are of.
func (q *question) read(ctx context.Context, info *wire.Info, id wire.QueryID, count int64) error {
	if q.byRow {
		window, err := q.r.labelled(ctx, id, whileNoRoom)
		if err != nil {
			return err
		}
		q.steps, q.labels = window.Steps, window.Labels
	}
	q.values = make([]float64, 0, min(count, 8*wire.MaxValuesReply))
	for lo := int64(0); lo < count; lo = int64(len(q.values)) {
		req := &wire.Values{Run: q.r.name, Epoch: info.Epoch, Query: id, Lo: lo, N: min(count-lo, wire.MaxValuesReply)}
		page, err := ask[*wire.ValuesReply](ctx, q.r.c, wire.OpValues, req, whileNoRoom)
		if err != nil {
			return err
		}
		if page.Lo != lo || page.N > req.N {
			return wire.Errorf(wire.CodeMalformed, "numbers", fmt.Sprintf("[%d, %d)", page.Lo, page.Lo+page.N), fmt.Sprintf("the first of [%d, %d)", lo, lo+req.N))
		}
		q.values = append(q.values, wire.Floats(page.Payload)...)
	}
	return nil
}
