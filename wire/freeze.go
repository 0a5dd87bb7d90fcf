package wire

import (
	"cmp"
	"fmt"
	"math"
)

// This file: runs that are frozen. Shards keep W = L⁻¹G of the window as it is, and no step is published.

// KindHold is the kind of what a shard keeps for a frozen run: W. No client asks for it.
const KindHold = "hold"

// Freeze ends the publishing of a run, and has its shards keep W = L⁻¹G for its diagonal and its
// sub-blocks; it is answered when W is there. With Thaw the run is as others again. Token as in Forget.
// Reply: WaitReply, or CodeTooLarge where a worker has not the memory: then nothing has changed.
type Freeze struct {
	Run   string `msgpack:"run"`
	Token uint64 `msgpack:"token"`
	Thaw  bool   `msgpack:"thaw,omitempty"`
}

// FrozenRequest asks what freezing a run takes, and how far it is. Reply: Frozen.
type FrozenRequest struct {
	Run string `msgpack:"run"`
}

// Frozen says whether a run is frozen, and what its W takes or would take: Kept[i] bytes on Workers[i] while the
// run is frozen and Making[i] more while W is worked out, of the Free[i] that the worker has free as it was last
// heard of. Done of Columns columns of W are there. Why says why a frozen run has no W.
type Frozen struct {
	State   string   `msgpack:"state" json:"state"` // StateThawed, …
	Why     string   `msgpack:"why,omitempty" json:"why,omitempty"`
	Version Version  `msgpack:"version" json:"version"`
	Rows    int      `msgpack:"rows" json:"rows"`
	Columns int64    `msgpack:"columns" json:"columns"`
	Done    int64    `msgpack:"done" json:"done"`
	Workers []string `msgpack:"workers" json:"workers"`
	Kept    []int64  `msgpack:"kept" json:"kept"`
	Making  []int64  `msgpack:"making" json:"making"`
	Free    []int64  `msgpack:"free" json:"free"`
}

// States of a Frozen.
const (
	StateThawed  = "thawed"  // not frozen
	StateMaking  = "making"  // frozen, and W on its way
	StateFrozen  = "frozen"  // with W
	StateWithout = "without" // frozen, without W: see Why
)

// Hold makes room on a shard for W of the rows in the payload's slots (uint32 each, in L's order), and for
// L while W is worked out; L follows in Factor's messages of the same query, with this Damping and results
// in float64. Reply: OK, or CodeTooLarge where the worker has not the memory.
type Hold struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Damping float64 `msgpack:"damping"`
	Payload []byte  `msgpack:"-"`
}

// Whiten works out columns [Lo, Lo+N) of a Hold's W, which count from the run's first one, when all of L is
// there. They are asked for in order, Lo a multiple of 64 from the shard's first column; with the last ones L's memory
// is given back. Reply: OK, also for columns that are there.
type Whiten struct {
	Shard `msgpack:",inline"`
	Query QueryID `msgpack:"query"`
	Lo    int64   `msgpack:"lo"`
	N     int64   `msgpack:"n"`
}

// Recall makes a diagonal query, whose results (1 − ‖w_j‖²)/Damping come from the W that query Of holds.
// Reply: OK.
type Recall struct {
	Shard   `msgpack:",inline"`
	Query   QueryID `msgpack:"query"`
	Of      QueryID `msgpack:"of"`
	Damping float64 `msgpack:"damping"`
	Result  DType   `msgpack:"result"`
}

// Type implements Message.
func (*Freeze) Type() string        { return OpFreeze }
func (*FrozenRequest) Type() string { return OpFrozen }
func (*Frozen) Type() string        { return "frozen.reply" }
func (*Hold) Type() string          { return OpHold }
func (*Whiten) Type() string        { return OpWhiten }
func (*Recall) Type() string        { return OpRecall }

// Body implements Bulk.
func (m *Hold) Body() *[]byte { return &m.Payload }

// Validate implements Message.
func (m *Freeze) Validate() error { return CheckName("run", m.Run) }

// Validate implements Message.
func (m *FrozenRequest) Validate() error { return CheckName("run", m.Run) }

// Validate implements Message.
func (m *Frozen) Validate() error {
	n := len(m.Workers)
	if err := cmp.Or(
		checkState("state", m.State),
		checkCount("rows", m.Rows, MaxWindow), checkWithin("columns", m.Columns, 0, MaxDim), checkWithin("done", m.Done, 0, m.Columns), checkCount("workers", n, MaxShards),
	); err != nil {
		return err
	}
	for _, w := range m.Workers {
		if err := CheckName("workers", w); err != nil {
			return err
		}
	}
	for _, list := range [][]int64{m.Kept, m.Making, m.Free} {
		if len(list) != n {
			return Invalid("bytes", fmt.Sprintf("of %d workers", len(list)), itoa(n)+", as many as workers")
		}
		for _, bytes := range list {
			if err := checkWithin("bytes", bytes, 0, math.MaxInt64); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkState checks that a state is a word: one that is not known here comes from a later version.
func checkState(field, state string) error {
	if !codeRule.MatchString(state) {
		return Invalid(field, fmt.Sprintf("%q", state), codeRule.String())
	}
	return nil
}

// Validate implements Message.
func (m *Hold) Validate() error {
	if err := cmp.Or(m.Shard.Validate(), CheckDamping("damping", m.Damping), checkSlotted(m.Payload, 4)); err != nil {
		return err
	}
	return checkWithin("rows", len(m.Payload)/4, 1, MaxWindow)
}

// Validate implements Message.
func (m *Whiten) Validate() error { return cmp.Or(m.Shard.Validate(), CheckRange(m.Lo, m.N, MaxDim)) }

// Validate implements Message.
func (m *Recall) Validate() error {
	return cmp.Or(m.Shard.Validate(), CheckDamping("damping", m.Damping), CheckDType("result", m.Result))
}

var (
	_ = register(func() Message { return new(Freeze) })
	_ = register(func() Message { return new(FrozenRequest) })
	_ = register(func() Message { return new(Frozen) })
	_ = register(func() Message { return new(Hold) })
	_ = register(func() Message { return new(Whiten) })
	_ = register(func() Message { return new(Recall) })
)
