package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"mfac/wire"
)

// DefaultDamping is the λ of a run that doesn't say, the one of the original M-FAC.
const DefaultDamping = 1e-5

// RunConfig says what a run is. Name, Dim and Window are required; what is zero takes its default.
type RunConfig struct {
	Name    string
	Dim     int64         // d: parameters; 0 with a Layout: the layout's size
	Window  int           // m: gradients in the window
	Damping float64       // λ; 0: DefaultDamping
	Divisor wire.Divisor  // wire.Capacity (the default) or wire.Count
	Layout  []wire.Tensor // the tensors that the parameters are, in order; or nil. Offsets may be left 0
	Shards  int           // 0: one for each worker that there is now
	Spare   int           // slots beside the window, for steps being published; 0: wire.DefaultSpare
	Store   wire.DType    // what gradients are kept in: wire.F32 (the default), wire.BF16 or wire.F16
	// Durability is wire.DurabilityMemory, the default.
	Durability string
	// HalfLife in steps, where it is not 0: a gradient counts 2^(−k/HalfLife) times its weight when the newest in the
	// window is k steps ahead. Each gradient then costs O(m³) more, see docs/weights.md.
	HalfLife float64
	// TensorDamping gives tensors of the Layout, by their names, dampings of their own in place of λ: H = F + Λ. Where
	// another damping is asked for, or set, than Damping, these change by the same factor. What such a run does not
	// answer is wire.CodeUnsupported; bounds are relative in the norm of Λ: docs/weights.md.
	TensorDamping map[string]float64
	// Blocks says by which diagonal blocks of H the run answers, in place of the whole: wire.BlockingTensor, or wire.BlockingOf(B, across). What a
	// step is preconditioned by, and all queries that can be of blocks, are of these unless they say otherwise; what can't be is
	// wire.CodeUnsupported without WithWhole: docs/blocks.md.
	Blocks wire.Blocking
}

// spec is the configuration with its defaults; Shards may still be 0.
func (cfg RunConfig) spec() (wire.RunSpec, []byte, error) {
	s := wire.RunSpec{
		Name: cfg.Name, Dim: cfg.Dim, Window: cfg.Window, Spare: cfg.Spare, Shards: cfg.Shards,
		Damping: cfg.Damping, Divisor: cfg.Divisor, Store: cfg.Store, Durability: cfg.Durability,
		HalfLife: cfg.HalfLife, Blocks: cfg.Blocks,
	}
	var layout []byte
	if len(cfg.Layout) > 0 {
		var size int64
		var err error
		if layout, size, err = settleLayout(cfg.Layout); err != nil {
			return s, nil, err
		}
		orDefault(&s.Dim, size)
		if s.Dim != size {
			return s, nil, wire.Invalid("dim", s.Dim, fmt.Sprintf("%d, the size of the layout", size))
		}
		s.Layout = wire.LayoutHash(layout)
	}
	orDefault(&s.Spare, wire.DefaultSpare)
	orDefault(&s.Damping, DefaultDamping)
	orDefault(&s.Divisor, wire.Capacity)
	orDefault(&s.Store, wire.F32)
	orDefault(&s.Durability, wire.DurabilityMemory)
	var err error
	if s.Scales, err = scalesOf(cfg.TensorDamping, layout, s); err != nil {
		return s, nil, err
	}
	check := s
	orDefault(&check.Shards, 1)
	return s, layout, check.Validate()
}

func orDefault[T comparable](x *T, def T) {
	var zero T
	if *x == zero {
		*x = def
	}
}

// Run is a run that the client has joined.
type Run struct {
	c       *Client
	name    string
	uid     uint64
	spec    wire.RunSpec
	known   atomic.Pointer[wire.Info] // what was heard last
	renewal chan struct{}             // held by who asks for more

	mu      sync.Mutex
	reading map[wire.Attempt]int // publications that have asked for an attempt's precondition
}

// Commit says that a gradient is in the window: at which version, and among how many rows.
type Commit struct {
	Version wire.Version
	Rows    int
}

