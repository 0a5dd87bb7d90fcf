package worker

import "mfac/wire"

// Limits of parking.
const (
	parkMS     = 250
	mostParked = 256
)

// parked is a chunk that came before its step or query was opened here. The coordinator's message
// and the client's come by different ways, so this happens; the chunk waits a moment rather than
// be sent twice.
type parked struct {
	in    Request
	bytes int64
	until int64 // tick
}

// park keeps a chunk for a moment, if there is room; err is what its sender hears in the end.
func (c *Core) park(in Request, bytes int64, err error) error {
	if in.parked || len(c.parked) >= mostParked || c.flow.inflight+bytes > c.flow.budget/2 {
		return err
	}
	in.parked = true
	c.flow.inflight += bytes
	c.parked = append(c.parked, parked{in, bytes, c.tick + max(1, parkMS/c.cfg.TickMS)})
	return nil
}

// unpark takes up chunks that wait for a shard, now that something was opened there, and those
// whose time is up. What still can't be placed waits on, until its time is up.
func (c *Core) unpark(e *Effects, run string, index int) {
	waiting := c.parked
	c.parked = nil
	for _, p := range waiting {
		due := p.until <= c.tick
		if r, i := shardOf(p.in.Msg); !due && (r != run || i != index) {
			c.parked = append(c.parked, p)
			continue
		}
		c.flow.inflight -= p.bytes
		retry := p.in
		retry.parked = due // the last try
		n := len(c.parked)
		if err := c.request(e, retry); err != nil {
			c.refuse(e, p.in, err)
		}
		if len(c.parked) > n {
			c.parked[n].until = p.until
		}
	}
}

func shardOf(m wire.Message) (string, int) {
	switch m := m.(type) {
	case *wire.Chunk:
		return m.Run, m.Shard
	case *wire.Vec:
		return m.Run, m.Shard
	}
	return "", 0
}
