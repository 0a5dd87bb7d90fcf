//go:build planted

// Package planted lets the simulator's own test plant known bugs in the cores, to see that it
// catches each.
package planted

// Bug names a bug that can be planted.
type Bug int

// The bugs.
const (
	CommitWithoutAcks Bug = iota // the coordinator tells "committed" at the first acknowledgement
	StaleEpoch                   // a worker takes messages of an epoch that is over
	DuplicateTwice               // a chunk that comes twice is counted twice
	EvictKeeps                   // a shard says that rows are forgotten before they are zero
	LabelLost                    // a step that becomes a row at a takeover loses its label
	Bugs                         // their number
)

var on [Bugs]bool

// Set plants a bug or takes it out. For tests, from one goroutine.
func Set(b Bug, v bool) { on[b] = v }

// On reports whether a bug is planted.
func On(b Bug) bool { return on[b] }
