package wire

import "cmp"

// This file: the numbers that a query leaves at the coordinator.

// MaxValuesReply is the most numbers in one ValuesReply.
const MaxValuesReply = MaxPayload / 8

// Values asks for numbers [Lo, Lo+N) of those that a query left at the coordinator, once its result is
// ready. They stay till the query is closed. Reply: ValuesReply.
type Values struct {
	Run   string  `msgpack:"run"`
	Epoch Epoch   `msgpack:"epoch"`
	Query QueryID `msgpack:"query"`
	Lo    int64   `msgpack:"lo"`
	N     int64   `msgpack:"n"`
}

// ValuesReply has numbers [Lo, Lo+N) of a query: those that were asked for, or the first of them.
// Payload: N × float64.
type ValuesReply struct {
	Lo      int64  `msgpack:"lo"`
	N       int64  `msgpack:"n"`
	Payload []byte `msgpack:"-"`
}

// Validate implements Message.
func (m *Values) Validate() error {
	return cmp.Or(CheckName("run", m.Run), checkEpoch(m.Epoch), checkNumbers(m.Lo, m.N))
}

// Validate implements Message.
func (m *ValuesReply) Validate() error {
	return cmp.Or(checkNumbers(m.Lo, m.N), checkLen(m.Payload, 8*m.N))
}

// checkNumbers checks a page of a query's numbers.
func checkNumbers(lo, n int64) error {
	return cmp.Or(checkWithin("n", n, 1, MaxValuesReply), checkWithin("lo", lo, 0, MaxValues-n))
}

// Type implements Message.
func (*Values) Type() string      { return OpValues }
func (*ValuesReply) Type() string { return "values.reply" }

// Body implements Bulk.
func (m *ValuesReply) Body() *[]byte { return &m.Payload }

var (
	_ = register(func() Message { return new(Values) })
	_ = register(func() Message { return new(ValuesReply) })
)

// checkResult64 checks the result's dtype of a query whose answer is numbers.
func checkResult64(t DType) error {
	if t != F64 {
		return Invalid("result", t, "f64, what numbers are sent in")
	}
	return nil
}
