package shard

import "math/bits"

// A Mask is a set of slots: bit t mod 8 of byte t/8 stands for slot t, so that a byte is a
// panel. Its length is ⌈slots/8⌉ and bits past the last slot are 0. Reading a slot that is
// not in the mask never happens: it may hold anything, or be written at the same time.
type Mask []byte

// NewMask returns the empty set of slots slots.
func NewMask(slots int) Mask { return make(Mask, (slots+7)/8) }

// FullMask returns the set of all slots [0, slots).
func FullMask(slots int) Mask {
	m := NewMask(slots)
	for t := range slots {
		m.Set(t)
	}
	return m
}

// MaskOf returns the set of the slots listed, of slots slots.
func MaskOf(slots int, list ...int) Mask {
	m := NewMask(slots)
	for _, t := range list {
		m.Set(t)
	}
	return m
}

// Set adds slot t.
func (m Mask) Set(t int) { m[t/8] |= 1 << (t % 8) }

// Clear removes slot t.
func (m Mask) Clear(t int) { m[t/8] &^= 1 << (t % 8) }

// Has tells whether slot t is in the set.
func (m Mask) Has(t int) bool { return m[t/8]>>(t%8)&1 != 0 }

// Count is the number of slots in the set.
func (m Mask) Count() int {
	n := 0
	for _, b := range m {
		n += bits.OnesCount8(b)
	}
	return n
}
