package worker

import "testing"

// TestIdleLanes: a lane goes when its shard has no jobs; one with jobs, or in work, stays.
func TestIdleLanes(t *testing.T) {
	s := &Service{lanes: map[ShardKey]*lane{
		{"idle", 0}:    {},
		{"running", 0}: {running: true},
		{"waiting", 0}: {jobs: []Job{{}}},
	}}
	s.sweep()
	if len(s.lanes) != 2 || s.lanes[ShardKey{"idle", 0}] != nil {
		t.Errorf("lanes are %v", s.lanes)
	}
}
