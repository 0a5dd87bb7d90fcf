package main

import (
	"fmt"
	"math"
	"strings"
)

// What docs/scaling.md takes for given about machines beyond this one. The shares and times that
// were measured here are kept: passes' share of the memory's rate, a shard's and a step's cost.
const (
	farMemory  = 300e9     // bytes/s that a two-socket server's memory gives
	farNIC     = 100e9 / 8 // 100 Gb/s, each way
	farServer  = 4e9       // bytes/s through one NATS server with cores to itself
	farRound   = 200e-6    // s of a step's round trips in a data centre
	farRAM     = 1e12      // bytes a machine
	farPrice   = 6.0       // USD for a machine and hour
	farColumns = 2.5e8     // of a shard, where their number grows
	mostShards = 1 << 12   // looked at
)

// far are the model's inputs for a cluster.
func far(here inputs) inputs {
	in := here
	in.Memory, in.WorkerNIC, in.ClientNIC, in.CoordNIC = farMemory, farNIC, farNIC, farNIC
	in.UpRate, in.DownRate = farServer, farServer
	in.Round = max(here.Round, farRound)
	return in
}

// scalingPage is docs/scaling.md.
func scalingPage(g *grown) []byte {
	var w strings.Builder
	in := g.Inputs
	fmt.Fprintf(&w, `# Beyond one machine

Made by `+"`go run ./bench`"+` (bench/model.go is the model, this page its answers); not edited by hand.

## The model

A training step publishes a gradient and gets it preconditioned. Its parts, one after the other:

    bus up       d · wire bytes / bus rate
    a pass       m · d · store bytes / (machines · memory rate · share)       the products
    bus down     d · wire bytes / bus rate
    a pass       the same                                                     the combination
    gather       2 · shards · cost of a shard + shards · m · %d bytes / coordinator's NIC
    algebra      m² · cost of an entry
    round trips  a constant

    bus rate   = min(NATS servers · rate of one, clients · NIC, machines · NIC)

Overlapping makes it less: products start as chunks arrive, results are sent as they are worked out. At best the largest
part is left.

## Checked here

The inputs, measured on %s:

| input | value |
|---|---|
| memory, two threads reading | %s/s |
| share of it that passes reach, m = 64, float32 | %.2f |
| bus up, raw NATS on loopback | %s/s |
| bus down | %s/s |
| round trips of a step (tiny step, one shard) | %s |
| a shard, each scatter-gather (tiny steps of 64 shards and of one) | %s |
| m×m algebra at m = 1024 | %s |

Every curve of [benchmarks.md](benchmarks.md), measured and as the model says. All is one machine and one server there, so more workers or
clients bring nothing but their own cost.

`, productSize+coefSize, g.Machine, siBytes(in.Memory), in.Share, siBytes(in.UpRate), siBytes(in.DownRate), siSeconds(in.Round), siSeconds(in.Shard), siSeconds(in.Algebra*1024*1024))
	checkTable(&w, g)
	farSection(&w, far(in))
	return []byte(w.String())
}

