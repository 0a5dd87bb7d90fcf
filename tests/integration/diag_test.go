package integration

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// column is λ times some elements of column j of H⁻¹, those of rows: e_j − GᵀK⁻¹Ge_j.
func (e *exact) column(j int64, rows []int64, n int, lambda float64) []*big.Float {
	c := make([]*big.Float, len(e.rows))
	for i, g := range e.rows {
		c[i] = number(float64(g[j]))
	}
	e.solve(c, n, lambda)
	x := make([]*big.Float, len(rows))
	for k, r := range rows {
		x[k] = number(0)
		if r == j {
			x[k] = number(1)
		}
		for i, g := range e.rows {
			e.subMul(x[k], e.factor.SetFloat64(float64(g[r])), c[i])
		}
	}
	return x
}

func float(x *big.Float) float64 { v, _ := x.Float64(); return v }

// offElement is |got − want/λ|·λ.
func offElement(got, lambda float64, want *big.Float) float64 {
	x := number(got)
	x.Mul(x, number(lambda))
	return math.Abs(float(x.Sub(x, want)))
}

// checkBlock checks a sub-block against what it is, and its bound.
func checkBlock(t testing.TB, e *exact, what string, got []float64, index []int64, n int, lambda, bound float64) {
	t.Helper()
	want := make([][]*big.Float, len(index))
	for i, j := range index {
		want[i] = e.column(j, index, n, lambda)
	}
	for i := range index {
		for k := range index {
			scale := math.Sqrt(float(want[i][i]) * float(want[k][k]))
			if o := offElement(got[i*len(index)+k], lambda, want[i][k]); !(o <= bound*scale) {
				t.Errorf("%s: element (%d, %d) is off by %.3g of √(h_i h_j), its bound is %.3g", what, index[i], index[k], o/scale, bound)
			}
		}
	}
}

// TestDiagonalVectors compares with the reference's diagonals; columns and elements with the same
// arithmetic in big.Float.
func TestDiagonalVectors(t *testing.T) {
	v := openVectors(t)
	grads := v.grads()
	c := start(t, shape{workers: 3})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "diagonal", Dim: vectorsDim, Window: vectorsWindow, Damping: 1e-2, Shards: 4})
	ctx := within(t, time.Minute)
	if _, err := r.PublishMany(ctx, 0, grads); err != nil {
		t.Fatal(err)
	}
	ref := newExact(grads[len(grads)-vectorsWindow:])
	got64, got32 := make([]float64, vectorsDim), make([]float32, vectorsDim)
	index := []int64{0, 12729, 5000, 12600, 12729, 5001}
	for _, lambda := range []float64{1e-2, 1e-5, 1e-8} {
		opt := client.WithDamping(lambda)
		var done, total int64
		a, err := r.Diag64(ctx, got64, opt, client.WithProgress(func(d, n int64) { done, total = d, n }))
		if err != nil {
			t.Fatal(err)
		}
		if done != vectorsDim || total != vectorsDim || a.Rows != vectorsWindow || !(a.Bound() <= benignBound) {
			t.Errorf("λ = %g: %d of %d columns, answer %+v", lambda, done, total, a)
		}
		if lambda > 1e-8 {
			check64(t, "diagonal", got64, v.f64(fmt.Sprint("diag_", lambda)), tolFloat64)
		}
		// The reference's own elements, in big.Float: each to within 1e-9 also at λ = 1e-8, where
		// float32 recursions lose up to 11 %.
		const each = 1e-9
		worst := 0.0
		for j := int64(0); j < vectorsDim; j += 97 {
			want := ref.column(j, []int64{j}, vectorsWindow, lambda)[0]
			worst = max(worst, offElement(got64[j], lambda, want)/float(want))
		}
		if t.Logf("λ = %g: each element within %.2g, bound %.2g", lambda, worst, a.Bound()); !(worst <= each) {
			t.Errorf("λ = %g: an element is off by %g, want at most %g", lambda, worst, each)
		}
		if _, err := r.Diag(ctx, got32, opt); err != nil {
			t.Fatal(err)
		}
		for j, x := range got64 {
			if got32[j] != float32(x) {
				t.Fatalf("λ = %g: element %d is %g in float32, %g in float64", lambda, j, got32[j], x)
			}
		}

		block, a, err := r.Subblock(ctx, index, opt)
		if err != nil {
			t.Fatal(err)
		}
		checkBlock(t, ref, "sub-block", block, index, vectorsWindow, lambda, a.Bound())
		for _, p := range [][2]int{{0, 2}, {3, 1}, {4, 4}} {
			x, b, err := r.Element(ctx, index[p[0]], index[p[1]], opt)
			if err != nil || x != block[p[0]*len(index)+p[1]] || !(b.Bound() <= a.Bound()) {
				t.Errorf("element %v: %g (%v, %v), in the sub-block %g", p, x, b, err, block[p[0]*len(index)+p[1]])
			}
		}
		columns, alone := make([][]float64, len(index)), make([]float64, vectorsDim)
		for i := range columns {
			columns[i] = make([]float64, vectorsDim)
		}
		if a, err = r.Columns64(ctx, columns, index, opt); err != nil {
			t.Fatal(err)
		}
		for i, j := range index {
			e := make([]float64, vectorsDim)
			e[j] = 1
			b, err := r.IHVP64(ctx, alone, e, opt)
			if err != nil || !cmp.Equal(bits64(alone), bits64(columns[i])) || !(a.Bounds[i] <= 2*b.Bound()) {
				t.Errorf("column %d is not H⁻¹e: %v, bounds %v and %v", j, err, a.Bounds[i], b)
			}
		}
	}
}

