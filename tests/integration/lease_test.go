package integration

import (
	"testing"
	"time"

	"mfac/client"
)

// TestLeaseOfTheBucket has coordinators that are told of a longer lease than the bucket was made
// with: were the bucket's TTL not to hold for them, the lease would run out before it is renewed
// and the two would take the run from each other.
func TestLeaseOfTheBucket(t *testing.T) {
	c := start(t, shape{workers: 1}) // makes the bucket with 2 s
	r := c.attach(c.client(), client.RunConfig{Name: "digits", Dim: 3, Window: 1, Damping: 1})
	c.stopCoordinator("c0")
	c.shape.coordinator.LeaseTTL = time.Hour
	c.startCoordinator("c1")
	c.startCoordinator("c2")
	before, err := r.Status(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second)
	after, err := r.Status(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if after.Epoch != before.Epoch || after.Coord != before.Coord {
		t.Errorf("the run went from %s at %v to %s at %v", before.Coord, before.Epoch, after.Coord, after.Epoch)
	}
}
