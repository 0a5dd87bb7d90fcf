package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime/debug"
	"strings"
	"time"

	"mfac/client"
	"mfac/wire"
)

type billionOptions struct {
	dim           int64
	rows, workers int
	store         string
}

// billionResult is the run on several processes, as kept in bench/results/billion.json.
type billionResult struct {
	Machine   string      `json:"machine"`
	Dim       int64       `json:"dim"`
	Rows      int         `json:"rows"`
	Workers   int         `json:"workers"`
	Store     string      `json:"store"`
	StoreSize int64       `json:"store_size"` // bytes of all slots together
	Steps     []stepTaken `json:"steps"`
	Processes []residents `json:"processes"`
	Residual  float64     `json:"residual"` // largest |Hx − g| / max |g| over sampled columns
	Sampled   int         `json:"sampled"`
}

type stepTaken struct {
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes"` // of numbers that the client sent and took
}

// generator is a gradient that no one ever holds: column j is a hash of j and the step, one of 256
// values that every dtype can say.
type generator struct{ step uint64 }

func (g generator) at(j int64) float32 {
	z := (uint64(j) + g.step*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>31) * 0x94d049bb133111eb
	return (float32(z>>56) - 127.5) / 128
}

// ReadColumns implements client.Source.
func (g generator) ReadColumns(dst []float32, lo int64) error {
	for i := range dst {
		dst[i] = g.at(lo + int64(i))
	}
	return nil
}

// counter takes a result and keeps nothing of it.
type counter struct {
	n   int64
	bad int64
}

// WriteColumns implements client.Sink.
func (c *counter) WriteColumns(src []float32, _ int64) error {
	c.n += int64(len(src))
	for _, x := range src {
		if !(x-x == 0) {
			c.bad++
		}
	}
	return nil
}

// checker takes x = H⁻¹g, and sums Gx and some of its columns: Hx must be g.
type checker struct {
	rows   []generator
	y      []float64
	every  int64
	sample map[int64]float32
}

// WriteColumns implements client.Sink. No column comes twice, as long as nothing is asked again.
func (c *checker) WriteColumns(src []float32, lo int64) error {
	for t, g := range c.rows {
		var sum float64
		for i, x := range src {
			sum += float64(g.at(lo+int64(i))) * float64(x)
		}
		c.y[t] += sum
	}
	for j := (lo + c.every - 1) / c.every * c.every; j < lo+int64(len(src)); j += c.every {
		c.sample[j] = src[j-lo]
	}
	return nil
}

// residual is the largest |λx + Gᵀ(Gx)/N − g| of the sampled columns, of max |g| = 1.
func (c *checker) residual(lambda float64, n int, g generator) float64 {
	var worst float64
	for j, x := range c.sample {
		h := lambda * float64(x)
		for t, row := range c.rows {
			h += float64(row.at(j)) * c.y[t] / float64(n)
		}
		worst = max(worst, math.Abs(h-float64(g.at(j))))
	}
	return worst
}

// worstResidual is what float32 results can be wrong by, many times over.
const worstResidual = 1e-4

func billion(e *env, stdout io.Writer) error {
	o := e.options.billion
	dtype := wire.DType(o.store)
	if dtype.Size() == 0 {
		return fmt.Errorf("store is %q, must be a dtype of rows, such as f32", o.store)
	}
	res := billionResult{
		Machine: machineName(), Dim: o.dim, Rows: o.rows, Workers: o.workers, Store: o.store,
		StoreSize: o.dim * int64(o.rows+1) * int64(dtype.Size()),
	}
	e.dropBeds()
	e.junk = nil
	if e.py != nil {
		if err := e.forget(); err != nil {
			return err
		}
	}
	debug.FreeOSMemory()
	if why := lacksMemory(res.StoreSize + 1<<30); why != "" {
		return fmt.Errorf("billion: %s: %s", notHere, why)
	}
	forgetPeak()
	p, err := build(e.ctx)
	if err != nil {
		return err
	}
	defer p.close()
	ctx, cancel := context.WithTimeout(e.ctx, time.Hour)
	defer cancel()
	if err := res.measure(ctx, e, p); err != nil {
		return errors.Join(err, p.dead())
	}
	if err := res.print(stdout); err != nil {
		return err
	}
	if !(res.Residual <= worstResidual) {
		return fmt.Errorf("billion: Hx differs from g by %.2g, must be ≤ %g", res.Residual, worstResidual)
	}
	if o.dim < 1_000_000_000 {
		return nil // a rehearsal
	}
	if err := save("billion", res); err != nil {
		return err
	}
	return writePages()
}

