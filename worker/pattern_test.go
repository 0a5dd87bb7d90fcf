package worker

import "testing"

// Parts of a shard's scores follow on one another, from whole blocks to whole blocks.
func TestScoreParts(t *testing.T) {
	for _, cols := range []int64{1, 63, 64, 65, 1000, 12345, 1 << 40} {
		for _, n := range []int{0, 1, 2, 7, 999, 1000} {
			at := int64(0)
			for i := range max(n, 1) {
				lo, count := scorePart(cols, i, n)
				if lo != at || count < 0 || lo%diagCols != 0 || n > 0 && count > cols/int64(n)+2*diagCols {
					t.Fatalf("part %d of %d of %d columns is %d from %d, after %d", i, n, cols, count, lo, at)
				}
				at = lo + count
			}
			if at != cols {
				t.Errorf("%d parts of %d columns end at %d", n, cols, at)
			}
		}
	}
}
