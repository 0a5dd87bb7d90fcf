package shard

import (
	"sync"
	"sync/atomic"

	"mfac/shard/kernel"
)

const (
	// groupTiles is the number of tiles that one goroutine takes at a time and sums by
	// itself: a power of two, so that a group is a subtree of the tree over all tiles.
	groupTiles  = 1 << groupLevels
	groupLevels = 4

	// smallWork is the number of products below which a call stays on its goroutine: some
	// 100 µs in plain Go.
	smallWork = 1 << 18
)

// scratch is what one goroutine needs.
type scratch struct {
	kernel.Scratch
	x, r, stack []float64
}

// grow returns n floats of p's memory, of any value.
func grow(p *[]float64, n int) []float64 {
	if cap(*p) < n {
		*p = make([]float64, n)
	}
	return (*p)[:n]
}

// parallel calls f for each i in [0, n), in any order, on up to s.threads goroutines, this
// one among them, and waits for them. work is the number of products in all.
func (s *Store) parallel(n int, work int64, f func(w *scratch, i int)) {
	var next atomic.Int64
	run := func() {
		w := s.scratch.Get().(*scratch)
		defer s.scratch.Put(w)
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			f(w, int(i))
		}
	}
	var wg sync.WaitGroup
	if work >= s.smallWork {
		for range min(s.threads, n) - 1 {
			wg.Go(run)
		}
	}
	run()
	wg.Wait()
}

// sum sets dst, for each of its numbers, to the sum over the tiles of what part sets its
// argument to, in the order of the package comment.
func (s *Store) sum(dst []float64, work int64, part func(w *scratch, tile int, dst []float64)) {
	tiles := s.tiles()
	groups := (tiles-1)/groupTiles + 1
	tr := s.trees.Get().(*tree)
	tr.leaves = groups
	s.parallel(groups, work, func(w *scratch, i int) {
		lo := i * groupTiles
		group := sumGroup(w, len(dst), min(groupTiles, tiles-lo), func(t int, dst []float64) { part(w, lo+t, dst) })
		if groups == 1 {
			copy(dst, group)
			return
		}
		if top := tr.add(node{0, i}, append(tr.buffer(len(dst)), group...)); top != nil {
			copy(dst, top)
			tr.free(top)
		}
	})
	s.trees.Put(tr)
}

// sumGroup adds the parts of [0, tiles) pairwise. A part waits on the stack until the one
// that it is added to is there: below tile t lie as many as t has bits set.
func sumGroup(w *scratch, n, tiles int, part func(t int, dst []float64)) []float64 {
	stack := grow(&w.stack, (groupLevels+1)*n)
	depth := 0
	pop := func() {
		depth--
		add(stack[(depth-1)*n:depth*n], stack[depth*n:])
	}
	for t := range tiles {
		part(t, stack[depth*n:(depth+1)*n])
		depth++
		for i := t; i&1 == 1; i >>= 1 {
			pop()
		}
	}
	for depth > 1 { // odd last ones
		pop()
	}
	return stack[:n]
}

// add is a += b.
func add(a, b []float64) {
	b = b[:len(a)]
	for i := range a {
		a[i] += b[i]
	}
}

// A node is the i-th from the left, counted from the leaves up.
type node struct{ level, i int }

// A tree adds its leaves pairwise as they come, in any order: a node waits for its
// sibling, whoever comes second adds them. Leaves are taken from left to right, so that
// only some log₂(leaves) nodes wait, and one for each goroutine.
type tree struct {
	leaves int

	mu      sync.Mutex
	waiting map[node][]float64
	spare   [][]float64
}

// add takes the sum x of node at, and returns the whole tree's to whoever completes it.
func (tr *tree) add(at node, x []float64) (top []float64) {
	for {
		width := (tr.leaves-1)>>at.level + 1
		if width == 1 {
			return x
		}
		if sibling := (node{at.level, at.i ^ 1}); sibling.i < width {
			tr.mu.Lock()
			y := tr.waiting[sibling]
			if y == nil {
				tr.waiting[at] = x
				tr.mu.Unlock()
				return nil
			}
			delete(tr.waiting, sibling)
			tr.mu.Unlock()
			add(x, y) // as good as add(y, x), bit for bit
			tr.free(y)
		}
		at = node{at.level + 1, at.i / 2}
	}
}

// buffer returns an empty slice with room for n.
func (tr *tree) buffer(n int) []float64 {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if last := len(tr.spare) - 1; last >= 0 {
		b := tr.spare[last]
		tr.spare = tr.spare[:last]
		if cap(b) >= n {
			return b[:0]
		}
	}
	return make([]float64, 0, n)
}

func (tr *tree) free(b []float64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.spare = append(tr.spare, b)
}
