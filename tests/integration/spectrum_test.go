package integration

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"mfac/client"
	"mfac/wire"
)

// traceInverse is tr K⁻¹ and log det K with the given N and λ.
func (e *exact) traceInverse(n int, lambda float64) (trace *big.Float, logDet float64) {
	trace = number(0)
	for i := range e.rows {
		y := make([]*big.Float, len(e.rows))
		for j := range y {
			y[j] = number(0)
		}
		y[i] = number(1)
		e.solve(y, n, lambda)
		trace.Add(trace, y[i])
	}
	for i, line := range e.factorize(n, lambda) {
		d, _ := line[i].Float64()
		logDet += math.Log(d)
	}
	return trace, logDet
}

// near checks a number against one of 256 bits, by its own bound.
func near(t *testing.T, what string, got client.Estimate, want *big.Float) {
	t.Helper()
	off, _ := new(big.Float).Abs(new(big.Float).Sub(number(got.Value), want)).Float64()
	t.Logf("%s: %.6g, off by %.2g of the bound %.2g", what, got.Value, off/got.Error, got.Error)
	if !(off <= got.Error) {
		t.Errorf("%s is %g ± %g, off by %g", what, got.Value, got.Error, off)
	}
}

func publishAll(t *testing.T, r *client.Run, rows [][]float32) {
	t.Helper()
	for i, g := range rows {
		if _, err := r.Publish(within(t, 20*time.Second), wire.Step(i+1), g); err != nil {
			t.Fatal(err)
		}
	}
}

// The numbers of the reference gradients' spectrum, by way of the bus, against factors of K in math/big
// and the singular values of G.
func TestSpectrumVectors(t *testing.T) {
	// What the bounds come to here, relative to the numbers: that they are no empty words.
	const useful = 1e-9
	rows := openVectors(t).grads()[:vectorsWindow]
	c := start(t, shape{workers: 3})
	r := c.attach(c.client(), client.RunConfig{Name: "vectors", Dim: vectorsDim, Window: vectorsWindow, Shards: 4})
	publishAll(t, r, rows)
	ctx := within(t, time.Minute)
	dampings := []float64{1e-6, 1e-5, 1e-2, 10}
	got, err := r.Scalars(ctx, dampings)
	if err != nil {
		t.Fatal(err)
	}
	if got.Rows != vectorsWindow || got.N != vectorsWindow || len(got.At) != len(dampings) {
		t.Fatalf("%+v", got)
	}
	e := newExact(rows)
	n := number(vectorsWindow)
	for i, lambda := range dampings {
		x := got.At[i]
		trace, logDet := e.traceInverse(vectorsWindow, lambda)
		inverse := new(big.Float).Quo(number(vectorsDim-vectorsWindow), number(lambda))
		inverse.Add(inverse, new(big.Float).Mul(n, trace))
		near(t, "tr H⁻¹", x.TraceInverse, inverse)
		shift := new(big.Float).Mul(n, number(lambda))
		near(t, "dimension", x.EffectiveDim, new(big.Float).Sub(n, shift.Mul(shift, trace)))
		near(t, "log det H", x.LogDet, number((vectorsDim-vectorsWindow)*math.Log(lambda)+logDet-vectorsWindow*math.Log(vectorsWindow)))
		for _, y := range []client.Estimate{x.LogDet, x.TraceInverse, x.EffectiveDim, x.Largest, x.Smallest, x.CondH, x.CondK} {
			if !(y.Error <= useful*math.Abs(y.Value)) {
				t.Errorf("at %g: %g ± %g", lambda, y.Value, y.Error)
			}
		}
	}
	trace, squares := number(0), number(0)
	for i, line := range e.gram {
		trace.Add(trace, line[i])
		for j, a := range line {
			square := new(big.Float).Mul(a, a)
			if squares.Add(squares, square); j < i {
				squares.Add(squares, square)
			}
		}
	}
	near(t, "tr F", got.Trace, trace.Quo(trace, n))
	near(t, "‖F‖", got.Frobenius, squares.Quo(squares.Sqrt(squares), n))

	s, err := r.Spectrum(ctx)
	if err != nil {
		t.Fatal(err)
	}
	g := mat.NewDense(vectorsWindow, vectorsDim, nil)
	for i, row := range rows {
		for j, x := range row {
			g.Set(i, j, float64(x))
		}
	}
	var svd mat.SVD
	if !svd.Factorize(g, mat.SVDNone) {
		t.Fatal("no singular values")
	}
	for i, sigma := range svd.Values(nil) {
		if want := sigma * sigma / vectorsWindow; !(math.Abs(s.Eigenvalues[i]-want) <= 2*s.Error) { // the reference's own error
			t.Errorf("eigenvalue %d is %g ± %g, not %g", i, s.Eigenvalues[i], s.Error, want)
		}
	}
	if s.Eigenvalues[0] != got.Spectral.Value || s.Version != got.Version || len(s.Eigenvalues) != vectorsWindow {
		t.Errorf("%+v", s)
	}
}

