package demo

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// curve is one optimizer in the plot.
type curve struct {
	name string
	loss []float64 // of each mini-batch
	held []point
}

// smoothSteps is the number of mini-batch losses in one point of the plot.
const smoothSteps = 10

// Hues that a color-blind eye tells apart (Okabe and Ito), and dashes that a
// printer does.
var lineStyles = []draw.LineStyle{
	{Color: color.RGBA{R: 0, G: 114, B: 178, A: 255}, Width: vg.Points(2)},
	{Color: color.RGBA{R: 213, G: 94, B: 0, A: 255}, Width: vg.Points(1.5), Dashes: []vg.Length{vg.Points(6), vg.Points(2)}},
	{Color: color.RGBA{R: 0, G: 158, B: 115, A: 255}, Width: vg.Points(1.5), Dashes: []vg.Length{vg.Points(2), vg.Points(2)}},
}

// writePlot draws the training loss and the held-out accuracy side by side into a PNG.
func writePlot(path string, curves []curve) (err error) {
	steps := 0
	for _, c := range curves {
		steps = max(steps, len(c.loss))
	}
	loss, accuracy := newPlot(steps), newPlot(steps)
	loss.Title.Text = fmt.Sprintf("Training loss (mean of %d mini-batches)", smoothSteps)
	loss.Y.Label.Text = "cross-entropy"
	loss.Y.Scale = plot.LogScale{}
	loss.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	accuracy.Title.Text = "Accuracy on held-out images"
	accuracy.Y.Label.Text = "right answers (%)"
	accuracy.Y.Tick.Marker = evenTicks{}
	lowest := 0.0
	for i, c := range curves {
		style := lineStyles[i%len(lineStyles)]
		a, err := addLine(loss, smooth(c.loss), style)
		if err != nil {
			return fmt.Errorf("plot the loss of %s: %w", c.name, err)
		}
		points := make(plotter.XYs, len(c.held))
		for i, p := range c.held {
			points[i] = plotter.XY{X: float64(p.step), Y: 100 * p.accuracy}
		}
		b, err := addLine(accuracy, points, style)
		if err != nil {
			return fmt.Errorf("plot the accuracy of %s: %w", c.name, err)
		}
		if a != nil {
			loss.Legend.Add(c.name, a)
		}
		if b != nil {
			lowest = min(lowest, points[len(points)-1].Y-lowestAccuracy)
		}
	}
	loss.X.Min, loss.X.Max = 0, float64(steps)
	loss.Y.Min *= 0.8
	accuracy.X.Min, accuracy.X.Max = 0, float64(steps)
	accuracy.Y.Max = 100
	if lowest < 0 {
		accuracy.Y.Min = 0
	} else {
		accuracy.Y.Min = lowestAccuracy
	}

	const width, height = 11 * vg.Inch, 4.5 * vg.Inch
	img := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(144), vgimg.UseBackgroundColor(color.White))
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: vg.Points(18), PadTop: vg.Points(8), PadBottom: vg.Points(8),
		PadLeft: vg.Points(8), PadRight: vg.Points(14)}
	plots := [][]*plot.Plot{{loss, accuracy}}
	for i, c := range plot.Align(plots, tiles, draw.New(img))[0] {
		plots[0][i].Draw(c)
	}

	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("write the plot: %w", cerr)
		}
	}()
	if _, err := (vgimg.PngCanvas{Canvas: img}).WriteTo(f); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

// lowestAccuracy is where the accuracy's axis starts, in percent, if all end above it:
// the first steps are left out, so that the last can be told apart.
const lowestAccuracy = 80

func newPlot(steps int) *plot.Plot {
	p := plot.New()
	p.X.Label.Text = "step"
	p.X.Tick.Marker = evenTicks{}
	p.X.Min, p.X.Max = 0, float64(steps)
	p.Title.Padding = vg.Points(8)
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs = true, -vg.Points(6), -vg.Points(4)
	p.Legend.Padding = vg.Points(3)
	p.Legend.ThumbnailWidth = vg.Points(28)
	for size, styles := range map[vg.Length][]*text.Style{
		13: {&p.Title.TextStyle},
		12: {&p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.Legend.TextStyle},
		11: {&p.X.Tick.Label, &p.Y.Tick.Label},
	} {
		for _, s := range styles {
			s.Font.Variant, s.Font.Size = "Sans", size
		}
	}
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.Padding = vg.Points(4)
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color = color.Gray{Y: 225}
	grid.Horizontal.Color = color.Gray{Y: 225}
	p.Add(grid)
	return p
}

// evenTicks puts four to ten ticks at multiples of 1, 2 or 5 times a power of ten.
type evenTicks struct{}

func (evenTicks) Ticks(lo, hi float64) []plot.Tick {
	if !(hi > lo) {
		return []plot.Tick{{Value: lo, Label: strconv.FormatFloat(lo, 'g', -1, 64)}}
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/4)))
	for _, f := range []float64{5, 2} {
		if (hi-lo)/(f*step) >= 4 {
			step *= f
			break
		}
	}
	var ticks []plot.Tick
	for k := math.Ceil(lo / step); k*step <= hi; k++ {
		ticks = append(ticks, plot.Tick{Value: k * step, Label: strconv.FormatFloat(k*step, 'g', 6, 64)})
	}
	return ticks
}

// addLine returns nil for points that make no line: there are none.
func addLine(p *plot.Plot, points plotter.XYs, style draw.LineStyle) (*plotter.Line, error) {
	if len(points) == 0 {
		return nil, nil
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return nil, err
	}
	line.LineStyle = style
	p.Add(line)
	return line, nil
}

// smooth replaces each smoothSteps losses by their mean, at the middle of their steps.
// A mean of zero, which a logarithmic axis can't show, becomes small.
func smooth(loss []float64) plotter.XYs {
	var points plotter.XYs
	for lo := 0; lo < len(loss); lo += smoothSteps {
		hi := min(lo+smoothSteps, len(loss))
		sum := 0.0
		for _, l := range loss[lo:hi] {
			sum += l
		}
		points = append(points, plotter.XY{X: float64(lo+hi+1) / 2, Y: max(sum/float64(hi-lo), 1e-6)})
	}
	return points
}
