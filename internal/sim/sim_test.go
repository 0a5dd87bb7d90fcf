package sim

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seeds = flag.Int("seeds", 200, "how many seeds TestSeeds runs")
	first = flag.Uint64("first", 1, "the first of them")
	seed  = flag.Uint64("seed", 0, "the seed that TestSeed runs")
)

// full is how many seeds must fill every cell of the table.
const full = 2000

// again is the command that reruns a seed alone.
func again(seed uint64) string {
	return fmt.Sprintf("go test ./internal/sim -run 'TestSeed$' -seed %d -v", seed)
}

func TestSeeds(t *testing.T) {
	begin := time.Now()
	next := atomic.Uint64{}
	next.Store(*first)
	var mu sync.Mutex
	coverage, stats := Coverage{}, Stats{}
	failures := map[uint64]string{}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				s := next.Add(1) - 1
				if s >= *first+uint64(*seeds) {
					return
				}
				r := Run(Config{Seed: s})
				mu.Lock()
				coverage.Add(r.Coverage)
				stats.Add(r.Stats)
				switch st := r.Stats; {
				case r.Failure != "":
					failures[s] = r.Failure
				case st.Committed == 0 || st.Answered == 0 || st.WorkerCrashes == 0 || st.CoordinatorCrashes == 0:
					failures[s] = fmt.Sprintf("it shows too little: %+v", st)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds in %v: %+v", *seeds, time.Since(begin).Round(time.Millisecond), stats)
	t.Logf("faults by phase:\n%v", coverage)
	if empty := coverage.Empty(); len(empty) > 0 && *seeds >= full {
		t.Errorf("%d cells of the table are empty: %s", len(empty), strings.Join(empty, ", "))
	}
	lowest, shown := uint64(0), 0
	for s := *first; s < *first+uint64(*seeds); s++ {
		f, ok := failures[s]
		if !ok {
			continue
		}
		if lowest == 0 {
			lowest = s
		}
		if shown++; shown <= 10 {
			t.Errorf("seed %d: %.600s", s, f)
		}
	}
	if lowest != 0 {
		t.Errorf("%d of %d seeds failed\n%s", len(failures), *seeds, again(lowest))
	}
}

// TestSeed runs one seed and prints what happened.
func TestSeed(t *testing.T) {
	r := Run(Config{Seed: max(1, *seed), Trace: testing.Verbose() && *seed != 0})
	for _, line := range r.Trace {
		fmt.Println(line)
	}
	if r.Failure != "" {
		t.Fatalf("seed %d: %s\n%s", *seed, r.Failure, again(*seed))
	}
}

// TestSeedsRepeat sees that a seed is one history.
func TestSeedsRepeat(t *testing.T) {
	for s := uint64(1); s <= 4; s++ {
		a, b := Run(Config{Seed: s, Trace: true}), Run(Config{Seed: s, Trace: true})
		if x, y := strings.Join(a.Trace, "\n"), strings.Join(b.Trace, "\n"); x != y {
			t.Errorf("seed %d has two histories, of %d and %d lines", s, len(a.Trace), len(b.Trace))
		}
	}
}
