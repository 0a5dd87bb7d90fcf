package selection

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// groupsOf is all groups by the definition: each row of each strip, cut from its start.
func groupsOf(strips []Strip, dim int64, of int) (groups [][2]int64) {
	for i, s := range strips {
		end := dim
		if i+1 < len(strips) {
			end = strips[i+1].Lo
		}
		start := s.Lo
		for j := s.Lo; j < end; j++ {
			if last := j + 1; last == end || (last-s.Lo)%s.Len == 0 || last-start == int64(of) {
				groups = append(groups, [2]int64{start, last})
				start = last
			}
		}
	}
	return groups
}

func drawStrips(t *rapid.T) (strips []Strip, dim int64) {
	for range rapid.IntRange(1, 5).Draw(t, "strips") {
		strips = append(strips, Strip{dim, rapid.Int64Range(1, 12).Draw(t, "len")})
		dim += rapid.Int64Range(1, 40).Draw(t, "size")
	}
	return strips, dim
}

func TestEachGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		strips, dim := drawStrips(t)
		if err := CheckStrips(strips, true); err != nil {
			t.Fatal(err)
		}
		of := rapid.IntRange(2, 9).Draw(t, "of")
		lo := rapid.Int64Range(0, dim-1).Draw(t, "lo")
		hi := rapid.Int64Range(lo+1, dim).Draw(t, "hi")
		var want, got [][2]int64
		for _, g := range groupsOf(strips, dim, of) {
			if g[0] < hi && g[1] > lo {
				want = append(want, g)
			}
		}
		var edges [][2]int64
		for _, g := range want {
			if g[0] < lo || g[1] > hi {
				edges = append(edges, g)
			}
		}
		part := Within(strips, dim, lo, hi)
		if err := CheckStrips(part, false); err != nil {
			t.Fatal(err)
		}
		if err := EachGroup(part, of, lo, hi, func(a, b int64) error {
			got = append(got, [2]int64{a, b})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if e := Edges(part, of, lo, hi); !slices.Equal(e, edges) {
			t.Fatalf("[%d, %d) of %v has edges %v, want %v", lo, hi, strips, e, edges)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("[%d, %d) of %v has groups %v, want %v", lo, hi, strips, got, want)
		}
	})
}

func TestGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		score := rapid.SliceOfN(rapid.SampledFrom([]float64{Gone, Fixed, 0, 0, 1, 2, 3, 3}), 1, 9).Draw(t, "score")
		keep := rapid.IntRange(1, 8).Draw(t, "keep")
		var order []int
		need := len(score) - keep
		for i, s := range score {
			if s >= 0 {
				order = append(order, i)
			} else if s == Gone {
				need--
			}
		}
		slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(score[i], score[j]) })
		chosen := make([]bool, len(score))
		n, ok := Group(chosen, score, keep)
		if want := len(order) == 0 || need <= len(order); ok != want {
			t.Fatalf("%v, at most %d: %v, want %v", score, keep, ok, want)
		}
		want := make([]bool, len(score))
		if ok {
			for _, i := range order[:min(max(need, 0), len(order))] {
				want[i] = true
			}
		}
		if !slices.Equal(chosen, want) || n != len(slices.DeleteFunc(slices.Clone(want), func(c bool) bool { return !c })) {
			t.Fatalf("%v, at most %d: %d, %v, want %v", score, keep, n, chosen, want)
		}
	})
}

func TestCheckPattern(t *testing.T) {
	for _, c := range [][2]int{{0, 4}, {4, 4}, {5, 4}, {1, 1}, {1, 65}, {-1, 2}} {
		if CheckPattern(c[0], c[1]) == nil {
			t.Errorf("%d:%d is taken", c[0], c[1])
		}
	}
	for _, c := range [][2]int{{2, 4}, {1, 2}, {63, 64}} {
		if err := CheckPattern(c[0], c[1]); err != nil {
			t.Errorf("%d:%d: %v", c[0], c[1], err)
		}
	}
	for _, s := range [][]Strip{nil, {{1, 2}}, {{0, 0}}, {{0, 1}, {0, 1}}, {{0, 3}, {5, -1}}} {
		if CheckStrips(s, true) == nil {
			t.Errorf("%v is taken", s)
		}
	}
}