// Answer says which window an answer was computed from, and how wrong it can be.
type Answer struct {
	Version wire.Version
	Rows    int
	Bounds  []float64 // of the relative error in the 2-norm, one for each vector

	// Residuals are ‖Hx − v‖/‖v‖ of each answer x before it is rounded to the result's dtype, where
	// WithVerify or WithRefine asks for them.
	Residuals []float64
}

// Bound is the largest of the answer's bounds, 0 if it has none.
func (a Answer) Bound() float64 {
	if len(a.Bounds) == 0 {
		return 0
	}
	return slices.Max(a.Bounds)
}

// Window lists the steps whose gradients are in the window, oldest first.
type Window struct {
	Version wire.Version
	Steps   []wire.Step
	Labels  []string // of Run.Labels: one a step, "" where it has none; nil where none has one
}

// Attach creates a run, or joins the one of that name. One that exists and differs is an error
// of wire.CodeExists that names the field and both values; its shards and spares may differ. While
// there is no worker to place shards on, Attach waits.
func (c *Client) Attach(ctx context.Context, cfg RunConfig) (*Run, error) {
	spec, layout, err := cfg.spec()
	if err != nil {
		return nil, fmt.Errorf("attach to run %s: %w", cfg.Name, err)
	}
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("attach to run %s: %w", cfg.Name, err)
	}
	defer done()
	info, err := c.create(ctx, spec, layout)
	if err != nil {
		return nil, fmt.Errorf("attach to run %s: %w", cfg.Name, err)
	}
	if field, mine, theirs := spec.Differs(info.Spec); field != "" {
		return nil, fmt.Errorf("attach to run %s: %w", cfg.Name,
			wire.Errorf(wire.CodeExists, field, mine, fmt.Sprintf("%v, as in the run that exists", theirs)))
	}
	return newRun(c, info), nil
}

func (c *Client) create(ctx context.Context, spec wire.RunSpec, layout []byte) (*wire.Info, error) {
	choose := spec.Shards == 0
	pause := backoff{least: 100 * time.Millisecond, most: time.Second}
	var none error // that there are no workers, once that was heard
	for {
		if choose {
			workers, err := c.workers(ctx)
			if err != nil {
				return nil, because(ctx, err, none)
			}
			spec.Shards = int(min(int64(max(len(workers), 1)), spec.Dim, wire.MaxShards))
		}
		info, err := ask[*wire.Info](ctx, c, wire.OpCreate, &wire.Create{Spec: spec, Payload: layout}, whileBusy)
		if err == nil {
			return info, checkInfo(info, spec.Name)
		}
		if code(err) != wire.CodeNoWorkers {
			return nil, because(ctx, err, none)
		}
		none = err
		c.log.Debug("no workers yet", zap.String("run", spec.Name))
		if !pause.sleep(ctx) {
			return nil, ended(ctx, none)
		}
	}
}

// because is err, or where it is the end of ctx that of a wait for reason, if there is one.
func because(ctx context.Context, err, reason error) error {
	var e *expired
	if reason != nil && errors.As(err, &e) {
		return ended(ctx, reason)
	}
	return err
}

// Join joins a run that exists, as it is.
func (c *Client) Join(ctx context.Context, name string) (*Run, error) {
	req := &wire.InfoRequest{Run: name}
	if err := req.Validate(); err != nil {
		return nil, fmt.Errorf("join run: %w", err)
	}
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("join run %s: %w", name, err)
	}
	defer done()
	info, err := ask[*wire.Info](ctx, c, wire.OpInfo, req, whileBusy)
	if err == nil {
		err = checkInfo(info, name)
	}
	if err != nil {
		return nil, fmt.Errorf("join run %s: %w", name, err)
	}
	return newRun(c, info), nil
}

func newRun(c *Client, info *wire.Info) *Run {
	r := &Run{c: c, name: info.Spec.Name, uid: info.UID, spec: info.Spec, renewal: make(chan struct{}, 1),
		reading: map[wire.Attempt]int{}}
	r.known.Store(info)
	return r
}

// checkInfo checks what the message alone can't tell.
func checkInfo(info *wire.Info, name string) error {
	if info.Spec.Name != name {
		return wire.Errorf(wire.CodeMalformed, "run", info.Spec.Name, name)
	}
	return nil
}

