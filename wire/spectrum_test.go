package wire

import (
	"errors"
	"math"
	"testing"
)

// What a query for numbers of the spectrum is refused for.
func TestSpectrumQueries(t *testing.T) {
	floats := func(x ...float64) []byte { return AppendFloats(nil, x) }
	good := Query{Run: "digits", Kind: KindScalars, Vectors: 1, Result: F64, Payload: floats(1e-5)}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bad   func(*Query)
		field string
	}{
		"vectors":          {func(q *Query) { q.Vectors = 2 }, "vectors"},
		"damping":          {func(q *Query) { q.Damping = 1 }, "damping"},
		"result":           {func(q *Query) { q.Result = F32 }, "result"},
		"steps":            {func(q *Query) { q.Steps = 1 }, "steps"},
		"divisor":          {func(q *Query) { q.Divisor = "rows" }, "divisor"},
		"no dampings":      {func(q *Query) { q.Payload = nil }, "payload bytes"},
		"half a damping":   {func(q *Query) { q.Payload = q.Payload[:4] }, "payload bytes"},
		"many dampings":    {func(q *Query) { q.Payload = floats(make([]float64, MaxDampings+1)...) }, "payload bytes"},
		"zero":             {func(q *Query) { q.Payload = floats(1, 0) }, "damping"},
		"negative":         {func(q *Query) { q.Payload = floats(-1) }, "damping"},
		"NaN":              {func(q *Query) { q.Payload = floats(math.NaN()) }, "damping"},
		"infinite":         {func(q *Query) { q.Payload = floats(math.Inf(1)) }, "damping"},
		"spectrum payload": {func(q *Query) { q.Kind = KindSpectrum }, "payload bytes"},
		"spectrum damping": {func(q *Query) { q.Kind, q.Payload, q.Damping = KindSpectrum, nil, 1 }, "damping"},
	} {
		q := good
		c.bad(&q)
		var e *Error
		if err := q.Validate(); !errors.As(err, &e) || e.Code != CodeInvalid || e.Field != c.field {
			t.Errorf("%s: %v, want an error about %s", name, err, c.field)
		}
	}
}
