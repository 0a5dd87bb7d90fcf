package main

import (
	"math"
	"testing"
)

var plain = inputs{Memory: 100e9, Share: 0.5, UpRate: 1e9, DownRate: 2e9, Round: 1e-3, Shard: 1e-4, Algebra: 1e-9}

const tiny = 1e-12 // of what is worked out in another order

func near(a, b float64) bool { return math.Abs(a-b) <= tiny*math.Abs(b) }

func TestPredict(t *testing.T) {
	l := load{D: 1e9, M: 10, Shards: 4, Workers: 4, Clients: 1, Machines: 2, Servers: 1, Store: 2, Wire: 4}
	got := predict(plain, l)
	want := times{Up: 4, Down: 2, Pass: 20e9 / (2 * 50e9), Gather: 8e-4, Algebra: 1e-7, Round: 1e-3}
	for _, p := range [][2]float64{{got.Up, want.Up}, {got.Down, want.Down}, {got.Pass, want.Pass}, {got.Gather, want.Gather}, {got.Algebra, want.Algebra}, {got.Round, want.Round}} {
		if !near(p[0], p[1]) {
			t.Errorf("predicted %+v, not %+v", got, want)
		}
	}
	if got.bottleneck() != "bus" || !near(got.total(), 4+2+2*0.2+8e-4+1e-7+1e-3) {
		t.Errorf("bottleneck %s, total %v", got.bottleneck(), got.total())
	}
}

// A NIC bounds the bus where it is slower than the servers; more clients or machines lift that.
func TestNIC(t *testing.T) {
	in := plain
	in.ClientNIC, in.WorkerNIC = 0.5e9, 0.25e9
	l := load{D: 1e9, M: 1, Shards: 4, Clients: 1, Machines: 1, Servers: 8, Store: 2, Wire: 1}
	for _, c := range []struct {
		clients, machines int
		want              float64
	}{{1, 1, 4}, {1, 8, 2}, {4, 8, 0.5}, {100, 100, 0.125}} {
		l.Clients, l.Machines = c.clients, c.machines
		if got := predict(in, l).Up; !near(got, c.want) {
			t.Errorf("%d clients, %d machines: up in %v, not %v", c.clients, c.machines, got, c.want)
		}
	}
}

func TestTree(t *testing.T) {
	in := plain
	in.CoordNIC = 10e9
	l := cluster(1e12, 1024, 4096, 4096)
	flat := gather(in, l)
	l.Fan = 64
	if got, want := gather(in, l), flat/4096*128+in.Round; !near(got, want) {
		t.Errorf("64 children: %v, not %v", got, want)
	}
	l.Fan = bestFan(in, l)
	if l.Fan == 0 || !(gather(in, l) < flat/10) {
		t.Errorf("the best tree, of %d children, takes %v, flat %v", l.Fan, gather(in, l), flat)
	}
	if few := cluster(1e12, 1024, 4, 4); bestFan(in, few) != 0 {
		t.Error("a tree over four shards")
	}
	from := treeFrom(in, 1024, 1<<20, 1e9)
	if from == 0 {
		t.Fatal("no number of shards needs a tree")
	}
	if again := treeFrom(in, 1024, from/2, 1e9); again != 0 {
		t.Errorf("from %d, but also from %d", from, again)
	}
}

func TestModelError(t *testing.T) {
	typical, worst := modelError(curve{Points: []point{{Measured: 1, Model: 2}, {Measured: 8, Model: 1}, {Reason: "no memory"}}})
	if !near(typical, 4) || !near(worst, 8) {
		t.Errorf("typical %v, worst %v", typical, worst)
	}
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		siSeconds(0.0123): "12.3 ms", siSeconds(2.5e-5): "25 µs", siSeconds(3): "3 s", siSeconds(1200): "20 min",
		siBytes(12): "12 B", siBytes(2.5e9): "2.5 GB", siBytes(1e15): "1 PB",
		power(1e9): "1e9", power(64): "64", power(2.5e12): "2.5e12",
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
