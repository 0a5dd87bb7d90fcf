package coordinator

import (
	"cmp"
	"maps"
	"slices"
)

// ring remembers the last values by key.
type ring[K comparable, V any] struct {
	most  int
	keys  []K
	next  int
	value map[K]V
}

func newRing[K comparable, V any](most int) ring[K, V] {
	return ring[K, V]{most: most, value: map[K]V{}}
}

func (r *ring[K, V]) put(k K, v V) {
	if _, ok := r.value[k]; !ok {
		if len(r.keys) < r.most {
			r.keys = append(r.keys, k)
		} else {
			delete(r.value, r.keys[r.next])
			r.keys[r.next] = k
			r.next = (r.next + 1) % r.most
		}
	}
	r.value[k] = v
}

func (r *ring[K, V]) get(k K) (V, bool) {
	v, ok := r.value[k]
	return v, ok
}

// sortedKeys makes iteration over a map deterministic.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
