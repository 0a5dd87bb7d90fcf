//go:build unix

package agent

import (
	"time"

	"mfac/client"
	"mfac/wire"
)

// This file: changes of the window.

// Sending says how a gradient is published, with or without preconditioning it.
type Sending struct {
	Run     uint64   `msgpack:"run"`
	Step    uint64   `msgpack:"step"`
	In      *view    `msgpack:"in"`      // f32: the gradient, or its columns
	Columns bool     `msgpack:"columns"` // whether In is columns from Lo on alone
	Lo      int64    `msgpack:"lo"`
	Wire    string   `msgpack:"wire"`
	Token   *uint64  `msgpack:"token"`
	StepMS  *int64   `msgpack:"step_deadline_ms"`
	Weight  *float64 `msgpack:"weight"`
	Labels  []string `msgpack:"labels"` // one a row
}

func (s *Sending) options() []client.StepOption {
	var opts []client.StepOption
	if s.Token != nil {
		opts = append(opts, client.WithToken(*s.Token))
	}
	if s.StepMS != nil {
		opts = append(opts, client.WithStepDeadline(milliseconds(*s.StepMS)))
	}
	if s.Weight != nil {
		opts = append(opts, client.WithWeight(*s.Weight))
	}
	if len(s.Labels) > 0 {
		opts = append(opts, client.WithLabels(s.Labels...))
	}
	return opts
}

func milliseconds(n int64) time.Duration {
	return time.Duration(min(max(n, -1), maxTimeoutMS)) * time.Millisecond
}

type publishRequest struct {
	Sending
	NoWait bool `msgpack:"no_wait"`
}

// commitsReply has an entry a row; its version is 0 where the row was not committed.
type commitsReply struct {
	Versions []byte  `msgpack:"versions"` // uint64
	Rows     []int64 `msgpack:"rows"`
}

func publish(q *call, r *publishRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	in, err := q.c.hold("in", r.In, true, "f32")
	if err != nil {
		return nil, err
	}
	defer in.release()
	var opts []client.PublishOption
	for _, o := range r.options() {
		opts = append(opts, o)
	}
	if r.Wire != "" {
		opts = append(opts, client.WithWire(wire.DType(r.Wire)))
	}
	if r.NoWait {
		opts = append(opts, client.WithoutWait())
	}
	rows := rowsOf[float32](in)
	var commits []client.Commit
	switch {
	case r.Columns && len(rows) > 1:
		return nil, wire.Invalid("in.rows", len(rows), "1 where columns are published")
	case r.Columns:
		commits = make([]client.Commit, 1)
		commits[0], err = run.PublishColumns(q.ctx, wire.Step(r.Step), r.Lo, rows[0], opts...)
	case len(rows) == 1:
		commits = make([]client.Commit, 1)
		commits[0], err = run.Publish(q.ctx, wire.Step(r.Step), rows[0], opts...)
	default:
		commits, err = run.PublishMany(q.ctx, wire.Step(r.Step), rows, opts...)
	}
	reply := commitsReply{Rows: make([]int64, len(commits))}
	versions := make([]wire.Version, len(commits))
	for i, c := range commits {
		versions[i], reply.Rows[i] = c.Version, int64(c.Rows)
	}
	reply.Versions = wire.AppendUint64s(nil, versions)
	return reply, err
}

type preconditionRequest struct {
	Sending
	Out     *view    `msgpack:"out"` // f32 or f64
	Damping *float64 `msgpack:"damping"`
	Divisor string   `msgpack:"divisor"`
	Result  string   `msgpack:"result"`
	MinRows int      `msgpack:"min_rows"`
	Whole   bool     `msgpack:"whole"` // of H, in a run of blocks
}

func precondition(q *call, r *preconditionRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	in, err := q.c.hold("in", r.In, true, "f32")
	if err != nil {
		return nil, err
	}
	defer in.release()
	out, err := q.c.hold("out", r.Out, false, "f32", "f64")
	if err != nil {
		return nil, err
	}
	defer out.release()
	if err := single(r.In, r.Out); err != nil {
		return nil, err
	}
	var opts []client.PreconditionOption
	for _, o := range r.options() {
		opts = append(opts, o)
	}
	for _, o := range resultOptions(r.Damping, r.Divisor, r.Result, r.MinRows) {
		opts = append(opts, o)
	}
	if r.Whole {
		opts = append(opts, client.WithWhole())
	}
	if r.Wire != "" {
		opts = append(opts, client.WithWire(wire.DType(r.Wire)))
	}
	g, step := rowsOf[float32](in)[0], wire.Step(r.Step)
	var a client.Answer
	switch {
	case out.DType == "f32" && r.Columns:
		a, err = run.PreconditionColumns(q.ctx, step, r.Lo, rowsOf[float32](out)[0], g, opts...)
	case out.DType == "f32":
		a, err = run.Precondition(q.ctx, step, rowsOf[float32](out)[0], g, opts...)
	case r.Columns:
		a, err = run.PreconditionColumns64(q.ctx, step, r.Lo, rowsOf[float64](out)[0], g, opts...)
	default:
		a, err = run.Precondition64(q.ctx, step, rowsOf[float64](out)[0], g, opts...)
	}
	if err == nil {
		err = out.written()
	}
	if err != nil && a.Version == 0 {
		return nil, err
	}
	return answerOf(a), err
}

type forgetRequest struct {
	Run   uint64 `msgpack:"run"`
	Steps []byte `msgpack:"steps"` // uint64
}

func forget(q *call, r *forgetRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	list, err := stepsOf(r.Steps)
	if err != nil {
		return nil, err
	}
	c, err := run.Forget(q.ctx, list...)
	return commitReply(c), err
}

type setRequest struct {
	Run     uint64   `msgpack:"run"`
	Damping *float64 `msgpack:"damping"`
	Divisor string   `msgpack:"divisor"`
}

func set(q *call, r *setRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	damping := 0.0
	if r.Damping != nil {
		if damping = *r.Damping; damping == 0 {
			return nil, wire.CheckDamping("damping", 0) // to client, 0 leaves what is there
		}
	}
	c, err := run.Set(q.ctx, damping, wire.Divisor(r.Divisor))
	return commitReply(c), err
}

type resizeRequest struct {
	Run    uint64 `msgpack:"run"`
	Window int    `msgpack:"window"`
}

func resize(q *call, r *resizeRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	c, err := run.Resize(q.ctx, r.Window)
	return commitReply(c), err
}

type freezeRequest struct {
	Run  uint64 `msgpack:"run"`
	Thaw bool   `msgpack:"thaw"`
}

// freeze answers when the workers keep what a frozen run keeps, or when the run is thawed.
func freeze(q *call, r *freezeRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	var c client.Commit
	switch {
	case r.Thaw:
		c, err = run.Thaw(q.ctx)
	case q.head.Progress:
		c, err = run.Freeze(q.ctx, client.WithProgress(q.progress))
	default:
		c, err = run.Freeze(q.ctx)
	}
	return commitReply(c), err
}

func frozen(q *call, r *runRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	f, err := run.FreezePlan(q.ctx)
	return map[string]any{"frozen": f}, err
}

func commitReply(c client.Commit) any {
	if c.Version == 0 {
		return nil
	}
	return map[string]any{"version": c.Version, "rows": c.Rows}
}

// stepsOf reads a list of steps.
func stepsOf(p []byte) ([]wire.Step, error) {
	if len(p)%8 != 0 {
		return nil, wire.Errorf(wire.CodeMalformed, "steps", len(p), "bytes of uint64 numbers")
	}
	return wire.Uint64s[wire.Step](p), nil
}
