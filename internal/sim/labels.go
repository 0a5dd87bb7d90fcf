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
