package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// line is what a figure says of itself.
type line struct {
	name, what      string
	atLeast, atMost float64 // at most one of them; 0: nothing is asked
	unit            string  // "": it is a ratio
}

// figure is a line, or several that are measured together.
type figure struct {
	lines []line
	must  bool // the table has it: measured with --quick too
	runs  int  // with --quick; 0 is the default
	// lacks says why this machine can't measure it, or is nil.
	lacks func(e *env) string
	setup func(e *env) (sampler, error)
}

// sampler is a figure set up.
type sampler struct {
	// run does the work of ours and of the baseline once each, in turn, and returns a value for
	// each line. A ratio is the baseline's time to ours: how many times faster we are, or what
	// share of the baseline's rate we reach.
	run   func() ([]float64, error)
	notes func() []string // a remark for each line, asked after the last run; or nil
	close func()          // or nil
	sides []side          // what --profile looks at
}

// pair is a sampler of one ratio. f returns the time of ours and of the baseline.
func pair(f func() (ours, base time.Duration, err error), stop func()) sampler {
	return sampler{run: func() ([]float64, error) {
		ours, base, err := f()
		return []float64{base.Seconds() / ours.Seconds()}, err
	}, close: stop}
}

func one(l line) []line { return []line{l} }

// measureAll measures the figures whose name the user asked for.
func measureAll(e *env, all []figure) ([]result, error) {
	var results []result
	for _, f := range all {
		wanted := false
		for _, l := range f.lines {
			wanted = wanted || strings.HasPrefix(l.name, e.only)
		}
		if !wanted || e.quick && !f.must {
			continue
		}
		if err := e.ctx.Err(); err != nil {
			return nil, err
		}
		rs, err := measure(e, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.lines[0].name, err)
		}
		for _, r := range rs {
			e.logf("%-44s %s", r.Name, r)
		}
		results = append(results, rs...)
	}
	return results, nil
}

const warmups = 2

// measure runs a figure, the first two runs uncounted. What a run leaves behind is collected
// before the next one: collector and page faults of a growing heap stay outside.
func measure(e *env, f figure) ([]result, error) {
	results := make([]result, len(f.lines))
	for i, l := range f.lines {
		results[i] = newResult(l)
	}
	if f.lacks != nil {
		if why := f.lacks(e); why != "" {
			for i := range results {
				results[i].Reason = why
			}
			return results, nil
		}
	}
	s, err := f.setup(e)
	if err != nil {
		return nil, err
	}
	if s.close != nil {
		defer s.close()
	}
	runs := e.runs
	if f.runs > runs && e.options.runs == 0 {
		runs = f.runs
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	values := make([][]float64, len(f.lines))
	for i := range runs + warmups {
		if err := e.ctx.Err(); err != nil {
			return nil, err
		}
		runtime.GC()
		v, err := s.run()
		if err != nil {
			return nil, err
		}
		for j := range values {
			if i >= warmups {
				values[j] = append(values[j], v[j])
			}
		}
	}
	for i := range results {
		results[i].fill(values[i])
	}
	if s.notes != nil {
		for i, n := range s.notes() {
			results[i].Note = n
		}
	}
	return results, nil
}

func timed(f func() error) (time.Duration, error) {
	t := time.Now()
	err := f()
	return time.Since(t), err
}

// repeat is how often work that takes once should be done to be timed for at least that long.
func repeat(once, atLeast time.Duration) int {
	once = max(once, 1)
	return int(max(1, min(10_000, (atLeast+once-1)/once)))
}
