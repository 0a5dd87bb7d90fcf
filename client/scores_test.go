package client

import (
	"errors"
	"math"
	"slices"
	"testing"

	"mfac/wire"
)

// answering makes the fake answer queries with these numbers, two at a time, for the steps 5, 6 and 7.
// It returns what the queries were.
func (f *fake) answering(values []float64, bounds ...float64) *[]*wire.Query {
	var asked []*wire.Query
	f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
		switch m := m.(type) {
		case *wire.Query:
			asked = append(asked, m)
		case *wire.Result:
			return &wire.ResultReply{State: wire.StateReady, Version: 9, Rows: 3, Bounds: bounds, Values: int64(len(values))}, true
		case *wire.Values:
			n := min(m.N, 2)
			return &wire.ValuesReply{Lo: m.Lo, N: n, Payload: wire.AppendFloats(nil, values[m.Lo:m.Lo+n])}, true
		case *wire.LabelsRequest:
			if m.Query == 0 {
				f.t.Error("the steps of the present window are asked for, not those of the query's")
			}
			list := []wire.Labelled{{Step: 5}, {Step: 6, Label: "six"}, {Step: 7}}[m.From:] // two at a time
			n := min(2, len(list))
			return &wire.Labels{Version: 9, Rows: 3, From: m.From, N: n, Payload: wire.AppendLabels(nil, list[:n])}, true
		}
		return nil, false
	})
	return &asked
}

func TestScores(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(4)
	asked := f.answering([]float64{1, 2, 3, 4, 5, 6}, 1e-12, 2e-12)
	s, err := r.Scores64(t.Context(), [][]float64{{1, 2, 3, 4}, {4, 3, 2, 1}}, WithDamping(0.5))
	if err != nil {
		t.Fatal(err)
	}
	if s.Version != 9 || s.Rows != 3 || s.Bound() != 2e-12 || !slices.Equal(s.Steps, []wire.Step{5, 6, 7}) || !slices.Equal(s.Labels, []string{"", "six", ""}) ||
		!slices.Equal(s.Scores[0], []float64{1, 2, 3}) || !slices.Equal(s.Scores[1], []float64{4, 5, 6}) {
		t.Errorf("%+v", s)
	}
	if q := (*asked)[0]; q.Kind != wire.KindScores || q.Vectors != 2 || q.DType != wire.F64 || q.Result != wire.F64 || q.Damping != 0.5 {
		t.Errorf("%+v", q)
	}
	if n := f.count(wire.OpVec); n != 4 { // two vectors on two workers
		t.Errorf("%d vecs", n)
	}
	if _, err := r.Scores(t.Context(), [][]float32{ramp(4)}); code(err) != wire.CodeMalformed {
		t.Errorf("twice the numbers that were asked for: %v", err)
	}
}

func TestPairs(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	asked := f.answering([]float64{1, 0.1, 2, 0.2, 3, 0.3})
	p, err := r.Pairs(t.Context(), [][]float32{ramp(4), ramp(4)}, [][2]int{{0, 1}, {1, 1}, {0, 0}}, WithWire(wire.BF16))
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != 9 || p.Rows != 3 || !slices.Equal(p.Values, []float64{1, 2, 3}) || !slices.Equal(p.Bounds, []float64{0.1, 0.2, 0.3}) {
		t.Errorf("%+v", p)
	}
	q := (*asked)[0]
	if got := wire.PairList(q.Payload); q.Kind != wire.KindPairs || q.DType != wire.BF16 || !slices.Equal(got, []wire.Pair{{U: 0, V: 1}, {U: 1, V: 1}, {U: 0, V: 0}}) {
		t.Errorf("%+v of %v", q, got)
	}
}

func TestInfluence(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	asked := f.answering([]float64{1, 2, 3, 0.1, 4, 5, 6, 0.2, 7, 8, 9, 0.3})
	in, err := r.Influence(t.Context(), WithDivisor(wire.Count))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(in.Values[1], []float64{4, 5, 6}) || !slices.Equal(in.Bounds, []float64{0.1, 0.2, 0.3}) || len(in.Values) != 3 || len(in.Steps) != 3 {
		t.Errorf("%+v", in)
	}
	self, err := r.SelfInfluence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(self.Self, []float64{1, 4, 7}) || !slices.Equal(self.SelfBound, []float64{2, 5, 8}) ||
		!slices.Equal(self.Out, []float64{3, 6, 9}) || !slices.Equal(self.OutBound, []float64{0.1, 0.2, 0.3}) {
		t.Errorf("%+v", self)
	}
	if a, b := (*asked)[0], (*asked)[1]; a.Kind != wire.KindInfluence || a.Divisor != wire.Count || b.Kind != wire.KindSelf || f.count(wire.OpVec) != 0 {
		t.Errorf("%+v, %+v", a, b)
	}
}

// A page that doesn't fit what was asked for is not believed; a query that is lost is asked anew.
func TestValuesAreChecked(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	lost := true
	f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
		switch m := m.(type) {
		case *wire.Result:
			return &wire.ResultReply{State: wire.StateReady, Version: 1, Rows: 1, Values: 4}, true
		case *wire.LabelsRequest:
			return &wire.Labels{Version: 1, Rows: 1, N: 1, Payload: wire.AppendLabels(nil, []wire.Labelled{{Step: 5}})}, true
		case *wire.Values:
			if lost {
				lost = false
				return &wire.Error{Code: wire.CodeUnknownQuery}, true
			}
			return &wire.ValuesReply{Lo: m.Lo + 1, N: 1, Payload: make([]byte, 8)}, true
		}
		return nil, false
	})
	_, err := r.SelfInfluence(t.Context())
	wantCode(t, err, wire.CodeMalformed, "numbers is [1, 2), must be the first of [0, 4)")
	if n := f.count(wire.OpQuery); n != 2 {
		t.Errorf("%d queries", n)
	}
}

func TestScoresChecks(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	ctx := t.Context()
	v := [][]float32{ramp(4)}
	many := make([][]float32, r.MaxVectors()+1)
	for i := range many {
		many[i] = make([]float32, 4)
	}
	for want, err := range map[string]error{
		"query (scores): vectors is 0, must be in [1, 64]":        second(r.Scores(ctx, nil)),
		"query (scores): vectors is 65":                           second(r.Scores(ctx, many)),
		"length of the vector is 5, must be 4":                    second(r.Scores(ctx, [][]float32{ramp(5)})),
		"damping is NaN":                                          second(r.Scores(ctx, v, WithDamping(math.NaN()))),
		"query (scores): result is f32, must be left out":         second(r.Scores(ctx, v, WithResult(wire.F32))),
		"query (pairs): pairs is 0, must be in [1, 4096]":         second(r.Pairs(ctx, v, nil)),
		"pairs is 4097":                                           second(r.Pairs(ctx, v, make([][2]int, 4097))),
		"pair is [0 1], must be indices of the 1 vectors":         second(r.Pairs(ctx, v, [][2]int{{0, 1}})),
		"pair is [-1 0]":                                          second(r.Pairs(ctx, v, [][2]int{{-1, 0}})),
		"query (influence): wire is f32, must be left out: no":    second(r.Influence(ctx, WithWire(wire.F32))),
		"query (self): result is f64, must be left out: numbers ": second(r.SelfInfluence(ctx, WithResult(wire.F64))),
	} {
		if err == nil || !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("%s: %v", want, err)
			continue
		}
		wantCode(t, err, code(err), want)
	}
	if f.count(wire.OpQuery) != 0 {
		t.Error("something was sent")
	}
}
