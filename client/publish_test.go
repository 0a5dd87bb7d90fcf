package client

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"mfac/wire"
)

func TestPublish(t *testing.T) {
	f := newFake(t, "a", "b", "c")
	r := f.attached(dim)
	g := ramp(dim)
	commit, err := r.Publish(t.Context(), 3, g)
	if err != nil || commit != (Commit{Version: 1, Rows: 1}) {
		t.Fatalf("commit is %v, %v", commit, err)
	}
	if !slices.Equal(f.runs["run"].grads[3], g) {
		t.Error("the gradient differs")
	}
	_, err = r.Publish(t.Context(), 3, g)
	wantCode(t, err, wire.CodeNotGrowing, "publish step 3: step is 3, must be above the newest")
}

func TestPublishChecks(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	ctx, four, five := t.Context(), ramp(4), ramp(5)
	for name, err := range map[string]error{
		"publish step 7: length of the gradient is 5, must be 4, the run's dim": second(r.Publish(ctx, 7, five)),
		"publish step 8: length of the gradient is 5":                           second(r.PublishMany(ctx, 7, [][]float32{four, five})),
		"publish step 7: columns is [2, 2+4)":                                   second(r.PublishColumns(ctx, 7, 2, four)),
		"publish step 7: columns is [0, 0+0)":                                   second(r.PublishColumns(ctx, 7, 0, nil)),
		"publish step 7: step deadline is -1s":                                  second(r.Publish(ctx, 7, four, WithStepDeadline(-time.Second))),
		"precondition step 7: length of the gradient is 5":                      second(r.Precondition(ctx, 7, four, five)),
		"precondition step 7: length of the result is 5":                        second(r.Precondition(ctx, 7, five, four)),
		"precondition step 7: length of the result is 1, must be 2":             second(r.PreconditionColumns(ctx, 7, 2, four[:1], four[:2])),
		"precondition step 7: damping is 0":                                     second(r.Precondition(ctx, 7, four, four, WithDamping(0))),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantCode(t, err, wire.CodeInvalid, name)
	}
	if n := f.count(wire.OpOpen); n != 0 {
		t.Errorf("%d steps were opened", n)
	}
}

func TestPublishMany(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(dim)
	most, opened := 0, []wire.Step{}
	f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
		if o, ok := m.(*wire.Open); ok {
			opened = append(opened, o.Step)
		}
		most = max(most, len(f.runs["run"].open))
		return nil, false
	})
	rows := make([][]float32, 10)
	for i := range rows {
		rows[i] = ramp(dim)
		rows[i][0] = float32(i)
	}
	commits, err := r.PublishMany(t.Context(), 11, rows)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range commits {
		if c.Version != wire.Version(i+1) || f.runs["run"].grads[wire.Step(11+i)][0] != float32(i) {
			t.Errorf("row %d: commit %v", i, c)
		}
	}
	if most != wire.DefaultSpare {
		t.Errorf("%d steps open at once, want %d", most, wire.DefaultSpare)
	}
	if !slices.IsSorted(opened) {
		t.Errorf("opened %v", opened)
	}
}

// The first error stops the rows that have not begun, and is the one that is returned.
func TestPublishManyStops(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(8)
	f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
		if c, ok := m.(*wire.Chunk); ok && c.Step == 3 {
			delete(f.runs["run"].open, 3)
			f.runs["run"].commit()
			return wire.Errorf(wire.CodeNotFinite, "column", 5, "finite"), true
		}
		return nil, false
	})
	rows := make([][]float32, 10)
	for i := range rows {
		rows[i] = ramp(8)
	}
	commits, err := r.PublishMany(t.Context(), 1, rows)
	wantCode(t, err, wire.CodeNotFinite, "publish step 3: column is 5")
	if commits[1].Version != 2 || commits[2].Version != 0 || commits[4].Version != 0 || commits[9].Version != 0 {
		t.Errorf("commits are %v", commits)
	}
}

// Ranks of a training job send a part each, and get that part of the result.
func TestColumns(t *testing.T) {
	f := newFake(t, "a", "b", "c")
	r := f.attached(dim)
	var tokens []uint64
	f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
		if o, ok := m.(*wire.Open); ok {
			tokens = append(tokens, o.Token)
		}
		return nil, false
	})
	g, dst := ramp(dim), make([]float32, dim)
	cuts := []int{0, 100, 101, 250, dim}
	var wg sync.WaitGroup
	for i := range 4 {
		lo, hi := cuts[i], cuts[i+1]
		wg.Go(func() {
			c, err := r.PublishColumns(t.Context(), 1, int64(lo), g[lo:hi])
			if err != nil || c.Version != 1 {
				t.Errorf("rank %d: %v, %v", i, c, err)
			}
			a, err := r.PreconditionColumns(t.Context(), 2, int64(lo), dst[lo:hi], g[lo:hi])
			if err != nil || a.Version != 2 {
				t.Errorf("rank %d: %v, %v", i, a, err)
			}
		})
	}
	wg.Wait()
	wantTwice(t, dst, g)
	if len(tokens) != 8 || slices.Max(tokens) != 0 {
		t.Errorf("tokens are %v", tokens)
	}
	r.c.Close()
	// The four are one reader to the services: closed once, after the last one has its part.
	if n := f.count(wire.OpClose); n != 1 {
		t.Errorf("closed %d times", n)
	}
	if n := f.count(wire.OpQuery); n != 0 {
		t.Errorf("%d queries besides", n)
	}
	if len(r.reading) != 0 {
		t.Errorf("still reading %v", r.reading)
	}
}

