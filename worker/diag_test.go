package worker

import (
	"math"
	"math/rand/v2"
	"testing"

	"mfac/wire"
)

// The factor comes in pieces of any size, in any order; what is computed is the formula, to the bit.
func TestEngineDiagonal(t *testing.T) {
	b := newBench(t, 2)
	order := []int{8, 0, 4}
	l := []float64{2, -1, 3, 0.5, 0.25, 40} // packed
	const lambda = 1e-3
	want := make([]float64, b.cols)
	for j := range want {
		w0 := b.rows[8][j] / 2
		w1 := math.FMA(1, w0, b.rows[0][j]) / 3
		w2 := math.FMA(-0.25, w1, math.FMA(-0.5, w0, b.rows[4][j])) / 40
		want[j] = (1 - math.FMA(w2, w2, math.FMA(w1, w1, w0*w0))) / lambda
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for id := wire.QueryID(1); id <= 20; id++ {
		b.do(NewFactor{Query: id, Slots: order})
		var cuts []int
		for i := range l {
			if i == 0 || rng.IntN(2) == 0 {
				cuts = append(cuts, i)
			}
		}
		for _, i := range rng.Perm(len(cuts)) {
			hi := len(l)
			if i+1 < len(cuts) {
				hi = cuts[i+1]
			}
			b.do(WriteFactor{Query: id, Lo: int64(cuts[i]), Numbers: l[cuts[i]:hi]})
		}
		lo := rng.Int64N(b.cols)
		n := 1 + rng.Int64N(b.cols-lo)
		d := b.do(Compute{Query: id, Kind: wire.KindDiag, Damping: lambda, Mask: b.mask(order...), Lo: lo, N: n, Col: lo, DType: wire.F64})
		for i, x := range decode(wire.F64, d.Payload) {
			if x != want[lo+int64(i)] {
				t.Fatalf("cut at %v: column %d is %v, want %v", cuts, lo+int64(i), x, want[lo+int64(i)])
			}
		}
		b.do(FreeVectors{Query: id})
		b.fails(Compute{Query: id, Kind: wire.KindDiag, Damping: lambda, N: 1, DType: wire.F64}, wire.ErrUnknownQuery, "query is")
	}
	b.fails(WriteFactor{Query: 1, Numbers: l}, wire.ErrUnknownQuery, "query is 1")
	b.do(NewFactor{Query: 99}) // an empty window
	d := b.do(Compute{Query: 99, Kind: wire.KindDiag, Damping: 0.25, Mask: b.mask(), N: 70, DType: wire.F64})
	for _, x := range decode(wire.F64, d.Payload) {
		if x != 4 {
			t.Fatalf("an empty window: %v, want 1/λ", x)
		}
	}
}

// A column's numbers and norms are those of the same query with the vector sent.
func TestEngineColumns(t *testing.T) {
	b := newBench(t, 1)
	mask, coef := b.mask(0, 4), make([]float64, 3*b.slots)
	for i := range coef {
		coef[i] = float64(i%7) - 2
	}
	cols := b.do(ReadColumns{Cols: []int64{1299, 0}, Mask: mask}).Floats
	for i, j := range []int64{1299, 0} {
		for s := range b.slots {
			want := 0.0
			if mask.Has(s) {
				want = b.rows[s][j]
			}
			if cols[i*b.slots+s] != want {
				t.Errorf("column %d of slot %d: %v, want %v", j, s, cols[i*b.slots+s], want)
			}
		}
	}
	ones := []int64{1050, 3, -9} // the last one is another shard's
	b.do(NewVectors{Query: 3, Vectors: 3, DType: wire.F64})
	for i, j := range ones {
		e := make([]float64, b.cols)
		if j >= 0 {
			e[j] = 1
		}
		b.vector(3, i, wire.F64, e)
		op := Compute{Query: 3, Kind: wire.KindVector, Index: i, Damping: 0.5, Coef: coef, Mask: mask, Lo: 2, N: 1290, DType: wire.F64}
		want := b.do(op).Payload
		if op.Query, op.Kind, op.Ones = 4, wire.KindColumn, ones; string(b.do(op).Payload) != string(want) {
			t.Errorf("column %d is not H⁻¹ of its vector", j)
		}
	}
	norms := Residuals{Query: 3, Kind: wire.KindVector, Vectors: 3, Coef: coef, Mask: mask}
	want := b.do(norms).Floats
	norms.Kind, norms.Ones = wire.KindColumn, ones
	for i, x := range b.do(norms).Floats {
		if x != want[i] {
			t.Errorf("norm %d is %v, want %v", i, x, want[i])
		}
	}
}
