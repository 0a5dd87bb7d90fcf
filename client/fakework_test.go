package client

import (
	"math"
	"slices"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/wire"
)

// work is what the fake does for a run's steps and queries.
func (f *fake) work(r *fakeRun, worker string, m wire.Message) (wire.Message, *wire.Error) {
	switch m := m.(type) {
	case *wire.Open:
		return r.openStep(m)
	case *wire.Wait:
		return r.wait(m)
	case *wire.Chunk:
		if err := r.holds(worker, m.Shard, m.Lo, m.N); err != nil {
			return nil, err
		}
		return f.chunk(r, worker, m)
	case *wire.Query:
		return r.query(m)
	case *wire.Vec:
		if err := r.holds(worker, m.Shard, m.Lo, m.N); err != nil {
			return nil, err
		}
		q := r.queries[m.Query]
		if q == nil {
			return nil, &wire.Error{Code: wire.CodeUnknownQuery}
		}
		for i, x := range numbers(m.Payload, m.DType) {
			q.v[m.Index][m.Lo+int64(i)] = x
		}
		q.got[[2]int64{int64(m.Index), m.Lo}] = m.N
		return f.ack(worker, m.Want), nil
	case *wire.Result:
		q := r.queries[m.Query]
		if q == nil {
			return nil, &wire.Error{Code: wire.CodeUnknownQuery}
		}
		if q.Kind == wire.KindVector && !q.whole(r.info.Spec.Dim) {
			return &wire.ResultReply{State: wire.StatePending}, nil
		}
		bounds := make([]float64, q.Vectors)
		for i := range bounds {
			bounds[i] = 1e-12 * float64(1+i)
		}
		return &wire.ResultReply{State: wire.StateReady, Version: q.version, Rows: q.rows, Bounds: bounds}, nil
	case *wire.Fetch:
		if err := r.holds(worker, m.Shard, m.Lo, m.N); err != nil {
			return nil, err
		}
		return f.fetch(r, worker, m)
	case *wire.Close:
		delete(r.queries, m.Query)
		return &wire.OK{}, nil
	}
	return nil, &wire.Error{Code: wire.CodeInternal}
}

func (r *fakeRun) holds(worker string, s int, lo, n int64) *wire.Error {
	if s >= len(r.info.Owner) || r.info.Workers[r.info.Owner[s]] != worker {
		return &wire.Error{Code: wire.CodeUnknownShard}
	}
	if from, width := r.info.Range(s); lo < from || lo+n > from+width {
		return wire.Invalid("columns", lo, "in the shard")
	}
	return nil
}

func (f *fake) ack(worker string, want int64) *wire.Ack {
	a := &wire.Ack{Columns: 1}
	a.Credit, a.CreditMS = f.credit(worker, want)
	return a
}

func (r *fakeRun) openStep(m *wire.Open) (wire.Message, *wire.Error) {
	if m.Step <= r.info.Newest {
		return nil, wire.Errorf(wire.CodeNotGrowing, "step", m.Step, "above the newest")
	}
	st := r.open[m.Step]
	if st == nil || st.token != m.Token {
		if len(r.open) >= r.info.Spec.Spare && st == nil {
			return nil, &wire.Error{Code: wire.CodeBusy, Field: "open steps", Value: "2"}
		}
		r.next++
		st = &fakeStep{attempt: wire.Attempt(r.next), token: m.Token, got: map[int64]int64{}, g: make([]float32, r.info.Spec.Dim)}
		r.open[m.Step] = st
	}
	r.labels[m.Step] = m.Label
	if m.Precondition != nil {
		st.pre = m.Precondition
	}
	reply := &wire.OpenReply{Epoch: r.info.Epoch, Attempt: st.attempt}
	for s := range r.info.Lo {
		if lo, n := r.info.Range(s); st.have(lo, n) == n {
			reply.Whole = append(reply.Whole, s)
		}
	}
	return reply, nil
}

func (st *fakeStep) have(lo, n int64) (have int64) {
	for at, k := range st.got {
		if at >= lo && at < lo+n {
			have += k
		}
	}
	return have
}

func (f *fake) chunk(r *fakeRun, worker string, m *wire.Chunk) (wire.Message, *wire.Error) {
	st := r.open[m.Step]
	if st == nil || st.attempt != m.Attempt {
		return nil, &wire.Error{Code: wire.CodeNotOpen}
	}
	if sum := wire.Checksum(m.Payload); sum != m.Sum {
		f.t.Errorf("checksum of chunk at %d is wrong", m.Lo)
	}
	x := numbers(m.Payload, m.DType)
	for i, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			delete(r.open, m.Step)
			return nil, wire.Errorf(wire.CodeNotFinite, "column", m.Lo+int64(i), "finite", "as the fake says")
		}
	}
	if n, ok := st.got[m.Lo]; ok && n != m.N {
		f.t.Errorf("chunk at %d has %d columns, had %d", m.Lo, m.N, n)
	}
	st.got[m.Lo] = m.N
	for i := range x {
		st.g[m.Lo+int64(i)] = float32(x[i])
	}
	r.commit()
	return f.ack(worker, m.Want), nil
}

