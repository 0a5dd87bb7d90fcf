package integration

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"mfac/client"
	"mfac/internal/demo"
	"mfac/wire"
)

// A digitNet is 49 inputs, some tanh and ten logits, in float64: its parameters are W1, b1, W2, b2.
const (
	digitIn, digitHidden, digitOut = 49, 5, 10
	digitDim                       = (digitIn+1)*digitHidden + (digitHidden+1)*digitOut
)

// logits of an image, and what the hidden units say.
func logits(w, x []float64) (z, hidden []float64) {
	hidden, z = make([]float64, digitHidden), make([]float64, digitOut)
	w1, b1 := w[:digitIn*digitHidden], w[digitIn*digitHidden:][:digitHidden]
	rest := w[(digitIn+1)*digitHidden:]
	w2, b2 := rest[:digitHidden*digitOut], rest[digitHidden*digitOut:]
	for k := range hidden {
		hidden[k] = math.Tanh(b1[k] + floats.Dot(w1[k*digitIn:][:digitIn], x))
	}
	for j := range z {
		z[j] = b2[j] + floats.Dot(w2[j*digitHidden:][:digitHidden], hidden)
	}
	return z, hidden
}

// softmax is the chances of the labels.
func softmax(z []float64) []float64 {
	p, sum := make([]float64, len(z)), 0.0
	for j, v := range z {
		p[j] = math.Exp(v - floats.Max(z))
		sum += p[j]
	}
	floats.Scale(1/sum, p)
	return p
}

// gradientFor is that of the loss that an image would have if its label were k, by backpropagation.
func gradientFor(w, x []float64, k int) []float64 {
	z, hidden := logits(w, x)
	dz := softmax(z)
	dz[k]--
	g := make([]float64, digitDim)
	g1, gb1 := g[:digitIn*digitHidden], g[digitIn*digitHidden:][:digitHidden]
	g2, gb2 := g[(digitIn+1)*digitHidden:][:digitHidden*digitOut], g[digitDim-digitOut:]
	w2 := w[(digitIn+1)*digitHidden:][:digitHidden*digitOut]
	copy(gb2, dz)
	for j, d := range dz {
		floats.AddScaled(g2[j*digitHidden:][:digitHidden], d, hidden)
		for i := range hidden {
			gb1[i] += d * w2[j*digitHidden+i] * (1 - hidden[i]*hidden[i])
		}
	}
	for i, d := range gb1 {
		floats.AddScaled(g1[i*digitIn:][:digitIn], d, x)
	}
	return g
}

