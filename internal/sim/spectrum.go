package sim

import (
	"math"
	"slices"

	"mfac/wire"
)

// This file: queries for numbers of the spectrum, which the coordinator answers from A alone.

// spectrumTolerance is what the reference's own sums may be off by, relative.
const spectrumTolerance = 1e-9

// scalars asks for the numbers at a damping, once, and checks them. It may walk away in the middle, so that
// the job under way is stopped.
func (c *client) scalars(abandon bool, until ms) {
	w := c.w
	damping := w.shape.damping * []float64{1, 0.5, 3}[w.rng.IntN(3)]
	m := &wire.Query{
		Run: runName, Token: w.rng.Uint64(), Kind: wire.KindScalars, Vectors: 1, Result: wire.F64,
		DeadlineMS: w.between(500, 8000), Payload: wire.AppendFloats(nil, []float64{damping}), Whole: true,
	}
	var r *wire.QueryReply
	for r == nil {
		if w.now >= until {
			return
		}
		switch reply := c.owner(m).(type) {
		case *wire.QueryReply:
			r = reply
		case *wire.Error:
			switch reply.Code {
			case wire.CodeBusy, wire.CodeUnavailable:
				c.sleep(w.between(20, 200))
			case wire.CodeUnknownQuery, wire.CodeVersionGone: // it has ended while its answers were lost
				return
			default:
				w.fail("scalars are answered %s: %v", reply.Code, reply)
			}
		}
	}
	if !abandon {
		c.readScalars(r, damping, until)
	}
	c.owner(&wire.Close{Run: runName, Epoch: r.Epoch, Query: r.Query})
}

func (c *client) readScalars(r *wire.QueryReply, damping float64, until ms) {
	w := c.w
	count := int64(wire.ScalarsHead + wire.ScalarsEach)
	for ready := false; w.now < until; {
		var m wire.Message = &wire.Result{Run: runName, Epoch: r.Epoch, Query: r.Query}
		if ready {
			m = &wire.Values{Run: runName, Epoch: r.Epoch, Query: r.Query, N: count}
		}
		switch reply := c.owner(m).(type) {
		case *wire.ResultReply:
			if ready = reply.State == wire.StateReady; ready && (reply.Values != count || reply.Version != r.Version || reply.Rows != r.Rows) {
				w.fail("V6 scalars at version %d with %d rows: %s", r.Version, r.Rows, describe(reply))
			}
		case *wire.ValuesReply:
			w.check.scalars(r, damping, wire.Floats(reply.Payload))
			return
		case *wire.Error:
			switch reply.Code {
			case wire.CodeBusy, wire.CodeUnavailable:
				c.sleep(w.between(20, 200))
			case wire.CodeUnknownQuery, wire.CodeVersionGone, wire.CodeStaleEpoch:
				return
			default:
				w.fail("scalars query %d is answered %s: %v", uint64(r.Query), reply.Code, reply)
			}
		}
	}
}

// scalars is V6 of such an answer: N, tr F and the effective dimension are those of the rows of its version.
func (k *checker) scalars(r *wire.QueryReply, damping float64, x []float64) {
	w, now := k.w, k.windows[r.Version]
	if now == nil || len(now.rows) != r.Rows {
		w.fail("V6 scalars at version %d with %d rows, which nobody served", r.Version, r.Rows)
		return
	}
	roots := k.roots(now.rows)
	g := make([][]float64, len(now.rows))
	for i, row := range now.rows {
		p := k.attempts[row.Attempt]
		if len(p.others) > 0 {
			return // which of two it is can't be told
		}
		g[i] = times(roots[i], k.stored(p.row))
	}
	w.stats.Answered++
	n := x[0]
	if !slices.ContainsFunc(k.settings, func(s setting) bool { // which of them the run had when it was asked is not told
		return s.divisor == wire.Count && n == float64(len(g)) || s.divisor == wire.Capacity && n == float64(now.window)
	}) {
		w.fail("V6 N at version %d with %d rows is %g", r.Version, r.Rows, n)
	}
	trace, dim := 0.0, 0.0
	for i := range g {
		trace += dot(g[i], g[i]) / n
		a := make([]float64, len(g))
		for j := range g {
			a[j] = dot(g[i], g[j])
		}
		dim += solve(g, n*damping, a)[i]
	}
	near := func(what string, got, bound, want float64) {
		if !(math.Abs(got-want) <= bound+spectrumTolerance*math.Abs(want)) {
			w.fail("V6 %s at version %d is %g ± %g, not %g", what, r.Version, got, bound, want)
		}
	}
	near("tr F", x[1], x[2], trace)
	near("the effective dimension", x[wire.ScalarsHead+4], x[wire.ScalarsHead+5], dim)
}
