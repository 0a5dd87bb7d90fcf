package sim

import (
	"mfac/coordinator"
	"mfac/wire"
)

// lease is who owns the run, until it ends.
type lease struct {
	owner    string
	revision uint64 // of its last write
	ends     ms
}

// kv is the cluster's store: the bucket of runs with its one record, and the bucket of leases.
// Asking it takes time, and its answer can be lost after it has done what was asked.
type kv struct {
	w           *world
	incarnation uint64
	revision    uint64 // of the bucket of leases
	lease       *lease
	record      coordinator.Record
	recordRev   uint64
	epochs      map[wire.Epoch]bool // that were given out
	asked, done uint64              // how often; the last asked of those done
}

const leaseTTL ms = 4000

func newKV(w *world) *kv {
	k := &kv{w: w, incarnation: 1 + w.rng.Uint64()>>1, recordRev: 1, epochs: map[wire.Epoch]bool{}}
	s := w.shape
	borders := make([]int64, s.shards)
	for i := range borders {
		borders[i] = int64(i) * s.dim / int64(s.shards)
	}
	k.record = coordinator.Record{
		Format: 1, UID: w.rng.Uint64(), Lo: borders, Placed: make([]coordinator.Place, s.shards),
		Spec: wire.RunSpec{
			Name: runName, Dim: s.dim, Window: s.window, Spare: s.spare, Shards: s.shards, Damping: s.damping,
			Divisor: wire.Capacity, Store: s.store, Durability: wire.DurabilityMemory, HalfLife: s.halfLife(), Blocks: s.blocks(),
		},
	}
	if err := k.record.Spec.Validate(); err != nil {
		panic(err)
	}
	return k
}

const runName = "run"

// ask has the KV do something for a node, and tells it when it is done. ok false: no answer came.
func (k *kv) ask(from, phase string, do func(), then func(ok bool)) {
	w := k.w
	there, back := w.between(1, 8), w.between(1, 8)
	lost, lostReply, delayed := false, false, false
	k.asked++
	asked := k.asked
	if w.bus.hurtful {
		if w.chance(0.03) {
			there, delayed = w.between(50, 1500), true
		}
		lost, lostReply = w.chance(w.shape.loss), w.chance(w.shape.loss)
	}
	w.after(there, func() {
		if w.bus.hurtful {
			w.faults.before(packet{from: from, to: "kv", phase: phase})
		}
		if lost || w.bus.cut[[2]string{from, "kv"}] {
			if lost {
				w.coverage.count("loss", phase)
			} else {
				w.coverage.count("partition", phase)
			}
			w.after(2000, func() { then(false) })
			return
		}
		if delayed {
			w.coverage.count("delay", phase)
		}
		if lostReply {
			w.coverage.count("loss", phase)
		}
		if asked < k.done { // overtaken, by another of this node or by another node
			w.coverage.count("reorder", phase)
		}
		k.done = max(k.done, asked)
		do()
		if w.bus.hurtful {
			w.faults.after(packet{from: from, to: "kv", phase: phase})
		}
		if lostReply {
			back = 2000
		}
		w.after(back, func() { then(!lostReply) })
	})
}

// epoch is a new write of the lease.
func (k *kv) write(owner string) uint64 {
	k.revision++
	k.lease = &lease{owner, k.revision, k.w.now + leaseTTL}
	return k.revision
}

func (k *kv) held() bool { return k.lease != nil && k.lease.ends > k.w.now }

// take makes the lease owner's, where nobody or the same name has it.
func (k *kv) take(owner string) (wire.Epoch, bool) {
	if k.held() && k.lease.owner != owner {
		return wire.Epoch{}, false
	}
	e := wire.Epoch{Incarnation: k.incarnation, Revision: k.write(owner)}
	if k.epochs[e] {
		k.w.fail("the simulator gives out epoch %v twice", e)
	}
	k.epochs[e] = true
	return e, true
}

// renew writes the lease again, where its revision is still the one given.
func (k *kv) renew(owner string, e wire.Epoch, revision uint64) (uint64, bool) {
	if !k.held() || k.lease.owner != owner || k.lease.revision != revision || k.incarnation != e.Incarnation {
		return 0, false
	}
	return k.write(owner), true
}

// anew makes the bucket of leases again: another incarnation, revisions from 1.
func (k *kv) anew() {
	k.incarnation, k.revision, k.lease = k.w.rng.Uint64()|1, 0, nil
}

// save writes the record by compare-and-set.
func (k *kv) save(rec coordinator.Record, expected uint64) (uint64, bool) {
	if k.recordRev != expected {
		return 0, false
	}
	p, err := rec.Encode()
	if err != nil {
		k.w.fail("record: %v", err)
	}
	old := k.record
	if k.record, err = coordinator.DecodeRecord(p); err != nil {
		k.w.fail("record: %v", err)
	}
	k.w.check.places(old, k.record)
	k.recordRev++
	return k.recordRev, true
}
