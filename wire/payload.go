package wire

import (
	"encoding/binary"
	"math"
)

// This file: payloads of little-endian numbers.

const rowBytes = 4 + 8 + 8 + 8

// AppendRows appends rows as a payload: slot (uint32), step, attempt (uint64 each), weight (float64).
func AppendRows(p []byte, rows []Row) []byte {
	for _, r := range rows {
		p = binary.LittleEndian.AppendUint32(p, uint32(r.Slot))
		p = binary.LittleEndian.AppendUint64(p, uint64(r.Step))
		p = binary.LittleEndian.AppendUint64(p, uint64(r.Attempt))
		p = binary.LittleEndian.AppendUint64(p, math.Float64bits(r.Weight))
	}
	return p
}

// Rows reads what AppendRows wrote. The length has been validated.
func Rows(p []byte) []Row {
	rows := make([]Row, len(p)/rowBytes)
	for i := range rows {
		q := p[i*rowBytes:]
		rows[i] = Row{Slot(binary.LittleEndian.Uint32(q)), Step(binary.LittleEndian.Uint64(q[4:])), Attempt(binary.LittleEndian.Uint64(q[12:])), math.Float64frombits(binary.LittleEndian.Uint64(q[20:]))}
	}
	return rows
}

const productBytes = 4 + 8 + 8

// AppendProducts appends products as a payload.
func AppendProducts(p []byte, products []Product) []byte {
	for _, r := range products {
		p = binary.LittleEndian.AppendUint32(p, uint32(r.Slot))
		p = binary.LittleEndian.AppendUint64(p, uint64(r.Attempt))
		p = binary.LittleEndian.AppendUint64(p, math.Float64bits(r.Value))
	}
	return p
}

// ProductList reads what AppendProducts wrote. The length has been validated.
func ProductList(p []byte) []Product {
	products := make([]Product, len(p)/productBytes)
	for i := range products {
		q := p[i*productBytes:]
		products[i] = Product{Slot(binary.LittleEndian.Uint32(q)), Attempt(binary.LittleEndian.Uint64(q[4:])), math.Float64frombits(binary.LittleEndian.Uint64(q[12:]))}
	}
	return products
}

// AppendFloats appends numbers as little-endian float64.
func AppendFloats(p []byte, x []float64) []byte {
	for _, v := range x {
		p = binary.LittleEndian.AppendUint64(p, math.Float64bits(v))
	}
	return p
}

// Floats reads little-endian float64 numbers.
func Floats(p []byte) []float64 {
	x := make([]float64, len(p)/8)
	for i := range x {
		x[i] = math.Float64frombits(binary.LittleEndian.Uint64(p[8*i:]))
	}
	return x
}

// AppendUint64s appends numbers as little-endian uint64.
func AppendUint64s[T ~uint64](p []byte, x []T) []byte {
	for _, v := range x {
		p = binary.LittleEndian.AppendUint64(p, uint64(v))
	}
	return p
}

// Uint64s reads little-endian uint64 numbers.
func Uint64s[T ~uint64](p []byte) []T {
	x := make([]T, len(p)/8)
	for i := range x {
		x[i] = T(binary.LittleEndian.Uint64(p[8*i:]))
	}
	return x
}

// AppendSlots appends slots as little-endian uint32.
func AppendSlots(p []byte, slots []Slot) []byte {
	for _, s := range slots {
		p = binary.LittleEndian.AppendUint32(p, uint32(s))
	}
	return p
}

// SlotList reads what AppendSlots wrote, and checks it.
func SlotList(p []byte) ([]Slot, error) {
	if len(p)%4 != 0 || len(p) > 4*maxSlots {
		return nil, Invalid("payload bytes", len(p), "a multiple of 4, at most "+itoa(4*maxSlots))
	}
	slots := make([]Slot, len(p)/4)
	for i := range slots {
		slots[i] = Slot(binary.LittleEndian.Uint32(p[4*i:]))
		if slots[i] < 0 || slots[i] >= maxSlots {
			return nil, Invalid("slot", slots[i], "in [0, "+itoa(maxSlots)+")")
		}
	}
	return slots, nil
}
