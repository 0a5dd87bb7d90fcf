package wire

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// This file: what the messages between the coordinator and workers are checked for.

// maxSlots is the most slots of any run.
const maxSlots = MaxWindow + MaxSpare

// Validate implements Message.
func (m *Adopt) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	if err := checkWithin("slots", m.Slots, 2, maxSlots); err != nil {
		return err
	}
	if _, err := m.Scales.Parse(MaxDim); err != nil {
		return err
	}
	return cmp.Or(CheckRowDType("store", m.Store), CheckRange(m.Lo, m.Cols, MaxDim))
}

// Validate implements Message.
func (m *Adopted) Validate() error {
	return cmp.Or(m.Shard.Validate(), checkStaged("staged", m.Staged), checkCount("labels", m.Labels, maxSlots), checkRows(m.Payload))
}

// Validate implements Message.
func (m *Install) Validate() error {
	return cmp.Or(m.Shard.Validate(), checkStaged("keep", m.Keep), checkRows(m.Payload))
}

func checkStaged(field string, list []Staged) error {
	if err := checkCount(field, len(list), MaxOpen); err != nil {
		return err
	}
	for _, st := range list {
		if err := cmp.Or(checkSlot("slot", st.Slot), checkWeight(st.Weight)); err != nil {
			return err
		}
	}
	return nil
}

// Validate implements Message.
func (m *Gram) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	slots, err := SlotList(m.Payload)
	if err != nil {
		return err
	}
	if m.I0 < 0 || m.I1 <= m.I0 || m.I1 > len(slots) {
		return Invalid("rows", fmt.Sprintf("[%d, %d)", m.I0, m.I1), "within [0, "+itoa(len(slots))+") and not empty")
	}
	if n := triangle(m.I1) - triangle(m.I0); 8*n > MaxPayload {
		return Errorf(CodeTooLarge, "numbers", n, "at most "+itoa(MaxPayload/8))
	}
	return nil
}

// triangle is the number of elements in the first n rows of a lower triangle.
func triangle(n int) int64 { return int64(n) * int64(n+1) / 2 }

// Validate implements Message.
func (m *Multiply) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	_, err := SlotList(m.Payload)
	return err
}

// Validate implements Message.
func (m *Products) Validate() error {
	return cmp.Or(m.Shard.Validate(), checkSlotted(m.Payload, productBytes))
}

// Validate implements Message.
func (m *Stage) Validate() error {
	return cmp.Or(m.Shard.Validate(), checkSlot("slot", m.Slot), CheckLabel("label", m.Label), checkWeight(m.Weight))
}

// Validate implements Message.
func (m *Commit) Validate() error {
	if err := cmp.Or(m.Shard.Validate(), checkSlot("slot", m.Slot), checkSlot("evict_slot", m.EvictSlot)); err != nil {
		return err
	}
	if m.Query == 0 {
		return checkLen(m.Payload, 0)
	}
	return cmp.Or(CheckDType("result", m.Result), checkCoef(m.Payload, 1))
}

// Validate implements Message.
func (m *Prepare) Validate() error {
	if err := cmp.Or(m.Shard.Validate(), checkWithin("vectors", m.Vectors, 1, MaxVectors)); err != nil {
		return err
	}
	if m.Kind != "" && !Prepared(m.Kind) {
		return Invalid("kind", m.Kind, "vector, fisher, hessian or sample")
	}
	if err := cmp.Or(CheckDType("dtype", m.DType), checkMask(m.Mask)); err != nil {
		return err
	}
	if m.Kind == KindSample {
		return checkSamples(m.First, m.Vectors)
	}
	return checkUnseeded(m.Seed, m.First)
}

