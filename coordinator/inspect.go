package coordinator

import (
	"mfac/coordinator/window"
	"mfac/shard"
	"mfac/wire"
)

// Inspection is a core as it stands, for checks. Nothing in it is shared with the core.
type Inspection struct {
	Phase      string
	Serving    bool
	Epoch      wire.Epoch
	Version    wire.Version
	Newest     wire.Step
	Committing wire.Step // 0: none
	Rows       []wire.Row
	Labels     []string // of the rows
	Record     Record
	Open       []InspectedStep
	Queries    []InspectedQuery
	Calls      int // that have not been answered
	Pinned     int // windows of earlier versions that are kept for queries
}

// InspectedStep is a step that is being published.
type InspectedStep struct {
	wire.Staged
	Dropping bool
}

// InspectedQuery is a query that pins slots.
type InspectedQuery struct {
	ID      wire.QueryID
	Version wire.Version
	Mask    shard.Mask
	Ready   bool // to be fetched
	Closing bool
	Alone   bool // answered here: no shard has it
}

var phaseNames = [...]string{"placing", "adopting", "saving", "installing", "loading", "serving", "failed", "stopped"}

// Inspect tells how the core stands.
func (c *Core) Inspect() Inspection {
	in := Inspection{
		Phase: phaseNames[c.phase], Serving: c.phase == serving, Epoch: c.epoch, Version: c.version, Newest: c.newest,
		Record: c.rec.clone(), Calls: len(c.calls),
	}
	if c.committing != nil {
		in.Committing = c.committing.step
	}
	for _, r := range c.rows {
		in.Rows, in.Labels = append(in.Rows, r.Row), append(in.Labels, r.label)
	}
	for _, o := range c.open {
		in.Open = append(in.Open, InspectedStep{wire.Staged{Slot: o.slot, Step: o.step, Attempt: o.attempt, Token: o.token, Whole: o.count() == len(c.shards), Weight: o.weight}, o.dropping})
	}
	kept := map[*window.Window]bool{}
	for _, id := range sortedKeys(c.queries) {
		q := c.queries[id]
		if q.win != nil {
			kept[q.win] = true
		}
		in.Queries = append(in.Queries, InspectedQuery{id, q.version, append(shard.Mask(nil), q.mask...), q.ready, q.closing, q.alone()})
	}
	in.Pinned = len(kept)
	return in
}

// Gram is A as the window has it, where the run is served and no commit is under way.
func (c *Core) Gram() [][]float64 {
	if c.phase != serving || c.committing != nil {
		return nil
	}
	a := make([][]float64, len(c.rows))
	for i := range a {
		a[i] = make([]float64, i+1)
		for j := range a[i] {
			a[i][j] = c.win.At(i, j)
		}
	}
	return a
}
