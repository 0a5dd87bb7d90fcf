package client

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mfac/wire"
)

// way is a model of the way to a worker and back, in virtual time: chunks pass a bottleneck one
// after the other, then take a delay. With the credit in force, chunks are sent as policy lets them.
type way struct {
	chunk  int64
	chunks int
	rate   func(t time.Duration) float64 // of the bottleneck, in bytes a second
	delay  func(t time.Duration) time.Duration
	jitter time.Duration // at most, besides
	credit int64
	room   int64   // at the worker, which says that it is busy beyond; 0: the credit
	loss   float64 // of chunks
	seed   uint64
}

func steady[T any](x T) func(time.Duration) T { return func(time.Duration) T { return x } }

// after is a value that is another from a time on.
func after[T any](x T, at time.Duration, then T) func(time.Duration) T {
	return func(t time.Duration) T {
		if t < at {
			return x
		}
		return then
	}
}

// policy is what bounds chunks in flight besides the credit.
type policy interface {
	fits(now time.Time, s size) bool
	send(now time.Time, s size) sent
	answered(now time.Time, s sent, held bool)
	refused(s sent)
	busy()
	lost(s sent)
}

// fixed lets so many chunks be in flight.
type fixed struct{ most, chunks int }

func (f *fixed) fits(time.Time, size) bool      { return f.chunks < f.most }
func (f *fixed) send(_ time.Time, s size) sent  { f.chunks++; return sent{size: s} }
func (f *fixed) answered(time.Time, sent, bool) { f.chunks-- }
func (f *fixed) refused(sent)                   { f.chunks-- }
func (f *fixed) busy()                          {}
func (f *fixed) lost(sent)                      { f.chunks-- }

