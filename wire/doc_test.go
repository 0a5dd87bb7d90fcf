package wire

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// docs/protocol.md and the code say the same.

const docPath = "../docs/protocol.md"

func readDoc(t *testing.T) string {
	t.Helper()
	p, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

var goldenBlock = regexp.MustCompile("(?s)```golden ([^\n]+)\n(.*?)```\n")

func TestDocFrames(t *testing.T) {
	doc := readDoc(t)
	n := 0
	fresh := goldenBlock.ReplaceAllStringFunc(doc, func(block string) string {
		m := goldenBlock.FindStringSubmatch(block)
		golden, err := os.ReadFile(goldenPath(m[1]))
		if err != nil {
			t.Error(err)
			return block
		}
		if n++; m[2] != string(golden) && !*update {
			t.Errorf("the frame %s is not the golden one: go test ./wire -run Doc -update", m[1])
		}
		return "```golden " + m[1] + "\n" + string(golden) + "```\n"
	})
	if n < 10 {
		t.Errorf("%d frames", n)
	}
	if *update && fresh != doc {
		if err := os.WriteFile(docPath, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// docSections are the tables of fields, by the headings above them.
func docSections(t *testing.T) map[string]string {
	t.Helper()
	sections := map[string]string{}
	for _, part := range strings.Split("\n"+readDoc(t), "\n#### ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		if i := strings.Index(text, "\n#"); i >= 0 {
			text = text[:i]
		}
		if sections[title] != "" {
			t.Errorf("%s is there twice", title)
		}
		sections[title] = text
	}
	return sections
}

var fieldRow = regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\| ([a-z0-9: ]+) \\|(.*)\\|$")

// maps are the structs inside messages, under the names that they have in the doc.
var maps = map[string]reflect.Type{
	"epoch": reflect.TypeFor[Epoch](), "spec": reflect.TypeFor[RunSpec](), "worker": reflect.TypeFor[WorkerStatus](),
	"precondition": reflect.TypeFor[Precondition](), "shard": reflect.TypeFor[Shard](), "staged": reflect.TypeFor[Staged](), "held": reflect.TypeFor[Held](),
	"error": reflect.TypeFor[Error](),
}

func TestDocFields(t *testing.T) {
	sections := docSections(t)
	check := func(title string, typ reflect.Type) {
		text, ok := sections[title]
		delete(sections, title)
		if !ok {
			t.Errorf("%s is not in %s", title, docPath)
			return
		}
		want := map[string]string{}
		docFields(typ, want)
		for _, m := range fieldRow.FindAllStringSubmatch(text, -1) {
			if want[m[1]] == "" {
				t.Errorf("%s: the field %s is not there, or is in the doc twice", title, m[1])
				continue
			}
			if got := m[2] + optional(m[3]); got != want[m[1]] {
				t.Errorf("%s: the field %s is %q, must be %q", title, m[1], got, want[m[1]])
			}
			delete(want, m[1])
		}
		for name := range want {
			t.Errorf("%s: the doc has no field %s", title, name)
		}
	}
	for _, name := range sortedTypes() {
		typ := reflect.TypeOf(types[name].empty())
		check(name, typ.Elem())
		kind := "Control."
		if typ.Implements(reflect.TypeFor[Bulk]()) {
			kind = "Bulk"
		}
		if text := docSections(t)[name]; !strings.HasPrefix(text, "\n"+kind) {
			t.Errorf("%s is %s", name, kind)
		}
	}
	for name, typ := range maps {
		if name != "error" {
			check("map "+name, typ)
		}
	}
	for title := range sections {
		t.Errorf("%s is in the doc alone", title)
	}
}

func optional(text string) string {
	if strings.HasPrefix(text, " (opt)") {
		return " (opt)"
	}
	return ""
}

// docFields are the fields of a struct as the doc's tables have them. Those of the embedded Shard
// are left out.
func docFields(typ reflect.Type, to map[string]string) {
	for f := range typ.Fields() {
		name, rest, _ := strings.Cut(f.Tag.Get("msgpack"), ",")
		if name == "-" || f.Anonymous {
			continue
		}
		to[name] = docType(f.Type)
		if rest == "omitempty" && typ != reflect.TypeFor[Error]() {
			to[name] += " (opt)"
		}
	}
}

func docType(typ reflect.Type) string {
	for name, m := range maps {
		if typ == m {
			return "map: " + name
		}
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return docType(typ.Elem())
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return "binary"
		}
		return "array of " + docType(typ.Elem())
	case reflect.Int, reflect.Int64:
		return "int"
	case reflect.Uint64:
		return "uint"
	case reflect.Float64:
		return "float"
	}
	return typ.Kind().String()
}

// constants are the constants of this package of a type, or whose names begin with a prefix.
func constants(t *testing.T, file string, match func(name, typ string) bool) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		typ, _ := spec.Type.(*ast.Ident)
		for i, name := range spec.Names {
			if typ != nil && match(name.Name, typ.Name) || typ == nil && match(name.Name, "") {
				found[name.Name] = ""
				if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					found[name.Name], _ = strconv.Unquote(lit.Value)
				}
			}
		}
		return true
	})
	return found
}

