package wire

// This file: what the owner of a run asks workers, and what workers tell coordinators. Every
// request has a Seq, which its reply echoes; asking again with the same Seq is safe.

// Shard names a shard under an epoch: the head of every control request and of its reply.
type Shard struct {
	Seq   uint64 `msgpack:"seq"`
	Run   string `msgpack:"run"`
	Epoch Epoch  `msgpack:"epoch"`
	Shard int    `msgpack:"shard"`
}

// Validate implements Message for what embeds Shard.
func (h *Shard) Validate() error {
	if err := checkShard(h.Run, h.Shard); err != nil {
		return err
	}
	return checkEpoch(h.Epoch)
}

// Head is the message's Shard.
func (h *Shard) Head() *Shard { return h }

// Control is a request of a run's owner to the worker of one shard.
type Control interface {
	Message
	Head() *Shard
}

// Row is a row of the window as a shard keeps it.
type Row struct {
	Slot    Slot
	Step    Step
	Attempt Attempt
	Weight  float64 // 0: 1
}

// Staged is a step that is being published, as a shard has it. Whole: all its columns are there.
type Staged struct {
	Slot    Slot    `msgpack:"slot"`
	Step    Step    `msgpack:"step"`
	Attempt Attempt `msgpack:"attempt"`
	Token   uint64  `msgpack:"token,omitempty"`
	Whole   bool    `msgpack:"whole,omitempty"`
	Weight  float64 `msgpack:"weight,omitempty"` // 0: 1
}

// Adopt makes a shard hear this epoch and no lower one, and tells it what it is: columns
// [Lo, Lo+Cols) with Slots slots, which it becomes now if it is ready for them (Reshape). Placed is the revision at which the shard was placed on this
// worker: rows that it keeps under another are not the run's any more. Instance is the worker's, as
// its heartbeat said: one that has restarted since forgot which epochs are over, and must not take
// up what a late message tells. Reply: Adopted.
type Adopt struct {
	Shard    `msgpack:",inline"`
	Instance uint64 `msgpack:"instance"`
	UID      uint64 `msgpack:"uid"`
	Placed   uint64 `msgpack:"placed"`
	Lo       int64  `msgpack:"lo"`
	Cols     int64  `msgpack:"cols"`
	Slots    int    `msgpack:"slots"`
	Store    DType  `msgpack:"store"`
	Scales   Scales `msgpack:"scales,omitempty"` // the whole run's
}

// Adopted is what a shard holds. Payload: its rows (AppendRows). Labels is how many of these, and of the
// staged steps, have a label that is to be asked for by SlotLabels.
type Adopted struct {
	Shard   `msgpack:",inline"`
	Version Version  `msgpack:"version"`
	Staged  []Staged `msgpack:"staged,omitempty"`
	Labels  int      `msgpack:"labels,omitempty"`
	Payload []byte   `msgpack:"-"`
}

// Install makes a shard's window exactly the payload's rows (AppendRows), at Version, and its
// staged steps at most those of Keep. The shard must hold the rows, committed or staged whole.
// Its queries end. Reply: OK.
type Install struct {
	Shard   `msgpack:",inline"`
	Version Version  `msgpack:"version"`
	Keep    []Staged `msgpack:"keep,omitempty"`
	Payload []byte   `msgpack:"-"`
}

// Gram asks for rows [I0, I1) of the lower triangle of the shard's part of A = GGᵀ, over the
// slots in the payload (uint32 each, oldest row first). Reply: Numbers, packed row by row.
type Gram struct {
	Shard   `msgpack:",inline"`
	I0      int    `msgpack:"i0"`
	I1      int    `msgpack:"i1"`
	Payload []byte `msgpack:"-"`
}

// Stage reserves a slot for an attempt at a step; a lower attempt at it is dropped. The reply
// comes when the shard has its whole slice: Products. Token is the publisher's (Open), kept for
// the next owner: no other publication may be joined to what is staged. So are Weight, 0 for 1, and Label, which the
// first shard alone is told, and keeps with the row.
type Stage struct {
	Shard   `msgpack:",inline"`
	Step    Step    `msgpack:"step"`
	Attempt Attempt `msgpack:"attempt"`
	Slot    Slot    `msgpack:"slot"`
	Token   uint64  `msgpack:"token,omitempty"`
	Label   string  `msgpack:"label,omitempty"`
	Weight  float64 `msgpack:"weight,omitempty"`
}