// commit commits what is whole, in the order of steps.
func (r *fakeRun) commit() {
	for len(r.open) > 0 {
		var step wire.Step
		for s := range r.open {
			if step == 0 || s < step {
				step = s
			}
		}
		st := r.open[step]
		if st.have(0, r.info.Spec.Dim) != r.info.Spec.Dim {
			return
		}
		delete(r.open, step)
		r.rows = append(r.rows, step)
		if len(r.rows) > r.info.Spec.Window {
			r.rows = r.rows[1:]
		}
		r.info.Version++
		r.info.Newest, r.info.Rows = step, len(r.rows)
		r.grads[step] = st.g
		reply := &wire.WaitReply{State: wire.StateCommitted, Version: r.info.Version, Rows: len(r.rows)}
		if st.pre != nil {
			q := r.newQuery(wire.Query{Vectors: 1, Kind: wire.KindCombine, Result: st.pre.Result})
			for i, x := range st.g {
				q.result[0][i] = 2 * float64(x)
			}
			reply.Query, reply.Bounds = wire.QueryID(r.next), []float64{1e-12}
		}
		r.done[st.attempt] = reply
	}
}

func (r *fakeRun) wait(m *wire.Wait) (wire.Message, *wire.Error) {
	if reply := r.done[m.Attempt]; reply != nil {
		again := *reply
		if r.queries[reply.Query] == nil {
			again.Query = 0
		}
		return &again, nil
	}
	if m.Epoch != r.info.Epoch {
		return nil, &wire.Error{Code: wire.CodeStaleEpoch, Epoch: r.info.Epoch}
	}
	if st := r.open[m.Step]; st == nil || st.attempt != m.Attempt {
		return nil, &wire.Error{Code: wire.CodeUnknownStep}
	}
	return &wire.WaitReply{State: wire.StatePending}, nil
}

func (r *fakeRun) newQuery(m wire.Query) *fakeQuery {
	q := &fakeQuery{Query: m, version: r.info.Version, rows: len(r.rows), got: map[[2]int64]int64{}}
	for range m.Vectors {
		q.v = append(q.v, make([]float64, r.info.Spec.Dim))
		q.result = append(q.result, make([]float64, r.info.Spec.Dim))
	}
	r.next++
	r.queries[wire.QueryID(r.next)] = q
	return q
}

func (r *fakeRun) query(m *wire.Query) (wire.Message, *wire.Error) {
	switch {
	case m.Exactly != 0 && m.Exactly < r.info.Version:
		return nil, &wire.Error{Code: wire.CodeVersionGone}
	case max(m.AtLeast, m.Exactly) > r.info.Version:
		return nil, &wire.Error{Code: wire.CodeBehind}
	case m.MinRows > len(r.rows):
		return nil, wire.Errorf(wire.CodeTooFewRows, "rows", len(r.rows), "more")
	}
	var steps []wire.Step
	var coef []float64
	switch m.Kind {
	case wire.KindCombine:
		steps = wire.Uint64s[wire.Step](m.Payload[:8*m.Steps])
		coef = wire.Floats(m.Payload[8*m.Steps:])
	case wire.KindRow:
		steps, coef = wire.Uint64s[wire.Step](m.Payload), []float64{0.5}
	}
	for _, s := range steps {
		if !slices.Contains(r.rows, s) {
			return nil, wire.Errorf(wire.CodeUnknownStep, "step", s, "in the window")
		}
	}
	q := r.newQuery(*m)
	for k := range q.result {
		for i, s := range steps {
			for j, x := range r.grads[s] {
				q.result[k][j] += 2 * coef[k*len(steps)+i] * float64(x)
			}
		}
	}
	return &wire.QueryReply{Query: wire.QueryID(r.next), Epoch: r.info.Epoch, Version: q.version, Rows: q.rows}, nil
}

func (f *fake) fetch(r *fakeRun, worker string, m *wire.Fetch) (wire.Message, *wire.Error) {
	q := r.queries[m.Query]
	if q == nil {
		return nil, &wire.Error{Code: wire.CodeUnknownQuery}
	}
	if m.DType != q.Result {
		return nil, wire.Invalid("dtype", m.DType, string(q.Result))
	}
	x := slices.Clone(q.result[m.Index][m.Lo : m.Lo+m.N])
	if q.Kind == wire.KindVector {
		for i := range x {
			x[i] = 2 * q.v[m.Index][m.Lo+int64(i)]
		}
	}
	p := &wire.Part{Lo: m.Lo, N: m.N, DType: m.DType}
	p.Payload, _ = shard.Append(nil, x, dtype.Of(m.DType))
	p.Sum = wire.Checksum(p.Payload)
	p.Credit, p.CreditMS = f.credit(worker, m.Want)
	return p, nil
}

func numbers(p []byte, t wire.DType) []float64 {
	x := make([]float64, len(p)/t.Size())
	kernel.Best().Expand(x, p, dtype.Of(t))
	return x
}
