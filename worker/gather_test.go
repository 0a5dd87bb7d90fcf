package worker

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"mfac/shard"
	"mfac/shard/pool"
	"mfac/wire"
)

// What is multiplied while chunks come has the bits of what is multiplied when all have come; the
// chunks are written at the same time.
func TestEngineGathers(t *testing.T) {
	const slots, cols, chunks = 5, 100_000, 13
	p := pool.Start(2)
	defer p.Stop()
	g := &Engine{Pool: p}
	key := ShardKey{"digits", 0}
	do := func(op Op) Done {
		d := g.Do(Job{Shard: key, Op: op})
		if d.Err != nil {
			t.Errorf("%T: %v", op, d.Err)
		}
		return d
	}
	do(Alloc{shard.Config{Slots: slots, Cols: cols}})
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() []byte {
		x := make([]float64, cols)
		for j := range x {
			x[j] = rng.NormFloat64()
		}
		return encode(wire.F32, x)
	}
	// all sends payload in chunks, in disorder, and has multiply multiply what is written.
	all := func(payload []byte, write func(c Columns, p []byte) Op, multiply func(c []Columns) Op) {
		written := make(chan Columns, chunks)
		go func() {
			defer close(written)
			for _, i := range rng.Perm(chunks) {
				lo, hi := int64(i*cols/chunks), int64((i+1)*cols/chunks)
				do(write(Columns{lo, hi - lo}, payload[4*lo:4*hi]))
				written <- Columns{lo, hi - lo}
			}
		}()
		for c := range written {
			do(multiply([]Columns{c}))
		}
	}
	for slot := range slots - 1 {
		p := random()
		do(Write{Slot: slot, Payload: p, Sum: wire.Checksum(p)})
	}
	mask := shard.MaskOf(slots, 0, 2, 3, 4)
	for attempt := range wire.Attempt(3) {
		all(random(), func(c Columns, p []byte) Op {
			return Write{Slot: 4, Attempt: attempt, Lo: c.Lo, Payload: p, Sum: wire.Checksum(p)}
		}, func(c []Columns) Op { return Accumulate{Slot: 4, Attempt: attempt, Mask: mask, Cols: c} })
		if attempt == 1 { // came to nothing
			continue
		}
		got := do(Multiply{Slot: 4, Attempt: attempt, Mask: mask, Begun: true}).Floats
		if want := do(Multiply{Slot: 4, Mask: mask}).Floats; !slices.Equal(got, want) {
			t.Errorf("products %v, want %v", got, want)
		}
	}
	for id := range wire.QueryID(2) {
		v := random()
		do(NewVectors{Query: id, Vectors: 1, DType: wire.F32})
		all(v, func(c Columns, p []byte) Op {
			return WriteVector{Query: id, Lo: c.Lo, Payload: p, Sum: wire.Checksum(p)}
		}, func(c []Columns) Op { return AccumulateDots{Query: id, Mask: mask, Cols: c} })
		got := do(Dots{Query: id, Mask: mask, Begun: true}).Floats
		want := do(Dots{Query: id, Mask: mask}).Floats
		if !slices.Equal(got, want) || got[slots] == 0 {
			t.Errorf("dots %v, want %v", got, want)
		}
		do(AccumulateDots{Query: id, Mask: mask, Cols: []Columns{{0, 50_000}}})
		do(FreeVectors{Query: id})
	}
	n := g.shards[key]
	do(Abandon{Slot: 4, Attempt: 7})
	if len(n.sums)+len(n.dotSums)+len(n.vectors) != 0 {
		t.Errorf("%d sums, %d of dots and %d vectors are left", len(n.sums), len(n.dotSums), len(n.vectors))
	}
	do(Free{})
}

// A job that was cancelled comes to nothing.
func TestEngineCancelled(t *testing.T) {
	b := newBench(t, 1)
	abort := new(pool.Cancel)
	abort.Cancel()
	d := b.engine.Do(Job{ID: 1, Shard: b.key, Op: Multiply{Slot: 0, Mask: b.mask(0)}, Abort: abort})
	if !errors.Is(d.Err, wire.ErrUnavailable) {
		t.Errorf("got %v, want unavailable", d.Err)
	}
}

// A payload that was sent is the next one's memory.
func TestEngineRecycles(t *testing.T) {
	b := newBench(t, 1)
	row := Compute{Kind: wire.KindRow, Mask: b.mask(4), N: 30, DType: wire.F32}
	first := b.do(row).Payload
	b.engine.Recycle(first)
	row.N = 10
	second := b.do(row)
	if &second.Payload[0] != &first[0] || len(second.Payload) != 40 || second.Sum != wire.Checksum(second.Payload) {
		t.Error("other memory, or another length or sum")
	}
	row.N = 20
	if third := b.do(row).Payload; &third[0] == &first[0] {
		t.Error("memory that is in use")
	}
	for range 100 {
		b.engine.Recycle(make([]byte, 8))
	}
	if n := len(b.engine.spare); n > mostSpare {
		t.Errorf("%d payloads are kept", n)
	}
}
