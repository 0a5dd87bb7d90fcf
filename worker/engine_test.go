package worker

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is an engine with one shard of three rows, and what it should work out.
type bench struct {
	t      *testing.T
	engine *Engine
	key    ShardKey
	slots  int
	cols   int64
	rows   map[int][]float64
	last   JobID
}

// benchCols is more than a tile, and no multiple of anything.
const benchCols = 1300

func newBench(t *testing.T, threads int) *bench {
	b := &bench{t: t, engine: &Engine{Threads: threads}, key: ShardKey{"digits", 3}, slots: 9, cols: benchCols, rows: map[int][]float64{}}
	b.do(Alloc{shard.Config{Slots: b.slots, Cols: b.cols}})
	rng := rand.New(rand.NewPCG(1, 2))
	for _, slot := range []int{8, 0, 4} {
		row := make([]float64, b.cols)
		for i := range row {
			row[i] = float64(float32(rng.NormFloat64()))
		}
		b.rows[slot] = row
		for _, r := range [][2]int64{{1000, 1300}, {0, 17}, {17, 1000}} {
			p := encode(wire.F32, row[r[0]:r[1]])
			b.do(Write{Slot: slot, Lo: r[0], Col: 5000 + r[0], Payload: p, Sum: wire.Checksum(p)})
		}
	}
	return b
}

// do carries out a job that must succeed.
func (b *bench) do(op Op) Done {
	b.t.Helper()
	d := b.try(op)
	if d.Err != nil {
		b.t.Fatalf("%T: %v", op, d.Err)
	}
	return d
}

func (b *bench) try(op Op) Done {
	b.t.Helper()
	b.last++
	d := b.engine.Do(Job{ID: b.last, Shard: b.key, Op: op})
	if d.Job != b.last {
		b.t.Fatalf("%T: the answer is to job %d, not %d", op, d.Job, b.last)
	}
	return d
}

func (b *bench) fails(op Op, want *wire.Error, text string) {
	b.t.Helper()
	d := b.try(op)
	if d.Err == nil || !errors.Is(d.Err, want) || !strings.Contains(d.Err.Error(), text) {
		b.t.Errorf("%T: got %v, want %v with %q", op, d.Err, want, text)
	}
}

