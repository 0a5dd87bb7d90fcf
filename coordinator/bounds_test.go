package coordinator

import (
	"errors"
	"fmt"
	"testing"

	"mfac/internal/script"
	"mfac/wire"
)

// servingCore is the core of TestScripts' run, served, without rows.
func servingCore(t *testing.T) *Core {
	p := &player{t: t}
	p.serving(&script.Cmd{Name: "serving"})
	return p.core
}

// TestReadersAreBounded: of those who open a step with a precondition only so many are kept.
func TestReadersAreBounded(t *testing.T) {
	c := servingCore(t)
	open := func(caller string, pre *wire.Precondition) wire.Message {
		e := c.Step(Request{From: 1, Caller: caller, Msg: &wire.Open{Run: "digits", Step: 1, Precondition: pre}})
		return e.Sends[0].Msg
	}
	pre := &wire.Precondition{Result: wire.F32}
	for i := range maxReaders {
		if err, ok := open(fmt.Sprintf("c%d", i), pre).(*wire.Error); ok {
			t.Fatalf("caller %d: %v", i, err)
		}
	}
	if err, ok := open("late", pre).(*wire.Error); !ok || !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("one more is answered %v", err)
	}
	for caller, pre := range map[string]*wire.Precondition{"c0": pre, "late": nil} { // who is one of them, and who wants no result
		if err, ok := open(caller, pre).(*wire.Error); ok {
			t.Errorf("%s: %v", caller, err)
		}
	}
}

// TestPeersAreForgotten: of workers that come and go under new names only those of the run, and
// those that were heard lately, are kept.
func TestPeersAreForgotten(t *testing.T) {
	c := servingCore(t)
	hello := func(name string) {
		c.Step(Hello{wire.Hello{Worker: name, Instance: 1}})
	}
	for i := range 1000 {
		hello(fmt.Sprintf("passing-%d", i))
	}
	for range 11 * c.ticks(c.cfg.SilentMS) {
		c.Step(Tick{})
		hello("w1")
		hello("w2")
	}
	if len(c.workers) != 2 || !c.Ready() {
		t.Errorf("%d workers are known, want the run's two", len(c.workers))
	}
}