// TestDiagonals: random shapes and rows that are hard for somebody, against big.Float: no error is
// larger than its bound; a refusal is of windows that no float64 factor is enough for.
func TestDiagonals(t *testing.T) {
	c := start(t, shape{workers: 2})
	cl := c.client()
	var runs atomic.Int64
	answered, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		d, m := rapid.IntRange(1, 150).Draw(rt, "d"), rapid.IntRange(1, 12).Draw(rt, "m")
		rows := drawRows(rt, d, rapid.IntRange(0, m).Draw(rt, "rows"))
		cfg := client.RunConfig{
			Name: fmt.Sprintf("d%d", runs.Add(1)), Dim: int64(d), Window: m, Damping: math.Pow(10, rapid.Float64Range(-9, 1).Draw(rt, "log λ")),
			Shards: rapid.IntRange(1, min(d, 4)).Draw(rt, "shards"), Divisor: rapid.SampledFrom([]wire.Divisor{wire.Capacity, wire.Count}).Draw(rt, "divisor"),
		}
		n := m
		if cfg.Divisor == wire.Count {
			n = max(1, len(rows))
		}
		r := c.attach(cl, cfg)
		ctx := within(t, time.Minute)
		defer func() { _ = cl.Delete(ctx, cfg.Name) }()
		for i, g := range rows {
			if _, err := r.Publish(ctx, wire.Step(i), g); err != nil {
				rt.Fatal(err)
			}
		}
		ref, lambda := newExact(rows), cfg.Damping
		ill := func(what string, err error) bool {
			if err != nil && !errors.Is(err, wire.ErrIllConditioned) {
				rt.Fatalf("%s: %v", what, err)
			}
			if err != nil {
				refused++
			} else {
				answered++
			}
			return err != nil
		}
		diag := make([]float64, d)
		if a, err := r.Diag64(ctx, diag); !ill("diagonal", err) {
			want := make([]*big.Float, d)
			for j := range want {
				want[j] = ref.column(int64(j), []int64{int64(j)}, n, lambda)[0]
				want[j].Quo(want[j], number(lambda))
			}
			if o := relative(diag, want); !(o <= a.Bound()) {
				rt.Errorf("the diagonal is off by %.3g, its bound is %.3g", o, a.Bound())
			}
		}
		index := make([]int64, rapid.IntRange(1, 7).Draw(rt, "indices"))
		for i := range index {
			index[i] = rapid.Int64Range(0, int64(d)-1).Draw(rt, "index")
		}
		if block, a, err := r.Subblock(ctx, index); !ill("sub-block", err) {
			checkBlock(t, ref, fmt.Sprintf("%+v", cfg), block, index, n, lambda, a.Bound())
		}
		columns, all := make([][]float64, min(len(index), r.MaxVectors())), make([]int64, d)
		for i := range columns {
			columns[i] = make([]float64, d)
		}
		for j := range all {
			all[j] = int64(j)
		}
		if a, err := r.Columns64(ctx, columns, index[:len(columns)]); !ill("columns", err) {
			for i := range columns {
				want := ref.column(index[i], all, n, lambda)
				for j := range want {
					want[j].Quo(want[j], number(lambda))
				}
				if o := relative(columns[i], want); !(o <= a.Bounds[i]) {
					rt.Errorf("column %d is off by %.3g, its bound is %.3g", index[i], o, a.Bounds[i])
				}
			}
		}
	})
	t.Logf("%d answered, %d refused", answered, refused)
	if refused > answered {
		t.Errorf("%d answered, %d refused", answered, refused)
	}
}

