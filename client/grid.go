package client

import (
	"math"
	"math/bits"
	"time"
)

// grid chooses the size of chunks for transfers of one kind and about one length, from how fast those
// before were. It keeps to one size and tries another seldom; it changes to that if it was faster each
// time. Rates move with all that the machines do, so each trial counts against the transfers about
// it.
type grid struct {
	sizes []int
	use   int // index of the size in use
	other int // index of the size on trial

	rate   float64 // bytes a second in the size in use, lately
	rests  int     // transfers since the last trial
	every  int     // so many there are between trials
	failed int     // sizes that did not win since the last change

	wins int // of the size on trial
}

const (
	firstEvery = 16 // transfers between trials, twice as many each time that no other size has won
	mostEvery  = 64
	winsNeeded = 3
	winBy      = 1.05 // times the rate: less is not worth a change
	rateWeight = 0.25 // of the latest transfer in rate
)

func newGrid(sizes []int) *grid {
	g := &grid{sizes: sizes, use: len(sizes) - 1, every: firstEvery}
	g.next(g.use)
	return g
}

// next puts the size after index i on trial.
func (g *grid) next(i int) {
	g.wins, g.rests = 0, 0
	if g.other = (i + 1) % len(g.sizes); g.other == g.use {
		g.other = (g.other + 1) % len(g.sizes)
	}
}

// pick is the size of the next transfer's chunks.
func (g *grid) pick() int {
	if g.rests++; g.rests > g.every && g.rate > 0 && len(g.sizes) > 1 {
		g.rests = 0
		return g.sizes[g.other]
	}
	return g.sizes[g.use]
}

// learn says how fast a transfer was, in bytes a second.
func (g *grid) learn(size int, rate float64) {
	switch {
	case !(rate > 0) || math.IsInf(rate, 1):
	case size == g.sizes[g.use]:
		if g.rate == 0 {
			g.rate = rate
		}
		g.rate += rateWeight * (rate - g.rate)
	case size != g.sizes[g.other] || g.rate == 0: // picked before the last change
	case rate < winBy*g.rate:
		if g.failed++; g.failed >= len(g.sizes)-1 {
			g.failed = 0
			g.every = min(2*g.every, mostEvery)
		}
		g.next(g.other)
	default:
		if g.wins++; g.wins >= winsNeeded {
			g.use, g.rate = g.other, rate
			g.failed, g.every = 0, firstEvery
			g.next(g.use)
		}
	}
}

// gridSizes are the sizes of chunks that are tried, up to most: multiples of 1,024 columns of any
// dtype.
func gridSizes(most int) []int {
	var sizes []int
	for _, n := range []int{256 << 10, 480 << 10} {
		if n < most {
			sizes = append(sizes, n)
		}
	}
	return append(sizes, most)
}

const (
	leastGridded = 1 << 20 // bytes of a transfer whose chunks are worth a choice
	mostGridded  = 8 << 30 // of one that surely has no more than 65,536 of the smallest in a slice
)

// gridKey names transfers that learn together.
type gridKey struct {
	op    string
	class int // of their bytes: up to twice as many
}

// chosen is the size of chunks of one transfer.
type chosen struct {
	c     *Client
	key   gridKey // op "": nothing is learnt
	total int64
	bytes int
}

// choose is the size of chunks for a transfer of total bytes.
func (c *Client) choose(op string, total int64) chosen {
	ch := chosen{c: c, total: total, bytes: c.chunkBytes}
	if len(c.gridSizes) < 2 || total < leastGridded || total > mostGridded {
		return ch
	}
	ch.key = gridKey{op, bits.Len64(uint64(total))}
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.grids[ch.key]
	if g == nil {
		g = newGrid(c.gridSizes)
		c.grids[ch.key] = g
	}
	ch.bytes = g.pick()
	return ch
}

// took says how long the transfer took. It isn't said of one that failed or had to send again.
func (ch chosen) took(d time.Duration) {
	if ch.key.op == "" {
		return
	}
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	ch.c.grids[ch.key].learn(ch.bytes, float64(ch.total)/d.Seconds())
}
