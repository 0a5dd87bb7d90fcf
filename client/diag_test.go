package client

import (
	"errors"
	"slices"
	"testing"

	"mfac/wire"
)

// A diagonal is fetched in pieces that take a worker about as long, whatever the rows.
func TestPieceBytes(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(dim)
	r.c.chunkBytes = DefaultChunkBytes
	for _, c := range []struct {
		kind string
		rows int
		want int // columns of float32
	}{
		{wire.KindDiag, 0, DefaultChunkBytes / 4}, {wire.KindDiag, 1, DefaultChunkBytes / 4}, {wire.KindDiag, 32, DefaultChunkBytes / 4},
		{wire.KindDiag, 256, 16_320}, {wire.KindDiag, 1024, 960}, {wire.KindDiag, 4096, 64},
		{wire.KindColumn, 4096, DefaultChunkBytes / 4},
	} {
		q := r.question(c.kind, 1, whole(make([]float32, dim), ""), &call{})
		if got := q.pieceBytes(c.rows); got != 4*c.want {
			t.Errorf("%s of %d rows: pieces of %d columns, want %d", c.kind, c.rows, got/4, c.want)
		}
	}
}

// Progress is told once a piece, by one at a time, up to all columns of all results.
func TestProgress(t *testing.T) {
	f := newFake(t, "a", "b", "c")
	r := f.attached(dim)
	var told []int64
	watch := WithProgress(func(done, total int64) {
		if told = append(told, done); total != 2*dim {
			t.Errorf("%d of %d columns", done, total)
		}
	})
	dst := [][]float32{make([]float32, dim), make([]float32, dim)}
	if _, err := r.Columns(t.Context(), dst, []int64{7, 7}, watch); err != nil {
		t.Fatal(err)
	}
	if len(told) < 2 || !slices.IsSorted(told) || told[len(told)-1] != 2*dim {
		t.Errorf("told %v", told)
	}
	told = nil
	if _, err := r.IHVPs(t.Context(), dst, [][]float32{ramp(dim), ramp(dim)}, watch); err != nil || told[len(told)-1] != 2*dim {
		t.Errorf("of vectors: told %v, %v", told, err)
	}
}

// What the client refuses before it asks.
func TestDiagonalArguments(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(dim)
	ctx, dst := t.Context(), make([]float32, dim)
	_, err := r.Diag(ctx, dst[1:])
	errs := []error{err}
	add := func(err error) { errs = append(errs, err) }
	_, err = r.Diag(ctx, dst, WithWire(wire.F16))
	add(err)
	_, err = r.Diag(ctx, dst, WithResult(wire.F64))
	add(err)
	_, err = r.Columns(ctx, [][]float32{dst}, []int64{dim})
	add(err)
	_, err = r.Columns(ctx, [][]float32{dst}, []int64{1, 2})
	add(err)
	_, err = r.ColumnTo(ctx, nil, -1)
	add(err)
	_, _, err = r.Element(ctx, 0, dim)
	add(err)
	_, _, err = r.Subblock(ctx, nil)
	add(err)
	_, _, err = r.Subblock(ctx, []int64{1}, WithResult(wire.F32))
	add(err)
	for i, err := range errs {
		if !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("case %d: %v", i, err)
		}
	}
}
