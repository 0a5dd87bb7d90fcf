package integration

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/gonum/floats"
	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// offBy is |got − want|.
func offBy(got float64, want *big.Float) float64 {
	d, _ := number(0).Sub(number(got), want).Float64()
	return math.Abs(d)
}

// dotWith is gᵀx.
func (e *exact) dotWith(g []float64, x []*big.Float) *big.Float {
	s := number(0)
	for j := range g {
		e.addMul(s, number(g[j]), x[j])
	}
	return s
}

// scores are gᵀx of the rows, which are GH⁻¹v for x = H⁻¹v.
func (e *exact) scores(x []*big.Float) []*big.Float {
	out := make([]*big.Float, len(e.rows))
	for i, g := range e.rows {
		out[i] = e.dotWith(widened(g), x)
	}
	return out
}

// TestScalars draws runs and compares scores, pairs and influence with math/big: every error is within its
// bound, from benign windows to the worst.
func TestScalars(t *testing.T) {
	old := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", "40"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flag.Set("rapid.checks", old) }()
	c := start(t, shape{workers: 3})
	cl := c.client()
	runs, refused, answered := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		d := rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(41, 1500)).Draw(rt, "d")
		m := rapid.IntRange(1, 12).Draw(rt, "m")
		published := rapid.OneOf(rapid.IntRange(0, m), rapid.IntRange(m, 2*m+1)).Draw(rt, "published")
		lambda := math.Pow(10, rapid.Float64Range(-9, 1).Draw(rt, "log λ"))
		tr := &trial{T: rt, lambda: lambda, div: rapid.SampledFrom([]wire.Divisor{wire.Capacity, wire.Count}).Draw(rt, "divisor")}
		name := fmt.Sprintf("s%d", runs)
		ctx := rt.Context()
		var err error
		tr.run, err = cl.Attach(ctx, client.RunConfig{Name: name, Dim: int64(d), Window: m, Damping: lambda, Divisor: tr.div, Shards: rapid.IntRange(1, min(d, 4)).Draw(rt, "shards")})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() {
			if err := cl.Delete(ctx, name); err != nil {
				rt.Error(err)
			}
		}()
		rows := drawRows(rt, d, published)
		if commits, err := tr.run.PublishMany(ctx, 1, rows); err != nil {
			rt.Fatalf("%+v: %v", commits, err)
		}
		tr.rows = rows[max(0, published-m):]
		e, n := newExact(tr.rows), tr.divisor(tr.div)

		vs := [][]float64{widened(drawRows(rt, d, 1)[0]), make([]float64, d)}
		for j := range vs[1] {
			vs[1][j] = math.Sin(float64(j)) // no float32
		}
		if len(tr.rows) > 0 {
			vs = append(vs, widened(tr.rows[0]))
		}
		var xs [][]*big.Float
		for k, v := range vs {
			x, _ := e.vector(v, n, lambda)
			xs = append(xs, x)
			s, err := tr.run.Scores64(ctx, [][]float64{v})
			if errors.Is(err, &wire.Error{Code: wire.CodeIllConditioned}) {
				refused++
				continue
			}
			if err != nil {
				rt.Fatal(err)
			}
			answered++
			if off := relative(s.Scores[0], e.scores(x)); !(off <= s.Bound()) || len(s.Steps) != len(tr.rows) {
				rt.Errorf("scores of vector %d: off by %.3g, bound %.3g, of %v", k, off, s.Bound(), s.Steps)
			}
		}
		pairs := [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {len(vs) - 1, 0}}
		p, err := tr.run.Pairs64(ctx, vs, pairs)
		drowned := errors.Is(err, &wire.Error{Code: wire.CodeIllConditioned})
		if err != nil && !drowned {
			rt.Fatal(err)
		}
		for k, ij := range pairs {
			if drowned {
				break
			}
			if off := offBy(p.Values[k], e.dotWith(vs[ij[0]], xs[ij[1]])); !(off <= p.Bounds[k]) {
				rt.Errorf("pair %v is %g, off by %.3g, bound %.3g", ij, p.Values[k], off, p.Bounds[k])
			}
		}
		in, err := tr.run.Influence(ctx)
		self, errSelf := tr.run.SelfInfluence(ctx)
		if errors.Is(err, &wire.Error{Code: wire.CodeIllConditioned}) || errors.Is(errSelf, &wire.Error{Code: wire.CodeIllConditioned}) {
			refused++
			return
		}
		if err != nil || errSelf != nil {
			rt.Fatal(err, errSelf)
		}
		for i, g := range tr.rows {
			x, _ := e.vector(widened(g), n, lambda)
			want := e.scores(x)
			var off float64
			for j := range want {
				off = math.Hypot(off, offBy(in.Values[i][j], want[j]))
			}
			if !(off <= in.Bounds[i]) {
				rt.Errorf("influence of row %d: off by %.3g, bound %.3g", i, off, in.Bounds[i])
			}
			if off := offBy(self.Self[i], want[i]); !(off <= self.SelfBound[i]) {
				rt.Errorf("self-influence of row %d: off by %.3g, bound %.3g", i, off, self.SelfBound[i])
			}
			// Left out, from a window without the row: H⁻¹g of the others, N as it is.
			others := newExact(append(append([][]float32(nil), tr.rows[:i]...), tr.rows[i+1:]...))
			x, _ = others.vector(widened(g), n, lambda)
			if off := offBy(self.Out[i], others.dotWith(widened(g), x)); !(off <= self.OutBound[i]) {
				rt.Errorf("left-out influence of row %d is %g: off by %.3g, bound %.3g", i, self.Out[i], off, self.OutBound[i])
			}
		}
	})
	t.Logf("%d runs, %d answers, %d refused", runs, answered, refused)
	if answered < runs { // of three vectors each
		t.Error("the runs drawn show nothing")
	}
}

