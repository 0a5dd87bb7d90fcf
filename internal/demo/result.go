package demo

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Result is what the demo found. Its JSON is what `mfac demo --json` prints.
type Result struct {
	Optimizers Optimizers `json:"optimizers"`
	DenseError float64    `json:"dense_error"` // Check.Error
	Plot       string     `json:"plot"`        // path of the plot

	Check   Check         `json:"-"`
	Setup   Setup         `json:"-"`
	Elapsed time.Duration `json:"-"` // of all of it
}

// Optimizers are the rows of the table.
type Optimizers struct {
	MFAC Score `json:"mfac"`
	SGD  Score `json:"sgd"`
	Adam Score `json:"adam"`
}

// Score is how an optimizer did with the learning rate picked for it.
type Score struct {
	Loss      float64 `json:"loss"`        // mean over the training images, at the end
	Accuracy  float64 `json:"accuracy"`    // share of right answers on the test images, at the end
	StepsTo90 *int    `json:"steps_to_90"` // first look at which held-out accuracy was 90 %, nil if never
	MsPerStep float64 `json:"ms_per_step"` // wall time of gradient and step, milliseconds
	LR        float64 `json:"lr"`          // before the schedule
}

// Setup is what was trained and how, for the lines below the table.
type Setup struct {
	Network           string
	Parameters        int
	Steps, Batch      int
	Train, Held, Test int
	Window            int
	Damping           float64
}

// WriteTable writes the table and what one must know to read it.
func (r Result) WriteTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\ttrain loss\ttest accuracy\tsteps to 90 %\tms a step\tlearning rate\t")
	for _, row := range []struct {
		name string
		Score
	}{{"M-FAC", r.Optimizers.MFAC}, {"SGD", r.Optimizers.SGD}, {"Adam", r.Optimizers.Adam}} {
		to90 := "never"
		if row.StepsTo90 != nil {
			to90 = fmt.Sprint(*row.StepsTo90)
		}
		fmt.Fprintf(tw, "%s\t%.4f\t%.2f %%\t%s\t%.2f\t%v\t\n", row.name, row.Loss, 100*row.Accuracy, to90, row.MsPerStep, row.LR)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	s := r.Setup
	bound := ""
	if r.Check.Bound > 0 {
		bound = fmt.Sprintf(" (the cluster's bound: %.1e)", r.Check.Bound)
	}
	_, err := fmt.Fprintf(w, `
Network %s, %d parameters; %d steps of %d images. M-FAC: %d gradients, damping %v.
Loss: all %d training images, after the last step. Accuracy: %d test images.
Learning rates and steps to 90 %%: %d held-out training images (the steps: %d of them).
H⁻¹v against a dense float64 reference, %d gradients: largest error %.1e%s.
Plot: %s. All of it took %.1f s.
`,
		s.Network, s.Parameters, s.Steps, s.Batch, s.Window, s.Damping, s.Train, s.Test,
		s.Held, min(lookImages, s.Held), r.Check.Rows, r.DenseError, bound, r.Plot, r.Elapsed.Seconds())
	return err
}
