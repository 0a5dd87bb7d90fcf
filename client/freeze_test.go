package client

import (
	"errors"
	"slices"
	"testing"

	"mfac/wire"
)

// A freeze tells of W on its way; that the run is frozen, or that there is no room, is told at once.
func TestFreezeProgress(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(dim)
	tries := 0
	f.on(func(op, _ string, m wire.Message) (wire.Message, bool) {
		switch op {
		case wire.OpFrozen:
			return &wire.Frozen{State: wire.StateMaking, Columns: dim, Done: int64(tries)}, true
		case wire.OpFreeze:
			if m.(*wire.Freeze).Thaw {
				return &wire.WaitReply{State: wire.StateCommitted, Version: 3, Rows: 2}, true
			}
			if tries++; tries < 3 {
				return &wire.WaitReply{State: wire.StatePending}, true
			}
			return &wire.WaitReply{State: wire.StateCommitted, Version: 3, Rows: 2}, true
		}
		return nil, false
	})
	var heard []int64
	c, err := r.Freeze(t.Context(), WithProgress(func(done, total int64) {
		if heard = append(heard, done); total != dim {
			t.Errorf("%d columns, want %d", total, dim)
		}
	}))
	if err != nil || c != (Commit{Version: 3, Rows: 2}) || !slices.Equal(heard, []int64{1, 2, dim}) {
		t.Errorf("%+v, %v, heard %v", c, err, heard)
	}
	if c, err := r.Thaw(t.Context()); err != nil || c.Rows != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
		return wire.Errorf(wire.CodeTooLarge, "memory", 9, "at most 8"), op == wire.OpFreeze
	})
	before := f.count(wire.OpFreeze)
	if _, err := r.Freeze(t.Context()); !errors.Is(err, wire.ErrTooLarge) || f.count(wire.OpFreeze) != before+1 {
		t.Errorf("%v after %d requests", err, f.count(wire.OpFreeze)-before)
	}
}
