package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"mfac/client"
	"mfac/wire"
)

// A long query whose caller's time is up, of whatever kind, ends: the workers are free, what it took there is given back, and its slots
// are used again.
func TestLongCancelled(t *testing.T) {
	const d, m = 200_000, 128
	c := start(t, shape{workers: 1, threads: 1})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "long", Dim: d, Window: m, Damping: 1e-3, Shards: 2})
	rng := rand.New(rand.NewPCG(29, 30))
	g := normal(rng, d)
	for i := range m {
		for range 10 {
			g[rng.IntN(d)]++
		}
		if _, err := r.Publish(within(t, time.Minute), wire.Step(i), g); err != nil {
			t.Fatal(err)
		}
	}
	used := func() int64 {
		w, err := cl.Workers(soon(t))
		if err != nil || len(w) != 1 {
			t.Fatal(w, err)
		}
		return w[0].Used
	}
	before := int64(0)
	eventually(t, func() error {
		if before = used(); before < 4*d*m {
			return fmt.Errorf("%d bytes used", before)
		}
		return nil
	})
	x, fixed, mask := make([]float32, d), make([]bool, d), make([]int8, d)
	for j := range mask {
		if fixed[j] = j%2 == 0; j%3 == 0 {
			mask[j] = wire.MaskFixed
		}
	}
	large := client.WithBlocks(90_000)
	step := wire.Step(m)
	long := map[string]func(ctx context.Context) error{
		"diag":           func(ctx context.Context) error { _, err := r.Diag(ctx, x); return err },
		"diag in blocks": func(ctx context.Context) error { _, err := r.Diag(ctx, x, large); return err },
		"ihvp in blocks": func(ctx context.Context) error { _, err := r.IHVP(ctx, x, g, large); return err },
		"a step in blocks": func(ctx context.Context) error {
			_, err := r.IHVPStep(ctx, x, step-1, large)
			return err
		},
		"elements in blocks": func(ctx context.Context) error {
			_, _, err := r.Subblock(ctx, []int64{1, 2, 99_999, d - 1}, large)
			return err
		},
		"prune": func(ctx context.Context) error {
			_, err := r.Prune(ctx, x, g, client.Pruning{Sparsity: 0.5})
			return err
		},
		"prune with a mask": func(ctx context.Context) error {
			_, err := r.Prune(ctx, x, g, client.Pruning{Sparsity: 0.5, Rule: wire.RuleJoint, Mask: mask})
			return err
		},
		"prune in blocks": func(ctx context.Context) error {
			_, err := r.Prune(ctx, x, g, client.Pruning{Sparsity: 0.5, Rule: wire.RuleJoint}, large)
			return err
		},
		"compensate": func(ctx context.Context) error { _, err := r.Compensate(ctx, x, g, fixed); return err },
		"scalars of blocks": func(ctx context.Context) error {
			_, err := r.BlockScalars(ctx, nil, client.WithBlocks(50_000))
			return err
		},
	}
	for name, ask := range long {
		var err error
		for after := 80 * time.Millisecond; err == nil && after > time.Millisecond; after /= 2 { // what is done by then is asked for less
			ctx, cancel := context.WithTimeout(t.Context(), after)
			err = ask(ctx)
			cancel()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		eventually(t, func() error {
			if now := used(); now != before {
				return fmt.Errorf("%s: %d bytes used, %d before", name, now, before)
			}
			info, err := r.Status(soon(t))
			if err == nil && info.Queries != 0 {
				err = fmt.Errorf("%s: %d queries", name, info.Queries)
			}
			return err
		})
		began := time.Now()
		if _, err := r.Publish(soon(t), step, g); err != nil { // its slots are free
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: the next step took %v", name, time.Since(began))
		step++
	}

	// Nor does forgetting wait for them: who asks about a row that is gone hears so, or has been answered before.
	gone := 0
	for name, ask := range long {
		done := make(chan error, 1)
		go func() { done <- ask(within(t, time.Minute)) }()
		eventually(t, func() error { // till it is under way, or has been
			info, err := r.Status(soon(t))
			if err == nil && info.Queries == 0 && len(done) == 0 {
				err = fmt.Errorf("%s is not under way", name)
			}
			return err
		})
		began := time.Now()
		if _, err := r.Forget(soon(t), step-1); err != nil {
			t.Errorf("%s: forget: %v", name, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: forget took %v", name, took)
		}
		switch err := <-done; {
		case errors.Is(err, wire.ErrVersionGone):
			gone++
		case err != nil:
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Publish(soon(t), step, g); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		step++
	}
	if gone == 0 {
		t.Error("no query was under way when one of its rows was forgotten")
	}
	t.Logf("%d of %d ended", gone, len(long))
}