// Validate implements Message.
func (m *Coef) Validate() error {
	if err := cmp.Or(m.Shard.Validate(), checkWithin("vectors", m.Vectors, 1, MaxVectors), checkMask(m.Mask), CheckDType("result", m.Result)); err != nil {
		return err
	}
	if m.Damping != 0 || m.Kind == KindVector || m.Kind == KindHessian || m.Kind == KindSample || m.Kind == KindColumn {
		if err := CheckDamping("damping", m.Damping); err != nil {
			return err
		}
	}
	switch m.Kind {
	case KindVector, KindCombine, KindFisher, KindHessian, KindSample:
		return checkCoef(m.Payload, m.Vectors)
	case KindColumn:
		n := len(m.Payload) - 8*m.Vectors
		if n < 0 {
			return Invalid("payload bytes", len(m.Payload), "coefficients and "+itoa(m.Vectors)+" indices")
		}
		return cmp.Or(checkCoef(m.Payload[:n], m.Vectors), checkIndices(m.Payload[n:], m.Vectors, m.Vectors))
	case KindRow:
		if m.Vectors != 1 {
			return Invalid("vectors", m.Vectors, "1 for a row")
		}
		rows := 0
		for _, b := range m.Mask {
			rows += bits.OnesCount8(b)
		}
		if rows != 1 {
			return Invalid("mask", itoa(rows)+" slots", "one slot for a row")
		}
		return checkLen(m.Payload, 0)
	}
	return Invalid("kind", m.Kind, "one of the protocol's kinds of query")
}

// Validate implements Message.
func (m *Numbers) Validate() error {
	return cmp.Or(m.Shard.Validate(), checkCount("count", m.Count, MaxPayload/8), checkLen(m.Payload, 8*int64(m.Count)))
}

// Validate implements Message.
func (m *Hello) Validate() error {
	if err := cmp.Or(
		CheckName("worker", m.Worker),
		checkWithin("capacity", m.Capacity, 0, math.MaxInt64),
		checkWithin("used", m.Used, 0, math.MaxInt64),
		checkCount("shards", m.Shards, math.MaxInt32),
		checkCount("held", len(m.Held), MaxHeld),
	); err != nil {
		return err
	}
	for _, h := range m.Held {
		if err := checkShard(h.Run, h.Shard); err != nil {
			return err
		}
	}
	return nil
}

func checkMask(mask []byte) error {
	if len(mask) > (maxSlots+7)/8 {
		return Invalid("mask bytes", len(mask), "at most "+itoa((maxSlots+7)/8))
	}
	return nil
}

// checkCoef checks coefficients: so many vectors of a number for each slot, all finite.
func checkCoef(p []byte, vectors int) error {
	if len(p) == 0 || len(p)%(8*vectors) != 0 || len(p) > 8*vectors*maxSlots {
		return Invalid("payload bytes", len(p), "a multiple of "+itoa(8*vectors)+" up to "+itoa(8*vectors*maxSlots))
	}
	return checkFinite("coefficients", p)
}

func checkRows(p []byte) error {
	if err := checkSlotted(p, rowBytes); err != nil {
		return err
	}
	for ; len(p) > 0; p = p[rowBytes:] {
		if err := checkWeight(math.Float64frombits(binary.LittleEndian.Uint64(p[rowBytes-8:]))); err != nil {
			return err
		}
	}
	return nil
}

// checkSlotted checks a list of records that start with a slot, no slot twice.
func checkSlotted(p []byte, size int) error {
	if len(p)%size != 0 || len(p) > maxSlots*size {
		return Invalid("payload bytes", len(p), "a multiple of "+itoa(size)+" up to "+itoa(maxSlots*size))
	}
	var seen [(maxSlots + 63) / 64]uint64
	for ; len(p) > 0; p = p[size:] {
		slot := Slot(binary.LittleEndian.Uint32(p))
		if err := checkSlot("slot", slot); err != nil {
			return err
		}
		if seen[slot/64]>>(slot%64)&1 != 0 {
			return Invalid("slot", slot, "named once")
		}
		seen[slot/64] |= 1 << (slot % 64)
	}
	return nil
}

func checkSlot(field string, s Slot) error { return checkWithin(field, s, 0, maxSlots-1) }
