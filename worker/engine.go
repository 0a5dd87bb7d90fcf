package worker

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
	"mfac/wire"
)

// JobID names a job of a core.
type JobID uint64

// ShardKey names a shard on a worker.
type ShardKey struct {
	Run   string
	Index int
}

// Job is work on a shard's numbers. Abort ends it; nil where nobody will.
type Job struct {
	ID    JobID
	Shard ShardKey
	Op    Op
	Abort *pool.Cancel

	use use // a Queue's
}

// Op is what a job does. Columns (Lo, N) count from the shard's first one, Col from the run's,
// for errors.
type Op interface{ use() use }

// Columns are the columns [Lo, Lo+N) of a shard.
type Columns struct{ Lo, N int64 }

// The ops. Those that answer with numbers say which.
type (
	// Alloc makes the shard's rows, all zero.
	Alloc struct{ Config shard.Config }
	// Free gives the shard's memory back.
	Free struct{}
	// Begin forgets what a slot still has of a row that was never whole.
	Begin struct {
		Slot    int
		Attempt wire.Attempt // whose row it will be
	}
	// Write checks a chunk of a row (checksum, finite, not too large for the store) and writes it
	// into a slot.
	Write struct {
		Slot    int
		Attempt wire.Attempt // whose row it is
		Lo, Col int64
		DType   wire.DType
		Payload []byte
		Sum     uint32
	}
	// Accumulate multiplies what is complete of a row that is being written, with rows of Mask: at
	// first those that its products are to cover, then at most those. Cols are written since the
	// last one.
	Accumulate struct {
		Slot    int
		Attempt wire.Attempt
		Mask    shard.Mask
		Cols    []Columns
	}
	// Multiply works out the products of the row in Slot with those of Mask: slots floats. Where an
	// Accumulate has begun, it is what is left of that.
	Multiply struct {
		Slot    int
		Attempt wire.Attempt
		Mask    shard.Mask
		Cols    []Columns
		Begun   bool
	}
	// Abandon forgets what Accumulate has worked out.
	Abandon struct {
		Slot    int
		Attempt wire.Attempt
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
		Kind    string
		Seed    uint64 // of samples, which take no room
		First   int64
		Lo      int64 // the shard's first column
	}
	// FreeVectors gives it back, and all else that the query has. Slots are those of the rows of its W: they
	// are not zero before W is.
	FreeVectors struct {
		Query wire.QueryID
		Slots []int
	}
	// WriteVector checks a chunk of a vector and keeps it.
	WriteVector struct {
		Query   wire.QueryID
		Index   int
		Lo, Col int64
		Payload []byte
		Sum     uint32
	}
	// AccumulateDots multiplies what is complete of a query's vectors; Cols, of any of them, are
	// written since the last one.
	AccumulateDots struct {
		Query wire.QueryID
		Mask  shard.Mask
		Cols  []Columns
	}
	// Dots works out G v for a query's vectors: vectors × slots floats, then vectors squared norms.
	// Where an AccumulateDots has begun, it is what is left of that.
	Dots struct {
		Query wire.QueryID
		Mask  shard.Mask
		Cols  []Columns
		Begun bool
	}
	// Residuals works out ‖v − Gᵀc‖², ‖Gᵀc‖² of a combination or F v, ‖λv + Gᵀc‖² of H v: vectors
	// floats.
	Residuals struct {
		Step    bool // of a step's own query
		Query   wire.QueryID
		Kind    string
		Vectors int
		Damping float64
		Coef    []float64
		Mask    shard.Mask
		Ones    []int64 // where the vectors of columns of H⁻¹ are 1
	}
	// Apply works out G x for the answers x of a query: vectors × slots floats, then vectors squared
	// norms.
	Apply struct{ Answers }
	// Misfit works out ‖λx + Gᵀw − v‖² for the answers x of a query: vectors floats.
	Misfit struct {
		Answers
		W []float64
	}
	// Compute works out columns of a result: the payload.
	Compute struct {
		Step       bool
		Query      wire.QueryID
		Kind       string
		Index      int
		Damping    float64
		Coef       []float64
		Refined    Refined
		Mask       shard.Mask
		Lo, N, Col int64
		DType      wire.DType
		Ones       []int64
		From       wire.QueryID // whose W a diagonal is worked out from
	}
)

func (Alloc) use() use { return use{track: rowTrack, all: true, slot: -1} }
func (Free) use() use  { return use{track: rowTrack, all: true, slot: -1} }

func (o Begin) use() use {
	return use{track: rowTrack, slot: o.Slot, of: o.Attempt, write: true}
}

