package integration

import (
	"math"
	"math/big"
	"testing"
	"time"

	"mfac/client"
	"mfac/internal/demo"
)

// original is the diagonal of a block of H⁻¹ by M-FAC's static algorithm (Frantar, Kurtic & Alistarh, "M-FAC: Efficient Matrix-Free
// Approximations of Second-Order Information", NeurIPS 2021, section 3.1), in float32 as its code is: with H_0⁻¹ = I/λ,
//
//	v_i = H_(i−1)⁻¹ g_i = g_i/λ − Σ_{j<i} v_j (v_jᵀg_i)/(m + g_jᵀv_j),  diag = 1/λ − Σ v_i²/(m + g_iᵀv_i)
func original(rows [][]float32, lo, hi int, lambda float32) []float32 {
	dot := func(a, b []float32) (sum float32) {
		for j := range a {
			sum += float32(a[j] * b[j])
		}
		return sum
	}
	diag := make([]float32, hi-lo)
	for j := range diag {
		diag[j] = 1 / lambda
	}
	m := float32(len(rows))
	var vs [][]float32
	var q []float32
	for _, row := range rows {
		g := row[lo:hi]
		v := make([]float32, len(g))
		for j := range v {
			v[j] = g[j] / lambda
		}
		for i, w := range vs {
			f := dot(w, g) / q[i]
			for j := range v {
				v[j] -= float32(f * w[j])
			}
		}
		vs, q = append(vs, v), append(q, m+dot(g, v))
		for j := range diag {
			diag[j] -= float32(v[j]*v[j]) / q[len(q)-1]
		}
	}
	return diag
}

// TestOriginalBlocks: gradients of 1,024 single MNIST images, blocks of 50 at λ = 1e-8, where the original's float32 recursion is wrong by
// per cents. Against 240 bits.
func TestOriginalBlocks(t *testing.T) {
	t.Parallel()
	const (
		m, block = 1024, 50
		lambda   = 1e-8
		first, d = 350 * 16, 2000 // columns of the first layer: some pixels of the middle
		wrong    = 0.01           // the original is, relative, in some element
		right    = 1e-9           // ours are, in each
	)
	dir, err := demo.FindMNIST("")
	if err != nil {
		t.Fatal(err)
	}
	data, err := demo.LoadMNIST(dir, 1, 4096, 0)
	if err != nil {
		t.Fatal(err)
	}
	net := demo.NewNet(784, 16, 10)
	w := net.Init(1)
	g := make([]float32, net.Dim())
	for k := range 256 { // half-trained: some images are learnt, others not
		lo := k * 64 % 4096
		net.Gradient(g, w, data.Train.Slice(lo, lo+64))
		for j := range w {
			w[j] -= 0.1 * g[j]
		}
	}
	rows := make([][]float32, m)
	for i := range rows {
		net.Gradient(g, w, data.Train.Slice(i, i+1))
		rows[i] = append([]float32(nil), g[first:first+d]...)
	}
	c := start(t, shape{workers: 2})
	r := c.attach(c.client(), client.RunConfig{Name: "original", Dim: d, Window: m, Damping: lambda, Shards: 3})
	ctx := within(t, 4*time.Minute) // half a minute with the race detector, more on a machine that is busy
	if _, err := r.PublishMany(ctx, 0, rows); err != nil {
		t.Fatal(err)
	}
	got := make([]float64, d)
	a, err := r.Diag64(ctx, got, client.WithBlocksAcross(block))
	if err != nil {
		t.Fatal(err)
	}
	bc := &blockCase{rows: rows, n: m}
	worst, theirs, off, size := 0.0, 0.0, 0.0, 0.0
	for _, lo := range []int{0, 450, 650, 1300, 1950} {
		ys := make([][]*big.Float, block)
		for i := range ys {
			ys[i] = make([]*big.Float, block)
			for j := range ys[i] {
				ys[i][j] = bigOf(0)
			}
			ys[i][i] = bigOf(1)
		}
		bc.solve(lo, lo+block, lambda, ys)
		for j, x := range original(rows, lo, lo+block, lambda) {
			want, _ := ys[j][j].Float64()
			worst = max(worst, math.Abs(got[lo+j]-want)/want)
			theirs = max(theirs, math.Abs(float64(x)-want)/want)
			off, size = off+(got[lo+j]-want)*(got[lo+j]-want), size+want*want
		}
	}
	t.Logf("elements are off by %.2g at most, bound %.2g of them together; the original's by %.2g", worst, a.Bound(), theirs)
	if !(worst <= right) {
		t.Errorf("an element is off by %g, at most %g wanted", worst, right)
	}
	if !(theirs >= wrong) {
		t.Errorf("the original is off by %g alone: the case is too easy", theirs)
	}
}
