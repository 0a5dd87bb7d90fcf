package worker

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/wire"
)

// JobID names a job of a core.
type JobID uint64

// ShardKey names a shard on a worker.
type ShardKey struct {
	Run   string
	Index int
}

// Job is work on a shard's numbers.
type Job struct {
	ID    JobID
	Shard ShardKey
	Op    Op
}

// Op is what a job does. Columns (Lo, N) count from the shard's first one, Col from the run's,
// for errors.
type Op interface{ op() }

// The ops. Those that answer with numbers say which.
type (
	// Alloc makes the shard's rows, all zero.
	Alloc struct{ Config shard.Config }
	// Free gives the shard's memory back.
	Free struct{}
	// Begin forgets what a slot still has of a row that was never whole.
	Begin struct{ Slot int }
	// Write checks a chunk of a row (checksum, finite, not too large for the store) and writes it
	// into a slot.
	Write struct {
		Slot    int
		Lo, Col int64
		DType   wire.DType
		Payload []byte
		Sum     uint32
	}
	// Multiply works out the products of the row in Slot with those of Mask: slots floats.
	Multiply struct {
		Slot int
		Mask shard.Mask
	}
	// Gram works out rows [I0, I1) of the lower triangle of A: packed floats.
	Gram struct {
		Slots  []int
		I0, I1 int
	}
	// NewVectors makes room for a query's vectors.
	NewVectors struct {
		Query   wire.QueryID
		Vectors int
		DType   wire.DType
	}
	// FreeVectors gives it back.
	FreeVectors struct{ Query wire.QueryID }
	// WriteVector checks a chunk of a vector and keeps it.
	WriteVector struct {
		Query   wire.QueryID
		Index   int
		Lo, Col int64
		Payload []byte
		Sum     uint32
	}
	// Dots works out G v for a query's vectors: vectors × slots floats, then vectors squared norms.
	Dots struct {
		Query wire.QueryID
		Mask  shard.Mask
	}
	// Residuals works out ‖v − Gᵀc‖², ‖Gᵀc‖² of a combination: vectors floats.
	Residuals struct {
		Query   wire.QueryID
		Kind    string
		Vectors int
		Coef    []float64
		Mask    shard.Mask
	}
	// Compute works out columns of a result: the payload.
	Compute struct {
		Query      wire.QueryID
		Kind       string
		Index      int
		Damping    float64
		Coef       []float64
		Mask       shard.Mask
		Lo, N, Col int64
		DType      wire.DType
	}
)

func (Alloc) op()       {}
func (Free) op()        {}
func (Begin) op()       {}
func (Write) op()       {}
func (Multiply) op()    {}
func (Gram) op()        {}
func (NewVectors) op()  {}
func (FreeVectors) op() {}
func (WriteVector) op() {}
func (Dots) op()        {}
func (Residuals) op()   {}
func (Compute) op()     {}

// Engine holds the numbers and carries out jobs on them. Jobs of different shards may run at the
// same time; those of one shard must come one after the other, in the order they were issued.
type Engine struct {
	Threads int // goroutines that a job may use; 0 is GOMAXPROCS. No result depends on it

	mu     sync.Mutex
	shards map[ShardKey]*numbersOf
}

// numbersOf is the memory of one shard.
type numbersOf struct {
	store   *shard.Store
	rows    *region
	vectors map[wire.QueryID]vectors
}

// vectors are a query's vectors on one shard: little-endian bytes, as they came.
type vectors struct {
	dtype  wire.DType
	bytes  [][]byte // in memory
	memory *region
}

func (v vectors) views() []shard.Vector {
	out := make([]shard.Vector, len(v.bytes))
	for i, p := range v.bytes {
		out[i] = shard.Raw(p, dtype.Of(v.dtype))
	}
	return out
}

// Do carries out a job. It does not panic for what a stranger sent; a job for a shard that is not
// there answers CodeUnknownShard.
func (g *Engine) Do(j Job) Done {
	d, err := g.do(j)
	d.Job = j.ID
	if err != nil {
		d.Err = asWire(err)
	}
	return d
}