// Multiply asks for the products of a staged step with the rows in the payload's slots
// (uint32 each). Reply: Products.
type Multiply struct {
	Shard   `msgpack:",inline"`
	Step    Step    `msgpack:"step"`
	Attempt Attempt `msgpack:"attempt"`
	Payload []byte  `msgpack:"-"`
}

// Products is a shard's part of the products of a step's gradient with other rows, its own
// included. Payload: for each, the slot (uint32), the attempt that the row there is of (uint64),
// which tells what the product covers, and the product (float64).
type Products struct {
	Shard   `msgpack:",inline"`
	Step    Step    `msgpack:"step"`
	Attempt Attempt `msgpack:"attempt"`
	Payload []byte  `msgpack:"-"`
}

// Product is one entry of Products: with the row of Attempt in Slot.
type Product struct {
	Slot    Slot
	Attempt Attempt
	Value   float64
}

// Commit takes a staged step into the window: its slot becomes a row, the evicted one (where Evict
// is set) leaves it, and the shard is at Version, one above where it was. With Query set, it also
// makes that query, a combination with the payload's coefficients (Slots × float64). Reply: OK.
type Commit struct {
	Shard     `msgpack:",inline"`
	Version   Version `msgpack:"version"`
	Step      Step    `msgpack:"step"`
	Attempt   Attempt `msgpack:"attempt"`
	Slot      Slot    `msgpack:"slot"`
	Evict     bool    `msgpack:"evict,omitempty"`
	EvictStep Step    `msgpack:"evict_step,omitempty"`
	EvictSlot Slot    `msgpack:"evict_slot,omitempty"`
	Query     QueryID `msgpack:"query,omitempty"`
	Result    DType   `msgpack:"result,omitempty"`
	Payload   []byte  `msgpack:"-"`
}

// Drop forgets an attempt at a step that is not committed. Reply: OK, also where it is unknown.
type Drop struct {
	Shard   `msgpack:",inline"`
	Step    Step    `msgpack:"step"`
	Attempt Attempt `msgpack:"attempt"`
}

// Prepare makes a query of Kind (vector, where that is empty) for Vectors vectors of dtype DType over
// the rows of Mask (a bit a slot, the lowest first). The reply comes when the shard has its slices of
// them: Numbers, Vectors × Slots products and then Vectors squared norms. Those of samples are made by
// the shard: z number First, First+1, … of Seed.
type Prepare struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Vectors int     `msgpack:"vectors"`
	DType   DType   `msgpack:"dtype"`
	Mask    []byte  `msgpack:"mask"`
	Kind    string  `msgpack:"kind,omitempty"`
	Seed    uint64  `msgpack:"seed,omitempty"`
	First   int64   `msgpack:"first,omitempty"`
}

// Coef gives a query its coefficients: payload Vectors × Slots × float64. For a vector query,
// which Prepare made, results are (v − Gᵀc)/Damping; of samples, (z − Gᵀc)/√Damping; of hessian, Damping·v +
// Gᵀc; of fisher, Gᵀc. A combination (Gᵀc) and a row (that of the one slot in Mask, no payload) are
// made by Coef itself. So are columns of H⁻¹, (e_j − Gᵀc)/Damping: Vectors × uint64 indices j follow the
// coefficients. Reply: OK.
type Coef struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Kind    string  `msgpack:"kind"`
	Vectors int     `msgpack:"vectors"`
	Damping float64 `msgpack:"damping,omitempty"`
	Result  DType   `msgpack:"result"`
	Mask    []byte  `msgpack:"mask"`
	Payload []byte  `msgpack:"-"`
}

