package integration

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/floats"

	"mfac/client"
	"mfac/internal/demo"
	"mfac/wire"
)

// The tables of docs/damping.md: go test ./tests/integration -run 'TuneMNIST|TuneOptimizer' -tune.seeds 3 -v
var tuneSeeds = flag.Int("tune.seeds", 0, "make the tables of docs/damping.md, of so many seeds")

const (
	tuneTrain, tuneHeld = 10_000, 256
	tuneBatch           = 250
)

var tuneDampings = []float64{1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1}

// tuneNet is a network that SGD has trained on MNIST for so many steps.
func tuneNet(t *testing.T, seed uint64, steps int) (*demo.Net, []float32, demo.Data) {
	t.Helper()
	dir, err := demo.FindMNIST("")
	if err != nil {
		t.Skip("MNIST is not here: ", err)
	}
	data, err := demo.LoadMNIST(dir, seed, tuneTrain, 1000)
	if err != nil {
		t.Fatal(err)
	}
	net := demo.NewNet(784, 40, 20, 10)
	w := net.Init(seed)
	if err := descend(net, w, data, seed, steps, func(_ int, rate float64, g, v []float32) error {
		for i := range w {
			v[i] = 0.9*v[i] + g[i]
			w[i] -= float32(0.2*rate) * v[i]
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return net, w, data
}

// descend calls step with the gradient of one mini-batch after the other, and a rate that warms up and falls to 0.
func descend(net *demo.Net, w []float32, data demo.Data, seed uint64, steps int, step func(k int, rate float64, g, v []float32) error) error {
	r := rand.New(rand.NewPCG(seed, 55))
	g, v := make([]float32, net.Dim()), make([]float32, net.Dim())
	per := data.Train.Len() / tuneBatch
	order := r.Perm(per)
	for k := range steps {
		if k%per == 0 {
			order = r.Perm(per)
		}
		lo := order[k%per] * tuneBatch
		net.Gradient(g, w, data.Train.Slice(lo, lo+tuneBatch))
		rate := min(1, float64(k+1)/20) * 0.5 * (1 + math.Cos(math.Pi*float64(k)/float64(steps)))
		if err := step(k, rate, g, v); err != nil {
			return err
		}
	}
	return nil
}

// perSample is the gradients of the loss of images, one each.
func perSample(net *demo.Net, w []float32, s demo.Images) [][]float32 {
	rows := make([][]float32, s.Len())
	for i := range rows {
		rows[i] = make([]float32, net.Dim())
		net.Gradient(rows[i], w, s.Slice(i, i+1))
	}
	return rows
}

// TestTuneMNIST: per-sample gradients of a trained network. Leaving out agrees with holding out; both choose a λ near the mean
// square, a parameter, of what of a gradient the others don't span. With -tune.seeds, how well joint pruning does at each λ.
func TestTuneMNIST(t *testing.T) {
	if testing.Short() {
		t.Skip("trains a network")
	}
	const window = 256
	c := start(t, shape{workers: 2})
	cl := c.client()
	for seed := range uint64(max(1, *tuneSeeds)) {
		net, w, data := tuneNet(t, seed, 400)
		run := c.attach(cl, client.RunConfig{Name: fmt.Sprintf("mnist-%d", seed), Dim: int64(net.Dim()), Window: window, Damping: 1e-3})
		ctx := within(t, 10*time.Minute)
		if _, err := run.PublishMany(ctx, 1, perSample(net, w, data.Train.Slice(0, window))); err != nil {
			t.Fatal(err)
		}
		held := perSample(net, w, data.Held.Slice(0, tuneHeld))
		left, err := run.Tune(ctx, tuneDampings, nil)
		if err != nil {
			t.Fatal(err)
		}
		out, err := run.Tune(ctx, tuneDampings, held)
		if err != nil {
			t.Fatal(err)
		}
		// What of a held-out gradient is outside the span: ‖h‖² − (Gh)ᵀA⁻¹Gh, as λ hᵀH⁻¹h at a λ next to nothing.
		rest := 0.0
		const tiny = 1e-9
		for _, h := range held {
			p, err := run.Pairs(ctx, [][]float32{h}, [][2]int{{0, 0}}, client.WithDamping(tiny))
			if err != nil {
				t.Fatal(err)
			}
			rest += tiny * p.Values[0] / float64(len(held)) / float64(net.Dim())
		}
		_, whole := net.Evaluate(w, data.Test)
		var s strings.Builder
		fmt.Fprintf(&s, "seed %d: accuracy %.4f, the rest's mean square %.2g\n%-8s %14s %12s %14s %12s  pruned 80%%  90%%\n", seed, whole, rest, "λ", "left out", "below", "held out", "below")
		dst := make([]float32, net.Dim())
		for i, lambda := range tuneDampings {
			a, b := left.At[i], out.At[i]
			fmt.Fprintf(&s, "%-8g %14.0f %12.0f %14.0f %12.0f", lambda, a.Mean, a.Below, b.Mean, b.Below)
			for _, sparsity := range []float64{0.8, 0.9} {
				if *tuneSeeds == 0 {
					break
				}
				if _, err := run.Prune(ctx, dst, w, client.Pruning{Sparsity: sparsity, Rule: wire.RuleJoint}, client.WithDamping(lambda)); err != nil {
					fmt.Fprintf(&s, "  %v", err)
					continue
				}
				_, accuracy := net.Evaluate(dst, data.Test)
				fmt.Fprintf(&s, "  %.4f", accuracy)
			}
			s.WriteByte('\n')
		}
		t.Log(s.String())
		if d := left.Best - out.Best; d < -1 || d > 1 {
			t.Errorf("seed %d: leaving out chooses %g, holding out %g", seed, tuneDampings[left.Best], tuneDampings[out.Best])
		}
		if best := tuneDampings[out.Best]; !(math.Abs(math.Log10(best/rest)) <= 1) {
			t.Errorf("seed %d: %g is chosen, and the rest's mean square is %g", seed, best, rest)
		}
	}
}

// TestTuneOptimizer makes a table: how well M-FAC trains at each λ, and which λ is the likeliest for the gradients of its last window.
func TestTuneOptimizer(t *testing.T) {
	if *tuneSeeds == 0 {
		t.Skip("it makes a table of docs/damping.md: -tune.seeds")
	}
	const window, steps = 128, 200
	c := start(t, shape{workers: 2})
	cl := c.client()
	for seed := range uint64(*tuneSeeds) {
		net, _, data := tuneNet(t, seed, 1)
		var s strings.Builder
		fmt.Fprintf(&s, "seed %d\n%-8s %9s %9s  chosen\n", seed, "λ", "accuracy", "rate")
		for i, lambda := range tuneDampings[2:] {
			best, at, chosen := 0.0, 0.0, 0.0
			for j, lr := range []float64{0.001, 0.004, 0.016, 0.064, 0.25} {
				run := c.attach(cl, client.RunConfig{Name: fmt.Sprintf("o%d-%d-%d", seed, i, j), Dim: int64(net.Dim()), Window: window, Damping: lambda})
				ctx := within(t, 10*time.Minute)
				w, x := net.Init(seed), make([]float32, net.Dim())
				err := descend(net, w, data, seed, steps, func(k int, rate float64, g, v []float32) error {
					if _, err := run.Precondition(ctx, wire.Step(k+1), x, g); err != nil {
						return err
					}
					for i := range w {
						v[i] = 0.9*v[i] + 0.1*x[i]
						w[i] -= float32(lr*rate) * v[i]
					}
					return nil
				})
				if _, accuracy := net.Evaluate(w, data.Test); err == nil && accuracy > best {
					best, at, chosen = accuracy, lr, likeliest(ctx, t, run)
				}
				if err := cl.Delete(ctx, run.Spec().Name); err != nil {
					t.Fatal(err)
				}
			}
			fmt.Fprintf(&s, "%-8g %9.4f %9g  %g\n", lambda, best, at, chosen)
		}
		t.Log(s.String())
	}
}

func likeliest(ctx context.Context, t *testing.T, run *client.Run) float64 {
	t.Helper()
	x, err := run.Tune(ctx, tuneDampings, nil)
	if err != nil {
		t.Error(err)
		return math.NaN()
	}
	means := make([]float64, len(x.At))
	for i := range means {
		means[i] = x.At[i].Mean
	}
	return tuneDampings[floats.MaxIdx(means)]
}
