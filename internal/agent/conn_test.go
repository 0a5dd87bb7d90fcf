//go:build unix

package agent

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// While another reply is being written, progress is left out, but for its end.
func TestProgressEnds(t *testing.T) {
	t.Parallel()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	q := &call{c: &conn{u: ours}, head: head{ID: 7}}
	q.c.write.Lock() // as a reply to another call does
	q.progress(1, 2)
	ended := make(chan struct{})
	go func() {
		q.progress(2, 2)
		close(ended)
	}()
	time.Sleep(20 * time.Millisecond)
	q.c.write.Unlock()
	<-ended
	if err := theirs.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	p, err := newFrames(theirs).next()
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		ID       uint64  `msgpack:"id"`
		Progress []int64 `msgpack:"progress"`
	}
	if err := msgpack.Unmarshal(p, &r); err != nil || r.ID != 7 || len(r.Progress) != 2 || r.Progress[0] != 2 {
		t.Fatalf("told of %+v, %v", r, err)
	}
}