// The same bits whatever the number of workers, and of dampings in a query.
func TestSpectrumSameBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	rows := make([][]float32, 40)
	for i := range rows {
		rows[i] = make([]float32, 3000)
		for j := range rows[i] {
			rows[i][j] = float32(rng.NormFloat64())
		}
	}
	dampings := []float64{1e-7, 1e-3, 0.5}
	var first client.Scalars
	for _, workers := range []int{1, 3} {
		c := start(t, shape{workers: workers, threads: workers})
		r := c.attach(c.client(), client.RunConfig{Name: "bits", Dim: 3000, Window: 40, Shards: 3, Damping: 1e-3})
		publishAll(t, r, rows)
		ctx := within(t, time.Minute)
		all, err := r.Scalars(ctx, dampings)
		if err != nil {
			t.Fatal(err)
		}
		if first.At == nil {
			first = all
		}
		if !reflect.DeepEqual(first, all) {
			t.Errorf("%d workers: %+v, not %+v", workers, all, first)
		}
		alone, err := r.Scalars(ctx, nil) // the run's damping
		if err != nil || alone.At[0] != all.At[1] {
			t.Errorf("alone %+v, together %+v (%v)", alone, all.At[1], err)
		}
	}
}

// More rows than columns, and a window that is not full under both divisors: against the dense H.
func TestSpectrumShapes(t *testing.T) {
	const tolerance = 1e-9 // relative: the condition numbers are below 1e4
	c := start(t, shape{workers: 2})
	cl := c.client()
	rng := rand.New(rand.NewPCG(5, 2))
	for _, s := range []struct {
		name            string
		dim, window, in int
	}{{"wide", 9, 6, 4}, {"square", 6, 6, 6}, {"tall", 5, 20, 13}, {"empty", 4, 3, 0}} {
		r := c.attach(cl, client.RunConfig{Name: s.name, Dim: int64(s.dim), Window: s.window})
		var rows [][]float32
		for range s.in {
			g := make([]float32, s.dim)
			for j := range g {
				g[j] = float32(rng.NormFloat64())
			}
			rows = append(rows, g)
		}
		publishAll(t, r, rows)
		for _, div := range []wire.Divisor{wire.Capacity, wire.Count} {
			const lambda = 0.01
			got, err := r.Scalars(within(t, time.Minute), []float64{lambda}, client.WithDivisor(div))
			if err != nil {
				t.Fatal(err)
			}
			sp, err := r.Spectrum(within(t, time.Minute), client.WithDivisor(div))
			if err != nil {
				t.Fatal(err)
			}
			n := float64(s.window)
			if div == wire.Count {
				n = float64(s.in)
			}
			h := mat.NewSymDense(s.dim, nil)
			for i := range s.dim {
				for j := range i + 1 {
					sum := 0.0
					for _, g := range rows {
						sum += float64(g[i]) * float64(g[j]) / n
					}
					if i == j {
						sum += lambda
					}
					h.SetSym(i, j, sum)
				}
			}
			var eigen mat.EigenSym
			eigen.Factorize(h, false)
			values := eigen.Values(nil)
			slices.Reverse(values)
			var logDet, inverse, dim, trace float64
			for _, v := range values {
				logDet += math.Log(v)
				inverse += 1 / v
				dim += (v - lambda) / v
				trace += v - lambda
			}
			x := got.At[0]
			for what, p := range map[string][2]float64{
				"log det": {x.LogDet.Value, logDet}, "tr H⁻¹": {x.TraceInverse.Value, inverse}, "dimension": {x.EffectiveDim.Value, dim},
				"largest": {x.Largest.Value, values[0]}, "smallest": {x.Smallest.Value, values[s.dim-1]},
				"cond H": {x.CondH.Value, values[0] / values[s.dim-1]}, "tr F": {got.Trace.Value, trace}, "N": {got.N, n},
			} {
				if !(math.Abs(p[0]-p[1]) <= tolerance*(1+math.Abs(p[1]))) {
					t.Errorf("%s, %s: %s is %g, not %g", s.name, div, what, p[0], p[1])
				}
			}
			if len(sp.Eigenvalues) != min(s.in, s.dim) {
				t.Errorf("%s: %d eigenvalues", s.name, len(sp.Eigenvalues))
			}
			floats.AddConst(lambda, sp.Eigenvalues)
			if !floats.EqualApprox(sp.Eigenvalues, values[:len(sp.Eigenvalues)], tolerance) {
				t.Errorf("%s, %s: eigenvalues %v, not %v", s.name, div, sp.Eigenvalues, values)
			}
		}
	}
}

