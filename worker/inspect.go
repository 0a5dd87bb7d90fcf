package worker

import (
	"mfac/shard"
	"mfac/wire"
)

// Inspection is a core as it stands, for checks. Nothing in it is shared with the core.
type Inspection struct {
	Used     int64 // bytes
	InFlight int64 // bytes
	Parked   int   // chunks that wait for their step or query
	Jobs     int   // under way
	Shards   []InspectedShard
}

// InspectedShard is a shard as a worker holds it.
type InspectedShard struct {
	Key       ShardKey
	UID       uint64
	Placed    uint64
	Adopted   wire.Epoch
	Installed bool
	Bytes     int64
	Version   wire.Version
	Live      []wire.Row           // by slot
	Labels    map[wire.Slot]string // of rows and staged steps that have one
	Staged    []wire.Staged
	Queries   []InspectedQuery
}

// InspectedQuery is a query as a shard has it.
type InspectedQuery struct {
	ID    wire.QueryID
	Mask  shard.Mask
	Bytes int64 // of its vectors
}

// Inspect tells how the core stands.
func (c *Core) Inspect() Inspection {
	in := Inspection{Used: c.used, InFlight: c.flow.inflight, Parked: len(c.parked), Jobs: len(c.jobs)}
	for _, name := range sortedKeys(c.runs) {
		for _, i := range sortedKeys(c.runs[name].shards) {
			in.Shards = append(in.Shards, *c.InspectShard(name, i))
		}
	}
	return in
}

// InspectShard tells how a shard stands; nil where the worker doesn't hold it.
func (c *Core) InspectShard(runName string, index int) *InspectedShard {
	r := c.runs[runName]
	if r == nil || r.shards[index] == nil {
		return nil
	}
	s := r.shards[index]
	out := &InspectedShard{
		Key: ShardKey{runName, index}, UID: r.uid, Placed: s.placed, Adopted: s.adopted, Installed: s.installed,
		Bytes: s.bytes, Version: s.version, Live: s.rows(),
	}
	out.Labels = map[wire.Slot]string{}
	for slot, label := range s.labels {
		out.Labels[slot] = label
	}
	for _, step := range sortedKeys(s.staged) {
		st := s.staged[step]
		if st.label != "" {
			out.Labels[st.slot] = st.label
		}
		out.Staged = append(out.Staged, wire.Staged{Slot: st.slot, Step: st.step, Attempt: st.attempt, Token: st.token, Whole: st.whole(), Weight: st.weight})
	}
	for _, id := range sortedKeys(s.queries) {
		q := s.queries[id]
		out.Queries = append(out.Queries, InspectedQuery{id, append(shard.Mask(nil), q.mask...), q.vecBytes})
	}
	return out
}
