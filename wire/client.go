package wire

// This file: what clients ask the coordinator.

// Create asks for a run; one that exists with the same spec is joined. Payload: the layout, a
// JSON array of Tensor in its canonical form (Layout), or nothing. Reply: Info.
type Create struct {
	Spec    RunSpec `msgpack:"spec"`
	Payload []byte  `msgpack:"-"`
}

// Delete ends a run and frees its memory. With UID set, that run alone: sent again it can't delete
// another one of that name, made in between. Reply: OK.
type Delete struct {
	Run string `msgpack:"run"`
	UID uint64 `msgpack:"uid,omitempty"`
}

// InfoRequest asks what a run is and where its shards are. Reply: Info.
type InfoRequest struct {
	Run string `msgpack:"run"`
}

// Info is a run as it stands. Shard s holds columns [Lo[s], Lo[s+1]), the last one up to Dim, on
// worker Workers[Owner[s]]. Placement counts at Epoch alone.
type Info struct {
	Spec    RunSpec  `msgpack:"spec" json:"spec"`
	UID     uint64   `msgpack:"uid" json:"uid"`
	Epoch   Epoch    `msgpack:"epoch" json:"epoch"`
	State   string   `msgpack:"state" json:"state"` // "ready", or what is being done or waited for
	Lo      []int64  `msgpack:"lo" json:"lo"`
	Workers []string `msgpack:"workers" json:"workers"`
	Owner   []int    `msgpack:"owner" json:"owner"`
	Version Version  `msgpack:"version" json:"version"`
	Rows    int      `msgpack:"rows" json:"rows"`
	Newest  Step     `msgpack:"newest" json:"newest"` // of the rows; 0 without rows
	Cond    float64  `msgpack:"cond" json:"cond"`     // estimate for S⁻¹KS⁻¹; 0 where not known
	Open    int      `msgpack:"open" json:"open"`     // steps being published
	Queries int      `msgpack:"queries" json:"queries"`
	Lost    int      `msgpack:"lost" json:"lost"` // rows dropped because a shard had lost them; 1 if nobody knows how many
	Coord   string   `msgpack:"coord" json:"coordinator"`
	Frozen  string   `msgpack:"frozen,omitempty" json:"frozen,omitempty"` // its Frozen's state; "": thawed
	Kept    int64    `msgpack:"kept,omitempty" json:"kept,omitempty"`     // bytes of W on all workers
}

// Range is the first column and the number of columns of shard s.
func (m *Info) Range(s int) (lo, n int64) {
	hi := m.Spec.Dim
	if s+1 < len(m.Lo) {
		hi = m.Lo[s+1]
	}
	return m.Lo[s], hi - m.Lo[s]
}

// StateReady is the state of a run that takes requests, and of a query whose result can be fetched.
const StateReady = "ready"

// LayoutRequest asks for a run's layout. Reply: Layout.
type LayoutRequest struct {
	Run string `msgpack:"run"`
}

// Layout is a run's layout. Payload: its canonical JSON, or nothing.
type Layout struct {
	Payload []byte `msgpack:"-"`
}

// List asks for the names of runs above After, in order. Reply: ListReply.
type List struct {
	After string `msgpack:"after"`
}

// ListReply has at most MaxList names; More says that there are further ones.
type ListReply struct {
	Runs []string `msgpack:"runs"`
	More bool     `msgpack:"more"`
}

// Status asks for the workers above After, in order. Reply: StatusReply.
type Status struct {
	After string `msgpack:"after"`
}

// StatusReply has at most MaxStatus workers; More says that there are further ones.
type StatusReply struct {
	Coord   string         `msgpack:"coord" json:"coordinator"`
	Workers []WorkerStatus `msgpack:"workers" json:"workers"`
	More    bool           `msgpack:"more" json:"-"`
}

