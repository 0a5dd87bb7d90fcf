package main

import (
	"context"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"

	"github.com/spf13/cobra"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/internal/npy"
	"mfac/wire"
)

// plotBlue is one of the hues that a color-blind eye tells apart (Okabe and Ito).
var plotBlue = color.RGBA{R: 0, G: 114, B: 178, A: 255}

// spectrumView is what spectrum prints.
type spectrumView struct {
	Run         string       `json:"run"`
	Version     wire.Version `json:"version"`
	Rows        int          `json:"rows"`
	Error       float64      `json:"error"` // of each
	Eigenvalues []float64    `json:"eigenvalues"`
	Output      string       `json:"output,omitempty"`
	Plot        string       `json:"plot,omitempty"`
}

func (t *tool) spectrumCommand() *cobra.Command {
	var p pinning
	var out, plotFile string
	cmd := &cobra.Command{
		Use:   "spectrum NAME [-o s.npy] [--plot p.svg]",
		Short: "Show the eigenvalues of the empirical Fisher matrix",
		Long: `Shows the eigenvalues of F = 1/N Σ g gᵀ, the largest first: as many as there are gradients; the others of the
d are 0. Those of H are λ more. Says what each may be off by: what is below that may as well be 0.`,
		Args: cli.Names("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wire.CheckName("run", args[0]); err != nil {
				return err
			}
			if plotFile != "" {
				if ext := filepath.Ext(plotFile); ext != ".svg" && ext != ".png" {
					return wire.Invalid("plot", plotFile, "a file .svg or .png")
				}
			}
			opts, err := p.options()
			if err != nil {
				return err
			}
			return t.connected(cmd.Context(), cmd, unbounded, func(ctx context.Context, c *client.Client) error {
				r, err := t.join(ctx, c, args[0])
				if err != nil {
					return err
				}
				progress, end := t.working("spectrum " + args[0])
				defer end()
				s, err := r.Spectrum(ctx, append(opts, progress)...)
				end()
				if err != nil {
					return err
				}
				if len(s.Eigenvalues) == 0 && (out != "" || plotFile != "") {
					return fmt.Errorf("run %s has no gradients yet, and F no eigenvalues but 0", args[0])
				}
				if out != "" {
					if err := writeNumbers(out, s.Eigenvalues); err != nil {
						return err
					}
				}
				if plotFile != "" {
					if err := plotSpectrum(plotFile, args[0], s, r.Spec().Damping); err != nil {
						return err
					}
				}
				v := spectrumView{args[0], s.Version, s.Rows, s.Error, s.Eigenvalues, out, plotFile}
				return t.print(v, v.write)
			})
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&out, "out", "o", "", "`file` .npy for the eigenvalues, float64")
	f.StringVar(&plotFile, "plot", "", "`file` .svg or .png for a plot of them")
	p.wholeFlag(f)
	p.flags(f)
	return cmd
}

func (v spectrumView) write(w io.Writer) {
	fmt.Fprintf(w, "%s of F, each off by at most %.1e, from version %d with %s\n", plural(len(v.Eigenvalues), "eigenvalue"), v.Error, v.Version, plural(v.Rows, "gradient"))
	for _, file := range []string{v.Output, v.Plot} {
		if file != "" {
			fmt.Fprintf(w, "wrote %s\n", file)
		}
	}
	if v.Output != "" || v.Plot != "" {
		return
	}
	for _, x := range v.Eigenvalues {
		fmt.Fprintf(w, "%.6g\n", x)
	}
}

// writeNumbers writes a one-dimensional float64 file.
func writeNumbers(path string, x []float64) error {
	w, err := npy.Create(path, npy.Float64, int64(len(x)))
	if err != nil {
		return err
	}
	defer w.Close()
	if err := npy.WriteRows(w, 0, [][]float64{x}); err != nil {
		return err
	}
	return w.Commit()
}

// plotSpectrum draws the eigenvalues by their rank, with lines at the run's λ, below which H hardly knows
// them, and at their error, below which nothing is known of them, where that is near. What is far below the
// error may as well be 0, which has no place on a logarithmic axis, and is left out.
func plotSpectrum(path, run string, s client.Spectrum, lambda float64) error {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("Eigenvalues of F: %s, version %d", run, s.Version)
	p.X.Label.Text, p.Y.Label.Text = "rank", "eigenvalue"
	p.X.Tick.Marker = plot.TickerFunc(func(lo, hi float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(lo, hi)
		for i, t := range ticks {
			if t.Label != "" {
				ticks[i].Label = fmt.Sprintf("%g", t.Value)
			}
		}
		return ticks
	})
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
	p.Add(plotter.NewGrid())
	n := float64(len(s.Eigenvalues))
	low, high := math.Inf(1), 0.0
	level := func(name string, y float64, dash vg.Length) error {
		if !(y > 0) {
			return nil
		}
		low, high = min(low, y), max(high, y)
		l, err := plotter.NewLine(plotter.XYs{{X: 0, Y: y}, {X: n + 1, Y: y}})
		if err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
		l.Dashes = []vg.Length{dash, dash}
		p.Add(l)
		p.Legend.Add(name, l)
		return nil
	}
	var points plotter.XYs
	for i, x := range s.Eigenvalues {
		if x > 0 && x >= s.Error/10 {
			points = append(points, plotter.XY{X: float64(i + 1), Y: x})
			low, high = min(low, x), max(high, x)
		}
	}
	if err := level("the run's λ", lambda, vg.Points(6)); err != nil {
		return err
	}
	if s.Error > low/1000 {
		if err := level("error", s.Error, vg.Points(2)); err != nil {
			return err
		}
	}
	if len(points) > 0 {
		dots, err := plotter.NewScatter(points)
		if err != nil {
			return fmt.Errorf("plot eigenvalues: %w", err)
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: plotBlue, Radius: vg.Points(2), Shape: draw.CircleGlyph{}}
		p.Add(dots)
	}
	p.X.Min, p.X.Max = 0, n+1
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	if p.Y.Min == p.Y.Max {
		p.Y.Max *= 10
	}
	p.Legend.Top = true
	if err := p.Save(6*vg.Inch, 4*vg.Inch, path); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

// decades are ticks at powers of ten, of which at most ten or so have labels.
type decades struct{}

func (decades) Ticks(lo, hi float64) (ticks []plot.Tick) {
	from, to := int(math.Ceil(math.Log10(lo)-1e-9)), int(math.Floor(math.Log10(hi)+1e-9))
	every := 1 + (to-from)/10
	for e := from; e <= to; e++ {
		t := plot.Tick{Value: math.Pow(10, float64(e))}
		if e%every == 0 {
			t.Label = fmt.Sprintf("1e%d", e)
		}
		ticks = append(ticks, t)
	}
	return ticks
}
