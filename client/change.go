package client

import (
	"context"
	"fmt"
	"math/rand/v2"

	"mfac/wire"
)

// This file: changes of a run that no gradient makes.

// Forget takes gradients out of the window, all of the steps or none, and returns when their memory
// is zeroed on every shard: at which version, and among how many rows. What is computed from then
// on is for a window that never had them. A step that isn't in the window is an error of
// wire.CodeUnknownStep that names it, and nothing is forgotten. Queries that are open on a version
// with one of the rows end with wire.CodeVersionGone, whoever asked them. What forgetting can't
// reach, docs/forgetting.md says.
func (r *Run) Forget(ctx context.Context, steps ...wire.Step) (Commit, error) {
	req := &wire.Forget{Run: r.name, Token: rand.Uint64(), Payload: wire.AppendUint64s(nil, steps)}
	c, err := r.change(ctx, wire.OpForget, req)
	if err != nil {
		return Commit{}, fmt.Errorf("forget %s: %w", stepsOf(steps), err)
	}
	return c, nil
}

func stepsOf(steps []wire.Step) string {
	if len(steps) == 1 {
		return fmt.Sprintf("step %d", steps[0])
	}
	return fmt.Sprintf("%d steps", len(steps))
}

// Set gives the run another λ or divisor, for all of its clients; 0 and "" leave what is there. The
// window stays, no worker is asked: the next answer is worked out with a factor made anew from A,
// O(m³). Queries that are open keep what they were asked at. A client that attaches from then on
// must name the new ones. Errors: wire.CodeInvalid, with the limit.
func (r *Run) Set(ctx context.Context, damping float64, divisor wire.Divisor) (Commit, error) {
	req := &wire.Set{Run: r.name, Token: rand.Uint64(), Damping: damping, Divisor: divisor}
	err := req.Validate()
	if err == nil && damping != 0 {
		err = wire.CheckDampingOf("damping", damping, r.Spec().Window)
	}
	if err != nil {
		return Commit{}, fmt.Errorf("set run %s: %w", r.name, err)
	}
	c, err := r.change(ctx, wire.OpSet, req)
	if err != nil {
		return Commit{}, fmt.Errorf("set run %s: %w", r.name, err)
	}
	return c, nil
}

// Resize gives the run a window of another size m, for all of its clients, and returns when it has it: at
// which version, and with how many rows. Of a smaller one the oldest gradients leave; those that stay keep
// every bit. It waits for the steps that are open; others are opened when it is done. Queries that are open
// are asked anew by their clients. Each worker needs the memory of its slots at the new size, and no more
// but some 4 MB while rows are moved: where it hasn't got that, wire.CodeTooLarge says so, and the run stays
// as it was. Errors besides: wire.CodeInvalid, with the limit, as of Attach; wire.CodeFrozen.
func (r *Run) Resize(ctx context.Context, window int) (Commit, error) {
	err := wire.CheckWindow("window", window)
	if err == nil {
		err = wire.CheckDampingOf("damping", r.Spec().Damping, window)
	}
	if err != nil {
		return Commit{}, fmt.Errorf("resize run %s: %w", r.name, err)
	}
	c, err := r.change(ctx, wire.OpResize, &wire.Resize{Run: r.name, Token: rand.Uint64(), Window: window})
	if err != nil {
		return Commit{}, fmt.Errorf("resize run %s: %w", r.name, err)
	}
	return c, nil
}

// change asks for a change until it is done. The token makes all tries one.
func (r *Run) change(ctx context.Context, op string, req wire.Message) (Commit, error) {
	return r.changeMeanwhile(ctx, op, req, func(context.Context) {})
}

// changeMeanwhile is change that calls pending while it is not done yet.
func (r *Run) changeMeanwhile(ctx context.Context, op string, req wire.Message, pending func(context.Context)) (Commit, error) {
	if err := req.Validate(); err != nil {
		return Commit{}, err
	}
	ctx, done, err := r.c.begin(ctx)
	if err != nil {
		return Commit{}, err
	}
	defer done()
	for {
		reply, err := ask[*wire.WaitReply](ctx, r.c, op, req, whileBusy)
		if err != nil {
			return Commit{}, err
		}
		if reply.State == wire.StateCommitted {
			_, err := r.renew(ctx, nil) // its spec may be another
			return Commit{Version: reply.Version, Rows: reply.Rows}, err
		}
		pending(ctx)
	}
}
