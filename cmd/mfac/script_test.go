package main

import (
	"archive/zip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"mfac/client"
	"mfac/cmd/internal/scripttest"
	"mfac/coordinator"
	"mfac/internal/cluster"
	"mfac/internal/natsx"
	"mfac/internal/npy"
)

func TestMain(m *testing.M) { scripttest.Main(m, "mfac", main) }

// The tool as typed. Each script has a cluster of 3 workers to itself, which NATS_URL names.
func TestScripts(t *testing.T) {
	p := scripttest.Params()
	p.Setup = func(env *testscript.Env) error {
		c, err := cluster.Start(context.Background(), cluster.Options{Workers: 3, Capacity: 64 << 20})
		if err != nil {
			return err
		}
		env.Defer(func() {
			if err := c.Stop(); err != nil {
				t.Error(err)
			}
		})
		env.Setenv("NATS_URL", c.URL())
		return nil
	}
	p.Cmds["npy"], p.Cmds["npycmp"], p.Cmds["npz"] = npyCmd, npycmpCmd, npzCmd
	p.Cmds["npyint"] = npyintCmd
	p.Cmds["nats"], p.Cmds["await"] = natsCmd, awaitCmd
	testscript.Run(t, p)
}

func number(ts *testscript.TestScript, s string) float64 {
	x, err := strconv.ParseFloat(s, 64)
	ts.Check(err)
	return x
}

// npyCmd: npy FILE DTYPE SHAPE [NUMBER…] writes a file: npy g.npy <f4 2x3 1 2 3 4 5 6. Numbers that
// are not given are zero.
func npyCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: npy FILE DTYPE SHAPE [NUMBER…]")
	}
	var shape []int64
	for s := range strings.SplitSeq(args[2], "x") {
		shape = append(shape, int64(number(ts, s)))
	}
	w, err := npy.Create(ts.MkAbs(args[0]), npy.DType(args[1]), shape...)
	ts.Check(err)
	cols := int(shape[len(shape)-1])
	for i, numbers := 0, args[3:]; len(numbers) > 0; i++ {
		n := min(cols, len(numbers))
		row := make([]float64, n)
		for j := range row {
			row[j] = number(ts, numbers[j])
		}
		ts.Check(npy.Out[float64](w, int64(i)).WriteColumns(row, 0))
		numbers = numbers[n:]
	}
	ts.Check(errors.Join(w.Commit(), w.Close()))
}

// npyintCmd: npyint FILE NUMBER… makes a 1-D file of int64, as NumPy does.
func npyintCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: npyint FILE NUMBER…")
	}
	text := fmt.Sprintf("{'descr': '<i8', 'fortran_order': False, 'shape': (%d,), }", len(args)-1)
	p := fmt.Appendf([]byte("\x93NUMPY\x01\x00\x76\x00"), "%-117s\n", text)
	for _, s := range args[1:] {
		p = binary.LittleEndian.AppendUint64(p, uint64(int64(number(ts, s))))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), p, 0o666))
}

// npycmpCmd: npycmp FILE DTYPE SHAPE TOLERANCE (NUMBER… | WANT.npy) compares what a file holds.
// The tolerance is relative to the largest number that is wanted.
func npycmpCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 5 {
		ts.Fatalf("usage: npycmp FILE DTYPE SHAPE TOLERANCE (NUMBER… | WANT.npy)")
	}
	f, got := readAll(ts, args[0])
	shape := fmt.Sprint(f.Cols())
	if f.Dims() == 2 {
		shape = fmt.Sprintf("%dx%d", f.Rows(), f.Cols())
	}
	if string(f.DType()) != args[1] && f.DType().String() != args[1] || shape != args[2] {
		ts.Fatalf("%s is %v of %s, want %s of %s", args[0], f.DType(), shape, args[1], args[2])
	}
	var want []float64
	if strings.HasSuffix(args[4], ".npy") {
		_, want = readAll(ts, args[4])
	} else {
		for _, s := range args[4:] {
			want = append(want, number(ts, s))
		}
	}
	if len(got) != len(want) {
		ts.Fatalf("%s has %d numbers, want %d", args[0], len(got), len(want))
	}
	top := 0.0
	for _, x := range want {
		top = max(top, math.Abs(x))
	}
	for i := range want {
		if d := math.Abs(got[i] - want[i]); !(d <= number(ts, args[3])*top) {
			ts.Fatalf("%s: number %d is %v, want %v within %s × %v", args[0], i, got[i], want[i], args[3], top)
		}
	}
}

