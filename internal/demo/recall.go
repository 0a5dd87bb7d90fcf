package demo

import (
	"fmt"
	"os"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// mostShown is the share of the images at which the recall's axis ends.
const mostShown = 0.3

// writeRecall draws, for each way to rank, the share of wrong labels found over the share of the images
// looked at, the mean of the repetitions, into an SVG.
func writeRecall(path string, r InfluenceResult) error {
	p := newPlot(1)
	p.Title.Text = fmt.Sprintf("Wrong labels found (mean of %d seeds)", len(r.Repetitions))
	p.X.Label.Text, p.Y.Label.Text = "images looked at (%)", "wrong labels found (%)"
	p.Y.Tick.Marker = evenTicks{}
	p.Legend.Top, p.Legend.YOffs = false, vg.Points(6)
	for i, s := range scores {
		most := int(mostShown * float64(r.Images))
		points := make(plotter.XYs, 0, most+1)
		for n := 0; n <= most; n += max(1, most/300) {
			recall, _ := r.meanOf(func(rep Repetition) float64 { return s.of(rep).recall(n) })
			points = append(points, plotter.XY{X: 100 * float64(n) / float64(r.Images), Y: 100 * recall})
		}
		line, err := addLine(p, points, lineStyles[i%len(lineStyles)])
		if err != nil {
			return fmt.Errorf("plot the recall by %s: %w", s.name, err)
		}
		p.Legend.Add(s.name, line)
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 100*mostShown, 0, 100

	canvas := vgsvg.New(6.5*vg.Inch, 4.5*vg.Inch)
	p.Draw(draw.Crop(draw.New(canvas), vg.Points(8), -vg.Points(14), vg.Points(8), -vg.Points(8)))
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
