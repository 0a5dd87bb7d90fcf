package shard_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"mfac/internal/normal"
	"mfac/shard"
	"mfac/shard/kernel"
)

// Products, residuals and columns of answers have the bits of what they are made of, at every
// configuration; those of several are those of each alone.
func TestAnswers(t *testing.T) {
	pools := pools(t)
	rapid.Check(t, func(rt *rapid.T) {
		slots, cols := shape(rt)
		k := rapid.IntRange(1, 3).Draw(rt, "k")
		rng := rngOf(rt)
		w := newWindow(t, rng, dtypeOf(rt), slots, cols)
		const lambda = 1e-3
		combination := rng.IntN(3) == 0
		refined := rng.IntN(2) == 0
		src := normal.Source{Seed: rng.Uint64()}
		first := int64(rng.IntN(3))

		draw := func(size float64) []float64 {
			c := make([]float64, k*slots)
			for i := range c {
				if c[i] = size * rng.NormFloat64(); !w.mask.Has(i % slots) {
					c[i] = 0
				}
			}
			return c
		}
		a := shard.Answer{C: draw(1), Mask: w.mask, Lambda: lambda}
		wc := draw(1)
		if refined {
			a.E, a.Refined = draw(1e-9), rng.Uint64()
		}
		xs, vs := make([][]float64, k), make([][]float64, k)
		var products, norms, misfits, scaled, scaledNorms []float64
		v := make([]shard.Vector, k)
		for i := range k {
			v[i], vs[i] = vector(rng, rng.IntN(5), cols)
			if rng.IntN(3) == 0 {
				src.Index = uint32(i)
				v[i] = shard.Normal(src, first, int64(cols))
				vs[i] = make([]float64, cols)
				src.Fill(vs[i], first)
			}
			if combination {
				vs[i] = make([]float64, cols)
			}
			xs[i] = make([]float64, cols)
			hx, sx := make([]float64, cols), make([]float64, cols)
			precise := a.Refined>>i&1 != 0
			for j := range cols {
				x := orderedCombine(w.rows, a.C[i*slots:], w.mask, j)
				sx[j] = math.FMA(lambda, vs[i][j], x)
				if !combination {
					if precise {
						x = twice(vs[i][j], w.rows, a.C[i*slots:], w.mask, j) / lambda
					} else {
						x = (vs[i][j] - x) / lambda
					}
				}
				if precise {
					x += orderedCombine(w.rows, a.E[i*slots:], w.mask, j)
				}
				xs[i][j] = x
				hx[j] = math.FMA(lambda, x, -vs[i][j]) + orderedCombine(w.rows, wc[i*slots:], w.mask, j)
			}
			for s := range slots {
				y := 0.0
				if w.mask.Has(s) {
					y = orderedDot(w.rows[s], xs[i])
				}
				products = append(products, y)
			}
			norms = append(norms, orderedDot(xs[i], xs[i]))
			misfits = append(misfits, orderedDot(hx, hx))
			scaled = append(scaled, sx...)
			scaledNorms = append(scaledNorms, orderedDot(sx, sx))
		}
		if !combination {
			a.V = v
		}
		lo := rng.IntN(cols)
		hi := lo + 1 + rng.IntN(cols-lo)
		for _, variant := range kernel.Variants() {
			for _, cfg := range []shard.Config{{Threads: 1, Kernel: variant}, {Threads: 3, Kernel: variant}, {Pool: rapid.SampledFrom(pools).Draw(rt, "pool"), Kernel: variant}} {
				s := w.like(t, cfg)
				got := make([]float64, k*(slots+1))
				must(t, s.Apply(got, a))
				same(t, "Apply", got, append(products[:k*slots:k*slots], norms...))
				got = got[:k]
				must(t, s.Misfit(got, a, wc, lambda))
				same(t, "Misfit", got, misfits)
				if !combination {
					must(t, s.ScaleNorm2(got, v, a.C, w.mask, lambda))
					same(t, "ScaleNorm2", got, scaledNorms)
				}
				for i := range k {
					one := shard.Answer{C: a.C[i*slots:][:slots], Mask: w.mask, Lambda: lambda}
					if a.E != nil {
						one.E, one.Refined = a.E[i*slots:][:slots], a.Refined>>i&1
					}
					if !combination {
						one.V = v[i : i+1]
					}
					p := make([]byte, 8*(hi-lo))
					if bad, err := s.AnswerBytes(p, shard.F64, one, int64(lo), int64(hi)); bad >= 0 || err != nil {
						t.Fatal(bad, err)
					}
					same(t, "AnswerBytes", numbers(p), xs[i][lo:hi])
					if combination {
						continue
					}
					if bad, err := s.ScaleBytes(p, shard.F64, v[i], one.C, w.mask, lambda, int64(lo), int64(hi)); bad >= 0 || err != nil {
						t.Fatal(bad, err)
					}
					same(t, "ScaleBytes", numbers(p), scaled[i*cols+lo:i*cols+hi])
				}
			}
		}
	})
}

