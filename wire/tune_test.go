package wire

import (
	"errors"
	"math"
	"testing"
)

// What queries for H^(−½)v and for likelihoods are refused for.
func TestTuneQueries(t *testing.T) {
	floats := func(x ...float64) []byte { return AppendFloats(nil, x) }
	good := map[string]Query{
		KindInvSqrt:    {Run: "digits", Kind: KindInvSqrt, Vectors: 3, DType: F16, Result: BF16, Damping: 2},
		KindLikelihood: {Run: "digits", Kind: KindLikelihood, Vectors: 3, DType: F32, Result: F64, Payload: floats(1e-5, 1)},
		KindLeaveOut:   {Run: "digits", Kind: KindLeaveOut, Vectors: 1, Result: F64, Payload: floats(make1(MaxTuned)...)},
	}
	for kind, q := range good {
		if err := q.Validate(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for name, c := range map[string]struct {
		kind  string
		bad   func(*Query)
		field string
	}{
		"a root's dtype":      {KindInvSqrt, func(q *Query) { q.DType = "" }, "dtype"},
		"a root's payload":    {KindInvSqrt, func(q *Query) { q.Payload = floats(1) }, "payload bytes"},
		"a root's damping":    {KindInvSqrt, func(q *Query) { q.Damping = -1 }, "damping"},
		"verify":              {KindInvSqrt, func(q *Query) { q.Verify = true }, "verify"},
		"refine":              {KindInvSqrt, func(q *Query) { q.Refine = true }, "refine"},
		"no vectors":          {KindLikelihood, func(q *Query) { q.Vectors = 0 }, "vectors"},
		"many vectors":        {KindLikelihood, func(q *Query) { q.Vectors = MaxVectors + 1 }, "vectors"},
		"damping":             {KindLikelihood, func(q *Query) { q.Damping = 1 }, "damping"},
		"result":              {KindLikelihood, func(q *Query) { q.Result = F32 }, "result"},
		"dtype":               {KindLikelihood, func(q *Query) { q.DType = "" }, "dtype"},
		"no dampings":         {KindLikelihood, func(q *Query) { q.Payload = nil }, "payload bytes"},
		"half a damping":      {KindLikelihood, func(q *Query) { q.Payload = q.Payload[:12] }, "payload bytes"},
		"many dampings":       {KindLeaveOut, func(q *Query) { q.Payload = floats(make1(MaxTuned + 1)...) }, "payload bytes"},
		"NaN":                 {KindLeaveOut, func(q *Query) { q.Payload = floats(math.NaN()) }, "damping"},
		"zero":                {KindLeaveOut, func(q *Query) { q.Payload = floats(1, 0) }, "damping"},
		"vectors to leave":    {KindLeaveOut, func(q *Query) { q.Vectors = 2 }, "vectors"},
		"damping of leaveout": {KindLeaveOut, func(q *Query) { q.Damping = 1 }, "damping"},
	} {
		q := good[c.kind]
		c.bad(&q)
		var e *Error
		if err := q.Validate(); !errors.As(err, &e) || e.Code != CodeInvalid || e.Field != c.field {
			t.Errorf("%s: %v, want an error about %s", name, err, c.field)
		}
	}
	for name, m := range map[string]*ResultReply{
		"done":  {State: StatePending, Done: 3, Total: 2},
		"total": {State: StatePending, Total: -1},
	} {
		var e *Error
		if err := m.Validate(); !errors.As(err, &e) || e.Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// make1 is n ones.
func make1(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = 1
	}
	return x
}