// TestScalarsOfVectors: on real gradients, against the dense answers of testdata.
func TestScalarsOfVectors(t *testing.T) {
	v := openVectors(t)
	c := start(t, shape{workers: 2})
	run := c.attach(c.client(), client.RunConfig{Name: "digits", Dim: vectorsDim, Window: vectorsWindow, Damping: 0.01, Shards: 3})
	ctx := within(t, time.Minute)
	rows := v.grads()
	if _, err := run.PublishMany(ctx, 1, rows); err != nil {
		t.Fatal(err)
	}
	rows = rows[len(rows)-vectorsWindow:]
	vec, last := v.f32("v"), rows[vectorsWindow-1]
	for _, lambda := range []string{"0.01", "1e-05"} {
		var damping float64
		if _, err := fmt.Sscan(lambda, &damping); err != nil {
			t.Fatal(err)
		}
		at := client.WithDamping(damping)
		x, xLast := v.f64("ihvp_"+lambda), v.f64("ihvp_last_"+lambda)
		s, err := run.Scores(ctx, [][]float32{vec, last}, at)
		if err != nil {
			t.Fatal(err)
		}
		in, err := run.Influence(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		self, err := run.SelfInfluence(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		p, err := run.Pairs(ctx, [][]float32{vec, last}, [][2]int{{0, 0}, {0, 1}, {1, 1}}, at)
		if err != nil {
			t.Fatal(err)
		}
		want, wantLast := make([]float64, vectorsWindow), make([]float64, vectorsWindow)
		for i, g := range rows {
			want[i], wantLast[i] = floats.Dot(widened(g), x), floats.Dot(widened(g), xLast)
		}
		// The dense answers come through a difference that cancels; of the scores they make nothing is
		// known to better than tolSpan of the largest.
		near := func(what string, got, want []float64) {
			t.Helper()
			most := floats.Norm(want, math.Inf(1))
			for i := range want {
				if d := math.Abs(got[i] - want[i]); !(d <= tolSpan*most) {
					t.Errorf("λ = %s: %s %d is %g, want %g", lambda, what, i, got[i], want[i])
				}
			}
		}
		near("score", s.Scores[0], want)
		near("score of the newest row", s.Scores[1], wantLast)
		near("influence of the newest row", in.Values[vectorsWindow-1], wantLast)
		near("self-influence of the newest row", self.Self[vectorsWindow-1:], wantLast[vectorsWindow-1:])
		near("pair", p.Values, []float64{floats.Dot(widened(vec), x), floats.Dot(widened(vec), xLast), floats.Dot(widened(last), xLast)})
		if s.Steps[0] != 13 || s.Steps[31] != 44 || !(s.Bound() <= 1e-8) {
			t.Errorf("λ = %s: of steps %v, bound %g", lambda, s.Steps, s.Bound())
		}
	}
}

// scalars asks for all numbers of a run; k vectors together are the k alone.
func scalars(t *testing.T, run *client.Run, vs [][]float64, out map[string]any) {
	t.Helper()
	ctx := within(t, time.Minute)
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := run.Scores64(ctx, vs)
	fail(err)
	pairs := [][2]int{{0, 1}, {1, 0}, {2, 2}, {3, 0}}
	p, err := run.Pairs64(ctx, vs, pairs)
	fail(err)
	in, err := run.Influence(ctx)
	fail(err)
	self, err := run.SelfInfluence(ctx)
	fail(err)
	out["scores"], out["pairs"], out["influence"], out["self"] = s, p, in, self
	for i, v := range vs {
		alone, err := run.Scores64(ctx, [][]float64{v})
		fail(err)
		if !slices.Equal(bits64(alone.Scores[0]), bits64(s.Scores[i])) || alone.Bounds[0] != s.Bounds[i] {
			t.Errorf("scores of vector %d alone are other bits than together with others", i)
		}
	}
	for i, ij := range pairs {
		alone, err := run.Pairs64(ctx, [][]float64{vs[ij[0]], vs[ij[1]]}, [][2]int{{0, 1}})
		fail(err)
		if !slices.Equal(bits64(alone.Values), bits64(p.Values[i:i+1])) || alone.Bounds[0] != p.Bounds[i] {
			t.Errorf("pair %v alone is other bits than together with others", ij)
		}
	}
}
