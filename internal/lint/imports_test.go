package lint

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// may says which packages of this module a package may import (its own folder's name is enough):
// only downwards. A package that is not listed here fails the test, so that each new one is
// given its place.
var may = map[string][]string{
	"wire":                 {"internal/crc32c", "internal/selection"},
	"internal/selection":   {},
	"internal/crc32c":      {},
	"shard/kernel":         {},
	"shard/pool":           {},
	"shard":                {"shard/kernel", "shard/pool", "internal/normal"},
	"coordinator/window":   {},
	"coordinator/spectrum": {},
	"internal/invariant":   {},
	"internal/planted":     {},
	"internal/natsx":       {"wire"},
	"internal/npy":         {},
	"internal/dtype":       {"wire", "shard/kernel"},
	"internal/normal":      {},
	"internal/rpc":         {"wire"},
	"worker":               {"internal/selection", "wire", "shard", "shard/kernel", "shard/pool", "internal/dtype", "internal/normal", "internal/invariant", "internal/planted", "internal/rpc"},
	"coordinator":          {"internal/selection", "wire", "shard", "coordinator/window", "coordinator/spectrum", "internal/dtype", "internal/normal", "internal/invariant", "internal/planted", "internal/rpc"},
	"client":               {"wire", "shard", "shard/kernel", "internal/dtype", "internal/natsx"},
	"internal/demo":        {},
	"internal/config":      {"wire", "internal/natsx"},
	"internal/cluster":     {"wire", "client", "coordinator", "worker", "internal/config", "internal/natsx"},
	"internal/agent":       {"wire", "client", "internal/cluster"},
	"internal/sim":         {"wire", "coordinator", "coordinator/window", "worker", "shard", "shard/kernel", "internal/dtype", "internal/normal", "internal/invariant", "internal/planted"},
	"internal/script":      {},
	"internal/lint":        {},
}

// free are folders whose packages may import anything: nothing imports them.
var free = []string{"cmd/", "bench", "tests/", "examples/"}

// pure lists packages that do no I/O and know no clock.
var pure = []string{"wire", "shard", "shard/kernel", "shard/pool", "coordinator/window", "coordinator/spectrum", "internal/crc32c", "internal/dtype", "internal/normal", "internal/selection", "internal/invariant", "internal/planted"}

// adapters are the files of the services that do; their other files are the pure cores.
var adapters = map[string][]string{
	"worker":      {"service.go", "region.go", "region_linux.go", "region_other.go", "nodes_linux.go", "nodes_other.go"},
	"coordinator": {"service.go", "owner.go", "worked.go", "create.go"},
}

// impure are imports that no core has. The sim has a clock of its own.
var impure = []string{"time", "os", "net", "context", "math/rand", "math/rand/v2", "crypto/rand", "go.uber.org/zap", "github.com/nats-io/"}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "python") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(rel))
		if slices.ContainsFunc(free, func(p string) bool { return strings.HasPrefix(dir, p) }) {
			return nil
		}
		allowed, ok := may[dir]
		if !ok {
			t.Errorf("%s has no place in internal/lint's list of who may import whom", dir)
			return nil
		}
		seen[dir] = true
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		_, service := adapters[dir]
		core := slices.Contains(pure, dir) || service && !slices.Contains(adapters[dir], name)
		for _, spec := range file.Imports {
			imp := strings.Trim(spec.Path.Value, `"`)
			if own, ok := strings.CutPrefix(imp, "mfac/"); ok && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s: it may import %v", rel, imp, allowed)
			}
			if core && slices.ContainsFunc(impure, func(p string) bool { return imp == p || strings.HasSuffix(p, "/") && strings.HasPrefix(imp, p) }) {
				t.Errorf("%s imports %s: it is a core", rel, imp)
			}
			if core && imp == "mfac/internal/rpc" {
				t.Errorf("%s imports %s: it is a core", rel, imp)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range may {
		if !seen[dir] && dir != "internal/config" && dir != "internal/cluster" && dir != "internal/sim" && dir != "internal/lint" {
			t.Errorf("%s is listed and has no files", dir)
		}
	}
}
