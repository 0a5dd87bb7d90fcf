package client

import (
	"cmp"
	"context"

	"mfac/wire"
)

// Phase is how far a query is whose result can't be fetched yet, as the coordinator tells about once a
// second.
type Phase struct {
	// Name is what is being done. Of Prune: "gram" (A of the columns that are free), "scores" (the diagonal
	// of H⁻¹, nearly all of the time), "selection", "update".
	Name string
	// Done of Total parts of it are done.
	Done, Total int64
	// Step of Steps is under way, from 1; both 1 but for a Prune in steps.
	Step, Steps int
}

// WithPhases calls f as a query goes on: queries for Prune and Compensate alone do. f is called by one
// goroutine at a time and should be quick. Phases begin again where the query had to be asked anew.
func WithPhases(f func(Phase)) ProgressOption {
	return func(c *call) error {
		c.phases = f
		return nil
	}
}

// under tells of a query that is pending.
func (q *question) under(r *wire.ResultReply) {
	switch {
	case r.Phase != "":
		if q.phases != nil {
			q.phases(Phase{r.Phase, r.Done, r.Total, 1, 1})
		}
	case q.progress != nil && r.Total > 0:
		q.progress(r.Done, r.Total)
	}
}

// ofSteps has f told of step t of so many.
func (c *call) ofSteps(t, steps int, f func(Phase)) {
	if f != nil {
		c.phases = func(p Phase) {
			p.Step, p.Steps = t, steps
			f(p)
		}
	}
}

// checkPattern checks a pattern, and what doesn't go with it.
func (p Pruning) checkPattern() error {
	if p.Pattern.IsZero() {
		return nil
	}
	var err error
	switch {
	case p.Sparsity != 0:
		err = wire.Invalid("sparsity", p.Sparsity, "0 with a pattern, which says how many are pruned")
	case p.Steps > 1:
		err = wire.Invalid("steps", p.Steps, "1 with a pattern")
	}
	return cmp.Or(err, p.Pattern.Validate())
}

// strips are where groups of a pattern begin.
func (r *Run) strips(ctx context.Context) ([]wire.Strip, error) {
	layout, err := r.Layout(ctx)
	if err != nil {
		return nil, err
	}
	return wire.Strips(layout, r.spec.Dim), nil
}
