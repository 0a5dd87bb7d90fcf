package wire

import "cmp"

// This file: changes of a run that no gradient makes: rows that are forgotten, another λ or divisor.

// Forget takes steps out of the window, all of them or none: their memory is zeroed on every shard
// before it is answered. Payload: 1 to MaxWindow × uint64, distinct. Token makes it idempotent: the
// same caller and token get the same answer. Reply: WaitReply.
type Forget struct {
	Run     string `msgpack:"run"`
	Token   uint64 `msgpack:"token"`
	Payload []byte `msgpack:"-"`
}

// Set gives a run another damping or divisor; what is left out stays. Token as in Forget. Queries
// that are open keep what they were asked at. Reply: WaitReply.
type Set struct {
	Run     string  `msgpack:"run"`
	Token   uint64  `msgpack:"token"`
	Damping float64 `msgpack:"damping,omitempty"`
	Divisor Divisor `msgpack:"divisor,omitempty"`
}

// Evict takes rows out of the window of a shard, which is at Version then, one above where it was.
// Queries that read them end, then their memory is zeroed, then it is answered. Payload: the rows
// (AppendRows). Reply: OK.
type Evict struct {
	Shard   `msgpack:",inline"`
	Version Version `msgpack:"version"`
	Payload []byte  `msgpack:"-"`
}

// Type implements Message.
func (*Forget) Type() string { return OpForget }
func (*Set) Type() string    { return OpSet }
func (*Evict) Type() string  { return OpEvict }

// Body implements Bulk.
func (m *Forget) Body() *[]byte { return &m.Payload }
func (m *Evict) Body() *[]byte  { return &m.Payload }

// Validate implements Message.
func (m *Forget) Validate() error {
	if err := CheckName("run", m.Run); err != nil {
		return err
	}
	n := len(m.Payload) / 8
	if len(m.Payload)%8 != 0 {
		return Invalid("payload bytes", len(m.Payload), "a multiple of 8")
	}
	if err := checkWithin("steps", n, 1, MaxWindow); err != nil {
		return err
	}
	seen := make(map[Step]bool, n)
	for _, s := range Uint64s[Step](m.Payload) {
		if seen[s] {
			return Invalid("step", uint64(s), "named once")
		}
		seen[s] = true
	}
	return nil
}

// Validate implements Message.
func (m *Set) Validate() error {
	if err := CheckName("run", m.Run); err != nil {
		return err
	}
	if m.Damping != 0 {
		if err := CheckDamping("damping", m.Damping); err != nil {
			return err
		}
	}
	switch m.Divisor {
	case "", Capacity, Count:
	default:
		return Invalid("divisor", m.Divisor, "capacity or count")
	}
	if m.Damping == 0 && m.Divisor == "" {
		return Invalid("changes", 0, "a damping or a divisor")
	}
	return nil
}

// Validate implements Message.
func (m *Evict) Validate() error {
	if err := cmp.Or(m.Shard.Validate(), checkRows(m.Payload)); err != nil {
		return err
	}
	if len(m.Payload) == 0 {
		return Invalid("rows", 0, "at least 1")
	}
	return nil
}

var (
	_ = register(func() Message { return new(Forget) })
	_ = register(func() Message { return new(Set) })
	_ = register(func() Message { return new(Evict) })
)
