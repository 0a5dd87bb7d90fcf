package demo

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// Ranking says how well a score, largest first, finds the images with wrong labels.
type Ranking struct {
	Precision float64   `json:"precision"` // share of wrong labels among the first w, w being their number
	AUC       float64   `json:"auc"`       // chance that one with a wrong label comes before one with a right label
	Found     []int     `json:"-"`         // how many of the wrong are among the first i+1
	Recall    []float64 `json:"recall"`    // share of them found in the first recallShares of the images
}

// recallShares are the shares of the images, looked at in order of rank, that Recall is told for.
var recallShares = []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.3}

// rank ranks by score; of equal ones the first in line comes first.
func rank(score []float64, wrong []bool) Ranking {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case score[a] > score[b]:
			return -1
		case score[a] < score[b]:
			return 1
		}
		return 0
	})
	var r Ranking
	found, behind := 0, 0 // behind: pairs of one with a right label before one with a wrong
	for i, k := range order {
		if wrong[k] {
			found++
			behind += i + 1 - found
		}
		r.Found = append(r.Found, found)
	}
	right := len(score) - found
	r.AUC = 1 - float64(behind)/(float64(found)*float64(right))
	r.Precision = float64(r.Found[found-1]) / float64(found)
	for _, s := range recallShares {
		r.Recall = append(r.Recall, r.recall(int(math.Round(s*float64(len(score))))))
	}
	return r
}

// recall is the share of the wrong among the first n.
func (r Ranking) recall(n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(r.Found[n-1]) / float64(r.Found[len(r.Found)-1])
}

func (r Ranking) hits() int { return int(math.Round(r.Precision * float64(r.Found[len(r.Found)-1]))) }

// InfluenceResult is what Influence found. Its JSON is what `mfac demo influence --json` prints.
type InfluenceResult struct {
	Images          int           `json:"images"`
	Wrong           int           `json:"wrong"`
	Window          int           `json:"window"`
	Epochs          int           `json:"epochs"`
	RelativeDamping float64       `json:"relative_damping"`
	Network         string        `json:"network"`
	Parameters      int           `json:"parameters"`
	Repetitions     []Repetition  `json:"repetitions"`
	Plot            string        `json:"plot"`
	Elapsed         time.Duration `json:"-"`
}

// Repetition is what one seed gave.
type Repetition struct {
	Seed          uint64  `json:"seed"`
	Damping       float64 `json:"damping"`
	TrainAccuracy float64 `json:"train_accuracy"` // with the wrong labels
	HeldAccuracy  float64 `json:"held_accuracy"`
	Bound         float64 `json:"bound"` // the largest relative bound of the error of a self-influence
	Influence     Ranking `json:"influence"`
	Norm          Ranking `json:"norm"`
	Loss          Ranking `json:"loss"`
}

// scores are the ways to rank, in the order of the table.
var scores = []struct {
	name string
	of   func(Repetition) Ranking
}{
	{"self-influence", func(r Repetition) Ranking { return r.Influence }},
	{"gradient norm", func(r Repetition) Ranking { return r.Norm }},
	{"loss", func(r Repetition) Ranking { return r.Loss }},
}

// meanOf returns the mean of what f gives of each repetition and the standard deviation, with n−1
// below; that is 0 of one.
func (r InfluenceResult) meanOf(f func(Repetition) float64) (mean, deviation float64) {
	return meanAndDeviation(len(r.Repetitions), func(i int) float64 { return f(r.Repetitions[i]) })
}

func meanAndDeviation(n int, f func(int) float64) (mean, deviation float64) {
	for i := range n {
		mean += f(i) / float64(n)
	}
	if n < 2 {
		return mean, 0
	}
	for i := range n {
		d := f(i) - mean
		deviation += d * d / float64(n-1)
	}
	return mean, math.Sqrt(deviation)
}

// WriteTable writes the table and what one must know to read it.
func (r InfluenceResult) WriteTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "\tprecision at %.3g %%\tAUC\t", 100*float64(r.Wrong)/float64(r.Images))
	for _, s := range recallShares {
		fmt.Fprintf(tw, "found in %.0f %%\t", 100*s)
	}
	fmt.Fprintln(tw)
	for _, s := range scores {
		mean, dev := r.meanOf(func(r Repetition) float64 { return s.of(r).Precision })
		auc, aucDev := r.meanOf(func(r Repetition) float64 { return s.of(r).AUC })
		fmt.Fprintf(tw, "%s\t%.3f ± %.3f\t%.4f ± %.4f\t", s.name, mean, dev, auc, aucDev)
		for i := range recallShares {
			recall, _ := r.meanOf(func(r Repetition) float64 { return s.of(r).Recall[i] })
			fmt.Fprintf(tw, "%.3f\t", recall)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	train, _ := r.meanOf(func(r Repetition) float64 { return r.TrainAccuracy })
	held, _ := r.meanOf(func(r Repetition) float64 { return r.HeldAccuracy })
	bound := 0.0
	for _, rep := range r.Repetitions {
		bound = math.Max(bound, rep.Bound)
	}
	fmt.Fprintln(w)
	for _, rep := range r.Repetitions {
		fmt.Fprintf(w, "seed %d: precision %.3f by self-influence, %.3f by gradient norm, %.3f by loss; damping %.3g\n",
			rep.Seed, rep.Influence.Precision, rep.Norm.Precision, rep.Loss.Precision, rep.Damping)
	}
	_, err := fmt.Fprintf(w, `
%d MNIST images, %d of them with a wrong label; mean ± standard deviation of %d seed(s).
Network %s, %d parameters, %d epochs: accuracy %.2f %% on the labels it saw, %.2f %% on held-out images.
H: the gradients of %d of the images, which leave themselves out; damping %v of their mean squared norm.
The largest bound of a self-influence's error is %.1e of it.
Plot: %s. All of it took %.1f s.
`, r.Images, r.Wrong, len(r.Repetitions), r.Network, r.Parameters, r.Epochs, 100*train, 100*held,
		r.Window, r.RelativeDamping, bound, r.Plot, r.Elapsed.Seconds())
	return err
}
