package wire

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A list of labels is read as it was written, as many as one payload takes; a part of it is refused.
func TestLabelLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Labelled {
			return Labelled{Step(rapid.Uint64().Draw(t, "step")), rapid.StringMatching(`[ -~äα語]{0,80}`).Draw(t, "label")}
		}), 0, 20).Draw(t, "list")
		if n := LabelsFit(list); n != len(list) {
			t.Fatalf("%d of %d fit", n, len(list))
		}
		p := AppendLabels(nil, list)
		got, err := LabelList(p, len(list))
		if err != nil || !slices.Equal(got, list) {
			t.Fatalf("%v became %v (%v)", list, got, err)
		}
		if _, err := LabelList(p, len(list)+1); err == nil {
			t.Fatal("one more passes")
		}
		if len(p) > 0 {
			if _, err := LabelList(p[:rapid.IntRange(0, len(p)-1).Draw(t, "bytes")], len(list)); err == nil {
				t.Fatal("a part passes")
			}
		}
		if _, err := LabelList(append(p, 0), len(list)); err == nil {
			t.Fatal("a byte more passes")
		}
	})
}

// The largest window's longest labels take two pages.
func TestLabelPages(t *testing.T) {
	list := slices.Repeat([]Labelled{{7, strings.Repeat("x", MaxLabel)}}, MaxWindow)
	n := LabelsFit(list)
	if n != MaxPayload/(labelHead+MaxLabel) || 2*n < MaxWindow {
		t.Errorf("%d of %d on a page", n, MaxWindow)
	}
	if p := AppendLabels(nil, list[:n]); len(p) > MaxPayload {
		t.Errorf("%d bytes", len(p))
	}
}

func TestCheckLabel(t *testing.T) {
	for _, label := range []string{"", "a", " a b ", "Ähre", "語", strings.Repeat("x", MaxLabel)} {
		if err := CheckLabel("label", label); err != nil {
			t.Errorf("%q: %v", label, err)
		}
	}
	for label, text := range map[string]string{
		strings.Repeat("x", MaxLabel+1):       `label is 257 bytes long ("` + strings.Repeat("x", 32) + `"…), must be at most 256 bytes (too_large)`,
		"a" + strings.Repeat("ä", MaxLabel/2): `label is 257 bytes long ("a` + strings.Repeat("ä", 15) + `"…)`,
		strings.Repeat("\xbf", 10_000_000):    `label is 10000000 bytes long ("\xbf`,
		"\x00":                                `label is "\x00", must be printable UTF-8 (invalid)`,
		strings.Repeat("y", 64) + "\u202e":    `label is "` + strings.Repeat("y", 32) + `"…, must be printable`,
		"\xc3":                                `label is "\xc3", must be printable UTF-8`,
	} {
		err := CheckLabel("label", label)
		if err == nil || !strings.Contains(err.Error()+" ("+string(AsError(err).Code)+")", text) || len(err.Error()) > 250 {
			t.Errorf("%.50q: %v", label, err)
		}
	}
	long := &Open{Run: "digits", Step: 1, Label: strings.Repeat("x", 10_000)}
	if err := long.Validate(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
}
