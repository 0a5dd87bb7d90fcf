package demo

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestScheduleGoesUpAndThenDownToZero(t *testing.T) {
	const steps = 500
	if got := schedule(1, steps); got != 1.0/warmupSteps {
		t.Errorf("first step at %v, want %v", got, 1.0/warmupSteps)
	}
	top := 0
	for s := 1; s <= steps; s++ {
		v := schedule(s, steps)
		if !(v > 0 && v <= 1) {
			t.Errorf("step %d at %v, want in (0, 1]", s, v)
		}
		if v > schedule(max(top, 1), steps) {
			top = s
		}
	}
	if top != warmupSteps {
		t.Errorf("highest at step %d, want %d", top, warmupSteps)
	}
	if last := schedule(steps, steps); !(last < 1e-4) {
		t.Errorf("last step at %v, want nearly 0", last)
	}
}

// An image's first pixel is its number here.
func numbered(n int) Images {
	s := Images{X: make([]float32, n*pixels), Y: make([]uint8, n)}
	for i := range n {
		s.X[i*pixels] = float32(i)
		s.Y[i] = uint8(i % classes)
	}
	return s
}

func TestBatchesDealEveryImageOnceAnEpoch(t *testing.T) {
	const n, size = 20, 6 // three batches an epoch, two images left out
	deal := func(seed uint64) [][]int {
		b := newBatches(numbered(n), size, seed)
		var all [][]int
		for range 9 {
			s := b.next()
			var batch []int
			for i := range s.Len() {
				image := int(s.X[i*pixels])
				if int(s.Y[i]) != image%classes {
					t.Errorf("image %d has label %d", image, s.Y[i])
				}
				batch = append(batch, image)
			}
			all = append(all, batch)
		}
		return all
	}
	first := deal(1)
	for e := range 3 {
		seen := slices.Concat(first[3*e : 3*e+3]...)
		slices.Sort(seen)
		if len(slices.Compact(seen)) != 3*size {
			t.Errorf("epoch %d has an image twice: %v", e, first[3*e:3*e+3])
		}
	}
	if slices.Equal(first[0], first[3]) {
		t.Error("two epochs in the same order")
	}
	if again := deal(1); !slices.EqualFunc(first, again, slices.Equal) {
		t.Error("the same seed deals otherwise")
	}
	if other := deal(2); slices.EqualFunc(first, other, slices.Equal) {
		t.Error("another seed deals alike")
	}
}

func TestBetterTrial(t *testing.T) {
	good := &trial{heldAccuracy: 0.9, heldLoss: 0.5}
	for _, c := range []struct {
		name string
		t, u *trial
		want bool
	}{
		{"the first", good, nil, true},
		{"the first, diverged", &trial{diverged: true}, nil, false},
		{"diverged", &trial{diverged: true, heldAccuracy: 1}, good, false},
		{"more accurate", &trial{heldAccuracy: 0.91, heldLoss: 9}, good, true},
		{"less accurate", &trial{heldAccuracy: 0.89, heldLoss: 0.1}, good, false},
		{"as accurate, lower loss", &trial{heldAccuracy: 0.9, heldLoss: 0.4}, good, true},
		{"the same", &trial{heldAccuracy: 0.9, heldLoss: 0.5}, good, false},
	} {
		if got := c.t.better(c.u); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// smallTrainer trains on noise.
func smallTrainer(steps int) *trainer {
	s := randomImages(1, 60)
	return newTrainer(Options{Seed: 1, Steps: steps, Batch: 20, Hidden: []int{8}}, Data{Train: s, Held: s, Test: s})
}

func TestSearchKeepsTheBestAndDropsTheRest(t *testing.T) {
	var started, dropped []optimizer
	c := contender{
		name:  "SGD",
		rates: []float64{1e30, 1e-6, 0.05, 1e-5},
		start: func(context.Context) (optimizer, error) {
			o := &sgd{momentum: 0.9}
			started = append(started, o)
			return o, nil
		},
		drop: func(_ context.Context, o optimizer) error {
			dropped = append(dropped, o)
			return nil
		},
	}
	var progress bytes.Buffer
	tr := smallTrainer(30)
	best, err := tr.search(context.Background(), c, &progress)
	if err != nil {
		t.Fatal(err)
	}
	if best.lr != 0.05 || best.opt != started[2] {
		t.Errorf("picked learning rate %v, want 0.05", best.lr)
	}
	if want := []optimizer{started[0], started[1], started[3]}; !slices.Equal(dropped, want) {
		t.Errorf("dropped %v, want %v", dropped, want)
	}
	lines := strings.Split(strings.TrimSpace(progress.String()), "\n")
	if len(lines) != 4 || !strings.Contains(lines[0], "diverged") || strings.ContainsAny(progress.String(), "\r\x1b") {
		t.Errorf("progress is %q, want four plain lines, the first one diverged", lines)
	}

	c.rates = []float64{1e30, 1e31}
	if _, err := tr.search(context.Background(), c, &progress); err == nil || !strings.Contains(err.Error(), "diverged with every") {
		t.Errorf("error %v, want one that says that all diverged", err)
	}
}

// What is not finite is never published.
func TestDivergedGradientIsNotPublished(t *testing.T) {
	tr := smallTrainer(30)
	run := &doubleRun{}
	got, err := tr.try(context.Background(), &mfac{run: run, momentum: 0.9}, 1e30)
	if err != nil {
		t.Fatal(err)
	}
	if !got.diverged || len(got.loss) != len(run.steps)+1 {
		t.Errorf("diverged %v after %d losses and %d gradients, want true and one gradient less", got.diverged, len(got.loss), len(run.steps))
	}
}

func TestTryStopsWithItsContext(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if _, err := smallTrainer(3).try(ctx, &sgd{}, 0.1); !errors.Is(err, why) {
		t.Errorf("error %v, want %v", err, why)
	}
}

func TestSameTrialTwice(t *testing.T) {
	tr := smallTrainer(25)
	a, err := tr.try(context.Background(), &adam{beta1: 0.9, beta2: 0.999, eps: 1e-8}, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tr.try(context.Background(), &adam{beta1: 0.9, beta2: 0.999, eps: 1e-8}, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.w, b.w) || !slices.Equal(a.loss, b.loss) {
		t.Error("the same trial gave other weights or losses")
	}
	if !(a.loss[24] < a.loss[0]) || math.IsNaN(a.heldLoss) {
		t.Errorf("loss went from %v to %v", a.loss[0], a.loss[24])
	}
}
