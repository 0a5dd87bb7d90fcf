package demo

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMNISTPlaces(t *testing.T) {
	const module = "github.com/petar/!go!m!n!i!s!t@v1/data"
	for _, c := range []struct {
		name, source string
		env          map[string]string
		want         []string
	}{
		{"nothing known", "", nil, nil},
		{"the source first", "/src", map[string]string{"HOME": "/home/me"},
			[]string{"/src/data", "/home/me/go/pkg/mod/" + module}},
		{"all", "", map[string]string{"GOMODCACHE": "/cache", "GOPATH": "/a" + string(filepath.ListSeparator) + "/b", "HOME": "/h"},
			[]string{"/cache/" + module, "/a/pkg/mod/" + module, "/b/pkg/mod/" + module, "/h/go/pkg/mod/" + module}},
		{"one place twice", "/cache/github.com/petar/!go!m!n!i!s!t@v1", map[string]string{"GOMODCACHE": "/cache"},
			[]string{"/cache/" + module}},
	} {
		var want []string
		for _, p := range c.want {
			want = append(want, filepath.FromSlash(p))
		}
		if got := mnistPlaces(c.source, "v1", func(k string) string { return c.env[k] }); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
}

func TestFindMNIST(t *testing.T) {
	dir, err := FindMNIST("")
	if err != nil {
		t.Fatalf("the module that this test is built with has the files, yet: %v", err)
	}
	if got, err := FindMNIST(dir); err != nil || got != dir {
		t.Errorf("FindMNIST(%s) is %s, %v", dir, got, err)
	}
	// In the folder that is named, nothing else is tried.
	empty := t.TempDir()
	if _, err := FindMNIST(empty); !errors.Is(err, ErrNoMNIST) || !strings.Contains(err.Error(), "train-images-idx3-ubyte.gz") {
		t.Errorf("error %v, want one that names the missing file", err)
	}
}

func TestLoadMNIST(t *testing.T) {
	dir, err := FindMNIST("")
	if err != nil {
		t.Fatal(err)
	}
	d, err := LoadMNIST(dir, 1, 300, 200)
	if err != nil {
		t.Fatal(err)
	}
	if d.Train.Len() != 300 || d.Held.Len() != 200 || d.Test.Len() != 10_000 {
		t.Errorf("%d, %d and %d images, want 300, 200 and 10000", d.Train.Len(), d.Held.Len(), d.Test.Len())
	}
	seen := map[string]bool{}
	for _, s := range []Images{d.Train, d.Held} {
		for i := range s.Len() {
			var key strings.Builder
			ink := false
			for _, x := range s.X[i*pixels : (i+1)*pixels] {
				if !(x >= 0 && x <= 1) {
					t.Fatalf("a pixel is %v", x)
				}
				ink = ink || x > 0.9
				key.WriteByte(byte(x * 255))
			}
			if !ink || s.Y[i] >= classes {
				t.Errorf("image %d is empty or has label %d", i, s.Y[i])
			}
			if seen[key.String()] {
				t.Errorf("an image comes twice")
			}
			seen[key.String()] = true
		}
	}
	if first := d.Test.Y[:5]; !slices.Equal(first, []uint8{7, 2, 1, 0, 4}) { // as everyone knows them
		t.Errorf("the first test labels are %v", first)
	}
	if _, err := LoadMNIST(dir, 1, 59_000, 1_001); err == nil || !strings.Contains(err.Error(), "60001 are needed") {
		t.Errorf("error %v for more images than there are", err)
	}
}

func TestLoadMNISTSaysWhatItCouldNotRead(t *testing.T) {
	dir := t.TempDir()
	for _, name := range mnistFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("not gzip"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := LoadMNIST(dir, 1, 1, 1); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v, want one that names the folder", err)
	}
}
