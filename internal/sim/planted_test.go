//go:build planted

package sim

import (
	"strings"
	"testing"

	"mfac/internal/planted"
)

// patience is how many seeds a planted bug may take to be caught.
const patience = 2000

// TestPlanted sees that each planted bug is caught, and by the checker that is there for it.
func TestPlanted(t *testing.T) {
	for _, b := range []struct {
		bug     planted.Bug
		name    string
		checker string // that finds it, if not alone; "" for several
	}{
		{planted.CommitWithoutAcks, "CommitWithoutAcks", "V1"}, {planted.StaleEpoch, "StaleEpoch", "V9"}, {planted.DuplicateTwice, "DuplicateTwice", ""},
		{planted.EvictKeeps, "EvictKeeps", "V11"}, {planted.LabelLost, "LabelLost", "V13"},
	} {
		t.Run(b.name, func(t *testing.T) {
			planted.Set(b.bug, true)
			defer planted.Set(b.bug, false)
			caught := map[string]int{}
			after := uint64(0)
			for s := uint64(1); s <= patience && (after == 0 || s <= 200); s++ {
				r := Run(Config{Seed: s})
				if r.Failure == "" {
					continue
				}
				if after == 0 {
					after = s
					t.Logf("caught by seed %d: %.300s", s, r.Failure)
				}
				what, _, _ := strings.Cut(r.Failure, " ")
				caught[what]++
			}
			if after == 0 {
				t.Fatalf("not caught in %d seeds", patience)
			}
			t.Logf("of the first 200 seeds caught: %v", caught)
			if b.checker != "" && caught[b.checker] == 0 {
				t.Errorf("%s caught it in no seed", b.checker)
			}
		})
	}
}
