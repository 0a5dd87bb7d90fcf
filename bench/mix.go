package main

import (
	"mfac/shard"
	"mfac/shard/pool"
)

// mix is what combine can't do without: it reads the rows, by a plain loop, and writes as many
// numbers, part after part, on the same threads. Who computes nothing is no faster.
type mix struct {
	bed     *rowsBed
	plain   loop
	threads int
	lo, hi  int64 // columns of the part at hand
	units   int
}

// mixUnits is how many units a part has where threads share it, about as many as ours.
const mixUnits = 30

func (x *mix) run() error {
	for x.lo = 0; x.lo < x.bed.cols; x.lo = x.hi {
		x.hi, x.units = min(x.lo+partCols, x.bed.cols), 1
		if x.threads == 1 {
			x.Unit(nil, 0)
			continue
		}
		x.units = mixUnits
		if err := x.bed.pools[x.threads].Do(pool.Spec{Class: pool.Query, Short: true}, pool.All(x.units), x); err != nil {
			return err
		}
	}
	return nil
}

// Unit implements pool.Work.
func (x *mix) Unit(_ *pool.Worker, i int) {
	whole := int64(len(x.bed.region)) / 64 * 64
	at := func(col int64) int64 { return min(whole, col*whole/x.bed.cols/64*64) }
	border := func(i int) int64 {
		return x.lo + (x.hi-x.lo)*int64(i)/int64(x.units)/shard.TileCols*shard.TileCols
	}
	lo, hi := border(i), border(i+1)
	if i+1 == x.units {
		hi = x.hi
	}
	for ; lo < hi; lo += 8 * shard.TileCols { // so that what is written is near what is read
		to := min(hi, lo+8*shard.TileCols)
		if p := x.bed.region[at(lo):at(to)]; len(p) > 0 {
			sink.Add(x.plain.read(p))
		}
		fill(x.bed.out[4*(lo-x.lo):][:4*(to-lo)/64*64])
	}
}
