package demo

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nrewrite it with: go test ./internal/demo -run %s -update", path, diff, t.Name())
	}
}

func fixedResult() Result {
	to90 := 75
	return Result{
		Optimizers: Optimizers{
			MFAC: Score{Loss: 0.00386, Accuracy: 0.9529, StepsTo90: &to90, MsPerStep: 4.595, LR: 0.01},
			SGD:  Score{Loss: 0.0774, Accuracy: 0.9436, MsPerStep: 1.091, LR: 0.1},
			Adam: Score{Loss: 10.5, Accuracy: 1, StepsTo90: &to90, MsPerStep: 123.456, LR: 0.0025},
		},
		DenseError: 3.14e-13,
		Plot:       "mfac-demo.png",
		Check:      Check{Rows: 128, Error: 3.14e-13, Bound: 2.5e-12},
		Setup: Setup{
			Network: "784-40-20-10", Parameters: 32430, Steps: 500, Batch: 250,
			Train: 10000, Held: 5000, Test: 10000, Window: 128, Damping: 1e-3,
		},
		Elapsed: 28400 * time.Millisecond,
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := fixedResult().WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.golden", b.Bytes())
}

func TestJSON(t *testing.T) {
	got, err := json.MarshalIndent(fixedResult(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "result.golden.json", append(got, '\n'))
}
