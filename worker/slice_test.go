package worker

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mfac/shard"
	"mfac/wire"
)

// modelSlice is a slice with a mark on every column.
type modelSlice struct {
	lo     int64
	chunk  []int // of a column: 1 + which one, 0 for none
	chunks []modelChunk
}

type modelChunk struct {
	lo, n      int64
	sum        uint32
	gone, done bool
}

// admit is what slice.admit should answer: the chunk that it is, whether that is new, or a code.
func (m *modelSlice) admit(lo, n int64, sum uint32) (chunk int, fresh bool, code wire.Code) {
	for col := range n {
		if c := lo + col - m.lo; c < 0 || c >= int64(len(m.chunk)) {
			return 0, false, wire.CodeInvalid
		}
	}
	for i, c := range m.chunks {
		if !c.gone && c.lo == lo && c.n == n {
			if c.sum != sum {
				return 0, false, wire.CodeConflict
			}
			return i, false, ""
		}
	}
	for col := range n {
		if m.chunk[lo+col-m.lo] != 0 {
			return 0, false, wire.CodeInvalid
		}
	}
	m.chunks = append(m.chunks, modelChunk{lo: lo, n: n, sum: sum})
	for col := range n {
		m.chunk[lo+col-m.lo] = len(m.chunks)
	}
	return len(m.chunks) - 1, true, ""
}

func TestSliceAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := slice{lo: rapid.Int64Range(0, wire.MaxDim-64).Draw(t, "lo"), cols: rapid.Int64Range(1, 24).Draw(t, "cols")}
		m := modelSlice{lo: s.lo, chunk: make([]int, s.cols)}
		var spans []*span // by the model's chunk
		for range rapid.IntRange(1, 60).Draw(t, "ops") {
			alive := slices.DeleteFunc(indices(m.chunks), func(i int) bool { return m.chunks[i].gone || m.chunks[i].done })
			op := rapid.SampledFrom([]string{"admit", "admit", "admit", "done", "remove"}).Draw(t, "op")
			if op != "admit" && len(alive) == 0 {
				continue
			}
			switch op {
			case "admit":
				lo := s.lo + rapid.Int64Range(-2, s.cols+1).Draw(t, "from")
				n := rapid.Int64Range(1, min(6, s.cols+2)).Draw(t, "n")
				sum := rapid.Uint32Range(0, 1).Draw(t, "sum")
				chunk, fresh, code := m.admit(lo, n, sum)
				sp, gotFresh, err := s.admit(lo, n, wire.F32, sum)
				if code != "" {
					if err == nil || wire.AsError(err).Code != code || sp != nil || gotFresh {
						t.Fatalf("[%d, %d+%d): got %v, %v, %v; want %s", lo, lo, n, sp, gotFresh, err, code)
					}
					break
				}
				if err != nil || gotFresh != fresh {
					t.Fatalf("[%d, %d+%d): got new %v, %v; want %v", lo, lo, n, gotFresh, err, fresh)
				}
				if fresh {
					spans = append(spans, sp)
				}
				if spans[chunk] != sp || sp.lo != lo || sp.n != n || sp.sum != sum || sp.done != m.chunks[chunk].done {
					t.Fatalf("[%d, %d+%d): not the span of that chunk: %+v", lo, lo, n, sp)
				}
			case "done":
				i := rapid.SampledFrom(alive).Draw(t, "chunk")
				m.chunks[i].done = true
				spans[i].done = true
				s.have += spans[i].n
			case "remove":
				i := rapid.SampledFrom(alive).Draw(t, "chunk")
				m.chunks[i].gone = true
				for c := range m.chunk {
					if m.chunk[c] == i+1 {
						m.chunk[c] = 0
					}
				}
				s.remove(spans[i])
				s.remove(spans[i]) // twice does no harm
			}
			whole := true
			for _, c := range m.chunk {
				whole = whole && c != 0 && m.chunks[c-1].done
			}
			if s.whole() != whole {
				t.Fatalf("whole %v, want %v", s.whole(), whole)
			}
			end := s.lo
			for _, sp := range s.spans {
				if sp.lo < end || sp.n < 1 {
					t.Fatalf("spans are not in order, apart and not empty: %v", s.spans)
				}
				end = sp.lo + sp.n
			}
			if end > s.lo+s.cols {
				t.Fatalf("spans end at %d", end)
			}
		}
	})
}

func indices[T any](x []T) []int {
	out := make([]int, len(x))
	for i := range out {
		out[i] = i
	}
	return out
}

// Ranges at the ends of int64 don't wrap into the slice.
func TestSliceFarColumns(t *testing.T) {
	s := slice{lo: 100, cols: 50}
	for _, r := range [][2]int64{{99, 1}, {99, 2}, {150, 1}, {149, 2}, {100, 51}, {math.MaxInt64, 1}, {math.MaxInt64, math.MaxInt64}, {100, math.MaxInt64}, {math.MinInt64, 1}, {0, 150}} {
		if _, _, err := s.admit(r[0], r[1], wire.F32, 0); !errors.Is(err, wire.ErrInvalid) || len(s.spans) != 0 {
			t.Errorf("%v: %v, %d spans", r, err, len(s.spans))
		}
	}
}