// Norms asks for the shard's part of ‖v − Gᵀc‖² of a vector query that has its coefficients, of
// ‖Gᵀc‖² of a combination and of fisher, ‖Damping·v + Gᵀc‖² of hessian, ‖z − Gᵀc‖² of samples.
// Reply: Numbers, one a vector.
type Norms struct {
	Shard `msgpack:",inline"`
	Query QueryID `msgpack:"query"`
}

// Numbers is a reply of float64 numbers. Payload: Count of them.
type Numbers struct {
	Shard   `msgpack:",inline"`
	Count   int    `msgpack:"count"`
	Payload []byte `msgpack:"-"`
}

// CloseQuery ends a query. Reply: OK, also where it is unknown.
type CloseQuery struct {
	Shard `msgpack:",inline"`
	Query QueryID `msgpack:"query"`
}

// Release frees a shard: the run UID has ended, or the shard has moved. Placed as in Adopt; 0
// frees it whatever it was. Reply: OK, also where it is unknown.
type Release struct {
	Shard  `msgpack:",inline"`
	UID    uint64 `msgpack:"uid"`
	Placed uint64 `msgpack:"placed,omitempty"`
}

// Hello is a worker's heartbeat. No reply.
type Hello struct {
	Worker   string `msgpack:"worker"`
	Instance uint64 `msgpack:"instance"` // random, made when the process starts
	Capacity int64  `msgpack:"capacity"` // bytes
	Used     int64  `msgpack:"used"`     // bytes
	Held     []Held `msgpack:"held,omitempty"`
	Shards   int    `msgpack:"shards"`
}

// Held is a shard that a worker holds; Hello names at most MaxHeld of them, in turn.
type Held struct {
	Run    string `msgpack:"run"`
	UID    uint64 `msgpack:"uid"`
	Shard  int    `msgpack:"shard"`
	Placed uint64 `msgpack:"placed"`
}

// MaxHeld is the most shards named in one Hello.
const MaxHeld = 64

// Type implements Message.
func (*Adopt) Type() string      { return OpAdopt }
func (*Adopted) Type() string    { return "adopt.reply" }
func (*Install) Type() string    { return OpInstall }
func (*Gram) Type() string       { return OpGram }
func (*Stage) Type() string      { return OpStage }
func (*Multiply) Type() string   { return OpProducts }
func (*Products) Type() string   { return "products.reply" }
func (*Commit) Type() string     { return OpCommit }
func (*Drop) Type() string       { return OpDrop }
func (*Prepare) Type() string    { return OpPrepare }
func (*Coef) Type() string       { return OpCoef }
func (*Norms) Type() string      { return OpNorms }
func (*Numbers) Type() string    { return "numbers" }
func (*CloseQuery) Type() string { return OpCloseQuery }
func (*Release) Type() string    { return OpRelease }
func (*Hello) Type() string      { return OpHello }

// Body implements Bulk.
func (m *Adopted) Body() *[]byte  { return &m.Payload }
func (m *Install) Body() *[]byte  { return &m.Payload }
func (m *Gram) Body() *[]byte     { return &m.Payload }
func (m *Multiply) Body() *[]byte { return &m.Payload }
func (m *Products) Body() *[]byte { return &m.Payload }
func (m *Commit) Body() *[]byte   { return &m.Payload }
func (m *Coef) Body() *[]byte     { return &m.Payload }
func (m *Numbers) Body() *[]byte  { return &m.Payload }

var (
	_ = register(func() Message { return new(Adopt) })
	_ = register(func() Message { return new(Adopted) })
	_ = register(func() Message { return new(Install) })
	_ = register(func() Message { return new(Gram) })
	_ = register(func() Message { return new(Stage) })
	_ = register(func() Message { return new(Multiply) })
	_ = register(func() Message { return new(Products) })
	_ = register(func() Message { return new(Commit) })
	_ = register(func() Message { return new(Drop) })
	_ = register(func() Message { return new(Prepare) })
	_ = register(func() Message { return new(Coef) })
	_ = register(func() Message { return new(Norms) })
	_ = register(func() Message { return new(Numbers) })
	_ = register(func() Message { return new(CloseQuery) })
	_ = register(func() Message { return new(Release) })
	_ = register(func() Message { return new(Hello) })
)
