package main

import (
	"runtime"
	"testing"
	"time"
)

// Work takes cores' time, waiting takes none.
func TestBusy(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system doesn't tell")
	}
	var waits, works busy
	for _, c := range []struct {
		b *busy
		f func() error
	}{
		{&waits, func() error { time.Sleep(50 * time.Millisecond); return nil }},
		{&works, func() error {
			for began := cpuTime(); cpuTime()-began < 50*time.Millisecond; {
			}
			return nil
		}},
	} {
		if _, err := c.b.timed(c.f); err != nil {
			t.Fatal(err)
		}
	}
	if waits.took[0] < 0.05 || waits.cores[0] > 0.025 {
		t.Errorf("waiting takes %s", &waits)
	}
	if works.cores[0] < 0.05 {
		t.Errorf("working takes %s", &works)
	}
}
