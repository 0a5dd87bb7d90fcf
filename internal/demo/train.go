package demo

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"
)

// Streams of random numbers, so that one does not shift another.
const (
	streamSplit = iota + 1
	streamInit
	streamOrder
	streamCheck
)

const (
	warmupSteps = 20  // of the learning rate
	wanted      = 0.9 // the accuracy of steps_to_90

	// The held-out accuracy is looked at in the first lookImages held-out images, every
	// lookEvery steps, and every lookEarly ones until it has reached wanted.
	lookImages = 1000
	lookEvery  = 20
	lookEarly  = 5
)

// trainer runs trials, each from the same weights on the same mini-batches.
type trainer struct {
	opts Options
	data Data
	net  *Net
	init []float32
}

func newTrainer(opts Options, data Data) *trainer {
	sizes := append(append([]int{pixels}, opts.Hidden...), classes)
	net := NewNet(sizes...)
	return &trainer{opts: opts, data: data, net: net, init: net.Init(opts.Seed)}
}

// trial is one training.
type trial struct {
	lr       float64
	opt      optimizer
	w        []float32
	loss     []float64 // of each mini-batch, before its step
	held     []point   // held-out accuracy now and then
	to90     *int      // the first look with the wanted accuracy
	training time.Duration

	heldLoss, heldAccuracy float64 // at the end, over all held-out images
	diverged               bool
}

// point is a share of right answers after a step.
type point struct {
	step     int
	accuracy float64
}

// better says whether t should be kept rather than u: by held-out accuracy, then by
// held-out loss.
func (t *trial) better(u *trial) bool {
	if t.diverged || u == nil {
		return !t.diverged
	}
	if t.heldAccuracy != u.heldAccuracy {
		return t.heldAccuracy > u.heldAccuracy
	}
	return t.heldLoss < u.heldLoss
}

// contender is an optimizer with its grid. drop, where there is one, is told of each
// optimizer that will not be used again.
type contender struct {
	name  string
	rates []float64
	start func(context.Context) (optimizer, error)
	drop  func(context.Context, optimizer) error
}

// search tries every rate of c and returns the best trial, a line for each going to
// progress.
func (t *trainer) search(ctx context.Context, c contender, progress io.Writer) (*trial, error) {
	var best *trial
	for _, lr := range c.rates {
		opt, err := c.start(ctx)
		if err != nil {
			return nil, err
		}
		tr, err := t.try(ctx, opt, lr)
		if err != nil {
			return nil, fmt.Errorf("%s with learning rate %v: %w", c.name, lr, err)
		}
		if tr.diverged {
			fmt.Fprintf(progress, "%-5s  lr %-6v  diverged at step %d\n", c.name, lr, len(tr.loss))
		} else {
			fmt.Fprintf(progress, "%-5s  lr %-6v  held-out accuracy %5.2f %%  loss %.4f  %4.1f s\n",
				c.name, lr, 100*tr.heldAccuracy, tr.heldLoss, tr.training.Seconds())
		}
		loser := tr
		if tr.better(best) {
			best, loser = tr, best
		}
		if loser != nil && c.drop != nil {
			if err := c.drop(ctx, loser.opt); err != nil {
				return nil, err
			}
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%s diverged with every learning rate of %v", c.name, c.rates)
	}
	return best, nil
}

// try trains with one optimizer and learning rate. A loss that is not finite ends it;
// such a gradient is not published.
func (t *trainer) try(ctx context.Context, opt optimizer, lr float64) (*trial, error) {
	tr := &trial{lr: lr, opt: opt, w: append([]float32(nil), t.init...)}
	g := make([]float32, t.net.Dim())
	batches := newBatches(t.data.Train, t.opts.Batch, t.opts.Seed)
	look := t.data.Held.Slice(0, min(lookImages, t.data.Held.Len()))
	for step := 1; step <= t.opts.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		start := time.Now()
		loss := t.net.Gradient(g, tr.w, batches.next())
		tr.loss = append(tr.loss, loss)
		if !finite(loss) || !finite(dot(g, g)) {
			tr.diverged = true
			return tr, nil
		}
		if err := opt.step(ctx, step, lr*schedule(step, t.opts.Steps), tr.w, g); err != nil {
			return nil, fmt.Errorf("step %d: %w", step, err)
		}
		tr.training += time.Since(start)

		if step%lookEvery == 0 || tr.to90 == nil && step%lookEarly == 0 {
			_, accuracy := t.net.Evaluate(tr.w, look)
			tr.held = append(tr.held, point{step, accuracy})
			if tr.to90 == nil && accuracy >= wanted {
				tr.to90 = &step
			}
		}
	}
	tr.heldLoss, tr.heldAccuracy = t.net.Evaluate(tr.w, t.data.Held)
	tr.diverged = !finite(tr.heldLoss)
	return tr, nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// schedule is the share of the learning rate at a step: up linearly, times half a
// cosine that ends at zero after the last.
func schedule(step, steps int) float64 {
	up := min(1, float64(step)/warmupSteps)
	return up * 0.5 * (1 + math.Cos(math.Pi*float64(step-1)/float64(steps)))
}

// score is what the table says of a trial. It is the only place where the test images
// are looked at.
func (t *trainer) score(tr *trial) Score {
	loss, _ := t.net.Evaluate(tr.w, t.data.Train)
	_, accuracy := t.net.Evaluate(tr.w, t.data.Test)
	return Score{
		Loss:      loss,
		Accuracy:  accuracy,
		StepsTo90: tr.to90,
		MsPerStep: 1e3 * tr.training.Seconds() / float64(len(tr.loss)),
		LR:        tr.lr,
	}
}

// batches deals images out in mini-batches, shuffled anew in every epoch; what is too
// few for a batch at an epoch's end is left out.
type batches struct {
	from  Images
	rng   *rand.Rand
	order []int
	batch Images
}

func newBatches(from Images, size int, seed uint64) *batches {
	return &batches{
		from:  from,
		rng:   rand.New(rand.NewPCG(seed, streamOrder)),
		batch: Images{X: make([]float32, size*pixels), Y: make([]uint8, size)},
	}
}

// next returns the next mini-batch, which the following call overwrites.
func (b *batches) next() Images {
	size := b.batch.Len()
	if len(b.order) < size {
		b.order = b.rng.Perm(b.from.Len())
	}
	for row, i := range b.order[:size] {
		copy(b.batch.X[row*pixels:(row+1)*pixels], b.from.X[i*pixels:(i+1)*pixels])
		b.batch.Y[row] = b.from.Y[i]
	}
	b.order = b.order[size:]
	return b.batch
}
