// Package selection finds the k smallest of numbers that are spread over shards, without moving them:
// what a full sort would put first, ties by shard and then by place. A round counts, on each shard, the
// numbers that share the bits known so far by their next Bits bits; the coordinator adds the counts and
// learns these bits of the k-th smallest. 64 bits take Rounds rounds, of 16 KiB a shard each.
//
// The main path is New; then, till Done, Next with every shard's Tally; then Key and Ties.
package selection

import (
	"fmt"
	"math"
)

const (
	Bits   = 11                     // that a round learns
	Bins   = 1 << Bits              // counts of a shard in a round
	Rounds = (64 + Bits - 1) / Bits // in all
)

// Key is a number as an integer of the same order. x is not NaN; −0 is 0.
func Key(x float64) uint64 {
	if x == 0 {
		x = 0
	}
	b := math.Float64bits(x + 0)
	if b>>63 == 1 {
		return ^b
	}
	return b | 1<<63
}

// Search looks for the k-th smallest key.
type Search struct {
	prefix uint64 // its first bits
	known  int    // how many
	left   int64  // its place among the keys that have these, from 1
	ties   []int64
}

// New looks for the k smallest, k ≥ 0.
func New(k int64) *Search {
	s := &Search{left: k}
	if k == 0 {
		s.known = 64
	}
	return s
}

// Prefix is the first known bits, in the high bits of an integer.
func (s *Search) Prefix() (prefix uint64, known int) { return s.prefix, s.known }

// Done reports whether the k-th smallest key is known.
func (s *Search) Done() bool { return s.known == 64 }

// width is how many bits are learned after known ones.
func width(known int) int { return min(Bits, 64-known) }

// CheckPrefix checks what comes from elsewhere.
func CheckPrefix(prefix uint64, known int) error {
	if known < 0 || known >= 64 || known%Bits != 0 {
		return fmt.Errorf("known bits are %d, must be a multiple of %d below 64", known, Bits)
	}
	if prefix<<known != 0 {
		return fmt.Errorf("prefix is %#x, must have %d bits", prefix, known)
	}
	return nil
}

// Tally adds a key to the counts of a round, len(counts) = Bins.
func Tally(counts []int64, key, prefix uint64, known int) {
	if known > 0 && (key^prefix)>>(64-known) != 0 {
		return
	}
	w := width(known)
	counts[key<<known>>(64-w)]++
}

// Next takes the counts of every shard, in their order.
func (s *Search) Next(parts [][]int64) error {
	w := width(s.known)
	for b := range 1 << w {
		var n int64
		for _, p := range parts {
			n += p[b]
		}
		if n < s.left {
			s.left -= n
			continue
		}
		s.prefix |= uint64(b) << (64 - w - s.known)
		s.known += w
		if s.Done() {
			s.ties = make([]int64, len(parts))
			for i, p := range parts {
				s.ties[i] = min(p[b], s.left)
				s.left -= s.ties[i]
			}
		}
		return nil
	}
	return fmt.Errorf("%d keys are missing", s.left)
}

// Key is the k-th smallest key: all below it are chosen, of those equal to it each shard's first Ties.
// With k = 0 it is 0, and nothing is chosen.
func (s *Search) Key() uint64 { return s.prefix }

// Ties is how many equal ones are chosen on a shard.
func (s *Search) Ties(shard int) int64 {
	if s.ties == nil {
		return 0
	}
	return s.ties[shard]
}
