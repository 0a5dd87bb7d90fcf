package client

import (
	"context"
	"fmt"
	"slices"

	"mfac/wire"
)

// This file: labels, by which a publisher knows the example that a gradient is of.

// WithLabel labels the gradient: the id of its example, at most wire.MaxLabel bytes of printable UTF-8,
// which need not be unique; "" is none. It comes back with the gradient's scores and from Run.Labels,
// survives what the gradient survives, and is dropped when that leaves the window. A longer one is
// wire.CodeTooLarge, and nothing is sent. All who publish columns of one step name the same label: who
// comes with another one hears wire.CodeInvalid.
func WithLabel(label string) StepOption { return WithLabels(label) }

// WithLabels is WithLabel for the rows of PublishMany: one a row, in their order.
func WithLabels(labels ...string) StepOption {
	return func(c *call) error {
		c.labels = labels
		for i, l := range labels {
			field := "label"
			if len(labels) > 1 {
				field = fmt.Sprintf("label %d", i)
			}
			if err := wire.CheckLabel(field, l); err != nil {
				return err
			}
		}
		return nil
	}
}

// checkLabels checks that there is a label for each of n gradients, or none at all.
func (c *call) checkLabels(n int) error {
	if c.labels != nil && len(c.labels) != n {
		return wire.Invalid("labels", len(c.labels), fmt.Sprintf("%d, one a gradient", n))
	}
	return nil
}

// label is that of gradient i.
func (c *call) label(i int) string {
	if c.labels == nil {
		return ""
	}
	return c.labels[i]
}

// Labels asks which steps are in the window, and for their labels.
func (r *Run) Labels(ctx context.Context) (Window, error) {
	ctx, done, err := r.c.begin(ctx)
	if err != nil {
		return Window{}, fmt.Errorf("labels of run %s: %w", r.name, err)
	}
	defer done()
	for {
		w, err := r.labelled(ctx, 0, whileBusy)
		if code(err) == wire.CodeVersionGone && ctx.Err() == nil { // between two pages
			continue
		}
		if err != nil {
			return Window{}, fmt.Errorf("labels of run %s: %w", r.name, err)
		}
		return w, nil
	}
}

// labelled asks for the steps and labels of a query's rows, or of the window, page by page.
func (r *Run) labelled(ctx context.Context, id wire.QueryID, again func(wire.Code) bool) (Window, error) {
	w := Window{Steps: []wire.Step{}}
	for rows := 1; len(w.Steps) < rows; {
		req := &wire.LabelsRequest{Run: r.name, Query: id, Version: w.Version, From: len(w.Steps)}
		page, err := ask[*wire.Labels](ctx, r.c, wire.OpLabels, req, again)
		if err != nil {
			return Window{}, err
		}
		if page.From != req.From || req.From > 0 && (page.Rows != rows || page.Version != w.Version) {
			return Window{}, wire.Errorf(wire.CodeMalformed, "labels", fmt.Sprintf("from row %d of %d", page.From, page.Rows), fmt.Sprintf("from row %d", req.From))
		}
		list, err := wire.LabelList(page.Payload, page.N)
		if err != nil {
			return Window{}, err
		}
		for _, l := range list {
			w.Steps, w.Labels = append(w.Steps, l.Step), append(w.Labels, l.Label)
		}
		w.Version, rows = page.Version, page.Rows
	}
	if !slices.ContainsFunc(w.Labels, func(l string) bool { return l != "" }) {
		w.Labels = nil
	}
	return w, nil
}
