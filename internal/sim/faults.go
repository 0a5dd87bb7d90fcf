package sim

import (
	"fmt"
	"runtime/debug"
	"strings"

	"mfac/coordinator"
)

// Faults and phases of the table.
var (
	faultNames = []string{"loss", "duplicate", "reorder", "delay", "partition", "worker crash", "coordinator crash", "two owners", "bucket anew"}
	phaseNames = []string{
		"info", "open", "chunk", "stage", "commit", "wait", "drop", "query", "prepare", "vec", "coef", "norms", "prune", "fetch", "close",
		"change", "evict", "freeze", "adopt", "install", "gram", "release", "hello", "lease", "record", "incarnation",
	}
)

// rare are phases of few packets, which faults are drawn for more often, the rarest most.
var rare = []string{"release", "release", "release", "incarnation", "drop", "drop", "norms", "prune", "gram"}

// impossible says why a cell of the table stays empty.
func impossible(fault, phase string) string {
	kv := phase == "lease" || phase == "record" || phase == "incarnation"
	switch {
	case kv && fault == "duplicate":
		return "a write of the KV is compare-and-set: its second copy does nothing"
	}
	return ""
}

// Coverage counts faults by phase.
type Coverage map[[2]string]int

func (c Coverage) count(fault, phase string) { c[[2]string{fault, phase}]++ }

// Add adds another seed's.
func (c Coverage) Add(o Coverage) {
	for cell, n := range o {
		c[cell] += n
	}
}

// Empty lists the cells that could have been hit and were not.
func (c Coverage) Empty() []string {
	var out []string
	for _, p := range phaseNames {
		for _, f := range faultNames {
			if c[[2]string{f, p}] == 0 && impossible(f, p) == "" {
				out = append(out, f+" × "+p)
			}
		}
	}
	return out
}

// String is the table.
func (c Coverage) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s", "")
	for _, f := range faultNames {
		fmt.Fprintf(&b, "%18s", f)
	}
	notes := map[string]bool{}
	for _, p := range phaseNames {
		fmt.Fprintf(&b, "\n%-12s", p)
		for _, f := range faultNames {
			if why := impossible(f, p); why != "" {
				notes[why] = true
				fmt.Fprintf(&b, "%18s", "—")
				continue
			}
			fmt.Fprintf(&b, "%18d", c[[2]string{f, p}])
		}
	}
	for why := range notes {
		fmt.Fprintf(&b, "\n— %s", why)
	}
	return b.String()
}

// faults makes things go wrong.
type faults struct {
	w     *world
	over  bool
	armed *trigger
	alone *alone
}

// alone is an owner that was cut off from the lease at a phase: the fault is felt when another owns the run
// beside it.
type alone struct {
	node  *coordinatorNode
	core  *coordinator.Core
	phase string
}

// trigger is a fault that waits for a packet of a phase.
type trigger struct {
	fault, phase string
	skip         int  // packets of the phase
	after        bool // it has been taken
}

func (f *faults) begin(w *world) {
	f.w = w
	w.bus.hurtful = true
	f.plan()
	// Whatever else happens, each side crashes once.
	w.after(w.between(w.shape.quiet/4, 3*w.shape.quiet/4), func() { w.workers[w.rng.IntN(len(w.workers))].crash() })
	w.after(w.between(w.shape.quiet/4, 3*w.shape.quiet/4), func() {
		if n := f.owner(packet{}); n != nil {
			n.crash()
			return
		}
		w.coordinators[w.rng.IntN(len(w.coordinators))].crash()
	})
}

// end heals everything.
func (f *faults) end() {
	w := f.w
	f.over, f.armed = true, nil
	w.bus.hurtful = false
	clear(w.bus.cut)
}

// plan arms the next fault.
func (f *faults) plan() {
	w := f.w
	w.after(w.between(200, 4000), func() {
		if f.over {
			return
		}
		if r := w.rng.Float64(); r < 0.22 {
			f.partition()
		} else if r < 0.27 {
			w.bus.replay(w.workers[w.rng.IntN(len(w.workers))].name)
		} else {
			fault := "worker crash"
			switch {
			case r < 0.45:
				fault = "coordinator crash"
			case r < 0.70 && len(w.coordinators) > 1:
				fault = "two owners"
			case r < 0.76:
				fault = "bucket anew"
			}
			phase, skip := phaseNames[w.rng.IntN(len(phaseNames))], w.rng.IntN(4)
			if w.chance(0.25) {
				phase, skip = rare[w.rng.IntN(len(rare))], 0
			}
			if phase == "release" && len(w.coordinators) > 1 && w.chance(0.5) {
				fault = "two owners" // of which few are felt
			}
			f.armed = &trigger{fault, phase, skip, w.chance(0.5)}
		}
		f.plan()
	})
}

