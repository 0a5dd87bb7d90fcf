package coordinator

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"mfac/coordinator/spectrum"
	"mfac/coordinator/window"
	"mfac/shard"
	"mfac/wire"
)

// This file: queries that need the tridiagonal form of A: H^(−½)v, and the likelihoods of gradients. The
// form is found by the job that finds the eigenvalues, while the client sends its vectors and the shards multiply
// them. After that they need no window.

// formed is what such a query waits for.
type formed struct {
	form     *spectrum.Form
	order    []int     // of the form's rows, by age
	weights  []float64 // of the gradients, by age; nil: 1 each. The form is of √w g
	y        [][]float64
	norm2    []float64
	dampings []float64
	n        float64 // N
}

// formQuery begins such a query.
func (c *Core) formQuery(e *Effects, q *query, m *wire.Query) error {
	q.formed = &formed{order: c.win.GradedOrder(), weights: c.win.Weights(), n: float64(c.win.NOf(q.divisor))}
	if m.Kind != wire.KindInvSqrt {
		q.formed.dampings = wire.Floats(m.Payload)
		for _, lambda := range q.formed.dampings {
			if err := c.checkDamping(lambda); err != nil {
				return err
			}
		}
	}
	if m.Kind == wire.KindLeaveOut {
		if len(q.slots) == 0 {
			return wire.Errorf(wire.CodeTooFewRows, "rows", 0, "at least 1")
		}
		q.mask = shard.NewMask(c.rec.Spec.Slots()) // no shard hears of it
	}
	if err := c.wantSpectrum(e, q); err != nil {
		return err
	}
	if m.Kind == wire.KindLeaveOut {
		if q.formed.form != nil {
			c.leaveOut(e, q)
		}
		return nil
	}
	c.prepare(e, q)
	return nil
}

// wantSpectrum has the spectrum of a query's version found, unless the form is known, or is being found.
func (c *Core) wantSpectrum(e *Effects, q *query) error {
	s := &c.spectra
	switch {
	case s.form != nil && s.version == q.version:
		q.formed.form = s.form
		return nil
	case s.job == 0:
		if err := c.findSpectrum(e, q); err != nil {
			return err
		}
	case s.asked != q.version:
		return laterVersion(s.asked)
	}
	s.waiting = append(s.waiting, q)
	return nil
}

func laterVersion(asked wire.Version) error {
	return wire.Errorf(wire.CodeBusy, "versions whose spectrum is asked for", 2, "1 at a time", "ask again when version %d is done", asked)
}

// hasForm goes on with a query that waited for the form.
func (c *Core) hasForm(e *Effects, q *query, form *spectrum.Form) {
	q.formed.form = form
	if q.kind == wire.KindLeaveOut {
		c.leaveOut(e, q)
		return
	}
	if q.formed.y != nil {
		if err := c.form(e, q); err != nil {
			c.refuse(e, q, wire.AsError(err))
		}
	}
}

// hasProducts goes on with a query whose products are there.
func (c *Core) hasProducts(e *Effects, q *query) (err error) {
	q.formed.y, q.formed.norm2, err = c.products(q)
	if q.kind == wire.KindLikelihood { // it reads no row any more
		q.mask = shard.NewMask(c.rec.Spec.Slots())
	}
	if err != nil || q.formed.form == nil {
		return err
	}
	return c.form(e, q)
}

// form makes the answer, when both are there.
func (c *Core) form(e *Effects, q *query) error {
	graded := make([]float64, len(q.slots))
	for _, y := range q.formed.y {
		for i, r := range q.formed.order {
			graded[i] = q.formed.root(r) * y[r]
		}
		copy(y, graded)
	}
	if q.kind == wire.KindLikelihood {
		return c.likelihoods(e, q)
	}
	return c.roots(e, q)
}

// root is √w of a row, by age.
func (f *formed) root(age int) float64 {
	if f.weights == nil {
		return 1
	}
	return math.Sqrt(f.weights[age])
}

