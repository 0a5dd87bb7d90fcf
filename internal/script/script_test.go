package script

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// adder carries out the directives of testdata.
func adder(*testing.T) func(*Cmd) string {
	sums := map[string]int{}
	return func(c *Cmd) string {
		switch c.Name {
		case "add":
			key := c.Str("to", "it")
			for w := c.Word(); w != ""; w = c.Word() {
				n, err := strconv.Atoi(w)
				if err != nil {
					c.Fail("%w", err)
				}
				sums[key] += n
			}
			return fmt.Sprintln(key, sums[key])
		case "quiet":
			return ""
		case "list":
			lo, hi := c.Range("in", 0, 0)
			return fmt.Sprintf("%v %d:%d %d", c.Floats("of"), lo, hi, c.Int("at", 0))
		}
		c.Fail("%s is no directive", c.Name)
		return ""
	}
}

func TestRun(t *testing.T) { Run(t, "testdata/*.txt", adder) }

func TestPlay(t *testing.T) {
	for _, tt := range []struct{ name, text, want, err string }{
		{"first time", "add 1\n----\n", "add 1\n----\nit 1\n", ""},
		{"other output gives way", "add 1\n----\nit 2\nit 3\n\n# c\nadd 1\n----\n", "add 1\n----\nit 1\n\n# c\nadd 1\n----\nit 2\n", ""},
		{"blank lines and comments stay", "# a\n\n# b\nquiet\n\n# c\nadd 2\n----\nx\n\n\n# end\n", "# a\n\n# b\nquiet\n\n# c\nadd 2\n----\nit 2\n\n\n# end\n", ""},
		{"no dashes", "quiet\n----\n\nadd 1\n", "", "4: no ---- below"},
		{"no directives", "# a\n----\n", "", "2: no directives above"},
		{"unknown directive", "sub 1\n----\n", "", "1: sub 1: sub is no directive"},
		{"unknown key", "add ot=x 1\n----\n", "", "nothing takes ot=x"},
		{"unknown word", "quiet please\n----\n", "", `nothing takes ["please"]`},
		{"key twice", "add to=a to=b\n----\n", "", "to is there twice"},
		{"no number", "add x\n----\n", "", "parsing \"x\""},
		{"no float", "list of=1,y\n----\n", "", "of: strconv"},
		{"no whole number", "list at=1.5\n----\n", "", "at: strconv"},
		{"no range", "list in=1-2\n----\n", "", "in: not lo:hi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := play(tt.text, adder(t))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %q, %v; want an error with %q", got, err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