func TestWithoutWait(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(8)
	g := ramp(8)
	if c, err := r.PublishColumns(t.Context(), 1, 0, g[:4], WithoutWait()); err != nil || c.Version != 0 {
		t.Errorf("commit is %v, %v", c, err)
	}
	if n := f.count(wire.OpWait); n != 0 {
		t.Errorf("waited %d times", n)
	}
	if c, err := r.PublishColumns(t.Context(), 1, 4, g[4:]); err != nil || c.Version != 1 {
		t.Errorf("commit is %v, %v", c, err)
	}
}

func TestOpen(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(8)
	var last *wire.Open
	f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
		if o, ok := m.(*wire.Open); ok {
			last = o
		}
		return nil, false
	})
	g := ramp(8)
	if _, err := r.Publish(t.Context(), 1, g, WithToken(77), WithStepDeadline(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	if last.Token != 77 || last.DeadlineMS != 3000 || last.Precondition != nil {
		t.Errorf("open is %+v", last)
	}
	if _, err := r.Precondition64(t.Context(), 2, make([]float64, 8), g, WithDamping(2), WithToken(78)); err != nil {
		t.Fatal(err)
	}
	if p := last.Precondition; last.Token != 78 || p == nil || p.Damping != 2 || p.Result != wire.F64 {
		t.Errorf("open is %+v", last)
	}
	if last.DeadlineMS != stepLease.Milliseconds() {
		t.Errorf("deadline is %d ms", last.DeadlineMS)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := r.Publish(ctx, 3, g); err != nil {
		t.Fatal(err)
	}
	if last.DeadlineMS < 5_000 || last.DeadlineMS > 10_000+tickedMS {
		t.Errorf("deadline is %d ms", last.DeadlineMS)
	}
}

// A step that takes long is opened again now and then, so that it isn't dropped.
func TestKeepAlive(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(8)
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
		return &wire.WaitReply{State: wire.StatePending}, op == wire.OpWait && f.counts[wire.OpOpen] < 4
	})
	p := r.publication(1, whole(ramp(8), ""), &call{})
	p.beat = 5 * time.Millisecond
	if c, err := r.publish(t.Context(), p); err != nil || c.Version != 1 {
		t.Errorf("commit is %v, %v", c, err)
	}
}

func TestPrecondition(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(dim)
	g := ramp(dim)
	a, err := r.Precondition(t.Context(), 1, g, g) // in place
	if err != nil || a.Version != 1 || a.Bound() != 1e-12 {
		t.Fatalf("answer is %v, %v", a, err)
	}
	wantTwice(t, g, ramp(dim))

	a, err = r.Precondition(t.Context(), 2, g, ramp(dim), WithMinRows(3))
	wantCode(t, err, wire.CodeTooFewRows, "precondition step 2: rows is 2, must be at least 3")
	if a.Version != 2 {
		t.Errorf("answer is %v: the gradient is committed all the same", a)
	}

	f.on(func(op, _ string, m wire.Message) (wire.Message, bool) {
		return &wire.WaitReply{State: wire.StateCommitted, Version: 3, Rows: 3, Refused: &wire.Error{Code: wire.CodeIllConditioned}}, op == wire.OpWait
	})
	a, err = r.Precondition(t.Context(), 3, g, ramp(dim))
	wantCode(t, err, wire.CodeIllConditioned)
	if a.Version != 3 {
		t.Errorf("answer is %v: the gradient is committed all the same", a)
	}
}

// A precondition that is lost when the run changes hands is asked for again, as the stored step's.
func TestPreconditionLost(t *testing.T) {
	for _, where := range []string{wire.OpWait, wire.OpFetch} {
		t.Run(where, func(t *testing.T) {
			f := newFake(t, "a", "b")
			r := f.attached(dim)
			lost := 0
			f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
				if op == where {
					if lost++; lost == 3 {
						f.takeover(false)
					}
				}
				return nil, where == wire.OpWait && lost < 3 && op == where // the answers before are lost
			})
			g, dst := ramp(dim), make([]float32, dim)
			if _, err := r.Precondition(t.Context(), 1, dst, g); err != nil {
				t.Fatal(err)
			}
			wantTwice(t, dst, g)
			if n := f.count(wire.OpQuery); n != 1 {
				t.Errorf("%d queries", n)
			}
		})
	}
}

// TestPublishManyOfAFreshRun: rows are opened in order also in a run that has no epoch yet. The
// coordinator gives slots in the order of opens, and with them goes the order of summation.
func TestPublishManyOfAFreshRun(t *testing.T) {
	f := newFake(t, "a")
	var opened []wire.Step
	f.on(func(op, worker string, m wire.Message) (wire.Message, bool) {
		switch m := m.(type) {
		case *wire.Create:
			info := *f.plain(worker, m).(*wire.Info)
			info.Epoch, info.State = wire.Epoch{}, "starting"
			return &info, true
		case *wire.Open:
			opened = append(opened, m.Step)
			return nil, len(opened) == 1 // the first one is lost
		}
		return nil, false
	})
	r := f.attached(4)
	row := []float32{1, 2, 3, 4}
	if _, err := r.PublishMany(t.Context(), 1, [][]float32{row, row, row}); err != nil {
		t.Fatal(err)
	}
	f.on(nil)
	if want := []wire.Step{1, 1, 2, 3}; !slices.Equal(opened, want) {
		t.Errorf("opened are %v, want %v", opened, want)
	}
}
