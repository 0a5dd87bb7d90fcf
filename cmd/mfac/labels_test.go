package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mfac/wire"
)

func TestReadLabels(t *testing.T) {
	path := filepath.Join(t.TempDir(), "labels.txt")
	for text, want := range map[string][]string{
		"":             {},
		"a\nb":         {"a", "b"},
		"a\r\n\r\nä\n": {"a", "", "ä"},
		"\n\n":         {"", ""},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readLabels(path, int64(len(want)))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if err := os.WriteFile(path, []byte("a\n"+strings.Repeat("x", 10_000_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := readLabels(path, 2)
	if !errors.Is(err, wire.ErrTooLarge) || !strings.Contains(err.Error(), "label in line 2 is 10000000 bytes long") || len(err.Error()) > 500 {
		t.Errorf("10 MB: %.500v", err)
	}
}