// roots works out c = (K + √(Nλ)K^½)⁻¹Gv, of which H^(−½)v is (v − Gᵀc)/√λ: what the shards do with vectors at the
// damping √λ.
func (c *Core) roots(e *Effects, q *query) error {
	f := q.formed
	roots, err := f.form.Roots(q.damping, f.n)
	if err != nil {
		return f.tooSmall(q, q.damping)
	}
	slots := c.rec.Spec.Slots()
	coef := make([]float64, q.vectors*slots)
	for i, y := range f.y {
		r, err := roots.To(y, y, f.norm2[i])
		if err != nil {
			return fmt.Errorf("query %d: %w", uint64(q.id), err)
		}
		for j, age := range f.order {
			coef[i*slots+int(q.slots[age])] = f.root(age) * y[j]
		}
		if f.norm2[i] == 0 {
			r = spectrum.Root{} // x is 0, exactly
		}
		c.bounded(q, window.BoundOf(r.Off, r.Low, r.Norm))
	}
	if i := firstNonFinite(coef); i >= 0 {
		return wire.Errorf(wire.CodeOverflow, "coefficient", coef[i], "finite", "scale the vector down")
	}
	q.formed = nil
	c.solved(e, q, coef)
	return nil
}

// likelihoods works out log N(h; 0, H) for each damping, for each vector.
func (c *Core) likelihoods(e *Effects, q *query) error {
	f := q.formed
	k := len(f.y)
	values := make([]float64, wire.LikelihoodNumbers*k*len(f.dampings))
	for i, y := range f.y {
		x, err := f.form.Likelihoods(f.dampings, f.n, c.rec.Spec.Dim, y, f.norm2[i])
		if err != nil {
			return f.tooSmall(q, slices.Min(f.dampings))
		}
		for j, l := range x {
			at := wire.LikelihoodNumbers * (j*k + i)
			values[at], values[at+1] = l.Value, l.Error
		}
	}
	return c.leaveLikelihoods(e, q, values)
}

// leaveLikelihoods answers with likelihoods. With scales they were those of R^-½h under R^-½HR^-½: less ½ log det R they are h's.
func (c *Core) leaveLikelihoods(e *Effects, q *query, values []float64) error {
	if logDet, off := c.logDetScales(); logDet != 0 {
		for i := 0; i < len(values); i += wire.LikelihoodNumbers {
			values[i] -= logDet / 2
			values[i+1] += off/2 + epsilon*math.Abs(values[i])
		}
	}
	if i := firstNonFinite(values); i >= 0 {
		lambda := q.formed.dampings[i/(len(values)/len(q.formed.dampings))]
		return wire.Errorf(wire.CodeOverflow, fmt.Sprintf("likelihood at damping %g", lambda), values[i], "finite")
	}
	q.formed = nil
	c.leave(e, q, values)
	return nil
}

// leaveOut has the likelihoods of the rows, each left out, worked out.
func (c *Core) leaveOut(e *Effects, q *query) {
	f := q.formed
	form, dampings, n, d, order := f.form, f.dampings, f.n, c.rec.Spec.Dim, f.order
	var weights []float64
	if f.weights != nil {
		for _, age := range order {
			weights = append(weights, f.weights[age])
		}
	}
	w := new(watched)
	c.queryJob(e, q, Job{Progress: w.progress, Run: func(stop func() bool) any {
		rows, err := form.LeaveOut(dampings, n, d, weights, w.watch(stop))
		if err != nil {
			return err
		}
		values := make([]float64, wire.LikelihoodNumbers*len(rows)*len(dampings))
		for i, row := range rows {
			for j, l := range row {
				at := wire.LikelihoodNumbers * (j*len(rows) + order[i])
				values[at], values[at+1] = l.Value, l.Error
			}
		}
		return values
	}}, func(e *Effects, result any) error { return c.leftOut(e, q, result) })
}

// leftOut takes the outcome of such a job.
func (c *Core) leftOut(e *Effects, q *query, result any) error {
	switch r := result.(type) {
	case []float64:
		return c.leaveLikelihoods(e, q, r)
	case error:
		if errors.Is(r, spectrum.ErrTooSmall) {
			return q.formed.tooSmall(q, slices.Min(q.formed.dampings))
		}
		return fmt.Errorf("the likelihoods of version %d: %w", q.version, r)
	}
	return nil
}

// tooSmall refuses a damping that is lost among A's rounding errors.
func (f *formed) tooSmall(q *query, lambda float64) error {
	least := f.form.Least(f.n)
	if math.IsNaN(least) || least < lambda { // it overflows
		return wire.Errorf(wire.CodeOverflow, "damping", lambda, "finite when multiplied by N and divided by the gradients' squares")
	}
	return wire.Errorf(wire.CodeIllConditioned, "damping", lambda, fmt.Sprintf("above %.3g", least), "below, it is lost among the rounding errors of version %d", q.version)
}

// alone reports whether the coordinator answers a query by itself.
func (q *query) alone() bool { return q.spectral != nil || q.kind == wire.KindLeaveOut }