func (g *Engine) do(j Job) (Done, error) {
	if a, ok := j.Op.(Alloc); ok {
		return Done{}, g.alloc(j.Shard, a)
	}
	g.mu.Lock()
	n := g.shards[j.Shard]
	if _, ok := j.Op.(Free); ok {
		delete(g.shards, j.Shard)
		g.mu.Unlock()
		if n != nil {
			n.free()
		}
		return Done{}, nil
	}
	g.mu.Unlock()
	if n == nil {
		return Done{}, wire.Errorf(wire.CodeUnknownShard, "shard", j.Shard, "held")
	}
	// Its memory lies where the collector doesn't see that it is used.
	defer runtime.KeepAlive(n)
	switch op := j.Op.(type) {
	case Begin:
		return Done{}, n.store.Begin(op.Slot)
	case Write:
		return Done{}, n.write(op)
	case Multiply:
		out := make([]float64, n.store.Slots())
		return Done{Floats: out}, n.store.Products(out, op.Slot, op.Mask)
	case Gram:
		out := make([]float64, op.I1*(op.I1+1)/2-op.I0*(op.I0+1)/2)
		return Done{Floats: out}, n.store.Gram(out, op.Slots, op.I0, op.I1)
	case NewVectors:
		return Done{}, n.newVectors(op)
	case FreeVectors:
		n.freeVectors(op.Query)
		return Done{}, nil
	case WriteVector:
		return Done{}, n.writeVector(op)
	case Dots:
		return n.dots(op)
	case Residuals:
		return n.residuals(op)
	case Compute:
		return n.compute(op)
	}
	return Done{}, fmt.Errorf("job %T is not known", j.Op)
}

