package shard_test

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
)

// drawScales are some of a shard's, powers of two among them.
func drawScales(rng *rand.Rand, cols int64) (scales []shard.Scale, of []float64) {
	of = make([]float64, cols)
	for lo := int64(0); lo < cols; {
		f := shard.Scale{Lo: lo, R: []float64{1, 4, 0.3, 17, 1e-3}[rng.IntN(5)]}
		scales = append(scales, f)
		hi := min(cols, lo+1+rng.Int64N(cols))
		for ; lo < hi; lo++ {
			of[lo] = f.R
		}
	}
	return scales, of
}

// With scales everything is what it is without, of rows and vectors that are divided beforehand: to the
// rounding of float64 sums.
func TestScales(t *testing.T) {
	const tol = 1e-13 // of sums of a few thousand terms, relative to the sum of their magnitudes
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		slots, cols := rapid.OneOf(rapid.IntRange(1, 17), rapid.SampledFrom([]int{8, 16})).Draw(rt, "slots"), rapid.OneOf(rapid.Int64Range(1, 40), rapid.Int64Range(41, 3000)).Draw(rt, "cols")
		scales, r := drawScales(rng, cols)
		store, err := shard.New(shard.Config{Slots: slots, Cols: cols, Scales: scales, Threads: 1 + rng.IntN(3)})
		if err != nil {
			rt.Fatal(err)
		}
		store.UseThreadsAlways()
		g := make([][]float64, slots)
		list := rng.Perm(slots)
		for s := range g {
			g[s] = make([]float64, cols)
			p := make([]byte, 4*cols)
			for j := range g[s] {
				x := float32(rng.NormFloat64())
				g[s][j] = float64(x)
				binary.LittleEndian.PutUint32(p[4*j:], math.Float32bits(x))
			}
			if err := store.Write(s, 0, p, shard.F32); err != nil {
				rt.Fatal(err)
			}
		}
		v := make([]float64, cols)
		raw := make([]byte, 0, 8*cols)
		for j := range v {
			v[j] = rng.NormFloat64()
			raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(v[j]))
		}
		vec := shard.Raw(raw, shard.F64)
		mask := shard.MaskOf(slots, list...)
		near := func(what string, got, want, size float64) {
			rt.Helper()
			if !(math.Abs(got-want) <= tol*size) {
				rt.Fatalf("%s is %g, want %g ± %g", what, got, want, tol*size)
			}
		}
		over := func(x, y []float64) (sum, size float64) {
			for j := range x {
				sum += x[j] * y[j] / r[j]
				size += math.Abs(x[j] * y[j] / r[j])
			}
			return sum, size
		}
		fail := func(err error) {
			rt.Helper()
			if err != nil {
				rt.Fatal(err)
			}
		}

		// Products, and the same bits in Gram and as columns come.
		all := make([][]float64, slots)
		for s := range all {
			all[s] = make([]float64, slots)
			fail(store.Products(all[s], s, mask))
			for q := range g {
				sum, size := over(g[s], g[q])
				near("product", all[s][q], sum, size)
			}
			a, err := store.BeginProducts(s, mask)
			fail(err)
			cut := rng.Int64N(cols + 1)
			fail(a.Add(nil, cut, cols-cut))
			fail(a.Add(nil, 0, cut))
			dst := make([]float64, slots)
			fail(a.Result(dst))
			a.End()
			for q := range dst {
				if dst[q] != all[s][q] {
					rt.Fatal("a Sum has other bits than Products")
				}
			}
		}
		gram := make([]float64, slots*(slots+1)/2)
		fail(store.Gram(gram, list, 0, slots))
		for i, k := 0, 0; i < slots; i++ {
			for j := range i + 1 {
				if gram[k] != all[list[i]][list[j]] {
					rt.Fatalf("row %d, %d of Gram has other bits than Products", i, j)
				}
				k++
			}
		}

		// Dots and norms.
		a, err := store.BeginDots([]shard.Vector{vec}, mask)
		fail(err)
		fail(a.Add(nil, 0, cols))
		y := make([]float64, slots+1)
		fail(a.Result(y))
		a.End()
		for s := range g {
			sum, size := over(g[s], v)
			near("dot", y[s], sum, size)
		}
		norm, size := over(v, v)
		near("norm", y[slots], norm, size)
		dot, err := store.Dot(vec, vec)
		fail(err)
		near("dot of vectors", dot, norm, size)

		// What is answered.
		c := make([]float64, slots)
		for s := range c {
			c[s] = rng.NormFloat64()
		}
		const lambda = 0.7
		solved, combined, norm2 := make([]float64, cols), make([]float64, cols), make([]float64, 1)
		lo := rng.Int64N(cols)
		fail(store.Solve(solved[lo:], []shard.Vector{vec}, c, mask, lambda, lo, cols))
		fail(store.Combine(combined, c, mask, 0, cols))
		fail(store.ResidualNorm2(norm2, []shard.Vector{vec}, c, mask))
		sum := 0.0
		for j := range v {
			gc, size := 0.0, math.Abs(v[j])
			for s := range g {
				gc += c[s] * g[s][j]
				size += math.Abs(c[s] * g[s][j])
			}
			near("combination", combined[j], gc/r[j], size/r[j])
			if int64(j) >= lo {
				near("solution", solved[j], (v[j]-gc)/(lambda*r[j]), size/(lambda*r[j]))
			}
			sum += (v[j] - gc) * (v[j] - gc) / r[j]
		}
		near("norm of what is left", norm2[0], sum, 10*sum)

		// F v and H v: nothing is divided, λ is multiplied, norms are those of R⁻¹.
		const scale = 0.6
		a, err = store.BeginDots([]shard.Vector{vec.Plain()}, mask)
		fail(err)
		fail(a.Add(nil, 0, cols))
		fail(a.Result(y))
		a.End()
		vnorm := 0.0
		for j := range v {
			vnorm += v[j] * v[j] * r[j]
		}
		near("norm of a plain vector", y[slots], vnorm, vnorm)
		for s := range g {
			sum, size := 0.0, 0.0
			for j := range v {
				sum += g[s][j] * v[j]
				size += math.Abs(g[s][j] * v[j])
			}
			near("plain dot", y[s], sum, size)
		}
		both := map[string][]byte{"Gᵀc": make([]byte, 8*cols), "λRv + Gᵀc": make([]byte, 8*cols)}
		_, err = store.MultiplyBytes(both["Gᵀc"], shard.F64, c, mask, 0, cols)
		fail(err)
		_, err = store.ScaleBytes(both["λRv + Gᵀc"], shard.F64, vec, c, mask, scale, 0, cols)
		fail(err)
		for what, b := range both {
			sum := 0.0
			for j := range v {
				want, size := 0.0, 0.0
				if what != "Gᵀc" {
					want, size = scale*r[j]*v[j], math.Abs(scale*r[j]*v[j])
				}
				for s := range g {
					want += c[s] * g[s][j]
					size += math.Abs(c[s] * g[s][j])
				}
				near(what, math.Float64frombits(binary.LittleEndian.Uint64(b[8*j:])), want, size)
				sum += want * want / r[j]
			}
			if what == "Gᵀc" {
				fail(store.ResidualNorm2(norm2, []shard.Vector{shard.Zeros(cols)}, c, mask))
			} else {
				fail(store.ScaleNorm2(norm2, []shard.Vector{vec}, c, mask, scale))
			}
			near("norm of "+what, norm2[0], sum, 10*sum)
		}

		// Float32, of float32 vectors, where kernels may take many tiles at once.
		narrow := make([]byte, 0, 4*cols)
		for _, x := range v {
			narrow = binary.LittleEndian.AppendUint32(narrow, math.Float32bits(float32(x)))
		}
		vec32, b := shard.Raw(narrow, shard.F32), make([]byte, 4*cols)
		fail(store.Solve(solved, []shard.Vector{vec32}, c, mask, lambda, 0, cols))
		for what, want := range map[string][]float64{"solution": solved, "combination": combined} {
			if what == "solution" {
				_, err = store.SolveBytes(b, shard.F32, vec32, c, mask, lambda, 0, cols)
			} else {
				_, err = store.CombineBytes(b, shard.F32, c, mask, 0, cols)
			}
			fail(err)
			for j, x := range want {
				if got := math.Float32frombits(binary.LittleEndian.Uint32(b[4*j:])); got != float32(x) {
					rt.Fatalf("column %d of the %s is %g in float32, %g in float64", j, what, got, x)
				}
			}
		}
		one := make([]float64, slots)
		fail(store.Dots(one, []shard.Vector{vec32}, mask))
		for s := range g {
			sum, size := 0.0, 0.0
			for j := range v {
				x := g[s][j] * float64(float32(v[j])) / r[j]
				sum += x
				size += math.Abs(x)
			}
			near("dot of float32", one[s], sum, size)
		}

		// The diagonal.
		l := lower(rng, slots)
		for i := range slots {
			l[i*slots+i] = 10 + rng.Float64() // so that little is subtracted
		}
		diag := make([]byte, 8*cols)
		if _, err := store.DiagBytes(diag, shard.F64, l, list, lambda, 0, cols); err != nil {
			rt.Fatal(err)
		}
		for j := range v {
			w, sum := make([]float64, slots), 0.0
			for i, s := range list {
				w[i] = g[s][j]
				for k := range i {
					w[i] -= l[i*slots+k] * w[k]
				}
				w[i] /= l[i*slots+i]
				sum += w[i] * w[i]
			}
			got := math.Float64frombits(binary.LittleEndian.Uint64(diag[8*j:]))
			near("diagonal", got, (1-sum/r[j])/(lambda*r[j]), 10*(1+sum/r[j])/(lambda*r[j]))
		}
	})
}

func TestScalesRefused(t *testing.T) {
	store, err := shard.New(shard.Config{Slots: 2, Cols: 3, Scales: []shard.Scale{{Lo: 0, R: 1}, {Lo: 2, R: 4}}})
	if err != nil {
		t.Fatal(err)
	}
	var e *shard.Error
	if _, _, err := store.BlockGram(shard.Block{Hi: 3}, shard.BlockSpec{Slots: []int{0, 1}, Lambda: 1, N: 2}); !errors.As(err, &e) {
		t.Errorf("blocks know nothing of scales: %v", err)
	}
	for _, f := range [][]shard.Scale{
		{{1, 2}}, {{0, 1}, {0, 2}}, {{0, 1}, {5, 2}, {4, 1}}, {{0, 1}, {10, 2}},
		{{0, 0}}, {{0, -1}}, {{0, math.NaN()}}, {{0, math.Inf(1)}},
	} {
		if _, err := shard.New(shard.Config{Slots: 1, Cols: 10, Scales: f}); err == nil {
			t.Errorf("%v: no error", f)
		}
	}
}
