// Package dtype says which of the kernels' dtypes one of the wire's is: neither package knows the
// other.
package dtype

import (
	"mfac/shard/kernel"
	"mfac/wire"
)

// Of is t, which has been checked, as package kernel and package shard know it.
func Of(t wire.DType) kernel.DType {
	switch t {
	case wire.F64:
		return kernel.F64
	case wire.BF16:
		return kernel.BF16
	case wire.F16:
		return kernel.F16
	}
	return kernel.F32
}
