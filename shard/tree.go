package shard

import "sync"

// A tree adds vectors of n numbers, its leaves, pairwise as they come, in any order: a node waits
// for its sibling, whoever comes second adds them. Where leaves come from left to right some
// log₂(leaves) nodes wait, and one for each goroutine; in the worst order half of the leaves do,
// less than 1/16,000 of the memory of the rows that they are sums over. Buffers are used again.
type tree struct {
	n, leaves int

	mu      sync.Mutex
	waiting []int32     // by node, leaves first: 1 + its buffer, or 0
	buffers [][]float64 // of n numbers and more
	spare   []int32
	top     int32 // 1 + the buffer of the whole sum, once that is there
}

// keptNumbers bounds a buffer that is kept for other sums.
const keptNumbers = 1 << 14

// begin makes it a tree of leaves leaves, which came to nothing yet.
func (tr *tree) begin(n, leaves int) {
	nodes := 0
	for width := leaves; ; width = (width + 1) / 2 {
		nodes += width
		if width == 1 {
			break
		}
	}
	tr.n, tr.leaves, tr.top = n, leaves, 0
	if cap(tr.waiting) < nodes {
		tr.waiting = make([]int32, nodes)
	}
	tr.waiting = tr.waiting[:nodes]
	clear(tr.waiting) // of a sum that was given up
	tr.spare = tr.spare[:0]
	for b := range tr.buffers {
		tr.spare = append(tr.spare, int32(b))
	}
}

// end lets go of what is too large to be kept.
func (tr *tree) end() {
	if tr.n > keptNumbers {
		tr.buffers = nil
	}
}

// add takes the sum x of a leaf.
func (tr *tree) add(leaf int, x []float64) {
	b, sum := tr.buffer()
	copy(sum, x)
	at, first := leaf, 0
	for width := tr.leaves; width > 1; width = (width + 1) / 2 {
		if sibling := at ^ 1; sibling < width {
			tr.mu.Lock()
			other := tr.waiting[first+sibling] - 1
			if other < 0 {
				tr.waiting[first+at] = b + 1
				tr.mu.Unlock()
				return
			}
			tr.waiting[first+sibling] = 0
			y := tr.buffers[other][:tr.n]
			tr.mu.Unlock()
			add(sum, y) // as good as add(y, sum), bit for bit
			tr.mu.Lock()
			tr.spare = append(tr.spare, other)
			tr.mu.Unlock()
		}
		at, first = at/2, first+width
	}
	tr.mu.Lock()
	tr.top = b + 1
	tr.mu.Unlock()
}

func (tr *tree) buffer() (b int32, x []float64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if last := len(tr.spare) - 1; last >= 0 {
		b, tr.spare = tr.spare[last], tr.spare[:last]
	} else {
		b, tr.buffers = int32(len(tr.buffers)), append(tr.buffers, nil)
	}
	if len(tr.buffers[b]) < tr.n {
		tr.buffers[b] = make([]float64, tr.n)
	}
	return b, tr.buffers[b][:tr.n]
}

// sum is the whole sum, nil where leaves are missing.
func (tr *tree) sum() []float64 {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.top == 0 {
		return nil
	}
	return tr.buffers[tr.top-1][:tr.n]
}

// add is a += b.
func add(a, b []float64) {
	b = b[:len(a)]
	for i := range a {
		a[i] += b[i]
	}
}
