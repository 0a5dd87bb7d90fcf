package sim

import (
	"mfac/coordinator"
	"mfac/wire"
	"mfac/worker"
)

// labels is V13 of a window that is served.
func (k *checker) labels(n *coordinatorNode, c *coordinator.Inspection) {
	for i, r := range c.Rows {
		if p := k.attempts[r.Attempt]; c.Labels[i] != p.label {
			k.w.fail("V13 %s serves version %d with the label %q of row %v, %v has %q", n.name, c.Version, c.Labels[i], r, p, p.label)
		}
	}
}

// keptLabels is V13 of what a worker keeps.
func (k *checker) keptLabels(n *workerNode, c *worker.Inspection) {
	for i := range c.Shards {
		s := &c.Shards[i]
		if s.Key.Index > 0 {
			if len(s.Labels) > 0 {
				k.w.fail("V13 %s shard %d has the labels %v", n.name, s.Key.Index, s.Labels)
			}
			continue
		}
		of := map[wire.Slot]wire.Attempt{}
		for _, r := range s.Live {
			of[r.Slot] = r.Attempt
		}
		for _, st := range s.Staged {
			of[st.Slot] = st.Attempt
		}
		for slot := range s.Labels {
			if _, ok := of[slot]; !ok {
				k.w.fail("V13 %s keeps the label %q of slot %d, where nothing is", n.name, s.Labels[slot], slot)
			}
		}
		for slot, attempt := range of {
			if p := k.attempts[attempt]; p != nil && s.Labels[slot] != p.label { // nobody has heard of it yet
				k.w.fail("V13 %s has the label %q of attempt %d in slot %d, %v has %q", n.name, s.Labels[slot], uint64(attempt), slot, p, p.label)
			}
		}
	}
}

// labelsOf asks once for the labels of the rows that a query's numbers are of: V13, where it is told.
func (c *client) labelsOf(r *wire.QueryReply) {
	m, ok := c.owner(&wire.LabelsRequest{Run: runName, Query: r.Query}).(*wire.Labels)
	if !ok {
		return
	}
	w := c.w
	list, err := wire.LabelList(m.Payload, m.N)
	rows := w.check.window(r.Version)
	if err != nil || m.Version != r.Version || len(list) != len(rows) {
		w.fail("V13 %d labels of version %d, asked for those of query %d at version %d with %d rows: %v", m.N, m.Version, uint64(r.Query), r.Version, len(rows), err)
	}
	for i, l := range list {
		if p := w.check.attempts[rows[i].Attempt]; l.Step != p.step || l.Label != p.label {
			w.fail("V13 query %d has the label %q of step %d, %v has %q", uint64(r.Query), l.Label, l.Step, p, p.label)
		}
	}
}
