package wire

import "cmp"

// This file: another window for a live run.

// Resize gives a run a window of another size: the oldest rows that it has no room for leave, the others
// stay as they are. Token as in Forget. Queries and open steps end as when a run changes hands. Reply:
// WaitReply.
type Resize struct {
	Run    string `msgpack:"run"`
	Token  uint64 `msgpack:"token"`
	Window int    `msgpack:"window"`
}

// Reshape makes a shard ready for another number of slots: it reserves the memory, and keeps in mind that
// its window at Version will be the payload's rows (AppendRows), in these slots. So it becomes by the Adopt
// that names so many slots; an Install at the present number forgets it, as Reshape with that number
// does. Reply: OK.
type Reshape struct {
	Shard   `msgpack:",inline"`
	Version Version `msgpack:"version"`
	Slots   int     `msgpack:"slots"`
	Payload []byte  `msgpack:"-"`
}

// Type implements Message.
func (*Resize) Type() string  { return OpResize }
func (*Reshape) Type() string { return OpReshape }

// Body implements Bulk.
func (m *Reshape) Body() *[]byte { return &m.Payload }

// Validate implements Message.
func (m *Resize) Validate() error {
	return cmp.Or(CheckName("run", m.Run), CheckWindow("window", m.Window))
}

// CheckWindow checks a window's capacity m.
func CheckWindow(field string, m int) error { return checkWithin(field, m, 1, MaxWindow) }

// Validate implements Message.
func (m *Reshape) Validate() error {
	if err := cmp.Or(m.Shard.Validate(), checkWithin("slots", m.Slots, 2, maxSlots), checkRows(m.Payload)); err != nil {
		return err
	}
	for _, r := range Rows(m.Payload) {
		if int(r.Slot) >= m.Slots {
			return Invalid("slot", r.Slot, "below "+itoa(m.Slots))
		}
	}
	return nil
}

var (
	_ = register(func() Message { return new(Resize) })
	_ = register(func() Message { return new(Reshape) })
)