func TestSliceTooManyChunks(t *testing.T) {
	s := slice{cols: maxSpans + 1}
	for i := range int64(maxSpans) {
		if _, fresh, err := s.admit(i, 1, wire.F32, 0); err != nil || !fresh {
			t.Fatal(fresh, err)
		}
	}
	_, _, err := s.admit(maxSpans, 1, wire.F32, 0)
	if !errors.Is(err, wire.ErrTooLarge) || !strings.Contains(err.Error(), "chunks of a slice is 65537, must be at most 65536") {
		t.Error(err)
	}
	if _, fresh, err := s.admit(0, 1, wire.F32, 0); err != nil || fresh {
		t.Errorf("one that is there: %v, %v", fresh, err)
	}
}

// What is counted as begun and not whole is so, whatever comes and goes.
func TestSliceParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const tile = shard.TileCols
		s := slice{lo: rapid.Int64Range(0, 5000).Draw(t, "lo"), cols: rapid.Int64Range(1, 4*tile).Draw(t, "cols"), parts: parts{}}
		for range rapid.IntRange(1, 20).Draw(t, "ops") {
			if len(s.spans) > 0 && rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				s.remove(rapid.SampledFrom(s.spans).Draw(t, "chunk"))
			} else {
				lo := rapid.Int64Range(0, s.cols-1).Draw(t, "from")
				if rapid.Bool().Draw(t, "on a tile's border") {
					lo -= lo % tile
				}
				n := rapid.OneOf(rapid.Int64Range(1, s.cols-lo), rapid.Just(min(tile, s.cols-lo)), rapid.Just(min(3, s.cols-lo))).Draw(t, "n")
				_, _, _ = s.admit(s.lo+lo, n, wire.F32, 0) // an overlap is refused, and changes nothing
			}
			want := parts{}
			for at := int64(0); at < s.cols; at += tile {
				end, have := min(at+tile, s.cols), int64(0)
				for _, sp := range s.spans {
					have += max(0, min(sp.lo-s.lo+sp.n, end)-max(sp.lo-s.lo, at))
				}
				if have > 0 && have < end-at {
					want[at/tile] = have
				}
			}
			if !maps.Equal(s.parts, want) {
				t.Fatalf("%v, want %v", s.parts, want)
			}
		}
	})
}

func TestSliceTooManyParts(t *testing.T) {
	s := slice{cols: (maxParts + 1) * shard.TileCols, parts: parts{}}
	for i := range int64(maxParts) {
		if _, fresh, err := s.admit(i*shard.TileCols+5, 1, wire.F32, 0); err != nil || !fresh {
			t.Fatal(fresh, err)
		}
	}
	if _, _, err := s.admit(maxParts*shard.TileCols, 1, wire.F32, 0); !errors.Is(err, wire.ErrTooLarge) || !strings.Contains(err.Error(), "tiles begun and not whole is 1025, must be at most 1024") {
		t.Error(err)
	}
	for _, r := range [][2]int64{{maxParts * shard.TileCols, shard.TileCols}, {0, 5}, {6, shard.TileCols - 6}} { // a whole tile, and the rest of one
		if _, fresh, err := s.admit(r[0], r[1], wire.F32, 0); err != nil || !fresh {
			t.Errorf("%v: %v, %v", r, fresh, err)
		}
	}
	if len(s.parts) != maxParts-1 {
		t.Errorf("%d parts", len(s.parts))
	}
}

// What is granted is never more than the budget, nor to one client more than it wants, and what
// expired is free again.
func TestFlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := flow{budget: rapid.Int64Range(0, 20<<20).Draw(t, "budget"), grants: map[string]grant{}}
		inflight := []int64{}
		tick := int64(0)
		for range rapid.IntRange(1, 50).Draw(t, "ops") {
			switch rapid.SampledFrom([]string{"renew", "expire", "admit", "answer"}).Draw(t, "op") {
			case "renew":
				client := fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "client"))
				want := rapid.OneOf(rapid.Int64Range(0, 10<<20), rapid.Just(int64(math.MaxInt64))).Draw(t, "want")
				got := f.renew(client, want, tick+3)
				if got < 0 || got > want || got > maxCredit {
					t.Fatalf("granted %d of %d", got, want)
				}
				if got < want && got < maxCredit && f.granted != f.budget {
					t.Fatalf("granted %d of %d, and %d of %d are free", got, want, f.budget-f.granted, f.budget)
				}
			case "expire":
				tick += rapid.Int64Range(1, 4).Draw(t, "ticks")
				f.expire(tick)
				for c, g := range f.grants {
					if g.expires <= tick {
						t.Fatalf("%s has what expired", c)
					}
				}
			case "admit":
				n := rapid.Int64Range(1, 1<<20).Draw(t, "bytes")
				if err := f.admit(n); err == nil {
					inflight = append(inflight, n)
				} else if !errors.Is(err, wire.ErrBusy) || f.inflight+n <= f.budget {
					t.Fatalf("%d bytes beside %d of %d: %v", n, f.inflight, f.budget, err)
				}
			case "answer":
				if n := len(inflight); n > 0 {
					f.inflight -= inflight[n-1]
					inflight = inflight[:n-1]
				}
			}
			var granted, flying int64
			for _, g := range f.grants {
				granted += g.bytes
			}
			for _, n := range inflight {
				flying += n
			}
			if granted != f.granted || granted > f.budget || flying != f.inflight || flying > f.budget {
				t.Fatalf("granted %d, counted %d; in flight %d, counted %d; budget %d", granted, f.granted, flying, f.inflight, f.budget)
			}
		}
	})
}
