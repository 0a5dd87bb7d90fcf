package coordinator

import (
	"errors"
	"fmt"
	"math"

	"mfac/coordinator/spectrum"
	"mfac/coordinator/window"
	"mfac/shard"
	"mfac/wire"
)

// This file: queries for numbers of the spectrum. They need A of their version alone: no worker
// hears of them, they hold no slot, and steps go on.

// spectra is what is known of A's eigenvalues. One job at a time finds them, for all queries that ask
// at its version; they stay known until those of another version are.
type spectra struct {
	version wire.Version // of known
	known   *spectrum.Spectrum
	form    *spectrum.Form // of that version, until the window changes

	job     uint64 // that is under way; 0: none
	asked   wire.Version
	waiting []*query
}

// spectral is what a query for numbers of the spectrum asks.
type spectral struct {
	dampings []float64 // none: the eigenvalues
	n        float64   // N
}

// spectralQuery answers a query for numbers of the spectrum, or has the eigenvalues found first.
func (c *Core) spectralQuery(e *Effects, q *query, m *wire.Query) error {
	q.spectral = &spectral{dampings: wire.Floats(m.Payload), n: float64(c.rec.Spec.Window)}
	if q.divisor == window.Count {
		q.spectral.n = float64(len(q.slots))
	}
	for _, lambda := range q.spectral.dampings {
		if err := c.checkDamping(lambda); err != nil {
			return err
		}
	}
	s := &c.spectra
	switch {
	case s.known != nil && s.version == q.version:
		values, err := q.spectral.numbers(q.kind, c.rec.Spec.Dim, s.known)
		if err != nil {
			return err
		}
		c.leave(e, q, values)
		return nil
	case s.job == 0:
		if err := c.findSpectrum(e, q); err != nil {
			return err
		}
	case s.asked != q.version:
		return laterVersion(s.asked)
	}
	s.waiting = append(s.waiting, q)
	q.mask = shard.NewMask(c.rec.Spec.Slots())
	return nil
}

// findSpectrum has the eigenvalues of A at a query's version, the present one, found.
func (c *Core) findSpectrum(e *Effects, q *query) error {
	a := make([]float64, c.win.Len()*c.win.Len())
	n, err := c.win.GradedTo(a)
	if err != nil {
		return err
	}
	c.spectra.job, c.spectra.asked = uint64(q.id), q.version
	w := new(watched)
	c.beginJob(e, Job{ID: c.spectra.job, Progress: w.progress, Run: func(stop func() bool) any {
		f, err := spectrum.FormOf(a, n, w.watch(stop))
		if err != nil {
			return err
		}
		return f
	}}, task{c.foundSpectrum, func() []*query { return c.spectra.waiting }})
	return nil
}

// foundSpectrum takes that job's outcome.
func (c *Core) foundSpectrum(e *Effects, result any) {
	s := &c.spectra
	waiting := s.waiting
	s.job, s.waiting = 0, nil
	form, ok := result.(*spectrum.Form)
	var found *spectrum.Spectrum
	if ok {
		alone := form.Spectrum // else it would keep the form
		found = &alone
		s.known, s.version = found, s.asked
		if s.form = nil; s.version == c.version {
			s.form = form
		}
	}
	for _, q := range waiting {
		if !ok {
			c.refuse(e, q, notFound(q, result))
			continue
		}
		if q.formed != nil {
			c.hasForm(e, q, form)
			continue
		}
		if values, err := q.spectral.numbers(q.kind, c.rec.Spec.Dim, found); err != nil {
			c.refuse(e, q, wire.AsError(err))
		} else {
			c.leave(e, q, values)
		}
	}
}

// notFound is why there are no eigenvalues.
func notFound(q *query, result any) *wire.Error {
	err, _ := result.(error)
	if errors.Is(err, spectrum.ErrNotFinite) {
		return wire.Errorf(wire.CodeOverflow, "eigenvalue", math.Inf(1), "finite", "the gradients of version %d are too large", q.version)
	}
	return wire.Errorf(wire.CodeInternal, "", "", "", "the eigenvalues of version %d: %v", q.version, err)
}

// quit ends a query's wait for the spectrum, and for a job of its own. If it was the last that waits, so does the job.
func (c *Core) quit(e *Effects, q *query) {
	s := &c.spectra
	if q.job != 0 {
		c.stopJob(e, q.job)
		q.job = 0
	}
	c.leaveSubblocks(e, q)
	q.formed = nil
	for i, w := range s.waiting {
		if w == q {
			s.waiting = append(s.waiting[:i:i], s.waiting[i+1:]...)
			if len(s.waiting) == 0 {
				c.stopJob(e, s.job)
				s.job = 0
			}
			break
		}
	}
}

// numbers is the answer to a query of a kind (wire.KindScalars, wire.KindSpectrum), of the eigenvalues of A = GGᵀ, for d columns.
func (q *spectral) numbers(kind string, d int64, s *spectrum.Spectrum) ([]float64, error) {
	n := q.n
	of := func(e spectrum.Estimate) spectrum.Estimate { // of A, now of F
		if e == (spectrum.Estimate{}) {
			return e // n may be 0
		}
		e.Error = e.Error/n + math.Abs(e.Value/n)*0x1p-52
		e.Value /= n
		return e
	}
	var values []float64
	add := func(what string, es ...spectrum.Estimate) error {
		for _, e := range es {
			if !(math.Abs(e.Value)+e.Error <= math.MaxFloat64) { // NaN fails this
				return wire.Errorf(wire.CodeOverflow, what, fmt.Sprintf("%g ± %g", e.Value, e.Error), "finite")
			}
			values = append(values, e.Value, e.Error)
		}
		return nil
	}
	spectral := spectrum.Estimate{}
	if len(s.Alpha) > 0 {
		spectral = of(spectrum.Estimate{Value: s.Alpha[0], Error: s.Error})
	}
	if kind == wire.KindSpectrum {
		if err := add("eigenvalue of F", spectral); err != nil {
			return nil, err
		}
		values = values[1:] // the largest comes again
		for _, a := range s.Alpha[:min(int64(len(s.Alpha)), d)] {
			values = append(values, a/n)
		}
		return values, nil
	}
	values = append(values, n)
	if err := add("norm of F", of(s.Trace), of(s.Frobenius), spectral); err != nil {
		return nil, err
	}
	for _, lambda := range q.dampings {
		x := s.At(lambda, n, d)
		if err := add(fmt.Sprintf("number at damping %g", lambda), x.LogDet, x.TraceInverse, x.EffectiveDim, x.Largest, x.Smallest, x.CondH, x.CondK); err != nil {
			return nil, err
		}
	}
	return values, nil
}
