package main

import (
	"fmt"
	"math"
)

// inputs are what a cluster is made of, as far as the model of a training step knows. Rates are in
// bytes a second, times in seconds.
type inputs struct {
	Memory float64 `json:"memory"` // that one machine reads
	Share  float64 `json:"share"`  // of it that a pass reaches

	UpRate    float64 `json:"up"` // through one NATS server, chunks up and results down
	DownRate  float64 `json:"down"`
	WorkerNIC float64 `json:"worker_nic"` // each way; 0: no limit, all is one machine
	ClientNIC float64 `json:"client_nic"`
	CoordNIC  float64 `json:"coordinator_nic"`

	Round   float64 `json:"round"`   // a step's round trips, whatever its size
	Shard   float64 `json:"shard"`   // a scatter-gather, for each shard
	Algebra float64 `json:"algebra"` // for each of the m² entries
}

// load is a training step: publish and precondition of a gradient.
type load struct {
	D        float64 `json:"d"`
	M        int     `json:"m"`
	Shards   int     `json:"shards"`
	Workers  int     `json:"workers"`
	Clients  int     `json:"clients"`
	Machines int     `json:"machines"` // that hold workers
	Servers  int     `json:"servers"`  // of NATS that chunks go through
	Store    float64 `json:"store"`    // bytes a number
	Wire     float64 `json:"wire"`
	Fan      int     `json:"fan,omitempty"` // children of a node that adds products; 0: no tree
}

// times are what a step takes, part by part.
type times struct {
	Up, Pass, Down, Gather, Algebra, Round float64
}

// total is the parts one after the other. Overlapping makes it less, at best the largest part.
func (t times) total() float64 { return t.Up + 2*t.Pass + t.Down + t.Gather + t.Algebra + t.Round }

// bottleneck is the largest part.
func (t times) bottleneck() string {
	name, most := "", -1.0
	for _, p := range []struct {
		name string
		t    float64
	}{{"bus", t.Up + t.Down}, {"memory", 2 * t.Pass}, {"scatter-gather", t.Gather}, {"m×m algebra", t.Algebra}, {"round trips", t.Round}} {
		if p.t > most {
			name, most = p.name, p.t
		}
	}
	return name
}

// Sizes of what goes between coordinator and shards, in bytes a row of the window.
const (
	productSize = 20 // slot, attempt, product
	coefSize    = 8
)

// predict is the model:
//
//	up, down  d · wire / min(servers · a server's rate, clients' NICs, workers' NICs)
//	pass      m d · store / (machines · memory · share)
//	gather    two scatter-gathers, the first answered by m products a shard, the second
//	          carrying m coefficients to each
//	algebra   m²
func predict(in inputs, l load) times {
	bus := func(server float64) float64 {
		rate := server * float64(l.Servers)
		for _, nic := range []float64{in.ClientNIC * float64(l.Clients), in.WorkerNIC * float64(l.Machines)} {
			if nic > 0 {
				rate = min(rate, nic)
			}
		}
		return l.D * l.Wire / rate
	}
	return times{
		Up:      bus(in.UpRate),
		Down:    bus(in.DownRate),
		Pass:    float64(l.M) * l.D * l.Store / (float64(l.Machines) * in.Memory * in.Share),
		Gather:  gather(in, l),
		Algebra: in.Algebra * float64(l.M) * float64(l.M),
		Round:   in.Round,
	}
}

// gather is the time of both scatter-gathers. A node serves its children one after the other, all
// nodes of a level at once.
func gather(in inputs, l load) float64 {
	child := 2 * in.Shard
	if in.CoordNIC > 0 {
		child += float64(l.M) * (productSize + coefSize) / in.CoordNIC
	}
	levels, fan := 1, l.Shards
	if l.Fan > 1 && l.Fan < l.Shards {
		levels = int(math.Ceil(math.Log(float64(l.Shards))/math.Log(float64(l.Fan)) - 1e-9))
		fan = l.Fan
	}
	// Every further level is two more round trips beside its children.
	return float64(levels*fan)*child + float64(levels-1)*in.Round
}

// bestFan is the number of children at which the scatter-gathers take least; 0 where no tree helps.
func bestFan(in inputs, l load) int {
	l.Fan = 0
	best, least := 0, gather(in, l)
	for _, fan := range []int{4, 8, 16, 32, 64, 128, 256, 512} {
		l.Fan = fan
		if t := gather(in, l); fan < l.Shards && t < least {
			best, least = fan, t
		}
	}
	return best
}

// treeFrom is the least number of shards, a power of two up to most, from which a tree saves a tenth
// of the rest of a step; 0 where none does. Each shard has its own machine and d columns.
func treeFrom(in inputs, m, most int, d float64) int {
	for s := 2; s <= most; s *= 2 {
		l := cluster(d*float64(s), m, s, s)
		flat := gather(in, l)
		l.Fan = bestFan(in, l)
		if rest := predict(in, l).total() - gather(in, l); l.Fan != 0 && flat-gather(in, l) > 0.1*rest {
			return s
		}
	}
	return 0
}

// cluster is machines with a worker, a NATS server and a shard each, so many clients, and a
// coordinator on a machine of its own; rows and chunks in 16 bits.
func cluster(d float64, m, machines, clients int) load {
	return load{D: d, M: m, Shards: machines, Workers: machines, Clients: clients, Machines: machines, Servers: machines, Store: 2, Wire: 2}
}

// memoryOf is what a worker's rows take, with two spare slots.
func memoryOf(l load) float64 { return l.D * float64(l.M+2) * l.Store / float64(l.Machines) }

// siSeconds writes a time with three digits.
func siSeconds(s float64) string {
	switch {
	case s < 1e-3:
		return fmt.Sprintf("%.3g µs", 1e6*s)
	case s < 1:
		return fmt.Sprintf("%.3g ms", 1e3*s)
	case s < 600:
		return fmt.Sprintf("%.3g s", s)
	}
	return fmt.Sprintf("%.3g min", s/60)
}

// siBytes writes bytes with three digits.
func siBytes(b float64) string {
	for _, u := range []struct {
		unit string
		size float64
	}{{"PB", 1e15}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if b >= u.size {
			return fmt.Sprintf("%.3g %s", b/u.size, u.unit)
		}
	}
	return fmt.Sprintf("%.0f B", b)
}
