package wire

import (
	"testing"

	"pgregory.net/rapid"
)

// Each column is in the block that counting gives, whichever part of the columns one looks at.
func TestPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Partition{Starts: []int64{0}, Size: rapid.Int64Range(1, 9).Draw(t, "size")}
		for range rapid.IntRange(0, 6).Draw(t, "tensors") {
			p.Starts = append(p.Starts, p.Starts[len(p.Starts)-1]+rapid.Int64Range(1, 12).Draw(t, "tensor"))
		}
		p.End = p.Starts[len(p.Starts)-1] + rapid.Int64Range(1, 12).Draw(t, "last")
		lo := rapid.Int64Range(0, p.End-1).Draw(t, "lo")
		hi := rapid.Int64Range(lo+1, p.End).Draw(t, "hi")
		within := p.Within(lo, hi)
		first, tensor := int64(0), 0
		for j := range p.End {
			if tensor+1 < len(p.Starts) && j == p.Starts[tensor+1] {
				tensor, first = tensor+1, j
			} else if j == first+p.Size {
				first = j
			}
			a, b := p.At(j)
			if a != first || b <= j || b > a+p.Size || b > p.End {
				t.Fatalf("column %d is in [%d, %d), not from %d on", j, a, b, first)
			}
			if j >= lo && j < hi {
				if c, d := within.At(j); c != a || d != b {
					t.Fatalf("column %d of [%d, %d) is in [%d, %d), not [%d, %d)", j, lo, hi, c, d, a, b)
				}
			}
		}
	})
}
