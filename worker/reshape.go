package worker

import (
	"cmp"
	"fmt"
	"slices"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/wire"
)

// This file: a shard that gets another number of slots. The owner has all shards make ready (Reshape),
// writes the record, and adopts them anew; only then are rows moved. An owner that has not come so far is
// followed by one that adopts the slots that are there.

// reshaped is what a shard is ready to become.
type reshaped struct {
	slots   int
	version wire.Version
	rows    []wire.Row // by their new slots
	bytes   int64
}

// reshape makes ready. Asked twice it is answered alike.
func (c *Core) reshape(s *shardState, m *wire.Reshape) error {
	rows := wire.Rows(m.Payload)
	if n := s.next; n != nil && n.slots == m.Slots && n.version == m.Version && slices.Equal(n.rows, rows) {
		return nil
	}
	c.stay(s)
	if m.Slots == s.slots {
		return nil
	}
	if s.version+1 != m.Version {
		return wire.Errorf(wire.CodeConflict, "version", m.Version, fmt.Sprint(s.version+1))
	}
	for _, r := range rows {
		if _, ok := s.slotOf(r); !ok {
			return wire.Errorf(wire.CodeConflict, "step", r.Step, "in the window")
		}
	}
	bytes, err := shard.Bytes(shard.Config{Slots: m.Slots, Cols: s.cols, DType: dtype.Of(s.store)})
	if err != nil {
		we := asWire(err)
		we.Code = wire.CodeTooLarge
		return we
	}
	if more, free := bytes-s.bytes, c.cfg.Capacity-c.used; more > max(free, 0) {
		return wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes for shard %d of %s, %d more than it has", bytes, s.index, s.run, more),
			fmt.Sprintf("at most the %d bytes more that are free on worker %s", free, c.cfg.ID))
	}
	slices.SortFunc(rows, func(a, b wire.Row) int { return cmp.Compare(a.Slot, b.Slot) })
	s.next = &reshaped{m.Slots, m.Version, rows, bytes}
	c.take(s, max(s.bytes, bytes))
	return nil
}

// slotOf is where the row of an attempt is.
func (s *shardState) slotOf(r wire.Row) (wire.Slot, bool) {
	i := slices.IndexFunc(s.bySlot, func(o wire.Row) bool { return o.Step == r.Step && o.Attempt == r.Attempt && o.Weight == r.Weight })
	if i < 0 {
		return 0, false
	}
	return s.bySlot[i].Slot, true
}

// take accounts for another amount of memory of a shard's rows.
func (c *Core) take(s *shardState, bytes int64) {
	c.used += bytes - s.bytes
	s.bytes = bytes
}

// stay forgets what a shard was to become.
func (c *Core) stay(s *shardState) {
	if s.next == nil {
		return
	}
	s.next = nil
	bytes, _ := shard.Bytes(shard.Config{Slots: s.slots, Cols: s.cols, DType: dtype.Of(s.store)}) // as when it was made
	c.take(s, bytes)
}

// become makes a shard what it is ready to become: what was staged and asked ends, the rows get their new
// slots, those that are not among them are gone. Adopt is answered when the memory is as it is told.
func (c *Core) become(e *Effects, s *shardState) {
	n := s.next
	for _, id := range sortedKeys(s.queries) {
		c.dropQuery(e, s, s.queries[id])
	}
	for _, step := range sortedKeys(s.staged) {
		c.unstage(e, s, s.staged[step])
	}
	op := Reshape{Config: configOf(n.slots, s.lo, s.cols, s.store, s.scales)}
	labels := map[wire.Slot]string{}
	filled := map[wire.Slot]bool{}
	for _, r := range n.rows {
		from, _ := s.slotOf(r)
		op.From, op.To = append(op.From, int(from)), append(op.To, int(r.Slot))
		filled[r.Slot] = true
		if l, ok := s.labels[from]; ok {
			labels[r.Slot] = l
		}
	}
	s.slots, s.version, s.bySlot, s.filled, s.labels = n.slots, n.version, n.rows, filled, labels
	s.reserved, s.staged, s.next, s.erasing = map[wire.Slot]wire.Attempt{}, map[wire.Step]*staged{}, nil, nil
	s.ready = false
	c.job(e, s, op, nil, func(e *Effects, d Done) {
		if !s.gone && d.Err == nil {
			c.take(s, n.bytes)
		}
		c.allocated(e, s, d)
	})
}

// Reshape moves the rows of the slots From to the slots To of memory of another shape, and gives the old
// memory back as it goes, tile by tile.
type Reshape struct {
	Config   shard.Config
	From, To []int
}

func (Reshape) use() use { return use{track: rowTrack, all: true, slot: -1} }

// releaseBytes is how much of the old memory is given back at once.
const releaseBytes = 4 << 20

func (g *Engine) reshape(n *numbersOf, key ShardKey, op Reshape) error {
	store, rows, err := g.newStore(key, op.Config)
	if err != nil {
		return err
	}
	old, oldRows, released := n.store, n.rows, int64(0)
	err = store.Take(old, op.From, op.To, func(done int64) {
		if done-released >= releaseBytes {
			oldRows.discard(released, done)
			released = done
		}
	})
	if err != nil {
		rows.free()
		return err
	}
	n.store, n.rows = store, rows
	if oldRows.keep == nil {
		clear(oldRows.bytes) // of Go's heap, where nobody zeroes it soon
	}
	oldRows.free()
	if rows.keep != nil {
		return store.Touch()
	}
	return nil
}
