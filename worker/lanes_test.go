package worker

import "testing"

// TestIdleLanes: a lane goes when its shard has no jobs; one with jobs, waiting or under way, stays.
func TestIdleLanes(t *testing.T) {
	s := &Service{lanes: map[ShardKey]*lane{}}
	for _, name := range []string{"idle", "waiting", "under way", "done"} {
		l := &lane{}
		s.lanes[ShardKey{name, 0}] = l
		if name != "idle" {
			l.queue.Add(Job{ID: 1, Op: Free{}})
		}
		if name == "under way" || name == "done" {
			l.queue.Next()
		}
		if name == "done" {
			l.queue.Finish(1)
		}
	}
	s.sweep()
	for name, stays := range map[string]bool{"idle": false, "waiting": true, "under way": true, "done": false} {
		if (s.lanes[ShardKey{name, 0}] != nil) != stays {
			t.Errorf("the lane that is %s: stays is %v, want %v", name, !stays, stays)
		}
	}
}
