package client

import (
	"encoding/binary"
	"math"
	"unsafe"

	"mfac/wire"
)

// littleEndian is whether numbers lie in memory as they lie in payloads.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

func sizeOf[T Float]() int {
	var x T
	return int(unsafe.Sizeof(x))
}

func dtypeOf[T Float]() wire.DType {
	if sizeOf[T]() == 4 {
		return wire.F32
	}
	return wire.F64
}

// bytesOf is the memory of v.
func bytesOf[T Float](v []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*sizeOf[T]())
}

// payloadOf is v as a payload: its own memory, or a copy where the machine is big-endian.
func payloadOf[T Float](v []T) []byte {
	if littleEndian {
		return bytesOf(v)
	}
	return encode(v)
}

// numbersTo sets dst to the payload's numbers, as many as dst has.
func numbersTo[T Float](dst []T, payload []byte) {
	if littleEndian {
		copy(bytesOf(dst), payload)
		return
	}
	decode(dst, payload)
}

// encode is payloadOf on any machine.
func encode[T Float](v []T) []byte {
	p := make([]byte, 0, len(v)*sizeOf[T]())
	for _, x := range v {
		switch x := any(x).(type) {
		case float32:
			p = binary.LittleEndian.AppendUint32(p, math.Float32bits(x))
		case float64:
			p = binary.LittleEndian.AppendUint64(p, math.Float64bits(x))
		}
	}
	return p
}

// decode is numbersTo on any machine.
func decode[T Float](dst []T, payload []byte) {
	switch dst := any(dst).(type) {
	case []float32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(payload[4*i:]))
		}
	case []float64:
		for i := range dst {
			dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(payload[8*i:]))
		}
	}
}

// overlap reports whether two slices share memory.
func overlap[T Float](a, b []T) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	a0, b0 := uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	size := uintptr(sizeOf[T]())
	return a0 < b0+uintptr(len(b))*size && b0 < a0+uintptr(len(a))*size
}
