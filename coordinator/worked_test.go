package coordinator

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
)

// Jobs run one at a time, a stopped one says nothing, and one that panics says so.
func TestJobs(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &Service{ctx: ctx, log: zap.NewNop(), working: make(chan struct{}, 1), making: make(chan struct{}, 1)}
	o := newOwner(s, "digits", 1)
	began := make(chan struct{})
	until := func(stop func() bool) any {
		close(began)
		for !stop() {
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	o.work(Job{ID: 1, Run: until})
	<-began
	o.work(Job{ID: 2, Run: func(func() bool) any { return "never" }}) // waits, and is stopped before its turn
	o.stopJob(2)
	o.work(Job{ID: 3, Run: func(func() bool) any { panic("as the test says") }})
	o.work(Job{ID: 4, Run: func(func() bool) any { return "four" }})
	select {
	case in := <-o.inbox:
		t.Fatalf("%+v while another job runs", in)
	case <-time.After(20 * time.Millisecond):
	}
	o.work(Job{ID: 6, Brief: true, Run: func(func() bool) any { return "brief" }}) // doesn't wait for the other
	if in := (<-o.inbox).(Done); in != (Done{6, "brief"}) {
		t.Errorf("%+v", in)
	}
	o.stopJob(1)
	results := map[uint64]any{}
	for range 2 {
		in := (<-o.inbox).(Done)
		results[in.Job] = in.Result
	}
	if err, ok := results[3].(error); !ok || err.Error() != "as the test says" || results[4] != "four" {
		t.Errorf("%+v", results)
	}
	began = make(chan struct{})
	o.work(Job{ID: 5, Run: until})
	<-began
	o.stopJobs()
	o.working.Wait()
	if len(o.jobs) != 0 || len(o.inbox) != 0 || len(s.working) != 0 {
		t.Errorf("%d jobs, %d outcomes", len(o.jobs), len(o.inbox))
	}
}

// Of a job under way the core hears now and then how far it is, and nothing more when it is over.
func TestJobProgress(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &Service{ctx: ctx, log: zap.NewNop(), working: make(chan struct{}, 1)}
	o := newOwner(s, "digits", 1)
	goOn := make(chan struct{})
	w := new(watched)
	o.work(Job{ID: 7, Progress: w.progress, Run: func(stop func() bool) any {
		w.watch(stop)(3, 8)
		<-goOn
		return "done"
	}})
	if in := <-o.inbox; in != any(Underway{7, 3, 8}) {
		t.Errorf("%+v", in)
	}
	close(goOn)
	for in := range o.inbox {
		if in == any(Done{7, "done"}) {
			break
		} else if _, ok := in.(Underway); !ok {
			t.Fatalf("%+v", in)
		}
	}
	o.working.Wait()
	if len(o.inbox) != 0 {
		t.Errorf("%+v after the end", <-o.inbox)
	}
}
