//go:build !planted

// Package planted lets the simulator's own test plant known bugs in the cores, to see that it
// catches each. Without the build tag "planted" every bug is off, at compile time.
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
)

// On reports whether a bug is planted.
func On(Bug) bool { return false }
