package wire

import "fmt"

// This file: what the messages between the coordinator and workers are checked for.

// maxSlots is the most slots of any run.
const maxSlots = MaxWindow + MaxSpare

// Validate implements Message.
func (m *Adopt) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	if m.Slots < 2 || m.Slots > maxSlots {
		return Invalid("slots", m.Slots, "in [2, "+itoa(maxSlots)+"]")
	}
	if m.Store != F32 {
		return Invalid("store", m.Store, "f32")
	}
	return CheckRange(m.Lo, m.Cols, MaxDim)
}

func (m *Adopted) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	return checkRows(m.Payload)
}

func (m *Install) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	return checkRows(m.Payload)
}

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

func (m *Multiply) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	_, err := SlotList(m.Payload)
	return err
}

func (m *Products) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	if len(m.Payload)%productBytes != 0 {
		return Invalid("payload bytes", len(m.Payload), "a multiple of "+itoa(productBytes))
	}
	return nil
}

func (m *Stage) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	if m.Slot < 0 || m.Slot >= maxSlots {
		return Invalid("slot", m.Slot, "in [0, "+itoa(maxSlots)+")")
	}
	return nil
}

func (m *Commit) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	if m.Slot < 0 || m.Slot >= maxSlots || m.EvictSlot < 0 || m.EvictSlot >= maxSlots {
		return Invalid("slot", m.Slot, "in [0, "+itoa(maxSlots)+")")
	}
	if m.Query == 0 {
		return checkLen(m.Payload, 0)
	}
	if m.Result.Size() == 0 {
		return Invalid("result", m.Result, "f32 or f64")
	}
	return checkFloats(m.Payload)
}

func (m *Prepare) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	if m.Vectors < 1 || m.Vectors > MaxVectors {
		return Invalid("vectors", m.Vectors, "in [1, "+itoa(MaxVectors)+"]")
	}
	if m.DType.Size() == 0 {
		return Invalid("dtype", m.DType, "f32 or f64")
	}
	return checkMask(m.Mask)
}

func (m *Coef) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	if m.Vectors < 1 || m.Vectors > MaxVectors {
		return Invalid("vectors", m.Vectors, "in [1, "+itoa(MaxVectors)+"]")
	}
	if m.Result.Size() == 0 {
		return Invalid("result", m.Result, "f32 or f64")
	}
	switch m.Kind {
	case KindVector:
		if err := CheckDamping("damping", m.Damping); err != nil {
			return err
		}
	case KindCombine:
	case KindRow:
		if len(m.Payload) != 0 {
			return checkLen(m.Payload, 0)
		}
	default:
		return Invalid("kind", m.Kind, "vector, combine or row")
	}
	if err := checkMask(m.Mask); err != nil {
		return err
	}
	return checkFloats(m.Payload)
}

func (m *Numbers) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	if m.Count < 0 || m.Count > MaxPayload/8 {
		return Invalid("count", m.Count, "in [0, "+itoa(MaxPayload/8)+"]")
	}
	return checkLen(m.Payload, 8*int64(m.Count))
}

func (m *Hello) Validate() error {
	if err := CheckName("worker", m.Worker); err != nil {
		return err
	}
	if len(m.Held) > MaxHeld {
		return Invalid("held", len(m.Held), "at most "+itoa(MaxHeld))
	}
	if m.Capacity < 0 || m.Used < 0 {
		return Invalid("capacity", m.Capacity, ">= 0")
	}
	return nil
}

func checkMask(mask []byte) error {
	if len(mask) > (maxSlots+7)/8 {
		return Invalid("mask bytes", len(mask), "at most "+itoa((maxSlots+7)/8))
	}
	return nil
}

func checkFloats(p []byte) error {
	if len(p)%8 != 0 {
		return Invalid("payload bytes", len(p), "a multiple of 8")
	}
	return nil
}

func checkRows(p []byte) error {
	if len(p)%rowBytes != 0 {
		return Invalid("payload bytes", len(p), "a multiple of "+itoa(rowBytes))
	}
	for _, r := range Rows(p) {
		if r.Slot < 0 || r.Slot >= MaxWindow+MaxSpare {
			return Invalid("slot", r.Slot, "in [0, "+itoa(MaxWindow+MaxSpare)+")")
		}
	}
	return nil
}
