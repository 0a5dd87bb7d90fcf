package demo

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"text/tabwriter"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// PruneResult is what Prune found. Its JSON is what `mfac demo prune --json` prints.
type PruneResult struct {
	Network         string            `json:"network"`
	Parameters      int               `json:"parameters"`
	Train           int               `json:"train"`
	Held            int               `json:"held"`
	Window          int               `json:"window"`
	Epochs          int               `json:"epochs"`
	Steps           int               `json:"steps"`
	RelativeDamping float64           `json:"relative_damping"`
	Sparsities      []float64         `json:"sparsities"`
	Repetitions     []PruneRepetition `json:"repetitions"`
	Plot            string            `json:"plot"`
	Elapsed         time.Duration     `json:"-"`
}

// PruneRepetition is what one seed gave.
type PruneRepetition struct {
	Seed          uint64     `json:"seed"`
	Damping       float64    `json:"damping"`
	TrainAccuracy float64    `json:"train_accuracy"`
	Dense         Accuracy   `json:"dense"` // before pruning
	Rules         []PrunedBy `json:"rules"`
}

// PrunedBy is the accuracies by one rule, at each sparsity.
type PrunedBy struct {
	Rule string     `json:"rule"`
	At   []Accuracy `json:"at"`
}

// Accuracy is the share of right answers. Options are chosen by Held alone.
type Accuracy struct {
	Held float64 `json:"held"`
	Test float64 `json:"test"`
}

// meanOf returns the mean of what f gives of each repetition and the standard deviation.
func (r PruneResult) meanOf(f func(PruneRepetition) float64) (mean, deviation float64) {
	return meanAndDeviation(len(r.Repetitions), func(i int) float64 { return f(r.Repetitions[i]) })
}

// test is the accuracy on test images, in percent, by rule i at sparsity k.
func (r PruneResult) test(i, k int) (mean, deviation float64) {
	return r.meanOf(func(rep PruneRepetition) float64 { return 100 * rep.Rules[i].At[k].Test })
}

// spread shows a mean, with the deviation where there are several repetitions.
func (r PruneResult) spread(mean, deviation float64) string {
	if len(r.Repetitions) < 2 {
		return fmt.Sprintf("%.2f", mean)
	}
	return fmt.Sprintf("%.2f ± %.2f", mean, deviation)
}

// name is what the table calls rule i.
func (r PruneResult) name(i int) string {
	switch pruneRules[i] {
	case "summed, in steps":
		return fmt.Sprintf("summed, %d steps", r.Steps)
	case "joint, in steps":
		return fmt.Sprintf("joint, %d steps", r.Steps)
	}
	return pruneRules[i]
}

// WriteTable writes the table and what one must know to read it.
func (r PruneResult) WriteTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "weights that are 0\t")
	for _, s := range r.Sparsities {
		fmt.Fprintf(tw, "%g %%\t", 100*s)
	}
	fmt.Fprintln(tw)
	for i := range pruneRules {
		fmt.Fprintf(tw, "%s\t", r.name(i))
		for k := range r.Sparsities {
			fmt.Fprintf(tw, "%s\t", r.spread(r.test(i, k)))
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	dense, dev := r.meanOf(func(rep PruneRepetition) float64 { return 100 * rep.Dense.Test })
	train, _ := r.meanOf(func(rep PruneRepetition) float64 { return 100 * rep.TrainAccuracy })
	of := ""
	if n := len(r.Repetitions); n > 1 {
		of = fmt.Sprintf(": mean ± standard deviation of %d seeds", n)
	}
	_, err := fmt.Fprintf(w, `
Right answers on the test images, in %%%s.
Before pruning %s %%, %.2f %% on the %d images that network %s (%d parameters) was trained on, in %d epochs.
H: the gradients of %d training images, one each; damping %v of their mean squared norm. No training after pruning.
Plot: %s. All of it took %.1f s.
`, of, r.spread(dense, dev), train, r.Train, r.Network, r.Parameters, r.Epochs, r.Window, r.RelativeDamping, r.Plot, r.Elapsed.Seconds())
	return err
}

// pruneStyles are those of the rules, in their order: one hue for each way to choose and adapt, steps dashed.
func pruneStyles() []draw.LineStyle {
	gray := draw.LineStyle{Color: color.Gray{Y: 130}, Width: vg.Points(1.5)}
	dotted := gray
	dotted.Dashes = []vg.Length{vg.Points(2), vg.Points(2)}
	solid := func(s draw.LineStyle) draw.LineStyle { s.Dashes, s.Width = nil, vg.Points(2); return s }
	dashed := func(s draw.LineStyle) draw.LineStyle {
		s.Dashes, s.Width = []vg.Length{vg.Points(6), vg.Points(2)}, vg.Points(2)
		return s
	}
	summed, joint := lineStyles[0], lineStyles[1]
	return []draw.LineStyle{gray, dotted, solid(summed), solid(joint), dashed(summed), dashed(joint)}
}

// writePruned draws the accuracies into an SVG.
func writePruned(path string, r PruneResult) error {
	p, err := plotPruned(r)
	if err != nil {
		return err
	}
	return writeSVG(path, p.Draw)
}

// plotPruned draws, for each rule, the accuracy over the sparsity, the mean of the repetitions with their
// spread. The sparsities are spaced evenly.
func plotPruned(r PruneResult) (*plot.Plot, error) {
	p := newPlot(1)
	p.Title.Text = "Right answers on MNIST after pruning"
	if n := len(r.Repetitions); n > 1 {
		p.Title.Text += fmt.Sprintf(" (mean of %d seeds)", n)
	}
	p.X.Label.Text, p.Y.Label.Text = "weights that are 0 (%)", "right answers (%)"
	var names []string
	for _, s := range r.Sparsities {
		names = append(names, fmt.Sprintf("%g", 100*s))
	}
	p.NominalX(names...)
	p.Y.Tick.Marker = evenTicks{}
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = false, true, vg.Points(6), vg.Points(6)
	low := 100.0
	for i := range pruneRules {
		var points plotter.XYs
		var errs plotter.YErrors
		for k := range r.Sparsities {
			mean, dev := r.test(i, k)
			points = append(points, plotter.XY{X: float64(k), Y: mean})
			errs = append(errs, struct{ Low, High float64 }{dev, dev})
			low = math.Min(low, mean-dev)
		}
		style := pruneStyles()[i]
		line, err := addLine(p, points, style)
		if err != nil {
			return nil, fmt.Errorf("plot the accuracy by %s: %w", pruneRules[i], err)
		}
		if len(r.Repetitions) > 1 {
			bars, err := plotter.NewYErrorBars(struct {
				plotter.XYer
				plotter.YErrorer
			}{points, errs})
			if err != nil {
				return nil, fmt.Errorf("plot the spread by %s: %w", pruneRules[i], err)
			}
			bars.LineStyle = draw.LineStyle{Color: style.Color, Width: vg.Points(1)}
			p.Add(bars)
		}
		p.Legend.Add(r.name(i), line)
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -0.2, float64(len(names))-0.8, math.Max(0, math.Floor(low/10)*10), 100
	return p, nil
}

// writeSVG draws into an SVG of the docs' size.
func writeSVG(path string, paint func(draw.Canvas)) error {
	canvas := vgsvg.New(6.5*vg.Inch, 4.5*vg.Inch)
	paint(draw.Crop(draw.New(canvas), vg.Points(8), -vg.Points(14), vg.Points(8), -vg.Points(8)))
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	if _, err := canvas.WriteTo(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("write the plot: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}
