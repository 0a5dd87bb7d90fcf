// Package script runs behaviour that is written down as scripts with golden output. A script is
//
//	# What is shown.
//	chunk step=7 shard=2 cols=0:512
//	----
//	send client: ack staged=512/1024
//
// directives, one a line, a line of dashes, and what they did, up to a blank line. The test's flag
// -update writes what they do now; review reads the difference.
package script

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden output of scripts")

const dashes = "----"

// Run plays each script that glob names as a subtest. start begins anew; what it returns carries
// out a directive and returns what that did, in lines.
func Run(t *testing.T, glob string, start func(*testing.T) func(*Cmd) string) {
	t.Helper()
	paths, err := filepath.Glob(glob)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts %s: %v", glob, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := string(text)
			got, err := play(want, start(t))
			if err != nil {
				t.Fatalf("%s:%v", path, err)
			}
			switch {
			case got == want:
			case *update:
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("%s (-want +got; -update takes it over):\n%s", path, cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")))
			}
		})
	}
}

// Golden compares bytes with those of a file, or rewrites the file.
func Golden(t *testing.T, path string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(path)
	switch {
	case err == nil && string(want) == string(got):
	case *update:
		err = os.WriteFile(path, got, 0o644)
	case err == nil:
		t.Errorf("%s (-want +got; -update takes it over):\n%s", path, cmp.Diff(string(want), string(got)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// play returns the script with what its directives did.
func play(text string, do func(*Cmd) string) (string, error) {
	var out, did strings.Builder
	golden, open := false, 0
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case golden && line != "":
			continue // the output of another time
		case line == dashes:
			if open == 0 {
				return "", fmt.Errorf("%d: no directives above %s", i+1, dashes)
			}
			golden, open = true, 0
			out.WriteString(dashes + "\n" + did.String())
			did.Reset()
			continue
		case line == "", strings.HasPrefix(line, "#"):
			golden = false
		default:
			c, err := Parse(line)
			if err != nil {
				return "", fmt.Errorf("%d: %w", i+1, err)
			}
			open = i + 1
			if s := do(c); s != "" {
				did.WriteString(strings.TrimRight(s, "\n") + "\n")
			}
			if err := c.Err(); err != nil {
				return "", fmt.Errorf("%d: %s: %w", i+1, line, err)
			}
		}
		out.WriteString(line + "\n")
	}
	if open != 0 {
		return "", fmt.Errorf("%d: no %s below", open, dashes)
	}
	return out.String(), nil
}

// Cmd is a directive: name word … key=value … The zero Cmd says nothing.
type Cmd struct {
	Name string

	words []string
	args  map[string]string
	used  map[string]bool
	err   error
}

// Parse reads a directive.
func Parse(line string) (*Cmd, error) {
	f := strings.Fields(line)
	if len(f) == 0 {
		return nil, errors.New("no directive")
	}
	c := &Cmd{Name: f[0], args: map[string]string{}}
	for _, word := range f[1:] {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			c.words = append(c.words, word)
			continue
		}
		if _, twice := c.args[key]; twice {
			return nil, fmt.Errorf("%s is there twice", key)
		}
		c.args[key] = value
	}
	return c, nil
}

// Err is what was wrong with the directive, if anything. What nobody asked for is wrong too: a
// misspelt key must not be taken for one that was left out.
func (c *Cmd) Err() error {
	for key := range c.args {
		if !c.used[key] && c.err == nil {
			c.err = fmt.Errorf("nothing takes %s=%s", key, c.args[key])
		}
	}
	if len(c.words) > 0 && c.err == nil {
		c.err = fmt.Errorf("nothing takes %q", c.words)
	}
	return c.err
}

// Fail says that the directive can't be carried out.
func (c *Cmd) Fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// Word takes the next word, "" where there is none.
func (c *Cmd) Word() string {
	if len(c.words) == 0 {
		return ""
	}
	w := c.words[0]
	c.words = c.words[1:]
	return w
}

// Has takes a word, if it is there.
func (c *Cmd) Has(word string) bool {
	i := slices.Index(c.words, word)
	if i >= 0 {
		c.words = slices.Delete(c.words, i, i+1)
	}
	return i >= 0
}

// Str is a key's value, def where it isn't there.
func (c *Cmd) Str(key, def string) string {
	if c.used == nil {
		c.used = map[string]bool{}
	}
	c.used[key] = true
	if v, ok := c.args[key]; ok {
		return v
	}
	return def
}

// Int is a key's whole number.
func (c *Cmd) Int(key string, def int64) int64 {
	v, err := strconv.ParseInt(c.Str(key, strconv.FormatInt(def, 10)), 10, 64)
	if err != nil {
		c.Fail("%s: %w", key, err)
	}
	return v
}

// Float is a key's number.
func (c *Cmd) Float(key string, def float64) float64 {
	v, err := strconv.ParseFloat(c.Str(key, fmt.Sprint(def)), 64)
	if err != nil {
		c.Fail("%s: %w", key, err)
	}
	return v
}

// List is a key's values, which commas part.
func (c *Cmd) List(key string) []string {
	v := c.Str(key, "")
	if v == "" {
		return nil
	}
	return strings.Split(v, ",")
}

// Floats is a key's numbers.
func (c *Cmd) Floats(key string) []float64 {
	var out []float64
	for _, s := range c.List(key) {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			c.Fail("%s: %w", key, err)
		}
		out = append(out, v)
	}
	return out
}

// Range is a key's lo:hi.
func (c *Cmd) Range(key string, lo, hi int64) (int64, int64) {
	n, err := fmt.Sscanf(c.Str(key, fmt.Sprintf("%d:%d", lo, hi)), "%d:%d", &lo, &hi)
	if err != nil || n != 2 {
		c.Fail("%s: not lo:hi", key)
	}
	return lo, hi
}
