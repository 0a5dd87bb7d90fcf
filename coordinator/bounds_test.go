package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

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

// TestFitsManyShards: a worker with more shards than a heartbeat names is not taken to have told of
// one that it has not: the memory of a shard that is placed there, and not yet made, is taken.
func TestFitsManyShards(t *testing.T) {
	const shards = 3 * wire.MaxHeld
	few := func(name string, uid uint64, worker string) Record { // 256 bytes
		return Record{Spec: wire.RunSpec{Name: name, Dim: 16, Window: 2, Spare: 2, Shards: 1}, UID: uid, Lo: []int64{0}, Placed: []Place{{worker, 1}}}
	}
	many, placed, next := few("many", 1, "w1"), few("placed", 2, "w1"), few("next", 3, "")
	many.Spec.Dim, many.Spec.Shards, many.Lo, many.Placed = 16*shards, shards, nil, nil
	var all []wire.Held
	for i := range shards {
		many.Lo, many.Placed = append(many.Lo, 16*int64(i)), append(many.Placed, Place{"w1", 1})
		all = append(all, wire.Held{Run: "many", UID: 1, Shard: i, Placed: 1})
	}
	var w heard
	const used = 256 * shards
	hello := wire.Hello{Worker: "w1", Instance: 1, Capacity: used + 300, Used: used, Shards: shards}
	began := time.Now().Add(-20 * helloEvery)
	fits := func() error {
		s := &Service{cfg: ServiceConfig{Silent: time.Hour}, workers: map[string]heard{"w1": w}, records: map[string]Record{"many": many, "placed": placed}}
		return s.fits(&next)
	}
	hello.Held = all[:wire.MaxHeld]
	w.hear(hello, time.Now())
	if err := fits(); err != nil { // it can't have named all yet
		t.Errorf("after one heartbeat: %v", err)
	}
	w = heard{}
	for i := range 20 {
		first := i * wire.MaxHeld % shards
		hello.Held = all[first : first+wire.MaxHeld]
		w.hear(hello, began.Add(time.Duration(i)*helloEvery))
	}
	if err := fits(); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("beside a run that is placed: %v", err)
	}
	hello.Held = append(slices.Clone(hello.Held[1:]), wire.Held{Run: "placed", UID: 2, Shard: 0, Placed: 1})
	hello.Shards, hello.Used, hello.Capacity = shards+1, hello.Used+256, hello.Capacity+256
	w.hear(hello, time.Now())
	if err := fits(); err != nil {
		t.Errorf("beside a run that is made: %v", err)
	}
	if len(w.told) != shards+1 {
		t.Errorf("the worker has told of %d shards, want %d", len(w.told), shards+1)
	}
}