func numbers(p []byte) []float64 {
	x := make([]float64, len(p)/8)
	for i := range x {
		var bits uint64
		for b := range 8 {
			bits |= uint64(p[8*i+b]) << (8 * b)
		}
		x[i] = math.Float64frombits(bits)
	}
	return x
}

// twice is v − Gᵀc in one column with twice the digits. It is held to exact arithmetic, too: within
// 2⁻⁵³ of the result and n·2⁻¹⁰⁴ of what it is the difference of.
func twice(v float64, rows [][]float64, c []float64, mask shard.Mask, j int) float64 {
	sum, low, size := v, 0.0, math.Abs(v)
	exact := new(big.Float).SetPrec(400).SetFloat64(v)
	for t := range rows {
		if !mask.Has(t) {
			continue
		}
		h := c[t] * rows[t][j]
		err := math.FMA(c[t], rows[t][j], -h)
		next := sum - h
		back := next - sum
		low += ((sum - (next - back)) + (-h - back)) - err
		sum = next
		size += math.Abs(h)
		term := new(big.Float).SetPrec(400).SetFloat64(c[t])
		exact.Sub(exact, term.Mul(term, new(big.Float).SetFloat64(rows[t][j])))
	}
	got := sum + low
	want, _ := exact.Float64()
	if n := float64(len(rows) + 1); !(math.Abs(got-want) <= 0x1p-52*math.Abs(want)+n*n*0x1p-104*size) {
		panic("twice the digits they are not")
	}
	return got
}

func TestAnswerErrors(t *testing.T) {
	s := newStore(t, shard.Config{Slots: 2, Cols: 10, DType: shard.F32, Threads: 1})
	mask := shard.MaskOf(2, 0)
	c := make([]float64, 2)
	v := []shard.Vector{shard.Zeros(10)}
	for what, err := range map[string]error{
		"c":       s.Apply(make([]float64, 3), shard.Answer{C: c[:1], Mask: mask}),
		"e":       s.Apply(make([]float64, 3), shard.Answer{C: c, E: c[:1], Mask: mask, Refined: 1}),
		"dst":     s.Apply(make([]float64, 2), shard.Answer{C: c, Mask: mask}),
		"lambda":  s.Apply(make([]float64, 3), shard.Answer{C: c, V: v, Mask: mask}),
		"v":       s.Apply(make([]float64, 3), shard.Answer{C: c, V: []shard.Vector{shard.Zeros(9)}, Mask: mask, Lambda: 1}),
		"w":       s.Misfit(make([]float64, 1), shard.Answer{C: c, Mask: mask}, c[:1], 1),
		"misfits": s.Misfit(make([]float64, 2), shard.Answer{C: c, Mask: mask}, c, 1),
		"norms":   s.ScaleNorm2(make([]float64, 2), v, c, mask, 1),
	} {
		if err == nil {
			t.Errorf("%s of the wrong length or range is taken", what)
		}
	}
	if _, err := s.ScaleBytes(make([]byte, 8), shard.F64, v[0], c, mask, math.NaN(), 0, 1); err == nil {
		t.Error("a scale of NaN is taken")
	}
	if _, err := s.AnswerBytes(make([]byte, 8), shard.F64, shard.Answer{C: c, Mask: mask}, 0, 2); err == nil {
		t.Error("two columns in eight bytes are taken")
	}
}
