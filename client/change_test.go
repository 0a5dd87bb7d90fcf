package client

import (
	"errors"
	"testing"
	"time"

	"mfac/wire"
)

// A change is asked for with one token until it is told to be done.
func TestChangeIsAskedUntilDone(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(dim, WithTryTimeout(20*time.Millisecond))
	for _, op := range []string{wire.OpForget, wire.OpSet, wire.OpFreeze} {
		tokens := map[uint64]int{}
		tries := 0
		f.on(func(got, _ string, m wire.Message) (wire.Message, bool) {
			if got != op {
				return nil, false
			}
			switch m := m.(type) {
			case *wire.Forget:
				tokens[m.Token]++
			case *wire.Set:
				tokens[m.Token]++
			case *wire.Freeze:
				tokens[m.Token]++
			}
			switch tries++; tries {
			case 1:
				return nil, true // silence
			case 2:
				return &wire.Error{Code: wire.CodeBusy}, true
			case 3:
				return &wire.WaitReply{State: wire.StatePending}, true
			case 4:
				return &wire.Error{Code: wire.CodeUnavailable}, true
			}
			return &wire.WaitReply{State: wire.StateCommitted, Version: 7, Rows: 3}, true
		})
		var done Commit
		var err error
		switch op {
		case wire.OpForget:
			done, err = r.Forget(t.Context(), 4, 5)
		case wire.OpSet:
			done, err = r.Set(t.Context(), 0.5, wire.Count)
		case wire.OpFreeze:
			done, err = r.Freeze(t.Context())
		}
		if err != nil || done != (Commit{Version: 7, Rows: 3}) {
			t.Errorf("%s: %+v, %v", op, done, err)
		}
		if len(tokens) != 1 || tries != 5 {
			t.Errorf("%s: %d tries under %d tokens", op, tries, len(tokens))
		}
	}
}

// What is wrong in itself asks nobody; a refusal is told at once.
func TestChangeRefused(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(dim)
	for what, change := range map[string]func() error{
		"no steps":         func() error { _, err := r.Forget(t.Context()); return err },
		"one step twice":   func() error { _, err := r.Forget(t.Context(), 3, 3); return err },
		"too many":         func() error { _, err := r.Forget(t.Context(), make([]wire.Step, wire.MaxWindow+1)...); return err },
		"nothing to set":   func() error { _, err := r.Set(t.Context(), 0, ""); return err },
		"negative damping": func() error { _, err := r.Set(t.Context(), -1, ""); return err },
		"overflow":         func() error { _, err := r.Set(t.Context(), 1.7e308, ""); return err },
		"divisor":          func() error { _, err := r.Set(t.Context(), 0, "n"); return err },
	} {
		if err := change(); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := f.count(wire.OpForget) + f.count(wire.OpSet); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	f.on(func(got, _ string, _ wire.Message) (wire.Message, bool) {
		return wire.Errorf(wire.CodeUnknownStep, "step", 9, "in the window"), got == wire.OpForget
	})
	if _, err := r.Forget(t.Context(), 9); !errors.Is(err, wire.ErrUnknownStep) || f.count(wire.OpForget) != 1 {
		t.Errorf("%v after %d requests", err, f.count(wire.OpForget))
	}
}
