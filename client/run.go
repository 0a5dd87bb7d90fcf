package client

import (
	"context"
	"slices"

	"mfac/wire"
)

// RunConfig says what a run is. Name, Dim and Window are required; what is zero takes its default.
type RunConfig struct {
	Name    string
	Dim     int64         // d: parameters; 0 with a Layout: the layout's size
	Window  int           // m: gradients in the window
	Damping float64       // λ; 0: DefaultDamping
	Divisor wire.Divisor  // wire.Capacity (the default) or wire.Count
	Layout  []wire.Tensor // the tensors that the parameters are, in order of offset; or nil
	Shards  int           // 0: one for each worker that there is now
	Spare   int           // slots beside the window, for steps being published; 0: wire.DefaultSpare
	Store   wire.DType    // wire.F32, the default
	// Durability is wire.DurabilityMemory, the default.
	Durability string
}

// DefaultDamping is the λ of a run that doesn't say, the one of the original M-FAC.
const DefaultDamping = 1e-5

// Run is a run that the client has joined.
type Run struct{}

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
}

// Spec is what the run is.
func (r *Run) Spec() wire.RunSpec { return wire.RunSpec{} }

// Dim is d, the number of the run's parameters.
func (r *Run) Dim() int64 { return 0 }

// MaxVectors is the most vectors that one query takes.
func (r *Run) MaxVectors() int { return 0 }

// Status asks how the run stands.
func (r *Run) Status(ctx context.Context) (wire.Info, error) { return wire.Info{}, errNotBuilt }

// Steps asks which steps are in the window.
func (r *Run) Steps(ctx context.Context) (Window, error) { return Window{}, errNotBuilt }

// Layout asks for the run's layout, nil if it has none.
func (r *Run) Layout(ctx context.Context) ([]wire.Tensor, error) { return nil, errNotBuilt }