// before and after look at each packet for the one that the trigger waits for.
func (f *faults) before(p packet) { f.look(p, false) }
func (f *faults) after(p packet)  { f.look(p, true) }

func (f *faults) look(p packet, after bool) {
	t := f.armed
	if t == nil || f.over || t.after != after || t.phase != p.phase {
		return
	}
	if t.skip--; t.skip >= 0 {
		return
	}
	if f.strike(t.fault, p) { // else it waits for the next packet
		f.armed = nil
		f.w.logf("FAULT %s at %s (%s→%s)", t.fault, t.phase, p.from, p.to)
		if t.fault != "two owners" {
			f.w.coverage.count(t.fault, t.phase)
		}
	}
}

// owner is a coordinator that is up and believes that it owns the run, that of the packet first, if
// there is one.
func (f *faults) owner(p packet) *coordinatorNode {
	for _, name := range []string{p.from, p.to} {
		if n, ok := f.w.bus.nodes[name].(*coordinatorNode); ok && n.core != nil && !n.paused {
			return n
		}
	}
	for _, n := range f.w.coordinators {
		if n.core != nil && !n.paused {
			return n
		}
	}
	return nil
}

// begins counts two owners, if there are.
func (f *faults) begins(n *coordinatorNode) {
	if a := f.alone; a != nil && a.node != n && a.node.core == a.core {
		f.w.coverage.count("two owners", a.phase)
		f.alone = nil
	}
}

// strike reports whether there was somebody to strike.
func (f *faults) strike(fault string, p packet) bool {
	w := f.w
	switch fault {
	case "worker crash":
		n := w.workers[w.rng.IntN(len(w.workers))]
		for _, name := range []string{p.from, p.to} {
			if m, ok := w.bus.nodes[name].(*workerNode); ok {
				n = m
			}
		}
		if !n.up {
			return false
		}
		n.crash()
		if w.chance(0.05) {
			for _, n := range w.workers {
				n.crash()
			}
		}
	case "coordinator crash":
		n := f.owner(p)
		if n == nil {
			return false
		}
		n.crash()
	case "two owners":
		n := f.owner(p)
		if n == nil {
			return false
		}
		f.alone = &alone{n, n.core, p.phase}
		if w.shape.lazy && w.chance(0.5) {
			f.cut([]string{n.name}, []string{"kv"}, w.between(leaseTTL, 2*leaseTTL))
		} else {
			n.pause(w.between(leaseTTL, 2*leaseTTL))
		}
	case "bucket anew":
		w.kv.anew()
	}
	return true
}

// partition cuts some nodes off from others for a time.
func (f *faults) partition() {
	w := f.w
	var names []string
	for _, n := range w.workers {
		names = append(names, n.name)
	}
	for _, n := range w.coordinators {
		names = append(names, n.name)
	}
	for _, c := range w.clients {
		names = append(names, c.name)
	}
	names = append(names, "kv")
	w.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	k := 1 + w.rng.IntN(2)
	f.cut(names[:k], names[k:], w.between(300, 5000))
}

func (f *faults) cut(a, b []string, d ms) {
	w := f.w
	w.logf("PARTITION of %v from %v for %d ms", a, b, d)
	oneWay := w.chance(0.2)
	var cells [][2]string
	for _, x := range a {
		for _, y := range b {
			cells = append(cells, [2]string{x, y})
			if !oneWay {
				cells = append(cells, [2]string{y, x})
			}
		}
	}
	for _, c := range cells {
		w.bus.cut[c] = true
	}
	w.after(d, func() {
		for _, c := range cells {
			delete(w.bus.cut, c)
		}
	})
}

func stackOf() string { return "\n" + string(debug.Stack()) }

func describePanic(p any) string {
	if e, ok := p.(error); ok {
		return e.Error() + "\n"
	}
	return fmt.Sprint(p) + "\n"
}
