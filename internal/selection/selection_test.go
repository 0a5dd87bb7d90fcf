package selection

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// choose is the whole of a selection over shards.
func choose(t rapid.TB, shards [][]float64, k int64) [][]bool {
	s := New(k)
	rounds := 0
	for ; !s.Done(); rounds++ {
		prefix, known := s.Prefix()
		if err := CheckPrefix(prefix, known); err != nil {
			t.Fatal(err)
		}
		parts := make([][]int64, len(shards))
		for i, x := range shards {
			parts[i] = make([]int64, Bins)
			for _, v := range x {
				Tally(parts[i], Key(v), prefix, known)
			}
		}
		if err := s.Next(parts); err != nil {
			t.Fatal(err)
		}
	}
	if rounds > Rounds {
		t.Fatalf("%d rounds", rounds)
	}
	out := make([][]bool, len(shards))
	for i, x := range shards {
		left := s.Ties(i)
		for _, v := range x {
			key := Key(v)
			in := key < s.Key()
			if key == s.Key() && left > 0 {
				in = true
				left--
			}
			out[i] = append(out[i], in)
		}
	}
	return out
}

// The selection is that of a full, stable sort.
func TestSort(t *testing.T) {
	special := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, 1, math.Nextafter(1, 2), -1}
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(rapid.SampledFrom(special), rapid.Float64().Filter(func(x float64) bool { return !math.IsNaN(x) }))
		shards := rapid.SliceOfN(rapid.SliceOfN(number, 0, 40), 1, 5).Draw(t, "shards")
		var all []float64
		for _, x := range shards {
			all = append(all, x...)
		}
		k := rapid.IntRange(0, len(all)).Draw(t, "k")
		order := make([]int, len(all))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int {
			switch {
			case all[a] < all[b]:
				return -1
			case all[a] > all[b]:
				return 1
			}
			return 0
		})
		want := make([]bool, len(all))
		for _, i := range order[:k] {
			want[i] = true
		}
		if got := slices.Concat(choose(t, shards, int64(k))...); !slices.Equal(got, want) && len(all) > 0 {
			t.Fatalf("%d of %v: chosen %v, want %v", k, shards, got, want)
		}
	})
}

func TestTooFew(t *testing.T) {
	if err := New(1).Next([][]int64{make([]int64, Bins)}); err == nil {
		t.Error("the smallest of none was found")
	}
}

func TestCheckPrefix(t *testing.T) {
	for _, bad := range []struct {
		prefix uint64
		known  int
	}{{0, -11}, {0, 5}, {0, 64}, {0, 66}, {1, 11}, {1, 0}} {
		if CheckPrefix(bad.prefix, bad.known) == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if CheckPrefix(1<<63, 11) != nil {
		t.Error("a good one is refused")
	}
}

// A million shards' worth of numbers takes less than 1 MB over four shards.
func TestBytes(t *testing.T) {
	if bytes := Rounds * Bins * 8 * 4; bytes >= 1_000_000 {
		t.Errorf("%d bytes", bytes)
	}
}
