package integration

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"mfac/client"
	"mfac/wire"
)

// TestFactorsBesideSteps: in a window of more rows than a factor is made for between two messages, all kinds of
// queries at other dampings, by many at once, while steps go on, are what a run of that damping answers, within
// the bounds; the version that is told is the one that the answer is of.
func TestFactorsBesideSteps(t *testing.T) {
	t.Parallel()
	const (
		d, m     = 400, 300
		atLambda = 3e-2
	)
	c := start(t, shape{workers: 2})
	cl := c.client()
	run := c.attach(cl, client.RunConfig{Name: "many-dampings", Dim: d, Window: m, Damping: 1, Shards: 2, Spare: 8})
	same := c.attach(cl, client.RunConfig{Name: "one-damping", Dim: d, Window: m, Damping: atLambda, Shards: 2})
	rows := gradients(5, m+40, d)
	ctx := within(t, time.Minute)
	for _, r := range []*client.Run{run, same} {
		if _, err := r.PublishMany(ctx, 1, rows[:m]); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	v := make([]float64, d)
	for j := range v {
		v[j] = r.NormFloat64()
	}
	asks := map[string]func(ctx context.Context, run *client.Run, x []float64, opts ...client.QueryOption) (client.Answer, error){
		"vector": func(ctx context.Context, run *client.Run, x []float64, opts ...client.QueryOption) (client.Answer, error) {
			return run.IHVP64(ctx, x, v, opts...)
		},
		"combination": func(ctx context.Context, run *client.Run, x []float64, opts ...client.QueryOption) (client.Answer, error) {
			return run.IHVPCombine64(ctx, x, []wire.Step{m - 5, m - 20}, []float64{1, -2}, opts...)
		},
		"diagonal": func(ctx context.Context, run *client.Run, x []float64, opts ...client.QueryOption) (client.Answer, error) {
			return run.Diag64(ctx, x, opts...)
		},
		"column": func(ctx context.Context, run *client.Run, x []float64, opts ...client.QueryOption) (client.Answer, error) {
			return run.Columns64(ctx, [][]float64{x}, []int64{17}, opts...)
		},
	}
	var group sync.WaitGroup
	answered := make(chan struct{}, 3*len(asks))
	for kind, ask := range asks {
		for range 3 {
			group.Go(func() {
				x, want := make([]float64, d), make([]float64, d)
				a, err := ask(ctx, run, x, client.WithDamping(atLambda))
				answered <- struct{}{}
				if err != nil {
					t.Errorf("%s: %v", kind, err)
					return
				}
				if a.Version != m { // steps went in before it was pinned
					return
				}
				b, err := ask(ctx, same, want)
				if err != nil {
					t.Errorf("%s of the run with that damping: %v", kind, err)
					return
				}
				off, norm := 0.0, 0.0
				for j := range x {
					off, norm = math.Hypot(off, x[j]-want[j]), math.Hypot(norm, want[j])
				}
				if !(off <= (a.Bound()+b.Bound())*norm) || !(a.Bound() <= benignBound) {
					t.Errorf("%s: off by %.3g of the norm, bounds %.3g and %.3g", kind, off/norm, a.Bound(), b.Bound())
				}
			})
		}
		lambda := r.Float64()
		group.Go(func() { // another, which is not at hand
			x := make([]float64, d)
			if _, err := ask(ctx, run, x, client.WithDamping(lambda)); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		})
	}
	<-answered // so that one at least is of version m
	for i := range 40 {
		if _, err := run.Publish(ctx, wire.Step(m+1+i), rows[m+i]); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
}
