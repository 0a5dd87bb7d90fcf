package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

func TestKindOf(t *testing.T) {
	for _, c := range []struct{ stack, kind string }{
		{"runtime.memmove github.com/nats-io/nats%2ego.(*Conn).parse", "copies and cleared memory"},
		{"runtime.memclrNoHeapPointers runtime.mallocgc github.com/nats-io/nats%2ego.(*Conn).parse", "copies and cleared memory"},
		{"runtime.nextFreeFast runtime.mallocgc mfac/worker.(*Core).Step", "allocation"},
		{"internal/runtime/syscall/linux.Syscall6 syscall.write internal/poll.(*FD).Write github.com/nats-io/nats%2ego.(*Conn).publish", "sockets"},
		{"internal/runtime/syscall/linux.Syscall6 internal/runtime/syscall/linux.EpollWait runtime.netpoll runtime.findRunnable", "scheduler"},
		{"mfac/shard/kernel.dotsF32AVX512 mfac/shard/kernel.(*Variant).Dots mfac/shard.(*pass).Unit mfac/shard/pool.(*Pool).carry", "kernel: products"},
		{"mfac/shard/kernel.(*Variant).Dots mfac/shard.(*pass).Unit", "Go around the kernels"},
		{"mfac/shard/pool.(*Pool).next mfac/shard/pool.(*Pool).work", "pool"},
		{"mfac/wire.Decode mfac/client.(*Client).try", "client, worker, coordinator"},
		{"runtime.memclrNoHeapPointers runtime.gcStart runtime.GC main.profileSide", ""},
		{"time.Now main.profileSide", "other"},
	} {
		if got := kindOf(strings.Fields(c.stack)); got != c.kind {
			t.Errorf("%s: %q, not %q", c.stack, got, c.kind)
		}
	}
}

// A side is repeated, and what it does is found in a file that pprof reads.
func TestProfile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	e := newEnv(context.Background(), options{only: "dots/f16/m=16/threads=1", profile: dir}, io.Discard)
	t.Cleanup(e.close)
	var out strings.Builder
	if err := profileAll(e, nil, &out); err == nil || !strings.Contains(err.Error(), e.only) {
		t.Errorf("no figure: %v", err)
	}
	runs := 0
	fig := figure{lines: one(line{name: e.only}), setup: func(e *env) (sampler, error) {
		return sampler{sides: []side{{"ours", func() error {
			for began := time.Now(); time.Since(began) < 30*time.Millisecond; {
				sink.Add(readGo(e.bytes(1 << 20)))
			}
			runs++
			return nil
		}}}}, nil
	}}
	e.profileTime = 500 * time.Millisecond
	if err := profileAll(e, []figure{fig}, &out); err != nil {
		t.Fatal(err)
	}
	if runs < 5 || !strings.Contains(out.String(), "plain loops") {
		t.Errorf("%d runs: %s", runs, &out)
	}
	f, err := os.Open(filepath.Join(dir, "dots_f16_m=16_threads=1_ours.pprof"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p, err := profile.Parse(f); err != nil || len(p.Sample) == 0 {
		t.Errorf("%v: %v", p, err)
	}
}
