package client

import (
	"slices"
	"strings"
	"testing"

	"mfac/wire"
)

// Labels go with the steps they are of, whichever way these are published.
func TestLabels(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(4)
	ctx := t.Context()
	if _, err := r.Publish(ctx, 1, ramp(4), WithLabel("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PublishMany(ctx, 2, [][]float32{ramp(4), ramp(4)}, WithLabels("", "drei")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Precondition(ctx, 4, make([]float32, 4), ramp(4), WithLabel("vier")); err != nil {
		t.Fatal(err)
	}
	w, err := r.Labels(ctx)
	if err != nil || !slices.Equal(w.Steps, []wire.Step{1, 2, 3, 4}) || !slices.Equal(w.Labels, []string{"one", "", "drei", "vier"}) {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestNoLabels(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	if w, err := r.Labels(t.Context()); err != nil || len(w.Steps) != 0 || w.Labels != nil {
		t.Errorf("empty: %+v, %v", w, err)
	}
	if _, err := r.Publish(t.Context(), 1, ramp(4)); err != nil {
		t.Fatal(err)
	}
	if w, err := r.Labels(t.Context()); err != nil || len(w.Steps) != 1 || w.Labels != nil {
		t.Errorf("none labelled: %+v, %v", w, err)
	}
}

// A window that changes between two pages is listed anew.
func TestLabelsOfOneVersion(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	var asked []wire.LabelsRequest
	f.on(func(_, _ string, m wire.Message) (wire.Message, bool) {
		req, ok := m.(*wire.LabelsRequest)
		if !ok {
			return nil, false
		}
		asked = append(asked, *req)
		switch len(asked) {
		case 1:
			return &wire.Labels{Version: 5, Rows: 2, N: 1, Payload: wire.AppendLabels(nil, []wire.Labelled{{Step: 1, Label: "old"}})}, true
		case 2:
			return wire.Errorf(wire.CodeVersionGone, "version", 5, "6"), true
		}
		return &wire.Labels{Version: 6, Rows: 1, N: 1, Payload: wire.AppendLabels(nil, []wire.Labelled{{Step: 2, Label: "new"}})}, true
	})
	w, err := r.Labels(t.Context())
	if err != nil || w.Version != 6 || !slices.Equal(w.Steps, []wire.Step{2}) || !slices.Equal(w.Labels, []string{"new"}) {
		t.Errorf("%+v, %v", w, err)
	}
	if len(asked) != 3 || asked[1].Version != 5 || asked[1].From != 1 || asked[2].Version != 0 || asked[2].From != 0 {
		t.Errorf("%+v", asked)
	}
}

// What is wrong with a label is said before anything is sent.
func TestLabelsRefused(t *testing.T) {
	f := newFake(t, "a")
	r := f.attached(4)
	ctx := t.Context()
	publish := func(opts ...PublishOption) error { _, err := r.Publish(ctx, 1, ramp(4), opts...); return err }
	many := func(opts ...PublishOption) error {
		_, err := r.PublishMany(ctx, 1, [][]float32{ramp(4), ramp(4)}, opts...)
		return err
	}
	_, precondition := r.Precondition(ctx, 1, make([]float32, 4), ramp(4), WithLabel("\xff"))
	_, columns := r.PublishColumns(ctx, 1, 0, ramp(2), WithLabels("a", "b"))
	for _, c := range []struct {
		what string
		err  error
		code wire.Code
		text string
	}{
		{"10 MB", publish(WithLabel(strings.Repeat("ä", 5_000_000))), wire.CodeTooLarge, `label is 10000000 bytes long ("ääääääääääääääää"…), must be at most 256 bytes`},
		{"control", publish(WithLabel("a\tb")), wire.CodeInvalid, `label is "a\tb", must be printable UTF-8`},
		{"not UTF-8", precondition, wire.CodeInvalid, `label is "\xff", must be printable UTF-8`},
		{"the second", many(WithLabels("a", "b\n")), wire.CodeInvalid, `label 1 is "b\n"`},
		{"too few", many(WithLabel("a")), wire.CodeInvalid, "labels is 1, must be 2, one a gradient"},
		{"too many", publish(WithLabels("a", "b")), wire.CodeInvalid, "labels is 2, must be 1, one a gradient"},
		{"of columns", columns, wire.CodeInvalid, "labels is 2, must be 1, one a gradient"},
	} {
		wantCode(t, c.err, c.code, c.text)
	}
	if n := f.count(wire.OpOpen) + f.count(wire.OpChunk); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	if err := publish(WithLabel(strings.Repeat("ä", wire.MaxLabel/2))); err != nil {
		t.Errorf("a label of %d bytes: %v", wire.MaxLabel, err)
	}
}
