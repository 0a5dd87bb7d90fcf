package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
)

const notHere = "not on this machine"

// result is a line measured. Ratio is the median of its runs; it, Low and High are null where
// this machine can't measure it, and Reason says why.
type result struct {
	Name    string   `json:"name"`
	What    string   `json:"what"`
	Ratio   *float64 `json:"ratio"`
	Unit    string   `json:"unit,omitempty"` // of Ratio, where it is none
	AtLeast float64  `json:"at_least,omitempty"`
	AtMost  float64  `json:"at_most,omitempty"`
	Low     *float64 `json:"low"`
	High    *float64 `json:"high"`
	Runs    int      `json:"runs"`
	Note    string   `json:"note,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

func newResult(l line) result {
	return result{Name: l.name, What: l.what, Unit: l.unit, AtLeast: l.atLeast, AtMost: l.atMost}
}

// fill takes the values of the runs, of which there is one at least.
func (r *result) fill(values []float64) {
	low, mid, high := spread(values)
	r.Ratio, r.Low, r.High, r.Runs = &mid, &low, &high, len(values)
}

func (r result) absent() bool { return r.Ratio == nil }

func (r result) asks() bool { return r.AtLeast != 0 || r.AtMost != 0 }

// short is whether it was measured and is not what is asked. NaN is short.
func (r result) short() bool {
	return !r.absent() && (r.AtLeast != 0 && !(*r.Ratio >= r.AtLeast) || r.AtMost != 0 && !(*r.Ratio <= r.AtMost))
}

func (r result) asked() string {
	switch {
	case r.AtLeast != 0:
		return "≥ " + strconv.FormatFloat(r.AtLeast, 'g', -1, 64) + r.suffix()
	case r.AtMost != 0:
		return "≤ " + strconv.FormatFloat(r.AtMost, 'g', -1, 64) + r.suffix()
	}
	return "–"
}

func (r result) suffix() string {
	if r.Unit == "" {
		return ""
	}
	return " " + r.Unit
}

func (r result) show(x float64) string { return strconv.FormatFloat(x, 'g', 3, 64) + r.suffix() }

// median and spread are what the tables show.
func (r result) median() string {
	if r.absent() {
		return notHere
	}
	return r.show(*r.Ratio)
}

func (r result) spread() string {
	if r.absent() {
		return "–"
	}
	return fmt.Sprintf("%.3g–%.3g", *r.Low, *r.High)
}

func (r result) String() string {
	s := fmt.Sprintf("%s  [%s]  %s", r.median(), r.spread(), r.asked())
	if r.short() {
		s += "  SHORT"
	}
	if extra := r.Note + r.Reason; extra != "" {
		s += "  (" + extra + ")"
	}
	return s
}

// writeJSON writes the results to a file, "-" being stdout and "" none.
func writeJSON(results []result, file string, stdout io.Writer) error {
	if file == "" {
		return nil
	}
	p, err := marshal(results)
	if err != nil {
		return err
	}
	if file == "-" {
		_, err = stdout.Write(p)
		return err
	}
	return os.WriteFile(file, p, 0o644)
}

func marshal(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	err := enc.Encode(v)
	return []byte(b.String()), err
}

func writeTable(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tmeasured\tspread\tasked\twhat")
	for _, r := range results {
		what := r.What
		if extra := r.Note + r.Reason; extra != "" {
			what += " (" + extra + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.median(), r.spread(), r.asked(), what)
	}
	return t.Flush()
}