// measure starts the processes and does the steps.
func (res *billionResult) measure(ctx context.Context, e *env, p *processes) error {
	if err := p.start("nats-server", "nats-server", "--addr", "127.0.0.1", "--port", p.port, "--jetstream", "--store_dir", p.dir+"/store"); err != nil {
		return err
	}
	if err := p.start("coordinator", "coordinator", "--name", "c0", "--nats-url", p.url(), "--admin-addr", "off"); err != nil {
		return err
	}
	// Rows, and what rounding to tiles and bookkeeping may take.
	memory := (res.StoreSize/int64(res.Workers) + res.StoreSize/int64(res.Workers)/50 + 64<<20) >> 20
	for i := range res.Workers {
		name := fmt.Sprintf("worker-%d", i)
		if err := p.start(name, "worker", "--worker-id", name, "--nats-url", p.url(), "--admin-addr", "off", "--memory", fmt.Sprintf("%dMiB", memory)); err != nil {
			return err
		}
	}
	c, err := client.Connect(ctx, p.url(), client.WithConnectTimeout(30*time.Second))
	if err != nil {
		return err
	}
	defer c.Close()
	for heard := 0; heard < res.Workers; time.Sleep(50 * time.Millisecond) {
		w, err := c.Workers(ctx)
		if err != nil {
			return err
		}
		if heard = len(w); p.dead() != nil {
			return fmt.Errorf("waiting for the workers")
		}
	}
	// λ as large as the gradients' part of H, so that both count.
	lambda := float64(res.Dim) / 100
	r, err := c.Attach(ctx, client.RunConfig{
		Name: "billion", Dim: res.Dim, Window: res.Rows, Damping: lambda, Shards: res.Workers, Spare: 1, Store: wire.DType(res.Store),
	})
	if err != nil {
		return err
	}
	done := func(what string, bytes int64, f func() error) error {
		t, err := timed(f)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		res.Steps = append(res.Steps, stepTaken{what, t.Seconds(), bytes})
		res.Processes = p.peaks()
		e.logf("bench: %s: %.1f s", what, t.Seconds())
		return nil
	}
	const life = 10 * time.Minute
	dtype := wire.DType(res.Store) // on the wire too, each way
	one := int64(dtype.Size()) * res.Dim
	step := uint64(0)
	for range res.Rows {
		step++
		if err := done(fmt.Sprintf("publish gradient %d", step), one, func() error {
			_, err := r.PublishFrom(ctx, wire.Step(step), generator{step}, client.WithStepDeadline(life), client.WithWire(dtype))
			return err
		}); err != nil {
			return err
		}
	}
	// Now the window is full: this one takes the place of the first.
	step++
	if err := done("publish and precondition the next", 2*one, func() error {
		var got counter
		_, err := r.PreconditionFrom(ctx, wire.Step(step), &got, generator{step}, client.WithStepDeadline(life), client.WithWire(dtype), client.WithResult(dtype))
		return errors.Join(err, got.check(res.Dim))
	}); err != nil {
		return err
	}
	var steps []wire.Step
	var mean []float64
	check := checker{every: max(1, res.Dim/1000), sample: map[int64]float32{}, y: make([]float64, res.Rows)}
	for i := range res.Rows {
		s := step - uint64(res.Rows-1-i)
		steps, mean, check.rows = append(steps, wire.Step(s)), append(mean, 1/float64(res.Rows)), append(check.rows, generator{s})
	}
	if err := done("query: H⁻¹ of the mean gradient", one, func() error {
		var got counter
		_, err := r.IHVPCombineTo(ctx, &got, steps, mean, client.WithResult(dtype))
		return errors.Join(err, got.check(res.Dim))
	}); err != nil {
		return err
	}
	if err := done("query: H⁻¹ of the newest gradient, in float32, checked column by column on the client", 4*res.Dim, func() error {
		_, err := r.IHVPCombineTo(ctx, &check, steps[len(steps)-1:], []float64{1})
		return err
	}); err != nil {
		return err
	}
	res.Residual, res.Sampled = check.residual(lambda, res.Rows, generator{step}), len(check.sample)
	return c.Delete(ctx, "billion")
}

// check is of the number of columns: as many as asked for, more where some were asked for again.
func (c *counter) check(dim int64) error {
	if c.n < dim || c.bad > 0 {
		return fmt.Errorf("%d columns of %d came, %d of them not finite", c.n, dim, c.bad)
	}
	return nil
}

// print writes the figures as the page has them.
func (res billionResult) print(w io.Writer) error {
	_, err := io.WriteString(w, res.table())
	return err
}

func (res billionResult) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| what | s | numbers sent and taken, GB/s |\n|---|---|---|\n")
	for _, s := range res.Steps {
		fmt.Fprintf(&b, "| %s | %.1f | %.2f |\n", s.What, s.Seconds, float64(s.Bytes)/s.Seconds/1e9)
	}
	fmt.Fprintf(&b, "\n| process | resident at most, GiB |\n|---|---|\n")
	for _, p := range res.Processes {
		fmt.Fprintf(&b, "| %s | %.2f |\n", p.Name, float64(p.Peak)/(1<<30))
	}
	fmt.Fprintf(&b, "\nHx, worked out by the client from the columns that it took, differs from g by at most %.1e of max |g| in %d sampled columns.\n", res.Residual, res.Sampled)
	return b.String()
}
