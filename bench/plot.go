package main

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Hues that a color-blind eye tells apart (Okabe and Ito).
var hues = []color.RGBA{
	{R: 0, G: 114, B: 178, A: 255}, {R: 213, G: 94, B: 0, A: 255}, {R: 0, G: 158, B: 115, A: 255},
	{R: 204, G: 121, B: 167, A: 255}, {R: 230, G: 159, B: 0, A: 255}, {R: 86, G: 180, B: 233, A: 255},
	{R: 0, G: 0, B: 0, A: 255}, {R: 120, G: 120, B: 120, A: 255},
}

const plotWidth, plotHeight = 5 * vg.Inch, 3.2 * vg.Inch

// plotCurve draws step times, measured with their spread, and the model's line.
func plotCurve(path string, c curve) error {
	p := plot.New()
	p.Title.Text = "Step time: " + c.Fixed
	p.X.Label.Text, p.Y.Label.Text = c.Axis, "s"
	p.Title.TextStyle.Font.Size = vg.Points(9)
	var line, dots plotter.XYs
	var errs plotter.YErrors
	for _, q := range c.Points {
		line = append(line, plotter.XY{X: q.X, Y: q.Model})
		if q.Reason == "" {
			dots = append(dots, plotter.XY{X: q.X, Y: q.Measured})
			errs = append(errs, struct{ Low, High float64 }{q.Measured - q.Low, q.High - q.Measured})
		}
	}
	if len(line) == 0 {
		return fmt.Errorf("plot %s: no points", c.Axis)
	}
	l, err := plotter.NewLine(line)
	if err != nil {
		return fmt.Errorf("plot %s: %w", c.Axis, err)
	}
	l.Color = hues[1]
	p.Add(plotter.NewGrid(), l)
	p.Legend.Add("model", l)
	if len(dots) > 0 {
		s, err := plotter.NewScatter(dots)
		if err != nil {
			return fmt.Errorf("plot %s: %w", c.Axis, err)
		}
		s.GlyphStyle = draw.GlyphStyle{Color: hues[0], Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
		bars, err := plotter.NewYErrorBars(struct {
			plotter.XYs
			plotter.YErrors
		}{dots, errs})
		if err != nil {
			return fmt.Errorf("plot %s: %w", c.Axis, err)
		}
		bars.Color = hues[0]
		p.Add(bars, s)
		p.Legend.Add("measured", s)
	}
	p.Legend.Top, p.Legend.Left = true, true
	logAxes(p, c)
	return p.Save(plotWidth, plotHeight, path)
}

// logAxes makes room around the points, also around a lone one, and labels their sizes.
func logAxes(p *plot.Plot, c curve) {
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Min, p.X.Max = c.Points[0].X/1.3, c.Points[len(c.Points)-1].X*2
	p.Y.Min, p.Y.Max = math.Inf(1), 0
	var ticks plot.ConstantTicks
	for _, q := range c.Points {
		ticks = append(ticks, plot.Tick{Value: q.X, Label: power(q.X)})
		for _, y := range []float64{q.Model, q.Low, q.High} {
			if y > 0 {
				p.Y.Min, p.Y.Max = min(p.Y.Min, y/1.5), max(p.Y.Max, y*1.5)
			}
		}
	}
	// Whole decades have labels: without one of them an axis says nothing.
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(p.Y.Min))), math.Pow(10, math.Ceil(math.Log10(p.Y.Max)))
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks, plot.LogTicks{Prec: -1}
}

// plotPasses draws what share of the read bandwidth the passes on two threads reach, by m.
func plotPasses(path string, results []result) error {
	lines := map[string]plotter.XYs{}
	var names []string
	for _, r := range results {
		name, m, ok := passName(r.Name)
		if !ok || r.absent() {
			continue
		}
		if _, there := lines[name]; !there {
			names = append(names, name)
		}
		lines[name] = append(lines[name], plotter.XY{X: m, Y: *r.Ratio})
	}
	slices.Sort(names)
	p := plot.New()
	p.Title.Text = "Passes on two threads, as a share of the read bandwidth"
	p.Title.TextStyle.Font.Size = vg.Points(9)
	p.X.Label.Text = "m"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.ConstantTicks([]plot.Tick{{Value: 16, Label: "16"}, {Value: 64, Label: "64"}, {Value: 256, Label: "256"}, {Value: 1024, Label: "1024"}})
	p.Y.Min, p.Y.Max = 0, 1.6
	p.X.Min, p.X.Max = 13, 1500 // the last label has room
	p.Add(plotter.NewGrid())
	for i, name := range names {
		l, s, err := plotter.NewLinePoints(lines[name])
		if err != nil {
			return fmt.Errorf("plot passes: %w", err)
		}
		l.Color, s.Color = hues[i%len(hues)], hues[i%len(hues)]
		p.Add(l, s)
		p.Legend.Add(name, l, s)
	}
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(7)
	return p.Save(plotWidth, plotHeight, path)
}

// passName takes "dots/f32/avx2/m=64/threads=2" apart: "dots f32 avx2" and 64.
func passName(name string) (series string, m float64, ok bool) {
	parts := strings.Split(name, "/")
	if len(parts) < 4 || parts[0] != "dots" && parts[0] != "combine" || parts[len(parts)-1] != "threads=2" {
		return "", 0, false
	}
	if _, err := fmt.Sscanf(parts[len(parts)-2], "m=%g", &m); err != nil {
		return "", 0, false
	}
	return strings.Join(parts[:len(parts)-2], " "), m, true
}
