package shard

// UseThreadsAlways takes the threads for the least of work.
func (s *Store) UseThreadsAlways() { s.smallWork = 0 }
