package main

import (
	"fmt"
	"time"
)

// busy is what some work took: the clock's time, and that of all cores. Where cores have no time left
// it is the cores that hold the work, where they have some it waits.
type busy struct{ took, cores []float64 }

// timed is timed, and notes it.
func (b *busy) timed(f func() error) (time.Duration, error) {
	before := cpuTime()
	took, err := timed(f)
	b.took, b.cores = append(b.took, took.Seconds()), append(b.cores, (cpuTime()-before).Seconds())
	return took, err
}

// String is the medians, "" where the system doesn't tell.
func (b *busy) String() string {
	if cores := median(b.cores); cores > 0 {
		return fmt.Sprintf("%.3g core-ms in %.3g ms", 1e3*cores, 1e3*median(b.took))
	}
	return ""
}
