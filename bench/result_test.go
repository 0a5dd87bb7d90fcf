package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func measuredAs(l line, values ...float64) result {
	r := newResult(l)
	r.fill(values)
	return r
}

var someResults = []result{
	measuredAs(line{name: "dots/f32/avx2/m=16/threads=2", what: "w", atLeast: 0.7}, 0.8, 0.6, 0.9),
	measuredAs(line{name: "dots/f32/avx2/m=64/threads=2", what: "w", atLeast: 0.7}, 0.5),
	measuredAs(line{name: "own", what: "w", atMost: 3, unit: "ms"}, 2.5),
	{Name: "dots/f32/avx512/m=16/threads=2", What: "w", AtLeast: 0.9, Reason: "no kernel"},
}

func TestShort(t *testing.T) {
	for _, c := range []struct {
		l     line
		value float64
		short bool
	}{
		{line{atLeast: 0.9}, 0.9, false},
		{line{atLeast: 0.9}, 0.899, true},
		{line{atLeast: 0.9}, math.NaN(), true},
		{line{atMost: 1.15}, 1.15, false},
		{line{atMost: 1.15}, 1.16, true},
		{line{atMost: 1}, -2, false},
		{line{}, 0, false},
	} {
		if got := measuredAs(c.l, c.value).short(); got != c.short {
			t.Errorf("%+v at %v: short is %v", c.l, c.value, got)
		}
	}
	if someResults[3].short() {
		t.Error("what was not measured is short")
	}
}

// The JSON has the fields; what was not measured is null, with the reason.
func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := writeJSON(someResults, "-", &out); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if r := got[0]; r["name"] != "dots/f32/avx2/m=16/threads=2" || r["ratio"] != 0.8 || r["low"] != 0.6 || r["high"] != 0.9 || r["at_least"] != 0.7 || r["runs"] != 3.0 {
		t.Errorf("the first is %v", r)
	}
	if r := got[2]; r["at_most"] != 3.0 || r["unit"] != "ms" || r["at_least"] != nil {
		t.Errorf("the third is %v", r)
	}
	ratio, there := got[3]["ratio"]
	if r := got[3]; !there || ratio != nil || r["reason"] != "no kernel" {
		t.Errorf("what was not measured is %v", r)
	}
	file := filepath.Join(t.TempDir(), "x.json")
	if err := writeJSON(someResults, file, io.Discard); err != nil {
		t.Fatal(err)
	}
	if p, err := os.ReadFile(file); err != nil || !bytes.Equal(p, out.Bytes()) {
		t.Errorf("the file differs from standard output: %v", err)
	}
}

func TestVerdict(t *testing.T) {
	var out strings.Builder
	if got := verdict(&out, someResults); got != 1 {
		t.Errorf("exit code %d with one that falls short", got)
	}
	for _, want := range []string{
		"dots/f32/avx2/m=64/threads=2 is 0.5, must be ≥ 0.7\n",
		"dots/f32/avx512/m=16/threads=2: not on this machine: no kernel\n",
		"2 met, 1 fell short, 1 not on this machine\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
	if got := verdict(io.Discard, someResults[2:]); got != 0 {
		t.Errorf("exit code %d with none that falls short", got)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	if err := writeTable(&out, someResults); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 1+len(someResults) || !strings.Contains(lines[4], notHere) {
		t.Errorf("the table is\n%s", out.String())
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"fly"}, {"--only", "no/such/figure"}, {"--profile", "x"}, {"grow", "--quick"}, {"table", "extra"}, {"--nonsense"}} {
		if got := run(context.Background(), args, io.Discard, io.Discard); got != 2 {
			t.Errorf("%v: exit code %d, not 2", args, got)
		}
	}
}

// Every figure has a name of its own, and asks for one thing at most.
func TestFigures(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range figures() {
		for _, l := range f.lines {
			if seen[l.name] {
				t.Errorf("two figures are named %s", l.name)
			}
			seen[l.name] = true
			if l.what == "" || l.atLeast != 0 && l.atMost != 0 {
				t.Errorf("%s: %+v", l.name, l)
			}
		}
	}
	for _, name := range []string{
		"dots/f32/avx512/m=1024/threads=2", "combine/f32/avx2/m=16/threads=1", "dots/f16/m=64/threads=2", "combine/bf16/m=256/threads=1",
		"stage/f32", "sgemv/combine/m=1024/d=1000000/threads=2", "together/dots/k=16/m=256/threads=1", "gram/f32/m=256/threads=2",
		"publish/d=25000000/m=8", "fetch/d=25000000/m=8", "step/d=25000000/m=32", "control/m=1024/shards=4", "own/m=4096/shards=4",
	} {
		if !seen[name] {
			t.Errorf("no figure is named %s", name)
		}
	}
}