func TestDocCodes(t *testing.T) {
	_, doc, _ := strings.Cut(readDoc(t), "\n## Error codes\n")
	codes := constants(t, "error.go", func(_, typ string) bool { return typ == "Code" })
	if len(codes) < 28 {
		t.Fatalf("%d codes", len(codes))
	}
	for name, code := range codes {
		row := regexp.MustCompile("(?m)^\\| `" + code + "` \\| (.*?) \\|.*\\|$").FindStringSubmatch(doc)
		if row == nil {
			t.Errorf("%s (%s) is not in the table of codes", name, code)
			continue
		}
		if passes := strings.HasPrefix(row[1], "passes"); passes != (&Error{Code: Code(code)}).Temporary() {
			t.Errorf("%s: the doc says passes=%v", code, passes)
		}
	}
}

func TestDocLimits(t *testing.T) {
	doc := readDoc(t)
	values := map[string]int64{
		"MaxMeta": MaxMeta, "MaxDepth": MaxDepth, "MaxItems": MaxItems, "MaxPayload": MaxPayload, "MaxDim": MaxDim, "MaxWindow": MaxWindow,
		"MaxSpare": MaxSpare, "MaxShards": MaxShards, "MaxVectors": MaxVectors, "MaxIndices": MaxIndices, "MaxValues": MaxValues, "MaxPairs": MaxPairs, "MaxTuned": MaxTuned, "MaxDampings": MaxDampings, "MaxTensors": MaxTensors, "MaxLayout": MaxLayout,
		"MaxTensorName": MaxTensorName, "MaxLabel": MaxLabel, "MaxSides": MaxSides, "MaxOpen": MaxOpen, "MaxList": MaxList, "MaxStatus": MaxStatus, "MaxHeld": MaxHeld,
		"MaxDeadlineMS": MaxDeadlineMS,
	}
	for _, file := range []string{"types.go", "layout.go", "control.go"} {
		for name := range constants(t, file, func(name, typ string) bool { return typ == "" && strings.HasPrefix(name, "Max") }) {
			if _, ok := values[name]; !ok && name != "MaxErrorRate" {
				t.Errorf("this test doesn't know %s", name)
			}
		}
	}
	for name, v := range values {
		if row := fmt.Sprintf("\n| `%s` | %s | ", name, commas(v)); !strings.Contains(doc, row) {
			t.Errorf("the doc has no row %q", row)
		}
	}
	if MaxErrorRate != 0.001 || !strings.Contains(doc, "Above 0.001") {
		t.Error("the limit of the error")
	}
	if !strings.Contains(doc, exSpec.Layout) {
		t.Errorf("the doc's layout has the hash %s", exSpec.Layout)
	}
}

func commas(n int64) string {
	s := []byte(strconv.FormatInt(n, 10))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = slices.Insert(s, i, ',')
	}
	return string(s)
}

// Each op has its place in the doc's subjects, and a type.
func TestOpsHaveTypes(t *testing.T) {
	ops := constants(t, "subject.go", func(name, _ string) bool { return strings.HasPrefix(name, "Op") })
	for name, op := range ops {
		if _, ok := types[op]; !ok {
			t.Errorf("%s = %q is no type", name, op)
		}
	}
}