type event struct {
	at time.Duration
	do func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

// outcome is how a transfer went.
type outcome struct {
	took     time.Duration
	done     []time.Duration // when each chunk was answered
	inFlight []int           // just before
	lateMost int             // in flight, of the second half
}

// rateOf is the bytes a second of answers from a to b.
func (o outcome) rateOf(chunk int64, a, b time.Duration) float64 {
	n := 0
	for _, t := range o.done {
		if t > a && t <= b {
			n++
		}
	}
	return float64(chunk) * float64(n) / (b - a).Seconds()
}

// mostAt is the most in flight from a to b.
func (o outcome) mostAt(a, b time.Duration) (most int) {
	for i, t := range o.done {
		if t > a && t <= b {
			most = max(most, o.inFlight[i])
		}
	}
	return most
}

func (w way) run(p policy) outcome {
	const try = 2 * time.Second
	var (
		start    = time.Unix(0, 0)
		now      time.Duration
		queue    events
		rng      = rand.New(rand.NewPCG(w.seed, 1))
		left     = w.chunks
		inFlight int
		free     time.Duration // when the bottleneck is
		at       int64         // bytes at the bottleneck or before it
		credit   int64
		o        outcome
		send     func()
	)
	s := size{w.chunk, w.chunk}
	later := func(t time.Duration, do func()) { heap.Push(&queue, event{t, do}) }
	again := func() {
		left++
		later(now+leastPause, func() { send() })
	}
	one := func() {
		tok := p.send(start.Add(now), s)
		left--
		inFlight++
		switch {
		case w.loss > 0 && rng.Float64() < w.loss:
			later(now+try, func() { inFlight--; p.lost(tok); again(); send() })
			return
		case w.room > 0 && at+w.chunk > w.room:
			later(now+w.delay(now), func() { inFlight--; credit = 0; p.refused(tok); p.busy(); again() })
			return
		}
		at += w.chunk
		free = max(free, now)
		free += time.Duration(float64(w.chunk) / w.rate(free) * 1e9)
		later(free, func() { at -= w.chunk })
		back := w.delay(free)
		if w.jitter > 0 {
			back += time.Duration(rng.Int64N(int64(w.jitter)))
		}
		later(free+back, func() {
			o.done, o.inFlight = append(o.done, now), append(o.inFlight, inFlight)
			if len(o.done) > w.chunks/2 {
				o.lateMost = max(o.lateMost, inFlight)
			}
			inFlight--
			credit = w.credit
			p.answered(start.Add(now), tok, left > 0)
			send()
		})
	}
	send = func() {
		for left > 0 && p.fits(start.Add(now), s) && (inFlight == 0 || int64(inFlight+1)*w.chunk <= credit) {
			one()
		}
	}
	send()
	for len(o.done) < w.chunks {
		e := heap.Pop(&queue).(event)
		now = e.at
		e.do()
	}
	o.took = now
	return o
}

const (
	testChunk  = 983_040
	testCredit = 8 << 20 // what a worker gives at most
)

// What a transfer may lose against one that is bounded by the credit alone: it grows from one chunk in
// four rounds of fifty or more, and every five seconds measures the delay with two chunks.
const slower = 1.05

func TestPaceFills(t *testing.T) {
	for _, rate := range []float64{20e6, 120e6, 400e6, 1e9, 3e9} {
		for _, delay := range []time.Duration{100 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond} {
			for _, chunk := range []int64{262_144, testChunk} {
				t.Run(fmt.Sprintf("%.0fMB/%v/%d", rate/1e6, delay, chunk), func(t *testing.T) {
					w := way{chunk: chunk, chunks: 2000, rate: steady(rate), delay: steady(delay), credit: testCredit}
					got, all := w.run(&pace{}), w.run(&fixed{most: 1 << 20})
					if got.took.Seconds() > slower*all.took.Seconds() {
						t.Errorf("took %v, with the credit alone %v", got.took, all.took)
					}
					// What is on the way when the bottleneck is never idle nor has a queue, a quarter
					// and two chunks. The least delay has a chunk's own time in it, and when it is measured
					// anew, that of the other one in flight.
					need := max(rate*delay.Seconds()/float64(chunk)+1, 2)
					if most := int(paceGain*need) + spareChunks; got.lateMost > most {
						t.Errorf("%d chunks in flight, want %d at most", got.lateMost, most)
					}
				})
			}
		}
	}
}

// At a slow worker few chunks wait: at first, and for five seconds, two, with the one that is worked on;
// the delay is measured anew with two in flight, and then there may be four.
func TestPaceOfASlowWorker(t *testing.T) {
	w := way{chunk: testChunk, chunks: 400, rate: steady(10e6), delay: steady(200 * time.Microsecond), credit: testCredit}
	got, all := w.run(&pace{}), w.run(&fixed{most: 1 << 20})
	if early := got.mostAt(time.Second, 5*time.Second); early > 3 || got.lateMost > 4 || all.lateMost != 8 {
		t.Errorf("%d chunks in flight, with the credit alone %d", got.lateMost, all.lateMost)
	}
	if got.took > all.took+time.Millisecond {
		t.Errorf("took %v, with the credit alone %v", got.took, all.took)
	}
}

func TestPaceOfJitter(t *testing.T) {
	for seed := range uint64(20) {
		// Up to as much again as the least delay: the mean is half above it.
		w := way{chunk: testChunk, chunks: 1000, rate: steady(1e9), delay: steady(20 * time.Millisecond), jitter: 20 * time.Millisecond,
			credit: testCredit, seed: seed}
		got, all := w.run(&pace{}), w.run(&fixed{most: 1 << 20})
		if got.took.Seconds() > 1.1*all.took.Seconds() {
			t.Errorf("seed %d: took %v, with the credit alone %v", seed, got.took, all.took)
		}
		// Three times the least: the spare chunks keep it from falling to two.
		w.delay, w.jitter = steady(5*time.Millisecond), 20*time.Millisecond
		got, two := w.run(&pace{}), w.run(&fixed{most: 2})
		if got.took.Seconds() > 0.75*two.took.Seconds() {
			t.Errorf("seed %d: took %v, with two chunks %v", seed, got.took, two.took)
		}
	}
}

func TestPaceFollowsTheRate(t *testing.T) {
	const delay = 10 * time.Millisecond
	w := way{chunk: testChunk, chunks: 3000, delay: steady(delay), credit: testCredit, rate: func(t time.Duration) float64 {
		if t > 2*time.Second && t < 10*time.Second {
			return 30e6
		}
		return 400e6
	}}
	got := w.run(&pace{})
	if most := got.mostAt(6*time.Second, 10*time.Second); most > 4 {
		t.Errorf("%d chunks in flight while the worker is slow, want 4 at most", most)
	}
	for what, r := range map[string][3]float64{
		"fast": {1, 2, 400e6}, "slow": {3, 10, 30e6}, "fast again": {11, 13, 400e6},
	} {
		a, b := time.Duration(r[0]*1e9), time.Duration(r[1]*1e9)
		if rate := got.rateOf(testChunk, a, b); rate < 0.95*r[2] {
			t.Errorf("%s: %.3g bytes a second, want %.3g", what, rate, r[2])
		}
	}
}

// A way that becomes longer is measured anew, five seconds later at most.
func TestPaceFollowsTheDelay(t *testing.T) {
	w := way{chunk: testChunk, chunks: 3000, rate: steady(200e6), credit: testCredit,
		delay: after(time.Millisecond, 3*time.Second, 30*time.Millisecond)}
	got := w.run(&pace{})
	if rate := got.rateOf(testChunk, 9*time.Second, 13*time.Second); rate < 0.95*200e6 {
		t.Errorf("%.3g bytes a second over the longer way", rate)
	}
	w.delay = after(30*time.Millisecond, 3*time.Second, time.Millisecond)
	if got := w.run(&pace{}); got.lateMost > 4 {
		t.Errorf("%d chunks in flight over the shorter way", got.lateMost)
	}
}

// Whatever the way does, it is never slower than with two chunks, but for the chance of what is lost.
func TestPaceIsNeverSlowerThanTwo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := func(label string) float64 { return rapid.Float64Range(1e6, 3e9).Draw(t, label) }
		delay := func(label string) time.Duration {
			return time.Duration(rapid.Int64Range(1e4, 1e8).Draw(t, label))
		}
		at := time.Duration(rapid.Int64Range(0, 5e9).Draw(t, "at"))
		before, then := delay("delay"), delay("delay then")
		w := way{
			chunk: 1024 * rapid.Int64Range(1, 960).Draw(t, "KiB"), chunks: rapid.IntRange(1, 300).Draw(t, "chunks"),
			rate: after(rate("rate"), at, rate("rate then")), delay: after(before, at, then),
			credit: rapid.Int64Range(0, testCredit).Draw(t, "credit"),
		}
		// Who is sooner just before the way becomes shorter comes later by the difference, and a nanosecond
		// a chunk is rounding.
		spare := max(before-then, 0) + time.Duration(w.chunks)
		if got, two := w.run(&pace{}), w.run(&fixed{most: 2}); got.took > two.took+spare {
			t.Fatalf("took %v, with two chunks %v", got.took, two.took)
		}
	})
}