func dot(x, y []float64) float64 {
	sum := 0.0
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

// tolerance is for sums of some 1,300 products of normal numbers, in another order: 1300 ε/2 times
// their absolute sum, which is less than 2,000.
const tolerance = 1300 * 0x1p-53 * 2000

func near(t *testing.T, what string, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= tolerance) {
			t.Errorf("%s: number %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func (b *bench) mask(slots ...int) shard.Mask { return shard.MaskOf(b.slots, slots...) }

func (b *bench) vector(id wire.QueryID, index int, t wire.DType, v []float64) {
	b.t.Helper()
	for _, r := range [][2]int64{{0, 650}, {650, b.cols}} {
		p := encode(t, v[r[0]:r[1]])
		b.do(WriteVector{Query: id, Index: index, Lo: r[0], Col: 5000 + r[0], Payload: p, Sum: wire.Checksum(p)})
	}
}

// Each job against a loop over the columns.
func TestEngineNumbers(t *testing.T) {
	b := newBench(t, 0)
	want := make([]float64, b.slots)
	for _, s := range []int{0, 8} {
		want[s] = dot(b.rows[0], b.rows[s])
	}
	near(t, "products", b.do(Multiply{Slot: 0, Mask: b.mask(0, 8)}).Floats, want)

	a := func(i, j int) float64 { return dot(b.rows[i], b.rows[j]) }
	near(t, "gram", b.do(Gram{Slots: []int{8, 0, 4}, I0: 1, I1: 3}).Floats, []float64{a(0, 8), a(0, 0), a(4, 8), a(4, 0), a(4, 4)})

	rng := rand.New(rand.NewPCG(3, 4))
	for _, dtype := range []wire.DType{wire.F32, wire.F64} {
		id := wire.QueryID(7)
		b.do(NewVectors{Query: id, Vectors: 2, DType: dtype})
		v := [2][]float64{make([]float64, b.cols), make([]float64, b.cols)}
		for i := range v {
			for c := range v[i] {
				v[i][c] = rng.NormFloat64()
				if dtype == wire.F32 {
					v[i][c] = float64(float32(v[i][c]))
				}
			}
			b.vector(id, i, dtype, v[i])
		}
		dots := make([]float64, 2*b.slots+2)
		coef := make([]float64, 2*b.slots)
		for i := range v {
			for _, s := range []int{0, 4} {
				dots[i*b.slots+s] = dot(v[i], b.rows[s])
				coef[i*b.slots+s] = float64(s+i) - 1.5
			}
			dots[2*b.slots+i] = dot(v[i], v[i])
		}
		mask := b.mask(0, 4)
		near(t, "dots", b.do(Dots{Query: id, Mask: mask}).Floats, dots)

		near(t, "dots of pairs", b.do(DotPairs{Query: id, Pairs: []wire.Pair{{U: 0, V: 1}, {U: 1, V: 0}, {U: 1, V: 1}}}).Floats,
			[]float64{dot(v[0], v[1]), dot(v[0], v[1]), dot(v[1], v[1])})

		var residuals, combined []float64
		for i := range v {
			var sum, gc2 float64
			for c := range v[i] {
				gc := coef[i*b.slots]*b.rows[0][c] + coef[i*b.slots+4]*b.rows[4][c]
				sum += (v[i][c] - gc) * (v[i][c] - gc)
				gc2 += gc * gc
			}
			residuals, combined = append(residuals, sum), append(combined, gc2)
		}
		relative := func(what string, got, want []float64) {
			t.Helper()
			for i := range got { // as near for their size
				got[i], want[i] = got[i]/want[i], 1
			}
			near(t, what, got, want)
		}
		relative("residuals", b.do(Residuals{Query: id, Kind: wire.KindVector, Vectors: 2, Coef: coef, Mask: mask}).Floats, residuals)
		relative("residuals of a combination", b.do(Residuals{Query: 99, Kind: wire.KindCombine, Vectors: 2, Coef: coef, Mask: mask}).Floats, combined)

		lo, n := int64(1020), int64(30) // over a tile's border
		for i := range v {
			var solved, combination []float64
			for c := lo; c < lo+n; c++ {
				gc := coef[i*b.slots]*b.rows[0][c] + coef[i*b.slots+4]*b.rows[4][c]
				solved = append(solved, (v[i][c]-gc)/0.25)
				combination = append(combination, gc)
			}
			op := Compute{Query: id, Kind: wire.KindVector, Index: i, Damping: 0.25, Coef: coef, Mask: mask, Lo: lo, N: n, Col: 5000 + lo, DType: wire.F64}
			near(t, "solve", wire.Floats(b.do(op).Payload), solved)
			op.Kind = wire.KindCombine
			near(t, "combine", wire.Floats(b.do(op).Payload), combination)
			op.DType = wire.F32
			for c := range combination {
				combination[c] = float64(float32(combination[c]))
			}
			if got := b.do(op).Payload; len(got) != 4*int(n) {
				t.Errorf("%d bytes of float32", len(got))
			}
		}
		b.do(FreeVectors{Query: id})
		b.fails(Dots{Query: id, Mask: mask}, wire.ErrUnknownQuery, "query is 7")
		b.do(FreeVectors{Query: id})
	}

	row := b.do(Compute{Kind: wire.KindRow, Mask: b.mask(4), Lo: 1020, N: 30, DType: wire.F32})
	if want := encode(wire.F32, b.rows[4][1020:1050]); !slices.Equal(row.Payload, want) {
		t.Error("a row is not as it was written")
	}
	if got := b.engine.Row(b.key, 8); !slices.Equal(got, encode(wire.F32, b.rows[8])) {
		t.Error("Row is not as it was written")
	}
}

// No result depends on the number of threads.
func TestEngineThreads(t *testing.T) {
	one, four := newBench(t, 1), newBench(t, 4)
	coef := []float64{1, 0, 0, 0, -2, 0, 0, 0, 3}
	mask := one.mask(0, 4, 8)
	for _, op := range []Op{
		Multiply{Slot: 4, Mask: mask},
		Gram{Slots: []int{0, 4, 8}, I1: 3},
		Residuals{Kind: wire.KindCombine, Vectors: 1, Coef: coef, Mask: mask},
		Compute{Kind: wire.KindCombine, Coef: coef, Mask: mask, N: benchCols, DType: wire.F64},
	} {
		a, b := one.do(op), four.do(op)
		if !slices.Equal(a.Floats, b.Floats) || !slices.Equal(a.Payload, b.Payload) {
			t.Errorf("%T: other bits", op)
		}
	}
}

// Rows are written from each dtype into a store of each dtype, in pieces that cross tiles; what is
// read back is what the numbers are rounded to, and all jobs speak of that.
func TestEngineDTypes(t *testing.T) {
	for _, store := range []wire.DType{wire.F32, wire.BF16, wire.F16} {
		for _, from := range []wire.DType{wire.F32, wire.BF16, wire.F16} {
			t.Run(string(store)+" from "+string(from), func(t *testing.T) {
				b := &bench{t: t, engine: &Engine{Threads: 1}, key: ShardKey{"digits", 3}, slots: 3, cols: benchCols}
				b.do(Alloc{shard.Config{Slots: b.slots, Cols: b.cols, DType: dtype.Of(store)}})
				rng := rand.New(rand.NewPCG(5, 6))
				kept := make([][]float64, b.slots)
				for slot := range kept {
					x := make([]float64, b.cols)
					for i := range x {
						x[i] = rng.NormFloat64() * 0x1p-9 // many of float16's below its normal range
					}
					sent := decode(from, encode(from, x))
					b.do(Begin{Slot: slot})
					for _, r := range [][2]int64{{1000, 1300}, {0, 17}, {17, 1000}} {
						p := encode(from, x[r[0]:r[1]])
						b.do(Write{Slot: slot, Lo: r[0], Col: r[0], DType: from, Payload: p, Sum: wire.Checksum(p)})
					}
					kept[slot] = decode(wire.F32, b.engine.Row(b.key, slot))
					for i, v := range kept[slot] {
						// Half a unit in the last place: 2⁻⁸ in bfloat16, 2⁻¹¹ in float16,
						// whose power of two leaves none of these below the normal range.
						tol := map[wire.DType]float64{wire.F32: 0, wire.BF16: 0x1p-8, wire.F16: 0x1p-11}[store] * math.Abs(sent[i])
						if from == store {
							tol = 0
						}
						if !(math.Abs(v-sent[i]) <= tol) {
							t.Fatalf("slot %d, column %d: %v is kept as %v", slot, i, sent[i], v)
						}
					}
				}
				want := []float64{dot(kept[1], kept[0]), dot(kept[1], kept[1]), dot(kept[1], kept[2])}
				near(t, "products", b.do(Multiply{Slot: 1, Mask: b.mask(0, 1, 2)}).Floats, want)
				row := b.do(Compute{Kind: wire.KindRow, Mask: b.mask(2), Lo: 1020, N: 30, DType: wire.F32}).Payload
				if !slices.Equal(decode(wire.F32, row), kept[2][1020:1050]) {
					t.Error("a row is not what is kept")
				}
				for _, result := range []wire.DType{wire.F32, wire.F64, wire.BF16, wire.F16} {
					op := Compute{Kind: wire.KindCombine, Coef: []float64{1, 0, 0}, Mask: b.mask(0), Lo: 1020, N: 30, DType: result}
					if got := b.do(op).Payload; !slices.Equal(got, encode(result, kept[0][1020:1050])) {
						t.Errorf("a combination that is one row, in %s: not that row rounded once", result)
					}
				}
			})
		}
	}
}

func decode(t wire.DType, p []byte) []float64 {
	x := make([]float64, len(p)/t.Size())
	kernel.Best().Expand(x, p, dtype.Of(t))
	return x
}

// What is wrong with a job is its answer, and nothing has changed.
func TestEngineErrors(t *testing.T) {
	b := newBench(t, 1)
	good := encode(wire.F32, []float64{1, 2, 3})
	nan := encode(wire.F32, []float64{1, math.NaN(), math.Inf(1)})
	sum := wire.Checksum(good)
	b.fails(Write{Slot: 0, Lo: 10, Col: 5010, Payload: good, Sum: sum + 1}, wire.ErrMalformed, "checksum")
	b.fails(Write{Slot: 0, Lo: 10, Col: 5010, Payload: nan, Sum: wire.Checksum(nan)}, wire.ErrNotFinite, "column is 5011, must be finite")
	b.fails(Write{Slot: 9, Lo: 10, Payload: good, Sum: sum}, wire.ErrInvalid, "slot is 9")
	b.fails(Write{Slot: 0, Lo: benchCols - 2, Payload: good, Sum: sum}, wire.ErrInvalid, "number of columns is 3")
	b.fails(Multiply{Slot: 9, Mask: b.mask(0)}, wire.ErrInvalid, "slot is 9")
	b.fails(Multiply{Slot: 0, Mask: shard.Mask{1}}, wire.ErrInvalid, "mask is 1 bytes")
	b.fails(Gram{Slots: []int{0, 9}, I1: 2}, wire.ErrInvalid, "9")
	b.fails(Compute{Kind: wire.KindCombine, Coef: make([]float64, 9), Mask: b.mask(0), Lo: benchCols, N: 1, DType: wire.F64}, wire.ErrInvalid, "")
	b.fails(Compute{Query: 5, Kind: wire.KindVector, Coef: make([]float64, 9), Mask: b.mask(0), N: 1, Damping: 1, DType: wire.F64}, wire.ErrUnknownQuery, "query is 5")
	b.fails(DotPairs{Query: 5, Pairs: []wire.Pair{{}}}, wire.ErrUnknownQuery, "query is 5")
	b.fails(Residuals{Query: 5, Kind: wire.KindVector, Vectors: 1, Coef: make([]float64, 9), Mask: b.mask(0)}, wire.ErrUnknownQuery, "query is 5")
	b.fails(WriteVector{Query: 5, Payload: good, Sum: sum}, wire.ErrUnknownQuery, "query is 5")
	b.do(NewVectors{Query: 5, Vectors: 1, DType: wire.F64})
	b.fails(WriteVector{Query: 5, Index: 1, Payload: good, Sum: sum}, wire.ErrUnknownQuery, "query is 5")
	inf := encode(wire.F64, []float64{1, 2, math.Inf(-1)})
	b.fails(WriteVector{Query: 5, Lo: 4, Col: 5004, Payload: inf, Sum: wire.Checksum(inf)}, wire.ErrNotFinite, "column is 5006")
	coef := []float64{1e300, 0, 0, 0, 0, 0, 0, 0, 0}
	b.fails(Compute{Kind: wire.KindCombine, Coef: coef, Mask: b.mask(0), Lo: 3, N: 2, Col: 5003, DType: wire.F32}, wire.ErrOverflow, "column is 5003, must be within the range of f32")
	b.fails(nil, wire.ErrInternal, "not known")
	if got := b.engine.Row(b.key, 0); !slices.Equal(got, encode(wire.F32, b.rows[0])) {
		t.Error("row 0 has changed")
	}
	if b.engine.Row(b.key, 9) != nil || b.engine.Row(ShardKey{"digits", 4}, 0) != nil {
		t.Error("rows that there aren't")
	}

	b.do(Free{})
	b.do(Free{})
	b.fails(Multiply{Slot: 0, Mask: b.mask(0)}, wire.ErrUnknownShard, "digits")
	b.fails(Alloc{shard.Config{Slots: 0, Cols: 1}}, wire.ErrInvalid, "slots is 0")
	b.do(Alloc{shard.Config{Slots: b.slots, Cols: b.cols}})
	if got := b.do(Multiply{Slot: 0, Mask: b.mask(0, 4, 8)}).Floats; slices.ContainsFunc(got, func(v float64) bool { return v != 0 }) {
		t.Errorf("a shard made anew holds %v", got)
	}
}

// Jobs of different shards run at the same time.
func TestEngineConcurrent(t *testing.T) {
	g := &Engine{Threads: 2}
	var wg sync.WaitGroup
	for s := range 8 {
		wg.Go(func() {
			key := ShardKey{"digits", s}
			p := encode(wire.F32, slices.Repeat([]float64{float64(s)}, 40))
			for _, op := range []Op{
				Alloc{shard.Config{Slots: 2, Cols: 40}},
				Write{Slot: 1, Payload: p, Sum: wire.Checksum(p)},
				NewVectors{Query: 1, Vectors: 1, DType: wire.F32},
				WriteVector{Query: 1, Payload: p, Sum: wire.Checksum(p)},
			} {
				if d := g.Do(Job{ID: 1, Shard: key, Op: op}); d.Err != nil {
					t.Errorf("%T: %v", op, d.Err)
				}
			}
			want := 40 * float64(s) * float64(s)
			if d := g.Do(Job{ID: 2, Shard: key, Op: Dots{Query: 1, Mask: shard.MaskOf(2, 1)}}); d.Err != nil || !slices.Equal(d.Floats, []float64{0, want, want}) {
				t.Errorf("shard %d: %v, %v", s, d.Floats, d.Err)
			}
			if d := g.Do(Job{ID: 3, Shard: key, Op: Free{}}); d.Err != nil {
				t.Error(d.Err)
			}
		})
	}
	wg.Wait()
}
