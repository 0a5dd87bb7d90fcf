package wire

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// What is wrong with a query for scores, pairs or influence, or with a page of numbers, is named.
func TestScalarsAreChecked(t *testing.T) {
	ask := func(kind string, change func(*Query)) *Query {
		q := &Query{Run: "digits", Kind: kind, Vectors: 2, DType: F32, Result: F64}
		switch kind {
		case KindPairs:
			q.Payload = AppendPairs(nil, []Pair{{0, 1}})
		case KindInfluence, KindSelf:
			q.Vectors, q.DType = 1, ""
		}
		change(q)
		return q
	}
	page := func(lo, n int64) Message { return &Values{Run: "digits", Epoch: exEpoch, Query: 1, Lo: lo, N: n} }
	for name, c := range map[string]struct {
		msg  Message
		want string // "": nothing is wrong
	}{
		"scores":             {ask(KindScores, func(*Query) {}), ""},
		"pairs":              {ask(KindPairs, func(*Query) {}), ""},
		"influence":          {ask(KindInfluence, func(*Query) {}), ""},
		"self":               {ask(KindSelf, func(*Query) {}), ""},
		"scores in float32":  {ask(KindScores, func(q *Query) { q.Result = F32 }), "result is f32, must be f64"},
		"scores of payload":  {ask(KindScores, func(q *Query) { q.Payload = make([]byte, 8) }), "payload bytes is 8, must be 0"},
		"scores of no dtype": {ask(KindScores, func(q *Query) { q.DType = "" }), "dtype is "},
		"no pairs":           {ask(KindPairs, func(q *Query) { q.Payload = nil }), "payload bytes is 0"},
		"half a pair":        {ask(KindPairs, func(q *Query) { q.Payload = make([]byte, 12) }), "payload bytes is 12"},
		"many pairs":         {ask(KindPairs, func(q *Query) { q.Payload = make([]byte, 8*(MaxPairs+1)) }), "payload bytes is 32776"},
		"a pair of no such":  {ask(KindPairs, func(q *Query) { q.Payload = AppendPairs(nil, []Pair{{0, 2}}) }), "pair is 2, must be below the query's 2"},
		"a pair far off":     {ask(KindPairs, func(q *Query) { q.Payload = AppendPairs(nil, []Pair{{math.MaxUint32, 0}}) }), "pair is 4294967295"},
		"influence of two":   {ask(KindInfluence, func(q *Query) { q.Vectors = 2 }), "vectors is 2, must be 1 for influence"},
		"self of payload":    {ask(KindSelf, func(q *Query) { q.Payload = make([]byte, 8) }), "payload bytes is 8"},
		"a page":             {page(0, MaxValuesReply), ""},
		"the last page":      {page(MaxValues-1, 1), ""},
		"an empty page":      {page(0, 0), "n is 0"},
		"a long page":        {page(0, MaxValuesReply+1), "n is 125001"},
		"a page below":       {page(-1, 1), "lo is -1"},
		"a page beyond":      {page(MaxValues, 1), "lo is 33554432"},
		"a page far beyond":  {page(math.MaxInt64, 2), "lo is 9223372036854775807"},
		"a short reply":      {&ValuesReply{Lo: 0, N: 2, Payload: make([]byte, 8)}, "payload bytes is 8, must be 16"},
		"too many values":    {&ResultReply{State: StateReady, Values: MaxValues + 1}, "values is 33554433"},
	} {
		err := c.msg.Validate()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
