package main

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Every loop reads all: their sums of words are those of the plain one.
func TestLoops(t *testing.T) {
	region, err := mapRegion(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	defer unmapRegion(region)
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range region {
		region[i] = byte(rng.Uint32())
	}
	for _, n := range []int{256, 512, 1024, 4096, 1<<16 - 256, 1 << 16} {
		want := readGo(region[:n])
		for _, l := range readLoops() {
			if got := l.read(region[:n]); got != want {
				t.Errorf("%q reads %d bytes as %x, not %x", l.name, n, got, want)
			}
		}
		for threads := 1; threads <= 3; threads++ {
			sink.Store(0)
			readWith(loop{read: readGo}, threads, region[:n])
			if got := sink.Load(); got != want {
				t.Errorf("%d threads read %d bytes as %x, not %x", threads, n, got, want)
			}
		}
	}
	for _, n := range []int{64, 192, 4096} {
		p := bytes.Repeat([]byte{7}, n+128)
		fill(p[64:][:n])
		if bytes.Contains(p[64:][:n], []byte{7}) || p[63] != 7 || p[64+n] != 7 {
			t.Errorf("fill writes %d bytes wrongly", n)
		}
	}
	to, err := mapRegion(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	defer unmapRegion(to)
	for _, c := range streamCopies() {
		for _, n := range []int{64, 192, 4096} {
			clear(to)
			c.copy(to[64:][:n], region[4:][:n])
			if !bytes.Equal(to[64:][:n], region[4:][:n]) || !bytes.Equal(to[:64], make([]byte, 64)) || !bytes.Equal(to[64+n:][:64], make([]byte, 64)) {
				t.Errorf("%s copies %d bytes wrongly", c.name, n)
			}
		}
	}
}

func TestCacheSize(t *testing.T) {
	for s, want := range map[string]int64{"32768K\n": 32 << 20, "512K": 512 << 10, "32M": 32 << 20, "100": 100, "much": 0, "": 0} {
		if got := cacheSize(s); got != want {
			t.Errorf("cacheSize(%q) = %d, not %d", s, got, want)
		}
	}
}

func TestRepeat(t *testing.T) {
	for _, c := range []struct{ once, atLeast, want int }{{0, 20, 20}, {3, 20, 7}, {20, 20, 1}, {50, 20, 1}} {
		if got := repeat(nanos(c.once), nanos(c.atLeast)); got != c.want {
			t.Errorf("repeat(%d, %d) = %d, not %d", c.once, c.atLeast, got, c.want)
		}
	}
}
