package wire

import "testing"

func TestZeros(t *testing.T) {
	for _, c := range []struct {
		sparsity float64
		d, want  int64
	}{
		{0, 10, 0}, {0.29, 100, 29}, {0.58, 100, 58}, {0.5, 3, 1}, {0.5, 4, 2}, {0.9, 10, 9}, {0.999, 10, 9}, {0.1, 9, 0}, {0.28, 99, 27},
		{0.7, 1_000_000_000, 700_000_000}, {0.57, 1e8, 57_000_000}, {1 - 0x1p-53, 100, 99},
	} {
		if got := Zeros(c.sparsity, c.d); got != c.want {
			t.Errorf("%v of %d weights: %d zeros, not %d", c.sparsity, c.d, got, c.want)
		}
	}
}