func readAll(ts *testscript.TestScript, name string) (*npy.File, []float64) {
	f, err := npy.Open(ts.MkAbs(name))
	ts.Check(err)
	defer f.Close()
	rows, err := npy.ReadRows[float64](f, 0, f.Rows())
	ts.Check(err)
	var all []float64
	for _, r := range rows {
		all = append(all, r...)
	}
	return f, all
}

// npzCmd: npz NAME… unpacks vectors of testdata/ into the work directory.
func npzCmd(ts *testscript.TestScript, neg bool, args []string) {
	z, err := zip.OpenReader(vectors)
	ts.Check(err)
	defer z.Close()
	for _, name := range args {
		r, err := z.Open(name)
		ts.Check(err)
		p, err := io.ReadAll(r)
		ts.Check(errors.Join(err, r.Close()))
		ts.Check(os.WriteFile(ts.MkAbs(name), p, 0o666))
	}
}

var vectors, _ = filepath.Abs("../../testdata/mnist_mlp16_m32.npz")

// natsCmd: nats NAME [coordinator] starts a NATS server, maybe with a coordinator but no worker, and
// sets a variable to its URL.
func natsCmd(ts *testscript.TestScript, neg bool, args []string) {
	s, err := natsx.Embedded(natsx.EmbeddedOptions{})
	ts.Check(err)
	ts.Defer(s.Shutdown)
	ts.Setenv(args[0], s.URL())
	if len(args) == 1 {
		return
	}
	nc, err := natsx.Connect(context.Background(), natsx.Options{URL: s.URL(), Name: "c"})
	ts.Check(err)
	ts.Defer(nc.Close)
	svc, err := coordinator.Serve(context.Background(), nc, coordinator.ServiceConfig{Name: "c", Tenant: "default"})
	ts.Check(err)
	ts.Defer(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		ts.Check(svc.Stop(ctx))
	})
}