func (o Write) use() use {
	return use{track: rowTrack, slot: o.Slot, of: o.Attempt, write: true}
}

func (o Accumulate) use() use {
	return use{track: stepTrack, slot: o.Slot, of: o.Attempt, mask: o.Mask}
}

func (o Multiply) use() use {
	return use{track: stepTrack, slot: o.Slot, of: o.Attempt, mask: o.Mask}
}

func (o Abandon) use() use { return use{track: stepTrack, slot: o.Slot, of: o.Attempt} }

func (o Gram) use() use { return use{track: queryTrack, slot: -1, list: o.Slots} }

func (o NewVectors) use() use {
	return use{track: vecTrack, slot: -1, query: o.Query, ends: true}
}

func (o FreeVectors) use() use {
	return use{track: vecTrack, slot: -1, query: o.Query, ends: true, list: o.Slots}
}

func (o WriteVector) use() use { return use{track: vecTrack, slot: -1, query: o.Query} }

func (o AccumulateDots) use() use {
	return use{track: queryTrack, slot: -1, query: o.Query, mask: o.Mask}
}

func (o Dots) use() use {
	return use{track: queryTrack, slot: -1, query: o.Query, mask: o.Mask}
}

func (o Residuals) use() use {
	return use{track: trackOf(o.Step), slot: -1, query: o.Query, mask: o.Mask}
}

func (o Answers) use() use {
	return use{track: queryTrack, slot: -1, query: o.Query, mask: o.Mask}
}

func (o Compute) use() use {
	return use{track: trackOf(o.Step), slot: -1, query: o.Query, mask: o.Mask, from: o.From}
}

func trackOf(step bool) track {
	if step {
		return stepTrack
	}
	return queryTrack
}

func classOf(step bool) pool.Class {
	if step {
		return pool.Step
	}
	return pool.Query
}

// Engine holds the numbers and carries out jobs on them. Jobs of different shards may run at the
// same time; those of one shard as a Queue lets them.
type Engine struct {
	Pool    *pool.Pool      // that carries the passes out, or nil
	Threads int             // goroutines that a job may use without one; 0 is GOMAXPROCS. No result depends on it
	Kernel  *kernel.Variant // nil is the fastest of this CPU. No result depends on it

	mu     sync.Mutex
	shards map[ShardKey]*numbersOf
	spare  [][]byte // payloads that were sent
}

// mostSpare bounds the payloads that are kept to be used again, of MaxPayload each at most.
const mostSpare = 16

// numbersOf is the memory of one shard.
type numbersOf struct {
	store *shard.Store
	rows  *region

	mu      sync.Mutex
	vectors map[wire.QueryID]vectors
	sums    map[int]rowSum // by slot
	dotSums map[wire.QueryID]*shard.Sum
	factors map[wire.QueryID]square
	pruned  map[wire.QueryID]pruned
	blocked map[wire.QueryID]blocked
	whites  map[wire.QueryID]white
}

// rowSum is the products of a row that is being written.
type rowSum struct {
	*shard.Sum
	attempt wire.Attempt
}

// vectors are a query's vectors on one shard: little-endian bytes, as they came.
type vectors struct {
	dtype  wire.DType
	bytes  [][]byte // in memory
	memory *region
	made   []shard.Vector // of samples, in place of bytes
	plain  bool           // of F v and H v
}

func (v vectors) views() []shard.Vector {
	if v.made != nil {
		return v.made
	}
	out := make([]shard.Vector, len(v.bytes))
	for i, p := range v.bytes {
		if out[i] = shard.Raw(p, dtype.Of(v.dtype)); v.plain {
			out[i] = out[i].Plain()
		}
	}
	return out
}

// Do carries out a job. It does not panic for what a stranger sent; a job for a shard that is not
// there answers CodeUnknownShard.
func (g *Engine) Do(j Job) Done {
	d, err := g.do(j)
	d.Job = j.ID
	var p *pool.Panic
	if errors.As(err, &p) {
		panic(p) // as if it were on this goroutine
	}
	if err != nil {
		d.Err = asWire(err)
	}
	return d
}

