package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processes are a nats-server, a coordinator and workers, each a process of its own.
type processes struct {
	dir, port string
	running   []*process
}

type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	peak int64 // bytes resident at most, as last seen
}

// build makes the programs in a temporary folder.
func build(ctx context.Context) (*processes, error) {
	dir, err := os.MkdirTemp("", "mfac-bench-")
	if err != nil {
		return nil, err
	}
	p := &processes{dir: dir}
	for _, b := range [][2]string{
		{"nats-server", "github.com/nats-io/nats-server/v2"}, {"coordinator", "mfac/cmd/coordinator"}, {"worker", "mfac/cmd/worker"},
	} {
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, b[0]), b[1]).CombinedOutput(); err != nil {
			p.close()
			return nil, fmt.Errorf("build %s: %w: %s", b[1], err, lastLine(out))
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.close()
		return nil, err
	}
	_, p.port, err = net.SplitHostPort(l.Addr().String())
	return p, errors.Join(err, l.Close())
}

func (p *processes) url() string { return "nats://127.0.0.1:" + p.port }

func (p *processes) start(name, binary string, args ...string) error {
	q := &process{name: name, cmd: exec.Command(filepath.Join(p.dir, binary), args...), log: filepath.Join(p.dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(q.log)
	if err != nil {
		return err
	}
	defer log.Close()
	q.cmd.Stdout, q.cmd.Stderr = log, log
	q.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir} // no setting of who runs this
	if err := q.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = q.cmd.Wait()
		close(q.done)
	}()
	p.running = append(p.running, q)
	return nil
}

// peaks reads what each process has had resident at most, this one first.
func (p *processes) peaks() []residents {
	out := []residents{{"client (bench itself)", peakOf(os.Getpid())}}
	for _, q := range p.running {
		if n := peakOf(q.cmd.Process.Pid); n > 0 {
			q.peak = n
		}
		out = append(out, residents{q.name, q.peak})
	}
	return out
}

// dead names the processes that have ended, with the last of their log.
func (p *processes) dead() error {
	var errs []error
	for _, q := range p.running {
		select {
		case <-q.done:
			log, _ := os.ReadFile(q.log)
			errs = append(errs, fmt.Errorf("%s has ended: %s", q.name, lastLine(log)))
		default:
		}
	}
	return errors.Join(errs...)
}

// close ends all processes, the server last, and removes the folder.
func (p *processes) close() {
	for i := len(p.running) - 1; i >= 0; i-- {
		q := p.running[i]
		_ = q.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-q.done:
		case <-time.After(20 * time.Second):
			_ = q.cmd.Process.Kill()
			<-q.done
		}
	}
	_ = os.RemoveAll(p.dir)
}

// residents is the memory that a process had resident at most.
type residents struct {
	Name string `json:"name"`
	Peak int64  `json:"peak"`
}

// peakOf is VmHWM of a process as Linux tells it, 0 where it doesn't.
func peakOf(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// forgetPeak makes this process' peak what it has resident now.
func forgetPeak() {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200) // where that can't be, the peak includes what came before
}
