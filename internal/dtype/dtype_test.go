package dtype

import (
	"testing"

	"mfac/wire"
)

// Names and sizes are the same on both sides.
func TestOf(t *testing.T) {
	for _, w := range []wire.DType{wire.F32, wire.F64, wire.BF16, wire.F16} {
		if k := Of(w); k.String() != string(w) || k.Size() != w.Size() {
			t.Errorf("%s is %v of %d bytes, want %d", w, k, k.Size(), w.Size())
		}
	}
}