// TestDiagonalPerSample: gradients of single examples are sparse, alike within a class and very
// unlike in size, and λ = 1e-8 is 1e-9 of their squares. Elements against 106 bits.
func TestDiagonalPerSample(t *testing.T) {
	const (
		d, m, classes = 5000, 96, 6
		lambda        = 1e-8
		each          = 1e-9 // relative, of every element
	)
	rng := rand.New(rand.NewPCG(31, 32))
	means := make([][]float32, classes)
	for i := range means {
		means[i] = normal(rng, d)
	}
	rows := make([][]float32, m)
	for i := range rows {
		rows[i] = normal(rng, d)
		size := float32(math.Pow(10, -3*rng.Float64()))
		for j := range rows[i] {
			if rows[i][j] = size * (means[i%classes][j] + 0.1*rows[i][j]); (i%classes+j)%4 > 0 { // units that are off
				rows[i][j] = 0
			}
		}
	}
	c := start(t, shape{workers: 2})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "samples", Dim: d, Window: m, Damping: lambda, Shards: 2})
	ctx := within(t, time.Minute)
	if _, err := r.PublishMany(ctx, 0, rows); err != nil {
		t.Fatal(err)
	}
	got := make([]float64, d)
	a, err := r.Diag64(ctx, got)
	if err != nil {
		t.Fatal(err)
	}
	ref, shift := newPrecise(rows), product(m, lambda)
	off2, norm2, worst := 0.0, 0.0, 0.0
	for j := 0; j < d; j += 251 {
		y := make([]double, m)
		for i := range y {
			y[i].hi = ref.rows[i][j]
		}
		h := double{1, 0}
		for i, x := range ref.solve(y, shift) {
			h = h.minus(x.times(ref.rows[i][j]))
		}
		e := math.Abs(product(got[j], lambda).minus(h).hi)
		off2, norm2, worst = off2+e*e, norm2+h.hi*h.hi, max(worst, e/h.hi)
	}
	t.Logf("elements within %.2g, together %.2g, bound %.2g", worst, math.Sqrt(off2/norm2), a.Bound())
	if !(worst <= each) || !(math.Sqrt(off2/norm2) <= a.Bound()) {
		t.Errorf("an element is off by %g, together they are by %g, bound %g", worst, math.Sqrt(off2/norm2), a.Bound())
	}
}

// The bytes are the same whatever the number of workers and of threads, and of the pieces that are
// asked for.
func TestDiagonalSameBytes(t *testing.T) {
	const d, m = 9_001, 24
	index := []int64{0, 4500, 9000, 17, 17, 8999}
	rows := make([][]float32, m+5)
	rng := rand.New(rand.NewPCG(23, 24))
	for i := range rows {
		rows[i] = normal(rng, d)
	}
	var want []any
	for _, s := range []shape{{workers: 1, threads: 1}, {workers: 3, threads: 2}} {
		c := start(t, s)
		cl := c.client(client.WithChunkBytes(8 * 1024 * s.workers))
		r := c.attach(cl, client.RunConfig{Name: "same", Dim: d, Window: m, Damping: 1e-4, Shards: 3, Store: wire.F16})
		ctx := within(t, time.Minute)
		if _, err := r.PublishMany(ctx, 0, rows); err != nil {
			t.Fatal(err)
		}
		diag, columns := make([]float64, d), make([][]float64, len(index))
		for i := range columns {
			columns[i] = make([]float64, d)
		}
		a, err := r.Diag64(ctx, diag)
		if err != nil {
			t.Fatal(err)
		}
		got := []any{a, bits64(diag)}
		if a, err = r.Columns64(ctx, columns, index); err != nil {
			t.Fatal(err)
		}
		got = append(got, a, bits64(columns[2]), bits64(columns[3]))
		block, a, err := r.Subblock(ctx, index)
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, a, bits64(block)); want == nil {
			want = got
		}
		if !cmp.Equal(got, want) {
			t.Errorf("%+v: other bytes", s)
		}
	}
}

// The largest sub-block: its columns come from the shards in many messages, its numbers in many pages;
// elements are those of small ones.
func TestLargestSubblock(t *testing.T) {
	const d, m = 3000, 70
	c := start(t, shape{workers: 2})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "block", Dim: d, Window: m, Damping: 1e-3, Shards: 3})
	ctx := within(t, time.Minute)
	rng := rand.New(rand.NewPCG(33, 34))
	rows := make([][]float32, m)
	for i := range rows {
		rows[i] = normal(rng, d)
	}
	if _, err := r.PublishMany(ctx, 0, rows); err != nil {
		t.Fatal(err)
	}
	index := make([]int64, wire.MaxIndices)
	for i, j := range rng.Perm(d)[:len(index)] {
		index[i] = int64(j)
	}
	block, a, err := r.Subblock(ctx, index)
	if err != nil {
		t.Fatal(err)
	}
	diag := make([]float64, d)
	if _, err := r.Diag64(ctx, diag); err != nil {
		t.Fatal(err)
	}
	for i, j := range index {
		if x := block[i*len(index)+i]; !(math.Abs(x-diag[j]) <= (a.Bound()+benignBound)*x) {
			t.Fatalf("element %d is %g, of the diagonal %g", j, x, diag[j])
		}
	}
	for range 5 {
		i, k := rng.IntN(len(index)), rng.IntN(len(index))
		x, _, err := r.Element(ctx, index[i], index[k])
		if err != nil || x != block[i*len(index)+k] || x != block[k*len(index)+i] {
			t.Errorf("element (%d, %d) is %g alone, %g in the block (%v)", index[i], index[k], x, block[i*len(index)+k], err)
		}
	}
}