// checkTable is the model's error at every point, and its size over a curve.
func checkTable(w *strings.Builder, g *grown) {
	w.WriteString("| curve | at | measured | model | model / measured |\n|---|---|---|---|---|\n")
	for _, c := range g.Curves {
		for _, p := range c.Points {
			if p.Reason != "" {
				fmt.Fprintf(w, "| %s | %s | – | %s | %s |\n", c.Axis, power(p.X), siSeconds(p.Model), p.Reason)
				continue
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %.2f |\n", c.Axis, power(p.X), siSeconds(p.Measured), siSeconds(p.Model), p.Model/p.Measured)
		}
	}
	w.WriteString("\n| curve | fixed | typical error | worst |\n|---|---|---|---|\n")
	for _, c := range g.Curves {
		typical, worst := modelError(c)
		fmt.Fprintf(w, "| %s | %s | × %.2f | × %.2f |\n", c.Axis, c.Fixed, typical, worst)
	}
	w.WriteString("\nAn error of × 1.5 is a model that says two thirds or one and a half of what was measured; the typical one is the geometric mean.\n")
}

// modelError is by what factor the model is off, either way: the geometric mean and the worst.
func modelError(c curve) (typical, worst float64) {
	var sum float64
	n := 0
	for _, p := range c.Points {
		if p.Reason != "" {
			continue
		}
		e := math.Abs(math.Log(p.Model / p.Measured))
		sum, worst, n = sum+e, max(worst, e), n+1
	}
	if n == 0 {
		return 1, 1
	}
	return math.Exp(sum / float64(n)), math.Exp(worst)
}

// farSection asks the model about clusters.
func farSection(w *strings.Builder, in inputs) {
	fmt.Fprintf(w, `
## Asked about clusters

Taken for given, not measured here: machines of %s of memory that read %s/s, NICs of %s/s each way, %s/s through one NATS
server with cores of its own, %s of round trips a step, %.0f USD an hour and machine. Measured here and kept: the passes' share
of the memory's rate, a shard's cost, the algebra's. A worker and a NATS server on every machine, a shard each, as many
clients as machines (data-parallel training: each sends and takes its columns); rows and chunks in bfloat16. "Step" is the
sum of the parts, "overlapped" the largest of them; both with the best reduction tree where one helps. A dash: the rows don't
fit the memory. The price is of all machines for the time of the steps alone: between them they wait for the training.

| d | m | machines | memory each | step | overlapped | bottleneck | machine-seconds | USD for 1,000 steps |
|---|---|---|---|---|---|---|---|---|
`, siBytes(farRAM), siBytes(farMemory), siBytes(farNIC), siBytes(farServer), siSeconds(farRound), farPrice)
	for _, d := range []float64{1e9, 1e10, 1e11, 1e12} {
		for _, m := range []int{64, 512, 4096} {
			for _, machines := range []int{8, 64, 512, 4096} {
				l := cluster(d, m, machines, machines)
				if memoryOf(l) > farRAM {
					fmt.Fprintf(w, "| %s | %d | %d | %s | – | – | memory's size | – | – |\n", power(d), m, machines, siBytes(memoryOf(l)))
					continue
				}
				l.Fan = bestFan(in, l)
				t := predict(in, l)
				most := max(t.Up+t.Down, 2*t.Pass, t.Gather, t.Algebra, t.Round)
				cost := t.total() * float64(machines)
				fmt.Fprintf(w, "| %s | %d | %d | %s | %s | %s | %s | %.3g | %.3g |\n",
					power(d), m, machines, siBytes(memoryOf(l)), siSeconds(t.total()), siSeconds(most), t.bottleneck(), cost, 1000*cost/3600*farPrice)
			}
		}
	}

	w.WriteString(`
## What the topology must be

**A NATS server beside each worker.** All chunks through one server, or a few, against one on every machine (d = 1e11, m = 64,
64 machines and clients):

| NATS servers | bus up and down | step |
|---|---|---|
`)
	for _, servers := range []int{1, 3, 8, 64} {
		l := cluster(1e11, 64, 64, 64)
		l.Servers = servers
		t := predict(in, l)
		fmt.Fprintf(w, "| %d | %s | %s |\n", servers, siSeconds(t.Up+t.Down), siSeconds(t.total()))
	}
	w.WriteString(`
In a NATS cluster a message goes from the client's server to the worker's, so with one beside each worker the bulk crosses
the network once, and each server carries its own worker's bytes alone. Clients should connect to the nearest.

**One client's NIC.** A single publisher sends all d numbers through its own NIC, however many workers there are: for d = 1e11
`)
	single := predict(in, cluster(1e11, 64, 64, 1))
	many := predict(in, cluster(1e11, 64, 64, 64))
	fmt.Fprintf(w, "that is %s of bus in a step, against %s with 64 clients that each have their columns.\n", siSeconds(single.Up+single.Down), siSeconds(many.Up+many.Down))
	w.WriteString(`
**A tree of reductions.** The coordinator hears m products from each shard and sends m coefficients to each, one shard after the
other. A tree of nodes that add the products of their children takes that off it; float64 addition does not associate, so the
tree must then be part of the run, as the number of shards is, for an answer to keep its bits. From how many shards a tree
saves more than a tenth of the rest of a step, with d = 2.5e8 for each of them; and what the best one is at 4,096 shards:

| m | tree from | flat at 4,096 | children of a node | with the tree |
|---|---|---|---|---|
`)
	for _, m := range []int{64, 512, 4096} {
		from := treeFrom(in, m, mostShards, farColumns)
		l := cluster(farColumns*mostShards, m, mostShards, mostShards)
		flat := gather(in, l)
		fan := bestFan(in, l)
		l.Fan = fan
		fromText := "never"
		if from > 0 {
			fromText = fmt.Sprintf("%d shards", from)
		}
		fmt.Fprintf(w, "| %d | %s | %s | %d | %s |\n", m, fromText, siSeconds(flat), fan, siSeconds(gather(in, l)))
	}
	w.WriteString(`
The protocol allows 512 shards in a run today, so the tree is for what comes after that limit. The m×m algebra is on one
core of the coordinator and does not grow with d or with the shards: at m = 4096 it is the floor of a step.
`)
}