// Steps go on while the spectrum of an earlier version is found, and who asks at several versions is answered
// at each.
func TestSpectrumBesideSteps(t *testing.T) {
	const window, dim, after = 256, 300, 40
	c := start(t, shape{workers: 2})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "beside", Dim: dim, Window: window, Spare: 2})
	rng := rand.New(rand.NewPCG(5, 3))
	rows := make([][]float32, window+after)
	for i := range rows {
		rows[i] = make([]float32, dim)
		for j := range rows[i] {
			rows[i][j] = float32(rng.NormFloat64())
		}
	}
	publishAll(t, r, rows[:window])
	type answer struct {
		s   client.Scalars
		err error
	}
	answers := make(chan answer)
	for range 3 {
		go func() {
			s, err := r.Scalars(within(t, time.Minute), []float64{1e-4})
			answers <- answer{s, err}
		}()
	}
	for i := window; i < len(rows); i++ {
		if _, err := r.Publish(within(t, 20*time.Second), wire.Step(i+1), rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		a := <-answers
		if a.err != nil {
			t.Fatal(a.err)
		}
		sum := 0.0 // of the rows of its version
		for _, g := range rows[int(a.s.Version)-window : a.s.Version] {
			for _, x := range g {
				sum += float64(x) * float64(x) / window
			}
		}
		if !(math.Abs(a.s.Trace.Value-sum) <= 1e-12*sum) {
			t.Errorf("version %d: tr F is %g, not %g", a.s.Version, a.s.Trace.Value, sum)
		}
	}
}

func TestSpectrumRefused(t *testing.T) {
	c := start(t, shape{workers: 1})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "refused", Dim: 4, Window: 3})
	publishAll(t, r, [][]float32{{1, 2, 3, 4}})
	for what, x := range map[string]struct {
		dampings []float64
		opt      client.QueryOption
		code     wire.Code
		field    string
	}{
		"none":      {[]float64{}, nil, wire.CodeInvalid, "dampings"},
		"many":      {make([]float64, client.MaxDampings+1), nil, wire.CodeInvalid, "dampings"},
		"zero":      {[]float64{1, 0}, nil, wire.CodeInvalid, "damping"},
		"negative":  {[]float64{-1}, nil, wire.CodeInvalid, "damping"},
		"NaN":       {[]float64{math.NaN()}, nil, wire.CodeInvalid, "damping"},
		"infinite":  {[]float64{math.Inf(1)}, nil, wire.CodeInvalid, "damping"},
		"large":     {[]float64{1.7e308}, nil, wire.CodeInvalid, "damping"},
		"tiny":      {[]float64{1e-320}, nil, wire.CodeOverflow, "number at damping 1e-320"},
		"twice":     {[]float64{1}, client.WithDamping(2), wire.CodeInvalid, "damping"},
		"a dtype":   {[]float64{1}, client.WithResult(wire.F32), wire.CodeInvalid, "result"},
		"a wire":    {[]float64{1}, client.WithWire(wire.F32), wire.CodeInvalid, "wire"},
		"few rows":  {[]float64{1}, client.WithMinRows(2), wire.CodeTooFewRows, "rows"},
		"gone":      {[]float64{1}, client.WithExactly(9), wire.CodeBehind, "version"},
		"some more": {nil, client.WithAtLeast(2), wire.CodeBehind, "version"},
	} {
		var opts []client.QueryOption
		if x.opt != nil {
			opts = append(opts, x.opt)
		}
		_, err := r.Scalars(within(t, 20*time.Second), x.dampings, opts...)
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != x.code || e.Field != x.field {
			t.Errorf("%s: %v", what, err)
		}
	}
	// What a client would not send.
	for _, payload := range [][]byte{nil, {1, 2, 3}, wire.AppendFloats(nil, []float64{-1}), wire.AppendFloats(nil, make([]float64, 1025))} {
		m := &wire.Query{Run: "refused", Kind: wire.KindScalars, Vectors: 1, Result: wire.F64, Payload: payload}
		if m.Validate() == nil {
			t.Errorf("%d bytes are let in", len(payload))
		}
	}
	if _, err := r.Spectrum(within(t, 20*time.Second)); err != nil {
		t.Error(err)
	}
}