// WorkerStatus is a worker as the coordinator last heard of it.
type WorkerStatus struct {
	ID       string `msgpack:"id" json:"id"`
	Instance uint64 `msgpack:"instance" json:"instance,string"` // beyond what a JSON number holds everywhere
	Capacity int64  `msgpack:"capacity" json:"capacity"`        // bytes for shards and staged vectors
	Used     int64  `msgpack:"used" json:"used"`                // bytes
	Shards   int    `msgpack:"shards" json:"shards"`
	SilentMS int64  `msgpack:"silent_ms" json:"silent_ms"` // since its last heartbeat
}

// Precondition asks, in an Open, for H⁻¹g of the gradient being published, with it in the window.
type Precondition struct {
	Damping float64 `msgpack:"damping,omitempty"` // 0: the run's
	Divisor Divisor `msgpack:"divisor,omitempty"` // "": the run's
	Result  DType   `msgpack:"result"`
	Whole   bool    `msgpack:"whole,omitempty"` // of H, in a run of blocks
}

// Open reserves a slot for a step on every shard. Token tells one publication of a step from
// another: the same token joins it (data-parallel publishers share one), another token starts it
// anew, and who held the old one hears CodeSuperseded. DeadlineMS is when an incomplete step is
// dropped, 0 for a minute. Label, of at most MaxLabel bytes, comes back with what is said of the step;
// all who share a token name the same one. Weight is the gradient's in H, 0 for 1. Reply:
// OpenReply.
type Open struct {
	Run          string        `msgpack:"run"`
	Step         Step          `msgpack:"step"`
	Token        uint64        `msgpack:"token"`
	DeadlineMS   int64         `msgpack:"deadline_ms,omitempty"`
	Precondition *Precondition `msgpack:"precondition,omitempty"`
	Label        string        `msgpack:"label,omitempty"`
	Weight       float64       `msgpack:"weight,omitempty"`
}

// OpenReply says under what epoch and attempt the step's chunks go. Whole lists the shards that
// have their slice already (after a takeover: their chunks need not be sent again).
type OpenReply struct {
	Epoch   Epoch   `msgpack:"epoch"`
	Attempt Attempt `msgpack:"attempt"`
	Whole   []int   `msgpack:"whole,omitempty"`
}

// Wait asks what has become of an attempt at a step; the reply comes when that is known, or after
// about a second with State pending. Reply: WaitReply.
type Wait struct {
	Run     string  `msgpack:"run"`
	Epoch   Epoch   `msgpack:"epoch"`
	Step    Step    `msgpack:"step"`
	Attempt Attempt `msgpack:"attempt"`
}

// States of a step or a query.
const (
	StatePending   = "pending"
	StateCommitted = "committed"
)

// WaitReply is what has become of a step. Query is set where the open asked for a precondition:
// its result can be fetched, or Refused says why there is none (the step is committed all the
// same).
type WaitReply struct {
	State   string    `msgpack:"state"` // StatePending or StateCommitted
	Version Version   `msgpack:"version"`
	Rows    int       `msgpack:"rows"`
	Query   QueryID   `msgpack:"query,omitempty"`
	Bounds  []float64 `msgpack:"bounds,omitempty"`
	Refused *Error    `msgpack:"refused,omitempty"`
}

// Kinds of query.
const (
	KindVector  = "vector"  // H⁻¹v for vectors that the client sends
	KindCombine = "combine" // H⁻¹ Σ a_k g_k for stored steps
	KindRow     = "row"     // a stored row itself
	KindFisher  = "fisher"  // F v for vectors that the client sends
	KindHessian = "hessian" // H v for vectors that the client sends
	KindSample  = "sample"  // samples from N(0, H⁻¹)
)

