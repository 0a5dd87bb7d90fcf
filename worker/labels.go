package worker

import (
	"mfac/wire"
)

// This file: labels of steps and rows. The run's owner tells the first shard alone, as a row is there
// only while every shard has it. A label is dropped with its step or its row.

// label keeps the label of the row in a slot; "" is none.
func (s *shardState) label(slot wire.Slot, label string) {
	if label == "" {
		return
	}
	if s.labels == nil {
		s.labels = map[wire.Slot]string{}
	}
	s.labels[slot] = label
}

// labelled is how many rows and staged steps have a label.
func (s *shardState) labelled() int {
	n := len(s.labels)
	for _, st := range s.staged {
		if st.label != "" {
			n++
		}
	}
	return n
}

// labelIn is the step in a slot, a row's or one that is staged, and its label.
func (s *shardState) labelIn(slot wire.Slot) (l wire.Labelled) {
	if r, ok := s.row(slot); ok {
		return wire.Labelled{Step: r.Step, Label: s.labels[slot]}
	}
	for _, st := range s.staged {
		if st.slot == slot {
			return wire.Labelled{Step: st.step, Label: st.label}
		}
	}
	return wire.Labelled{}
}

// slotLabels tells a new owner of labels.
func (c *Core) slotLabels(e *Effects, in Request, s *shardState, m *wire.SlotLabels) error {
	slots, err := wire.SlotList(m.Payload)
	if err != nil {
		return err
	}
	list := make([]wire.Labelled, len(slots))
	for i, slot := range slots {
		list[i] = s.labelIn(slot)
	}
	n := wire.LabelsFit(list)
	e.send(in.From, &wire.SlotLabelsReply{Shard: m.Shard, N: n, Payload: wire.AppendLabels(nil, list[:n])})
	return nil
}