func (g *Engine) alloc(key ShardKey, op Alloc) error {
	cfg := op.Config
	cfg.Threads = g.Threads
	bytes, err := shard.Bytes(cfg)
	if err != nil {
		return err
	}
	rows, err := newRegion(bytes)
	if err != nil {
		return err
	}
	cfg.Region = rows.bytes
	store, err := shard.New(cfg)
	if err != nil {
		rows.free()
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shards == nil {
		g.shards = map[ShardKey]*numbersOf{}
	}
	g.shards[key] = &numbersOf{store: store, rows: rows, vectors: map[wire.QueryID]vectors{}}
	return nil
}

func (n *numbersOf) free() {
	for id := range n.vectors {
		n.freeVectors(id)
	}
	n.rows.free()
}

// Row reads a row back, for checks: not while jobs of the shard are carried out.
func (g *Engine) Row(key ShardKey, slot int) []byte {
	g.mu.Lock()
	n := g.shards[key]
	g.mu.Unlock()
	if n == nil {
		return nil
	}
	p := make([]byte, 4*n.store.Cols())
	err := n.store.ReadRow(p, slot, 0)
	runtime.KeepAlive(n)
	if err != nil {
		return nil
	}
	return p
}

func (n *numbersOf) write(op Write) error {
	src, store := dtype.Of(op.DType), n.store.DType()
	bad := shard.FirstLost(op.Payload, src, store)
	if err := checkPayload(op.Payload, src, op.Sum, op.Col, bad, store); err != nil {
		return err
	}
	return n.store.Write(op.Slot, op.Lo, op.Payload, src)
}

// checkPayload checks a chunk of numbers, of which bad is the first that the memory of dtype kept
// can't say, or −1.
func checkPayload(p []byte, t shard.DType, want uint32, col int64, bad int, kept shard.DType) error {
	if sum := wire.Checksum(p); sum != want {
		return wire.Errorf(wire.CodeMalformed, "checksum", fmt.Sprintf("%08x", sum), fmt.Sprintf("%08x", want), "the chunk was changed on its way: send it again")
	}
	if bad < 0 {
		return nil
	}
	if shard.FirstNonFinite(p[bad*t.Size():][:t.Size()], t) < 0 {
		return wire.Errorf(wire.CodeOverflow, "column", col+int64(bad), "within the range of "+kept.String(),
			"no number of the run's store is near enough: nothing of the gradient it is in was taken")
	}
	return wire.Errorf(wire.CodeNotFinite, "column", col+int64(bad), "finite", "it holds NaN or Inf: nothing of the vector it is in was taken")
}

func (n *numbersOf) newVectors(op NewVectors) error {
	each := n.store.Cols() * int64(op.DType.Size())
	memory, err := newRegion(int64(op.Vectors) * each)
	if err != nil {
		return err
	}
	v := vectors{dtype: op.DType, bytes: make([][]byte, op.Vectors), memory: memory}
	for i := range v.bytes {
		v.bytes[i] = memory.bytes[int64(i)*each:][:each]
	}
	n.vectors[op.Query] = v
	return nil
}

func (n *numbersOf) freeVectors(id wire.QueryID) {
	if v, ok := n.vectors[id]; ok {
		delete(n.vectors, id)
		v.memory.free()
	}
}

func (n *numbersOf) writeVector(op WriteVector) error {
	v := n.vectors[op.Query]
	if op.Index >= len(v.bytes) {
		return unknownQuery(op.Query)
	}
	t := dtype.Of(v.dtype)
	if err := checkPayload(op.Payload, t, op.Sum, op.Col, shard.FirstNonFinite(op.Payload, t), t); err != nil {
		return err
	}
	copy(v.bytes[op.Index][op.Lo*int64(v.dtype.Size()):], op.Payload)
	return nil
}

func (n *numbersOf) dots(op Dots) (Done, error) {
	views := n.vectors[op.Query].views()
	slots := n.store.Slots()
	out := make([]float64, len(views)*(slots+1))
	if len(views) == 0 {
		return Done{}, unknownQuery(op.Query)
	}
	if err := n.store.Dots(out[:len(views)*slots], views, op.Mask); err != nil {
		return Done{}, err
	}
	for i, v := range views {
		norm, err := n.store.Norm2(v)
		if err != nil {
			return Done{}, err
		}
		out[len(views)*slots+i] = norm
	}
	return Done{Floats: out}, nil
}

func (n *numbersOf) residuals(op Residuals) (Done, error) {
	views := n.vectors[op.Query].views()
	if op.Kind == wire.KindCombine {
		for range op.Vectors {
			views = append(views, shard.Zeros(n.store.Cols()))
		}
	}
	if len(views) != op.Vectors {
		return Done{}, unknownQuery(op.Query)
	}
	out := make([]float64, len(views))
	return Done{Floats: out}, n.store.ResidualNorm2(out, views, op.Coef, op.Mask)
}

func (n *numbersOf) compute(op Compute) (Done, error) {
	if op.Kind == wire.KindRow {
		p := make([]byte, 4*op.N)
		return Done{Payload: p}, n.store.ReadRow(p, firstOf(op.Mask, n.store.Slots()), op.Lo)
	}
	slots := n.store.Slots()
	coef := op.Coef[op.Index*slots : (op.Index+1)*slots]
	// One allocation a chunk: NATS may still hold the last one.
	p := make([]byte, op.N*int64(op.DType.Size()))
	t, lo, hi := dtype.Of(op.DType), op.Lo, op.Lo+op.N
	var bad int64
	var err error
	if op.Kind == wire.KindCombine {
		bad, err = n.store.CombineBytes(p, t, coef, op.Mask, lo, hi)
	} else {
		views := n.vectors[op.Query].views()
		if op.Index >= len(views) {
			return Done{}, unknownQuery(op.Query)
		}
		bad, err = n.store.SolveBytes(p, t, views[op.Index], coef, op.Mask, op.Damping, lo, hi)
	}
	if err != nil {
		return Done{}, err
	}
	if bad >= 0 {
		hint := "ask for float64 results, or scale the vector"
		if op.DType == wire.F64 {
			hint = "scale the vector down"
		}
		return Done{}, wire.Errorf(wire.CodeOverflow, "column", op.Col+bad-op.Lo, "within the range of "+string(op.DType), hint)
	}
	return Done{Payload: p}, nil
}

func firstOf(m shard.Mask, slots int) int {
	for t := range slots {
		if m.Has(t) {
			return t
		}
	}
	return 0
}

// asWire gives a shard's own errors their code.
func asWire(err error) *wire.Error {
	var s *shard.Error
	if errors.As(err, &s) {
		return wire.Errorf(wire.CodeInvalid, s.Field, s.Value, s.Limit)
	}
	return wire.AsError(err)
}