// Query opens a query at the run's present version. Reply: QueryReply. Kinds:
//
//	vector   Vectors vectors of dtype DType follow, in Vec chunks to the workers
//	combine  payload: Steps × uint64 step numbers, then Vectors × Steps × float64 coefficients
//	row      payload: one uint64 step number
//	diag     nothing
//	column   payload: Vectors × uint64 indices of columns
//	subblock payload: up to MaxIndices uint64 indices of columns; its answer is numbers
//	prune    weights of dtype DType follow as vector 0; where Masked a mask (MaskFree, …) as vector 1;
//	         payload: with a pattern its strips, two uint64 each, the first from column 0
//	compensate  changes follow as vector 0, a mask of those that are prescribed as vector 1
//	fisher, hessian  as vector
//	sample   Vectors samples of Seed, numbers First, First+1 and so on
//	scores, pairs, influence, self: see scores.go
//	invsqrt, likelihood, leaveout: see tune.go
//
// Verify and Refine go with vector and combine: Verify has the residuals of the answers measured,
// Refine has them refined where that makes their residual smaller; not with Block.
//
// With Block, H is replaced by its diagonal blocks: see Partition. The payload's last Starts × uint64 are the columns at which
// tensors begin, the first one 0; none: one tensor has all columns. In a run of blocks (RunSpec.Blocks) a query without Block is one of the
// run's blocks, unless it asks for the Whole of H.
//
// Token makes it idempotent: the same caller and token get the same query again.
type Query struct {
	Run        string  `msgpack:"run"`
	Token      uint64  `msgpack:"token"`
	Kind       string  `msgpack:"kind"`
	Vectors    int     `msgpack:"vectors"`
	Steps      int     `msgpack:"steps,omitempty"`
	DType      DType   `msgpack:"dtype,omitempty"`
	Result     DType   `msgpack:"result"`
	Damping    float64 `msgpack:"damping,omitempty"`
	Divisor    Divisor `msgpack:"divisor,omitempty"`
	AtLeast    Version `msgpack:"at_least,omitempty"`
	Exactly    Version `msgpack:"exactly,omitempty"`
	MinRows    int     `msgpack:"min_rows,omitempty"`
	DeadlineMS int64   `msgpack:"deadline_ms,omitempty"`
	Seed       uint64  `msgpack:"seed,omitempty"`
	First      int64   `msgpack:"first,omitempty"`
	Verify     bool    `msgpack:"verify,omitempty"`
	Refine     bool    `msgpack:"refine,omitempty"`
	Sparsity   float64 `msgpack:"sparsity,omitempty"`
	Rule       string  `msgpack:"rule,omitempty"`
	Masked     bool    `msgpack:"masked,omitempty"`
	Block      int64   `msgpack:"block,omitempty"`
	Starts     int     `msgpack:"starts,omitempty"`
	Whole      bool    `msgpack:"whole,omitempty"`
	Keep       int     `msgpack:"keep,omitempty"` // of a prune: at most so many …
	Of         int     `msgpack:"of,omitempty"`   // … of each so many weights are not 0; Pattern
	Payload    []byte  `msgpack:"-"`
}

// MaxVectorsFor is the most vectors in one query of a run with so many slots: their dots and
// norms, their coefficients, and those of a combination beside its steps must fit one message.
func MaxVectorsFor(slots int) int { return max(1, min(MaxVectors, MaxPayload/(8*slots)-1)) }

// QueryReply names the query and the version that it is pinned to.
type QueryReply struct {
	Query   QueryID `msgpack:"query"`
	Epoch   Epoch   `msgpack:"epoch"`
	Version Version `msgpack:"version"`
	Rows    int     `msgpack:"rows"`
}

// Result asks for a query's outcome; the reply comes when it is known, or after about a second
// with State pending. Reply: ResultReply, or the error that refused the query.
type Result struct {
	Run   string  `msgpack:"run"`
	Epoch Epoch   `msgpack:"epoch"`
	Query QueryID `msgpack:"query"`
}

