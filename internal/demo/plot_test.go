package demo

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/plot/plotter"
)

func TestEvenTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   []string
	}{
		{0, 500, []string{"0", "100", "200", "300", "400", "500"}},
		{80, 100, []string{"80", "85", "90", "95", "100"}},
		{0, 100, []string{"0", "20", "40", "60", "80", "100"}},
		{0, 60, []string{"0", "10", "20", "30", "40", "50", "60"}},
		{3, 3, []string{"3"}},
	} {
		var got []string
		for _, tick := range (evenTicks{}).Ticks(c.lo, c.hi) {
			got = append(got, tick.Label)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v to %v (-want +got):\n%s", c.lo, c.hi, diff)
		}
	}
}

func TestSmooth(t *testing.T) {
	loss := make([]float64, 15)
	for i := range loss {
		loss[i] = float64(i + 1)
	}
	want := plotter.XYs{{X: 5.5, Y: 5.5}, {X: 13, Y: 13}}
	if diff := cmp.Diff(want, smooth(loss)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A plot of next to nothing is still a plot, and one that can't be written says so.
func TestPlotOfLittle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.png")
	for _, curves := range [][]curve{
		{{name: "one step", loss: []float64{2.3}}},
		{{name: "a loss of zero", loss: make([]float64, 30), held: []point{{5, 0.1}}}},
	} {
		if err := writePlot(path, curves); err != nil {
			t.Errorf("%s: %v", curves[0].name, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("no plot: %v", err)
	}
	if err := writePlot(filepath.Join(path, "q.png"), []curve{{name: "x", loss: []float64{1}}}); err == nil {
		t.Error("no error for a path that can't be")
	}
}
