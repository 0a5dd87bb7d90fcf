package coordinator

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// This file: how jobs are run. At most one of a kind, brief or not, at a time in the process, on a thread
// of its own: steps and other queries of all runs go before in any case, since they don't wait for it.

// work runs a job beside the core.
func (o *owner) work(j Job) {
	ctx, cancel := context.WithCancel(o.s.ctx)
	o.jobs[j.ID] = cancel
	turn := o.s.working
	if j.Brief {
		turn = o.s.making
	}
	o.working.Go(func() {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
		end := o.follow(ctx, j)
		result := o.result(j, func() bool { return ctx.Err() != nil })
		end()
		<-turn
		if ctx.Err() != nil {
			return
		}
		select {
		case o.inbox <- Done{j.ID, result}:
		case <-ctx.Done():
		}
	})
}

// followEvery is how often the core hears of a job under way: some times for each long poll.
const followEvery = 300 * time.Millisecond

// follow tells the core how far a job is, until end is called.
func (o *owner) follow(ctx context.Context, j Job) (end func()) {
	if j.Progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		t := time.NewTicker(followEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			done, total := j.Progress()
			select {
			case o.inbox <- Underway{j.ID, done, total}:
			default: // it has more to do than to listen
			}
		}
	}()
	return func() {
		cancel()
		<-over
	}
}

// result is what a job returns, or the error of a panic.
func (o *owner) result(j Job, stop func() bool) (result any) {
	defer func() {
		if p := recover(); p != nil {
			o.log.Error("job broken", zap.Uint64("job", j.ID), zap.Any("panic", p), zap.Stack("stack"))
			result = fmt.Errorf("%v", p)
		}
	}()
	return j.Run(stop)
}

func (o *owner) stopJob(id uint64) {
	if cancel := o.jobs[id]; cancel != nil {
		cancel()
		delete(o.jobs, id)
	}
}

func (o *owner) stopJobs() {
	for id := range o.jobs {
		o.stopJob(id)
	}
}
