package wire

import (
	"errors"
	"strings"
	"testing"
)

// What only some kinds of query have is refused of the others, by name.
func TestFunctionChecks(t *testing.T) {
	vector := Query{Run: "r", Kind: KindVector, Vectors: 1, DType: F32, Result: F32}
	sample := Query{Run: "r", Kind: KindSample, Vectors: 2, Result: F32, Seed: 1}
	fisher := vector
	fisher.Kind = KindFisher
	prepare := Prepare{Shard: exShard, Query: 1, Vectors: 1, DType: F32, Mask: exMask}
	of := func(q Query, change func(*Query)) Message { change(&q); return &q }
	at := func(p Prepare, change func(*Prepare)) Message { change(&p); return &p }
	for _, c := range []struct {
		field string // "" is fine
		m     Message
	}{
		{"", of(vector, func(q *Query) { q.Verify, q.Refine = true, true })},
		{"seed", of(vector, func(q *Query) { q.Seed = 1 })},
		{"first", of(vector, func(q *Query) { q.First = 1 })},
		{"", &fisher},
		{"verify", of(fisher, func(q *Query) { q.Verify = true })},
		{"refine", of(fisher, func(q *Query) { q.Refine = true })},
		{"dtype", of(fisher, func(q *Query) { q.DType = "" })},
		{"payload", of(fisher, func(q *Query) { q.Payload = []byte{1} })},
		{"", of(sample, func(q *Query) { q.First = MaxSamples - 2 })},
		{"first", of(sample, func(q *Query) { q.First = MaxSamples - 1 })},
		{"first", of(sample, func(q *Query) { q.First = -1 })},
		{"verify", of(sample, func(q *Query) { q.Verify = true })},
		{"payload", of(sample, func(q *Query) { q.Payload = []byte{1} })},
		{"kind", at(prepare, func(p *Prepare) { p.Kind = KindCombine })},
		{"seed", at(prepare, func(p *Prepare) { p.Seed = 1 })},
		{"first", at(prepare, func(p *Prepare) { p.Kind, p.First = KindSample, -1 })},
		{"", at(prepare, func(p *Prepare) { p.Kind, p.First, p.Seed = KindSample, 9, 9 })},
		{"round", &Refine{Shard: exShard, Vectors: 1, Payload: make([]byte, 8)}},
		{"vectors", &Residual{Shard: exShard, Damping: 1, Payload: make([]byte, 8)}},
		{"damping", &Apply{Shard: exShard}},
	} {
		err := c.m.Validate()
		var e *Error
		switch {
		case c.field == "" && err == nil:
		case c.field == "" || !errors.As(err, &e) || !strings.Contains(e.Field, c.field):
			t.Errorf("%T %+v: %v, must name %q", c.m, c.m, err, c.field)
		}
	}
}