// Spec is what the run is, as was heard last: damping and divisor may be set (Set), and the
// window resized (Resize), by any client.
func (r *Run) Spec() wire.RunSpec { return r.info().Spec }

// Dim is d, the number of the run's parameters.
func (r *Run) Dim() int64 { return r.spec.Dim }

// MaxVectors is the most vectors that one query takes.
func (r *Run) MaxVectors() int { return wire.MaxVectorsFor(r.Spec().Slots()) }

// Status asks how the run stands.
func (r *Run) Status(ctx context.Context) (wire.Info, error) {
	ctx, done, err := r.c.begin(ctx)
	if err != nil {
		return wire.Info{}, fmt.Errorf("status of run %s: %w", r.name, err)
	}
	defer done()
	info, err := r.renew(ctx, nil)
	if err != nil {
		return wire.Info{}, fmt.Errorf("status of run %s: %w", r.name, err)
	}
	return *info, nil
}

// Steps asks which steps are in the window.
func (r *Run) Steps(ctx context.Context) (Window, error) {
	ctx, done, err := r.c.begin(ctx)
	if err != nil {
		return Window{}, fmt.Errorf("steps of run %s: %w", r.name, err)
	}
	defer done()
	reply, err := ask[*wire.Steps](ctx, r.c, wire.OpSteps, &wire.StepsRequest{Run: r.name}, whileBusy)
	if err != nil {
		return Window{}, fmt.Errorf("steps of run %s: %w", r.name, err)
	}
	return Window{Version: reply.Version, Steps: wire.Uint64s[wire.Step](reply.Payload)}, nil
}

// info is what is known of the run: its placement may have changed since.
func (r *Run) info() *wire.Info { return r.known.Load() }

// renew asks how the run stands, unless another call has heard since seen was what is known. nil
// asks in any case.
func (r *Run) renew(ctx context.Context, seen *wire.Info) (*wire.Info, error) {
	select {
	case r.renewal <- struct{}{}:
		defer func() { <-r.renewal }()
	case <-ctx.Done():
		return nil, ended(ctx, nil)
	}
	if now := r.info(); seen != nil && now != seen {
		return now, nil
	}
	info, err := ask[*wire.Info](ctx, r.c, wire.OpInfo, &wire.InfoRequest{Run: r.name}, whileBusy)
	if err != nil {
		return nil, err
	}
	if err := checkInfo(info, r.name); err != nil {
		return nil, err
	}
	if info.UID != r.uid || info.Spec.Dim != r.spec.Dim {
		return nil, wire.Errorf(wire.CodeUnknownRun, "run", r.name, "the one that was joined",
			"it was deleted and another one made under its name: attach again")
	}
	r.known.Store(info)
	return info, nil
}

// at is the placement at an epoch, of which the coordinator has just spoken.
func (r *Run) at(ctx context.Context, e wire.Epoch) (*wire.Info, error) {
	info := r.info()
	pause := backoff{least: 5 * time.Millisecond, most: 200 * time.Millisecond}
	for range 10 {
		if info.Epoch == e {
			return info, nil
		}
		var err error
		if info, err = r.renew(ctx, info); err != nil {
			return nil, err
		}
		if info.Epoch.Incarnation == e.Incarnation && info.Epoch.Revision > e.Revision {
			break // it has passed
		}
		if info.Epoch != e && !pause.sleep(ctx) {
			return nil, ended(ctx, nil)
		}
	}
	if info.Epoch == e {
		return info, nil
	}
	return nil, &wire.Error{Code: wire.CodeStaleEpoch, Field: "epoch", Value: e.String(), Limit: info.Epoch.String(), Epoch: info.Epoch}
}

// lost reports whether an error means that the placement or the owner may have changed: what is
// known of the run is then asked for again, and the call goes on.
func lost(err error) bool {
	var source *sourceError
	var s *silence
	switch {
	case errors.As(err, &source):
		return false
	case errors.As(err, &s):
		return true
	}
	switch code(err) {
	case wire.CodeStaleEpoch, wire.CodeUnknownShard, wire.CodeUnavailable, wire.CodeNotOpen:
		return true
	}
	return false
}
