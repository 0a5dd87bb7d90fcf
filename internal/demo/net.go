package demo

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// Tensor is a named part of the parameter vector, in the layout of a run.
type Tensor struct {
	Name   string
	Shape  []int64
	Offset int64
}

// Net is a multilayer perceptron: affine layers with ReLU between them, softmax
// and cross-entropy at the end. All parameters are one vector w: W1, b1, W2, b2, …,
// W being in×out, row after row. A Net holds the buffers of one batch: it is for
// one goroutine.
type Net struct {
	sizes []int // inputs, hidden layers, outputs
	dim   int
	act   [][]float32 // act[l]: batch×sizes[l]; act[0] is the input itself
	delta [][]float32 // ∂loss/∂(input of layer l's activation), like act
}

// NewNet returns a net with the given layer sizes, the inputs first.
func NewNet(sizes ...int) *Net {
	n := &Net{sizes: sizes, act: make([][]float32, len(sizes)), delta: make([][]float32, len(sizes))}
	for l := 1; l < len(sizes); l++ {
		n.dim += (sizes[l-1] + 1) * sizes[l]
	}
	return n
}

// Dim is the number of parameters.
func (n *Net) Dim() int { return n.dim }

// String is the sizes of the layers, as 784-40-20-10.
func (n *Net) String() string {
	var s strings.Builder
	for i, size := range n.sizes {
		if i > 0 {
			s.WriteByte('-')
		}
		s.WriteString(strconv.Itoa(size))
	}
	return s.String()
}

// Layout names the tensors in w.
func (n *Net) Layout() []Tensor {
	var ts []Tensor
	off := 0
	for l := 1; l < len(n.sizes); l++ {
		in, out := n.sizes[l-1], n.sizes[l]
		ts = append(ts,
			Tensor{"W" + strconv.Itoa(l), []int64{int64(in), int64(out)}, int64(off)},
			Tensor{"b" + strconv.Itoa(l), []int64{int64(out)}, int64(off + in*out)})
		off += (in + 1) * out
	}
	return ts
}

// Init returns random weights after He et al.: W normal with variance 2/in, b zero.
func (n *Net) Init(seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, streamInit))
	w := make([]float32, n.dim)
	off := 0
	for l := 1; l < len(n.sizes); l++ {
		in, out := n.sizes[l-1], n.sizes[l]
		scale := math.Sqrt(2 / float64(in))
		for i := range in * out {
			w[off+i] = float32(scale * rng.NormFloat64())
		}
		off += (in + 1) * out
	}
	return w
}

// layer returns W and b of layer l ≥ 1 in a vector laid out like w.
func (n *Net) layer(w []float32, l int) (blas32.General, []float32) {
	off := 0
	for k := 1; k < l; k++ {
		off += (n.sizes[k-1] + 1) * n.sizes[k]
	}
	in, out := n.sizes[l-1], n.sizes[l]
	return general(w[off:off+in*out], in, out), w[off+in*out : off+(in+1)*out]
}

func general(data []float32, rows, cols int) blas32.General {
	return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
}

// room makes the buffers hold a batch of b.
func (n *Net) room(b int) {
	for l := 1; l < len(n.sizes); l++ {
		if need := b * n.sizes[l]; cap(n.act[l]) < need {
			n.act[l], n.delta[l] = make([]float32, need), make([]float32, need)
		} else {
			n.act[l], n.delta[l] = n.act[l][:need], n.delta[l][:need]
		}
	}
}

// forward fills act; the last one holds the logits.
func (n *Net) forward(w []float32, s Images) {
	b := s.Len()
	n.room(b)
	n.act[0] = s.X
	last := len(n.sizes) - 1
	for l := 1; l <= last; l++ {
		weights, bias := n.layer(w, l)
		out := n.act[l]
		for i := range b {
			copy(out[i*len(bias):], bias)
		}
		blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, general(n.act[l-1], b, n.sizes[l-1]), weights,
			1, general(out, b, n.sizes[l]))
		if l < last {
			for i, z := range out {
				out[i] = max(z, 0)
			}
		}
	}
}

// softmax returns the sum of the losses and the number of right answers of the
// batch last passed forward, and sets delta of the last layer to
// (softmax − onehot)/batch, the gradient of the mean loss.
func (n *Net) softmax(y []uint8) (loss float64, right int) {
	last := len(n.sizes) - 1
	k := n.sizes[last]
	inv := 1 / float64(len(y))
	for i, label := range y {
		z, dz := n.act[last][i*k:(i+1)*k], n.delta[last][i*k:(i+1)*k]
		best := 0
		for j := range z {
			if z[j] > z[best] {
				best = j
			}
		}
		sum := 0.0
		for j := range z {
			sum += math.Exp(float64(z[j] - z[best]))
		}
		logSum := math.Log(sum) + float64(z[best])
		for j := range z {
			p := math.Exp(float64(z[j]) - logSum)
			if j == int(label) {
				p--
			}
			dz[j] = float32(p * inv)
		}
		loss += logSum - float64(z[label])
		if best == int(label) {
			right++
		}
	}
	return loss, right
}

// Gradient sets g to the gradient of the mean loss over s and returns that loss.
// g and w have length Dim.
//
// Backward, with a₀ the input and aₗ = max(aₗ₋₁Wₗ + bₗ, 0): δ of the last layer from
// softmax; ∂Wₗ = aₗ₋₁ᵀδₗ, ∂bₗ = the sum of δₗ's rows, δₗ₋₁ = (δₗWₗᵀ) where aₗ₋₁ > 0.
func (n *Net) Gradient(g, w []float32, s Images) float64 {
	b := s.Len()
	n.forward(w, s)
	loss, _ := n.softmax(s.Y)
	for l := len(n.sizes) - 1; l >= 1; l-- {
		in, out := n.sizes[l-1], n.sizes[l]
		gw, gb := n.layer(g, l)
		delta := general(n.delta[l], b, out)
		blas32.Gemm(blas.Trans, blas.NoTrans, 1, general(n.act[l-1], b, in), delta, 0, gw)
		clear(gb)
		for i := range b {
			for j, v := range delta.Data[i*out : (i+1)*out] {
				gb[j] += v
			}
		}
		if l == 1 {
			break // nobody needs ∂loss/∂input
		}
		weights, _ := n.layer(w, l)
		blas32.Gemm(blas.NoTrans, blas.Trans, 1, delta, weights, 0, general(n.delta[l-1], b, in))
		for i, a := range n.act[l-1] {
			if a <= 0 {
				n.delta[l-1][i] = 0
			}
		}
	}
	return loss / float64(b)
}

// evalBatch bounds the buffers of Evaluate.
const evalBatch = 500

// Evaluate returns the mean loss and the share of right answers over s.
func (n *Net) Evaluate(w []float32, s Images) (loss, accuracy float64) {
	right := 0
	for lo := 0; lo < s.Len(); lo += evalBatch {
		part := s.Slice(lo, min(lo+evalBatch, s.Len()))
		n.forward(w, part)
		l, r := n.softmax(part.Y)
		loss += l
		right += r
	}
	return loss / float64(s.Len()), float64(right) / float64(s.Len())
}
