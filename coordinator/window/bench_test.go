package window

import (
	"fmt"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"
)

var benchSizes = []int{256, 1024, 2048}

// slide is a full window and a row to replace its oldest with, again and again. From the second time on
// its products are those of no G, but λ is large enough for K to stay positive definite.
func slide(b *testing.B, m int) (*Window, []float64) {
	b.Helper()
	g := gradients(uint64(m), m+1, 48)
	w := loaded(b, g[:m], m, 1, Capacity)
	_, err := w.Factor(1, Capacity)
	must(b, err)
	return w, row(g[1:m], g[m])
}

func sym(w *Window) *mat.SymDense {
	k := mat.NewSymDense(w.n, nil)
	for i := range w.n {
		for j := range i + 1 {
			k.SetSym(i, j, w.At(i, j))
		}
		k.SetSym(i, i, w.At(i, i)+w.own.shift)
	}
	return k
}

func replace(b *testing.B, w *Window, r []float64) {
	if err := w.Replace(r); err != nil || !w.current() {
		b.Fatal("the factor was not updated: ", err)
	}
}

func BenchmarkReplace(b *testing.B) {
	for _, m := range benchSizes {
		b.Run(fmt.Sprintf("m=%d", m), func(b *testing.B) {
			w, r := slide(b, m)
			for b.Loop() {
				replace(b, w, r)
			}
		})
	}
}

// What a replace costs without the update: gonum's Cholesky of the whole K.
func BenchmarkRefactor(b *testing.B) {
	for _, m := range benchSizes {
		b.Run(fmt.Sprintf("m=%d", m), func(b *testing.B) {
			w, _ := slide(b, m)
			k := sym(w)
			var c mat.Cholesky
			for b.Loop() {
				if !c.Factorize(k) {
					b.Fatal("not positive definite")
				}
			}
		})
	}
}

// The two interleaved in one run: refactor/replace says how much faster a replace is.
func BenchmarkRatio(b *testing.B) {
	for _, m := range benchSizes {
		b.Run(fmt.Sprintf("m=%d", m), func(b *testing.B) {
			w, r := slide(b, m)
			k := sym(w)
			var c mat.Cholesky
			var slow, fast time.Duration
			const each = 20
			for b.Loop() {
				start := time.Now()
				if !c.Factorize(k) {
					b.Fatal("not positive definite")
				}
				middle := time.Now()
				for range each {
					replace(b, w, r)
				}
				slow += middle.Sub(start)
				fast += time.Since(middle)
			}
			b.ReportMetric(each*slow.Seconds()/fast.Seconds(), "refactor/replace")
		})
	}
}

func BenchmarkOps(b *testing.B) {
	for _, m := range []int{1024} {
		w, _ := slide(b, m)
		f, err := w.Factor(1, Capacity)
		must(b, err)
		y, c := make([]float64, m), make([]float64, m)
		for i := range y {
			y[i] = 1 / float64(i+1)
		}
		run := func(name string, op func() error) {
			b.Run(fmt.Sprintf("op=%s/m=%d", name, m), func(b *testing.B) {
				for b.Loop() {
					must(b, op())
				}
			})
		}
		run("solve", func() error { return f.SolveTo(c, y) })
		run("bound", func() error { _, err := f.VectorBound(c, y, 1); return err })
		run("cond", func() error { f.z.cond = 0; _, err := f.Cond(); return err })
		run("factor", func() error { w.own.version--; _, err := w.factor(1, Capacity); return err })
	}
}