// What can't be answered says why and changes nothing.
func TestDiagonalRefused(t *testing.T) {
	const d, m = 1000, 40
	// Room for two shards' rows, and not for a factor, 8·40² bytes: 500 columns × 42 slots × 4 bytes.
	c := start(t, shape{workers: 2, capacity: 94_000})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "small", Dim: d, Window: m, Damping: 1e-3, Shards: 2})
	ctx := within(t, time.Minute)
	rng := rand.New(rand.NewPCG(25, 26))
	for i := range m {
		if _, err := r.Publish(ctx, wire.Step(i), normal(rng, d)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := r.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float64, d)
	refused := func(want error, field string, err error) {
		t.Helper()
		var e *wire.Error
		if !errors.Is(err, want) || !errors.As(err, &e) || e.Field != field || e.Value == "" || e.Limit == "" {
			t.Errorf("got %v, want %v of %s", err, want, field)
		}
	}
	_, err = r.Diag64(ctx, dst)
	refused(wire.ErrTooLarge, "memory", err)
	_, err = r.Diag64(ctx, dst[1:])
	refused(wire.ErrInvalid, "length of the result", err)
	_, err = r.Diag64(ctx, dst, client.WithDamping(-1))
	refused(wire.ErrInvalid, "damping", err)
	_, err = r.Diag64(ctx, dst, client.WithWire(wire.BF16))
	refused(wire.ErrInvalid, "wire", err)
	_, _, err = r.Element(ctx, 0, d)
	refused(wire.ErrInvalid, "index", err)
	_, _, err = r.Element(ctx, -1, 0)
	refused(wire.ErrInvalid, "index", err)
	_, _, err = r.Subblock(ctx, nil)
	refused(wire.ErrInvalid, "indices", err)
	_, _, err = r.Subblock(ctx, make([]int64, wire.MaxIndices+1))
	refused(wire.ErrInvalid, "indices", err)
	_, err = r.Columns64(ctx, [][]float64{dst}, []int64{d})
	refused(wire.ErrInvalid, "index", err)
	_, err = r.Columns64(ctx, [][]float64{dst}, nil)
	refused(wire.ErrInvalid, "vectors", err)
	_, err = r.Diag64(ctx, dst, client.WithMinRows(m+1))
	refused(wire.ErrTooFewRows, "rows", err)
	eventually(t, func() error {
		after, err := r.Status(ctx)
		if err == nil && !cmp.Equal(before, after) {
			err = fmt.Errorf("the run was\n%+v, is\n%+v", before, after)
		}
		return err
	})
	if x, _, err := r.Element(ctx, 3, 3); err != nil || !(x > 0) {
		t.Errorf("then an element is %v, %v", x, err)
	}
}

// A diagonal whose caller has gone frees the workers.
func TestDiagonalCancelled(t *testing.T) {
	const d, m = 200_000, 128
	c := start(t, shape{workers: 1, threads: 1})
	cl := c.client()
	r := c.attach(cl, client.RunConfig{Name: "long", Dim: d, Window: m, Damping: 1e-3, Shards: 1})
	rng := rand.New(rand.NewPCG(27, 28))
	g := normal(rng, d)
	for i := range m {
		for range 10 {
			g[rng.IntN(d)]++
		}
		if _, err := r.Publish(within(t, time.Minute), wire.Step(i), g); err != nil {
			t.Fatal(err)
		}
	}
	used := func() int64 {
		w, err := cl.Workers(soon(t))
		if err != nil || len(w) != 1 {
			t.Fatal(w, err)
		}
		return w[0].Used
	}
	before := int64(0)
	eventually(t, func() error {
		if before = used(); before < 4*d*m {
			return fmt.Errorf("%d bytes used", before)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := r.Diag(ctx, make([]float32, d), client.WithProgress(func(done, total int64) { cancel() }))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	eventually(t, func() error {
		if now := used(); now != before {
			return fmt.Errorf("%d bytes used, %d before", now, before)
		}
		return nil
	})
	if _, err := r.Publish(soon(t), m, g); err != nil { // its slots are free
		t.Error(err)
	}
}