func TestPaceOfABusyWorker(t *testing.T) {
	w := way{chunk: testChunk, chunks: 500, rate: steady(50e6), delay: steady(20 * time.Millisecond), credit: testCredit, room: 3 * testChunk}
	got, two := w.run(&pace{}), w.run(&fixed{most: 2})
	if got.took.Seconds() > 1.01*two.took.Seconds() {
		t.Errorf("took %v, with two chunks %v", got.took, two.took)
	}
}

func TestPaceOfLoss(t *testing.T) {
	var got, two time.Duration // of many, since it is others that are lost
	for seed := range uint64(20) {
		w := way{chunk: testChunk, chunks: 1000, rate: steady(200e6), delay: steady(20 * time.Millisecond), credit: testCredit, loss: 0.005, seed: seed}
		got += w.run(&pace{}).took
		two += w.run(&fixed{most: 2}).took
	}
	if got > two {
		t.Errorf("took %v, with two chunks %v", got, two)
	}
}

// Over NATS, at a worker that takes one chunk after the other and gives credit for any number.
func TestPaceOverTheBus(t *testing.T) {
	const chunks, early = 200, 60
	f := newFake(t, "a")
	r := f.attached(16 * chunks)
	f.credit = func(string, int64) (int64, int64) { return 1 << 20, 60_000 }
	l := r.c.link("a")
	n, sum := map[string]int{}, map[string]int{}
	f.on(func(op, _ string, _ wire.Message) (wire.Message, bool) {
		if op != wire.OpVec && op != wire.OpFetch {
			return nil, false
		}
		time.Sleep(3 * time.Millisecond) // nobody else is answered
		if n[op]++; n[op] > early {
			l.mu.Lock()
			sum[op] += l.chunks
			l.mu.Unlock()
		}
		return nil, false
	})
	dst := make([]float32, 16*chunks)
	if _, err := r.IHVP(t.Context(), dst, ramp(16*chunks)); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst, ramp(16*chunks))
	for _, op := range []string{wire.OpVec, wire.OpFetch} {
		// Three or four, and more where the machine was busy each time that a chunk was alone. Credit and
		// memory would let 32 wait.
		mean := float64(sum[op]) / (chunks - early)
		t.Logf("%s: %.1f in flight", op, mean)
		if mean < 2 || mean > 12 {
			t.Errorf("%s: %.1f in flight", op, mean)
		}
	}
}