// awaitCmd: await RUN STEP waits until a step is in a run's window, or was.
func awaitCmd(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Connect(ctx, ts.Getenv("NATS_URL"))
	ts.Check(err)
	defer c.Close()
	r, err := c.Join(ctx, args[0])
	ts.Check(err)
	for {
		info, err := r.Status(ctx)
		ts.Check(err)
		if float64(info.Newest) >= number(ts, args[1]) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Commands that are not understood end with code 2 and say how they are used, others that fail
// with code 1; neither prints anything on stdout.
func TestExitCodes(t *testing.T) {
	t.Chdir(t.TempDir())
	nowhere := "nats://127.0.0.1:1"
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"frobnicate", 2, `unknown command "frobnicate"`},
		{"run frobnicate", 2, `unknown command "frobnicate"`},
		{"--frobnicate", 2, "unknown flag: --frobnicate"},
		{"status extra", 2, `unexpected argument "extra"`},
		{"run ls extra", 2, `unexpected argument "extra"`},
		{"run show", 2, "NAME is missing"},
		{"run show a b", 2, `unexpected argument "b"`},
		{"run create", 2, "NAME is missing"},
		{"run create a --dim 3", 2, "--window, --damping must be given"},
		{"run create a --dim three", 2, "dim is three, must be a whole number, at most 9223372036854775807"},
		{"run create a --dim 3 --window 2 --damping 1 --workers 2", 2, "--workers goes with --dry-run"},
		{"publish a", 2, "grads.npy is missing"},
		{"publish a --step -1 g.npy", 2, "step is -1, must be a whole number in [0, 18446744073709551615]"},
		{"ihvp a -o out.npy", 2, "one of v.npy, --step and --combine must be given, not 0"},
		{"ihvp a v.npy --step 1 -o out.npy", 2, "one of v.npy, --step and --combine must be given, not 2"},
		{"ihvp a v.npy", 2, "--out must be given"},
		{"status --timeout soon", 2, "timeout is soon, must be a time such as 20s or 2m"},
		{"run create a --dim 9223372036854775808 --window 2 --damping 1", 2, "dim is 9223372036854775808, must be a whole number, at most 9223372036854775807"},
		{"run create a --dim 3 --window 2 --damping much", 2, "damping is much, must be a number"},
		{"status --json=maybe", 2, "json is maybe, must be true or false"},
		{"status --server http://x", 1, "NATS url is http://x, must be nats://host:port, or with tls://, ws:// or wss://: http:// is none of them"},
		{"status --timeout 1s --server " + nowhere, 1, "no connection within 1s"},
		{"status --timeout 0s", 1, "timeout is 0s, must be > 0"},
		{"status --timeout 100ms --server " + nowhere, 1, "connect to NATS at nats://127.0.0.1:1"},
		{"status --name A", 1, `name is "A", must be ^[a-z0-9]`},
		{"status --tenant a.b", 1, `tenant is "a.b", must be ^[a-z0-9]`},
		{"status --creds no.creds", 1, "no.creds"},
		{"status --tls-cert a.pem", 1, "a TLS certificate and its key go together"},
		{"run create A --dim 3 --window 2 --damping 1", 1, `name is "A", must be ^[a-z0-9][a-z0-9_-]{0,62}$`},
		{"publish a no.npy", 1, "open no.npy: no such file or directory"},
		{"up --workers 0", 1, "workers is 0, must be >= 1"},
		{"up --workers 99", 1, "workers is 99, must be in [1, 64]"},
		{"up --memory lots", 1, "memory is lots, must be a size in bytes"},
		{"up --port 70000", 1, "port is 70000, must be in [1, 65535]"},
		{"demo --plot a.jpg", 1, "plot is a.jpg, must end in .png"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := run(strings.Fields(tt.args), &stdout, &stderr)
			if code != tt.code || stdout.Len() > 0 || !strings.HasPrefix(stderr.String(), "mfac: ") || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("code %d, want %d\nstdout %q\nstderr %q\nwant mfac: …%s", code, tt.code, stdout.String(), stderr.String(), tt.want)
			}
			if usage := strings.Contains(stderr.String(), "\nUsage: mfac"); usage != (tt.code == 2) {
				t.Errorf("usage shown: %v", usage)
			}
		})
	}
}

// lines is a writer that hands on what it is given.
type lines chan<- string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// up says that the cluster is there and what to type next, and ends with its context.
func TestUp(t *testing.T) {
	for _, json := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		stdout := make(chan string, 100)
		var stderr strings.Builder
		tool := &tool{stdout: lines(stdout), stderr: &stderr, json: json, tenant: "default"}
		ended := make(chan error, 1)
		go func() { ended <- tool.up(ctx, cluster.Options{Workers: 2, Capacity: 8 << 20}) }()
		var out string
		for !strings.HasSuffix(out, " status\n") && !strings.HasSuffix(out, "}\n") {
			select {
			case s := <-stdout:
				out += s
			case err := <-ended:
				t.Fatalf("%v, after %q", err, out)
			}
		}
		cancel()
		if err := <-ended; err != nil || stderr.Len() > 0 {
			t.Errorf("%v %s", err, stderr.String())
		}
		port := regexp.MustCompile(`127\.0\.0\.1:\d+`)
		got := port.ReplaceAllString(out, "127.0.0.1:4000")
		got = strings.ReplaceAll(got, "go run ./cmd/mfac", "mfac") // as tests are called
		want := `mfac is up at nats://127.0.0.1:4000: a coordinator and 2 workers with 8.0 MiB each. Ctrl-C ends it, and what it holds.

Next, in another terminal:

  mfac --server nats://127.0.0.1:4000 run create digits --dim 1000 --window 32 --damping 1e-3
  mfac --server nats://127.0.0.1:4000 publish digits grads.npy         # a gradient a row: float32 or float64, 1000 columns
  mfac --server nats://127.0.0.1:4000 ihvp digits v.npy -o out.npy     # out = H⁻¹v
  mfac --server nats://127.0.0.1:4000 status
`
		if json {
			want = `{
  "server": "nats://127.0.0.1:4000",
  "workers": [
    "w1",
    "w2"
  ],
  "worker_capacity": 8388608
}
`
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}