// ResultReply says that the result can be fetched. Bounds has one bound a vector: of the relative
// error of the answer in the 2-norm, the rounding to the result's dtype included. Residuals, where
// the query asked to verify or to refine, has ‖Hx − v‖/‖v‖ of each x, before that rounding. Values is
// how many numbers there are to be asked for by Values; 0 where the result is of length d. Done of
// Total says how far a pending one is, in work of a size of its own; 0 of 0 where that isn't known.
type ResultReply struct {
	State   string    `msgpack:"state"` // StatePending or StateReady
	Version Version   `msgpack:"version"`
	Rows    int       `msgpack:"rows"`
	Bounds  []float64 `msgpack:"bounds"`
	Values  int64     `msgpack:"values,omitempty"`

	Residuals []float64 `msgpack:"residuals,omitempty"`

	Phase string `msgpack:"phase,omitempty"` // of a query that is pending: what is being done …
	Done  int64  `msgpack:"done,omitempty"`  // … so much of it
	Total int64  `msgpack:"total,omitempty"` // … of so much
}

// Close ends a query and lets go of its version; Query 0: all that the caller reads, and what it has asked for with
// steps that are not committed yet. Reply: OK, also for a query that is gone.
type Close struct {
	Run   string  `msgpack:"run"`
	Epoch Epoch   `msgpack:"epoch"`
	Query QueryID `msgpack:"query"`
}

// StepsRequest asks which steps are in the window, or in that of a query whose answer is numbers by
// its rows. Reply: Steps.
type StepsRequest struct {
	Run   string  `msgpack:"run"`
	Query QueryID `msgpack:"query,omitempty"`
}

// Steps lists the steps in the window, oldest first. Payload: Rows × uint64.
type Steps struct {
	Version Version `msgpack:"version"`
	Rows    int     `msgpack:"rows"`
	Payload []byte  `msgpack:"-"`
}

// Type implements Message.
func (*Create) Type() string        { return OpCreate }
func (*Delete) Type() string        { return OpDelete }
func (*InfoRequest) Type() string   { return OpInfo }
func (*Info) Type() string          { return "info.reply" }
func (*LayoutRequest) Type() string { return OpLayout }
func (*Layout) Type() string        { return "layout.reply" }
func (*List) Type() string          { return OpList }
func (*ListReply) Type() string     { return "list.reply" }
func (*Status) Type() string        { return OpStatus }
func (*StatusReply) Type() string   { return "status.reply" }
func (*Open) Type() string          { return OpOpen }
func (*OpenReply) Type() string     { return "open.reply" }
func (*Wait) Type() string          { return OpWait }
func (*WaitReply) Type() string     { return "wait.reply" }
func (*Query) Type() string         { return OpQuery }
func (*QueryReply) Type() string    { return "query.reply" }
func (*Result) Type() string        { return OpResult }
func (*ResultReply) Type() string   { return "result.reply" }
func (*Close) Type() string         { return OpClose }
func (*StepsRequest) Type() string  { return OpSteps }
func (*Steps) Type() string         { return "steps.reply" }

// Body implements Bulk.
func (m *Create) Body() *[]byte { return &m.Payload }
func (m *Layout) Body() *[]byte { return &m.Payload }
func (m *Query) Body() *[]byte  { return &m.Payload }
func (m *Steps) Body() *[]byte  { return &m.Payload }

var (
	_ = register(func() Message { return new(Create) })
	_ = register(func() Message { return new(Delete) })
	_ = register(func() Message { return new(InfoRequest) })
	_ = register(func() Message { return new(Info) })
	_ = register(func() Message { return new(LayoutRequest) })
	_ = register(func() Message { return new(Layout) })
	_ = register(func() Message { return new(List) })
	_ = register(func() Message { return new(ListReply) })
	_ = register(func() Message { return new(Status) })
	_ = register(func() Message { return new(StatusReply) })
	_ = register(func() Message { return new(Open) })
	_ = register(func() Message { return new(OpenReply) })
	_ = register(func() Message { return new(Wait) })
	_ = register(func() Message { return new(WaitReply) })
	_ = register(func() Message { return new(Query) })
	_ = register(func() Message { return new(QueryReply) })
	_ = register(func() Message { return new(Result) })
	_ = register(func() Message { return new(ResultReply) })
	_ = register(func() Message { return new(Close) })
	_ = register(func() Message { return new(StepsRequest) })
	_ = register(func() Message { return new(Steps) })
)
