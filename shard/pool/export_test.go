package pool

// Waiting is the number of tasks of a class that may have units left.
func (p *Pool) Waiting(c Class) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, r := range p.classes[c].runs {
		n += len(r.tasks)
	}
	return n
}

// Asleep is the number of workers that sleep and nobody stands in for.
func (p *Pool) Asleep() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for i := range p.workers {
		if p.workers[i].asleep {
			n++
		}
	}
	return n
}