func (g *Engine) do(j Job) (Done, error) {
	if err := j.Abort.Err(); err != nil {
		return Done{}, err
	}
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
	case Reshape:
		return Done{}, g.reshape(n, j.Shard, op)
	case Begin:
		return Done{}, n.store.Begin(op.Slot)
	case Erase:
		return Done{}, n.store.Erase(op.Slot)
	case Write:
		return Done{}, n.write(op)
	case Accumulate:
		return Done{}, n.accumulate(op, j.Abort)
	case Multiply:
		return n.multiply(op, j.Abort)
	case Abandon:
		n.abandon(op)
		return Done{}, nil
	case Gram:
		out := make([]float64, op.I1*(op.I1+1)/2-op.I0*(op.I0+1)/2)
		return Done{Floats: out}, n.store.For(pool.Query, j.Abort).Gram(out, op.Slots, op.I0, op.I1)
	case NewVectors:
		return Done{}, n.newVectors(op)
	case FreeVectors:
		n.freeVectors(op.Query)
		return Done{}, nil
	case WriteVector:
		return Done{}, n.writeVector(op)
	case AccumulateDots:
		return Done{}, n.accumulateDots(op, j.Abort)
	case Dots:
		return n.dots(op, j.Abort)
	case NewFactor:
		return Done{}, n.newFactor(op)
	case WriteFactor:
		return Done{}, n.writeFactor(op)
	case NewWhite:
		return Done{}, n.newWhite(op)
	case Whiten:
		return Done{}, n.whiten(op, j.Abort)
	case FreeFactor:
		n.mu.Lock()
		defer n.mu.Unlock()
		n.freeFactor(op.Query)
		return Done{}, nil
	case ReadColumns:
		return n.readColumns(op, j.Abort)
	case Prune:
		return n.prune(op, j.Abort)
	case Blocks:
		return n.blocks(op, j.Abort)
	case Residuals:
		return n.residuals(op, j.Abort)
	case Apply:
		return n.apply(op, j.Abort)
	case Misfit:
		return n.misfit(op, j.Abort)
	case DotPairs:
		return n.dotPairs(op, j.Abort)
	case Compute:
		return g.compute(n, op, j.Abort)
	}
	return Done{}, fmt.Errorf("job %T is not known", j.Op)
}

