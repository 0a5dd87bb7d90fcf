package integration

import (
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/sbinet/npyio/npz"
	"gonum.org/v1/gonum/floats"

	"mfac/client"
	"mfac/wire"
)

// vectors are testdata/mnist_mlp16_m32.npz: real gradients with exact answers.
type vectors struct {
	t *testing.T
	r *npz.Reader
	f *os.File
}

const (
	vectorsDim    = 12730
	vectorsWindow = 32
)

func openVectors(t *testing.T) *vectors {
	t.Helper()
	f, err := os.Open("../../testdata/mnist_mlp16_m32.npz")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := npz.NewReader(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return &vectors{t, r, f}
}

func (v *vectors) f32(key string) []float32 {
	v.t.Helper()
	var x []float32
	if err := v.r.Read(key+".npy", &x); err != nil {
		v.t.Fatalf("read %s: %v", key, err)
	}
	return x
}

func (v *vectors) f64(key string) []float64 {
	v.t.Helper()
	var x []float64
	if err := v.r.Read(key+".npy", &x); err != nil {
		v.t.Fatalf("read %s: %v", key, err)
	}
	return x
}

// grads are the stream's gradients, in order of arrival.
func (v *vectors) grads() [][]float32 {
	flat := v.f32("grads")
	rows := make([][]float32, len(flat)/vectorsDim)
	for i := range rows {
		rows[i] = flat[i*vectorsDim : (i+1)*vectorsDim]
	}
	return rows
}

// Tolerances of testdata/README.md, relative to the largest element of the answer.
const (
	tolFloat64     = 1e-12
	tolSpan        = 1e-9   // at λ = 1e-5, where v lies in the window's span
	tolFloat32Each = 1.2e-7 // of each element, or …
	tolFloat32Most = 6e-8   // … of the largest, whichever is larger
)

// check64 checks a float64 answer.
func check64(t *testing.T, what string, got, want []float64, tol float64) {
	t.Helper()
	var most, worst float64
	for i := range want {
		most = max(most, math.Abs(want[i]))
		worst = max(worst, math.Abs(got[i]-want[i]))
	}
	t.Logf("%s: largest error %.2g of the largest element", what, worst/most)
	if !(worst <= tol*most) {
		t.Errorf("%s: largest error %.3g of the largest element, want at most %g", what, worst/most, tol)
	}
}

// check32 checks a float32 answer.
func check32(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	var most float64
	for _, w := range want {
		most = max(most, math.Abs(w))
	}
	for i, w := range want {
		if tol := max(tolFloat32Each*math.Abs(w), tolFloat32Most*most); !(math.Abs(float64(got[i])-w) <= tol) {
			t.Fatalf("%s: element %d is %g, want %g ± %g", what, i, got[i], w, tol)
		}
	}
}

// TestVectors publishes the reference gradients over the bus and compares every answer that the
// reference has for the dynamic algorithm.
func TestVectors(t *testing.T) {
	v := openVectors(t)
	grads, vec := v.grads(), v.f32("v")
	vec64 := make([]float64, len(vec))
	for i, x := range vec {
		vec64[i] = float64(x)
	}
	c := start(t, shape{workers: 3})
	cl := c.client()
	for _, lambda := range []string{"0.01", "1e-05"} {
		t.Run(lambda, func(t *testing.T) {
			ctx := within(t, time.Minute)
			var damping float64
			if _, err := fmt.Sscan(lambda, &damping); err != nil {
				t.Fatal(err)
			}
			span := tolFloat64
			if damping < 1e-4 {
				span = tolSpan
			}
			r, err := cl.Attach(ctx, client.RunConfig{
				Name: "vectors-" + map[string]string{"0.01": "2", "1e-05": "5"}[lambda], Dim: vectorsDim, Window: vectorsWindow, Damping: damping, Shards: 4,
			})
			if err != nil {
				t.Fatal(err)
			}
			got64, got32 := make([]float64, vectorsDim), make([]float32, vectorsDim)
			for i, g := range grads[:len(grads)-1] {
				if _, err := r.Publish(ctx, wire.Step(i), g); err != nil {
					t.Fatalf("publish %d: %v", i, err)
				}
				if i+1 == 10 {
					if _, err := r.IHVP64(ctx, got64, vec64); err != nil {
						t.Fatal(err)
					}
					check64(t, "ihvp_part", got64, v.f64("ihvp_part_"+lambda), tolFloat64)
				}
			}
			last := wire.Step(len(grads) - 1)
			a, err := r.Precondition64(ctx, last, got64, grads[last])
			if err != nil {
				t.Fatal(err)
			}
			check64(t, "precondition", got64, v.f64("ihvp_last_"+lambda), span) // the reference's own error
			b := newBounds(grads, damping)
			b.check(t, "precondition", got64, a, nil)
			if _, err := r.IHVPStep(ctx, got32, last); err != nil {
				t.Fatal(err)
			}
			check32(t, "ihvp of the newest step", got32, v.f64("ihvp_last_"+lambda))
			g64 := make([]float64, vectorsDim)
			for i, x := range grads[last] {
				g64[i] = float64(x)
			}
			if a, err = r.IHVP64(ctx, got64, g64); err != nil {
				t.Fatal(err)
			}
			check64(t, "ihvp of the newest gradient as a vector", got64, v.f64("ihvp_last_"+lambda), span)
			b.check(t, "ihvp of the newest gradient as a vector", got64, a, g64)
			if _, err := r.IHVP(ctx, got32, grads[last]); err != nil {
				t.Fatal(err)
			}
			for i, x := range got64 {
				if got32[i] != float32(x) {
					t.Fatalf("ihvp of the newest gradient as a vector: element %d is %g in float32, %g in float64", i, got32[i], x)
				}
			}
			if a, err = r.IHVP64(ctx, got64, vec64); err != nil {
				t.Fatal(err)
			}
			check64(t, "ihvp", got64, v.f64("ihvp_"+lambda), tolFloat64)
			b.check(t, "ihvp", got64, a, vec64)
			if _, err := r.IHVP(ctx, got32, vec); err != nil {
				t.Fatal(err)
			}
			check32(t, "ihvp float32", got32, v.f64("ihvp_"+lambda))
		})
	}
}

// bounds checks the bounds that answers of the whole window carry.
type bounds struct {
	ref   *precise
	shift double
	stats statistics

	lambda float64
}

func newBounds(grads [][]float32, lambda float64) *bounds {
	return &bounds{ref: newPrecise(grads[len(grads)-vectorsWindow:]), shift: product(vectorsWindow, lambda), lambda: lambda}
}

// check sees that the bound of H⁻¹v, or of H⁻¹ times the newest gradient where v is nil, holds and is
// below 1e-9.
func (b *bounds) check(t *testing.T, what string, got []float64, a client.Answer, v []float64) {
	t.Helper()
	var h hardness
	var want []double
	scale, y := b.lambda, make([]double, vectorsWindow)
	if v == nil {
		scale, y[vectorsWindow-1].hi = 1, vectorsWindow
		c := b.ref.solve(y, b.shift)
		want = b.ref.gradient(nil, c)
		h.kind = 1
		h.says, h.factor = b.ref.gauge(b.shift).combination(highs(c), floats.Norm(highs(want), 2))
	} else {
		x := make([]double, len(v))
		for j := range v {
			x[j].hi = v[j]
		}
		c := b.ref.solve(b.ref.products(x), b.shift)
		want = b.ref.gradient(v, c)
		h.says, h.factor = b.ref.gauge(b.shift).vector(highs(c), floats.Norm(v, 2), floats.Norm(highs(want), 2))
	}
	o := off(got, scale, want)
	t.Logf("%s: error %.2g, bound %.2g, maths.md's %.2g, times at most %.3g", what, o, a.Bound(), h.says, h.factor)
	if err := b.stats.add(h, o, a.Bound()); err != nil || a.Rows != vectorsWindow || !(a.Bound() > 0) {
		t.Errorf("%s: answer %+v, want %d rows: %v", what, a, vectorsWindow, err)
	}
	if !(a.Bound() < benignBound) { // E is 7e-11 at most
		t.Errorf("%s: answer %+v, want a bound of %g", what, a, benignBound)
	}
}
