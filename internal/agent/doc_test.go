//go:build unix

package agent

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The table of ops in docs/agent.md has each op, and each field of its request.
func TestDoc(t *testing.T) {
	page, err := os.ReadFile("../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| op | ")
	code := regexp.MustCompile("`([a-z0-9_]+)`")
	names := func(text string) (list []string) {
		for _, m := range code.FindAllStringSubmatch(text, -1) {
			list = append(list, m[1])
		}
		return list
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(table, "\n") {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| `") || len(cells) < 2 {
			continue
		}
		told := names(cells[1])
		if strings.HasPrefix(cells[1], "asking") {
			told = append(told, append(fieldsOf(reflect.TypeFor[Asking]()), "asking")...)
		}
		if strings.HasPrefix(cells[1], "sending") {
			told = append(told, "sending")
		}
		for _, name := range names(cells[0]) {
			op, ok := ops[name]
			if !ok {
				t.Errorf("docs/agent.md has an op %s", name)
				continue
			}
			seen[name] = true
			for _, f := range fieldsOf(op.request) {
				if !slices.Contains(told, f) {
					t.Errorf("docs/agent.md: op %s has a field %s", name, f)
				}
			}
		}
	}
	for name := range ops {
		if !seen[name] {
			t.Errorf("docs/agent.md has no op %s", name)
		}
	}
	for word, of := range map[string]reflect.Type{"`asking` is ": reflect.TypeFor[Asking](), "`sending` is ": reflect.TypeFor[Sending]()} {
		_, text, _ := strings.Cut(string(page), word)
		text, _, _ = strings.Cut(text, "(`client.")
		for _, f := range fieldsOf(of) {
			if !slices.Contains(names(text), f) {
				t.Errorf("docs/agent.md: %s has a field %s", word, f)
			}
		}
	}
}

func fieldsOf(of reflect.Type) (list []string) {
	for f := range of.Fields() {
		switch name, _, _ := strings.Cut(f.Tag.Get("msgpack"), ","); {
		case name != "":
			list = append(list, name)
		case of != f.Type && (f.Type == reflect.TypeFor[Asking]() || f.Type == reflect.TypeFor[Sending]()):
			list = append(list, strings.ToLower(f.Name))
		}
	}
	return list
}