// TestGaussNewton is docs/weights.md's example: the gradients of an image's loss for each label, weighed by
// the network's chance of it, make H the generalised Gauss–Newton matrix of real digits, and the step of
// exact Gauss–Newton is one question, of stored gradients.
func TestGaussNewton(t *testing.T) {
	t.Parallel()
	dir, err := demo.FindMNIST("")
	if err != nil {
		t.Fatal(err)
	}
	const images, lambda = 8, 1e-2
	data, err := demo.LoadMNIST(dir, 1, images, 1)
	if err != nil {
		t.Fatal(err)
	}
	xs := make([][]float64, images)
	for i := range xs { // the means of 4×4 pixels
		xs[i] = make([]float64, digitIn)
		for j, v := range data.Train.X[i*28*28:][:28*28] {
			xs[i][j/28/4*7+j%28/4] += float64(v) / 16
		}
	}
	r := rand.New(rand.NewPCG(1, 12))
	w := make([]float64, digitDim)
	for j := range w {
		w[j] = 0.7 * r.NormFloat64()
	}

	// The dense truth, of the logits' derivatives by differences: H = (1/b) JᵀQJ + λI, Q = diag(p) − ppᵀ a block for an image, and
	// the step as Korbit et al. have it, Jᵀ(QJJᵀ + bλI)⁻¹(p − y).
	const n = images * digitOut
	jac, q, right := mat.NewDense(n, digitDim, nil), mat.NewDense(n, n, nil), mat.NewVecDense(n, nil)
	for i, x := range xs {
		z, _ := logits(w, x)
		p := softmax(z)
		for a := range p {
			right.SetVec(i*digitOut+a, p[a])
			for b := range p {
				q.Set(i*digitOut+a, i*digitOut+b, -p[a]*p[b])
			}
			q.Set(i*digitOut+a, i*digitOut+a, p[a]-p[a]*p[a])
		}
		right.SetVec(i*digitOut+int(data.Train.Y[i]), right.AtVec(i*digitOut+int(data.Train.Y[i]))-1)
		for j := range w {
			const h = 1e-5
			v := w[j]
			w[j] = v + h
			up, _ := logits(w, x)
			w[j] = v - h
			down, _ := logits(w, x)
			w[j] = v
			for a := range up {
				jac.Set(i*digitOut+a, j, (up[a]-down[a])/(2*h))
			}
		}
	}
	var qj, h, qjj, c, step mat.Dense
	qj.Mul(q, jac)
	h.Mul(jac.T(), &qj)
	h.Scale(1.0/images, &h)
	qjj.Mul(&qj, jac.T())
	for j := range digitDim {
		h.Set(j, j, h.At(j, j)+lambda)
	}
	for i := range n {
		qjj.Set(i, i, qjj.At(i, i)+images*lambda)
	}
	if err := c.Solve(&qjj, right); err != nil {
		t.Fatal(err)
	}
	step.Mul(jac.T(), &c)

	// A row for each image and label. The window's capacity is what is divided by, images × labels of them: weights that many labels
	// times the chances make that a mean over images.
	cl := start(t, shape{workers: 2}).client()
	ctx := within(t, time.Minute)
	run, err := cl.Attach(ctx, client.RunConfig{Name: "weighed", Dim: digitDim, Window: n, Damping: lambda})
	if err != nil {
		t.Fatal(err)
	}
	scaled, err := cl.Attach(ctx, client.RunConfig{Name: "scaled", Dim: digitDim, Window: n, Damping: lambda})
	if err != nil {
		t.Fatal(err)
	}
	var steps []wire.Step // of the true labels
	for i, x := range xs {
		z, _ := logits(w, x)
		for k, p := range softmax(z) {
			at := wire.Step(i*digitOut + k + 1)
			g, root := make([]float32, digitDim), make([]float32, digitDim)
			for j, v := range gradientFor(w, x, k) {
				g[j], root[j] = float32(v), float32(math.Sqrt(digitOut*p)*v)
			}
			if _, err := run.Publish(ctx, at, g, client.WithWeight(digitOut*p)); err != nil {
				t.Fatal(err)
			}
			if _, err := scaled.Publish(ctx, at, root); err != nil {
				t.Fatal(err)
			}
			if k == int(data.Train.Y[i]) {
				steps = append(steps, at)
			}
		}
	}
	// Rows are float32, 6e-8 of each number, which H⁻¹ magnifies by ‖F‖/λ, some 100; differences are better than that.
	const tolerance = 1e-5
	check := func(what string, got []float64, want mat.Matrix) {
		t.Helper()
		w := mat.Col(nil, 0, want)
		off := floats.Distance(got, w, 2) / floats.Norm(w, 2)
		t.Logf("%s: off by %.2g", what, off)
		if !(off <= tolerance) {
			t.Errorf("%s is off by %.3g", what, off)
		}
	}
	got := make([]float64, digitDim)
	mean := make([]float64, images)
	for i := range mean {
		mean[i] = 1.0 / images
	}
	if _, err := run.IHVPCombine64(ctx, got, steps, mean); err != nil {
		t.Fatal(err)
	}
	check("the step", got, &step)
	v := make([]float64, digitDim)
	for j := range v {
		v[j] = r.NormFloat64()
	}
	var want mat.Dense
	if err := want.Solve(&h, mat.NewVecDense(digitDim, v)); err != nil {
		t.Fatal(err)
	}
	for what, run := range map[string]*client.Run{"H⁻¹v by weights": run, "H⁻¹v by scaled rows": scaled} {
		if _, err := run.IHVP64(ctx, got, v); err != nil {
			t.Fatal(err)
		}
		check(what, got, &want)
	}
	if _, err := run.HessianVec64(ctx, got, v); err != nil {
		t.Fatal(err)
	}
	want.Mul(&h, mat.NewVecDense(digitDim, v))
	check("H v", got, &want)
}