func (g *Engine) alloc(key ShardKey, op Alloc) error {
	store, rows, err := g.newStore(key, op.Config)
	if err != nil {
		return err
	}
	if rows.keep != nil {
		// Now, not in the midst of a step, is the time to find out that the machine hasn't got it.
		if err := store.Touch(); err != nil {
			rows.free()
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shards == nil {
		g.shards = map[ShardKey]*numbersOf{}
	}
	g.shards[key] = &numbersOf{
		store: store, rows: rows, vectors: map[wire.QueryID]vectors{}, sums: map[int]rowSum{}, dotSums: map[wire.QueryID]*shard.Sum{},
		factors: map[wire.QueryID]square{}, pruned: map[wire.QueryID]pruned{}, blocked: map[wire.QueryID]blocked{}, whites: map[wire.QueryID]white{},
	}
	return nil
}

// newStore makes memory of zeros for a shard's rows.
func (g *Engine) newStore(key ShardKey, cfg shard.Config) (*shard.Store, *region, error) {
	cfg.Threads, cfg.Pool, cfg.Kernel, cfg.Run = g.Threads, g.Pool, g.Kernel, key.Run
	bytes, err := shard.Bytes(cfg)
	if err != nil {
		return nil, nil, err
	}
	rows, err := newRegion(bytes)
	if err != nil {
		return nil, nil, err
	}
	cfg.Region = rows.bytes
	store, err := shard.New(cfg)
	if err != nil {
		rows.free()
		return nil, nil, err
	}
	return store, rows, nil
}

func (n *numbersOf) free() {
	for id := range n.vectors {
		n.freeVectors(id)
	}
	for id := range n.factors {
		n.freeFactor(id)
	}
	for id := range n.pruned {
		n.freePruned(id)
	}
	for id := range n.blocked {
		n.freeBlocked(id)
	}
	for id := range n.whites {
		n.freeWhite(id)
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
	if op.Kind == wire.KindSample {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.vectors[op.Query] = vectors{dtype: op.DType, made: normals(op, n.store.Cols())}
		return nil
	}
	each := n.store.Cols() * int64(op.DType.Size())
	memory, err := newRegion(int64(op.Vectors) * each)
	if err != nil {
		return err
	}
	v := vectors{dtype: op.DType, bytes: make([][]byte, op.Vectors), memory: memory, plain: op.Kind == wire.KindFisher || op.Kind == wire.KindHessian}
	for i := range v.bytes {
		v.bytes[i] = memory.bytes[int64(i)*each:][:each]
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.vectors[op.Query] = v
	return nil
}

func (n *numbersOf) freeVectors(id wire.QueryID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.dotSums[id]; a != nil {
		delete(n.dotSums, id)
		a.End()
	}
	if v, ok := n.vectors[id]; ok {
		delete(n.vectors, id)
		if v.memory != nil {
			v.memory.free()
		}
	}
	n.freeFactor(id)
	n.freePruned(id)
	n.freeBlocked(id)
	n.freeWhite(id)
}

func (n *numbersOf) vectorsOf(id wire.QueryID) vectors {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.vectors[id]
}

func (n *numbersOf) writeVector(op WriteVector) error {
	v := n.vectorsOf(op.Query)
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

// addAll adds columns to a sum.
func addAll(a *shard.Sum, abort *pool.Cancel, cols []Columns) error {
	for _, c := range cols {
		if err := a.Add(abort, c.Lo, c.N); err != nil {
			return err
		}
	}
	return nil
}

func (n *numbersOf) accumulate(op Accumulate, abort *pool.Cancel) error {
	n.mu.Lock()
	a := n.sums[op.Slot]
	n.mu.Unlock()
	if a.Sum != nil && a.attempt != op.Attempt { // of one that ended
		n.abandon(Abandon{op.Slot, a.attempt})
		a.Sum = nil
	}
	var err error
	if a.Sum == nil {
		a.attempt = op.Attempt
		if a.Sum, err = n.store.For(pool.Step, nil).BeginProducts(op.Slot, op.Mask); err != nil {
			return err
		}
		n.mu.Lock()
		n.sums[op.Slot] = a
		n.mu.Unlock()
	} else if err := a.Leave(op.Mask); err != nil {
		return err
	}
	return addAll(a.Sum, abort, op.Cols)
}

func (n *numbersOf) abandon(op Abandon) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.sums[op.Slot]; a.Sum != nil && a.attempt == op.Attempt {
		delete(n.sums, op.Slot)
		a.End()
	}
}

func (n *numbersOf) multiply(op Multiply, abort *pool.Cancel) (Done, error) {
	out := make([]float64, n.store.Slots())
	if !op.Begun {
		return Done{Floats: out}, n.store.For(pool.Step, abort).Products(out, op.Slot, op.Mask)
	}
	defer n.abandon(Abandon{op.Slot, op.Attempt})
	if err := n.accumulate(Accumulate{op.Slot, op.Attempt, op.Mask, op.Cols}, abort); err != nil {
		return Done{}, err
	}
	n.mu.Lock()
	a := n.sums[op.Slot]
	n.mu.Unlock()
	return Done{Floats: out}, a.Result(out)
}

// dotSum finds or begins the products of a query's vectors.
func (n *numbersOf) dotSum(id wire.QueryID, mask shard.Mask) (*shard.Sum, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.dotSums[id]; a != nil {
		return a, nil
	}
	views := n.vectors[id].views()
	if len(views) == 0 {
		return nil, unknownQuery(id)
	}
	a, err := n.store.For(pool.Query, nil).BeginDots(views, mask)
	if err == nil {
		n.dotSums[id] = a
	}
	return a, err
}

func (n *numbersOf) accumulateDots(op AccumulateDots, abort *pool.Cancel) error {
	a, err := n.dotSum(op.Query, op.Mask)
	if err != nil {
		return err
	}
	return addAll(a, abort, op.Cols)
}

func (n *numbersOf) dots(op Dots, abort *pool.Cancel) (Done, error) {
	a, err := n.dotSum(op.Query, op.Mask)
	if err != nil {
		return Done{}, err
	}
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.dotSums, op.Query)
		a.End()
	}()
	cols := op.Cols
	k := len(n.vectorsOf(op.Query).views())
	if !op.Begun {
		cols = slices.Repeat([]Columns{{0, n.store.Cols()}}, k)
	}
	if err := addAll(a, abort, cols); err != nil {
		return Done{}, err
	}
	out := make([]float64, k*(n.store.Slots()+1))
	return Done{Floats: out}, a.Result(out)
}

func (n *numbersOf) residuals(op Residuals, abort *pool.Cancel) (Done, error) {
	views := n.vectorsOf(op.Query).views()
	switch op.Kind {
	case wire.KindColumn:
		views = units(n.store.Cols(), op.Ones)
	case wire.KindCombine, wire.KindFisher:
		views = nil
		for range op.Vectors {
			views = append(views, shard.Zeros(n.store.Cols()))
		}
	}
	if len(views) != op.Vectors {
		return Done{}, unknownQuery(op.Query)
	}
	out := make([]float64, len(views))
	if op.Kind == wire.KindHessian {
		return Done{Floats: out}, n.store.For(pool.Query, abort).ScaleNorm2(out, views, op.Coef, op.Mask, op.Damping)
	}
	return Done{Floats: out}, n.store.For(classOf(op.Step), abort).ResidualNorm2(out, views, op.Coef, op.Mask)
}

func (g *Engine) compute(n *numbersOf, op Compute, abort *pool.Cancel) (Done, error) {
	if op.Kind == wire.KindRow {
		p := g.payload(4 * op.N)
		if err := n.store.ReadRow(p, firstOf(op.Mask, n.store.Slots()), op.Lo); err != nil {
			return Done{}, err
		}
		return Done{Payload: p, Sum: wire.Checksum(p)}, nil
	}
	store := n.store.For(classOf(op.Step), abort)
	slots := n.store.Slots()
	var coef []float64
	if op.Kind != wire.KindDiag && len(op.Coef) > 0 { // a query of blocks has none
		coef = op.Coef[op.Index*slots : (op.Index+1)*slots]
	}
	p := g.payload(op.N * int64(op.DType.Size()))
	t, lo, hi := dtype.Of(op.DType), op.Lo, op.Lo+op.N
	var bad int64
	var err error
	switch {
	case op.Refined.Which>>op.Index&1 != 0:
		bad, err = n.refined(p, op, store)
	case op.Kind == kindBlocks:
		bad, err = n.blockedBytes(p, op, store)
	case op.Kind == wire.KindFisher:
		bad, err = store.MultiplyBytes(p, t, coef, op.Mask, lo, hi)
	case op.Kind == wire.KindCombine:
		bad, err = store.CombineBytes(p, t, coef, op.Mask, lo, hi)
	case op.Kind == wire.KindColumn:
		bad, err = store.SolveBytes(p, t, shard.Unit(n.store.Cols(), op.Ones[op.Index]), coef, op.Mask, op.Damping, lo, hi)
	case op.Kind == wire.KindDiag && op.From != 0:
		var w white
		if w, err = n.whiteOf(op.From); err == nil {
			bad, err = store.WhiteDiagBytes(p, t, w.w, len(w.slots), op.Damping, lo, hi)
		}
	case op.Kind == wire.KindDiag:
		var f square
		if f, err = n.factorOf(op.Query); err == nil {
			bad, err = store.DiagBytes(p, t, f.l, f.slots, op.Damping, lo, hi)
		}
	case op.Kind == wire.KindPrune, op.Kind == wire.KindCompensate:
		bad, err = n.prunedBytes(p, op, store)
	default:
		v, ok := n.vectorsOf(op.Query).view(op.Index)
		if !ok {
			return Done{}, unknownQuery(op.Query)
		}
		switch op.Kind {
		case wire.KindHessian:
			bad, err = store.ScaleBytes(p, t, v, coef, op.Mask, op.Damping, lo, hi)
		case wire.KindSample:
			bad, err = store.SolveBytes(p, t, v, coef, op.Mask, math.Sqrt(op.Damping), lo, hi)
		default:
			bad, err = store.SolveBytes(p, t, v, coef, op.Mask, op.Damping, lo, hi)
		}
	}
	if err != nil {
		return Done{}, err
	}
	if bad >= 0 {
		hint := "ask for float64 results, or scale the vector"
		switch {
		case op.Kind == wire.KindDiag || op.Kind == wire.KindColumn || op.Kind == kindBlocks:
			hint = "ask for float64 results, or take a larger damping"
		case op.DType == wire.F64:
			hint = "scale the vector down"
		}
		return Done{}, wire.Errorf(wire.CodeOverflow, "column", op.Col+bad-op.Lo, "within the range of "+string(op.DType), hint)
	}
	return Done{Payload: p, Sum: wire.Checksum(p)}, nil
}

// payload is memory for a result: the buffer of one that was sent, if there is one.
func (g *Engine) payload(n int64) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := len(g.spare) - 1; i >= 0; i-- {
		if p := g.spare[i]; int64(cap(p)) >= n {
			g.spare = slices.Delete(g.spare, i, i+1)
			return p[:n]
		}
	}
	return make([]byte, n)
}

// Recycle takes back the Payload of a Done that nobody reads any more.
func (g *Engine) Recycle(p []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.spare) == mostSpare {
		g.spare = slices.Delete(g.spare, 0, 1)
	}
	g.spare = append(g.spare, p)
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
	if errors.Is(err, pool.ErrCancelled) || errors.Is(err, pool.ErrStopped) {
		return wire.Errorf(wire.CodeUnavailable, "", "", "", "%v", err)
	}
	var s *shard.Error
	if errors.As(err, &s) {
		return wire.Errorf(wire.CodeInvalid, s.Field, s.Value, s.Limit)
	}
	return wire.AsError(err)
}
