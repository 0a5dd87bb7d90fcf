package wire

import (
	"cmp"
	"fmt"
	"math"
)

// This file: what clients ask workers. All of it is bulk.

// Chunk is columns [Lo, Lo+N) of a step's gradient, for the worker that holds the shard they lie
// in. Lo counts from the run's first column. Payload: N numbers of dtype DType, any but
// float64, whatever the store is of. Sum is their CRC-32C. Want is how many bytes more the client would like to have
// in flight at this worker. Reply: Ack, when the columns are staged.
type Chunk struct {
	Run     string  `msgpack:"run"`
	Epoch   Epoch   `msgpack:"epoch"`
	Step    Step    `msgpack:"step"`
	Attempt Attempt `msgpack:"attempt"`
	Shard   int     `msgpack:"shard"`
	Lo      int64   `msgpack:"lo"`
	N       int64   `msgpack:"n"`
	DType   DType   `msgpack:"dtype"`
	Sum     uint32  `msgpack:"sum"`
	Want    int64   `msgpack:"want,omitempty"`
	Payload []byte  `msgpack:"-"`
}

// Vec is columns [Lo, Lo+N) of a query's vector number Index. Reply: Ack.
type Vec struct {
	Run     string  `msgpack:"run"`
	Epoch   Epoch   `msgpack:"epoch"`
	Query   QueryID `msgpack:"query"`
	Index   int     `msgpack:"index"`
	Shard   int     `msgpack:"shard"`
	Lo      int64   `msgpack:"lo"`
	N       int64   `msgpack:"n"`
	DType   DType   `msgpack:"dtype"`
	Sum     uint32  `msgpack:"sum"`
	Want    int64   `msgpack:"want,omitempty"`
	Payload []byte  `msgpack:"-"`
}

// Ack says that a chunk is staged: Staged of the slice's Columns (of all vectors together) are.
// A client without credit may have one chunk in flight at a worker; Credit is how many bytes it
// may have in flight from now on, for CreditMS.
type Ack struct {
	Staged   int64 `msgpack:"staged"`
	Columns  int64 `msgpack:"columns"`
	Credit   int64 `msgpack:"credit"`
	CreditMS int64 `msgpack:"credit_ms"`
}

// Fetch asks for columns [Lo, Lo+N) of result number Index of a query. Reply: Part.
type Fetch struct {
	Run   string  `msgpack:"run"`
	Epoch Epoch   `msgpack:"epoch"`
	Query QueryID `msgpack:"query"`
	Index int     `msgpack:"index"`
	Shard int     `msgpack:"shard"`
	Lo    int64   `msgpack:"lo"`
	N     int64   `msgpack:"n"`
	DType DType   `msgpack:"dtype"`
	Want  int64   `msgpack:"want,omitempty"`
}

// Part is columns of a result. Payload: N numbers of dtype DType, Sum their CRC-32C.
type Part struct {
	Lo       int64  `msgpack:"lo"`
	N        int64  `msgpack:"n"`
	DType    DType  `msgpack:"dtype"`
	Sum      uint32 `msgpack:"sum"`
	Credit   int64  `msgpack:"credit"`
	CreditMS int64  `msgpack:"credit_ms"`
	Payload  []byte `msgpack:"-"`
}

// Type implements Message.
func (*Chunk) Type() string { return OpChunk }
func (*Vec) Type() string   { return OpVec }
func (*Ack) Type() string   { return "ack" }
func (*Fetch) Type() string { return OpFetch }
func (*Part) Type() string  { return "fetch.reply" }

// Body implements Bulk.
func (m *Chunk) Body() *[]byte { return &m.Payload }
func (m *Vec) Body() *[]byte   { return &m.Payload }
func (m *Part) Body() *[]byte  { return &m.Payload }

// Validate implements Message.
func (m *Chunk) Validate() error {
	if err := cmp.Or(checkShard(m.Run, m.Shard), checkEpoch(m.Epoch), checkWant(m.Want)); err != nil {
		return err
	}
	if err := CheckRowDType("dtype", m.DType); err != nil {
		return err
	}
	return checkChunk(m.Lo, m.N, m.DType, m.Payload)
}

// Validate implements Message.
func (m *Vec) Validate() error {
	if err := cmp.Or(checkShard(m.Run, m.Shard), checkEpoch(m.Epoch), checkWant(m.Want)); err != nil {
		return err
	}
	if err := checkWithin("index", m.Index, 0, MaxVectors-1); err != nil {
		return err
	}
	return checkChunk(m.Lo, m.N, m.DType, m.Payload)
}

// Validate implements Message.
func (m *Ack) Validate() error {
	return cmp.Or(checkWithin("columns", m.Columns, 1, MaxVectors*MaxDim), checkWithin("staged", m.Staged, 0, m.Columns), checkCredit(m.Credit, m.CreditMS))
}

func checkCredit(bytes, ms int64) error {
	return cmp.Or(checkWithin("credit", bytes, 0, math.MaxInt64), checkWithin("credit_ms", ms, 0, MaxDeadlineMS))
}

func checkWant(bytes int64) error { return checkWithin("want", bytes, 0, math.MaxInt64) }

// Validate implements Message.
func (m *Fetch) Validate() error {
	if err := cmp.Or(checkShard(m.Run, m.Shard), checkEpoch(m.Epoch), checkWant(m.Want)); err != nil {
		return err
	}
	if err := checkWithin("index", m.Index, 0, MaxVectors-1); err != nil {
		return err
	}
	if err := cmp.Or(CheckDType("dtype", m.DType), CheckRange(m.Lo, m.N, MaxDim)); err != nil {
		return err
	}
	if size := int64(m.DType.Size()); m.N > MaxPayload/size {
		return Errorf(CodeTooLarge, "columns of a chunk", m.N, "at most "+itoa(MaxPayload/size))
	}
	return nil
}

// Validate implements Message.
func (m *Part) Validate() error {
	if err := checkChunk(m.Lo, m.N, m.DType, m.Payload); err != nil {
		return err
	}
	if sum := Checksum(m.Payload); sum != m.Sum {
		return Errorf(CodeMalformed, "checksum", fmt.Sprintf("%08x", sum), fmt.Sprintf("%08x", m.Sum), "the part was changed on its way: fetch it again")
	}
	return checkCredit(m.Credit, m.CreditMS)
}

var (
	_ = register(func() Message { return new(Chunk) })
	_ = register(func() Message { return new(Vec) })
	_ = register(func() Message { return new(Ack) })
	_ = register(func() Message { return new(Fetch) })
	_ = register(func() Message { return new(Part) })
)
