package demo

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRank(t *testing.T) {
	wrong := []bool{true, false, false, true, false, false, false, false, false, false}
	for _, c := range []struct {
		name      string
		score     []float64
		precision float64
		auc       float64
	}{
		{"all first", []float64{9, 1, 2, 8, 3, 4, 5, 6, 7, 0}, 1, 1},
		{"all last", []float64{0, 2, 3, 1, 4, 5, 6, 7, 8, 9}, 0, 0},
		{"one between", []float64{9, 8, 1, 7, 2, 3, 4, 5, 6, 0}, 0.5, 1 - 1.0/16},
		{"equal ones in line", make([]float64, 10), 0.5, 1 - 2.0/16},
	} {
		r := rank(c.score, wrong)
		if r.Precision != c.precision || math.Abs(r.AUC-c.auc) > 1e-15 { // a division and a subtraction
			t.Errorf("%s: precision %v and AUC %v, want %v and %v", c.name, r.Precision, r.AUC, c.precision, c.auc)
		}
	}
	r := rank([]float64{9, 8, 1, 7, 2, 3, 4, 5, 6, 0}, wrong)
	if diff := cmp.Diff([]float64{0, 0, 0.5, 0.5, 0.5, 1}, r.Recall, cmpopts.EquateApprox(0, 1e-15)); diff != "" {
		t.Errorf("recall at 1, 2, 5, 10, 20, 30 %% of ten (-want +got):\n%s", diff)
	}
}

func TestMislabelChangesAsManyAsItSays(t *testing.T) {
	before, y := make([]uint8, 200), make([]uint8, 200)
	for i := range y {
		before[i], y[i] = uint8(i%classes), uint8(i%classes)
	}
	wrong, count := mislabel(y, 37, 5), 0
	for i := range y {
		if (y[i] != before[i]) != wrong[i] || y[i] >= classes {
			t.Errorf("label %d is %d for %d, said wrong: %v", i, y[i], before[i], wrong[i])
		}
		if wrong[i] {
			count++
		}
	}
	if count != 37 {
		t.Errorf("%d wrong, want 37", count)
	}
}

func fixedInfluence() InfluenceResult {
	r := InfluenceResult{Images: 3000, Wrong: 150, Window: 1000, Epochs: 10, RelativeDamping: 1e-3,
		Network: "784-40-20-10", Parameters: 32430, Plot: "mfac-influence.svg", Elapsed: 54200 * time.Millisecond}
	for k := range 2 {
		x := float64(k) / 50
		r.Repetitions = append(r.Repetitions, Repetition{Seed: uint64(k) + 1, Damping: 0.08 + x, TrainAccuracy: 0.92, HeldAccuracy: 0.9 + x, Bound: 2e-12,
			Influence: Ranking{Precision: 0.74 + x, AUC: 0.98, Recall: []float64{0.2, 0.3, 0.74 + x, 0.9, 0.95, 1}},
			Norm:      Ranking{Precision: 0.7 - x, AUC: 0.97, Recall: []float64{0.1, 0.3, 0.7 - x, 0.9, 0.95, 1}},
			Loss:      Ranking{Precision: 0.8, AUC: 0.99, Recall: []float64{0.2, 0.4, 0.8, 0.9, 0.95, 1}}})
	}
	return r
}

func fixedForget() ForgetResult {
	return ForgetResult{Images: 1000, Forgotten: 20, Steps: 1000, Damping: 0.01, Elapsed: 30100 * time.Millisecond,
		Repetitions: []Forgetting{
			{Network: "784-2", Seed: 1, Before: 0.2, After: 0.05, ForgottenBefore: 0.4, ForgottenAfter: 0.1, Accuracy: 0.95, AccuracyAfter: 0.951, AccuracyAnew: 0.952, Bound: 8e-13},
			{Network: "784-8-2", Seed: 2, Before: 0.1, After: 0.04, ForgottenBefore: 0.5, ForgottenAfter: 0.1, Accuracy: 0.96, AccuracyAfter: 0.961, AccuracyAnew: 0.959, Bound: 9e-13},
		}}
}

func TestTablesOfInfluenceAndForget(t *testing.T) {
	var a, b bytes.Buffer
	if err := fixedInfluence().WriteTable(&a); err != nil {
		t.Fatal(err)
	}
	golden(t, "influence.golden", a.Bytes())
	if err := fixedForget().WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "forget.golden", b.Bytes())
}

func TestJSONOfInfluenceAndForget(t *testing.T) {
	for name, r := range map[string]any{"influence.golden.json": fixedInfluence(), "forget.golden.json": fixedForget()} {
		got, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, append(got, '\n'))
	}
}
