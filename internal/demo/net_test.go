package demo

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomImages are n images of noise, four pixels of five black, with random labels.
func randomImages(seed uint64, n int) Images {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := Images{X: make([]float32, n*pixels), Y: make([]uint8, n)}
	for i := range s.X {
		if rng.IntN(5) == 0 {
			s.X[i] = rng.Float32()
		}
	}
	for i := range s.Y {
		s.Y[i] = uint8(rng.IntN(classes))
	}
	return s
}

// plainLoss is the mean loss over s in float64, written down a second time.
func plainLoss(n *Net, w []float64, s Images) float64 {
	total := 0.0
	for i, label := range s.Y {
		a := make([]float64, pixels)
		for j, x := range s.X[i*pixels : (i+1)*pixels] {
			a[j] = float64(x)
		}
		off := 0
		for l := 1; l < len(n.sizes); l++ {
			in, out := n.sizes[l-1], n.sizes[l]
			z := make([]float64, out)
			for k := range z {
				z[k] = w[off+in*out+k]
				for j, x := range a {
					z[k] += x * w[off+j*out+k]
				}
				if l < len(n.sizes)-1 {
					z[k] = math.Max(z[k], 0)
				}
			}
			off += (in + 1) * out
			a = z
		}
		sum := 0.0
		for _, z := range a {
			sum += math.Exp(z)
		}
		total += math.Log(sum) - a[label]
	}
	return total / float64(len(s.Y))
}

func TestGradientIsTheSlopeOfTheLoss(t *testing.T) {
	// The difference quotient in float64 is off by h² ≈ 1e-10 and by 1e-16/h = 1e-11; the
	// gradient, in float32, by some ε of the sums it is made of: 1e-6 of its largest element.
	const h, tol = 1e-5, 2e-6
	for _, hidden := range [][]int{{}, {7}, {9, 6}, {8, 5, 4}} {
		net := NewNet(append(append([]int{pixels}, hidden...), classes)...)
		w32 := net.Init(3)
		rng := rand.New(rand.NewPCG(4, 0))
		w := make([]float64, len(w32))
		for i := range w32 {
			w32[i] += float32(0.1 * rng.NormFloat64()) // biases that are not zero
			w[i] = float64(w32[i])
		}
		s := randomImages(5, 6)
		g := make([]float32, net.Dim())
		for i := range g {
			g[i] = float32(math.NaN()) // all of it must be written
		}
		loss := net.Gradient(g, w32, s)
		if want := plainLoss(net, w, s); !(math.Abs(loss-want) <= 1e-5*want) {
			t.Errorf("hidden %v: loss %v, want %v", hidden, loss, want)
		}
		if mean, _ := net.Evaluate(w32, s); mean != loss {
			t.Errorf("hidden %v: Evaluate's loss %v, Gradient's %v", hidden, mean, loss)
		}
		scale := 0.0
		for _, v := range g {
			scale = math.Max(scale, math.Abs(float64(v)))
		}
		// All tensors but the first in full, and a part of that.
		first := int(net.Layout()[1].Offset)
		for i := range w {
			if i < first && rng.IntN(25) != 0 {
				continue
			}
			old := w[i]
			w[i] = old + h
			up := plainLoss(net, w, s)
			w[i] = old - h
			down := plainLoss(net, w, s)
			w[i] = old
			if slope := (up - down) / (2 * h); !(math.Abs(slope-float64(g[i])) <= tol*scale) {
				t.Fatalf("hidden %v: element %d of the gradient is %v, the slope %v (largest element %v)", hidden, i, g[i], slope, scale)
			}
		}
	}
}

func TestLayoutCoversTheParameters(t *testing.T) {
	net := NewNet(pixels, 40, 20, classes)
	if net.Dim() != 32_430 {
		t.Errorf("Dim is %d, want 32430", net.Dim())
	}
	if got := net.String(); got != "784-40-20-10" {
		t.Errorf("String is %s", got)
	}
	var names []string
	end := int64(0)
	for _, ts := range net.Layout() {
		if ts.Offset != end {
			t.Errorf("%s starts at %d, want %d", ts.Name, ts.Offset, end)
		}
		size := int64(1)
		for _, s := range ts.Shape {
			size *= s
		}
		end += size
		names = append(names, ts.Name)
	}
	if end != int64(net.Dim()) {
		t.Errorf("the tensors end at %d, want %d", end, net.Dim())
	}
	if want := []string{"W1", "b1", "W2", "b2", "W3", "b3"}; !slices.Equal(names, want) {
		t.Errorf("names are %v, want %v", names, want)
	}
}

func TestEvaluateInParts(t *testing.T) {
	net := NewNet(pixels, 8, classes)
	w := net.Init(1)
	s := randomImages(2, evalBatch+123)
	loss, accuracy := net.Evaluate(w, s)
	a, aRight := net.Evaluate(w, s.Slice(0, 200))
	b, bRight := net.Evaluate(w, s.Slice(200, s.Len()))
	share := 200 / float64(s.Len())
	// Sums in another order.
	if want := a*share + b*(1-share); !(math.Abs(loss-want) < 1e-12) {
		t.Errorf("loss %v, want %v", loss, want)
	}
	if want := aRight*share + bRight*(1-share); !(math.Abs(accuracy-want) < 1e-12) {
		t.Errorf("accuracy %v, want %v", accuracy, want)
	}
}
