package cluster

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mfac/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCluster(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	c, err := Start(t.Context(), Options{Workers: 3, Capacity: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if c.Capacity() != 1<<20 || len(c.Workers()) != 3 {
		t.Errorf("%d bytes, workers %v", c.Capacity(), c.Workers())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cl, err := client.Connect(ctx, c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	r, err := cl.Attach(ctx, client.RunConfig{Name: "r", Dim: 7, Window: 2, Damping: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if r.Spec().Shards != 3 { // all workers were known
		t.Errorf("%d shards", r.Spec().Shards)
	}
	v := []float32{1, 2, 3, 4, 5, 6, 7}
	got := make([]float32, 7)
	if _, err := r.IHVP(ctx, got, v); err != nil {
		t.Fatal(err)
	}
	for i, x := range got { // without gradients H is λ
		if x != 2*v[i] {
			t.Errorf("element %d is %v, want %v", i, x, 2*v[i])
		}
	}
	cl.Close()
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if err := c.Stop(); err != nil {
		t.Error("again:", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{Workers: -1}, "workers is -1, must be in [1, 64]"},
		{Options{Workers: 65}, "workers is 65, must be in [1, 64]"},
		{Options{Port: 70000}, "port is 70000, must be in [1, 65535]"},
		{Options{Port: l.Addr().(*net.TCPAddr).Port}, "can't be used"},
		{Options{Capacity: -1}, "memory is -1, must be > 0"},
	} {
		if c, err := Start(t.Context(), tt.o); err == nil {
			t.Errorf("%+v: no error, %v", tt.o, c.Stop())
		} else if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
