package client

import (
	"math/bits"
	"time"
)

// pace bounds the bytes in flight one way of a link by how long answers take: what arrives in the
// least delay at the greatest rate measured, a quarter more, and two chunks. More would only wait
// on the way, or at the worker. The rate and the delay of an empty way are all that it knows, as in
// BBR (Cardwell et al., "BBR: congestion-based congestion control", ACM Queue 14(5), 2016).
//
//	P1  two chunks may always be in flight
//	P2  what it measures is of answers that came; it has no clock, times come in
//
// The quarter lets a rate that the bound itself holds down grow from round to round, until it grows no
// more. The two chunks let it grow where delays jitter too: of w chunks in flight, least delay a and mean
// delay b, the next round has 1.25·w·a/b + 2. So it stays at 5 where the mean is twice the least, at 12
// where it is half above it.
type pace struct {
	chunks int   // in flight
	bytes  int64 // in flight

	delivered int64     // bytes answered so far
	at        time.Time // of the last answer, or when the way was last empty

	now, before float64 // the greatest rates, in bytes a second, of this period and the one before
	rounds      int     // of this period: one ends when a chunk that was sent in it is answered
	roundBegan  int64   // delivered then

	least [64]leastDelay // by size: that of a chunk that takes its time itself depends on it
}

// leastDelay is the least delay of chunks of a size, and when it was measured.
type leastDelay struct {
	delay time.Duration // 0: none yet
	at    time.Time
}

const (
	surePace    = 2               // chunks that may be in flight whatever was measured
	spareChunks = 2               // in flight besides those that the delay needs
	paceGain    = 1.25            // of those that it needs
	firstGain   = 2.0             // in the first period: a chunk alone, 4, 10, 22 from round to round
	period      = 4               // rounds; the greatest rate of this and the one before counts
	leastFor    = 5 * time.Second // then no more than two chunks, until the delay is measured anew
)

// size is what a chunk is among its transfer's.
type size struct {
	bytes int64
	full  int64 // bytes of the transfer's largest chunk to the same worker
}

// telling reports whether the delay of a chunk tells that of its transfer's others: the last one of a
// shard may be a small part.
func (s size) telling() bool { return 2*s.bytes > s.full }

func (s size) class() int { return bits.Len64(uint64(s.full)) }

// sent is what was known when a chunk was sent.
type sent struct {
	size      size
	time      time.Time
	delivered int64
	at        time.Time
	alone     bool // in flight with one other at most
}

// fits reports whether a chunk may be sent now.
func (p *pace) fits(now time.Time, s size) bool {
	return p.chunks < surePace || p.bytes+s.bytes <= p.bound(now, s)
}

// bound is how many bytes may be in flight, if more than two chunks.
func (p *pace) bound(now time.Time, s size) int64 {
	l := p.least[s.class()]
	if l.delay == 0 || now.Sub(l.at) >= leastFor {
		return 0
	}
	gain := paceGain
	if p.before == 0 {
		gain = firstGain
	}
	return int64(gain*p.rate()*l.delay.Seconds()) + spareChunks*s.full
}

func (p *pace) rate() float64 { return max(p.now, p.before) }

// send says that a chunk is sent. What it returns goes into answered or lost.
func (p *pace) send(now time.Time, s size) sent {
	if p.chunks == 0 {
		p.at = now
	}
	p.chunks++
	p.bytes += s.bytes
	return sent{size: s, time: now, delivered: p.delivered, at: p.at, alone: p.chunks <= surePace}
}

// answered says that a chunk was staged, or a part of a result came. held is whether others wait: if
// not, it may be the caller who is slow, and the rate tells only how much is possible at least.
func (p *pace) answered(now time.Time, s sent, held bool) {
	p.end(s)
	p.delivered += s.size.bytes
	p.at = now
	p.measureRate(now, s, held)
	l := &p.least[s.size.class()]
	delay := max(now.Sub(s.time), 1)
	if s.size.telling() && (l.delay == 0 || delay <= l.delay || s.alone && now.Sub(l.at) >= leastFor) {
		*l = leastDelay{delay, now}
	}
}

func (p *pace) measureRate(now time.Time, s sent, held bool) {
	// From an answer to an answer, or the rate of two would be that of three.
	took := now.Sub(s.at)
	if took <= 0 {
		return
	}
	p.now = max(p.now, float64(p.delivered-s.delivered)/took.Seconds())
	if s.delivered < p.roundBegan || !held {
		return
	}
	p.roundBegan = p.delivered
	if p.rounds++; p.rounds >= period {
		p.before, p.now, p.rounds = p.now, 0, 0
	}
}

// refused says that a chunk was refused, or answered in another way that tells nothing.
func (p *pace) refused(s sent) { p.end(s) }

// busy says that the worker has too much in flight, over all its clients: two chunks, and the rate
// is measured anew.
func (p *pace) busy() { p.now, p.before, p.rounds = 0, 0, 0 }

// lost says that no answer came: the way may be another from now on, and all is measured anew.
func (p *pace) lost(s sent) {
	p.end(s)
	p.busy()
	p.least = [64]leastDelay{}
}

func (p *pace) end(s sent) {
	p.chunks--
	p.bytes -= s.size.bytes
}
